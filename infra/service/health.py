"""The admin port of a process: /livez, /readyz and /metrics, answered from a thread of its own.

A thread, so that a process whose event loop hangs is still heard to say so. Alive means *makes progress*: the loop that
matters marks a Progress, and a mark that is too old is a failure. Ready means that requests or records can be handled
now; it falls first when a process is told to stop.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

from infra.service import metrics

# Answers why something is not well, or "" when it is. Called from the admin thread: it may only read.
Check = Callable[[], str]

FRAMES = 12  # of a thread that stands still
CLIENT_TIMEOUT = 5.0  # seconds an admin client may take to say what it wants


def well() -> str:
    """The check that never fails."""
    return ""


class Progress:
    """The time of the last sign of life of one loop. `mark` it at every turn, idle turns included."""

    def __init__(self, name: str, limit: float) -> None:
        """`limit`: seconds without a mark after which the process counts as stuck."""
        self.name = name
        self.limit = limit
        self._marked = time.monotonic()
        self._thread: int | None = None

    def mark(self) -> None:
        """Says that the loop turns."""
        self._marked = time.monotonic()
        self._thread = threading.get_ident()

    @property
    def age(self) -> float:
        """Seconds since the last mark."""
        return time.monotonic() - self._marked

    def check(self) -> str:
        """A Check for /livez."""
        return f"{self.name} has made no progress for {self.age:.0f} s" if self.age > self.limit else ""

    def where(self) -> list[str]:
        """Where the thread that marked last is now, the innermost call first: file, line and function, no values."""
        frame = sys._current_frames().get(self._thread or 0)
        calls = traceback.extract_stack(frame, FRAMES) if frame is not None else []
        return [f"{Path(call.filename).name}:{call.lineno} {call.name}" for call in reversed(calls)]


class Health:
    """What /livez and /readyz ask. All checks must be well; `stopping` makes the process unready at once."""

    def __init__(self, live: Check = well, ready: Check = well) -> None:
        self.live = live
        self.ready = ready
        self._stopping = False

    def stopping(self) -> None:
        """Called when the process begins to stop."""
        self._stopping = True

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body for a path."""
        if path == "/metrics":
            return 200, metrics.CONTENT_TYPE, metrics.exposition()
        if path == "/livez":
            reason = _reason(self.live)
        elif path == "/readyz":
            reason = _reason(self.live) or ("stopping" if self._stopping else _reason(self.ready))
        else:
            return 404, "application/json", b'{"error":"ask for /livez, /readyz or /metrics"}\n'
        body = json.dumps({"ok": not reason, "reason": reason}).encode() + b"\n"
        return (503 if reason else 200), "application/json", body


def _reason(check: Check) -> str:
    try:
        return check()
    except Exception as error:
        return f"the check itself failed: {type(error).__name__}"


class _Handler(BaseHTTPRequestHandler):
    health: ClassVar[Health]
    timeout = CLIENT_TIMEOUT
    protocol_version = "HTTP/1.1"
    server_version = "veilstream"
    sys_version = ""

    def do_GET(self) -> None:
        status, kind, body = self.health.answer(self.path.partition("?")[0])
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
        self.close_connection = True

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that went away


class AdminServer:
    """The admin port: `start` opens it or raises OSError, `stop` closes it. Also a context manager."""

    def __init__(self, host: str, port: int, health: Health) -> None:
        handler = type("Handler", (_Handler,), {"health": health})
        try:
            self._server = _Server((host, port), handler)
        except OSError as error:
            raise OSError(error.errno, f"admin port {host}:{port}: {error.strerror}") from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="admin", daemon=True)

    @property
    def port(self) -> int:
        """The port that is really open (for port 0)."""
        return int(self._server.server_address[1])

    def start(self) -> AdminServer:
        """Answers from now on."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Closes the port."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> AdminServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
