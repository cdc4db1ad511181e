-- What is kept of session recordings and heatmaps: masked, and linked to nobody. A row is named by where it is from, so
-- one that comes twice is one row for readers who ask with FINAL.
CREATE TABLE recordings
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `session` UInt64 COMMENT 'Hash of the session that the recorder named, by a key of the site''s day; the chunk''s own where it named none',
    `sequence` UInt32 COMMENT 'Number of the chunk in its session, as the recorder counts',
    `received_at` DateTime64(3, 'UTC') COMMENT 'When the collector received the chunk',
    `writer` UInt64 COMMENT 'Collector process that took it, a random number',
    `partition` UInt16 COMMENT 'Partition of recordings.raw',
    `seq` UInt64 COMMENT 'Number of the packet of this writer and partition',
    `index` UInt32 COMMENT 'Number of the chunk in its packet',
    `policy_version` FixedString(16) COMMENT 'Version of the policies by which it was masked',
    `url` String COMMENT 'Address of the page, by the site''s rules',
    `url_host` LowCardinality(String) COMMENT 'Its host',
    `url_path` String COMMENT 'Its path',
    `viewport` LowCardinality(String) COMMENT 'phone, tablet or desktop, by the width of the viewport; empty where that is not told',
    `events` UInt32 COMMENT 'Events in data',
    `data` String COMMENT 'The masked events of rrweb, a JSON list; times are milliseconds since the first' CODEC(ZSTD(6)),
    `masked_kind` Array(String) COMMENT 'What was masked: text, attribute, field, value (found in what is shown), style',
    `masked_count` Array(UInt32) COMMENT 'How often each was',
    `dropped_kind` Array(String) COMMENT 'What was left out, by kind of event or node',
    `dropped_count` Array(UInt32) COMMENT 'How often each was'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (site_id, session, sequence, writer, `partition`, seq, `index`)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Session recordings in chunks, masked; ask with FINAL';

CREATE TABLE heatmap
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `received_at` DateTime64(3, 'UTC') COMMENT 'When the collector received it, to the hour',
    `url_host` LowCardinality(String) COMMENT 'Host of the page',
    `url_path` String COMMENT 'Path of the page, by the site''s rules',
    `action` UInt8 COMMENT '1 click, 2 moves of the pointer, 3 scroll',
    `selector` String COMMENT 'Selector of the element, without names that may be made of values; empty where not known',
    `x` Float64 COMMENT 'Part of the width of relative_to, 0 to 1',
    `y` Float64 COMMENT 'Part of its height, 0 to 1; of a scroll how much was seen',
    `relative_to` LowCardinality(String) COMMENT 'viewport or element; of a scroll viewports (how many) or document (which part)',
    `viewport` LowCardinality(String) COMMENT 'phone, tablet or desktop; empty where the width is not told',
    `weight` UInt32 COMMENT 'How many there were: moves are counted by cells of a grid',
    `writer` UInt64 COMMENT 'Collector process that took it, a random number',
    `partition` UInt16 COMMENT 'Partition of recordings.raw',
    `seq` UInt64 COMMENT 'Number of the packet of this writer and partition',
    `index` UInt32 COMMENT 'Number of the chunk in its packet',
    `number` UInt32 COMMENT 'Number of the row in its chunk'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (site_id, received_at, writer, `partition`, seq, `index`, `number`)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Clicks, moves and scrolls by page; ask with FINAL';
