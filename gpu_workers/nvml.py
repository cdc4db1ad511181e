"""The GPUs as NVML sees them: one snapshot per call, and no GPU is a state like others.

NVML is initialised once. Every question is asked on its own: what a device does not support is None, remembered and
not asked again. The package is nvidia-ml-py, which is imported as pynvml.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pynvml

from infra.service.logs import logger
from schemas.videos import Gpu, NvmlState

log = logger(__name__)

T = TypeVar("T")

UNSUPPORTED = (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NoPermission)
CORRECTED = (pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, pynvml.NVML_VOLATILE_ECC)
UNCORRECTED = (pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC)
LOST = (pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_Unknown)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All GPUs at one moment, but for those that are lost. `driver` is its version, "" without one."""

    state: NvmlState
    driver: str = ""
    gpus: tuple[Gpu, ...] = ()


class Nvml:
    """One process's NVML, for one thread. `snapshot` never raises."""

    def __init__(self) -> None:
        self._driver = ""
        self._missing: set[str] = set()
        self._state = self._open()
        log.info("nvml", state=self._state, driver=self._driver)

    def _open(self) -> NvmlState:
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            return state_of(error)
        self._driver = _text(self._ask("driver version", pynvml.nvmlSystemGetDriverVersion) or "")
        return NvmlState.OK

    def snapshot(self) -> Snapshot:
        """The state of every GPU now."""
        if self._state is not NvmlState.OK:
            return Snapshot(self._state, self._driver)
        try:
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            return Snapshot(state_of(error), self._driver)
        state, gpus = NvmlState.OK if count else NvmlState.NO_DEVICE, []
        for index in range(count):
            try:
                gpus.append(self._gpu(index))
            except pynvml.NVMLError as error:  # one that is lost hides none of the others
                state = state_of(error)
        return Snapshot(state, self._driver, tuple(gpus))

    def close(self) -> None:
        """Lets go of NVML."""
        if self._state is NvmlState.OK:
            self._state = NvmlState.NO_DEVICE
            self._ask("shutdown", pynvml.nvmlShutdown)

    def _gpu(self, index: int) -> Gpu:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)

        def ask(what: str, function: str, *arguments: Any) -> Any:
            call = getattr(pynvml, function, None)
            return None if call is None else self._ask(what, lambda: call(handle, *arguments))

        memory = ask("memory", "nvmlDeviceGetMemoryInfo")
        utilisation = ask("utilisation", "nvmlDeviceGetUtilizationRates")
        remapped = ask("remapped rows", "nvmlDeviceGetRemappedRows")  # corrected, uncorrected, pending, failed
        mig = ask("mig", "nvmlDeviceGetMigMode")

        def percent(what: str, function: str) -> float | None:
            found = ask(what, function)  # and the time over which it was sampled
            return None if found is None else float(found[0])

        def watts(what: str, function: str) -> float | None:
            found = ask(what, function)
            return None if found is None else found / 1000

        return Gpu(
            index=index,
            uuid=_text(ask("uuid", "nvmlDeviceGetUUID") or ""),
            name=_text(ask("name", "nvmlDeviceGetName") or ""),
            utilisation=None if utilisation is None else float(utilisation.gpu),
            decoder=percent("decoder", "nvmlDeviceGetDecoderUtilization"),
            memory_used=None if memory is None else int(memory.used),
            memory_total=None if memory is None else int(memory.total),
            temperature=ask("temperature", "nvmlDeviceGetTemperature", pynvml.NVML_TEMPERATURE_GPU),
            power=watts("power", "nvmlDeviceGetPowerUsage"),
            throttled=ask("throttling", "nvmlDeviceGetCurrentClocksEventReasons"),
            encoder=percent("encoder", "nvmlDeviceGetEncoderUtilization"),
            jpeg=percent("jpeg", "nvmlDeviceGetJpgUtilization"),
            power_limit=watts("power limit", "nvmlDeviceGetEnforcedPowerLimit"),
            sm_clock=ask("sm clock", "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM),
            memory_clock=ask("memory clock", "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_MEM),
            video_clock=ask("video clock", "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_VIDEO),
            ecc_corrected=ask("ecc corrected", "nvmlDeviceGetTotalEccErrors", *CORRECTED),
            ecc_uncorrected=ask("ecc uncorrected", "nvmlDeviceGetTotalEccErrors", *UNCORRECTED),
            remapped_rows=None if remapped is None else int(remapped[0] + remapped[1]),
            remap_pending=None if remapped is None else bool(remapped[2]),
            mig=None if mig is None else bool(mig[0]),
        )

    def _ask(self, what: str, call: Callable[[], T]) -> T | None:
        """One question; None when it has no answer here. Raises NVMLError only for a GPU that is lost."""
        if what in self._missing:
            return None
        try:
            return call()
        except UNSUPPORTED as error:
            self._missing.add(what)
            log.info("nvml_unsupported", what=what, error=type(error).__name__)
        except LOST:
            raise
        except pynvml.NVMLError as error:
            log.warning("nvml_error", what=what, error=type(error).__name__)
        return None


def state_of(error: pynvml.NVMLError) -> NvmlState:
    """The state that an error of NVML stands for."""
    if isinstance(error, pynvml.NVMLError_LibraryNotFound):
        return NvmlState.NO_LIBRARY
    if isinstance(error, pynvml.NVMLError_DriverNotLoaded):
        return NvmlState.NO_DRIVER
    if isinstance(error, LOST):
        return NvmlState.LOST
    return NvmlState.ERROR


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


# Bits of the clocks' event reasons (nvmlClocksEventReasons of nvml.h).
REASONS = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
    0x100: "display clocks",
}


def reasons(bits: int | None) -> list[str]:
    """What holds the clocks back; an unknown bit by its value."""
    return [REASONS.get(1 << bit, hex(1 << bit)) for bit in range(64) if bits and bits >> bit & 1]
