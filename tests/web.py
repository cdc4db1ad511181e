"""Small servers for what is fetched and told: each answers every connection by a function, on an address of its own."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Handle = Callable[[socket.socket, bytes], None]


@dataclass
class Server:
    """A server. `requests`: head and body of each, in order."""

    host: str
    port: int
    requests: list[bytes] = field(default_factory=list)

    @property
    def connections(self) -> int:
        """How many there were."""
        return len(self.requests)


def answered(body: bytes = b"", status: str = "200 OK", **headers: str) -> Handle:
    """Answers with a body and its length; names of headers are written with underscores."""
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    if "Transfer_Encoding" not in headers and "Content_Length" not in headers:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([*lines, "", ""]).encode()
    return lambda connection, _request: connection.sendall(head + body)


@contextmanager
def served(
    handle: Handle, host: str = "127.0.0.1", port: int = 0, secured: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """A server for as long as the block lasts."""
    with socket.create_server((host, port), backlog=64) as listening:
        server = Server(host, listening.getsockname()[1])

        def one(plain: socket.socket) -> None:
            with contextlib.suppress(OSError), plain:
                connection = secured.wrap_socket(plain, server_side=True) if secured else plain
                with connection:
                    server.requests.append(request := _request(connection))
                    handle(connection, request)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    threading.Thread(target=one, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield server
        finally:
            listening.shutdown(socket.SHUT_RDWR)


def _request(connection: socket.socket) -> bytes:
    found = b""
    while b"\r\n\r\n" not in found:
        if not (piece := connection.recv(65536)):
            return found
        found += piece
    head = found.partition(b"\r\n\r\n")[0].lower()
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(found) < len(head) + 4 + length and (piece := connection.recv(65536)):
        found += piece
    return found
