"""The decoder's keeper: hands it tasks, holds it to its time, and starts a new one when it dies.

Starting one costs a third of a second, so it lives for many tasks.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TypeVar

import msgspec

from gpu_workers.decoder import Answer, Filled, Ready, Request
from gpu_workers.failures import Failure
from gpu_workers.parts import Fetch, Needs
from gpu_workers.progress import Progress, Tell, nobody
from gpu_workers.thumbnails import Made, Task
from infra.service.logs import logger
from schemas.videos import Reason

log = logger(__name__)

TOP = Path(__file__).parents[1]
# Of the environment. A driver compiles the filters of FFmpeg anew in every process unless it may keep them.
KEPT = (
    *("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV"),
    *("CUDA_CACHE_PATH", "CUDA_VISIBLE_DEVICES"),
)
START_SECONDS = 60.0
TASKS = 500  # after which a decoder is replaced, as libraries leak
LOOK = 0.1  # seconds between looks at whether a task was cancelled
T = TypeVar("T")
_ready: msgspec.json.Decoder[Ready] = msgspec.json.Decoder(Ready)
_said: msgspec.json.Decoder[Answer | Progress | Needs] = msgspec.json.Decoder(Answer | Progress | Needs)


class Cancelled(Exception):
    """The task was given up on purpose; it may be done again elsewhere."""


class Decoder:
    """One decoder process at a time, for one thread at a time. `memory`: bytes it may use; with `on_gpu` of data, as a
    CUDA context reserves far more address space than there is memory, else of address space."""

    def __init__(self, memory: int, *, on_gpu: bool = False) -> None:
        self._memory = memory
        self._limit = "data" if on_gpu else "space"
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self._tasks = 0
        self.starts = 0

    @property
    def pid(self) -> int | None:
        """The process, for tests and logs; None when there is none."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Starts the process unless it runs, and returns when it waits for tasks. Raises Failure (crashed)."""
        if self.pid is not None:
            return
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        # Threads of linear algebra would take address space each, and there is none to do.
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # so that CUDA counts devices as NVML does
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gpu_workers.decoder", str(self._memory), str(os.getpid()), self._limit],
            cwd=TOP,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._unread, self._tasks = b"", 0
        self.starts += 1
        self._read(_ready, time.monotonic() + START_SECONDS, threading.Event())

    def run(
        self,
        task: Task,
        seconds: float,
        cancel: threading.Event | None = None,
        tell: Tell = nobody,
        fetch: Fetch | None = None,
    ) -> Made:
        """Does a task within `seconds` of wall time; meanwhile `tell` hears how far it is. Raises Failure, or Cancelled
        once `cancel` is set.

        `fetch`: brings what is needed of a file in parts, in time that does not count, or raises Failure or Cancelled.
        It must refuse what the file does not have, and asking without end: a decoder may have been taken over.

        Whatever it raises, no process is left at work on the task.
        """
        if self._tasks >= TASKS:
            self.stop()
        self.start()
        assert self._process is not None
        assert self._process.stdin is not None
        self._tasks += 1
        # CPU time backs the wall clock up, should this process be stopped while the decoder is not.
        request = Request(task, cpu_seconds=seconds * (os.cpu_count() or 1))
        try:
            self._process.stdin.write(msgspec.json.encode(request) + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._ended() from None
        deadline = time.monotonic() + seconds
        while not isinstance(answer := self._read(_said, deadline, cancel or threading.Event()), Answer):
            if isinstance(answer, Needs):
                began = time.monotonic()
                self._fill(answer, fetch)
                deadline += time.monotonic() - began
            else:
                tell(answer)
        if answer.made is not None:
            return answer.made
        if answer.trace:
            log.error("decoder_error", detail=answer.detail, trace=answer.trace)
        raise Failure(answer.reason or Reason.INTERNAL_ERROR, answer.detail, answer.tail)

    def _fill(self, needs: Needs, fetch: Fetch | None) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            if fetch is None:
                raise Failure(Reason.INTERNAL_ERROR, "parts of a file were asked for that is whole")
            fetch(needs.first, needs.last)
            said = Filled()
        except Failure as failure:
            said = Filled(failure.reason, failure.detail)
        except BaseException:
            self.stop()
            raise
        try:
            self._process.stdin.write(msgspec.json.encode(said) + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._ended() from None

    def stop(self) -> None:
        """Ends the process, at once and whatever it does."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was not written is of no use any more
                    pipe.close()

    def _read(self, kind: msgspec.json.Decoder[T], deadline: float, cancel: threading.Event) -> T:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        source = process.stdout.fileno()
        while b"\n" not in self._unread:
            if cancel.is_set():
                self.stop()
                raise Cancelled
            left = deadline - time.monotonic()
            if left <= 0:
                self.stop()
                raise Failure(Reason.TIME_LIMIT, "it takes longer than an attempt may")
            if select.select([source], [], [], min(left, LOOK))[0]:
                piece = os.read(source, 1 << 16)
                if not piece:
                    raise self._ended()
                self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return kind.decode(line)

    def _ended(self) -> Failure:
        assert self._process is not None
        status = self._process.wait()
        self.stop()
        if status == -signal.SIGXCPU:
            return Failure(Reason.TIME_LIMIT, "it takes more CPU time than an attempt may")
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        return Failure(Reason.CRASHED, f"the decoder ended with {how}")
