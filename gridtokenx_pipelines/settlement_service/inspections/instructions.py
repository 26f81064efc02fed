"""Checks on an epoch's planned runs before anything is sent: energy closes, fills are whole, batches fit.

Belongs here: judgements on the bytes that will be sent, decoded again. Does not belong here: planning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import polars as pl

from gridtokenx_pipelines.market.roots import node_hash
from gridtokenx_pipelines.settlement.batches import METERS_A_BATCH, TRADERS_A_BATCH, Batch, OrderLeaf, RunPlan
from gridtokenx_pipelines.settlement.frames import CLEARING, LATE, RESETTLEMENT
from gridtokenx_pipelines.settlement_service.inspections.verdict import Verdict, verdict

ENERGY = "minted_minus_deficit_equals_net"
FILLS = "every_fill_in_exactly_one_batch"
FIT = "batches_fit_a_transaction"
PROVEN = "every_leaf_is_under_its_root"
CHECKS = (ENERGY, FILLS, FIT, PROVEN)

TRANSACTION_BYTES = 1_232
# signature, header, payer, program, blockhash, lookup tables, budget instruction: measured 340, with some room
ENVELOPE_BYTES = 400
LAYOUT = {
    ("registry", CLEARING): ("<u4", 2),
    ("registry", LATE): ("<u4", 4),
    ("registry", RESETTLEMENT): ("<i4", 1),
    ("trading", CLEARING): ("<i4", 2),
    ("trading", LATE): ("<u4", 3),
    ("trading", RESETTLEMENT): ("<u4", 5),
}


def inspect(
    epoch: int,
    plans: Sequence[RunPlan],
    *,
    net_energy: pl.DataFrame,
    traded: Mapping[str, int],
    orders: Collection[bytes],
) -> list[Verdict]:
    """All checks on one epoch's runs.

    `net_energy`: rows of the epoch and late rows booked with it; `traded` Wh by wallet, by the fills; `orders` the ids
    of the filled ones that a wallet signed.
    """
    return [
        _energy(epoch, plans, net_energy),
        _fills(epoch, plans, traded, orders),
        _fit(epoch, plans),
        _proven(epoch, plans),
    ]


def entries_of(plan: RunPlan, batch: Batch) -> np.ndarray:
    """A batch's entries as Int64 rows. Raises ValueError for bytes that are not a whole number of entries."""
    kind, width = LAYOUT[batch.program, plan.kind]
    return np.frombuffer(batch.entries, kind).reshape(-1, width).astype(np.int64)


def _sum(plan: RunPlan, batches: Sequence[Batch]) -> list[int]:
    parts = [entries_of(plan, batch).sum(axis=0) for batch in batches]
    return [int(value) for value in np.sum(parts, axis=0)] if parts else [0] * 5


def _energy(epoch: int, plans: Sequence[RunPlan], net_energy: pl.DataFrame) -> Verdict:
    on_time = late = 0
    columns = (net_energy[name].to_list() for name in ("missing", "revision", "epoch", "booked_epoch", "net_wh"))
    for missing, revision, of, booked, net in zip(*columns, strict=True):
        if not missing:
            on_time += net if revision == 0 and of == epoch else 0
            late += net if revision > 0 and booked == epoch else 0
    rows: list[tuple[str, int, int]] = []
    for plan in plans:
        metered, traded = _sum(plan, plan.registry), _sum(plan, plan.trading)
        if plan.kind == CLEARING:
            rows += [
                ("run 0: Σ meters' net = Σ rows", metered[0] - metered[1], on_time),
                ("run 0: Σ wallets' net = Σ rows", traded[0], on_time),
            ]
        elif plan.kind == LATE:
            rows += [
                (f"run {plan.run}: Σ meters' net = Σ late rows", metered[1] - metered[2], late),
                (f"run {plan.run}: Σ minted − Σ deficit = Σ late rows", traded[0] - traded[1] - traded[2], late),
                (f"run {plan.run}: meters' surplus = wallets' minted", metered[3], traded[0]),
            ]
        elif plan.kind == RESETTLEMENT:
            gained = sum(int(np.clip(entries_of(plan, batch), 0, None).sum()) for batch in plan.registry)
            rows.append((f"run {plan.run}: x > 0 is minted and burned", gained, traded[0]))
    open_sums = [row for row in rows if row[1] != row[2]]
    failing = pl.DataFrame(open_sums, schema={"what": pl.String, "left": pl.Int64, "right": pl.Int64}, orient="row")
    return verdict(
        ENERGY, epoch, failing, f"{len(plans)} runs, net {on_time} Wh on time, {late} Wh late", "an open sum"
    )


