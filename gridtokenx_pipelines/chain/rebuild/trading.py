"""Trading's balances from its history: every household's, and the market's own accounts, to the last unit.

Belongs here: what each call and event did to balances (domain §6, §7). Does not belong here: reading the history
(history.py), comparing (compare.py). Money of batches is computed again from net and traded Wh, so a batch that paid
otherwise than the domain says shows as a difference.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.rebuild.history import Call, Event, HistoryGap

DEFICIT_IS_PRIOR = 1 << 31
BUY_BACK_FLAG = 2
HEADER = struct.Struct("<QHHHHQQqH")
ZONE = struct.Struct("<HII")
ENTRY_BYTES = {"settle_batch": 8, "settle_late_batch": 12, "resettle_batch": 20}
PAY_AS_BID = "settle_pay_as_bid_batch"
UNEVEN, FILL, SELLS = struct.Struct("<iB"), struct.Struct("<IIQ"), 1 << 30
FUNDED = ("supplier_thbc_uthb", "platform_thbc_uthb", "grid_operator_thbc_uthb")


@dataclass
class Mandate:
    """What of a mandate decides buy-back."""

    effective_epoch: int
    end_epoch: int
    buy_back: bool


@dataclass
class Trader:
    """A household's balances."""

    owner: Pubkey
    zone: int
    grid_wh: int = 0
    thbc_uthb: int = 0
    debt_uthb: int = 0
    mandates: list[Mandate] = field(default_factory=list)

    def buys_back(self, epoch: int) -> bool:
        """Whether the mandate that acts in the epoch sells unsold surplus to the supplier."""
        begun = [mandate for mandate in self.mandates if mandate.effective_epoch <= epoch]
        last = max(begun, key=lambda mandate: mandate.effective_epoch, default=None)
        return last is not None and epoch < last.end_epoch and last.buy_back


@dataclass
class Epoch:
    """Rates of an epoch and the header of its present run."""

    number: int
    rates: dict[str, int]
    zones: dict[int, tuple[int, int]] = field(default_factory=dict)
    flags: int = 0
    charges: int = 0
    sums: dict[str, int] = field(default_factory=dict)


