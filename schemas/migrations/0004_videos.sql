-- One row per change of a job's state, named by (job, attempt, state): a row that comes twice is one row for readers
-- who ask with FINAL. `queued_at` is a property of the job, so all its rows lie in one partition.
CREATE TABLE video_jobs
(
    `job` String,
    `queued_at` DateTime64(3, 'UTC'),
    `attempt` UInt32,
    `state` LowCardinality(String),
    `at` DateTime64(3, 'UTC'),
    `worker` LowCardinality(String),
    `engine` LowCardinality(String),
    `seconds` Float64,
    `reason` LowCardinality(String),
    `detail` String,
    `source_width` UInt32,
    `source_height` UInt32,
    `source_duration` Float64,
    `source_rotation` Int32,
    `source_codec` LowCardinality(String),
    `source_pixel_format` LowCardinality(String),
    `output_kind` Array(String),
    `output_path` Array(String),
    `output_width` Array(UInt32),
    `output_height` Array(UInt32),
    `output_time` Array(Float64)
)
ENGINE = ReplacingMergeTree(`at`)
PARTITION BY toYYYYMM(queued_at)
ORDER BY (`job`, `attempt`, `state`)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- The heartbeats of the media workers. NaN in a column of the GPUs: the device does not say.
CREATE TABLE worker_samples
(
    `worker` LowCardinality(String),
    `at` DateTime64(3, 'UTC'),
    `started_at` DateTime64(3, 'UTC'),
    `state` LowCardinality(String),
    `done` UInt64,
    `failed` UInt64,
    `job_seconds` Float64,
    `nvml` LowCardinality(String),
    `driver` LowCardinality(String),
    `gpu_uuid` Array(String),
    `gpu_name` Array(String),
    `gpu_utilisation` Array(Float64),
    `gpu_decoder` Array(Float64),
    `gpu_memory_used` Array(Float64),
    `gpu_memory_total` Array(Float64),
    `gpu_temperature` Array(Float64),
    `gpu_power` Array(Float64)
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(`at`)
ORDER BY (`worker`, `at`)
TTL toDateTime(`at`) + INTERVAL 90 DAY;
