"""The columns of the tables about videos, as Arrow schemas; order and comments as in `schemas.tables`."""

from __future__ import annotations

import pyarrow as pa

from schemas.tables import LOW, MOMENT, TEXT

VIDEO_JOBS_TABLE = pa.schema(
    [
        ("job", TEXT),
        ("queued_at", MOMENT),
        ("attempt", pa.uint32()),
        ("state", LOW),
        ("at", MOMENT),
        ("worker", LOW),
        ("engine", LOW),
        ("seconds", pa.float64()),
        ("reason", LOW),
        ("detail", TEXT),
        ("source_width", pa.uint32()),
        ("source_height", pa.uint32()),
        ("source_duration", pa.float64()),
        ("source_rotation", pa.int32()),
        ("source_codec", LOW),
        ("source_pixel_format", LOW),
        ("output_kind", pa.list_(TEXT)),
        ("output_path", pa.list_(TEXT)),
        ("output_width", pa.list_(pa.uint32())),
        ("output_height", pa.list_(pa.uint32())),
        ("output_time", pa.list_(pa.float64())),
        ("site_id", pa.uint32()),
        ("output_about", pa.list_(TEXT)),
        ("priority", LOW),
        ("due_at", MOMENT),
        ("source_bytes", pa.uint64()),
        ("progress", pa.float64()),
        ("making", LOW),
    ]
)

WORKER_SAMPLES_TABLE = pa.schema(
    [
        ("worker", LOW),
        ("at", MOMENT),
        ("started_at", MOMENT),
        ("state", LOW),
        ("done", pa.uint64()),
        ("failed", pa.uint64()),
        ("job_seconds", pa.float64()),
        ("nvml", LOW),
        ("driver", LOW),
        ("gpu_uuid", pa.list_(TEXT)),
        ("gpu_name", pa.list_(TEXT)),
        ("gpu_utilisation", pa.list_(pa.float64())),  # NaN where the device does not say, here and below
        ("gpu_decoder", pa.list_(pa.float64())),
        ("gpu_memory_used", pa.list_(pa.float64())),
        ("gpu_memory_total", pa.list_(pa.float64())),
        ("gpu_temperature", pa.list_(pa.float64())),
        ("gpu_power", pa.list_(pa.float64())),
        ("gpu_encoder", pa.list_(pa.float64())),
        ("gpu_jpeg", pa.list_(pa.float64())),
        ("gpu_power_limit", pa.list_(pa.float64())),
        ("gpu_sm_clock", pa.list_(pa.float64())),
        ("gpu_memory_clock", pa.list_(pa.float64())),
        ("gpu_video_clock", pa.list_(pa.float64())),
        ("gpu_throttled", pa.list_(pa.float64())),
        ("gpu_ecc_corrected", pa.list_(pa.float64())),
        ("gpu_ecc_uncorrected", pa.list_(pa.float64())),
        ("gpu_remapped_rows", pa.list_(pa.float64())),
        ("gpu_remap_pending", pa.list_(pa.float64())),
    ]
)
