"""Video jobs beside the events: one every few seconds, and at the end each that was accepted is done, once.

What became of a job is read from `video.results`, which the media worker writes before it lets go of the job.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import threading
import time
from collections import defaultdict
from dataclasses import asdict, dataclass

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from infra.service.settings import Settings
from schemas.topics import VIDEO_RESULTS

EVERY = 2.0  # seconds between two jobs
CLIP = "testsrc2=s=640x360:r=25:d=20"
NAME = "clip.mp4"


@dataclass(frozen=True, slots=True)
class VideoBooks:
    """jobs: accepted with 202. unknown: neither accepted nor refused. lost: accepted and not done, in whatever way.

    failed: told as failed. doubled: attempts that were told as done beyond a job's first.
    """

    jobs: int
    unknown: int
    done: int
    failed: int
    lost: int
    doubled: int

    @property
    def right(self) -> bool:
        """Each accepted job was done, and once."""
        return not (self.failed or self.lost or self.doubled)

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


class VideoLoad:
    """A thread that asks for jobs, between `start` and `stop`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._accepted: list[str] = []
        self._unknown = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def start(self) -> None:
        """Makes the video and begins."""
        self._settings.videos.mkdir(parents=True, exist_ok=True)
        command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", CLIP]
        encode = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-pix_fmt", "yuv420p"]
        subprocess.run([*command, *encode, str(self._settings.videos / NAME)], check=True)
        self._thread.start()

    def stop(self) -> None:
        """Asks for nothing more."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def settle(self, patience: float) -> VideoBooks:
        """The books once each accepted job has come to an end, or after `patience` seconds."""
        end = time.monotonic() + patience
        while True:
            books = self._balance()
            if not books.lost or time.monotonic() > end:
                return books
            time.sleep(1.0)

    def _send(self) -> None:
        token = self._settings.api_token.read_text().strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        while not self._ending.wait(EVERY):
            connection = http.client.HTTPConnection(self._settings.host, self._settings.video_port, timeout=15)
            try:
                connection.request("POST", "/v1/videos", json.dumps({"path": NAME}), headers)
                answer = connection.getresponse()
                body = answer.read()
                if answer.status == 202:
                    self._accepted.append(json.loads(body)["id"])
                else:
                    self._unknown += 1
            except (OSError, http.client.HTTPException):
                self._unknown += 1
            finally:
                connection.close()

    def _balance(self) -> VideoBooks:
        told = self._told()
        done = [len({attempt for state, attempt in told[job] if state == "done"}) for job in self._accepted]
        failed = [any(state == "failed" for state, _ in told[job]) for job in self._accepted]
        finished = sum(attempts > 0 for attempts in done)
        only_failed = sum(not attempts and bad for attempts, bad in zip(done, failed, strict=True))
        return VideoBooks(
            jobs=len(done),
            unknown=self._unknown,
            done=finished,
            failed=only_failed,
            lost=len(done) - finished - only_failed,
            doubled=sum(done) - finished,
        )

    def _told(self) -> dict[str, set[tuple[str, int]]]:
        """Of each job, the (state, attempt) pairs that were told."""
        told: dict[str, set[tuple[str, int]]] = defaultdict(set)
        topic = self._settings.topic(VIDEO_RESULTS)
        try:
            consumer = KafkaConsumer(bootstrap_servers=self._settings.kafka.split(","), group_id=None)
            try:
                places = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
                consumer.assign(places)
                consumer.seek_to_beginning(*places)
                ends = consumer.end_offsets(places)
                until = time.monotonic() + 10
                while any(consumer.position(place) < ends[place] for place in places) and time.monotonic() < until:
                    for records in consumer.poll(timeout_ms=200).values():
                        for record in records:
                            result = json.loads(record.value)
                            told[result["job"]].add((result["state"], result.get("attempt", 0)))
            finally:
                consumer.close()
        except KafkaError:
            pass  # asked again by `settle`
        return told
