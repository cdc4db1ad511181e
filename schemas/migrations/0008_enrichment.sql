-- What told the country: "request" (which named it), "language" (the visitor's, where the site's rules allow), or "".
ALTER TABLE events ADD COLUMN IF NOT EXISTS `country_source` LowCardinality(String);

-- Why an event may not be a person's, by name; `bot` has a bit for each. Of libraries and empty agents bit 0 told
-- before, as of crawlers.
ALTER TABLE events ADD COLUMN IF NOT EXISTS `bot_reasons` Array(String) ALIAS arrayMap(
    bit -> ['crawler', 'headless_agent', 'headless_hint', 'library', 'address', 'ai_crawler', 'ai_assistant',
            'no_agent'][bit + 1],
    bitPositionsToArray(bot)
);

-- The referrer of a visit is that of its first action that has one; other actions of it have none, or another.
CREATE VIEW IF NOT EXISTS visit_referrers AS
SELECT
    site_id,
    visit_id,
    if(came = 0, 1, found.1) AS referrer_type,
    found.2 AS referrer_name,
    found.3 AS referrer_keyword,
    found.4 AS referrer_url
FROM
(
    SELECT
        site_id,
        visit_id,
        countIf(referrer_type != 1) AS came,
        argMinIf(
            (referrer_type, toString(referrer_name), toString(referrer_keyword), referrer_url),
            (generation, `offset`, `index`),
            referrer_type != 1
        ) AS found
    FROM events
    GROUP BY site_id, visit_id
);