def _up(product: int) -> int:
    return -(-product // 1_000)


class TradingLedger:
    """Balances while the history is told; `traders` by account address, `market` by the account's field names."""

    def __init__(self) -> None:
        self.traders: dict[Pubkey, Trader] = {}
        self.epochs: dict[Pubkey, Epoch] = {}
        names = (*FUNDED, "supplier_grid_wh", "deposited_uthb", "funded_uthb", "withdrawn_uthb", "withdrawn_grid_wh")
        more = ("deposited_grid_wh", "finalized_seq", "settled_through", "closed_through", "last_opened", "traders")
        self.applied_seq = 0  # of the last committed run: its batches may be applied and not finalised yet
        self.market: dict[str, int] = dict.fromkeys((*names, *more, "tokens_burned_wh"), 0)

    def tell(self, item: Call | Event) -> None:
        """Books one call or event. HistoryGap where something before it is missing."""
        try:
            if isinstance(item, Event):
                handler = getattr(self, f"_on_{item.name}", None)
                if handler is not None:
                    handler(item, **item.fields)
            elif item.name in ENTRY_BYTES:
                self._batch(item)
            elif item.name == PAY_AS_BID:
                self._batch_of_orders(item)
            elif item.name in {"commit_clearing", "commit_run"}:
                self._commit(item)
        except KeyError as error:
            raise HistoryGap(f"{item.signature} {item.name}: {error} was never told of before") from error

    # --- events ------------------------------------------------------------------------------------------------

    def _on_TraderOpened(self, event: Event, trader: Pubkey, owner: Pubkey, zone: int) -> None:
        self.traders[trader] = Trader(owner, zone)
        self.market["traders"] += 1

    def _on_EpochOpened(self, event: Event, epoch: int, **rates: int) -> None:
        self.epochs[addresses.epoch(epoch)] = Epoch(epoch, rates)
        if self.market["last_opened"] == 0:
            self.market["settled_through"] = self.market["closed_through"] = epoch - 1
        self.market["last_opened"] = epoch

    def _on_EpochWasClosed(self, event: Event, epoch: int) -> None:
        self.market["closed_through"] = epoch

    def _on_Deposited(self, event: Event, trader: Pubkey, amount_uthb: int, repaid_uthb: int) -> None:
        home = self.traders[trader]
        home.thbc_uthb += amount_uthb - repaid_uthb
        home.debt_uthb -= repaid_uthb
        self.market["supplier_thbc_uthb"] += repaid_uthb
        self.market["deposited_uthb"] += amount_uthb

    def _on_GridDeposited(self, event: Event, trader: Pubkey, energy_wh: int) -> None:
        self.traders[trader].grid_wh += energy_wh
        self.market["deposited_grid_wh"] += energy_wh

    def _on_Withdrawn(self, event: Event, trader: Pubkey, amount_uthb: int, energy_wh: int) -> None:
        home = self.traders[trader]
        home.thbc_uthb -= amount_uthb
        home.grid_wh -= energy_wh
        self.market["withdrawn_uthb"] += amount_uthb
        self.market["withdrawn_grid_wh"] += energy_wh

    def _on_AccountFunded(self, event: Event, account: int, amount_uthb: int) -> None:
        self.market[FUNDED[account]] += amount_uthb
        self.market["funded_uthb"] += amount_uthb

    def _on_MandateSet(self, event: Event, effective_epoch: int, end_epoch: int, buy_back: int, **prices: int) -> None:
        home = self.traders[event.source]
        kept = [mandate for mandate in home.mandates if mandate.effective_epoch < effective_epoch]
        home.mandates = [*kept, Mandate(effective_epoch, end_epoch, bool(buy_back))]

    def _on_MandateRevoked(self, event: Event, end_epoch: int) -> None:
        home = self.traders[event.source]
        home.mandates = [mandate for mandate in home.mandates if mandate.effective_epoch < end_epoch]
        for mandate in home.mandates:
            mandate.end_epoch = min(mandate.end_epoch, end_epoch)

    def _on_EnergyTraded(self, event: Event, **told: Any) -> None:
        buyer, seller = self.traders[told["buyer"]], self.traders[told["seller"]]
        cost, fee, wheeling, repaid = (told[f"{name}_uthb"] for name in ("cost", "fee", "wheeling", "repaid"))
        buyer.thbc_uthb -= cost
        buyer.grid_wh += told["energy_wh"]
        seller.grid_wh -= told["energy_wh"]
        seller.thbc_uthb += cost - fee - wheeling - repaid
        seller.debt_uthb -= repaid
        self._earn(supplier_thbc_uthb=repaid, platform_thbc_uthb=fee, grid_operator_thbc_uthb=wheeling)

    def _on_RunVoided(self, event: Event, epoch: int, run: int, kind: int, run_seq: int) -> None:
        if run == 0:
            self.market["settled_through"] = epoch
        self.market["finalized_seq"] = max(self.market["finalized_seq"], run_seq)

    def _on_RunFinalised(self, event: Event, **told: int) -> None:
        epoch = self.epochs[addresses.epoch(told["epoch"])]
        for name, value in epoch.sums.items():
            if told[name] != value:
                raise HistoryGap(
                    f"{event.signature}: run {told['run']} of epoch {told['epoch']} says {name} {told[name]}, "
                    f"its batches add up to {value}: a batch is missing or was not computed as the domain says"
                )
        self.market["tokens_burned_wh"] += told["burned_tokens_wh"]
        self.market["finalized_seq"] = told["run_seq"]
        if told["run"] == 0:
            self.market["settled_through"] = told["epoch"]
        # only now do a run's sums enter the market's accounts
        self._earn(
            supplier_thbc_uthb=told["paid_uthb"]
            + told["debt_repaid_uthb"]
            - told["buy_back_uthb"]
            - told["refund_uthb"],
            supplier_grid_wh=told["bought_back_wh"] - told["returned_wh"],
            platform_thbc_uthb=told["fee_uthb"],
            grid_operator_thbc_uthb=told["zone_wheeling_uthb"] + epoch.charges,
        )

    def _earn(self, **amounts: int) -> None:
        for name, amount in amounts.items():
            self.market[name] += amount

    # --- calls -------------------------------------------------------------------------------------------------

    def _commit(self, call: Call) -> None:
        epoch = self.epochs[call.accounts["epoch"]]
        header = call.args["rest"][32 * call.args["depth"] :]
        fields = HEADER.unpack_from(header)
        epoch.flags, epoch.charges = fields[4], fields[6] + fields[7]
        self.applied_seq = max(self.applied_seq, fields[0])
        rows = ZONE.iter_unpack(header[HEADER.size :])
        epoch.zones = {zone: (price, wheeling) for zone, price, wheeling in rows}
        names = ("bought_wh", "sold_wh", "cost_uthb", "proceeds_uthb", "fee_uthb", "zone_wheeling_uthb", "residual_wh")
        more = ("billed_uthb", "paid_uthb", "debt_repaid_uthb", "bought_back_wh", "buy_back_uthb", "refund_wh")
        epoch.sums = dict.fromkeys((*names, *more, "refund_uthb", "returned_wh", "returned_uthb"), 0)

    def _batch(self, call: Call) -> None:
        epoch, size = self.epochs[call.accounts["epoch"]], ENTRY_BYTES[call.name]
        entries = call.args["rest"][32 * call.args["depth"] :]
        for at, address in enumerate(call.remaining):
            home, entry = self.traders[address], entries[at * size : (at + 1) * size]
            if call.name == "settle_batch":
                self._settle(home, epoch, *struct.unpack("<ii", entry))
            elif call.name == "settle_late_batch":
                self._settle_late(home, epoch, *struct.unpack("<III", entry))
            else:
                self._resettle(home, epoch, self.epochs[call.accounts["prior_epoch"]], struct.unpack("<5I", entry))

    def _batch_of_orders(self, call: Call) -> None:
        epoch, entries, at = self.epochs[call.accounts["epoch"]], call.args["rest"][32 * call.args["depth"] :], 0
        for address in call.remaining:
            net, count = UNEVEN.unpack_from(entries, at)
            at, end = at + UNEVEN.size, at + UNEVEN.size + count * FILL.size
            self._settle_orders(self.traders[address], epoch, net, list(FILL.iter_unpack(entries[at:end])))
            at = end

    def _settle_orders(self, home: Trader, epoch: Epoch, net: int, fills: list[tuple[int, int, int]]) -> None:
        sums, (_, wheeling) = epoch.sums, epoch.zones.get(home.zone, (0, 0))
        home.grid_wh += max(net, 0)
        sold = 0
        for slot, energy_wh, value in fills:
            if slot & SELLS:
                fee = value * epoch.rates["fee_bp"] // 10_000
                sold += energy_wh
                home.grid_wh -= energy_wh
                sums["proceeds_uthb"] += value - fee
                sums["fee_uthb"] += fee
                self._credit(home, value - fee, sums)
            else:
                charge = _up(energy_wh * wheeling)
                home.thbc_uthb -= value + charge
                home.grid_wh += energy_wh
                sums["bought_wh"] += energy_wh
                sums["cost_uthb"] += value + charge
                sums["zone_wheeling_uthb"] += charge
        sums["sold_wh"] += sold
        self._burn_or_sell_back(home, epoch, net, sold)

    def _settle(self, home: Trader, epoch: Epoch, net: int, traded: int) -> None:
        sums, (price, wheeling) = epoch.sums, epoch.zones.get(home.zone, (0, 0))
        home.grid_wh += max(net, 0)
        if traded > 0:
            cost = _up(traded * (price + wheeling))
            home.thbc_uthb -= cost
            home.grid_wh += traded
            sums["bought_wh"] += traded
            sums["cost_uthb"] += cost
            sums["zone_wheeling_uthb"] += cost - traded * price // 1_000
        elif traded < 0:
            value = -traded * price // 1_000
            fee = value * epoch.rates["fee_bp"] // 10_000
            home.grid_wh += traded
            sums["sold_wh"] -= traded
            sums["proceeds_uthb"] += value - fee
            sums["fee_uthb"] += fee
            self._credit(home, value - fee, sums)
        self._burn_or_sell_back(home, epoch, net, max(-traded, 0))

    def _burn_or_sell_back(self, home: Trader, epoch: Epoch, net: int, sold: int) -> None:
        sums = epoch.sums
        if net < 0:
            self._burn_or_bill(home, -net, epoch.rates["tariff"], sums)
        elif epoch.flags & BUY_BACK_FLAG and home.buys_back(epoch.number):
            unsold = max(0, net - sold)
            received = unsold * epoch.rates["feed_in"] // 1_000
            home.grid_wh -= unsold
            sums["bought_back_wh"] += unsold
            sums["buy_back_uthb"] += received
            self._credit(home, received, sums)

    def _settle_late(self, home: Trader, epoch: Epoch, surplus: int, on_peak: int, off_peak: int) -> None:
        home.grid_wh += surplus
        classes = [(epoch.rates["tariff_on_peak"], on_peak), (epoch.rates["tariff_off_peak"], off_peak)]
        if classes[0][0] < classes[1][0]:
            classes.reverse()
        for tariff, deficit in classes:
            self._burn_or_bill(home, deficit, tariff, epoch.sums)

    def _resettle(self, home: Trader, epoch: Epoch, prior: Epoch, entry: tuple[int, ...]) -> None:
        _, refund, wanted, returned, billed = entry
        deficit, surplus = (prior, epoch) if refund & DEFICIT_IS_PRIOR else (epoch, prior)
        refund &= ~DEFICIT_IS_PRIOR
        taken, sums = min(wanted, home.grid_wh), epoch.sums
        refunded = refund * deficit.rates["tariff"] // 1_000
        billed += wanted - taken
        self._credit(home, refunded, sums)
        home.grid_wh -= taken
        for_returned = _up(returned * surplus.rates["feed_in"])
        for_billed = _up(billed * surplus.rates["tariff"])
        self._charge(home, for_returned, sums)
        self._charge(home, for_billed, sums)
        told = (refund, refunded, returned, for_returned, billed, for_billed)
        names = ("refund_wh", "refund_uthb", "returned_wh", "returned_uthb", "residual_wh", "billed_uthb")
        for name, amount in zip(names, told, strict=True):
            sums[name] += amount

    @staticmethod
    def _credit(home: Trader, amount: int, sums: dict[str, int]) -> None:
        repaid = min(home.debt_uthb, amount)
        home.debt_uthb -= repaid
        home.thbc_uthb += amount - repaid
        sums["debt_repaid_uthb"] += repaid

    @staticmethod
    def _charge(home: Trader, amount: int, sums: dict[str, int]) -> None:
        paid = min(home.thbc_uthb, amount)
        home.thbc_uthb -= paid
        home.debt_uthb += amount - paid
        sums["paid_uthb"] += paid

    def _burn_or_bill(self, home: Trader, deficit: int, tariff: int, sums: dict[str, int]) -> None:
        burned = min(deficit, home.grid_wh)
        home.grid_wh -= burned
        billed = _up((deficit - burned) * tariff)
        sums["residual_wh"] += deficit - burned
        sums["billed_uthb"] += billed
        self._charge(home, billed, sums)
