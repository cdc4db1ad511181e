"""The network between the collector and the broker: a proxy that cuts, holds and swallows."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from random import Random

from tests.fault.field import Field

CHUNK = 1 << 16
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() drops what is under way, as a cut cable does
LONG = (0.2, 6.0)  # seconds that the link is not itself


class Link:
    """Listens on `port` and passes every connection on to `target`, both on loopback."""

    def __init__(self, port: int, target: int) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._passing = threading.Event()
        self._passing.set()
        self._deaf = False
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> int:
        """Ends all connections in the middle of what they say; how many there were."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        return len(pairs)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nothing passes, in either direction; nothing is lost."""
        self._passing.clear()
        try:
            yield
        finally:
            self._passing.set()

    @contextlib.contextmanager
    def swallowing(self) -> Iterator[None]:
        """The broker gets what is sent to it, and its answers are lost: the outcome of everything is unknown."""
        self._deaf = True
        try:
            yield
        finally:
            self._deaf = False
            self.cut()

    def close(self) -> None:
        """Ends everything."""
        self._closed = True
        self._passing.set()
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), 2)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._pairs.add((client, server))
            for source, sink, answers in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=(source, sink, answers), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                self._passing.wait()
                if not (answers and self._deaf):
                    sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Cut:
    """Each strike does one of three things to the link, chosen by chance."""

    name = "cut"
    kinds = ("link",)
    outage = False
    workers = 1

    def strike(self, field: Field, kind: str, random: Random) -> Mapping[str, int]:
        """See `faults.Fault`."""
        link, seconds = field.link, random.uniform(*LONG)
        assert link is not None
        how = random.choice(("cut", "hold", "swallow"))
        if how == "cut":
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                link.cut()
                time.sleep(random.uniform(0.01, 0.3))
        else:
            with link.held() if how == "hold" else link.swallowing():
                time.sleep(seconds)
                link.cut()
        field.drained()
        return {how: 1}
