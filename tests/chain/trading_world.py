"""A neighbourhood on a LiteSVM: all five programs, households, and whole settlement runs built by abi.md.

Belongs here: what the trading tests share. Does not belong here: what a test expects, and the project's own planning of
runs (settlement/batches.py): trees, headers and entries are written out again, so that both are checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from struct import pack
from typing import Any

from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.market.roots import MerkleTree
from tests.chain.svm import BRIDGE, CLEARING, DEPLOYER, EPOCH, METERING, NETWORK, Chain, Receipt, batch_args, leaf

THB = 1_000_000
HALTED, BUY_BACK, PAY_AS_BID = 1, 2, 4
BUY, SELL = 0, 1
REGISTRY_BATCH = {METERING: "settle_meters", 2: "settle_late_meters", 3: "correct_meters"}
TRADING_BATCH = {CLEARING: "settle_batch", 2: "settle_late_batch", 3: "resettle_batch"}


@dataclass
class Household:
    """A wallet with one meter."""

    wallet: Keypair
    meter_id: str

    @property
    def trader(self) -> Pubkey:
        return addresses.address_of_trader(self.wallet.pubkey())

    @property
    def meter(self) -> Pubkey:
        return addresses.address_of_meter(self.meter_id)

    @property
    def cash(self) -> Pubkey:
        return Pubkey.find_program_address([b"cash", bytes(self.wallet.pubkey())], addresses.SYSTEM_PROGRAM)[0]

    @property
    def energy(self) -> Pubkey:
        """The wallet's GRID account, outside the market."""
        return Pubkey.find_program_address([b"energy", bytes(self.wallet.pubkey())], addresses.SYSTEM_PROGRAM)[0]


@dataclass
class Zone:
    zone: int
    price: int
    wheeling: int = 0


@dataclass
class Run:
    """One settlement run: `meters` and `traders` are (household, entry bytes), `orders` (household, message)."""

    kind: int
    epoch: int
    run: int
    seq: int
    meters: Sequence[tuple[Household, bytes]] = ()
    traders: Sequence[tuple[Household, bytes]] = ()
    orders: Sequence[tuple[Household, bytes]] = ()
    zones: Sequence[Zone] = ()
    flags: int = 0
    lost: int = 0
    link_wheeling: int = 0
    rent: int = 0
    traders_per_batch: int = 50
    meters_per_batch: int = 45
    registry_batches: int | None = None
    header: bytes = field(init=False)

    def __post_init__(self) -> None:
        cut = lambda rows, n: [list(rows[i : i + n]) for i in range(0, len(rows), n)]  # noqa: E731
        self.registry = cut(self.meters, self.meters_per_batch)
        self.trading = cut(self.traders, self.traders_per_batch)
        counted = len(self.registry) if self.registry_batches is None else self.registry_batches
        self.header = pack(
            "<QHHHHQQqH",
            self.seq,
            counted,
            len(self.trading),
            len(self.orders),
            self.flags,
            self.lost,
            self.link_wheeling,
            self.rent,
            len(self.zones),
        ) + b"".join(pack("<HII", zone.zone, zone.price, zone.wheeling) for zone in self.zones)
        self.clearing = self.kind == CLEARING
        self.first_registry = 0 if self.clearing else 1
        self.first_trading = 1 if self.clearing else 1 + len(self.registry)
        kind = METERING if self.clearing else self.kind
        registry = [
            leaf("registry", kind, self.epoch, self.run, self.first_registry + i, *_bound(batch, "meter"))
            for i, batch in enumerate(self.registry)
        ]
        at = lambda i, *rest: leaf("trading", self.kind, self.epoch, self.run, i, *rest)  # noqa: E731
        trading = [at(self.first_trading + i, *_bound(batch, "trader")) for i, batch in enumerate(self.trading)]
        self.first_order = self.first_trading + len(trading)
        orders = [
            at(self.first_order + i, sha256(message).digest(), [owner.trader])
            for i, (owner, message) in enumerate(self.orders)
        ]
        self.metering_tree = MerkleTree(registry) if self.clearing else None
        self.tree = MerkleTree([at(0, self.header), *([] if self.clearing else registry), *trading, *orders])


def _bound(batch: Sequence[tuple[Household, bytes]], account: str) -> tuple[bytes, list[Pubkey]]:
    return b"".join(entry for _, entry in batch), [getattr(owner, account) for owner, _ in batch]


