"""Webhooks, from results on a real broker to real receivers on this machine."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaProducer

from infra import cli, sites, topics
from infra.service import webhook_secrets
from infra.service.outbound import Outbound
from infra.service.settings import Settings
from infra.service.storage import Storage, storage
from infra.service.webhook_secrets import SecretError
from ingest.videos.answers import video_of
from ingest.videos.webhooks import Hook, Webhooks, signature
from schemas.topics import VIDEO_RESULTS
from schemas.videos import Engine, Kind, Output, Reason, Result, Source, State, encode, new_id, webhook_key
from tests.services import Service
from tests.video_services import Api, video_api
from tests.web import Server, answered, served

LIMIT = 60.0  # seconds that a test waits for what must come


@pytest.fixture
def settings(make_settings: Any) -> Settings:
    made: Settings = make_settings(outbound_schemes="http", outbound_ports="1")
    topics.ensure(made)
    for site in (1, 2):
        webhook_secrets.add(made.webhook_secrets, site)
    return made


@pytest.fixture
def kept(settings: Settings) -> Storage:
    return storage(settings)


@contextmanager
def sending(settings: Settings, *servers: Server, hours: float = 1.0) -> Iterator[Webhooks]:
    """The sender, which may reach these servers."""
    ports = ",".join(str(server.port) for server in servers)
    changed = settings.model_copy(update={"outbound_ports": ports, "video_webhook_hours": hours})
    outbound = Outbound(changed, may=lambda address: str(address) == "127.0.0.1")
    webhooks = Webhooks(changed, storage(changed), outbound, back_off=(0.3,))
    webhooks.start()
    try:
        yield webhooks
    finally:
        webhooks.stop()


def asked(kept: Storage, url: str, site: int = 1) -> str:
    """A job that was asked for with a webhook."""
    job = new_id(int(time.time() * 1000))
    kept.private.put(webhook_key(job), msgspec.json.encode(Hook(url, site)))
    return job


def ended(job: str, state: State = State.DONE) -> Result:
    """What a media worker tells."""
    if state is not State.DONE:
        return Result(job, state, 1_790_000_000_123, 1_790_000_000_000, 1, reason=Reason.DAMAGED, detail="why", site=1)
    outputs = (Output(Kind.POSTER, f"{job}/poster-1280.jpg", 1280, 720, 1.5),)
    source = Source(1920, 1080, 60.0, 90, "h264", "yuv420p")
    at = 1_790_000_000_123
    return Result(job, state, at, at - 123, 1, "w", Engine.CPU, 0.25, source=source, outputs=outputs, site=1)


def tell(settings: Settings, *records: Result | bytes) -> None:
    """Puts records on `video.results`."""
    producer = KafkaProducer(bootstrap_servers=settings.kafka.split(","))
    try:
        for record in records:
            value = record if isinstance(record, bytes) else encode(record)
            producer.send(settings.topic(VIDEO_RESULTS), value)
        producer.flush()
    finally:
        producer.close()


def eventually(found: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not found():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)


def received(request: bytes) -> tuple[dict[str, str], bytes]:
    """Headers and body of a request."""
    head, _, body = request.partition(b"\r\n\r\n")
    lines = [line.partition(": ") for line in head.decode().split("\r\n")[1:]]
    return {name.lower(): value for name, _, value in lines}, body


def verified(settings: Settings, request: bytes, site: int = 1) -> Any:
    """The message of a request, verified as a receiver does who knows the site's newest secret alone."""
    headers, body = received(request)
    secret = (settings.webhook_secrets / str(site)).read_text().split()[0]
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body))
    wanted = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert wanted in headers["webhook-signature"].split(" ")
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < LIMIT
    return json.loads(body)


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of its libraries' own tests."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = signature([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_who_asked_is_told_and_nobody_else(settings: Settings, kept: Storage) -> None:
    with served(answered(status="204 No Content")) as server, sending(settings, server):
        url = f"http://127.0.0.1:{server.port}/hook?token=s3cret"
        done, failed, other = (asked(kept, url) for _ in range(3))
        results = ended(done), ended(failed, State.FAILED)
        running = Result(other, State.RUNNING, 1, 1, 1)
        deleted = Result(other, State.DELETED, 1, 1)
        tell(settings, ended(new_id(1)), b"\xff", running, deleted, *results, *results)
        eventually(lambda: server.connections == 2, "both are told")
        eventually(lambda: kept.private.read(webhook_key(done)) is None, "it is over")
        eventually(lambda: kept.private.read(webhook_key(failed)) is None, "it is over")
        messages = {body["data"]["id"]: body for body in (verified(settings, one) for one in server.requests)}
    for result, kind in zip(results, ("video.done", "video.failed"), strict=True):
        assert messages[result.job] == {
            "type": kind,
            "timestamp": "2026-09-21T14:13:20.123Z",
            "data": json.loads(msgspec.json.encode(video_of(result))),
        }
    assert kept.private.read(webhook_key(other)) is not None
    headers, _ = received(server.requests[0])
    assert set(headers) == {
        *("host", "user-agent", "connection", "content-length", "content-type"),
        *("webhook-id", "webhook-timestamp", "webhook-signature"),
    }


