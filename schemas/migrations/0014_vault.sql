-- The vault. Secrets are always wrapped by a master key, which is never in this database. A secret has a partition of
-- its own (those of sites share one), so that it is destroyed by dropping that: its parts leave the disk, and nothing
-- is rewritten. After a rotation of the master key a secret has the name it had, in another partition.
CREATE TABLE vault_keys
(
    kind LowCardinality(String),
    name String,
    wrapped String,
    master FixedString(8),
    expires DateTime64(3, 'UTC'),
    made_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = MergeTree
PARTITION BY (kind, if(kind = 'site', '', name), master)
ORDER BY (kind, name)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 1;

INSERT INTO vault_keys SELECT kind, name, wrapped, master, toDateTime64(expires, 3, 'UTC'), made_at FROM vault_secrets;

-- It stays, empty: what came before moved to `vault_keys`.
TRUNCATE TABLE vault_secrets;

-- The public keys of the hours (whole hours since 1970 UTC): what collectors seal to.
CREATE TABLE vault_hours
(
    hour UInt32,
    public FixedString(32),
    made_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY hour
TTL toDateTime(made_at) + INTERVAL 40 DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- The spools that may hold packets of an hour: `done` 0 when a spool fetches the hour's key, 1 when all of its packets
-- of that hour are acknowledged by Kafka and there will be none any more.
CREATE TABLE vault_spools
(
    spool String,
    hour UInt32,
    done UInt8,
    at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (hour, spool)
TTL toDateTime(at) + INTERVAL 40 DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- What was destroyed, by which rule, and which parts left the disk. A destruction has a row when it begins (`gone` 0)
-- and one when nothing of it is left on the disk (`gone` 1). `spools`: those that had not reported.
CREATE TABLE vault_destroyed
(
    kind LowCardinality(String),
    name String,
    rule LowCardinality(String),
    gone UInt8,
    parts Array(String),
    spools Array(String),
    at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (kind, name)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
