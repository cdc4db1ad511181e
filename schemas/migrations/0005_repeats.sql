-- Repeats that were dropped, by site and reason, beside the sums of the packet; view `repeats` has a row for each.
-- `repeats_from`: the worker has the identities of events received after this moment in memory, after this packet.
ALTER TABLE packets
    ADD COLUMN IF NOT EXISTS `repeats_from` DateTime64(3, 'UTC') DEFAULT watermark - INTERVAL 17 MINUTE,
    ADD COLUMN IF NOT EXISTS `repeats_site` Array(UInt32),
    ADD COLUMN IF NOT EXISTS `repeats_reason` Array(String),
    ADD COLUMN IF NOT EXISTS `repeats_count` Array(UInt32);

CREATE VIEW IF NOT EXISTS repeats AS
SELECT
    appended_at,
    `partition`,
    generation,
    `offset`,
    repeat_site AS site_id,
    repeat_reason AS reason,
    repeat_count AS events
FROM packets
ARRAY JOIN
    repeats_site AS repeat_site,
    repeats_reason AS repeat_reason,
    repeats_count AS repeat_count;

-- The identities of a while are looked up by when their events were received.
ALTER TABLE events ADD INDEX IF NOT EXISTS received_minmax received_at TYPE minmax GRANULARITY 1;
