"""Orders of one side in priority order, of which one wallet's can be passed over at once.

Belongs here: the queues of self-trade prevention, for mechanisms that match order by order. Does not belong here: the
matching (continuous.py, pay_as_bid.py).
"""

from __future__ import annotations

from collections.abc import Iterable
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
