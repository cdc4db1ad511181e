-- Values that detectors masked in what is stored of a packet, by site, kind and column of `events`; a value that stands
-- in two columns counts in both. View `masked_values` has a row for each.
ALTER TABLE packets
    ADD COLUMN IF NOT EXISTS `masked_site` Array(UInt32),
    ADD COLUMN IF NOT EXISTS `masked_kind` Array(String),
    ADD COLUMN IF NOT EXISTS `masked_field` Array(String),
    ADD COLUMN IF NOT EXISTS `masked_count` Array(UInt32);

CREATE VIEW IF NOT EXISTS masked_values AS
SELECT
    appended_at,
    `partition`,
    generation,
    `offset`,
    site AS site_id,
    kind,
    field,
    found
FROM packets
ARRAY JOIN
    masked_site AS site,
    masked_kind AS kind,
    masked_field AS field,
    masked_count AS found;
