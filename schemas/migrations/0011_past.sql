-- Months of `events` that are written anew beside it and put in their place (streams/swaps.py): a row per step.
CREATE TABLE swaps
(
    `swap` UInt64,
    `state` LowCardinality(String),
    `month` UInt32,
    `until` DateTime64(3, 'UTC'),
    `at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (`swap`, `at`)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- What was changed in or removed from stored rows, when and by which rule. Never a value.
CREATE TABLE past_changes
(
    `at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'),
    `run` UInt64,
    `what` LowCardinality(String),
    `site_id` UInt32,
    `data` LowCardinality(String),
    `month` UInt32,
    `first` Date,
    `last` Date,
    `rows` UInt64,
    `changed` UInt64,
    `rule` String
)
ENGINE = MergeTree
ORDER BY (`at`, `run`)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
