"""A small market on a chain reached by JSON-RPC: keys, set-up, and runs booked by the project's own ledger.

Belongs here: what the chain client's tests share. Does not belong here: expectations; programs' own tests use svm.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import polars as pl

from gridtokenx_pipelines.chain import addresses, lookup
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.lookup import Lookup
from gridtokenx_pipelines.chain.participants import (
    PROSUMER,
    SOLAR,
    ChainKeys,
    ChainMandate,
    ChainMeter,
    ChainUser,
    MarketFunding,
    SetupReport,
)
from gridtokenx_pipelines.chain.run_steps import RunKeys
from gridtokenx_pipelines.chain.setup import Setup
from gridtokenx_pipelines.chain.signer import KeypairSigner
from gridtokenx_pipelines.epochs import epoch_of_key
from gridtokenx_pipelines.market.orders import Order, Side, encode_order
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.settlement.batches import RunPlan, SignedOrder, plan_run
from gridtokenx_pipelines.settlement.frames import BALANCES, TRADED, Booking, MarketAccounts, no_traded
from gridtokenx_pipelines.settlement.ledger import book_initial, book_late

FIRST_EPOCH = epoch_of_key("2026-01-27T16:00Z")
RULES = Rules()
THB = 1_000_000
PRICE, WHEELING = 3_000_000, 500_000


def key(name: str) -> KeypairSigner:
    """A key of its own for every name."""
    return KeypairSigner.from_seed(sha256(f"tests/{name}".encode()).digest())


AUTHORITY = KeypairSigner.from_seed(addresses.deployer_seed())
ORACLES = tuple(key(f"oracle-{number}") for number in range(3))
KEYS = ChainKeys(
    payer=key("payer"),
    authority=AUTHORITY,
    guardian=key("guardian").pubkey,
    oracles=ORACLES,
    oracle_threshold=2,
    bridge=(key("bridge-0"), key("bridge-1")),
    bridge_threshold=2,
)
RUN_KEYS = RunKeys(payer=KEYS.payer, authority=AUTHORITY, oracles=ORACLES[:2])
FUNDING = MarketFunding(funder=AUTHORITY, supplier_uthb=10_000 * THB, grid_operator_uthb=100 * THB)


class SmallMarket:
    """`homes` households with a meter each; what the ledger believes is kept beside the chain."""

    def __init__(self, client: ChainClient, homes: int = 3, mandates: bool = True) -> None:
        self.client = client
        self.wallets = [key(f"home-{number}") for number in range(homes)]
        mandate = ChainMandate(sell_min_uthb_per_kwh=2_000_000, buy_max_uthb_per_kwh=8_000_000, max_wh=1_000_000)
        self.users = [
            ChainUser(
                wallet=wallet,
                zone_id=1,
                user_type=PROSUMER,
                deposit_uthb=1_000 * THB,
                deposit_reference=f"deposit/{number}",
                mandate=mandate if mandates else None,
            )
            for number, wallet in enumerate(self.wallets)
        ]
        self.meters = [
            ChainMeter(
                meter_id=f"MEA-{number:03}",
                owner=wallet,
                meter_type=SOLAR,
                zone_id=1,
                rating_w=60_000,
                device_key=bytes(key(f"device-{number}").pubkey),
                first_epoch=FIRST_EPOCH,
                baseline_production_wh=1_000,
                baseline_consumption_wh=2_000,
            )
            for number, wallet in enumerate(self.wallets)
        ]
        self.balances = pl.DataFrame(
            {
                "owner": [str(wallet.pubkey) for wallet in self.wallets],
                "grid_wh": 0,
                "thbc_uthb": 1_000 * THB,
                "debt_uthb": 0,
            },
            schema=BALANCES,
        ).sort("owner")
        self.accounts = MarketAccounts(supplier_thbc_uthb=10_000 * THB, grid_operator_thbc_uthb=100 * THB)
        self.seq = 0
        self.lookup: Lookup | None = None

    def bring_up(self) -> SetupReport:
        report = Setup(self.client, KEYS).bring_up(RULES, self.users, self.meters, FUNDING)
        meters = sorted(meter.meter_id for meter in self.meters)
        traders = sorted(str(user.wallet.pubkey) for user in self.users)
        wanted = [addresses.address_of_meter(m) for m in meters] + [addresses.address_of_trader(w) for w in traders]
        self.lookup = lookup.ensure(self.client, AUTHORITY, wanted, KEYS.payer)
        return report

    def initial(
        self,
        epoch: int,
        energies: Sequence[tuple[int, int]],
        trade: tuple[int, int, int] | None = None,
        orders: Sequence[SignedOrder] = (),
        missing: Sequence[int] = (),
    ) -> RunPlan:
        """Book run 0 and plan it: `energies` (production, consumption) a meter, `trade` (seller, buyer, Wh)."""
        rows = [
            {
                "meter_id": meter.meter_id,
                "wallet": str(meter.owner.pubkey),
                "zone_id": 1,
                "epoch": epoch,
                "revision": 0,
                "production_wh": 0 if number in missing else production,
                "consumption_wh": 0 if number in missing else consumption,
                "net_wh": 0 if number in missing else production - consumption,
                "missing": number in missing,
                "booked_epoch": epoch,
            }
            for number, (meter, (production, consumption)) in enumerate(zip(self.meters, energies, strict=True))
        ]
        traded, rent = self._traded(trade) if trade else (no_traded(), 0)
        booking = book_initial(
            seq=self.seq + 1,
            epoch=epoch,
            net_energy=pl.DataFrame(rows),
            traded=traded,
            buy_back=pl.DataFrame({"wallet": [str(w.pubkey) for w in self.wallets], "buy_back": True}),
            balances=self.balances,
            accounts=self.accounts,
            rules=RULES,
            zones=pl.DataFrame(
                {"zone_id": [1], "price_uthb_per_kwh": [PRICE], "zone_wheeling_uthb_per_kwh": [WHEELING]}
            ),
            rent_uthb=rent,
        )
        return self._planned(booking, orders)

    def late(self, rows: pl.DataFrame, epoch: int, run: int) -> RunPlan:
        """Book late entries after the epoch's former run and plan them."""
        booking = book_late(
            seq=self.seq + 1,
            epoch=epoch,
            run=run,
            net_energy=rows,
            balances=self.balances,
            accounts=self.accounts,
            rules=RULES,
        )
        return self._planned(booking)

    def _planned(self, booking: Booking, orders: Sequence[SignedOrder] = ()) -> RunPlan:
        self.seq, self.balances, self.accounts = booking.seq, booking.balances, booking.accounts
        return plan_run(
            booking,
            network_id=addresses.LOCALNET,
            meter_address={m.meter_id: bytes(addresses.address_of_meter(m.meter_id)) for m in self.meters},
            trader_address={str(w.pubkey): bytes(addresses.address_of_trader(w.pubkey)) for w in self.wallets},
            program_ids={name: bytes(addresses.program_id(name)) for name in ("registry", "trading")},
            orders=orders,
        )

    def _traded(self, trade: tuple[int, int, int]) -> tuple[pl.DataFrame, int]:
        seller, buyer, wh = trade
        cost, energy_cost = -(-wh * (PRICE + WHEELING) // 1_000), wh * PRICE // 1_000
        value = wh * PRICE // 1_000
        fee = value * RULES.fee_bp // 10_000
        zero = dict.fromkeys(TRADED, 0)
        rows = [
            zero
            | {
                "wallet": str(self.wallets[buyer].pubkey),
                "zone_id": 1,
                "traded_wh": wh,
                "cost_uthb": cost,
                "energy_cost_uthb": energy_cost,
                "zone_wheeling_uthb": cost - energy_cost,
            },
            zero
            | {
                "wallet": str(self.wallets[seller].pubkey),
                "zone_id": 1,
                "traded_wh": -wh,
                "value_uthb": value,
                "fee_uthb": fee,
                "proceeds_uthb": value - fee,
            },
        ]
        frame = pl.DataFrame(rows, schema=TRADED)
        return frame, cost - (value - fee) - fee - (cost - energy_cost)

    def order(self, home: int, side: Side, wh: int, limit: int, epoch: int) -> SignedOrder:
        """A hand-placed order of a household, signed by its wallet."""
        wallet = self.wallets[home]
        order = Order(
            network_id=addresses.LOCALNET,
            market=bytes(addresses.market()),
            order_id=sha256(f"{home}/{epoch}".encode()).digest()[:16],
            meter_hash=sha256(self.meters[home].meter_id.encode()).digest(),
            side=side,
            energy_wh=wh,
            limit_uthb_per_kwh=limit,
            epoch=epoch,
            nonce=0,
            placed_at_us=epoch * 900_000_000,
        )
        message = encode_order(order)
        return SignedOrder(wallet=str(wallet.pubkey), message=message, signature=bytes(wallet.sign(message)))
