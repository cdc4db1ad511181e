-- Names for people: views, with a comment on each column that says its unit and where it is from. Sums by hour lie in a
-- projection of `events`, so that what is deleted from `events` leaves them at once.
ALTER TABLE events ADD PROJECTION IF NOT EXISTS by_hour
(
    SELECT
        site_id,
        toStartOfHour(time),
        countIf(action_type != 8),
        countIf(action_type = 1),
        countIf(visit_position = 1 AND action_type != 8),
        sum(revenue)
    GROUP BY site_id, toStartOfHour(time)
);

ALTER TABLE events
    COMMENT COLUMN `writer` 'Collector process that took the event, a random number; with partition, seq and index the event''s name for ever',
    COMMENT COLUMN `partition` 'Partition of events.raw',
    COMMENT COLUMN `seq` 'Number of the packet of this writer and partition',
    COMMENT COLUMN `index` 'Number of the event in its packet',
    COMMENT COLUMN `generation` 'Counts the Kafka topic ids that events.raw has had; with offset the place of the packet',
    COMMENT COLUMN `offset` 'Offset of the packet in its partition',
    COMMENT COLUMN `policy_version` 'Names the set of site policies that was applied',
    COMMENT COLUMN `site_id` 'The site''s id (idsite)',
    COMMENT COLUMN `shard` 'Shard of the site',
    COMMENT COLUMN `received_at` 'When the collector received it, UTC, milliseconds',
    COMMENT COLUMN `time` 'When it happened, UTC, milliseconds: received_at, or what cdt and cdo say',
    COMMENT COLUMN `visitor_id` 'Keyed hash of the best id that the policy reads: of the site and day, or of the site where the policy keeps ids',
    COMMENT COLUMN `visitor_kind` 'What visitor_id is of: 1 user id (uid), 2 visitor id (cid, _id), 3 configuration',
    COMMENT COLUMN `config_id` 'Keyed hash of masked address, device and language, of the site and day',
    COMMENT COLUMN `user_id` 'Keyed hash of uid where the policy keeps one, 0 for none',
    COMMENT COLUMN `visit_id` 'The visit: a keyed hash of the name of its first event',
    COMMENT COLUMN `visit_start` 'Time of the visit''s first event, UTC',
    COMMENT COLUMN `visit_position` 'Actions of the visit so far, this one included',
    COMMENT COLUMN `visit_pageviews` 'Page views of the visit so far, this one included',
    COMMENT COLUMN `visit_campaign` 'Campaign that the visit began with; empty for none',
    COMMENT COLUMN `visit_visitor_id` 'Keyed hash by which the visit is found, of its visitor id, 0 for none',
    COMMENT COLUMN `visit_config_id` 'Keyed hash by which the visit is found, of its configuration',
    COMMENT COLUMN `visit_user_id` 'Keyed hash by which the visit is found, of its user id, 0 for none',
    COMMENT COLUMN `visit_last` 'Latest time of an event of the visit so far, UTC',
    COMMENT COLUMN `gap_ms` 'Since the latest event of the visit before, milliseconds, 0 for the first',
    COMMENT COLUMN `action_type` '1 page view, 2 event, 3 outlink, 4 download, 5 goal, 6 order or cart, 7 content, 8 heartbeat, 9 site search, 10 media',
    COMMENT COLUMN `page_view_id` 'Names a page view (pv_id)',
    COMMENT COLUMN `url` 'Address of the page (url), without what the site''s rules remove',
    COMMENT COLUMN `url_host` 'Its host',
    COMMENT COLUMN `url_path` 'Its path',
    COMMENT COLUMN `title` 'Title of the page (action_name)',
    COMMENT COLUMN `link_url` 'Target of an outlink (link) or download (download)',
    COMMENT COLUMN `search_keyword` 'Site search: the words (search, or a parameter of the address)',
    COMMENT COLUMN `search_category` 'Site search: the category (search_cat, or a parameter)',
    COMMENT COLUMN `search_count` 'Site search: number of results (search_count)',
    COMMENT COLUMN `event_category` 'Event (e_c)',
    COMMENT COLUMN `event_action` 'Event (e_a)',
    COMMENT COLUMN `event_name` 'Event (e_n)',
    COMMENT COLUMN `event_value` 'Event (e_v)',
    COMMENT COLUMN `content_name` 'Content (c_n)',
    COMMENT COLUMN `content_piece` 'Content (c_p)',
    COMMENT COLUMN `content_target` 'Content (c_t)',
    COMMENT COLUMN `content_interaction` 'Content (c_i); empty for an impression',
    COMMENT COLUMN `referrer_type` '1 direct, 2 search engine, 3 website, 6 campaign, 7 social network, 8 AI assistant; of this event (urlref)',
    COMMENT COLUMN `referrer_name` 'Search engine, network, assistant, host or campaign',
    COMMENT COLUMN `referrer_keyword` 'Search term, or the campaign''s keyword',
    COMMENT COLUMN `referrer_url` 'Where it came from (urlref), as the site''s rules keep it',
    COMMENT COLUMN `campaign_name` 'mtm_campaign, utm_campaign and the like, of the address or the request',
    COMMENT COLUMN `campaign_source` 'mtm_source, utm_source and the like',
    COMMENT COLUMN `campaign_medium` 'mtm_medium, utm_medium and the like',
    COMMENT COLUMN `campaign_term` 'mtm_kwd, utm_term and the like',
    COMMENT COLUMN `campaign_content` 'mtm_content, utm_content and the like',
    COMMENT COLUMN `goal_id` 'Goal that the request names (idgoal), 0 an order or cart, -1 none',
    COMMENT COLUMN `revenue` 'Money, in the site''s currency (revenue)',
    COMMENT COLUMN `order_id` 'Keyed hash of ec_id, 0 where there is none or the policy keeps none',
    COMMENT COLUMN `order_subtotal` 'Money, in the site''s currency (ec_st)',
    COMMENT COLUMN `order_tax` 'Money, in the site''s currency (ec_tx)',
    COMMENT COLUMN `order_shipping` 'Money, in the site''s currency (ec_sh)',
    COMMENT COLUMN `order_discount` 'Money, in the site''s currency (ec_dt)',
    COMMENT COLUMN `item_sku` 'Things in an order or cart (ec_items)',
    COMMENT COLUMN `item_name` 'Their names (ec_items)',
    COMMENT COLUMN `item_price` 'Their prices, of one, in the site''s currency (ec_items)',
    COMMENT COLUMN `item_quantity` 'How many of each (ec_items)',
    COMMENT COLUMN `device_type` 'desktop, smartphone, tablet, ...; told from the agent',
    COMMENT COLUMN `device_brand` 'Told from the agent',
    COMMENT COLUMN `device_model` 'Told from the agent',
    COMMENT COLUMN `os` 'Operating system, told from the agent',
    COMMENT COLUMN `os_version` 'Its version, told from the agent',
    COMMENT COLUMN `browser` 'Browser, crawler or library, told from the agent',
    COMMENT COLUMN `browser_version` 'Its version, told from the agent',
    COMMENT COLUMN `bot_reasons` 'Why it may not be a person, by name: the bits of bot',
    COMMENT COLUMN `bot` 'Bits of why it may not be a person, 0 for none; names in bot_reasons',
    COMMENT COLUMN `resolution` 'Of the screen, pixels, as 1920x1080 (res)',
    COMMENT COLUMN `language` 'Language code (lang, or Accept-Language)',
    COMMENT COLUMN `plugins` 'Bits: pdf, qt, realp, wma, fla, java, ag, cookie',
    COMMENT COLUMN `local_seconds` 'The visitor''s time of day, seconds (h, m, s), -1 for unknown',
    COMMENT COLUMN `address` 'The masked address',
    COMMENT COLUMN `country` 'ISO 3166 code; country_source tells what told it',
    COMMENT COLUMN `region` 'Region, as the request names it',
    COMMENT COLUMN `city` 'City, as the request names it',
    COMMENT COLUMN `timing_network` 'Milliseconds (pf_net)',
    COMMENT COLUMN `timing_server` 'Milliseconds (pf_srv)',
    COMMENT COLUMN `timing_transfer` 'Milliseconds (pf_tfr)',
    COMMENT COLUMN `timing_dom_processing` 'Milliseconds (pf_dm1)',
    COMMENT COLUMN `timing_dom_completion` 'Milliseconds (pf_dm2)',
    COMMENT COLUMN `timing_on_load` 'Milliseconds (pf_onl)',
    COMMENT COLUMN `consent` '-1 nothing is known, 0 refused, 1 given',
    COMMENT COLUMN `parameters_removed` 'Parameters that the site''s rules removed from addresses and texts',
    COMMENT COLUMN `repeat_id` 'Keyed hash by which a repeat is told; emptied after 8 days',
    COMMENT COLUMN `user_name` 'The user id as it came, where the policy keeps it',
    COMMENT COLUMN `dimension_slot` 'Custom dimensions that the policy keeps: their numbers',
    COMMENT COLUMN `dimension_value` 'Their values',
    COMMENT COLUMN `variable_scope` 'Custom variables that the policy keeps: 1 page, 2 visit, 3 event',
    COMMENT COLUMN `variable_name` 'Their names',
    COMMENT COLUMN `variable_value` 'Their values',
    COMMENT COLUMN `country_source` 'What told the country: request, language, or nothing',
    COMMENT COLUMN `conversion_goal` 'Goals that the event converts; of those that do not repeat one conversion counts per visit (view goal_conversions)',
    COMMENT COLUMN `conversion_revenue` 'What each conversion is worth, in the site''s currency: of the goal, the request or the event',
    COMMENT COLUMN `conversion_repeats` '1 where every conversion of the goal counts',
    COMMENT COLUMN `is_order` '1 an order, 0 a cart or neither (whether ec_id was given)',
    COMMENT COLUMN `item_category` 'Categories of each thing (ec_items), one a line',
    COMMENT COLUMN `product_sku` 'Product that the page shows (_pks)',
    COMMENT COLUMN `product_name` 'Its name (_pkn)',
    COMMENT COLUMN `product_category` 'Its categories, or the category that the page shows (_pkc), one a line',
    COMMENT COLUMN `product_price` 'Its price, in the site''s currency (_pkp)',
    COMMENT COLUMN `media_id` 'Names one playing (ma_id)',
    COMMENT COLUMN `media_type` 'video or audio (ma_mt)',
    COMMENT COLUMN `media_title` 'Its title (ma_ti)',
    COMMENT COLUMN `media_url` 'Its address (ma_re), as the site''s rules keep it',
    COMMENT COLUMN `media_player` 'The player (ma_pn)',
    COMMENT COLUMN `media_watched` 'Played so far, seconds (ma_st)',
    COMMENT COLUMN `media_length` 'Length, seconds (ma_le)',
    COMMENT COLUMN `media_position` 'Where it is, seconds (ma_ps)',
    COMMENT COLUMN `media_wait` 'From load to play, seconds (ma_ttp)',
    COMMENT COLUMN `media_width` 'Of the player, pixels (ma_w)',
    COMMENT COLUMN `media_height` 'Of the player, pixels (ma_h)',
    COMMENT COLUMN `media_fullscreen` '1 in full screen (ma_fs)';

