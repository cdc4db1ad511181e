"""The records of the video path: jobs, what became of them, and how the workers are.

A job on `video.jobs`, or on `video.jobs.batch` where it is not urgent, is one video and the list of outputs that are
wanted of it. What becomes of it is told on `video.results`, one record per change of state; a worker's heartbeat goes
to `worker.status`. All are JSON. A job's path stays on the topics of jobs: results, tables, logs and metrics know the
job by its id and its site alone.

Names of outputs depend on the job's id and the output wanted and on nothing else, so doing a job twice is doing it
once. Times are milliseconds since 1970 UTC where a name ends in `_ms`, else seconds.
"""

from __future__ import annotations

import secrets
import uuid
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from schemas.outputs import CONTENT_TYPES as CONTENT_TYPES
from schemas.outputs import DEFAULT_OUTPUTS as DEFAULT_OUTPUTS
from schemas.outputs import MOST_OUTPUTS as MOST_OUTPUTS
from schemas.outputs import Kind as Kind
from schemas.outputs import Output as Output
from schemas.outputs import Poster as Poster
from schemas.outputs import Storyboard as Storyboard
from schemas.outputs import Wanted as Wanted
from schemas.outputs import doubled as doubled

MOST_PATH = 4096  # characters


class State(StrEnum):
    """What a job can be, in this order; done and failed are final, but for deleted."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"  # an attempt failed in a way that may pass, and the next one is not due yet
    FAILED = "failed"
    DONE = "done"
    DELETED = "deleted"


class Reason(StrEnum):
    """Why a job failed; the closed list."""

    BAD_JOB = "bad_job"  # the record is not a job of this version
    NOT_FOUND = "not_found"
    NOT_ALLOWED = "not_allowed"  # outside the allowed folder, or not readable
    NOT_A_FILE = "not_a_file"  # a folder, a pipe, a device
    UNSUPPORTED_FORMAT = "unsupported_format"  # no container of the allow-list
    UNSUPPORTED_CODEC = "unsupported_codec"
    NO_VIDEO = "no_video"  # no video stream, or none with a size
    DAMAGED = "damaged"  # recognised, but no picture can be decoded
    TOO_LARGE = "too_large"  # bytes
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_MANY_STREAMS = "too_many_streams"
    TOO_LONG = "too_long"  # seconds of video
    TIME_LIMIT = "time_limit"  # the job took longer than it may
    MEMORY_LIMIT = "memory_limit"
    CRASHED = "crashed"  # the decoder's process died
    QUARANTINED = "quarantined"  # it died by two engines
    WORKER_LOST = "worker_lost"  # the worker itself died in every attempt
    ADDRESS_REFUSED = "address_refused"  # the URL leads to where nothing is fetched from
    FETCH_FAILED = "fetch_failed"  # the URL's server answers, but gives no file
    UNREACHABLE = "unreachable"  # the URL's server cannot be reached, fails or breaks off
    STORAGE = "storage"  # the outputs could not be written
    INTERNAL_ERROR = "internal_error"


# What another attempt may mend. All else is a property of the input.
RETRIED = frozenset({Reason.TIME_LIMIT, Reason.CRASHED, Reason.UNREACHABLE, Reason.STORAGE, Reason.INTERNAL_ERROR})


class Priority(StrEnum):
    """The lane of a job. Interactive ones are taken first; those of batch have a share, so that none waits for ever."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


class Engine(StrEnum):
    """What made the outputs."""

    CPU = "cpu"  # in process
    CUDA = "cuda"  # in process, decoded by the GPU
    CUDA_CLI = "cuda-cli"  # ffmpeg's command line, decoded and scaled by the GPU
    CPU_CLI = "cpu-cli"  # ffmpeg's command line without a GPU


