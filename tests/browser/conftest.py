"""A page of another origin in a real browser, and the stack behind the collector that it tracks to."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from infra.migrate import open_database
from infra.service.settings import Settings
from tests.browser.chromium import SECONDS, Chromium, find
from tests.conftest import Starter

VISITOR = "0123456789abcdef"


class Quiet(SimpleHTTPRequestHandler):
    """Serves the page."""

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@dataclass
class Page:
    """The page in the browser, and the tables behind the collector."""

    browser: Chromium
    settings: Settings

    def rows(self, count: int) -> list[dict[str, Any]]:
        """The events by title, once so many are there; what comes within a second more is among them."""
        deadline = time.monotonic() + SECONDS
        while len(found := self._rows()) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} events are stored"
            time.sleep(0.2)
        time.sleep(1.0)
        return self._rows()

    def _rows(self) -> list[dict[str, Any]]:
        with open_database(self.settings) as client:
            found = client.query("SELECT title, toString(visit_id) AS visit FROM events ORDER BY title")
            return [dict(zip(found.column_names, row, strict=True)) for row in found.result_rows]


Opener = Callable[..., Page]


@pytest.fixture
def open_page(
    installation: Settings, start_collector: Starter, start_worker: Starter, tmp_path: Path
) -> Iterator[Opener]:
    """`open_page(*arguments, name="page.html", collector="127.0.0.1")`: a browser with these arguments at a page.

    The page is at `localhost`, the collector at another port: two origins; at 127.0.0.1 it is another site, too.
    """
    path = find()
    if path is None:
        pytest.skip("there is no Chromium; `apt-get install chromium` brings it")
    start_collector(installation)
    start_worker(installation)
    handler = functools.partial(Quiet, directory=str(Path(__file__).parent))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with ExitStack() as browsers:

        def opened(*arguments: str, name: str = "page.html", collector: str = "127.0.0.1") -> Page:
            browser = browsers.enter_context(Chromium(path, tmp_path / "profile", *arguments))
            browser.open(f"http://localhost:{server.server_address[1]}/{name}")
            browser.run(f"begin('http://{collector}:{installation.collector_port}/matomo.php', '{VISITOR}')")
            return Page(browser, installation)

        try:
            yield opened
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


@pytest.fixture
def page(open_page: Opener) -> Page:
    """The page, and the collector as another site."""
    return open_page()