CREATE OR REPLACE VIEW repeats
(
    `appended_at` DateTime64(3, 'UTC') COMMENT 'When Kafka took the packet, UTC',
    `partition` UInt16 COMMENT 'Partition of events.raw',
    `generation` UInt32 COMMENT 'As in packets',
    `offset` UInt64 COMMENT 'Place of the packet',
    `site_id` UInt32 COMMENT 'The site''s id',
    `reason` String COMMENT 'By what the repeat was told: key, random or body',
    `events` UInt32 COMMENT 'How many were dropped'
)
AS SELECT appended_at, `partition`, generation, `offset`, repeat_site AS site_id, repeat_reason AS reason, repeat_count AS events
FROM packets ARRAY JOIN repeats_site AS repeat_site, repeats_reason AS repeat_reason, repeats_count AS repeat_count
COMMENT 'What clients sent twice and was dropped';

CREATE OR REPLACE VIEW masked_values
(
    `appended_at` DateTime64(3, 'UTC') COMMENT 'When Kafka took the packet, UTC',
    `partition` UInt16 COMMENT 'Partition of events.raw',
    `generation` UInt32 COMMENT 'As in packets',
    `offset` UInt64 COMMENT 'Place of the packet',
    `site_id` UInt32 COMMENT 'The site''s id',
    `kind` String COMMENT 'Detector',
    `field` String COMMENT 'Column of events',
    `found` UInt32 COMMENT 'How many values'
)
AS SELECT appended_at, `partition`, generation, `offset`, site AS site_id, kind, field, found
FROM packets ARRAY JOIN masked_site AS site, masked_kind AS kind, masked_field AS field, masked_count AS found
COMMENT 'Values that detectors masked';

