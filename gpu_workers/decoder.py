"""`python -m gpu_workers.decoder`: the process that touches hostile input, one task after another.

It is started by `gpu_workers.supervisor`, knows no password and no address, and reads tasks as JSON lines from standard
input; its answers, how far it is, and what it needs of a file in parts, are JSON lines on standard output. It lives
under limits of memory, CPU time and file size, and dies with its parent. When it dies itself, one task failed and
nothing else.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import sys
from typing import BinaryIO

# Else it comes with the first file, when there may be no memory left to load it.
import av.subtitles.stream  # noqa: F401
import msgspec

from gpu_workers.failures import Failure
from gpu_workers.parts import Fetch, Needs
from gpu_workers.progress import Tell
from gpu_workers.thumbnails import Made, Task, make
from infra.service.logs import describe
from schemas.videos import Reason

PR_SET_PDEATHSIG = 1
LARGEST_OUTPUT = 256 << 20  # bytes of one file
OPEN_FILES = 64


class Request(msgspec.Struct, frozen=True):
    """A task and its limit of CPU time, in seconds."""

    task: Task
    cpu_seconds: float


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """Either `made` or a reason; `tail` as in Failure. `trace` says where an error that was not foreseen came from,
    without its message."""

    made: Made | None = None
    reason: Reason | None = None
    detail: str = ""
    trace: tuple[str, ...] = ()
    tail: str = ""


class Filled(msgspec.Struct, frozen=True):
    """What was needed (`parts.Needs`) is in the file; with a reason: it is not, and never will be."""

    reason: Reason | None = None
    detail: str = ""


class Ready(msgspec.Struct, frozen=True):
    """The first line: the process waits for tasks."""

    pid: int


def answer(request: Request, tell: Tell, fetch: Fetch | None = None) -> Answer:
    """Does a task and tells how far it is; whatever goes wrong is an answer. `fetch`: for a file in parts."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime + request.cpu_seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
    try:
        return Answer(made=make(request.task, tell, fetch))
    except Failure as failure:
        return Answer(reason=failure.reason, detail=failure.detail, tail=failure.tail)
    except MemoryError:
        return Answer(reason=Reason.MEMORY_LIMIT, detail="there is not enough memory for it")
    except Exception as error:
        fields = describe(error)
        return Answer(
            reason=Reason.INTERNAL_ERROR,
            detail=f"an error that was not foreseen: {fields['error']}",
            trace=tuple(fields["trace"]),
        )


def confine(memory: int, parent: int, limit: str) -> None:
    """Puts this process under its limits; `memory` is bytes of address space, or of data (`limit`)."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we said so
        sys.exit(1)
    os.setsid()  # a terminal's Ctrl-C is the parent's affair
    resource.setrlimit(resource.RLIMIT_DATA if limit == "data" else resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_OUTPUT, LARGEST_OUTPUT))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # too large a file is an error of the write


def serve(tasks: BinaryIO, answers: BinaryIO) -> None:
    """Answers tasks until there are no more."""

    def say(message: msgspec.Struct) -> None:
        answers.write(msgspec.json.encode(message) + b"\n")
        answers.flush()

    def fetch(first: int, last: int) -> None:
        say(Needs(first, last))
        said = filled(tasks.readline())
        if said.reason is not None:
            raise Failure(said.reason, said.detail)

    decode = msgspec.json.Decoder(Request).decode
    filled = msgspec.json.Decoder(Filled).decode
    say(Ready(os.getpid()))
    for line in tasks:
        say(answer(decode(line), say, fetch))
        gc.collect()


def main() -> None:
    """Arguments: bytes of memory, the parent's pid, "space" or "data"."""
    memory, parent = (int(argument) for argument in sys.argv[1:3])
    confine(memory, parent, sys.argv[3])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
