"""The processes of the video path as parts for `tests.services.Service`, and what they have told Kafka."""

from __future__ import annotations

import http.client
import json
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from kafka import KafkaConsumer, KafkaProducer

from infra.local.parts import Part, http_ready
from infra.local.ports import Port
from infra.service.settings import Settings
from schemas.topics import VIDEO_JOBS, VIDEO_JOBS_BATCH, VIDEO_RESULTS, WORKER_STATUS
from schemas.videos import (
    DEFAULT_OUTPUTS,
    InFolder,
    Job,
    Priority,
    Result,
    Wanted,
    WorkerStatus,
    decode_result,
    decode_status,
    encode,
    new_id,
)
from tests import video_contract
from tests.services import Service

LIMIT = 60.0  # seconds that a test waits for what must come


def media_worker(settings: Settings, folder: Path, name: str = "media-worker") -> Service:
    """A media worker, not started."""
    port = settings.video_worker_admin_port
    ready = partial(http_ready, settings.host, port, "/readyz")
    command = (sys.executable, "-m", "gpu_workers.worker")
    part = Part(name, name, command, (Port(settings.host, port, name, ""),), ready, start_limit=60, stop_limit=40)
    return Service(part, settings, folder / f"{name}.log")


def video_api(settings: Settings, folder: Path) -> Service:
    """A video API, not started."""
    port = settings.video_port
    ready = partial(http_ready, settings.host, port, "/readyz")
    command = (sys.executable, "-m", "ingest.videos")
    part = Part("videos", "videos", command, (Port(settings.host, port, "videos", ""),), ready, 60, 30)
    return Service(part, settings, folder / "videos.log")


@dataclass(frozen=True)
class Answer:
    """An answer of the video API; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: Any


class Api:
    """A client of the video API. Every answer is held against the API's description.

    `token`: by default the one that the installation has made for its first site; "" for none.
    """

    def __init__(self, settings: Settings, token: str | None = None) -> None:
        self.settings = settings
        self.token = settings.api_token.read_text().strip() if token is None else token

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | str | Iterable[bytes] | None = None,
        kind: str = "application/json",
        **headers: str,
    ) -> Answer:
        """One request on a connection of its own. `kind`: content type of the body; names of headers are written with
        underscores."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        if body is not None:
            sent["Content-Type"] = kind
        connection = http.client.HTTPConnection("127.0.0.1", self.settings.video_port, timeout=30)
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        found = {name.lower(): value for name, value in answer.getheaders()}
        video_contract.check(method, path, answer.status, found, content)
        is_json = found.get("content-type", "").partition(";")[0].endswith("json") and content
        return Answer(answer.status, found, json.loads(content) if is_json else content)

    def post(self, *, key: str | None = None, **asked: Any) -> Answer:
        """Asks for a job of a file in the folder; `key`: Idempotency-Key."""
        return self.ask("POST", "/v1/videos", json.dumps(asked), **({} if key is None else {"Idempotency_Key": key}))

    def upload(self, file: bytes, *, key: str | None = None, **asked: Any) -> Answer:
        """Asks for a job of an upload."""
        headers = {} if key is None else {"Idempotency_Key": key}
        return self.ask("POST", "/v1/videos", form(file=file, request=json.dumps(asked).encode()), FORM, **headers)

    def get(self, job: str) -> Answer:
        """Asks for a job's state."""
        return self.ask("GET", f"/v1/videos/{job}")

    def list(self, query: str = "") -> Answer:
        """Asks for a page of jobs."""
        return self.ask("GET", f"/v1/videos{query}")

    def delete(self, job: str) -> Answer:
        """Deletes a job."""
        return self.ask("DELETE", f"/v1/videos/{job}")


BOUNDARY = secrets.token_hex(16)
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def form(**parts: bytes) -> bytes:
    """A form as `multipart/form-data`."""
    found = b""
    for name, content in parts.items():
        file = '; filename="holiday.mp4"' if name == "file" else ""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        found += head.encode() + content + b"\r\n"
    return found + f"--{BOUNDARY}--\r\n".encode()


def show_threads() -> None:
    """Has the media workers of this test write to their logs where they are."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "gpu_workers.worker" in process.cmdline():
                process.send_signal(signal.SIGUSR1)
    time.sleep(0.5)


class Told:
    """Everything on `video.results` and `worker.status`, from the start."""

    def __init__(self, settings: Settings) -> None:
        self._results = settings.topic(VIDEO_RESULTS)
        self._consumer: Any = KafkaConsumer(
            self._results,
            settings.topic(WORKER_STATUS),
            bootstrap_servers=settings.kafka.split(","),
            auto_offset_reset="earliest",
            group_id=None,
            metadata_max_age_ms=1000,
        )
        self.results: list[Result] = []
        self.statuses: list[WorkerStatus] = []

    def wait(self, enough: Callable[[Told], bool], limit: float = LIMIT) -> None:
        """Reads on until there is enough; fails when it does not come."""
        deadline = time.monotonic() + limit
        while not enough(self):
            if time.monotonic() > deadline:
                show_threads()
                raise AssertionError(f"told so far: {self.results}")
            for partition, records in self._consumer.poll(timeout_ms=100).items():
                for record in records:
                    if partition.topic == self._results:
                        self.results.append(decode_result(record.value))
                    else:
                        self.statuses.append(decode_status(record.value))

    def of(self, job: str) -> list[str]:
        """The states of a job in the order in which they were told, as "running 1"; how far it was is left out."""
        return [
            f"{result.state} {result.attempt}" for result in self.results if result.job == job and not result.progress
        ]

    def last(self, job: str) -> Result:
        """What was told last of a job."""
        return next(result for result in reversed(self.results) if result.job == job)

    def close(self) -> None:
        self._consumer.close()


@contextmanager
def told(settings: Settings) -> Iterator[Told]:
    """A reader of what is told."""
    reader = Told(settings)
    try:
        yield reader
    finally:
        reader.close()


def ask(
    settings: Settings,
    path: Path,
    *outputs: Wanted,
    partition: int = 0,
    priority: Priority = Priority.INTERACTIVE,
) -> str:
    """Puts a job on the topic of its lane, as the API does, and returns its id."""
    now = int(time.time() * 1000)
    job = Job(new_id(now), 1, InFolder(str(path)), now, outputs or DEFAULT_OUTPUTS, priority)
    topic = VIDEO_JOBS if priority is Priority.INTERACTIVE else VIDEO_JOBS_BATCH
    put(settings, encode(job), job.id.encode(), partition, topic=topic)
    return job.id


def put(
    settings: Settings,
    value: bytes,
    key: bytes | None,
    partition: int = 0,
    headers: Sequence[tuple[str, bytes]] = (),
    topic: str = VIDEO_JOBS,
) -> None:
    """Puts any record on `video.jobs`, or another topic."""
    producer: Any = KafkaProducer(bootstrap_servers=settings.kafka.split(","), acks="all")
    producer.send(settings.topic(topic), value=value, key=key, partition=partition, headers=[*headers]).get(timeout=30)
    producer.close()