def test_what_is_not_taken_is_sent_again_as_the_same(settings: Settings, kept: Storage) -> None:
    answers = [answered(status="500 No"), answered(status="302 Found", Location="/x"), answered(status="404 No")]
    answers.append(lambda connection, _: None)  # no answer at all

    def handle(connection: socket.socket, request: bytes) -> None:
        answer = answers.pop(0) if answers else answered(status="200 OK")
        answer(connection, request)

    with served(handle) as server, sending(settings, server):
        job = asked(kept, f"http://127.0.0.1:{server.port}/")
        tell(settings, ended(job))
        eventually(lambda: kept.private.read(webhook_key(job)) is None, "it is taken")
        assert server.connections == 5
        found = [received(request) for request in server.requests]
        assert {headers["webhook-id"] for headers, _ in found} == {f"msg_{job}"}
        assert len({body for _, body in found}) == 1
        for request in server.requests:
            verified(settings, request)


def test_when_it_is_not_sent_again(settings: Settings, kept: Storage) -> None:
    """The receiver wants no more of it, it may not be reached, or the time is over."""
    with (
        served(answered(status="410 Gone")) as gone,
        served(answered(status="503 Away")) as away,
        served(answered(), "127.0.0.2") as inner,
        sending(settings, gone, away, inner, hours=2 / 3600),
    ):
        jobs = [asked(kept, f"http://{server.host}:{server.port}/") for server in (gone, away, inner)]
        tell(settings, *(ended(job) for job in jobs))
        eventually(lambda: all(kept.private.read(webhook_key(job)) is None for job in jobs), "all are over")
        assert (gone.connections, inner.connections) == (1, 0)
        assert away.connections > 1


def test_a_receiver_that_hangs_holds_nobody_else_up(settings: Settings, kept: Storage) -> None:
    released = threading.Event()

    def hang(connection: socket.socket, request: bytes) -> None:
        released.wait()
        answered()(connection, request)

    with served(hang) as slow, served(answered()) as quick, sending(settings, slow, quick):
        held = [asked(kept, f"http://127.0.0.1:{slow.port}/", site=1) for _ in range(20)]
        tell(settings, *(ended(job) for job in held))
        eventually(lambda: slow.connections > 0, "it hangs")
        prompt = [asked(kept, f"http://127.0.0.1:{quick.port}/", site=2) for _ in range(5)]
        tell(settings, *(ended(job) for job in prompt))
        eventually(lambda: all(kept.private.read(webhook_key(job)) is None for job in prompt), "the others are told")
        assert all(kept.private.read(webhook_key(job)) is not None for job in held)
        for request in quick.requests:
            assert verified(settings, request, site=2)["data"]["site"] == 2
        released.set()
        eventually(lambda: all(kept.private.read(webhook_key(job)) is None for job in held), "and it, in the end")


