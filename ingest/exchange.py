"""A request and its answer, between the connection that they travel on and whoever answers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ingest.answers import CLOSE, KEEP
from ingest.guard import Turned

if TYPE_CHECKING:
    from ingest.http import Connection


_allowed = re.compile(rb"Access-Control-Allow-Origin: ([^\r]+)").search


class Refusal(Exception):
    """Ends a request, and its connection, with a status of 400 or more."""

    def __init__(self, status: int, text: str, reason: Turned | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.reason = reason


class Exchange:
    """A request and its answer. `left` counts the packets whose acknowledgement is still missing."""

    __slots__ = ("answer", "close", "connection", "done", "left", "status")

    def __init__(self, connection: Connection, close: bool) -> None:
        self.connection = connection
        self.close = close
        self.left = 0
        self.done = False
        self.status = 0
        self.answer = b""

    def settle(self) -> None:
        """The answer stands in `status` and `answer`; it is written as soon as all earlier ones are."""
        self.done = True
        self.connection.write_answers()

    def reply(self, status: int, answer: bytes) -> None:
        """Answers, unless it is answered."""
        if not self.done:
            self.status = status
            self.answer = answer
            self.settle()

    def unavailable(self, text: str, origin: bytes | None = None) -> None:
        """Answers 503 with Retry-After, unless it is answered; to the origin of the answer that was meant."""
        if not self.done:
            if origin is None and (meant := _allowed(self.answer)):
                origin = meant[1]
            mode = CLOSE if self.close else KEEP
            self.connection.server.rates.turned[Turned.MEMORY] += 1
            answer = self.connection.server.answers.make(503, text.encode() + b"\n", origin=origin, mode=mode)
            self.reply(503, answer)