CREATE OR REPLACE VIEW visit_consent
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `visit_id` UInt64 COMMENT 'The visit, as in events',
    `consent` Int16 COMMENT '-1 nothing is known, 0 refused, 1 given, 2 both occur'
)
AS SELECT site_id, visit_id,
    multiIf(countIf(e.consent >= 0) = 0, -1, countIf(e.consent = 0) = 0, 1, countIf(e.consent = 1) = 0, 0, 2) AS consent
FROM events AS e GROUP BY site_id, visit_id
COMMENT 'The consent of each visit';

CREATE OR REPLACE VIEW visit_referrers
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `visit_id` UInt64 COMMENT 'The visit, as in events',
    `referrer_type` UInt8 COMMENT '1 direct, 2 search engine, 3 website, 6 campaign, 7 social network, 8 AI assistant; of the first action of the visit that came from somewhere',
    `referrer_name` String COMMENT 'Search engine, network, assistant, host or campaign',
    `referrer_keyword` String COMMENT 'Search term, or the campaign''s keyword',
    `referrer_url` String COMMENT 'Where it came from (urlref), as the site''s rules keep it'
)
AS SELECT site_id, visit_id, if(came = 0, 1, found.1) AS referrer_type, found.2 AS referrer_name, found.3 AS referrer_keyword, found.4 AS referrer_url
FROM
(
    SELECT site_id, visit_id, countIf(referrer_type != 1) AS came,
        argMinIf((referrer_type, toString(referrer_name), toString(referrer_keyword), referrer_url), (generation, `offset`, `index`), referrer_type != 1) AS found
    FROM events GROUP BY site_id, visit_id
)
COMMENT 'Where each visit came from: its first action, in the order of the log, that came from somewhere';

