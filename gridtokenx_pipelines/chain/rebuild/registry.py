"""Meters, certificates and tokens from the histories of registry, governance and energy-token.

Belongs here: energies since the baseline, claims, who holds a certificate, tokens made and taken back.
Does not belong here: households' balances (trading.py).
"""

from __future__ import annotations

import struct
from typing import Any

from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain.rebuild.history import Call, Event, HistoryGap

PAIR, LATE, CORRECTION = struct.Struct("<II"), struct.Struct("<IIII"), struct.Struct("<i")
ENTRIES = {"settle_meters": PAIR, "settle_late_meters": LATE, "correct_meters": CORRECTION}
METER_FIELDS = ("production_wh", "consumption_wh", "minted_wh", "deficit_wh", "last_epoch", "claimed_erc_wh")
ISSUED, VALIDATED, RETIRED, REVOKED = range(4)


class RegistryLedger:
    """`meters` by account address, `certificates` by id, tokens minted in Wh and µTHB."""

    def __init__(self) -> None:
        self.meters: dict[Pubkey, dict[str, int]] = {}
        self.certificates: dict[bytes, dict[str, Any]] = {}
        self.grid_minted_wh = 0
        self.thbc_supply_uthb = 0
        self._batch: Call | None = None

    def tell(self, item: Call | Event) -> None:
        """Books one call or event. HistoryGap where something before it is missing."""
        try:
            if isinstance(item, Event):
                handler = getattr(self, f"_on_{item.name}", None)
                if handler is not None:
                    handler(item, **item.fields)
            elif item.name in ENTRIES:
                self._batch = item
        except KeyError as error:
            raise HistoryGap(f"{item.signature} {item.name}: {error} was never told of before") from error

    def _on_MeterRegistered(self, event: Event, **told: Any) -> None:
        self.meters.setdefault(event.source, dict.fromkeys(METER_FIELDS, 0))

    def _on_MeterApproved(self, event: Event, meter: Pubkey, first_epoch: int, **baselines: int) -> None:
        known = self.meters[meter]
        if known.get("first_epoch"):
            # admitted again: the gap counts as passed
            known["last_epoch"] = first_epoch - 1
        known.setdefault("first_epoch", first_epoch)

    def _on_BatchBooked(self, event: Event, epoch: int, minted_wh: int, **told: int) -> None:
        batch = self._batch
        if batch is None or batch.signature != event.signature:
            raise HistoryGap(f"{event.signature} books a batch that no call of it carries: it was called by a program")
        layout = ENTRIES[batch.name]
        entries = batch.args["rest"][32 * batch.args["depth"] :]
        for address, entry in zip(batch.remaining, layout.iter_unpack(entries), strict=True):
            _book(self.meters[address], batch.name, entry, epoch)
        self.grid_minted_wh += minted_wh
        self._batch = None

    def _on_ErcIssued(self, event: Event, certificate_id: bytes, holder: Pubkey, **told: Any) -> None:
        self.certificates[certificate_id] = {"holder": holder, "status": ISSUED}
        self.meters[told["meter"]]["claimed_erc_wh"] += told["energy_wh"]

    def _on_ErcValidated(self, event: Event, certificate_id: bytes) -> None:
        self.certificates[certificate_id]["status"] = VALIDATED

    def _on_ErcTransferred(self, event: Event, certificate_id: bytes, to: Pubkey, **told: Any) -> None:
        self.certificates[certificate_id]["holder"] = to

    def _on_ErcRetired(self, event: Event, certificate_id: bytes, **told: Any) -> None:
        self.certificates[certificate_id]["status"] = RETIRED

    def _on_ErcRevoked(self, event: Event, certificate_id: bytes, meter: Pubkey, energy_wh: int, **told: Any) -> None:
        self.certificates[certificate_id]["status"] = REVOKED
        self.meters[meter]["claimed_erc_wh"] -= energy_wh

    def _on_ThbcIssued(self, event: Event, amount: int, **told: Any) -> None:
        self.thbc_supply_uthb += amount

    def _on_RedemptionRequested(self, event: Event, amount: int, **told: Any) -> None:
        self.thbc_supply_uthb -= amount

    def _on_RedemptionReclaimed(self, event: Event, amount: int, **told: Any) -> None:
        self.thbc_supply_uthb += amount


def _book(meter: dict[str, int], name: str, entry: tuple[int, ...], epoch: int) -> None:
    if name == "correct_meters":
        meter["minted_wh"] += entry[0]
        meter["deficit_wh"] += entry[0]
        return
    last, production, consumption, surplus = (epoch, *entry, 0) if name == "settle_meters" else entry
    if name == "settle_meters":
        surplus = max(production - consumption, 0)
    meter["production_wh"] += production
    meter["consumption_wh"] += consumption
    meter["minted_wh"] += surplus
    meter["deficit_wh"] += surplus + consumption - production
    meter["last_epoch"] = last
