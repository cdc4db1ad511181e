"""When the next flush may start."""

from __future__ import annotations


class Pace:
    """A budget of packets per second, with `longest` seconds of it in hand.

    After a pause a flush follows the first event within `shortest` seconds; under steady load flushes are as far
    apart as their number of packets asks for, at most `longest`.
    """

    __slots__ = ("_paid", "_rate", "longest", "shortest")

    def __init__(self, packets_per_second: float, shortest: float, longest: float) -> None:
        self._rate = packets_per_second
        self.shortest = shortest
        self.longest = longest
        self._paid = 0.0  # the moment until which the packets sent so far use up the budget

    def sent(self, packets: int, now: float) -> None:
        """Notes a flush."""
        self._paid = max(self._paid, now - self.longest) + packets / self._rate

    def delay(self, now: float) -> float:
        """Seconds from the first event of a flush to the flush."""
        return min(max(self._paid - now, self.shortest), self.longest)
