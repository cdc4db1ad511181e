"""The changes that a batch makes to the state of one partition, kept apart until they are applied."""

from __future__ import annotations

from streams.state import PartitionState, Sequences, Visit
from streams.window import Run


class Overlay:
    """Looks like the state after the packets so far; the state below stays as it was until `commit`."""

    __slots__ = ("_seen", "index", "repeats", "repeats_from_ms", "state", "watermark_ms")

    def __init__(self, state: PartitionState) -> None:
        self.state = state
        self.index: dict[int, Visit] = {}
        self.watermark_ms = state.watermark_ms
        self.repeats: list[Run] = []  # identities of stored events
        self.repeats_from_ms = state.repeats.from_ms
        self._seen: dict[int, Sequences] = {}

    def saw(self, writer: int, seq: int) -> bool:
        """Whether a packet of this name came before."""
        seen = self._seen.get(writer) or self.state.seen.get(writer)
        return seen is not None and seq in seen

    def see(self, writer: int, seq: int) -> None:
        """Remember a packet's name."""
        seen = self._seen.get(writer)
        if seen is None:
            below = self.state.seen.get(writer)
            seen = self._seen[writer] = Sequences() if below is None else below.copy()
        seen.add(seq)

    def forget_visits(self) -> None:
        """Back to the visits of the state below."""
        self.index = {}

    def commit(self) -> None:
        """Write the changes into the state."""
        state = self.state
        state.seen.update(self._seen)
        state.watermark_ms = self.watermark_ms
        state.index.update(self.index)
        state.repeats.leave(self.repeats_from_ms)
        for run in self.repeats:
            state.repeats.add(*run)
        state.applied += 1
        state.sweep()
