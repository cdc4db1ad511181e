-- Secrets, always wrapped by the master key, which is never in this database. Partitions are dropped by expiry.
CREATE TABLE vault_secrets
(
    kind LowCardinality(String),
    name String,
    wrapped String,
    master FixedString(8),
    expires Date,
    made_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = MergeTree
PARTITION BY expires
ORDER BY (kind, name)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
