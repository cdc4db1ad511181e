"""The books of the last hours, looked at by a running worker: the owner of partition 0, in a thread of its own.

What is wrong at two looks in a row raises `veilstream_ledger_wrong_packets` and is named in the log, by packet.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from infra.service.clickhouse import Client, connect
from infra.service.logs import logger
from infra.service.settings import Settings
from schemas.topics import EVENTS_RAW, INGEST_REPORTS
from streams import metrics
from streams.accounts import Reports
from streams.ledger import Ledger, Wrong
from streams.reconciling import Reconciling
from streams.sink import ERRORS
from streams.topic_generations import KafkaError, Topic

log = logger(__name__)

LOGGED = 20  # packets or ranges named in a line of the log, of each kind


class Audit(threading.Thread):
    """Ends soon after `stop` is set. `mine` says whether it is on this worker to look."""

    def __init__(self, settings: Settings, generation: int, mine: Callable[[], bool], stop: threading.Event) -> None:
        super().__init__(name="audit", daemon=True)
        self._settings = settings
        self._generation = generation
        self._mine = mine
        self._stopping = stop
        self._client: Client | None = None
        self._reconciling: Reconciling | None = None
        self._earlier: Ledger | None = None
        self._named: dict[str, list[str]] = {}

    def run(self) -> None:
        """The thread's own."""
        while not self._stopping.wait(self._settings.ledger_seconds):
            if not self._mine():
                self._let_go()
                continue
            try:
                self._look()
            except (*ERRORS, KafkaError) as error:
                log.warning("ledger_not_looked_at", exc_info=error)
                self._let_go()
            except Exception as error:  # the events go on, whatever is wrong here
                log.error("ledger_failed", exc_info=error)
                self._let_go()

    def _look(self) -> None:
        began = time.monotonic()
        if self._reconciling is None:
            self._reconciling = self._open()
        ledger = self._reconciling.look()
        confirmed = ledger.confirmed(self._earlier)
        self._earlier = ledger
        self._show(confirmed)
        metrics.ledger_look_seconds.observe(time.monotonic() - began)
        metrics.ledger_looked.set_to_current_time()

    def _show(self, ledger: Ledger) -> None:
        for kind in Wrong:
            metrics.ledger_wrong.labels(kind).set(ledger.count(kind))
        metrics.ledger_reported.set(ledger.reported)
        metrics.ledger_waiting.set(ledger.waiting)
        metrics.ledger_unreported.set(sum(one.found for one in ledger.unreported))
        metrics.ledger_open.set(sum(one.packets for one in ledger.open))
        named = {str(kind): [one.name for one in found[:LOGGED]] for kind, found in ledger.wrong.items() if found}
        if named and named != self._named:
            log.error("books_out_of_balance", **named)
        elif self._named and not named:
            log.info("books_balance_again")
        self._named = named

    def _open(self) -> Reconciling:
        settings = self._settings
        self._client = connect(settings)
        return Reconciling(
            self._client,
            Reports(settings.kafka, settings.topic(INGEST_REPORTS)),
            Topic(settings.kafka, settings.topic(EVENTS_RAW)),
            self._generation,
            hours=settings.ledger_hours,
            closing=settings.collector_spool_seconds,
        )

    def _let_go(self) -> None:
        if self._reconciling is not None:
            self._reconciling.close()
            self._show(Ledger.empty())
        if self._client is not None:
            self._client.close()
        self._client = self._reconciling = self._earlier = None
