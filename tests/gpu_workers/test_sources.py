"""Videos that are fetched, by a real worker from real servers on this machine."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer

from infra import topics
from infra.service.settings import Settings
from infra.service.storage import Storage, storage
from schemas.topics import VIDEO_JOBS, VIDEO_RESULTS
from schemas.videos import Fetched, Job, Poster, Reason, State, deleted_key, encode, new_id, url_key
from tests.clips import small
from tests.services import Service
from tests.video_services import Told, media_worker, put, told
from tests.web import Server, answered, served

SECRET = "s3cret"


class Site:
    """A server of videos by path, which may be told to hold back."""

    def __init__(self, clip: bytes) -> None:
        self.clip = clip
        self.held = threading.Event()  # a request for /held.mp4 is under way
        self.released = threading.Event()
        self.away = 0  # answers of /away.mp4 that fail

    def handle(self, connection: socket.socket, request: bytes) -> None:
        path = request.split()[1].decode().partition("?")[0]
        if path == "/clip.mp4":
            answered(self.clip)(connection, request)
        elif path == "/moved.mp4":
            answered(status="302 Found", Location="/clip.mp4?a=b")(connection, request)
        elif path == "/inner.mp4":
            answered(status="302 Found", Location="http://169.254.169.254/")(connection, request)
        elif path == "/page.mp4":
            answered(b"<html>not a video</html>" * 100, Content_Type="video/mp4")(connection, request)
        elif path == "/away.mp4":
            self.away -= 1
            answer = answered(b"", "503 Away") if self.away >= 0 else answered(self.clip)
            answer(connection, request)
        elif path == "/held.mp4":
            connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(self.clip)}\r\n\r\n".encode())
            connection.sendall(self.clip[:1000])
            self.held.set()
            self.released.wait()
            connection.sendall(self.clip[1000:])
        elif path == "/large.mp4":
            answered(self.clip + bytes(1 << 20))(connection, request)
        else:
            answered(b"", "404 Not Found")(connection, request)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(small(tmp_path / "clip.mp4", seconds=2).read_bytes())


@pytest.fixture
def server(site: Site) -> Iterator[Server]:
    with served(site.handle) as running:
        yield running
        site.released.set()


@pytest.fixture
def settings(make_settings: Any, server: Server, site: Site) -> Settings:
    made: Settings = make_settings(
        video_partitions=1,
        video_attempts=2,
        video_retry_seconds="1,1,1",
        outbound_schemes="http",
        outbound_ports=str(server.port),
        video_fetch_bytes=len(site.clip) + 1000,
    )
    topics.ensure(made)
    return made


@pytest.fixture
def kept(settings: Settings) -> Storage:
    return storage(settings)


@pytest.fixture
def results(settings: Settings) -> Iterator[Told]:
    with told(settings) as reader:
        yield reader


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[Service]:
    """One that may fetch from this machine."""
    service = media_worker(settings, tmp_path)
    service.part = replace(service.part, command=(sys.executable, "-m", "tests.gpu_workers.local_worker"))
    yield service
    service.kill()


def ask(settings: Settings, url: str) -> str:
    """Puts a job of a URL on the log, as the API does."""
    now = int(time.time() * 1000)
    job = Job(new_id(now), 1, Fetched(), now, (Poster(width=160),))
    storage(settings).private.put(url_key(job.id), url.encode())
    put(settings, encode(job), job.id.encode())
    return job.id


def records(settings: Settings, topic: str) -> bytes:
    """All that is on a topic of one partition."""
    found = b""
    consumer: Any = KafkaConsumer(
        settings.topic(topic),
        bootstrap_servers=settings.kafka.split(","),
        group_id=None,
        auto_offset_reset="earliest",
        consumer_timeout_ms=2000,
    )
    for record in consumer:
        found += (record.key or b"") + record.value
    consumer.close()
    return found


def test_what_a_url_leads_to(
    settings: Settings, kept: Storage, server: Server, site: Site, worker: Service, results: Told
) -> None:
    base = f"http://127.0.0.1:{server.port}"
    site.away = 1
    wanted: dict[str, Reason | None] = {
        f"{base}/clip.mp4?signature={SECRET}": None,
        f"{base}/moved.mp4": None,
        f"{base}/away.mp4": None,  # at the second attempt
        f"{base}/none.mp4": Reason.FETCH_FAILED,
        f"{base}/page.mp4": Reason.UNSUPPORTED_FORMAT,
        f"{base}/large.mp4": Reason.TOO_LARGE,
        f"{base}/inner.mp4": Reason.ADDRESS_REFUSED,
        f"http://127.0.0.2:{server.port}/clip.mp4": Reason.ADDRESS_REFUSED,
        "http://127.0.0.1:1/clip.mp4": Reason.ADDRESS_REFUSED,
        f"http://none.invalid:{server.port}/": Reason.UNREACHABLE,
    }
    asked = {ask(settings, url): reason for url, reason in wanted.items()}
    lost = ask(settings, f"{base}/clip.mp4")
    kept.private.remove(url_key(lost))
    worker.start(wait=False)
    ended = (State.DONE, State.FAILED)
    results.wait(lambda told: all(told.of(job) and told.last(job).state in ended for job in (*asked, lost)))
    for job, reason in asked.items():
        assert results.last(job).reason == reason, (results.of(job), results.last(job).detail)
    retried = [job for job, reason in asked.items() if len(results.of(job)) > 2]
    assert retried == [list(asked)[2], list(asked)[9]]
    assert results.of(retried[0]) == ["running 1", "waiting 1", "running 2", "done 2"]
    assert results.last(lost).reason is Reason.NOT_FOUND
    assert worker.stop() == 0
    # Of the URL nothing is left, and it was nowhere else.
    assert list((settings.video_private / "urls").iterdir()) == []
    assert list(settings.video_scratch.iterdir()) == []
    for text in (worker.log.read_bytes(), records(settings, VIDEO_JOBS), records(settings, VIDEO_RESULTS)):
        for part in (SECRET, "clip.mp4", "signature", "127.0.0.1"):
            assert part.encode() not in text


def test_a_worker_that_is_killed_in_the_middle_of_a_fetch_loses_nothing(
    settings: Settings, server: Server, site: Site, worker: Service, results: Told
) -> None:
    job = ask(settings, f"http://127.0.0.1:{server.port}/held.mp4")
    worker.start(wait=False)
    assert site.held.wait(60)
    worker.kill()
    assert len(list(settings.video_scratch.iterdir())) == 1
    site.released.set()
    worker.start(wait=False)
    results.wait(lambda told: "done 2" in told.of(job))
    assert results.of(job) == ["running 1", "running 2", "done 2"]
    assert worker.stop() == 0
    assert list(settings.video_scratch.iterdir()) == []


def test_a_job_that_is_deleted_in_the_middle_of_a_fetch_ends(
    settings: Settings, kept: Storage, server: Server, site: Site, worker: Service, results: Told
) -> None:
    job = ask(settings, f"http://127.0.0.1:{server.port}/held.mp4")
    worker.start(wait=False)
    assert site.held.wait(60)
    kept.private.put(deleted_key(job), b"{}")
    results.wait(lambda told: "deleted 0" in told.of(job))
    assert kept.private.read(url_key(job)) is None
    after = ask(settings, f"http://127.0.0.1:{server.port}/clip.mp4")
    results.wait(lambda told: "done 1" in told.of(after))
    assert worker.stop() == 0


def test_the_worker_as_it_is_fetches_nothing_from_this_machine(
    settings: Settings, server: Server, results: Told, tmp_path: Path
) -> None:
    job = ask(settings, f"http://localhost:{server.port}/clip.mp4")
    worker = media_worker(settings, tmp_path, "unchanged")
    try:
        worker.start(wait=False)
        results.wait(lambda told: any(state.startswith("failed") for state in told.of(job)))
        assert results.last(job).reason is Reason.ADDRESS_REFUSED
        assert server.connections == 0
    finally:
        worker.kill()
