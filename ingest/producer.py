"""Delivery to Kafka by kafka-python, with retry under the record's own name.

kafka-python retries by itself (idempotent, acks=all) until its delivery time-out. When it gives a record up, for
whatever reason, it is closed, a new producer is made in a thread, and everything that is not acknowledged is handed
to that one, in the same order and with the same bytes, for as long as the process lives. A copy that the old one had
delivered after all is a second copy of a name, which workers drop.

While all is well packets take a shorter way (`produce`), beside the producer, which stays connected and knows the
leaders. What goes wrong there is handed to the producer, and the shorter way is tried again a little later.

Nothing here blocks the loop: producers are made and closed in threads, `send` is called only when the metadata is
known, and answers come back with one wake-up of the loop for all that arrived together.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from infra.service.logs import logger
from ingest.delivery import Record
from ingest.produce import Address, Direct, Place
from schemas.topics import RECORD_LIMIT

log = logger(__name__)

METADATA_SECONDS = 5.0  # longest wait for a broker when a producer is made
BACK_OFF_SECONDS = (0.1, 1.0)  # between attempts to make a producer: first, last
DIRECT_SECONDS = 1.0  # between attempts at the shorter way
HANG_SECONDS = 5.0  # beyond the delivery time-out without an outcome: the producer hangs


class NotReady(Exception):
    """Kafka cannot be used yet; the message says what is missing."""


class KafkaDelivery:
    """Implements `delivery.Delivery`. `resume` is called in the loop after records were acknowledged."""

    def __init__(
        self,
        servers: str,
        topics: dict[str, int],
        *,
        client: str,
        request_timeout: float = 10.0,
        delivery_timeout: float = 20.0,
        resume: Callable[[], None],
    ) -> None:
        """`topics`: name -> partitions that it must have. Times in seconds."""
        self._servers = servers
        self._topics = topics
        self._client = client
        self._request_timeout = request_timeout
        self._delivery_timeout = delivery_timeout
        self._resume = resume
        self._loop = asyncio.get_running_loop()
        self._producer: Any = None
        self._generation = 0
        self._pending: dict[Record, None] = {}
        self._outcomes: deque[tuple[int, Record, BaseException | None]] = deque()
        self._woken = False
        self._closing = threading.Event()
        self._direct: Direct | None = None
        self._direct_at = 0.0  # when the next attempt at it is due
        self._connecting: asyncio.Task[None] | None = None
        self._flying: dict[Place, Record] = {}  # sent by it, not acknowledged
        self.direct_records = 0
        self.direct_failures = 0
        self.problem = "has not reached Kafka yet"  # why there is no producer; "" while there is one
        self.replaced = 0  # producers that gave up

    def start(self) -> None:
        """Makes the first producer, in a thread."""
        self._renew(None)

    @property
    def ready(self) -> bool:
        """Whether there is a producer that has reached Kafka."""
        return self._producer is not None

    def send(self, *records: Record) -> None:
        """See `delivery.Delivery`."""
        self._pending.update(dict.fromkeys(records))
        if self._direct is not None and all(map(self._may_go_direct, records)):
            now = time.monotonic()
            for record in records:
                record.handed_at = now
                self._flying[record.topic, cast(int, record.partition)] = record
            self._direct.send(records)
            self.direct_records += len(records)
        elif self._producer is not None:
            self._hand_over(records)

    def watch(self) -> None:
        """Called a few times a second: sees to the shorter way, replaces a producer that neither delivers nor ends."""
        if self._direct is not None:
            self._direct.watch()
        elif self._producer is not None and self._connecting is None and time.monotonic() >= self._direct_at:
            self._connecting = self._loop.create_task(self._connect(self._producer))
        if self._producer is None or not self._pending:
            return
        oldest = next(iter(self._pending)).handed_at
        if time.monotonic() - oldest > self._delivery_timeout + HANG_SECONDS:
            self._give_up_producer(NotReady("no outcome within the delivery time-out"))

    async def close(self, seconds: float) -> int:
        """Ends within about `seconds`; returns the number of records that were not acknowledged."""
        self._closing.set()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._direct is not None:
            self._direct.close()
        producer, self._producer = self._producer, None
        if producer is not None:
            thread = threading.Thread(target=_close, args=(producer, seconds), name="kafka-close", daemon=True)
            thread.start()
            deadline = time.monotonic() + seconds
            while thread.is_alive() and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
        self._drain()
        return len(self._pending)

    # In the loop

    def _hand_over(self, records: Iterable[Record]) -> None:
        """Gives records to the producer, whose thread is woken once, for all of them.

        Otherwise it would run after the first one and send as many requests as there are partitions: that costs this
        process a tenth and the broker two thirds of their time.
        """
        producer, generation, now = self._producer, self._generation, time.monotonic()
        with _asleep(producer):
            for record in records:
                record.handed_at = now
                try:
                    future = producer.send(record.topic, value=record.value, key=record.key, partition=record.partition)
                except Exception as error:
                    # The topic's metadata went away, or the producer is closed or broken.
                    self._outcomes.append((generation, record, error))
                    self._wake_soon()
                    continue
                future.add_callback(self._came, generation, record, None)
                future.add_errback(self._failed, generation, record)

    def _may_go_direct(self, record: Record) -> bool:
        return (
            self._direct is not None
            and self._direct.reaches(record)
            and (record.topic, record.partition) not in self._flying
        )

    async def _connect(self, producer: Any) -> None:
        try:
            leaders = _leaders(producer, self._topics)
            if leaders:
                direct = Direct(
                    leaders,
                    client=self._client,
                    timeout=self._request_timeout,
                    acknowledged=self._direct_acknowledged,
                    failed=self._direct_failed,
                )
                try:
                    await direct.connect()
                except BaseException:
                    direct.close()
                    raise
                self._direct = direct
        except (OSError, TimeoutError):
            pass
        finally:
            self._direct_at = time.monotonic() + DIRECT_SECONDS
            self._connecting = None

    def _direct_acknowledged(self, places: list[Place]) -> None:
        for place in places:
            record = self._flying.pop(place, None)
            if record is not None and record in self._pending:
                del self._pending[record]
                record.done()
        self._resume()

    def _direct_failed(self, why: str) -> None:
        direct, self._direct = self._direct, None
        if direct is None:  # it did not get so far
            return
        direct.close()
        self._direct_at = time.monotonic() + DIRECT_SECONDS
        self.direct_failures += 1
        left, self._flying = list(self._flying.values()), {}
        (log.warning if left else log.info)("direct_way_lost", why=why, unacknowledged=len(left))
        if self._producer is not None:
            self._hand_over(left)

    def _wake_soon(self) -> None:
        if not self._woken:
            self._woken = True
            self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._woken = False
        failure: BaseException | None = None
        acknowledged = False
        while self._outcomes:
            generation, record, error = self._outcomes.popleft()
            if error is not None:
                if generation == self._generation:
                    failure = error
            elif record in self._pending:
                # Also an earlier producer's late success is one.
                del self._pending[record]
                acknowledged = True
                record.done()
        if failure is not None:
            self._give_up_producer(failure)
        if acknowledged:
            self._resume()

    def _give_up_producer(self, error: BaseException) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        self.replaced += 1
        self.problem = f"lost Kafka ({type(error).__name__})"
        log.warning("producer_replaced", error=type(error).__name__, unacknowledged=len(self._pending))
        self._renew(producer)

    def _renew(self, old: Any) -> None:
        self._generation += 1
        thread = threading.Thread(target=self._make, args=(old, self._generation), name="kafka-renew", daemon=True)
        thread.start()

    def _adopt(self, producer: Any, generation: int) -> None:
        if self._closing.is_set() or generation != self._generation:
            threading.Thread(target=_close, args=(producer, 0.0), daemon=True).start()
            return
        self._producer = producer
        self.problem = ""
        log.info("producer_ready", unacknowledged=len(self._pending))
        flying = set(self._flying.values())
        self._hand_over([record for record in self._pending if record not in flying])

    def _note(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            log.warning("kafka_not_ready", problem=problem)

    # In kafka-python's thread

    def _came(self, generation: int, record: Record, error: BaseException | None, _metadata: Any) -> None:
        self._outcomes.append((generation, record, error))
        if not self._woken:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending
                self._loop.call_soon_threadsafe(self._drain)

    def _failed(self, generation: int, record: Record, error: BaseException) -> None:
        self._came(generation, record, error, None)

    # In a thread of its own

    def _make(self, old: Any, generation: int) -> None:
        if old is not None:
            _close(old, 0.0)
        pause, longest = BACK_OFF_SECONDS
        while not self._closing.is_set():
            producer = None
            try:
                _reach(self._servers)
                producer = self._new_producer()
                for topic, partitions in self._topics.items():
                    _check_topic(producer, topic, partitions)
                # From here on `send` never waits: unknown metadata raises at once.
                producer.config["max_block_ms"] = 0
                self._call(self._adopt, producer, generation)
                return
            except (KafkaError, NotReady, OSError) as error:
                if producer is not None:
                    _close(producer, 0.0)
                said = str(error) if isinstance(error, NotReady) else f"cannot reach Kafka ({type(error).__name__})"
                self._call(self._note, said)
            except Exception as error:
                self._call(self._note, f"cannot make a producer ({type(error).__name__})")
            self._closing.wait(pause)
            pause = min(pause * 2, longest)

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)

    def _new_producer(self) -> Any:
        return KafkaProducer(
            bootstrap_servers=self._servers.split(","),
            client_id=self._client,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            compression_type=None,  # packets are compressed already
            max_request_size=RECORD_LIMIT,
            max_block_ms=int(METADATA_SECONDS * 1000),
            bootstrap_timeout_ms=int(METADATA_SECONDS * 1000),
            request_timeout_ms=int(self._request_timeout * 1000),
            delivery_timeout_ms=int(self._delivery_timeout * 1000),
            reconnect_backoff_max_ms=500,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )


@contextlib.contextmanager
def _asleep(producer: Any) -> Iterator[None]:
    """The producer's thread is woken when this ends, and not by each record; kafka-python has no way to say so."""
    sender = producer._sender
    wake, sender.wakeup = sender.wakeup, lambda: None
    try:
        yield
    finally:
        sender.wakeup = wake
        wake()