def test_secrets(settings: Settings, kept: Storage, tmp_path: Path) -> None:
    """Two live at a time; a site without one is told once it has."""
    folder = settings.webhook_secrets
    first = (folder / "1").read_text().split()
    second = webhook_secrets.add(folder, 1)
    assert (folder / "1").read_text().split() == [second, *first]
    assert (folder / "1").stat().st_mode & 0o777 == 0o600
    with served(answered()) as server, sending(settings, server):
        job = asked(kept, f"http://127.0.0.1:{server.port}/")
        late = asked(kept, f"http://127.0.0.1:{server.port}/", site=3)
        tell(settings, ended(job), ended(late))
        eventually(lambda: kept.private.read(webhook_key(job)) is None, "it is taken")
        headers, _ = received(server.requests[0])
        assert len(headers["webhook-signature"].split(" ")) == 2
        verified(settings, server.requests[0])
        assert server.connections == 1
        webhook_secrets.add(folder, 3)
        eventually(lambda: kept.private.read(webhook_key(late)) is None, "it is taken")
        verified(settings, server.requests[1], site=3)
    third = webhook_secrets.add(folder, 1)
    assert (folder / "1").read_text().split() == [third, second]
    assert webhook_secrets.remove(folder, 1)
    assert not webhook_secrets.remove(folder, 1)
    assert webhook_secrets.read(folder, 1) == []
    for text in ("whsec_short", "whsec_" + "!" * 40, "A" * 44, "whsec_é"):
        (folder / "1").write_text(text)
        with pytest.raises(SecretError, match="whsec_") as caught:
            webhook_secrets.read(folder, 1)
        assert "short" not in str(caught.value)


def test_the_command_makes_secrets(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sites.ensure_default(settings.sites)
    for name in [name for name in os.environ if name.startswith("VEILSTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("VEILSTREAM_STATE", str(settings.state))

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["sites", "webhook", *arguments])
        return int(str(ended.value.code)), capsys.readouterr().out.strip()

    status, secret = run("1")
    assert status == 0
    assert (settings.webhook_secrets / "1").read_text().split()[0] == secret
    assert run("9")[0] == 1
    assert run("1", "--remove")[0] == 0
    assert webhook_secrets.read(settings.webhook_secrets, 1) == []


@pytest.fixture
def local_api(installation: Settings, make_settings: Any, tmp_path: Path) -> Iterator[Service]:
    """An API whose webhooks may go to this machine's port 1 to begin with; not started."""
    (installation.videos).mkdir()
    (installation.videos / "a.mp4").write_bytes(b"x")
    service = video_api(installation, tmp_path)
    service.part = replace(service.part, command=(sys.executable, "-m", "tests.ingest.videos.local_api"))
    yield service
    service.kill()


def test_from_request_to_receiver_whatever_is_killed(local_api: Service, installation: Settings) -> None:
    taking = threading.Event()

    def handle(connection: socket.socket, request: bytes) -> None:
        answered(status="200 OK" if taking.is_set() else "503 Away")(connection, request)

    with served(handle) as server:
        local_api.settings = installation.model_copy(
            update={"outbound_schemes": "http", "outbound_ports": str(server.port)}
        )
        local_api.start()
        api, kept = Api(installation), storage(installation)
        url = f"http://127.0.0.1:{server.port}/?token=s3cret"
        webhook_secrets.remove(installation.webhook_secrets, 1)
        refused = api.post(path="a.mp4", webhook=url)
        assert refused.status == 422
        assert refused.body["errors"][0]["field"] == "webhook"
        assert "sites webhook 1" in refused.body["detail"]
        webhook_secrets.add(installation.webhook_secrets, 1)
        for other in (
            "http://127.0.0.2/",
            "ftp://127.0.0.1/",
            "http://u:p@127.0.0.1/",
            f"http://10.0.0.1:{server.port}/",
        ):
            assert api.post(path="a.mp4", webhook=other).body["errors"][0]["field"] == "webhook"
            assert api.upload(b"x", webhook=other).body["errors"][0]["field"] == "request.webhook"

        jobs = [api.post(path="a.mp4", webhook=url).body["id"], api.upload(b"x", webhook=url).body["id"]]
        gone = api.post(path="a.mp4", webhook=url).body["id"]
        assert api.delete(gone).status == 204
        tell(installation, ended(gone))
        tell(installation, ended(jobs[0]))
        eventually(lambda: server.connections > 1, "it is tried")
        local_api.kill()
        tell(installation, ended(jobs[1]))  # while nobody reads
        local_api.start()
        before = server.connections
        eventually(lambda: server.connections > before + 2, "it is tried again")
        local_api.kill()
        taking.set()
        local_api.start()
        eventually(lambda: all(kept.private.read(webhook_key(job)) is None for job in jobs), "both are taken")
        told = {verified(installation, request)["data"]["id"] for request in server.requests}
        assert told == set(jobs)
        assert local_api.stop() == 0
        assert "s3cret" not in local_api.log.read_text()