class InFolder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="from", tag="folder"):
    """A file in the folder of videos; `path` is absolute, with links resolved."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_PATH)]


class Uploaded(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="from", tag="upload"):
    """What was uploaded for this job and lies in the storage under `upload_key`."""


class Fetched(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="from", tag="url"):
    """What a URL leads to. The URL, which may hold secrets, lies in the storage under `url_key` until the job has
    ended, and nowhere else."""


Origin = InFolder | Uploaded | Fetched


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The record on the topic of its lane; its key is the id, its header SITE_HEADER the site's number, also for those
    who cannot read the rest. What earlier attempts have left is in a header too (`schemas.attempts`). `bytes`: of the
    source, 0 where they were not known when it was asked for."""

    id: str
    site: Annotated[int, msgspec.Meta(ge=0)]
    origin: Origin
    queued_ms: int
    outputs: Annotated[tuple[Wanted, ...], msgspec.Meta(min_length=1, max_length=MOST_OUTPUTS)] = DEFAULT_OUTPUTS
    priority: Priority = Priority.INTERACTIVE
    bytes: int = 0


class Source(msgspec.Struct, frozen=True):
    """The video as it lies in the file: size in its own pixels, before it is turned. `rotation`: degrees
    counter-clockwise by which a player turns it, as ffprobe tells them; `duration`: 0 when it is not known; `bytes`: of
    the file, 0 from workers of the time before."""

    width: int
    height: int
    duration: float
    rotation: int
    codec: str
    pixel_format: str
    bytes: int = 0


class Result(msgspec.Struct, frozen=True):
    """The record on `video.results`; its key is the job's id. `attempt` counts from 1; 0 while queued.

    `detail` says in our own words, never in the input's, what `reason` alone does not. `seconds` is the work's time.
    `site`: 0 where the job could not be read. `due_ms`: when the next attempt may begin, of a job that waits for one.
    `priority`: None where it is not known to who tells it. `progress`: the share of the presentation time that a job
    which is running has decoded, 0 to 1, and `making` the kind of output it is at; each is told as `running` again.
    """

    job: str
    state: State
    at_ms: int
    queued_ms: int
    attempt: int = 0
    worker: str = ""
    engine: Engine | None = None
    seconds: float = 0.0
    reason: Reason | None = None
    detail: str = ""
    source: Source | None = None
    outputs: tuple[Output, ...] = ()
    site: int = 0
    priority: Priority | None = None
    due_ms: int = 0
    progress: float = 0.0
    making: str = ""


class DeadLetter(msgspec.Struct, frozen=True):
    """The record on `video.dead`; its key is the job's id: a job as it was asked for, and how it failed. `engine`: that
    of the last attempt, None where it was left to the router; `tail`: the last words of ffmpeg, where it was that."""

    job: Job
    result: Result
    engine: Engine | None = None
    tail: str = ""


class WorkerState(StrEnum):
    """What a worker does."""

    STARTING = "starting"
    IDLE = "idle"
    WORKING = "working"
    DRAINING = "draining"
    STOPPED = "stopped"


class NvmlState(StrEnum):
    """Whether the GPUs' state can be read. Only ERROR and LOST are trouble; no GPU is a state like others."""

    OK = "ok"
    NO_LIBRARY = "no_library"  # the driver's library is not installed
    NO_DRIVER = "no_driver"  # it is, but the driver is not loaded
    NO_DEVICE = "no_device"
    LOST = "lost"  # a GPU fell off the bus
    ERROR = "error"


class Gpu(msgspec.Struct, frozen=True):
    """One GPU at one moment; None where the device does not say. Percentages are 0 to 100, memory is bytes."""

    index: int
    uuid: str
    name: str
    utilisation: float | None = None
    decoder: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    temperature: float | None = None
    power: float | None = None  # watts
    throttled: int | None = None  # bits of the clocks' event reasons
    encoder: float | None = None
    jpeg: float | None = None
    power_limit: float | None = None  # watts
    sm_clock: int | None = None  # MHz
    memory_clock: int | None = None  # MHz
    video_clock: int | None = None  # MHz
    ecc_corrected: int | None = None  # errors since the driver was loaded
    ecc_uncorrected: int | None = None
    remapped_rows: int | None = None  # rows of memory that were replaced for errors
    remap_pending: bool | None = None  # whether more of them wait for a reset
    mig: bool | None = None  # whether it is divided into instances (Multi-Instance GPU)