CREATE VIEW IF NOT EXISTS hours
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `hour` DateTime('UTC') COMMENT 'Beginning of an hour, UTC',
    `actions` UInt64 COMMENT 'Actions: all events but heartbeats',
    `pageviews` UInt64 COMMENT 'Page views',
    `visits` UInt64 COMMENT 'Visits that began; a late event that began one counts in its own hour',
    `revenue` Float64 COMMENT 'Money, in the site''s currency, as requests name it'
)
AS SELECT site_id, toStartOfHour(time) AS hour, countIf(action_type != 8) AS actions, countIf(action_type = 1) AS pageviews,
    countIf(visit_position = 1 AND action_type != 8) AS visits, sum(revenue) AS revenue
FROM events GROUP BY site_id, hour
COMMENT 'Events by hour; answered from projection by_hour';

CREATE VIEW IF NOT EXISTS days
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day of UTC',
    `actions` UInt64 COMMENT 'Actions: all events but heartbeats',
    `pageviews` UInt64 COMMENT 'Page views',
    `visits` UInt64 COMMENT 'Visits that began',
    `revenue` Float64 COMMENT 'Money, in the site''s currency, as requests name it'
)
AS SELECT site_id, toDate(hour) AS day, sum(actions) AS actions, sum(pageviews) AS pageviews, sum(visits) AS visits, sum(revenue) AS revenue
FROM hours GROUP BY site_id, day
COMMENT 'Events by day; answered from projection by_hour';

CREATE VIEW IF NOT EXISTS visits
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `visit_id` UInt64 COMMENT 'The visit, as in events',
    `visitor_id` UInt64 COMMENT 'Who it was, by the best id that the site''s policy reads: of the day, or lasting where the policy keeps one',
    `started_at` DateTime64(3, 'UTC') COMMENT 'Its first event, UTC',
    `ended_at` DateTime64(3, 'UTC') COMMENT 'Its last event or heartbeat, UTC',
    `seconds` Float64 COMMENT 'From first to last, seconds',
    `actions` UInt64 COMMENT 'Actions: all events but heartbeats',
    `pageviews` UInt64 COMMENT 'Page views',
    `searches` UInt64 COMMENT 'Site searches',
    `bounced` UInt8 COMMENT '1: a single action',
    `entry_url` String COMMENT 'Its first page, by time; empty without a page view',
    `exit_url` String COMMENT 'Its last page, by time',
    `referrer_type` UInt8 COMMENT '1 direct, 2 search engine, 3 website, 6 campaign, 7 social network, 8 AI assistant; of the first action of the visit that came from somewhere',
    `referrer_name` String COMMENT 'Search engine, network, assistant, host or campaign',
    `referrer_keyword` String COMMENT 'Search term, or the campaign''s keyword',
    `referrer_url` String COMMENT 'Where it came from, as the site''s rules keep it',
    `device_type` String COMMENT 'desktop, smartphone, tablet, ...; told from the agent',
    `os` String COMMENT 'Operating system; told from the agent',
    `browser` String COMMENT 'Browser; told from the agent',
    `language` String COMMENT 'Language code, from the request or Accept-Language',
    `country` String COMMENT 'ISO 3166 code; events.country_source says what told it',
    `bot` UInt8 COMMENT 'Bits of why it may not be a person, 0 for none; names: bots.reasons',
    `goals` Array(UInt32) COMMENT 'Ids of goals converted in it, each once'
)
AS SELECT site_id, visit_id, argMin(e.visitor_id, visitor_kind) AS visitor_id, min(e.time) AS started_at, max(e.time) AS ended_at,
    dateDiff('millisecond', started_at, ended_at) / 1000 AS seconds, countIf(action_type != 8) AS actions,
    countIf(action_type = 1) AS pageviews, countIf(action_type = 9) AS searches, toUInt8(actions = 1) AS bounced,
    argMinIf(url, (e.time, e.generation, e.`offset`, e.`index`), action_type = 1) AS entry_url, argMaxIf(url, (e.time, e.generation, e.`offset`, e.`index`), action_type = 1) AS exit_url,
    if(countIf(e.referrer_type != 1) = 0, 1, argMinIf(e.referrer_type, (e.time, e.generation, e.`offset`, e.`index`), e.referrer_type != 1)) AS referrer_type,
    argMinIf(toString(e.referrer_name), (e.time, e.generation, e.`offset`, e.`index`), e.referrer_type != 1) AS referrer_name,
    argMinIf(toString(e.referrer_keyword), (e.time, e.generation, e.`offset`, e.`index`), e.referrer_type != 1) AS referrer_keyword,
    argMinIf(e.referrer_url, (e.time, e.generation, e.`offset`, e.`index`), e.referrer_type != 1) AS referrer_url,
    argMin(toString(e.device_type), (e.time, e.generation, e.`offset`, e.`index`)) AS device_type, argMin(toString(e.os), (e.time, e.generation, e.`offset`, e.`index`)) AS os,
    argMin(toString(e.browser), (e.time, e.generation, e.`offset`, e.`index`)) AS browser, argMin(toString(e.language), (e.time, e.generation, e.`offset`, e.`index`)) AS language,
    argMin(toString(e.country), (e.time, e.generation, e.`offset`, e.`index`)) AS country, groupBitOr(e.bot) AS bot,
    groupUniqArrayArray(conversion_goal) AS goals
