"""Records of `recordings.raw` become rows of `recordings` and `heatmap`, within the application of `video_results`.

A row is named by what it is from (writer, partition, seq, index, number) and made of nothing else, so a record that is
read twice makes the same rows, and the tables keep one of each. Where a policy or a key is missing it waits, for
nothing but its own topic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from infra.service.clickhouse import connect
from infra.service.logs import logger
from infra.service.metrics import counter
from infra.service.settings import Settings
from infra.service.vault import Vault, VaultError, master_keys
from schemas.reasons import Unrecorded
from schemas.tables import HEATMAP, RECORDINGS
from schemas.topics import RECORDINGS_RAW, SITE_POLICIES
from streams.lookups import Shelf
from streams.patience import Patience
from streams.policies import Policies
from streams.recording_rows import Chunks, Recorder
from streams.sink import ERRORS
from streams.storing import Store
from streams.surroundings import Surroundings
from streams.topic_generations import KafkaError

log = logger(__name__)

stored = counter("recordings_stored", "rows", "Rows stored of recordings and heatmaps", ["table"])
dropped = counter("recordings_dropped", "chunks", "Chunks of recordings without a row, by reason", ["reason"])
masked = counter("recordings_masked", "values", "Texts and values masked in stored recordings, by kind", ["kind"])


class Recordings:
    """For one thread."""

    def __init__(self, settings: Settings, patience: Patience) -> None:
        self._settings = settings
        self._patience = patience
        self._store = Store(settings, patience)
        self._shelf: Shelf | None = None
        self._recorder: Recorder | None = None

    def put(self, messages: Sequence[Any]) -> None:
        """Returns once all rows of these messages of Kafka are stored; raises Stopping."""
        made = [self._rows(message.value or b"", message.partition) for message in messages]
        # A chunk that has a row in `recordings` has all of its rows in `heatmap`.
        for name, schema in (("heatmap", HEATMAP), ("recordings", RECORDINGS)):
            rows = [row for chunks in made for row in getattr(chunks, name)]
            self._store.put(name, pa.Table.from_pylist(rows, schema))
            stored.labels(name).inc(len(rows))
        reasons = sum((chunks.dropped for chunks in made), Counter[str]())
        for reason, count in reasons.items():
            dropped.labels(str(reason)).inc(count)
        for kind, count in sum((chunks.masked for chunks in made), Counter[str]()).items():
            masked.labels(kind).inc(count)
        if failed := reasons[Unrecorded.INTERNAL_ERROR]:
            log.error("recordings_not_masked", chunks=failed)

    def tidy(self) -> None:
        """Forgets the keys that were destroyed; tried again later."""
        if self._shelf is not None:
            try:
                self._shelf.prepare(None)
            except (*ERRORS, VaultError) as error:
                log.warning("secrets_not_fetched", exc_info=error)

    def _rows(self, value: bytes, partition: int) -> Chunks:
        """The rows of a record; waits for what is missing around it."""
        before: tuple[object, ...] = ()
        while True:
            try:
                return self._made().rows(value, partition)
            except Surroundings as missing:
                what = (type(missing), *vars(missing).values())
                if what == before:
                    self._patience.wait("surroundings", missing)
                before = what
                self._patience.insist("surroundings", partial(self._fetch, missing), KafkaError, VaultError, *ERRORS)

    def _made(self) -> Recorder:
        if self._recorder is None:
            client = self._patience.insist("clickhouse", lambda: connect(self._settings), *ERRORS)
            keys = partial(master_keys, self._settings.master_key)
            vault = self._patience.insist(
                "vault", lambda: Vault(client, keys, kept=self._settings.secrets_kept), VaultError
            )
            policies = Policies(self._settings.kafka, self._settings.topic(SITE_POLICIES))
            self._shelf = Shelf(policies, vault, self._settings.topic(RECORDINGS_RAW))
            self._recorder = Recorder(self._shelf)
        return self._recorder

    def _fetch(self, missing: Surroundings) -> None:
        assert self._shelf is not None
        self._shelf.fetch(missing)