def _reach(servers: Iterable[str] | str) -> None:
    """Raises OSError unless one server accepts a connection: cheaper than a producer that fails to begin."""
    error: OSError = OSError("no server named")
    for server in servers.split(",") if isinstance(servers, str) else servers:
        host, _, port = server.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=METADATA_SECONDS).close()
            return
        except OSError as failed:
            error = failed
    raise error


def _leaders(producer: Any, topics: dict[str, int]) -> dict[Place, Address]:
    """The leader of every partition, as the producer knows it; {} while one is not known."""
    cluster, found = producer._metadata, {}
    for topic, partitions in topics.items():
        for number in range(partitions):
            leader = cluster.leader_for_partition(TopicPartition(topic, number))
            broker = None if leader in (None, -1) else cluster.broker_metadata(leader)
            if broker is None:
                return {}
            found[topic, number] = (str(broker.host), int(broker.port))
    return found


def _check_topic(producer: Any, topic: str, partitions: int) -> None:
    known = producer.partitions_for(topic) or set()
    if not known:
        raise NotReady(f"topic {topic} does not exist; `veilstream migrate` makes it")
    if not known.issuperset(range(partitions)):
        raise NotReady(f"topic {topic} has {len(known)} partitions, the setting says {partitions}")


def _close(producer: Any, seconds: float) -> None:
    try:
        producer.close(timeout=seconds)
    except Exception:
        # close() raises before it ends the thread when records are left; these are in good hands elsewhere.
        with contextlib.suppress(Exception):
            producer._sender.force_close()