class World(Chain):
    """A chain with everything initialised, in simulated time."""

    def __init__(self, time_mode: int = 1) -> None:
        super().__init__()
        self.initialize_governance()
        self.initialize_tokens()
        self.call("registry", "initialize", {"deployer": DEPLOYER.pubkey()}, signers=[DEPLOYER])
        self.initialize_market(time_mode)
        self.issued = 0

    def initialize_market(self, time_mode: int, deployer: Keypair = DEPLOYER) -> Receipt:
        named = {"deployer": deployer.pubkey()}
        return self.call("trading", "initialize_market", named, signers=[deployer], time_mode=time_mode)

    # ---- households

    def household(self, name: str, zone: int = 1, thbc: int = 0, first_epoch: int = EPOCH, **mandate: Any) -> Household:
        """A wallet with an approved meter of 60 kW, THBC deposited, and a mandate if its terms are given."""
        home = self.register(name, zone, first_epoch)
        self.open_trader(home)
        if thbc:
            self.deposit(home, thbc)
        if mandate:
            self.mandate(home, **mandate)
        return home

    def register(self, name: str, zone: int, first_epoch: int) -> Household:
        wallet = Keypair.from_seed(sha256(f"gridtokenx/test/home/{name}".encode()).digest())
        home = Household(wallet, f"MEA-{name}")
        user, authority = addresses.address_of_user(wallet.pubkey()), {"authority": DEPLOYER.pubkey()}
        owner = {"wallet": wallet.pubkey(), "user": user}
        self.call("registry", "register_user", owner, signers=[wallet], user_type=1, zone=zone)
        self.call("registry", "approve_user", {**authority, "user": user}, signers=[DEPLOYER])
        self.call(
            "registry",
            "register_meter",
            {"owner": wallet.pubkey(), "user": user, "meter": home.meter},
            signers=[wallet],
            meter_type=2,
            zone=zone,
            rating_w=60_000,
            device_key=wallet.pubkey(),
            meter_id=home.meter_id,
        )
        self.call(
            "registry",
            "approve_meter",
            {**authority, "meter": home.meter},
            signers=[DEPLOYER],
            first_epoch=first_epoch,
            baseline_production_wh=0,
            baseline_consumption_wh=0,
        )
        return home

    def open_trader(self, home: Household) -> Receipt:
        wallet = home.wallet.pubkey()
        named = {"trader": home.trader, "user": addresses.address_of_user(wallet)}
        return self.call("trading", "open_trader", named)

    def give(self, home: Household, amount: int) -> None:
        """THBC through the bridge into the wallet's token account."""
        if self.svm.get_account(home.cash) is None:
            self.plant_token_account(home.cash, addresses.thbc_mint(), home.wallet.pubkey())
        self.issued += 1
        reference = f"deposit {self.issued}".encode()
        self.call(
            "energy-token",
            "issue_thbc",
            {"destination": home.cash, "deposit": addresses.deposit(reference)},
            [AccountMeta(attestor.pubkey(), True, False) for attestor in BRIDGE[:2]],
            BRIDGE[:2],
            ref_hash=sha256(reference).digest(),
            amount=amount,
        )

    def deposit(self, home: Household, amount: int) -> Receipt:
        self.give(home, amount)
        named = {"wallet": home.wallet.pubkey(), "trader": home.trader, "source": home.cash}
        return self.call("trading", "deposit", named, signers=[home.wallet], amount=amount)

    def request(self, home: Household, thbc: int = 0, grid: int = 0, wallet: Keypair | None = None) -> Receipt:
        signer = wallet or home.wallet
        named = {"wallet": signer.pubkey(), "trader": home.trader}
        return self.call("trading", "request_withdrawal", named, signers=[signer], thbc=thbc, grid=grid)

    def withdraw(self, home: Household, wallet: Keypair | None = None, **changed: Pubkey) -> Receipt:
        """Pays the request into the wallet's token accounts, which are there; accounts may be changed."""
        for address, mint in ((home.cash, addresses.thbc_mint()), (home.energy, addresses.grid_mint())):
            if self.svm.get_account(address) is None:
                self.plant_token_account(address, mint, home.wallet.pubkey())
        signer = wallet or home.wallet
        named = {"wallet": signer.pubkey(), "trader": home.trader}
        named |= {"thbc_destination": home.cash, "grid_destination": home.energy}
        return self.call("trading", "withdraw", named | changed, signers=[signer])

    def deposit_grid(self, home: Household, amount: int, **changed: Pubkey) -> Receipt:
        named = {"wallet": home.wallet.pubkey(), "trader": home.trader, "source": home.energy}
        return self.call("trading", "deposit_grid", named | changed, signers=[home.wallet], amount=amount)

    def fund(self, home: Household, account: int, amount: int) -> Receipt:
        self.give(home, amount)
        named = {"funder": home.wallet.pubkey(), "source": home.cash}
        return self.call("trading", "fund_account", named, signers=[home.wallet], account=account, amount=amount)

    def mandate(
        self,
        home: Household,
        *,
        sell_min: int = 0,
        buy_max: int = 0,
        max_wh: int = 10_000,
        expiry_epoch: int = 2**32 - 1,
        buy_back: int = 0,
    ) -> Receipt:
        return self.call(
            "trading",
            "set_mandate",
            {"wallet": home.wallet.pubkey(), "trader": home.trader},
            signers=[home.wallet],
            sell_min=sell_min,
            buy_max=buy_max,
            max_wh=max_wh,
            expiry_epoch=expiry_epoch,
            buy_back=buy_back,
        )

    # ---- runs

    def open(self, epoch: int, authority: Keypair = DEPLOYER) -> Receipt:
        """Opens the epoch in trading and its metering in the registry."""
        named = {"authority": authority.pubkey(), "epoch": addresses.epoch(epoch)}
        receipt = self.call("trading", "open_epoch", named, signers=[authority], epoch=epoch)
        self.call("registry", "open_metered", {"metered": addresses.metered(epoch)}, epoch=epoch)
        return receipt

    def attest_run(self, run: Run) -> None:
        if run.metering_tree is not None:
            self.attest(METERING, run.epoch, run.run, run.metering_tree.root)
        self.attest(run.kind, run.epoch, run.run, run.tree.root)

    def run_accounts(self, run: Run) -> dict[str, Pubkey]:
        return {
            "epoch": addresses.epoch(run.epoch),
            "metered": addresses.metered(run.epoch),
            "attestation": addresses.attestation(run.kind, run.epoch, run.run),
        }

    def batch_accounts(self, run: Run) -> dict[str, Pubkey]:
        return {name: address for name, address in self.run_accounts(run).items() if name != "metered"}

    def begin(self, run: Run) -> Receipt:
        return self.call("registry", "begin_run", self.run_accounts(run), kind=run.kind, run=run.run)

    def meter(self, run: Run) -> None:
        """All registry batches of the run."""
        kind = METERING if run.clearing else run.kind
        tree = run.metering_tree or run.tree
        named = {
            "metered": addresses.metered(run.epoch),
            "attestation": addresses.attestation(kind, run.epoch, run.run),
        }
        if run.clearing:
            named["metered_before"] = addresses.metered(run.epoch - 1)
        for i, batch in enumerate(run.registry):
            entries, accounts = _bound(batch, "meter")
            args = batch_args(tree, run.first_registry + i, len(batch), entries)
            remaining = [AccountMeta(address, False, True) for address in accounts]
            self.call("registry", REGISTRY_BATCH[kind], named, remaining, **args)

    def commit(self, run: Run) -> Receipt:
        proof = run.tree.proof(0)
        rest = {"depth": len(proof), "rest": b"".join(proof) + run.header}
        if run.clearing:
            return self.call("trading", "commit_clearing", self.run_accounts(run), **rest)
        return self.call("trading", "commit_run", self.run_accounts(run), kind=run.kind, run=run.run, **rest)

    def record_instructions(self, run: Run, i: int) -> list[Instruction]:
        """The Ed25519 instruction and `record_order` of the run's i-th order."""
        owner, message = run.orders[i]
        proof = run.tree.proof(run.first_order + i)
        signature = bytes(owner.wallet.sign_message(message))
        recorded = self.build(
            "trading",
            "record_order",
            {key: value for key, value in self.run_accounts(run).items() if key != "metered"}
            | {"trader": owner.trader},
            index=run.first_order + i,
            depth=len(proof),
            rest=b"".join(proof),
        )
        return [ed25519(bytes(owner.wallet.pubkey()), signature, message), recorded]

    def settle(self, run: Run, i: int = 0, accounts: Sequence[Pubkey] | None = None, **changed: Any) -> Receipt:
        """The i-th trading batch; `accounts` and arguments may be changed to see them refused."""
        return self.send(self.settle_instruction(run, i, accounts, **changed))

    def settle_instruction(
        self, run: Run, i: int = 0, accounts: Sequence[Pubkey] | None = None, **changed: Any
    ) -> Instruction:
        entries, bound = _bound(run.trading[i], "trader")
        args = batch_args(run.tree, run.first_trading + i, len(run.trading[i]), entries) | changed
        named = self.batch_accounts(run)
        if run.kind == 3:
            named["prior_epoch"] = addresses.epoch(run.epoch - 1)
        remaining = [AccountMeta(address, False, True) for address in accounts or bound]
        name = "settle_pay_as_bid_batch" if run.flags & PAY_AS_BID else TRADING_BATCH[run.kind]
        return self.build("trading", name, named, remaining, **args)

    def finalize(self, run: Run) -> Receipt:
        named = {key: value for key, value in self.run_accounts(run).items() if key != "attestation"}
        return self.call("trading", "finalize_epoch", named)

    def prepare(self, run: Run) -> None:
        """Everything before the trading batches."""
        self.attest_run(run)
        if not run.clearing:
            self.begin(run)
        self.meter(run)
        self.commit(run)
        for i in range(len(run.orders)):
            self.send(*self.record_instructions(run, i))

    def play(self, run: Run) -> None:
        """The whole run."""
        self.prepare(run)
        for i in range(len(run.trading)):
            self.settle(run, i)
        self.finalize(run)

    # ---- what is left

    def balances(self, home: Household) -> tuple[int, int, int]:
        """GRID, THBC and debt."""
        found = self.read("trading", "Trader", home.trader)
        return found["grid_wh"], found["thbc_uthb"], found["debt_uthb"]

    def market(self) -> dict[str, Any]:
        return self.read("trading", "Market", addresses.market())

    def assert_laws(self, homes: Sequence[Household]) -> None:
        """All nine laws of domain §6 in total, from balances, totals, registry, mints and vaults."""
        m, held = self.market(), [self.balances(home) for home in homes]
        grid, thbc, debt = (sum(column) for column in zip(*held, strict=True))
        registry = self.read("registry", "Registry", addresses.registry())
        supply = int.from_bytes(self.svm.get_account(addresses.grid_mint()).data[36:44], "little")
        assert (m["traders_grid_wh"], m["traders_thbc_uthb"], m["traders_debt_uthb"]) == (grid, thbc, debt)
        outside = m["withdrawn_grid_wh"] - m["deposited_grid_wh"]
        assert m["minted_wh"] - m["burned_wh"] == grid + m["supplier_grid_wh"] + outside == supply
        assert self.token_amount(addresses.grid_vault()) == supply - outside
        assert (m["minted_wh"], m["deficit_wh"]) == (registry["minted_wh"], registry["deficit_wh"])
        assert m["net_wh"] == m["minted_wh"] - m["deficit_wh"]
        assert m["net_wh"] == registry["production_wh"] - registry["consumption_wh"]
        assert m["traded_wh"] == -m["lost_wh"]
        assert m["burned_wh"] == m["deficit_wh"] - m["residual_wh"] + m["lost_wh"]
        charges = m["proceeds_uthb"] + m["fee_uthb"] + m["zone_wheeling_uthb"] + m["link_wheeling_uthb"]
        assert m["cost_uthb"] == charges + m["rent_uthb"]
        assert m["billed_uthb"] + m["returned_uthb"] == m["paid_uthb"] + m["debt_repaid_uthb"] + debt
        own = m["supplier_thbc_uthb"] + m["platform_thbc_uthb"] + m["grid_operator_thbc_uthb"]
        paid_in = m["deposited_uthb"] + m["funded_uthb"] - m["withdrawn_uthb"]
        assert self.token_amount(addresses.thbc_vault()) == thbc + own == paid_in


def ed25519(public_key: bytes, signature: bytes, message: bytes) -> Instruction:
    """Ed25519 instruction over one signature held in itself."""
    head = pack("<BB7H", 1, 0, 48, 0xFFFF, 16, 0xFFFF, 112, len(message), 0xFFFF)
    return Instruction(addresses.ED25519_PROGRAM, head + public_key + signature + message, [])


def order(
    epoch: int,
    side: int,
    energy_wh: int,
    limit: int,
    *,
    nonce: int = 0,
    network: int = NETWORK,
    market: Pubkey | None = None,
) -> bytes:
    """The 169 bytes of an order."""
    head = b"gridtokenx/order/v1\0" + pack("<Q", network) + bytes(market or addresses.market())
    terms = pack("<BIIIQq", side, energy_wh, limit, epoch, nonce, epoch * 900_000_000)
    return head + sha256(pack("<IQ", epoch, nonce)).digest()[:16] + bytes(32) + terms + bytes(32)
