-- Rejects that were understood later and have a row in `events` now, by name: what corrects the sums of `packets`.
CREATE TABLE rejects_replayed
(
    `writer` UInt64,
    `partition` UInt16,
    `seq` UInt64,
    `index` UInt32,
    `generation` UInt32,
    `offset` UInt64,
    `at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (`partition`, generation, `offset`, `index`)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