class WorkerStatus(msgspec.Struct, frozen=True):
    """The record on `worker.status`; its key is the worker's id. Counts are since the worker's start."""

    worker: str
    at_ms: int
    started_ms: int
    state: WorkerState
    done: int = 0
    failed: int = 0
    job_seconds: float = 0.0  # age of the job under way, 0 without one
    nvml: NvmlState = NvmlState.NO_LIBRARY
    driver: str = ""
    gpus: tuple[Gpu, ...] = ()


# What the stream worker writes; the order is the order of the SQL in schemas/migrations.
def new_id(now_ms: int) -> str:
    """A job's id: a UUID of version 7 (RFC 9562), so that ids made later sort later."""
    bits = (now_ms & (1 << 48) - 1) << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=bits))


def is_id(text: str) -> bool:
    """Whether a text is a job's id as `new_id` writes it, and so safe as the name of a folder."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def encode(record: Job | Result | DeadLetter | WorkerStatus) -> bytes:
    """The record's value."""
    return msgspec.json.encode(record)


_job: msgspec.json.Decoder[Job] = msgspec.json.Decoder(Job)
_result: msgspec.json.Decoder[Result] = msgspec.json.Decoder(Result)
_status: msgspec.json.Decoder[WorkerStatus] = msgspec.json.Decoder(WorkerStatus)


def decode_job(value: bytes) -> Job:
    """The job; raises msgspec.DecodeError on anything else, an id that is none and doubled outputs included."""
    job = _job.decode(value)
    if not is_id(job.id):
        raise msgspec.ValidationError("the job's id is not a UUID - at `$.id`")
    if (number := doubled(job.outputs)) is not None:
        raise msgspec.ValidationError(f"the output is wanted twice - at `$.outputs[{number}]`")
    return job


def decode_result(value: bytes) -> Result:
    """The result; raises msgspec.DecodeError on anything else."""
    return _result.decode(value)


def decode_status(value: bytes) -> WorkerStatus:
    """The heartbeat; raises msgspec.DecodeError on anything else."""
    return _status.decode(value)


def plain(record: msgspec.Struct) -> Any:
    """A record as plain values, for JSON that people and programs read."""
    return msgspec.to_builtins(record)


# Which of a job's rows in `video_jobs` tells its state: ORDER BY this, LIMIT 1. Deleted stays deleted and done stays
# done, whatever a late second delivery of the job begins afterwards; else the latest attempt counts, and in it the
# latest state.
CURRENT_FIRST = (
    f"state = '{State.DELETED}' DESC, state = '{State.DONE}' DESC, attempt DESC,"
    " indexOf(['queued', 'running', 'waiting', 'failed'], toString(state)) DESC"
)

SITE_HEADER = "site"
LANE_HEADER = "lane"  # of a job that waits: the value of its priority
RECORD = "result.json"  # beside a job's outputs, written last: the result that told them


# Where things of a job lie in the two parts of the storage: outputs, which may be served to others, and the rest.


def output_key(job: str, file: str = "") -> str:
    """A file among the outputs; without a name the prefix of them all."""
    return f"{job}/{file}"


def upload_key(job: str) -> str:
    """The video that was uploaded for a job."""
    return f"uploads/{job}"


def url_key(job: str) -> str:
    """The URL that a job's video is fetched from."""
    return f"urls/{job}"


def webhook_key(job: str) -> str:
    """Who is to be told when a job has ended, and what, until that is done."""
    return f"webhooks/{job}"


def request_key(digest: str) -> str:
    """What a request with this idempotency key has become."""
    return f"requests/{digest}"


ATTEMPT_KEYS = "attempts/"


def attempt_key(job: str, attempt: int) -> str:
    """Which record of a job that has waited after this attempt is the one that is worked on."""
    return f"{ATTEMPT_KEYS}{job}-{attempt}"


def deleted_key(job: str) -> str:
    """Says that a job was deleted, as long as the log may hold it."""
    return f"deleted/{job}"
