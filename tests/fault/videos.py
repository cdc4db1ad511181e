"""Video jobs beside the events, and at the end each that was accepted is done, or dead with a reason, and once.

What became of a job is read from `video.results`, which the media worker writes before it lets go of the job; whether
its files are whole, from its folder.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import threading
import time
from collections import defaultdict
from dataclasses import asdict, dataclass

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from PIL import Image

from infra.service.settings import Settings
from schemas.topics import VIDEO_RESULTS
from schemas.videos import RECORD, decode_result
from tests.fault.decoder import orphans

EVERY, SOON = 2.0, 0.5  # seconds between two jobs
CLIP = "testsrc2=s=640x360:r=25:d=20"
NAME, DAMAGED = "clip.mp4", "damaged.mp4"
# What may happen to a good video where workers are killed again and again.
OF_FAULTS = frozenset({"worker_lost", "crashed", "quarantined"})


@dataclass(frozen=True, slots=True)
class VideoBooks:
    """jobs: accepted with 202. unknown: neither accepted nor refused. lost: accepted, and neither done nor failed.

    dead: told as failed as it must be, for it is damaged, or as it may be, for its workers were killed. failed: told as
    failed otherwise. doubled: attempts that were told as done beyond a job's first. half: jobs done whose files are not
    all there and whole, or that left drafts. orphans: decoders without a worker.
    """

    jobs: int
    unknown: int
    done: int
    failed: int
    lost: int
    doubled: int
    dead: int = 0
    half: int = 0
    orphans: int = 0

    @property
    def right(self) -> bool:
        """Each accepted job was done or is dead, and once, and left nothing else."""
        return not (self.failed or self.lost or self.doubled or self.half or self.orphans)

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


class VideoLoad:
    """A thread that asks for jobs, between `start` and `stop`. `many`: more of them, and every third one damaged."""

    def __init__(self, settings: Settings, *, many: bool = False) -> None:
        self._settings = settings
        self._many = many
        self._accepted: list[str] = []
        self._damaged: set[str] = set()
        self._unknown = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def start(self) -> None:
        """Makes the video and begins."""
        self._settings.videos.mkdir(parents=True, exist_ok=True)
        command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", CLIP]
        encode = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-pix_fmt", "yuv420p"]
        clip = self._settings.videos / NAME
        subprocess.run([*command, *encode, str(clip)], check=True)
        (self._settings.videos / DAMAGED).write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
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
        number = 0
        while not self._ending.wait(SOON if self._many else EVERY):
            number += 1
            name = DAMAGED if self._many and number % 3 == 0 else NAME
            connection = http.client.HTTPConnection(self._settings.host, self._settings.video_port, timeout=15)
            try:
                connection.request("POST", "/v1/videos", json.dumps({"path": name}), headers)
                answer = connection.getresponse()
                body = answer.read()
                if answer.status == 202:
                    self._accepted.append(json.loads(body)["id"])
                    if name == DAMAGED:
                        self._damaged.add(self._accepted[-1])
                else:
                    self._unknown += 1
            except (OSError, http.client.HTTPException):
                self._unknown += 1
            finally:
                connection.close()

    def _balance(self) -> VideoBooks:
        told = self._told()
        done = {job: len({n for state, n, _ in told[job] if state == "done"}) for job in self._accepted}
        reasons = {job: {reason for state, _, reason in told[job] if state == "failed"} for job in self._accepted}
        ended = [job for job in self._accepted if done[job] or reasons[job]]
        dead = [job for job in ended if not done[job] and reasons[job] <= self._expected(job)]
        finished = [job for job in ended if done[job] and job not in self._damaged]
        return VideoBooks(
            jobs=len(done),
            unknown=self._unknown,
            done=len(finished),
            failed=len(ended) - len(finished) - len(dead),
            lost=len(done) - len(ended),
            # A damaged one is told to have failed once, but for another attempt whose worker was killed after it.
            doubled=sum(done.values()) - sum(times > 0 for times in done.values()),
            dead=len(dead),
            half=sum(not self._whole(job) for job in finished),
            orphans=orphans(),
        )

    def _expected(self, job: str) -> frozenset[str]:
        if job in self._damaged:
            return OF_FAULTS | {"damaged"}
        return OF_FAULTS if self._many else frozenset()

    def _whole(self, job: str) -> bool:
        """Whether all files of a job that is done are there, can be read, and are all that there is."""
        folder = self._settings.thumbnails / job
        try:
            outputs = [
                output.path.rpartition("/")[2] for output in decode_result((folder / RECORD).read_bytes()).outputs
            ]
            for name in outputs:
                if name.endswith(".jpg"):
                    with Image.open(folder / name) as image:
                        image.load()
            return {path.name for path in folder.iterdir()} == {RECORD, *outputs}
        except (OSError, msgspec.DecodeError):
            return False

    def _told(self) -> dict[str, set[tuple[str, int, str]]]:
        """Of each job, the (state, attempt, reason) that were told."""
        told: dict[str, set[tuple[str, int, str]]] = defaultdict(set)
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
                            told[result["job"]].add(
                                (result["state"], result.get("attempt", 0), result.get("reason") or "")
                            )
            finally:
                consumer.close()
        except KafkaError:
            pass  # asked again by `settle`
        return told
