"""The video API as a process, on the real broker and the real engine."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from infra.local.stack import Stack
from infra.service.settings import Settings
from ingest.videos.requests import LONGEST_BODY
from schemas.topics import VIDEO_JOBS
from schemas.videos import Job, State, Storyboard, decode_job, new_id
from tests.services import Service, Services
from tests.video_services import Answer, Api, told, video_api

LIMIT = 60.0  # seconds that a test waits for what must come


@pytest.fixture
def service(installation: Settings, services: Services) -> Service:
    """A running API with one file in its folder."""
    installation.videos.mkdir()
    (installation.videos / "a.mp4").write_bytes(b"not looked into here")
    return services.start("videos", installation)


@pytest.fixture
def api(service: Service) -> Api:
    """A client of it."""
    return Api(service.settings)


def jobs(settings: Settings) -> list[Job]:
    """All that is on `video.jobs`."""
    consumer: Any = KafkaConsumer(bootstrap_servers=settings.kafka.split(","), group_id=None)
    try:
        topic = settings.topic(VIDEO_JOBS)
        places = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        ends = consumer.end_offsets(places)
        found = []
        while any(consumer.position(place) < ends[place] for place in places):
            for records in consumer.poll(timeout_ms=100).values():
                found += [decode_job(record.value) for record in records]
        return found
    finally:
        consumer.close()


def eventually(found: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not found():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.1)


def is_problem(answer: Answer, status: int) -> bool:
    """Whether an answer is an error as RFC 9457 has it, and says something."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.body["status"] == status
    assert answer.body["title"]
    return bool(answer.body["detail"])


def test_a_job_that_is_accepted_is_on_the_log(api: Api, service: Service) -> None:
    answer = api.post(path="a.mp4", outputs=[{"kind": "storyboard", "width": 64, "tiles": 4}])
    assert answer.status == 202
    (job,) = jobs(api.settings)
    assert answer.body == {"id": job.id, "state": State.QUEUED, "url": f"/v1/videos/{job.id}"}
    assert answer.headers["location"] == f"/v1/videos/{job.id}"
    assert job.path == str((api.settings.videos / "a.mp4").resolve())
    assert job.outputs == (Storyboard(width=64, tiles=4),)
    with told(api.settings) as results:
        results.wait(lambda told: told.of(job.id) == ["queued 0"])
    # No stream worker runs here, so the table does not know it yet.
    state = api.get(job.id)
    assert (state.status, state.body["state"], state.body["outputs"]) == (200, State.QUEUED, [])
    assert state.headers["cache-control"] == "no-store"
    assert service.stop() == 0
    assert "a.mp4" not in service.log.read_text()


def test_what_is_refused(api: Api, tmp_path: Path) -> None:
    (tmp_path / "outside.mp4").write_bytes(b"x")
    (api.settings.videos / "escape.mp4").symlink_to(tmp_path / "outside.mp4")
    assert is_problem(api.ask("POST", "/v1/videos", "{"), 400)
    assert is_problem(api.ask("POST", "/v1/videos"), 400)
    assert is_problem(api.post(), 422)
    for path in ("escape.mp4", "../outside.mp4", str(tmp_path / "outside.mp4"), "none.mp4"):
        answer = api.post(path=path)
        assert is_problem(answer, 422)
        assert answer.body["errors"] == [{"field": "path", "detail": answer.body["detail"]}]
    answer = api.post(path="a.mp4", outputs=[{"kind": "poster"}, {"kind": "poster", "width": 1}])
    assert is_problem(answer, 422)
    assert answer.body["errors"][0]["field"] == "outputs[1].width"
    assert is_problem(api.ask("POST", "/v1/videos", b" " * (LONGEST_BODY + 1)), 413)
    for job in (new_id(1), "nothing", "01A215A2-4F01-7CF8-9CA9-DAC3CB8FA240", "%27%20OR%201%3D1", "../../etc/passwd"):
        assert is_problem(api.get(job), 404)
    assert is_problem(api.ask("GET", "/v1/nothing"), 404)
    answer = api.ask("DELETE", "/v1/videos")
    assert is_problem(answer, 405)
    assert answer.headers["allow"] == "POST"
    assert jobs(api.settings) == []
    assert api.post(path="a.mp4").status == 202  # nothing of this has hurt it


def test_the_answer_waits_for_the_broker(api: Api, stack: Stack) -> None:
    assert api.post(path="a.mp4").status == 202  # so that the producer has no other reason to wait
    answers: list[Answer] = []
    sender = threading.Thread(target=lambda: answers.append(api.post(path="a.mp4")))
    stack.kill("kafka", signal.SIGSTOP)
    try:
        sender.start()
        sender.join(2.0)
        assert answers == []
    finally:
        stack.kill("kafka", signal.SIGCONT)
    sender.join()
    assert [answer.status for answer in answers] == [202]
    assert answers[0].body["id"] in {job.id for job in jobs(api.settings)}


def test_what_is_away_is_said(api: Api, stack: Stack) -> None:
    """Broker and engine away in turn: 503 and when to come again, for that alone which needs it."""
    stack.stop_part("front")
    answer = api.post(path="a.mp4")
    assert answer.status == 202
    state = api.get(answer.body["id"])
    assert is_problem(state, 503)
    assert int(state.headers["retry-after"]) > 0
    stack.start_part("front")
    eventually(lambda: api.get(answer.body["id"]).status == 200, "the states can be read again")

    stack.stop_part("kafka")
    refused = api.post(path="a.mp4")
    assert is_problem(refused, 503)
    assert int(refused.headers["retry-after"]) > 0
    eventually(lambda: api.ask("GET", "/readyz").status == 503, "it is not ready")
    assert api.ask("GET", "/livez").status == 200
    assert api.get(answer.body["id"]).status == 200
    stack.start_part("kafka")
    eventually(lambda: api.ask("GET", "/readyz").status == 200, "it is ready again")
    assert api.post(path="a.mp4").status == 202


def test_a_start_without_a_broker(installation: Settings, stack: Stack, tmp_path: Path) -> None:
    stack.stop_part("kafka")
    service = video_api(installation, tmp_path)
    api = Api(installation)
    try:
        service.start(wait=False)
        (installation.videos).mkdir(exist_ok=True)
        (installation.videos / "a.mp4").write_bytes(b"x")

        def refused() -> bool:
            try:
                return is_problem(api.post(path="a.mp4"), 503)
            except OSError:  # the process has just begun
                return False

        eventually(refused, "it answers")
        stack.start_part("kafka")
        service.wait_ready()
        assert api.post(path="a.mp4").status == 202
        assert service.stop() == 0
    finally:
        service.kill()
