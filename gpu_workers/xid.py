"""Xid events: what the driver says when something goes wrong on a GPU, and whose fault it is.

NVIDIA's catalogue of Xid errors names hundreds; what matters here is whether the file that was decoded is suspect, the
program, or the GPU. A bad bitstream can raise the decoder's own Xids, one per NVDEC engine, and must not cost a whole
GPU: the input goes to the CPU and the GPU stays.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import pynvml

from infra.service.logs import logger

log = logger(__name__)


class Fault(StrEnum):
    """Whose fault an event is, as far as it tells."""

    INPUT = "input"  # the file under way: once more on the CPU
    PROGRAM = "program"  # the process under way: a new one
    GPU = "gpu"  # no jobs on this GPU any more


# Of the engines NVDEC0 to NVDEC7.
DECODER = frozenset({68, 83, 84, 88, 89, 96, 97, 98})
# Memory page fault and the like, raised by programs; also what follows a process that was killed.
PROGRAM = frozenset({13, 31, 43, 45, 109})
FATAL = frozenset({48, 63, 64, 74, 79, 92, 94, 95, 119, 120, 140, 143, 154, 158})

WAIT = 1000  # milliseconds between looks at whether to stop


def fault(number: int) -> Fault:
    """Whose fault Xid `number` is; an unknown one is the GPU's, as it is safer without it."""
    if number in DECODER:
        return Fault.INPUT
    return Fault.PROGRAM if number in PROGRAM else Fault.GPU


@dataclass(frozen=True, slots=True)
class Xid:
    """An event. `number` 0 stands for a GPU that can be asked no more."""

    uuid: str
    number: int
    fault: Fault


class Watch(threading.Thread):
    """Waits for events of all GPUs and tells of each. NVML must be initialised in this process.

    `supported` is False where there is none to be had; the thread then ends at once.
    """

    def __init__(self, tell: Callable[[Xid], None]) -> None:
        super().__init__(name="xid", daemon=True)
        self._tell = tell
        self._ended = threading.Event()
        self._events = pynvml.nvmlEventSetCreate()
        self.supported = False
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                device = pynvml.nvmlDeviceGetHandleByIndex(index)
                kinds = pynvml.nvmlDeviceGetSupportedEventTypes(device)
                wanted = pynvml.nvmlEventTypeXidCriticalError | pynvml.nvmlEventTypeDoubleBitEccError
                if kinds & wanted:
                    pynvml.nvmlDeviceRegisterEvents(device, kinds & wanted, self._events)
                    self.supported = True
            except pynvml.NVMLError as error:
                log.info("xid_unsupported", gpu=index, error=type(error).__name__)

    def run(self) -> None:
        """Until `end`, or until NVML fails."""
        while self.supported and not self._ended.is_set():
            try:
                event = pynvml.nvmlEventSetWait_v2(self._events, WAIT)
            except pynvml.NVMLError_Timeout:
                continue
            except pynvml.NVMLError as error:
                log.error("xid_watch_failed", error=type(error).__name__)
                self._tell(Xid("", 0, Fault.GPU))
                return
            number = int(event.eventData) if event.eventType == pynvml.nvmlEventTypeXidCriticalError else 48
            uuid = pynvml.nvmlDeviceGetUUID(event.device)
            self._tell(Xid(uuid if isinstance(uuid, str) else uuid.decode(), number, fault(number)))

    def end(self) -> None:
        """Stops waiting."""
        self._ended.set()
        if self.is_alive():
            self.join(2 * WAIT / 1000)
        pynvml.nvmlEventSetFree(self._events)