def _fills(epoch: int, plans: Sequence[RunPlan], expected: Mapping[str, int], orders: Collection[bytes]) -> Verdict:
    planned: list[tuple[str, int]] = []
    recorded: Counter[bytes] = Counter()
    for plan in plans:
        if plan.kind == CLEARING:
            for batch in plan.trading:
                planned += zip(batch.owners, entries_of(plan, batch)[:, 1].tolist(), strict=True)
            recorded.update(order.message[60:76] for order in plan.orders)  # tag 20, network 8, market 32, then the id
    counts = Counter(wallet for wallet, _ in planned)
    sums = dict(planned)
    rows = [(wallet, "entries of the wallet", count, 1) for wallet, count in counts.items() if count != 1]
    rows += [
        (wallet, "traded Wh, planned and filled", sums.get(wallet, 0), expected.get(wallet, 0))
        for wallet in sorted(expected.keys() | sums.keys())
        if sums.get(wallet, 0) != expected.get(wallet, 0)
    ]
    filled = set(orders)
    rows += [
        (order_id.hex(), "leaves of a filled, signed order", recorded[order_id], int(order_id in filled))
        for order_id in sorted(filled | set(recorded))
        if recorded[order_id] != (order_id in filled)
    ]
    schema = {"of": pl.String, "what": pl.String, "planned": pl.Int64, "expected": pl.Int64}
    failing = pl.DataFrame(rows, schema=schema, orient="row")
    held = f"{len(planned)} wallets once each, {len(filled)} signed orders once each"
    return verdict(FILLS, epoch, failing, held, "a fill that is not in exactly one batch")


def _fit(epoch: int, plans: Sequence[RunPlan]) -> Verdict:
    rows = []
    largest = 0
    for plan in plans:
        for batch in (*plan.registry, *plan.trading):
            size = ENVELOPE_BYTES + 12 + 32 * len(batch.proof) + len(batch.entries) + 2 * batch.n
            bound = METERS_A_BATCH if batch.program == "registry" else TRADERS_A_BATCH
            largest = max(largest, size)
            if size > TRANSACTION_BYTES or not 0 < batch.n <= bound or len(entries_of(plan, batch)) != batch.n:
                rows.append((plan.run, batch.instruction, batch.index, batch.n, bound, size))
    schema = {
        "run": pl.Int64,
        "instruction": pl.String,
        "index": pl.Int64,
        "n": pl.Int64,
        "bound": pl.Int64,
        "bytes": pl.Int64,
    }
    failing = pl.DataFrame(rows, schema=schema, orient="row")
    return verdict(FIT, epoch, failing, f"at most {largest} of {TRANSACTION_BYTES} bytes", "a batch too large to send")


def _proven(epoch: int, plans: Sequence[RunPlan]) -> Verdict:
    rows = []
    leaves = 0
    for plan in plans:
        under = [(batch, plan.root) for batch in (*plan.trading, *plan.orders)]
        under += [(batch, plan.metering_root or plan.root) for batch in plan.registry]
        leaves += len(under)
        rows += [(plan.run, leaf.index, root.hex()) for leaf, root in under if not _is_under(leaf, root)]
    failing = pl.DataFrame(rows, schema={"run": pl.Int64, "index": pl.Int64, "root": pl.String}, orient="row")
    return verdict(PROVEN, epoch, failing, f"{leaves} leaves proven", "a leaf whose proof doesn't lead to its root")


def _is_under(leaf: Batch | OrderLeaf, root: bytes) -> bool:
    node, index = leaf.leaf, leaf.index
    for depth, sibling in enumerate(leaf.proof):
        node = node_hash(sibling, node) if index >> depth & 1 else node_hash(node, sibling)
    return node == root
