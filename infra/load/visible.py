"""Time from request to visible row: probes, sent beside the traffic, and one reader that polls until each has a row.

A probe is a page view like any other, on one site after the other, with a number from `numbers.PROBES` on. Its clock
starts before its first byte is written; it stops when the answer of a SELECT that shows the row has arrived. So the
times are too long by up to one poll, and never too short. A probe that is answered otherwise than by 2xx is left out
and counted; one that gets no row within LIMIT counts with LIMIT.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote_plus, urlsplit

import numpy as np

from infra.load.journal import CUT, Fate, Journal, Outcome
from infra.load.numbers import PROBES, page_view_id
from infra.load.sites import model_site
from infra.load.sql import Sql, SqlError

LIMIT = 60.0  # seconds
POLL = 0.01
_AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


class Visibility:
    """Two threads between `start` and `stop`; `sql` is used by the polling one alone. interval: seconds."""

    def __init__(
        self, url: str, sites: Sequence[int], sql: Sql, *, interval: float, journal: Path | None, start: int, seed: int
    ) -> None:
        self._address = urlsplit(url)
        self._urls = [(number, model_site(number).pages[0][0]) for number in sites]
        self._sql, self._interval = sql, interval
        self._journal = Journal(journal, seed=seed, first=PROBES + start) if journal else None
        self._number = PROBES + start
        self._waiting: dict[int, float] = {}  # number -> when it was sent
        self._seconds: list[float] = []
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._sending_over = threading.Event()
        self.sent = self.unanswered = self.unseen = 0
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._send, self._poll)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send no more, wait for the probes that are on their way, and end."""
        self._ending.set()
        for thread in self._threads:
            thread.join()
        if self._journal:
            self._journal.close()

    def report(self) -> dict[str, float | int]:
        """Milliseconds p50, p99 and the largest; how many probes were counted, how many
        of all were not answered, and how many of those counted were not seen within LIMIT."""
        with self._lock:
            times = np.array(self._seconds or [0.0])
        p50, p99, most = (round(float(value) * 1000, 1) for value in (*np.percentile(times, (50, 99)), times.max()))
        counted = {"probes": len(self._seconds), "unanswered": self.unanswered, "unseen": self.unseen}
        return {"p50": p50, "p99": p99, "max": most, **counted}

    def _send(self) -> None:
        due = time.monotonic()
        connection = self._connect()
        while not self._ending.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._interval, time.monotonic() - 1.0)
            number, self._number = self._number, self._number + 1
            site, url = self._urls[number % len(self._urls)]
            target = (
                f"/matomo.php?idsite={site}&rec=1&action_name={quote_plus(_title(number))}&url={url}"
                f"&_id={number // 100:016x}&send_image=0&pv_id={page_view_id(number)}"
            )
            if self._journal:
                self._journal.sent(number, bytes((int(Fate.STORED),)))
            began = time.monotonic()
            with self._lock:
                self._waiting[number] = began
                self.sent += 1
            try:
                connection.request("POST", target, b"", {"User-Agent": _AGENT, "Accept-Language": "en"})
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                connection.close()
                connection = self._connect()
                status = CUT
                self._ending.wait(0.2)
            acknowledged = 200 <= status < 300
            outcome = Outcome.ACKNOWLEDGED if acknowledged else Outcome.REFUSED if status == 400 else Outcome.UNKNOWN
            if self._journal:
                self._journal.ended(number, (outcome,), status)
                self._journal.flush()
            if not acknowledged:
                with self._lock:
                    self._waiting.pop(number, None)
                    self.unanswered += 1
        connection.close()
        self._sending_over.set()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=30)

    def _poll(self) -> None:
        sites = ", ".join(str(site) for site, _ in self._urls)
        while True:
            over = self._sending_over.is_set()
            with self._lock:
                waiting = dict(self._waiting)
            if not waiting:
                if over:
                    return
                time.sleep(POLL)
                continue
            now = time.monotonic()
            oldest = int((time.time() - (now - min(waiting.values())) - 5) * 1000)
            wanted = ", ".join(f"'{_title(number)}'" for number in waiting)
            try:
                rows = self._sql.rows(
                    f"SELECT title FROM events WHERE site_id IN ({sites}) AND time >="
                    f" fromUnixTimestamp64Milli({oldest}) AND title IN ({wanted})"
                )
            except SqlError:
                rows = []
                time.sleep(0.1)
            now = time.monotonic()
            seen = {row[0] for row in rows}
            with self._lock:
                for number, began in waiting.items():
                    found = _title(number) in seen
                    if (found or now - began > LIMIT) and self._waiting.pop(number, None) is not None:
                        self._seconds.append(now - began if found else LIMIT)
                        self.unseen += not found
            time.sleep(POLL)


def _title(number: int) -> str:
    """By its title a probe is known at any site, whatever its policy."""
    return f"Probe {page_view_id(number)}"
