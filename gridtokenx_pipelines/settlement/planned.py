"""What a resettlement's plan moves: its trading entries read back, as the chain is given them.

Belongs here: bytes of a plan → amounts by wallet. Does not belong here: making plans (batches.py), what the chain takes
back in fact, which is less where GRID has left since (ledger.py).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from gridtokenx_pipelines.settlement.batches import DEFICIT_IS_PRIOR, RunPlan

AMOUNTS: Final = ("refund_wh", "taken_back_wh", "returned_wh", "rebilled_wh")


def planned_shifts(raw: bytes | None) -> dict[str, dict[str, int]]:
    """What a resettlement's plan moves by wallet: refund, GRID to take back, returned and billed again (Wh)."""
    found: dict[str, dict[str, int]] = {}
    if raw is None:
        return found
    for batch in RunPlan.decode(raw).trading:
        entries = np.frombuffer(batch.entries, "<u4").reshape(-1, 5).astype(np.int64)
        for wallet, (_, refund, taken, returned, billed) in zip(batch.owners, entries.tolist(), strict=True):
            amounts = (refund & ~DEFICIT_IS_PRIOR, taken, returned, billed)
            found[wallet] = dict(zip(AMOUNTS, amounts, strict=True))
    return found
