"""How often a job was tried: what it carries from one attempt to the next, as text.

The same text stands in two places: in the metadata of the group's offset while a worker has the job, and in the header
ATTEMPTS of the job's record once it has waited for another attempt. Every part is `name=value`, blanks between; a text
of an older version, or none, is read as far as it goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from schemas.videos import Engine, Reason

ATTEMPTS = "attempts"  # header


class Attempts(msgspec.Struct, frozen=True):
    """`begun`: attempts that were begun, `failed`: those that have failed. `engine`: for the next one, None where it is
    left to the router; `reason`: of the last failure; `due_ms`: when the next one may begin, 0 where the job does not
    wait for one."""

    begun: int = 0
    failed: int = 0
    engine: Engine | None = None
    reason: Reason | None = None
    due_ms: int = 0

    @property
    def text(self) -> str:
        """As it is kept."""
        parts = {
            "attempt": self.begun,
            "failed": self.failed,
            "engine": self.engine,
            "reason": self.reason,
            "due": self.due_ms,
        }
        return " ".join(f"{name}={value}" for name, value in parts.items() if value)


def read(text: str) -> Attempts:
    """What a text tells; never fails."""
    parts = dict(part.partition("=")[::2] for part in text.split())

    def number(name: str) -> int:
        value = parts.get(name, "")
        return int(value) if value.isascii() and value.isdigit() and len(value) < 16 else 0

    engine, reason = parts.get("engine"), parts.get("reason")
    return Attempts(
        number("attempt"),
        number("failed"),
        Engine(engine) if engine in set(Engine) else None,
        Reason(reason) if reason in set(Reason) else None,
        number("due"),
    )


def carried(headers: Iterable[tuple[str, bytes]]) -> Attempts:
    """What the record of a job carries; nothing where it was never tried."""
    return read(next((value for name, value in headers if name == ATTEMPTS), b"").decode(errors="replace"))


def carrying(headers: Iterable[tuple[str, bytes]], attempts: Attempts) -> list[tuple[str, bytes]]:
    """The headers of a job's record that is to carry these."""
    others = [(name, value) for name, value in headers if name != ATTEMPTS]
    return [*others, (ATTEMPTS, attempts.text.encode())]


def delay(failed: int, delays: Sequence[float]) -> float:
    """Seconds that a job waits after so many failures, at least one; `delays` are those after the first, second, …"""
    return delays[min(failed, len(delays)) - 1]
