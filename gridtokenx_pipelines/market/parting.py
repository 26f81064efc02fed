"""Partners changed so that nobody is paired with itself: in columns, in time linear in the pairs but for one sort.

Belongs here: the exchange, and what it can't part. Does not belong here: the first pairing (pairing.py).

Each wallet's Wh that met itself are laid end to end, wallet by wallet, along a line of length M. Shifted round the line
by the longest wallet's length m, every buy meets the sell of another wallet, as long as 2m ≤ M. If it isn't, pairs of
others, in the order given, lengthen the line to 2m: they and the longest wallet then change partners with each other.
Every order keeps its Wh. What is still missing of 2m has no others to meet, and stays.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gridtokenx_pipelines.market.kernel import Int64s

Triple = tuple[Int64s, Int64s, Int64s]


class Parted(NamedTuple):
    """Pairs (buy, sell, Wh), and by wallet number the Wh that are still paired with their own wallet."""

    pairs: Triple
    left: dict[int, int]


def part(pairs: Triple, wallet: Int64s) -> Parted:
    """Pairs of one area, in an order of their own, with `wallet` a number per place that they name."""
    buy, sell, wh = pairs
    owner = wallet[buy]
    met = np.flatnonzero(owner == wallet[sell])
    if not len(met):
        return Parted(pairs, {})
    met = met[np.argsort(owner[met], kind="stable")]
    starts = np.flatnonzero(np.concatenate([[True], owner[met][1:] != owner[met][:-1]]))
    sums = np.add.reduceat(wh[met], starts)
    longest, total = int(sums.max()), int(sums.sum())
    most = int(owner[met[starts[int(np.argmax(sums))]]])
    kept = wh.copy()
    kept[met] = 0
    left: dict[int, int] = {}
    line, on_line = met, wh[met]
    if 2 * longest > total:
        mine, others = met[owner[met] == most], met[owner[met] != most]
        apart = np.flatnonzero((owner != most) & (wallet[sell] != most) & (owner != wallet[sell]))
        before = np.cumsum(wh[apart]) - wh[apart]
        taken = np.clip(2 * longest - total - before, 0, wh[apart])
        apart, taken = apart[taken > 0], taken[taken > 0]
        kept[apart] -= taken
        reach = total - longest + int(taken.sum())  # Wh of others that the longest wallet can meet
        own = wh[mine]
        met_others = np.clip(reach - (np.cumsum(own) - own), 0, own)
        kept[mine] = own - met_others
        if reach < longest:
            left[most] = longest - reach
        line = np.concatenate([mine, others, apart])
        on_line = np.concatenate([met_others, wh[others], taken])
        longest = reach
    shifted, on_shifted = _from(line, on_line, longest)
    swapped = _along(buy[line], on_line, sell[shifted], on_shifted)
    rest = kept > 0
    every = [np.concatenate([one[rest], other]) for one, other in zip((buy, sell, kept), swapped, strict=True)]
    return Parted(_each_once(*every), left)


def _from(line: Int64s, wh: Int64s, start_wh: int) -> tuple[Int64s, Int64s]:
    """The line as it is from a point on, round to that point."""
    ends = np.cumsum(wh)
    at = int(np.searchsorted(ends, start_wh, side="right"))
    if at >= len(line):
        return line, wh
    cut = start_wh - int(ends[at] - wh[at])
    turned = np.concatenate([line[at:], line[: at + 1]])
    amounts = np.concatenate([wh[at:], wh[: at + 1]])
    amounts[0] -= cut
    amounts[-1] = cut
    return turned, amounts


def _along(buys: Int64s, buy_wh: Int64s, sells: Int64s, sell_wh: Int64s) -> Triple:
    """(buy, sell, Wh) along two lines of one length."""
    buy_ends, sell_ends = np.cumsum(buy_wh), np.cumsum(sell_wh)
    ends = np.sort(np.concatenate([buy_ends, sell_ends]))
    ends = ends[np.concatenate([ends[:1] > 0, ends[1:] != ends[:-1]])]
    starts = np.concatenate([np.zeros(1, np.int64), ends])[:-1]
    return (
        buys[np.searchsorted(buy_ends, starts, side="right")],
        sells[np.searchsorted(sell_ends, starts, side="right")],
        ends - starts,
    )


def _each_once(buy: Int64s, sell: Int64s, wh: Int64s) -> Triple:
    """Each two orders once."""
    order = np.lexsort((sell, buy))
    buy, sell, wh = buy[order], sell[order], wh[order]
    first = np.concatenate([np.ones(min(len(buy), 1), np.bool_), (buy[1:] != buy[:-1]) | (sell[1:] != sell[:-1])])
    starts = np.flatnonzero(first)
    return buy[starts], sell[starts], np.add.reduceat(wh, starts) if len(starts) else wh
