"""A collector under load from outside: clients that number what they send, its admin port, and what is in the log."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from kafka import KafkaConsumer, TopicPartition

from infra.service.settings import Settings
from schemas import parameters
from schemas.packets import Columns, Event, Header, decode
from schemas.topics import EVENTS_RAW
from tests.opening import opener_of

SITES = (1, 2, 3, 4, 5)
SECONDS = 60.0  # longest wait of a test for anything


@dataclass
class Log:
    """All that is in events.raw: packets by writer and partition in the order of the log."""

    packets: dict[tuple[int, int], list[tuple[Header, Columns]]] = field(default_factory=lambda: defaultdict(list))

    def events(self) -> list[Event]:
        """The events of the first copy of every packet."""
        found = []
        for packets in self.packets.values():
            seen = set()
            for head, columns in packets:
                if head.seq not in seen:
                    seen.add(head.seq)
                    found += [columns.event(i) for i in range(head.count)]
        return found

    def numbers(self) -> list[str]:
        """The unique numbers of the events."""
        return [parameters.parse(event.query).get("n", "") for event in self.events()]

    def once(self) -> set[str]:
        """The numbers, each of which is there once, under names as they should be."""
        self.check_names()
        numbers = self.numbers()
        assert len(numbers) == len(set(numbers))
        return set(numbers)

    def check_names(self) -> None:
        """First copies come in rising `seq` without gaps."""
        for (writer, partition), packets in self.packets.items():
            first: list[int] = []
            for head, _ in packets:
                if head.seq not in first:
                    first.append(head.seq)
            assert first == list(range(len(first))), f"writer {writer}, partition {partition}: {first}"


def records(settings: Settings, topic: str) -> list[tuple[int, bytes | None, bytes]]:
    """(partition, key, value) of everything in a topic now."""
    name = settings.topic(topic)
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka, enable_auto_commit=False, check_crcs=False)
    try:
        partitions = [TopicPartition(name, number) for number in consumer.partitions_for_topic(name)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        found = []
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            for batch in consumer.poll(timeout_ms=500).values():
                found += [(record.partition, record.key, record.value) for record in batch]
        return found
    finally:
        consumer.close()


def read_log(settings: Settings) -> Log:
    log = Log()
    opener = opener_of(settings)
    for partition, _, value in records(settings, EVENTS_RAW):
        head, columns = decode(value, opener, partition)
        assert head.seal
        log.packets[head.writer, partition].append((head, columns))
    return log


class Senders:
    """Clients that send numbered events, one at a time each, and note what became of every number."""

    def __init__(self, settings: Settings, clients: int = 8) -> None:
        self.acknowledged: set[str] = set()
        self.unknown: set[str] = set()
        self._settings = settings
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def have(self, count: int) -> bool:
        """Whether more than `count` events were acknowledged."""
        return len(self.acknowledged) > count

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(SECONDS)
            assert not thread.is_alive()

    def _run(self, client: int) -> None:
        connection: http.client.HTTPConnection | None = None
        count = 0
        while not self._stop.is_set():
            number = f"{client}-{count}"
            count += 1
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self._settings.collector_port, timeout=SECONDS)
                site = SITES[count % len(SITES)]
                connection.request("GET", f"/matomo.php?idsite={site}&rec=1&send_image=0&n={number}")
                answer = connection.getresponse()
                status = answer.status
                answer.read()  # or the connection is not used again
            except ConnectionRefusedError:
                connection = None
                time.sleep(0.05)
            except (OSError, http.client.HTTPException):
                self.unknown.add(number)
                connection = None
            else:
                assert status in (204, 503)
                (self.acknowledged if status == 204 else self.unknown).add(number)


def wait(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def ask(settings: Settings, method: str, target: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", settings.collector_port, timeout=SECONDS)
    try:
        connection.request(method, target, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def admin(settings: Settings, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", settings.collector_admin_port, timeout=SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def admin_answers(settings: Settings) -> bool:
    """Whether the process has come so far that it answers."""
    with contextlib.suppress(OSError):
        return admin(settings, "/livez")[0] == 200
    return False


def metric(settings: Settings, name: str) -> float:
    """A metric without labels."""
    (line,) = [line for line in admin(settings, "/metrics")[1].splitlines() if line.startswith(f"veilstream_{name} ")]
    return float(line.split()[1])


def drained(settings: Settings) -> bool:
    """Whether the spool is empty, and its files are gone."""
    files = [path for folder in settings.spool.iterdir() for path in folder.glob("*.segment")]
    return metric(settings, "collector_spool_packets") == 0 and not files
