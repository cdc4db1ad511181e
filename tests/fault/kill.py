"""kill -9 of one process at a moment by chance; its supervisor starts it again."""

from __future__ import annotations

from random import Random

from infra.local.stack import Stack

BACK_SECONDS = 120.0  # a part that is not ready by then does not come back


class Kill:
    """Worker, collector, broker and front in turns."""

    name = "kill"
    kinds = ("worker", "collector", "kafka", "front")

    def strike(self, stack: Stack, kind: str, random: Random) -> None:
        """See `laboratory.Fault`."""
        pid = stack.kill(kind)
        stack.wait_ready(kind, after=pid, limit=BACK_SECONDS)
