"""What a run showed, and how it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.books import Books
from tests.fault.sampling import Trend
from tests.fault.unknown import Span
from tests.fault.videos import VideoBooks


@dataclass(frozen=True, slots=True)
class Done:
    """A strike that was done. details: what the fault reports, to be summed up."""

    fault: str
    kind: str
    outage: bool
    began_ms: float
    back_ms: float
    details: dict[str, int]

    @property
    def span(self) -> Span:
        """When the part was not (quite) there."""
        return Span(self.kind, self.began_ms, self.back_ms)


@dataclass(frozen=True, slots=True)
class Findings:
    """failed: strikes that could not be done or after which the stack did not come back, in words.

    unexplained_unknown: events of unknown fate although neither collector nor broker was struck meanwhile. ledger: what
    `veilstream ledger` says at the end. trends: by role and measure, where processes were watched.
    """

    name: str
    seed: int
    done: Sequence[Done]
    books: Books
    videos: VideoBooks | None
    unexplained_unknown: int
    odd_answers: int
    seconds: float
    settle_seconds: float
    failed: list[str] = field(default_factory=list)
    ledger: Mapping[str, Any] = field(default_factory=lambda: {"balanced": True})
    trends: Mapping[str, Mapping[str, Trend]] = field(default_factory=dict)

    @property
    def flat(self) -> bool:
        """Memory, handles and threads of every kind of process that was watched."""
        return all(trend.flat for of_role in self.trends.values() for trend in of_role.values())

    @property
    def kills(self) -> int:
        """Kills and pauses that were done."""
        return sum(not done.outage for done in self.done)

    @property
    def unexplained(self) -> int:
        """Rows, counts, places and unknown fates that nothing explains."""
        return self.books.unexplained + self.books.reordered + self.unexplained_unknown

    @property
    def right(self) -> bool:
        """Every strike was done and survived, and the books are right."""
        videos = self.videos is None or self.videos.right
        explained = not (self.unexplained_unknown or self.odd_answers or self.failed)
        return self.books.right and videos and explained and bool(self.ledger["balanced"]) and self.flat

    def lines(self) -> list[str]:
        """What is wrong, in words."""
        lines = [*self.books.findings, *self.failed]
        if not self.ledger["balanced"]:
            lines.append(f"the ledger does not balance: {self.ledger.get('wrong') or self.ledger.get('error')}")
        lines += [
            f"{measure} of {role} is not flat: {trend.as_dict()}"
            for role, of_role in self.trends.items()
            for measure, trend in of_role.items()
            if not trend.flat
        ]
        if self.unexplained_unknown:
            lines.append(f"{self.unexplained_unknown} events are of unknown fate, and no strike explains it")
        if self.odd_answers:
            lines.append(f"{self.odd_answers} answers were against the rules")
        if self.videos is not None and not self.videos.right:
            lines.append(f"the video jobs do not balance: {self.videos.as_dict()}")
        return lines

    def as_dict(self) -> dict[str, object]:
        """What `veilstream fault --json` prints."""
        books = self.books
        fates = ("sent", "acknowledged", "refused", "stored", "excluded", "rejected", "repeats")
        names = (*fates, "lost", "doubled", "unknown")
        return {
            "name": self.name,
            "seed": self.seed,
            "kills": self.kills,
            **{name: getattr(books, name) for name in names},
            "unexplained": self.unexplained,
            "unexplained_unknown": self.unexplained_unknown,
            "unknown_stored": books.unknown_stored,
            "reordered": books.reordered,
            "odd_answers": self.odd_answers,
            **({"videos": self.videos.as_dict()} if self.videos is not None else {}),
            "faults": {name: self._of(name) for name in dict.fromkeys(sorted(done.fault for done in self.done))},
            "ledger": {name: self.ledger[name] for name in ("balanced", "reported", "stored") if name in self.ledger},
            **({"flat": self.flat, "trends": self._trends()} if self.trends else {}),
            "findings": self.lines(),
            "settle_seconds": round(self.settle_seconds, 1),
            "seconds": round(self.seconds, 1),
        }

    def _trends(self) -> dict[str, dict[str, object]]:
        return {
            role: {measure: trend.as_dict() for measure, trend in of_role.items()}
            for role, of_role in self.trends.items()
        }

    def _of(self, fault: str) -> dict[str, object]:
        of_fault = [done for done in self.done if done.fault == fault]
        details: Counter[str] = Counter()
        for done in of_fault:
            details.update(done.details)
        kinds: dict[str, object] = {}
        for kind in sorted({done.kind for done in of_fault}):
            times = [(done.back_ms - done.began_ms) / 1000 for done in of_fault if done.kind == kind]
            mean = round(sum(times) / len(times), 2)
            kinds[kind] = {"strikes": len(times), "back_seconds_mean": mean, "back_seconds_most": round(max(times), 2)}
        return {"strikes": len(of_fault), "kinds": kinds, **details}
