"""The media worker's metrics."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import Gauge

from gpu_workers.nvml import reasons
from infra.service.metrics import counter, gauge, histogram
from schemas.videos import Gpu

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

jobs = counter("video", "jobs", "Jobs that this worker ended", ["state", "reason"])
attempts = counter("video_attempts", "attempts", "Attempts at jobs that were begun")
returned = counter("video_returned", "jobs", "Jobs that were given back to the group before their end", ["why"])
retried = counter("video_retried", "jobs", "Failed attempts after which a job waits for another", ["reason"])
handed_on = counter("video_handed_on", "jobs", "Jobs that had waited and were put back on their lane by this worker")
renewed = counter("video_consumer_renewed", "clients", "Clients of Kafka that read nothing of what waited", ["what"])
job_seconds = histogram("video_job", "seconds", "One attempt, from its begin to its outcome", buckets=SECONDS)
decoder_starts = gauge("video_decoder", "starts", "How often the decoder's process was started")
gpus = gauge("video_gpus", "devices", "GPUs that NVML sees")

# Of each GPU, as NVML tells; what a device does not tell has no sample.
utilisation = gauge("gpu_utilisation", "percent", "How busy an engine is; the mean over several", ["gpu", "engine"])
memory = gauge("gpu_memory", "bytes", "Memory of a GPU", ["gpu", "kind"])
temperature = gauge("gpu_temperature", "celsius", "Temperature of a GPU", ["gpu"])
power = gauge("gpu_power", "watts", "Power that a GPU takes, and may take", ["gpu", "kind"])
clock = gauge("gpu_clock", "hertz", "Clocks of a GPU", ["gpu", "clock"])
held_back = gauge("gpu_held_back", "reasons", "1 for each thing that holds the clocks back", ["gpu", "why"])
ecc = gauge("gpu_ecc", "errors", "Errors of memory since the driver was loaded", ["gpu", "kind"])
remapped = gauge("gpu_remapped", "rows", "Rows of memory that were replaced for errors", ["gpu"])
pending = gauge("gpu_remap_pending", "flag", "1 where rows wait for a reset to be replaced", ["gpu"])
divided = gauge("gpu_mig", "flag", "1 for a GPU that is divided into instances", ["gpu"])


def show_gpus(seen: Sequence[Gpu]) -> None:
    """Shows the GPUs as they are now."""
    gpus.set(len(seen))
    for family in (utilisation, memory, temperature, power, clock, held_back, ecc, remapped, pending, divided):
        family.clear()
    for gpu in seen:
        shown: list[tuple[Gauge, tuple[str, ...], float | None]] = [
            (utilisation, ("sm",), gpu.utilisation),
            (utilisation, ("decoder",), gpu.decoder),
            (utilisation, ("encoder",), gpu.encoder),
            (utilisation, ("jpeg",), gpu.jpeg),
            (memory, ("used",), gpu.memory_used),
            (memory, ("total",), gpu.memory_total),
            (temperature, (), gpu.temperature),
            (power, ("now",), gpu.power),
            (power, ("limit",), gpu.power_limit),
            (clock, ("sm",), _hertz(gpu.sm_clock)),
            (clock, ("memory",), _hertz(gpu.memory_clock)),
            (clock, ("video",), _hertz(gpu.video_clock)),
            (ecc, ("corrected",), gpu.ecc_corrected),
            (ecc, ("uncorrected",), gpu.ecc_uncorrected),
            (remapped, (), gpu.remapped_rows),
            (pending, (), gpu.remap_pending),
            (divided, (), gpu.mig),
            *((held_back, (why,), 1.0) for why in reasons(gpu.throttled)),
        ]
        for family, labels, value in shown:
            if value is not None:
                family.labels(gpu.uuid, *labels).set(float(value))


def _hertz(megahertz: int | None) -> float | None:
    return None if megahertz is None else megahertz * 1e6
