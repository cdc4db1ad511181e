from __future__ import annotations

import pynvml
import pytest

from gpu_workers.nvml import Nvml, state_of
from schemas.videos import NvmlState


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
