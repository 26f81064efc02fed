"""Which programs a landed transaction ran, from its instructions instead of its log.

Belongs here: top-level and inner instructions of a `getTransaction` answer. Does not belong here: events
(market_events), what a call did (rebuild). A log is cut at 10 kB, and anyone may write that much; instructions aren't.
"""

from __future__ import annotations

import base64
from typing import Any, Final

from solders.transaction import VersionedTransaction

LOG_CUT: Final = "Log truncated"


def programs_run(answer: dict[str, Any]) -> frozenset[str]:
    """Addresses of all programs called, by the transaction itself and by the programs it called.

    `answer`: a `getTransaction` result with base64 encoding. Where the node kept no inner instructions, every account
    of the transaction may have been called, and all are returned.
    """
    message = VersionedTransaction.from_bytes(base64.b64decode(answer["transaction"][0])).message
    meta = answer["meta"]
    loaded = meta.get("loadedAddresses") or {}
    keys = [str(key) for key in message.account_keys]
    keys += [*loaded.get("writable", ()), *loaded.get("readonly", ())]
    inner = meta.get("innerInstructions")
    if inner is None:
        return frozenset(keys)
    found = {keys[instruction.program_id_index] for instruction in message.instructions}
    found |= {keys[call["programIdIndex"]] for part in inner for call in part["instructions"]}
    return frozenset(found)
