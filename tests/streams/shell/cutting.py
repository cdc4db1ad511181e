"""A TCP proxy that cuts connections at the worst moment."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum


class Cut(Enum):
    """When a connection is cut."""

    IN_THE_BODY = "the server gets half of the request"
    BEFORE_THE_ANSWER = "the server gets the whole request, the client no answer"


class Proxy:
    """Forwards to a server; the next requests that hold `mark` are cut as `cuts` says, in turn."""

    def __init__(self, target: tuple[str, int], mark: bytes) -> None:
        self._target = target
        self._mark = mark
        self.cuts: list[Cut] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(self._target)
        muted = threading.Event()
        threading.Thread(target=self._answers, args=(server, client, muted), daemon=True).start()
        try:
            while data := client.recv(1 << 16):
                if self._mark in data and self.cuts:
                    cut = self.cuts.pop(0)
                    if cut is Cut.IN_THE_BODY:
                        server.sendall(data[: len(data) // 2])
                        return
                    muted.set()
                server.sendall(data)
        except OSError:
            pass
        finally:
            client.close()
            server.close()

    def _answers(self, server: socket.socket, client: socket.socket, muted: threading.Event) -> None:
        try:
            while data := server.recv(1 << 16):
                if muted.is_set():
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(data)
        except OSError:
            pass


@contextmanager
def proxy(port: int, mark: bytes) -> Iterator[Proxy]:
    """A proxy to a port of this machine."""
    opened = Proxy(("127.0.0.1", port), mark)
    try:
        yield opened
    finally:
        opened.close()
