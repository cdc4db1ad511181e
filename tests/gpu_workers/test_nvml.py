from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from gpu_workers import metrics
from gpu_workers.nvml import Nvml, reasons, state_of
from infra.service.metrics import exposition
from schemas.videos import Gpu, NvmlState


def test_a_machine_answers_with_a_state_whatever_it_has() -> None:
    nvml = Nvml()
    snapshot = nvml.snapshot()
    if snapshot.state is NvmlState.OK:
        assert snapshot.driver
        assert snapshot.gpus
        assert all(gpu.uuid.startswith(("GPU-", "MIG-")) for gpu in snapshot.gpus)
    else:
        assert snapshot.state in (NvmlState.NO_LIBRARY, NvmlState.NO_DRIVER, NvmlState.NO_DEVICE)
        assert snapshot.gpus == ()
    nvml.close()
    assert nvml.snapshot().gpus == ()


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (pynvml.NVMLError_LibraryNotFound, NvmlState.NO_LIBRARY),
        (pynvml.NVMLError_DriverNotLoaded, NvmlState.NO_DRIVER),
        (pynvml.NVMLError_GpuIsLost, NvmlState.LOST),
        (pynvml.NVMLError_Unknown, NvmlState.LOST),
        (pynvml.NVMLError_Timeout, NvmlState.ERROR),
    ],
)
def test_every_error_of_nvml_is_a_state(error: type[pynvml.NVMLError], state: NvmlState) -> None:
    assert state_of(error()) is state


class Card:
    """What one H200 with driver 580.159.04 answered, as NVML's functions give it; `missing` ones are not supported."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
        self.asked: list[str] = []
        memory = SimpleNamespace(used=644939776, total=150754820096)
        answers: dict[str, Any] = {
            "UUID": "GPU-0",
            "Name": b"NVIDIA H200",
            "MemoryInfo": memory,
            "UtilizationRates": SimpleNamespace(gpu=85),
            "DecoderUtilization": [91, 167000],
            "EncoderUtilization": [3, 167000],
            "JpgUtilization": [7, 167000],
            "Temperature": 36,
            "PowerUsage": 78166,
            "EnforcedPowerLimit": 700000,
            "CurrentClocksEventReasons": 0x24,
            "ClockInfo": 345,
            "TotalEccErrors": 2,
            "RemappedRows": (1, 2, 1, 0),
            "MigMode": [0, 0],
        }
        for name, value in answers.items():
            self._answer(monkeypatch, f"nvmlDeviceGet{name}", value, name in missing)
        for name, result in (("Init", None), ("Shutdown", None)):
            monkeypatch.setattr(pynvml, f"nvml{name}", lambda result=result: result)
        monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "580.159.04")
        monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 1)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)

    def _answer(self, monkeypatch: pytest.MonkeyPatch, function: str, value: Any, missing: bool) -> None:
        def call(*_: object) -> Any:
            self.asked.append(function)
            if missing:
                raise pynvml.NVMLError_NotSupported
            return value

        monkeypatch.setattr(pynvml, function, call)


def test_every_figure_has_its_unit_and_place(monkeypatch: pytest.MonkeyPatch) -> None:
    Card(monkeypatch)
    seen = Nvml().snapshot()
    assert (seen.state, seen.driver) == (NvmlState.OK, "580.159.04")
    assert seen.gpus == (
        Gpu(
            index=0,
            uuid="GPU-0",
            name="NVIDIA H200",
            utilisation=85.0,
            decoder=91.0,
            memory_used=644939776,
            memory_total=150754820096,
            temperature=36,
            power=78.166,
            throttled=0x24,
            encoder=3.0,
            jpeg=7.0,
            power_limit=700.0,
            sm_clock=345,
            memory_clock=345,
            video_clock=345,
            ecc_corrected=2,
            ecc_uncorrected=2,
            remapped_rows=3,
            remap_pending=True,
            mig=False,
        ),
    )
    assert reasons(seen.gpus[0].throttled) == ["power cap", "software thermal slowdown"]


def test_what_is_not_supported_is_none_and_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(monkeypatch, "JpgUtilization", "RemappedRows", "MigMode", "PowerUsage")
    nvml = Nvml()
    for _ in range(3):
        (gpu,) = nvml.snapshot().gpus
        assert (gpu.jpeg, gpu.remapped_rows, gpu.remap_pending, gpu.mig, gpu.power) == (None,) * 5
        assert gpu.decoder == 91.0
    assert card.asked.count("nvmlDeviceGetJpgUtilization") == 1
    assert card.asked.count("nvmlDeviceGetDecoderUtilization") == 3


def test_a_lost_gpu_is_a_state(monkeypatch: pytest.MonkeyPatch) -> None:
    Card(monkeypatch)
    nvml = Nvml()

    def lost(*_: object) -> Any:
        raise pynvml.NVMLError_GpuIsLost

    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lost)
    assert nvml.snapshot().state is NvmlState.LOST


def test_a_lost_gpu_hides_none_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    Card(monkeypatch)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 3)
    nvml = Nvml()
    whole = pynvml.nvmlDeviceGetMemoryInfo

    def memory(device: int) -> Any:
        if device == 1:
            raise pynvml.NVMLError_GpuIsLost
        return whole(device)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", memory)
    seen = nvml.snapshot()
    assert seen.state is NvmlState.LOST
    assert [gpu.index for gpu in seen.gpus] == [0, 2]


def test_figures_are_shown_with_their_units_and_what_is_not_told_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    Card(monkeypatch, "JpgUtilization")
    metrics.show_gpus(Nvml().snapshot().gpus)
    shown = exposition().decode()
    for line in (
        'veilstream_gpu_utilisation_percent{engine="decoder",gpu="GPU-0"} 91.0',
        'veilstream_gpu_memory_bytes{gpu="GPU-0",kind="used"} 6.44939776e+08',
        'veilstream_gpu_temperature_celsius{gpu="GPU-0"} 36.0',
        'veilstream_gpu_power_watts{gpu="GPU-0",kind="limit"} 700.0',
        'veilstream_gpu_clock_hertz{clock="video",gpu="GPU-0"} 3.45e+08',
        'veilstream_gpu_held_back_reasons{gpu="GPU-0",why="power cap"} 1.0',
        'veilstream_gpu_ecc_errors{gpu="GPU-0",kind="uncorrected"} 2.0',
        'veilstream_gpu_remapped_rows{gpu="GPU-0"} 3.0',
        "veilstream_video_gpus_devices 1.0",
    ):
        assert line in shown, line
    assert 'engine="jpeg"' not in shown
    metrics.show_gpus(())
    assert "GPU-0" not in exposition().decode()


def test_an_unknown_reason_is_told_by_its_bit() -> None:
    assert reasons(1 << 40) == ["0x10000000000"]
    assert reasons(None) == reasons(0) == []