FROM events AS e WHERE visit_id != 0 GROUP BY site_id, visit_id
COMMENT 'One row per visit';

CREATE VIEW IF NOT EXISTS returning_visits
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `visit_id` UInt64 COMMENT 'The visit, as in events',
    `visitor_id` UInt64 COMMENT 'Who it was, by the best id that the site''s policy reads: of the day, or lasting where the policy keeps one',
    `started_at` DateTime64(3, 'UTC') COMMENT 'Its first event, UTC',
    `visit_number` UInt64 COMMENT '1 for the visitor''s first visit',
    `days_since_last` Nullable(Int64) COMMENT 'Days since the visit before, NULL for the first',
    `days_since_first` Int64 COMMENT 'Days since the first visit'
)
AS SELECT site_id, visit_id, visitor_id, started_at,
    row_number() OVER visitor AS visit_number,
    if(visit_number = 1, NULL, dateDiff('day', lagInFrame(started_at) OVER visitor, started_at)) AS days_since_last,
    dateDiff('day', first_value(started_at) OVER visitor, started_at) AS days_since_first
FROM visits
WINDOW visitor AS (PARTITION BY site_id, visitor_id ORDER BY started_at, visit_id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
COMMENT 'Visits with what came before of the same visitor; it reaches beyond a day where the policy keeps an id';

CREATE VIEW IF NOT EXISTS pages
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day of UTC',
    `url` String COMMENT 'The page, without what the site''s rules remove',
    `title` String COMMENT 'A title of the page',
    `views` UInt64 COMMENT 'Page views',
    `visits` UInt64 COMMENT 'Visits that saw it',
    `entries` UInt64 COMMENT 'Visits that began with it',
    `load_ms` Float64 COMMENT 'Mean of the six timings together, milliseconds; NaN where no request had any'
)
AS SELECT site_id, toDate(time) AS day, url, any(title) AS title, count() AS views, uniqExact(visit_id) AS visits,
    countIf(visit_position = 1) AS entries,
    avgIf(timing_network + timing_server + timing_transfer + timing_dom_processing + timing_dom_completion + timing_on_load,
        timing_server + timing_transfer + timing_dom_processing > 0) AS load_ms
FROM events WHERE action_type = 1 GROUP BY site_id, day, url
COMMENT 'Page views by day and page';

CREATE VIEW IF NOT EXISTS page_times
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day of UTC',
    `url` String COMMENT 'The page, without what the site''s rules remove',
    `views` UInt64 COMMENT 'Page views',
    `exits` UInt64 COMMENT 'Of these, the last event of their visit',
    `seconds` Float64 COMMENT 'Mean time until the next event of the visit, seconds, at most 1800 each; NaN where none followed'
)
AS SELECT site_id, toDate(time) AS day, url, count() AS views, countIf(following = 0) AS exits, avgIf(seconds, following > 0) AS seconds FROM
(
    SELECT site_id, time, url, action_type,
        toUnixTimestamp64Milli(leadInFrame(time) OVER visit) AS following,
        least((following - toUnixTimestamp64Milli(time)) / 1000, 1800) AS seconds
    FROM events WHERE visit_id != 0
    WINDOW visit AS (PARTITION BY site_id, visit_id ORDER BY time, generation, `offset`, `index` ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
)
WHERE action_type = 1 GROUP BY site_id, day, url
COMMENT 'How long pages were looked at, by day and page';

CREATE VIEW IF NOT EXISTS referrers
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day of UTC',
    `referrer_type` UInt8 COMMENT '1 direct, 2 search engine, 3 website, 6 campaign, 7 social network, 8 AI assistant; of the first action of the visit that came from somewhere',
    `referrer_name` String COMMENT 'Search engine, network, assistant, host or campaign',
    `referrer_keyword` String COMMENT 'Search term, or the campaign''s keyword',
    `visits` UInt64 COMMENT 'Visits',
    `actions` UInt64 COMMENT 'Actions: all events but heartbeats',
    `bounces` UInt64 COMMENT 'Visits of a single action',
    `seconds` Float64 COMMENT 'Mean length of a visit, seconds'
)
AS SELECT site_id, toDate(started_at) AS day, referrer_type, referrer_name, referrer_keyword, count() AS visits,
    sum(actions) AS actions, sum(bounced) AS bounces, avg(seconds) AS seconds
FROM visits GROUP BY site_id, day, referrer_type, referrer_name, referrer_keyword
COMMENT 'Visits by day and where they came from';

CREATE VIEW IF NOT EXISTS campaigns
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day of UTC',
    `name` LowCardinality(String) COMMENT 'mtm_campaign, utm_campaign and the like',
    `source` LowCardinality(String) COMMENT 'mtm_source, utm_source and the like',
    `medium` LowCardinality(String) COMMENT 'mtm_medium, utm_medium and the like',
    `term` LowCardinality(String) COMMENT 'mtm_kwd, utm_term and the like',
    `content` LowCardinality(String) COMMENT 'mtm_content, utm_content and the like',
    `visits` UInt64 COMMENT 'Visits with such an arrival',
    `arrivals` UInt64 COMMENT 'Events that name the campaign'
)
AS SELECT site_id, toDate(time) AS day, toString(campaign_name) AS name, toString(campaign_source) AS source, toString(campaign_medium) AS medium,
    toString(campaign_term) AS term, toString(campaign_content) AS content, uniqExact(visit_id) AS visits, count() AS arrivals
