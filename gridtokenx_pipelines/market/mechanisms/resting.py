"""Orders of one side in priority order, of which one wallet's can be passed over at once.

Belongs here: the queues of self-trade prevention and of minimum quantities, for mechanisms that match order by order.
Does not belong here: the matching (continuous.py, pay_as_bid.py).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush

NUMBER_BITS = 32
NUMBER = (1 << NUMBER_BITS) - 1


class RestingSide:
    """Resting orders of one side. A wallet's orders queue behind its best one, so a wallet is passed over at once.

    A key is the rank of the limit (less is better) and the arrival number; `best` may hold outdated keys.
    """

    def __init__(self) -> None:
        self.best: list[tuple[int, int]] = []
        self.queues: dict[int, list[int]] = {}

    def add(self, key: int, wallet: int) -> None:
        """Let an order rest, or rest again."""
        queue = self.queues.setdefault(wallet, [])
        heappush(queue, key)
        if queue[0] == key:
            heappush(self.best, (key, wallet))

    def first(self) -> tuple[int, int] | None:
        """Key and wallet of the best order."""
        while self.best:
            key, wallet = self.best[0]
            queue = self.queues[wallet]
            if queue and queue[0] == key:
                return key, wallet
            heappop(self.best)
        return None

    def drop_first(self) -> None:
        """Take the best order out; its wallet's next one stands in its place."""
        _, wallet = heappop(self.best)
        queue = self.queues[wallet]
        heappop(queue)
        if queue:
            heappush(self.best, (queue[0], wallet))

    def pass_over(self) -> tuple[int, int]:
        """Set the best wallet aside with all its orders, until `put_back`."""
        return heappop(self.best)

    def put_back(self, passed: Iterable[tuple[int, int]]) -> None:
        """Let wallets stand in the queue again."""
        for entry in passed:
            heappush(self.best, entry)


class GuardedSide:
    """Resting orders of one side that trade at least their minimum or nothing: the best one that would trade is found
    in time that grows with the logarithm of their number, however many are passed over.

    A tree over the keys; each node has its least minimum, whose wallet that is, and the least of all other wallets.
    """

    NONE = 2**63 - 1

    def __init__(self, keys: Sequence[int], wallets: Sequence[int]) -> None:
        self.keys = sorted(keys)
        self.place = {key: place for place, key in enumerate(self.keys)}
        self.owner = dict(zip(keys, wallets, strict=True))
        self.size = 1 << max(len(self.keys) - 1, 0).bit_length()
        self.least = [self.NONE] * (2 * self.size)
        self.wallet = [-1] * (2 * self.size)
        self.others = [self.NONE] * (2 * self.size)

    def add(self, key: int, minimum_wh: int) -> None:
        """Let an order rest."""
        self._set(key, minimum_wh, self.owner[key])

    def drop(self, key: int) -> None:
        """Take an order out."""
        self._set(key, self.NONE, -1)

    def first(self, wants_wh: int, wallet: int) -> int | None:
        """Key of the best order of another wallet that so many Wh are enough for."""
        least, owner, others = self.least, self.wallet, self.others

        def fits(node: int) -> bool:
            return others[node] <= wants_wh or (least[node] <= wants_wh and owner[node] != wallet)

        if not fits(1):
            return None
        node = 1
        while node < self.size:
            node *= 2
            if not fits(node):
                node += 1
        return self.keys[node - self.size]

    def _set(self, key: int, minimum_wh: int, wallet: int) -> None:
        node = self.place[key] + self.size
        least, owner, others = self.least, self.wallet, self.others
        least[node], owner[node] = minimum_wh, wallet
        node //= 2
        while node:
            one, other = 2 * node, 2 * node + 1
            if least[other] < least[one]:
                one, other = other, one
            least[node], owner[node] = least[one], owner[one]
            others[node] = min(others[one], others[other] if owner[other] == owner[one] else least[other])
            node //= 2


class Reach:
    """Wh that rest on one side by rank of their limit: how much a limit reaches, in time that grows with the logarithm
    of the number of ranks. Own orders and orders that left unseen count too: it says what can't be enough.
    """

    def __init__(self, ranks: Iterable[int]) -> None:
        self.ranks = sorted(set(ranks))
        self.sums = [0] * (len(self.ranks) + 1)

    def add(self, rank: int, wh: int) -> None:
        """Change what rests at a rank."""
        at = bisect_left(self.ranks, rank) + 1
        while at < len(self.sums):
            self.sums[at] += wh
            at += at & -at

    def up_to(self, rank: int) -> int:
        """Wh at this rank and better ones."""
        at, total = bisect_right(self.ranks, rank), 0
        while at:
            total += self.sums[at]
            at -= at & -at
        return total
