"""Records of `video.results` and `worker.status` as rows of `video_jobs` and `worker_samples`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pyarrow as pa

from infra.service.logs import logger
from infra.service.metrics import counter
from schemas.videos import Gpu, Result, WorkerStatus, decode_result, decode_status

log = logger(__name__)

unreadable = counter("video_results_unreadable", "records", "Records that are not of this version", ["topic"])


def job_row(value: bytes) -> dict[str, Any]:
    """The row of a record on `video.results`; raises msgspec.DecodeError for anything else."""
    result: Result = decode_result(value)
    source = result.source
    return {
        "job": result.job,
        "queued_at": _moment(result.queued_ms),
        "attempt": result.attempt,
        "state": result.state.value,
        "at": _moment(result.at_ms),
        "worker": result.worker,
        "engine": result.engine.value if result.engine else "",
        "seconds": result.seconds,
        "reason": result.reason.value if result.reason else "",
        "detail": result.detail,
        "source_width": source.width if source else 0,
        "source_height": source.height if source else 0,
        "source_duration": source.duration if source else 0.0,
        "source_rotation": source.rotation if source else 0,
        "source_codec": source.codec if source else "",
        "source_pixel_format": source.pixel_format if source else "",
        "output_kind": [output.kind.value for output in result.outputs],
        "output_path": [output.path for output in result.outputs],
        "output_width": [output.width for output in result.outputs],
        "output_height": [output.height for output in result.outputs],
        "output_time": [output.time for output in result.outputs],
        "site_id": result.site,
        "output_about": [msgspec.json.encode(output.about).decode() for output in result.outputs],
        "priority": result.priority.value if result.priority else "",
        "due_at": _moment(result.due_ms),
        "source_bytes": source.bytes if source else 0,
        "progress": result.progress,
        "making": result.making,
    }


def sample_row(value: bytes) -> dict[str, Any]:
    """The row of a record on `worker.status`; raises msgspec.DecodeError for anything else."""
    status: WorkerStatus = decode_status(value)

    def of_each(measure: Callable[[Gpu], float | int | None]) -> list[float]:
        return [math.nan if (found := measure(gpu)) is None else float(found) for gpu in status.gpus]

    return {
        "worker": status.worker,
        "at": _moment(status.at_ms),
        "started_at": _moment(status.started_ms),
        "state": status.state.value,
        "done": status.done,
        "failed": status.failed,
        "job_seconds": status.job_seconds,
        "nvml": status.nvml.value,
        "driver": status.driver,
        "gpu_uuid": [gpu.uuid for gpu in status.gpus],
        "gpu_name": [gpu.name for gpu in status.gpus],
        "gpu_utilisation": of_each(lambda gpu: gpu.utilisation),
        "gpu_decoder": of_each(lambda gpu: gpu.decoder),
        "gpu_memory_used": of_each(lambda gpu: gpu.memory_used),
        "gpu_memory_total": of_each(lambda gpu: gpu.memory_total),
        "gpu_temperature": of_each(lambda gpu: gpu.temperature),
        "gpu_power": of_each(lambda gpu: gpu.power),
        "gpu_encoder": of_each(lambda gpu: gpu.encoder),
        "gpu_jpeg": of_each(lambda gpu: gpu.jpeg),
        "gpu_power_limit": of_each(lambda gpu: gpu.power_limit),
        "gpu_sm_clock": of_each(lambda gpu: gpu.sm_clock),
        "gpu_memory_clock": of_each(lambda gpu: gpu.memory_clock),
        "gpu_video_clock": of_each(lambda gpu: gpu.video_clock),
        "gpu_throttled": of_each(lambda gpu: gpu.throttled),
        "gpu_ecc_corrected": of_each(lambda gpu: gpu.ecc_corrected),
        "gpu_ecc_uncorrected": of_each(lambda gpu: gpu.ecc_uncorrected),
        "gpu_remapped_rows": of_each(lambda gpu: gpu.remapped_rows),
        "gpu_remap_pending": of_each(lambda gpu: gpu.remap_pending),
    }


def table(schema: pa.Schema, row: Callable[[bytes], dict[str, Any]], values: Sequence[bytes], topic: str) -> pa.Table:
    """The rows of the records that can be read; the others are counted, and logged without their content."""
    good = []
    for value in values:
        try:
            good.append(pa.Table.from_pylist([row(value)], schema))
        except (msgspec.DecodeError, pa.ArrowException, ValueError, OverflowError, OSError) as error:
            unreadable.labels(topic).inc()
            log.error("bad_record", topic=topic, error=type(error).__name__)
    return pa.concat_tables(good) if good else schema.empty_table()


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