FROM events WHERE campaign_name != '' GROUP BY site_id, day, name, source, medium, term, content
COMMENT 'Arrivals from campaigns by day';

CREATE VIEW IF NOT EXISTS goal_conversions
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `time` DateTime64(3, 'UTC') COMMENT 'When, UTC',
    `visit_id` UInt64 COMMENT 'The visit, as in events',
    `visitor_id` UInt64 COMMENT 'Who it was, by the best id that the site''s policy reads: of the day, or lasting where the policy keeps one',
    `goal` UInt32 COMMENT 'The goal''s id',
    `revenue` Float64 COMMENT 'Money, in the site''s currency, as requests name it',
    `url` String COMMENT 'The page it happened on',
    `referrer_type` UInt8 COMMENT '1 direct, 2 search engine, 3 website, 6 campaign, 7 social network, 8 AI assistant; of the first action of the visit that came from somewhere',
    `referrer_name` String COMMENT 'Search engine, network, assistant, host or campaign',
    `referrer_keyword` String COMMENT 'Search term, or the campaign''s keyword',
    `last_referrer_type` UInt8 COMMENT 'As referrer_type, of the visitor''s last arrival from somewhere, where the visit itself has none: beyond a day only where the policy keeps an id',
    `last_referrer_name` String COMMENT 'Of that arrival',
    `last_referrer_keyword` String COMMENT 'Of that arrival'
)
AS SELECT c.site_id AS site_id, c.time AS time, c.visit_id AS visit_id, c.visitor_id AS visitor_id, c.goal AS goal, c.revenue AS revenue, c.url AS url,
    r.referrer_type AS referrer_type, r.referrer_name AS referrer_name, r.referrer_keyword AS referrer_keyword,
    if(r.referrer_type != 1 OR l.referrer_type = 0, r.referrer_type, l.referrer_type) AS last_referrer_type,
    if(r.referrer_type != 1 OR l.referrer_type = 0, r.referrer_name, l.referrer_name) AS last_referrer_name,
    if(r.referrer_type != 1 OR l.referrer_type = 0, r.referrer_keyword, l.referrer_keyword) AS last_referrer_keyword
FROM
(
    SELECT site_id, time, visit_id, visitor_id, goal, revenue, url FROM
    (
        SELECT site_id, time, visit_id, visitor_id, generation, `offset`, `index`, url, converted AS goal, worth AS revenue,
            row_number() OVER (PARTITION BY site_id, visit_id, converted ORDER BY generation, `offset`, `index`) AS number, again
        FROM events
        ARRAY JOIN conversion_goal AS converted, conversion_revenue AS worth, conversion_repeats AS again
        WHERE notEmpty(conversion_goal)
    )
    WHERE number = 1 OR again
) AS c
LEFT JOIN visit_referrers AS r ON c.site_id = r.site_id AND c.visit_id = r.visit_id
ASOF LEFT JOIN
(
    SELECT site_id, visitor_id, time, referrer_type, toString(referrer_name) AS referrer_name, toString(referrer_keyword) AS referrer_keyword
    FROM events WHERE referrer_type NOT IN (0, 1)
) AS l ON c.site_id = l.site_id AND c.visitor_id = l.visitor_id AND c.time >= l.time
COMMENT 'One row per conversion that counts, with what it is attributed to';

CREATE VIEW IF NOT EXISTS goals
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day of UTC',
    `goal` UInt32 COMMENT 'The goal''s id',
    `referrer_type` UInt8 COMMENT '1 direct, 2 search engine, 3 website, 6 campaign, 7 social network, 8 AI assistant; of the first action of the visit that came from somewhere',
    `referrer_name` String COMMENT 'Search engine, network, assistant, host or campaign',
    `conversions` UInt64 COMMENT 'Conversions that count',
    `visits` UInt64 COMMENT 'Visits with one',
    `revenue` Float64 COMMENT 'Money, in the site''s currency, as requests name it'
)
AS SELECT site_id, toDate(time) AS day, goal, referrer_type, referrer_name, count() AS conversions, uniqExact(visit_id) AS visits, sum(revenue) AS revenue
FROM goal_conversions GROUP BY site_id, day, goal, referrer_type, referrer_name
COMMENT 'Conversions by day, goal and where the visit came from';

