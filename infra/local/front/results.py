"""A statement's result, sent while it comes.

Up to a bound the output is held back, so that an error before it is an error with its status. After it, an error can
only be told in the body, which then has no end.
"""

from __future__ import annotations

import json
import select

from infra.local.front.engine import Engine, Result, Session, Stream
from infra.local.front.errors import FrontError
from infra.local.front.exchange import Exchange
from infra.local.front.native import columns_block
from infra.local.front.running import Running
from infra.local.front.statement import Output
from infra.local.front.wire import Gone

STREAM_HOLD = 1 << 20  # bytes held back for a client that did not ask to wait for the end


class BrokenOff(Exception):
    """The query failed after a part of its result was sent; the client was told in the body."""

    def __init__(self, problem: FrontError) -> None:
        super().__init__(problem.reason)
        self.problem = problem


class Results:
    """Sends results of statements that only read."""

    def __init__(self, engine: Engine, running: Running, hold: int) -> None:
        self._engine = engine
        self._running = running
        self._hold = hold

    def send(self, session: Session, output: Output, exchange: Exchange) -> Result:
        """Runs the statement and sends what it gives. Raises FrontError if nothing was sent yet, else BrokenOff."""
        query, reply = exchange.query, exchange.reply
        stream = Stream(session, lambda path: output.into(path, exchange.format))
        try:
            held = self._receive(stream, output, exchange)
            result = stream.outcome()
            query.check()
            if reply.streaming:
                reply.end()
                return result
        except (FrontError, Gone) as problem:
            error = query.killed or problem
            if not isinstance(error, FrontError):
                raise
            if not reply.streaming:
                raise error from None
            reply.break_off(error)
            raise BrokenOff(error) from None
        finally:
            stream.close(lambda: self._engine.kill(query.tag))
        format = output.format or exchange.format
        if not held and format == "Native":
            held = _columns(session, output.before)
        self._running.end(query)  # first: once the client has its answer, no KILL meets the query
        query.check()
        reply.whole(held, format, result, exchange.encoder())
        return result

    def _receive(self, stream: Stream, output: Output, exchange: Exchange) -> bytes:
        """Reads the output to its end; returns what was held back, if that was all."""
        reply = exchange.reply
        hold = self._hold if exchange.patient else STREAM_HOLD
        held: list[bytes] = []
        size = 0
        reading = _Reading(stream, exchange)
        while piece := reading.next():
            if reply.streaming:
                reply.piece(piece)
                continue
            held.append(piece)
            size += len(piece)
            if size > hold:
                reply.begin(output.format or exchange.format, Result(), exchange.encoder())
                reply.piece(b"".join(held))
                held.clear()
        return b"".join(held)


class _Reading:
    """Waits for output and for the client at once."""

    def __init__(self, stream: Stream, exchange: Exchange) -> None:
        self._stream = stream
        self._exchange = exchange
        self._poll = select.poll()
        self._poll.register(stream.fileno(), select.POLLIN)
        self._poll.register(exchange.connection.fileno(), select.POLLRDHUP)

    def next(self) -> bytes:
        """The next output; raises Gone when the client has left, FrontError when the query was killed."""
        client = self._exchange.connection.fileno()
        while True:
            ready = dict(self._poll.poll())
            self._exchange.query.check()
            if (event := ready.get(client, 0)) & (select.POLLHUP | select.POLLERR):
                raise Gone
            if event:
                # Only its sending side is closed, which HTTP allows, unless it says that this means leaving.
                if self._exchange.cancels_on_close:
                    raise Gone
                self._poll.modify(client, 0)
            if self._stream.fileno() in ready:
                return self._stream.read()


def _columns(session: Session, statement: bytes) -> bytes:
    """The header of an empty Native result."""
    sql = statement.decode()
    try:
        described = session.run(f"DESCRIBE TABLE ({sql}\n)", "JSONCompactEachRow").data
    except FrontError:
        # SHOW and its like cannot be described; they are cheap enough to run again.
        named = session.run(f"{sql}\nFORMAT JSONCompactEachRowWithNamesAndTypes", "TSV").data
        lines = [json.loads(line) for line in named.splitlines()[:2]]
        return columns_block(zip(*lines, strict=True)) if len(lines) == 2 else b""
    rows = (json.loads(line) for line in described.splitlines())
    return columns_block((row[0], row[1]) for row in rows)
