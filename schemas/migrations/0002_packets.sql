-- One row per consumed record of `events.raw`, written after the rows of its events: the ledger, the floor below
-- which nothing is inserted again, and the memory of the names seen.
CREATE TABLE packets
(
    `partition` UInt16,
    `generation` UInt32,
    `offset` UInt64,
    `writer` UInt64,
    `seq` UInt64,
    `kind` UInt8,
    `routing` UInt16,
    `policy_version` FixedString(16),
    `appended_at` DateTime64(3, 'UTC'),
    `watermark` DateTime64(3, 'UTC'),
    `received` UInt32,
    `stored` UInt32,
    `excluded` UInt32,
    `rejected` UInt32,
    `repeats_key` UInt32,
    `repeats_random` UInt32,
    `repeats_body` UInt32
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(appended_at)
ORDER BY (`partition`, generation, `offset`)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Events that could not be processed: a reason without the content.
CREATE TABLE rejects
(
    `writer` UInt64,
    `partition` UInt16,
    `seq` UInt64,
    `index` UInt32,
    `generation` UInt32,
    `offset` UInt64,
    `site_id` UInt32,
    `received_at` DateTime64(3, 'UTC'),
    `reason` LowCardinality(String),
    `field` LowCardinality(String),
    `size` UInt32
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (`partition`, generation, `offset`, `index`)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Who may write a partition's rows: the highest (epoch, owner). Rows are only added.
CREATE TABLE ownership
(
    `partition` UInt16,
    epoch UInt64,
    owner UInt64,
    claimed_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (`partition`, epoch, owner)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- The order of the topic ids that `events.raw` has had; of several rows of an id the lowest generation counts.
CREATE TABLE topic_generations
(
    topic_id UUID,
    generation UInt32,
    seen_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (topic_id, generation)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
