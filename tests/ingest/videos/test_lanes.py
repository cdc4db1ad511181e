"""The lane of a job, and what the API tells of one that is on its way, on the real broker and the real engine."""

from __future__ import annotations

import time

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from infra.migrate import open_database
from infra.service.settings import Settings
from schemas.topics import VIDEO_JOBS, VIDEO_JOBS_BATCH, VIDEO_RESULTS
from schemas.videos import Job, Priority, Reason, Result, State, decode_job, encode
from tests.conftest import Starter
from tests.ingest.videos.test_api import eventually, is_problem
from tests.services import Services
from tests.video_services import Api


def on(settings: Settings, name: str) -> list[Job]:
    """The jobs of a topic."""
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka.split(","), group_id=None)
    try:
        topic = settings.topic(name)
        places = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        ends, found = consumer.end_offsets(places), []
        while any(consumer.position(place) < ends[place] for place in places):
            for records in consumer.poll(timeout_ms=100).values():
                found += [decode_job(record.value) for record in records]
        return found
    finally:
        consumer.close()


def tell(settings: Settings, *results: Result) -> None:
    """As a media worker does."""
    producer = KafkaProducer(bootstrap_servers=settings.kafka.split(","))
    for result in results:
        producer.send(settings.topic(VIDEO_RESULTS), value=encode(result), key=result.job.encode())
    producer.close()


def test_a_job_goes_to_its_lane_and_its_way_is_told(
    installation: Settings, services: Services, start_worker: Starter
) -> None:
    installation.videos.mkdir()
    (installation.videos / "a.mp4").write_bytes(b"not looked into here")
    services.start("videos", installation)
    api = Api(installation)
    assert is_problem(api.post(path="a.mp4", priority="soon"), 422, "priority")
    urgent = api.post(path="a.mp4").body["id"]
    patient = api.post(path="a.mp4", priority="batch").body["id"]
    uploaded = api.upload(b"x", priority="batch").body["id"]
    assert [(job.id, job.priority) for job in on(installation, VIDEO_JOBS)] == [(urgent, Priority.INTERACTIVE)]
    assert {job.id for job in on(installation, VIDEO_JOBS_BATCH)} == {patient, uploaded}
    assert [api.get(job).body["priority"] for job in (urgent, patient)] == ["interactive", "batch"]

    start_worker(installation)
    now = int(time.time() * 1000)
    waits = Result(
        patient,
        State.WAITING,
        now,
        now,
        1,
        reason=Reason.STORAGE,
        detail="why",
        site=1,
        priority=Priority.BATCH,
        due_ms=1_790_000_000_123,
    )
    running = msgspec.structs.replace(waits, state=State.RUNNING, reason=None, detail="", due_ms=0)
    tell(installation, waits, running)  # whichever comes first
    eventually(lambda: api.get(patient).body["state"] == "waiting", "it waits")
    told = api.get(patient).body
    assert (told["reason"], told["retry_at"]) == ("storage", "2026-09-21T14:13:20.123Z")
    assert told["priority"] == "batch"
    assert [video["id"] for video in api.list("?state=waiting").body["videos"]] == [patient]
    tell(installation, msgspec.structs.replace(running, attempt=2))
    eventually(lambda: api.get(patient).body["state"] == "running", "it is tried again")
    told = api.get(patient).body
    assert "retry_at" not in told
    assert (told["progress"], "making" in told) == (0.0, False)

    # How far it is takes one row, and never the place of its end, whenever it comes.
    again = msgspec.structs.replace(running, attempt=2)
    shares = [msgspec.structs.replace(again, at_ms=now + n, progress=n / 10, making="storyboard") for n in range(1, 10)]
    tell(installation, *shares)
    eventually(lambda: api.get(patient).body["progress"] == 0.9, "it goes on")
    assert api.get(patient).body["making"] == "storyboard"
    tell(installation, msgspec.structs.replace(again, state=State.FAILED, at_ms=now, reason=Reason.DAMAGED), *shares)
    eventually(lambda: api.get(patient).body["state"] == "failed", "it has ended")
    assert "progress" not in api.get(patient).body
    with open_database(installation) as client:
        rows = client.query(
            "SELECT toString(state), attempt, progress FROM video_jobs FINAL WHERE attempt = 2 ORDER BY 1"
        )
        assert rows.result_rows == [("failed", 2, 0.0), ("running", 2, 0.9)]