CREATE VIEW IF NOT EXISTS orders
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `time` DateTime64(3, 'UTC') COMMENT 'When, UTC',
    `visit_id` UInt64 COMMENT 'The visit, as in events',
    `order_id` UInt64 COMMENT 'Keyed hash of ec_id, 0 where the policy keeps none',
    `revenue` Float64 COMMENT 'Total (revenue), in the site''s currency',
    `subtotal` Float64 COMMENT 'ec_st',
    `tax` Float64 COMMENT 'ec_tx',
    `shipping` Float64 COMMENT 'ec_sh',
    `discount` Float64 COMMENT 'ec_dt',
    `items` UInt64 COMMENT 'Number of things bought',
    `referrer_type` UInt8 COMMENT '1 direct, 2 search engine, 3 website, 6 campaign, 7 social network, 8 AI assistant; of the first action of the visit that came from somewhere',
    `referrer_name` String COMMENT 'Search engine, network, assistant, host or campaign',
    `referrer_keyword` String COMMENT 'Search term, or the campaign''s keyword'
)
AS SELECT o.site_id AS site_id, o.time AS time, o.visit_id AS visit_id, o.order_id AS order_id, o.revenue AS revenue, o.order_subtotal AS subtotal,
    o.order_tax AS tax, o.order_shipping AS shipping, o.order_discount AS discount, o.items AS items,
    r.referrer_type AS referrer_type, r.referrer_name AS referrer_name, r.referrer_keyword AS referrer_keyword
FROM
(
    SELECT site_id, time, visit_id, order_id, revenue, order_subtotal, order_tax, order_shipping, order_discount, arraySum(item_quantity) AS items
    FROM events WHERE is_order = 1
    ORDER BY generation, `offset`, `index`
    LIMIT 1 BY site_id, visit_id, order_id, if(order_id = 0, (writer, `partition`, seq, `index`), (0, 0, 0, 0))
) AS o
LEFT JOIN visit_referrers AS r ON o.site_id = r.site_id AND o.visit_id = r.visit_id
COMMENT 'One row per order; one that a client sends again in a visit is one';

CREATE VIEW IF NOT EXISTS order_items
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `time` DateTime64(3, 'UTC') COMMENT 'When, UTC',
    `visit_id` UInt64 COMMENT 'The visit, as in events',
    `order_id` UInt64 COMMENT 'Keyed hash of ec_id, 0 where the policy keeps none',
    `sku` String COMMENT 'ec_items',
    `name` String COMMENT 'ec_items',
    `categories` Array(String) COMMENT 'ec_items, at most five',
    `price` Float64 COMMENT 'Of one, in the site''s currency',
    `quantity` UInt32 COMMENT 'How many',
    `revenue` Float64 COMMENT 'Price times quantity'
)
AS SELECT site_id, time, visit_id, order_id, sku, name, splitByChar('\n', categories) AS categories, price, quantity, price * quantity AS revenue
FROM
(
    SELECT site_id, time, visit_id, order_id, item_sku, item_name, item_category, item_price, item_quantity
    FROM events WHERE is_order = 1
    ORDER BY generation, `offset`, `index`
    LIMIT 1 BY site_id, visit_id, order_id, if(order_id = 0, (writer, `partition`, seq, `index`), (0, 0, 0, 0))
)
ARRAY JOIN item_sku AS sku, item_name AS name, arrayResize(item_category, length(item_sku)) AS categories, item_price AS price, item_quantity AS quantity
COMMENT 'One row per kind of thing in an order';

CREATE VIEW IF NOT EXISTS abandoned_carts
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `visit_id` UInt64 COMMENT 'The visit, as in events',
    `time` DateTime64(3, 'UTC') COMMENT 'Its last change, UTC',
    `revenue` Float64 COMMENT 'What it was worth, in the site''s currency',
    `skus` Array(String) COMMENT 'What lay in it',
    `items` UInt64 COMMENT 'Number of things in it'
)
AS SELECT site_id, visit_id, max(e.time) AS time, argMax(e.revenue, (e.time, e.generation, e.`offset`, e.`index`)) AS revenue, argMax(item_sku, (e.time, e.generation, e.`offset`, e.`index`)) AS skus, argMax(arraySum(item_quantity), (e.time, e.generation, e.`offset`, e.`index`)) AS items
FROM events AS e WHERE action_type = 6 GROUP BY site_id, visit_id HAVING argMax(is_order, (e.time, e.generation, e.`offset`, e.`index`)) = 0 AND items > 0
COMMENT 'Visits whose last basket was not ordered';

CREATE VIEW IF NOT EXISTS products
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day of UTC',
    `sku` String COMMENT '_pks and ec_items',
    `name` String COMMENT 'A name of the product',
    `views` UInt64 COMMENT 'Page views of the product',
    `quantity` UInt64 COMMENT 'How many were ordered',
    `revenue` Float64 COMMENT 'Price times quantity of what was ordered'
)
AS SELECT site_id, day, sku, any(product) AS name, sum(viewed) AS views, sum(sold) AS quantity, sum(money) AS revenue FROM
(
    SELECT site_id, toDate(time) AS day, product_sku AS sku, product_name AS product, 1 AS viewed, 0 AS sold, 0. AS money
    FROM events WHERE action_type = 1 AND product_sku != ''
    UNION ALL
    SELECT site_id, toDate(time) AS day, sku, name AS product, 0 AS viewed, quantity AS sold, revenue AS money FROM order_items
)
GROUP BY site_id, day, sku
COMMENT 'Views of products and categories, and what was sold, by day';

CREATE VIEW IF NOT EXISTS product_categories
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day of UTC',
    `category` String COMMENT '_pkc; a page with several counts in each',
    `views` UInt64 COMMENT 'Page views',
    `visits` UInt64 COMMENT 'Visits'
)
AS SELECT site_id, toDate(time) AS day, category, count() AS views, uniqExact(visit_id) AS visits
FROM events ARRAY JOIN splitByChar('\n', product_category) AS category WHERE product_category != '' GROUP BY site_id, day, category
COMMENT 'Views of pages of product categories by day';

CREATE VIEW IF NOT EXISTS content
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day of UTC',
    `name` LowCardinality(String) COMMENT 'c_n',
    `piece` LowCardinality(String) COMMENT 'c_p',
    `target` LowCardinality(String) COMMENT 'c_t, as the site''s rules keep it',
    `impressions` UInt64 COMMENT 'Times it was shown',
    `interactions` UInt64 COMMENT 'Times something was done with it (c_i)'
)
AS SELECT site_id, toDate(time) AS day, toString(content_name) AS name, toString(content_piece) AS piece, toString(content_target) AS target,
    countIf(content_interaction = '') AS impressions, countIf(content_interaction != '') AS interactions
FROM events WHERE action_type = 7 GROUP BY site_id, day, name, piece, target
COMMENT 'Impressions of content, and what was done with it, by day';

CREATE VIEW IF NOT EXISTS media
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day of UTC',
    `url` String COMMENT 'ma_re, as the site''s rules keep it',
    `title` String COMMENT 'ma_ti',
    `type` String COMMENT 'video or audio (ma_mt)',
    `plays` UInt64 COMMENT 'Players (ma_id)',
    `started` UInt64 COMMENT 'Of these, played at all',
    `seconds` UInt64 COMMENT 'Played together, seconds (ma_st)',
    `share` Float64 COMMENT 'Mean part of the length that was played, 0 to 1',
    `fullscreen` UInt64 COMMENT 'Of these, in full screen at some time (ma_fs)'
)
AS SELECT site_id, toDate(began) AS day, url, any(title_) AS title, any(type_) AS type, count() AS plays, countIf(watched > 0) AS started,
    sum(watched) AS seconds, avgIf(least(watched / length_, 1), length_ > 0) AS share, countIf(full) AS fullscreen FROM
(
    SELECT site_id, media_id, media_url AS url, min(time) AS began, any(media_title) AS title_, any(toString(media_type)) AS type_, max(media_watched) AS watched,
        max(media_length) AS length_, max(media_fullscreen) AS full
    FROM events WHERE action_type = 10 GROUP BY site_id, media_id, url
)
GROUP BY site_id, day, url
COMMENT 'Playings of videos and sounds by day';

CREATE VIEW IF NOT EXISTS searches
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day of UTC',
    `keyword` LowCardinality(String) COMMENT 'search, or a parameter of the page''s address',
    `category` LowCardinality(String) COMMENT 'search_cat, or a parameter',
    `searches` UInt64 COMMENT 'Searches',
    `visits` UInt64 COMMENT 'Visits with one',
    `results` Float64 COMMENT 'Mean number of results (search_count)'
)
AS SELECT site_id, toDate(time) AS day, toString(search_keyword) AS keyword, toString(search_category) AS category, count() AS searches, uniqExact(visit_id) AS visits,
    avg(search_count) AS results FROM events WHERE action_type = 9 GROUP BY site_id, day, keyword, category
COMMENT 'Site searches by day';

CREATE VIEW IF NOT EXISTS bots
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day of UTC',
    `name` LowCardinality(String) COMMENT 'Crawler, agent or browser',
    `reasons` Array(String) COMMENT 'Why, by name',
    `events` UInt64 COMMENT 'Events',
    `pageviews` UInt64 COMMENT 'Page views',
    `visits` UInt64 COMMENT 'Visits'
)
AS SELECT site_id, toDate(time) AS day, toString(browser) AS name, bot_reasons AS reasons, count() AS events, countIf(action_type = 1) AS pageviews, uniqExact(visit_id) AS visits
FROM events WHERE bot != 0 GROUP BY site_id, day, name, reasons
COMMENT 'What may not be people, by day, name and reason';

CREATE VIEW IF NOT EXISTS realtime
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `minute` DateTime('UTC') COMMENT 'Beginning of a minute, UTC',
    `actions` UInt64 COMMENT 'Actions: all events but heartbeats',
    `pageviews` UInt64 COMMENT 'Page views',
    `visits` UInt64 COMMENT 'Visits with an event in it'
)
AS SELECT site_id, toStartOfMinute(time) AS minute, countIf(action_type != 8) AS actions, countIf(action_type = 1) AS pageviews, uniqExact(visit_id) AS visits
FROM events WHERE time > now64(3, 'UTC') - INTERVAL 30 MINUTE GROUP BY site_id, minute
COMMENT 'The last 30 minutes by minute';
