-- The day of an event at its site, which reports by day go by; rows of before have the day of UTC. Two more reasons why
-- an event may not be a person's, and how much the reasons weigh together. Reports of crashes.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS `crash_message` String COMMENT 'Message of an error of a script (cra), as the site''s rules keep it',
    ADD COLUMN IF NOT EXISTS `crash_type` LowCardinality(String) COMMENT 'cra_tp, e.g. TypeError',
    ADD COLUMN IF NOT EXISTS `crash_category` LowCardinality(String) COMMENT 'cra_ct',
    ADD COLUMN IF NOT EXISTS `crash_source` String COMMENT 'Script or page of the error (cra_ru), as the site''s rules keep it',
    ADD COLUMN IF NOT EXISTS `crash_line` UInt32 COMMENT 'cra_rl, from 1; 0 where the request says nothing',
    ADD COLUMN IF NOT EXISTS `crash_column` UInt32 COMMENT 'cra_rc, from 1; 0 where the request says nothing',
    ADD COLUMN IF NOT EXISTS `crash_stack` String COMMENT 'cra_st, a frame a line, as the site''s rules keep it',
    ADD COLUMN IF NOT EXISTS `day` Date DEFAULT toDate(time) COMMENT 'The date of time in the site''s time zone';

ALTER TABLE events ADD INDEX IF NOT EXISTS day_minmax day TYPE minmax GRANULARITY 1;

ALTER TABLE events DROP PROJECTION IF EXISTS by_hour;

ALTER TABLE events ADD PROJECTION by_hour
(
    SELECT
        site_id,
        day,
        toStartOfHour(time),
        countIf(action_type != 8),
        countIf(action_type = 1),
        countIf(visit_position = 1 AND action_type != 8),
        sum(revenue)
    GROUP BY site_id, day, toStartOfHour(time)
);

ALTER TABLE events MODIFY COLUMN `bot` UInt16;

ALTER TABLE events MODIFY COLUMN `bot_reasons` Array(String) ALIAS arrayMap(
    bit -> ['crawler', 'headless_agent', 'headless_hint', 'library', 'address', 'ai_crawler', 'ai_assistant',
            'no_agent', 'contradiction', 'no_scripts'][bit + 1],
    bitPositionsToArray(bot)
);

ALTER TABLE events ADD COLUMN IF NOT EXISTS `bot_score` UInt8 ALIAS least(100, arraySum(
    bit -> [100, 90, 90, 60, 80, 100, 100, 60, 70, 20][bit + 1],
    bitPositionsToArray(bot)
)) COMMENT 'How sure it is that no person did it, 0 to 100: the reasons'' weights together; re-decide by bot';

CREATE OR REPLACE VIEW days
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day at the site',
    `actions` UInt64 COMMENT 'Actions: all events but heartbeats',
    `pageviews` UInt64 COMMENT 'Page views',
    `visits` UInt64 COMMENT 'Visits that began',
    `revenue` Float64 COMMENT 'Money, in the site''s currency, as requests name it'
)
AS SELECT site_id, day, countIf(action_type != 8) AS actions, countIf(action_type = 1) AS pageviews,
    countIf(visit_position = 1 AND action_type != 8) AS visits, sum(revenue) AS revenue
FROM events GROUP BY site_id, day
COMMENT 'Events by day; answered from projection by_hour';

CREATE OR REPLACE VIEW visits
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `visit_id` UInt64 COMMENT 'The visit, as in events',
    `visitor_id` UInt64 COMMENT 'Who it was, by the best id that the site''s policy reads: of the day, or lasting where the policy keeps one',
    `day` Date COMMENT 'Calendar day at the site; a visit ends with it',
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
    `bot` UInt16 COMMENT 'Bits of why it may not be a person, 0 for none',
    `bot_reasons` Array(String) COMMENT 'Why, by name; rate: at least 20 actions, more than one a second on average',
    `bot_score` UInt8 COMMENT 'How sure it is that it was no person, 0 to 100',
    `goals` Array(UInt32) COMMENT 'Ids of goals converted in it, each once'
)
AS SELECT site_id, visit_id, argMin(e.visitor_id, visitor_kind) AS visitor_id, min(e.day) AS day, min(e.time) AS started_at, max(e.time) AS ended_at,
    dateDiff('millisecond', started_at, ended_at) / 1000 AS seconds, countIf(action_type != 8) AS actions,
    countIf(action_type = 1) AS pageviews, countIf(action_type = 9) AS searches, toUInt8(actions = 1) AS bounced, actions >= 20 AND actions > seconds AS rushed,
    argMinIf(url, (e.time, e.generation, e.`offset`, e.`index`), action_type = 1) AS entry_url, argMaxIf(url, (e.time, e.generation, e.`offset`, e.`index`), action_type = 1) AS exit_url,
    if(countIf(e.referrer_type != 1) = 0, 1, argMinIf(e.referrer_type, (e.time, e.generation, e.`offset`, e.`index`), e.referrer_type != 1)) AS referrer_type,
    argMinIf(toString(e.referrer_name), (e.time, e.generation, e.`offset`, e.`index`), e.referrer_type != 1) AS referrer_name,
    argMinIf(toString(e.referrer_keyword), (e.time, e.generation, e.`offset`, e.`index`), e.referrer_type != 1) AS referrer_keyword,
    argMinIf(e.referrer_url, (e.time, e.generation, e.`offset`, e.`index`), e.referrer_type != 1) AS referrer_url,
    argMin(toString(e.device_type), (e.time, e.generation, e.`offset`, e.`index`)) AS device_type, argMin(toString(e.os), (e.time, e.generation, e.`offset`, e.`index`)) AS os,
    argMin(toString(e.browser), (e.time, e.generation, e.`offset`, e.`index`)) AS browser, argMin(toString(e.language), (e.time, e.generation, e.`offset`, e.`index`)) AS language,
    argMin(toString(e.country), (e.time, e.generation, e.`offset`, e.`index`)) AS country, groupBitOr(e.bot) AS bot,
    arrayConcat(arraySort(groupUniqArrayArray(e.bot_reasons)), if(rushed, ['rate'], [])) AS bot_reasons, toUInt8(least(100, max(e.bot_score) + if(rushed, 70, 0))) AS bot_score,
    groupUniqArrayArray(conversion_goal) AS goals
FROM events AS e WHERE visit_id != 0 GROUP BY site_id, visit_id
COMMENT 'One row per visit';

CREATE OR REPLACE VIEW returning_visits
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `visit_id` UInt64 COMMENT 'The visit, as in events',
    `visitor_id` UInt64 COMMENT 'Who it was, by the best id that the site''s policy reads: of the day, or lasting where the policy keeps one',
    `started_at` DateTime64(3, 'UTC') COMMENT 'Its first event, UTC',
    `visit_number` UInt64 COMMENT '1 for the visitor''s first visit',
    `days_since_last` Nullable(Int64) COMMENT 'Days at the site since the visit before, NULL for the first',
    `days_since_first` Int64 COMMENT 'Days at the site since the first visit'
)
AS SELECT site_id, visit_id, visitor_id, started_at,
    row_number() OVER visitor AS visit_number,
    if(visit_number = 1, NULL, dateDiff('day', lagInFrame(day) OVER visitor, day)) AS days_since_last,
    dateDiff('day', first_value(day) OVER visitor, day) AS days_since_first
FROM visits
WINDOW visitor AS (PARTITION BY site_id, visitor_id ORDER BY started_at, visit_id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
COMMENT 'Visits with what came before of the same visitor; it reaches beyond a day where the policy keeps an id';

CREATE OR REPLACE VIEW pages
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day at the site',
    `url` String COMMENT 'The page, without what the site''s rules remove',
    `title` String COMMENT 'A title of the page',
    `views` UInt64 COMMENT 'Page views',
    `visits` UInt64 COMMENT 'Visits that saw it',
    `entries` UInt64 COMMENT 'Visits that began with it',
    `load_ms` Float64 COMMENT 'Mean of the six timings together, milliseconds; NaN where no request had any'
)
AS SELECT site_id, day, url, any(title) AS title, count() AS views, uniqExact(visit_id) AS visits,
    countIf(visit_position = 1) AS entries,
    avgIf(timing_network + timing_server + timing_transfer + timing_dom_processing + timing_dom_completion + timing_on_load,
        timing_server + timing_transfer + timing_dom_processing > 0) AS load_ms
FROM events WHERE action_type = 1 GROUP BY site_id, day, url
COMMENT 'Page views by day and page';

CREATE OR REPLACE VIEW page_times
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day at the site',
    `url` String COMMENT 'The page, without what the site''s rules remove',
    `views` UInt64 COMMENT 'Page views',
    `exits` UInt64 COMMENT 'Of these, the last event of their visit',
    `seconds` Float64 COMMENT 'Mean time until the next event of the visit, seconds, at most 1800 each; NaN where none followed'
)
AS SELECT site_id, day, url, count() AS views, countIf(following = 0) AS exits, avgIf(seconds, following > 0) AS seconds FROM
(
    SELECT site_id, day, time, url, action_type,
        toUnixTimestamp64Milli(leadInFrame(time) OVER visit) AS following,
        least((following - toUnixTimestamp64Milli(time)) / 1000, 1800) AS seconds
    FROM events WHERE visit_id != 0
    WINDOW visit AS (PARTITION BY site_id, visit_id ORDER BY time, generation, `offset`, `index` ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
)
WHERE action_type = 1 GROUP BY site_id, day, url
COMMENT 'How long pages were looked at, by day and page';

CREATE OR REPLACE VIEW referrers
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day at the site',
    `referrer_type` UInt8 COMMENT '1 direct, 2 search engine, 3 website, 6 campaign, 7 social network, 8 AI assistant; of the first action of the visit that came from somewhere',
    `referrer_name` String COMMENT 'Search engine, network, assistant, host or campaign',
    `referrer_keyword` String COMMENT 'Search term, or the campaign''s keyword',
    `visits` UInt64 COMMENT 'Visits',
    `actions` UInt64 COMMENT 'Actions: all events but heartbeats',
    `bounces` UInt64 COMMENT 'Visits of a single action',
    `seconds` Float64 COMMENT 'Mean length of a visit, seconds'
)
AS SELECT site_id, day, referrer_type, referrer_name, referrer_keyword, count() AS visits,
    sum(actions) AS actions, sum(bounced) AS bounces, avg(seconds) AS seconds
FROM visits GROUP BY site_id, day, referrer_type, referrer_name, referrer_keyword
COMMENT 'Visits by day and where they came from';

CREATE OR REPLACE VIEW campaigns
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day at the site',
    `name` LowCardinality(String) COMMENT 'mtm_campaign, utm_campaign and the like',
    `source` LowCardinality(String) COMMENT 'mtm_source, utm_source and the like',
    `medium` LowCardinality(String) COMMENT 'mtm_medium, utm_medium and the like',
    `term` LowCardinality(String) COMMENT 'mtm_kwd, utm_term and the like',
    `content` LowCardinality(String) COMMENT 'mtm_content, utm_content and the like',
    `visits` UInt64 COMMENT 'Visits with such an arrival',
    `arrivals` UInt64 COMMENT 'Events that name the campaign'
)
AS SELECT site_id, day, toString(campaign_name) AS name, toString(campaign_source) AS source, toString(campaign_medium) AS medium,
    toString(campaign_term) AS term, toString(campaign_content) AS content, uniqExact(visit_id) AS visits, count() AS arrivals
FROM events WHERE campaign_name != '' GROUP BY site_id, day, name, source, medium, term, content
COMMENT 'Arrivals from campaigns by day';

CREATE OR REPLACE VIEW goal_conversions
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day at the site',
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
AS SELECT c.site_id AS site_id, c.day AS day, c.time AS time, c.visit_id AS visit_id, c.visitor_id AS visitor_id, c.goal AS goal, c.revenue AS revenue, c.url AS url,
    r.referrer_type AS referrer_type, r.referrer_name AS referrer_name, r.referrer_keyword AS referrer_keyword,
    if(r.referrer_type != 1 OR l.referrer_type = 0, r.referrer_type, l.referrer_type) AS last_referrer_type,
    if(r.referrer_type != 1 OR l.referrer_type = 0, r.referrer_name, l.referrer_name) AS last_referrer_name,
    if(r.referrer_type != 1 OR l.referrer_type = 0, r.referrer_keyword, l.referrer_keyword) AS last_referrer_keyword
FROM
(
    SELECT site_id, day, time, visit_id, visitor_id, goal, revenue, url FROM
    (
        SELECT site_id, day, time, visit_id, visitor_id, generation, `offset`, `index`, url, converted AS goal, worth AS revenue,
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

CREATE OR REPLACE VIEW goals
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day at the site',
    `goal` UInt32 COMMENT 'The goal''s id',
    `referrer_type` UInt8 COMMENT '1 direct, 2 search engine, 3 website, 6 campaign, 7 social network, 8 AI assistant; of the first action of the visit that came from somewhere',
    `referrer_name` String COMMENT 'Search engine, network, assistant, host or campaign',
    `conversions` UInt64 COMMENT 'Conversions that count',
    `visits` UInt64 COMMENT 'Visits with one',
    `revenue` Float64 COMMENT 'Money, in the site''s currency, as requests name it'
)
AS SELECT site_id, day, goal, referrer_type, referrer_name, count() AS conversions, uniqExact(visit_id) AS visits, sum(revenue) AS revenue
FROM goal_conversions GROUP BY site_id, day, goal, referrer_type, referrer_name
COMMENT 'Conversions by day, goal and where the visit came from';

CREATE OR REPLACE VIEW order_items
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day at the site',
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
AS SELECT site_id, day, time, visit_id, order_id, sku, name, splitByChar('\n', categories) AS categories, price, quantity, price * quantity AS revenue
FROM
(
    SELECT site_id, day, time, visit_id, order_id, item_sku, item_name, item_category, item_price, item_quantity
    FROM events WHERE is_order = 1
    ORDER BY generation, `offset`, `index`
    LIMIT 1 BY site_id, visit_id, order_id, if(order_id = 0, (writer, `partition`, seq, `index`), (0, 0, 0, 0))
)
ARRAY JOIN item_sku AS sku, item_name AS name, arrayResize(item_category, length(item_sku)) AS categories, item_price AS price, item_quantity AS quantity
COMMENT 'One row per kind of thing in an order';

CREATE OR REPLACE VIEW products
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day at the site',
    `sku` String COMMENT '_pks and ec_items',
    `name` String COMMENT 'A name of the product',
    `views` UInt64 COMMENT 'Page views of the product',
    `quantity` UInt64 COMMENT 'How many were ordered',
    `revenue` Float64 COMMENT 'Price times quantity of what was ordered'
)
AS SELECT site_id, day, sku, any(product) AS name, sum(viewed) AS views, sum(sold) AS quantity, sum(money) AS revenue FROM
(
    SELECT site_id, day, product_sku AS sku, product_name AS product, 1 AS viewed, 0 AS sold, 0. AS money
    FROM events WHERE action_type = 1 AND product_sku != ''
    UNION ALL
    SELECT site_id, day, sku, name AS product, 0 AS viewed, quantity AS sold, revenue AS money FROM order_items
)
GROUP BY site_id, day, sku
COMMENT 'Views of products and categories, and what was sold, by day';

CREATE OR REPLACE VIEW product_categories
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day at the site',
    `category` String COMMENT '_pkc; a page with several counts in each',
    `views` UInt64 COMMENT 'Page views',
    `visits` UInt64 COMMENT 'Visits'
)
AS SELECT site_id, day, category, count() AS views, uniqExact(visit_id) AS visits
FROM events ARRAY JOIN splitByChar('\n', product_category) AS category WHERE product_category != '' GROUP BY site_id, day, category
COMMENT 'Views of pages of product categories by day';

CREATE OR REPLACE VIEW content
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day at the site',
    `name` LowCardinality(String) COMMENT 'c_n',
    `piece` LowCardinality(String) COMMENT 'c_p',
    `target` LowCardinality(String) COMMENT 'c_t, as the site''s rules keep it',
    `impressions` UInt64 COMMENT 'Times it was shown',
    `interactions` UInt64 COMMENT 'Times something was done with it (c_i)'
)
AS SELECT site_id, day, toString(content_name) AS name, toString(content_piece) AS piece, toString(content_target) AS target,
    countIf(content_interaction = '') AS impressions, countIf(content_interaction != '') AS interactions
FROM events WHERE action_type = 7 GROUP BY site_id, day, name, piece, target
COMMENT 'Impressions of content, and what was done with it, by day';

CREATE OR REPLACE VIEW media
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day at the site',
    `url` String COMMENT 'ma_re, as the site''s rules keep it',
    `title` String COMMENT 'ma_ti',
    `type` String COMMENT 'video or audio (ma_mt)',
    `plays` UInt64 COMMENT 'Players (ma_id)',
    `started` UInt64 COMMENT 'Of these, played at all',
    `seconds` UInt64 COMMENT 'Played together, seconds (ma_st)',
    `share` Float64 COMMENT 'Mean part of the length that was played, 0 to 1',
    `fullscreen` UInt64 COMMENT 'Of these, in full screen at some time (ma_fs)'
)
AS SELECT site_id, day, url, any(title_) AS title, any(type_) AS type, count() AS plays, countIf(watched > 0) AS started,
    sum(watched) AS seconds, avgIf(least(watched / length_, 1), length_ > 0) AS share, countIf(full) AS fullscreen FROM
(
    SELECT site_id, media_id, media_url AS url, min(events.day) AS day, any(media_title) AS title_, any(toString(media_type)) AS type_, max(media_watched) AS watched,
        max(media_length) AS length_, max(media_fullscreen) AS full
    FROM events WHERE action_type = 10 GROUP BY site_id, media_id, url
)
GROUP BY site_id, day, url
COMMENT 'Playings of videos and sounds by day';

CREATE OR REPLACE VIEW searches
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day at the site',
    `keyword` LowCardinality(String) COMMENT 'search, or a parameter of the page''s address',
    `category` LowCardinality(String) COMMENT 'search_cat, or a parameter',
    `searches` UInt64 COMMENT 'Searches',
    `visits` UInt64 COMMENT 'Visits with one',
    `results` Float64 COMMENT 'Mean number of results (search_count)'
)
AS SELECT site_id, day, toString(search_keyword) AS keyword, toString(search_category) AS category, count() AS searches, uniqExact(visit_id) AS visits,
    avg(search_count) AS results FROM events WHERE action_type = 9 GROUP BY site_id, day, keyword, category
COMMENT 'Site searches by day';

CREATE OR REPLACE VIEW bots
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day at the site',
    `name` LowCardinality(String) COMMENT 'Crawler, agent or browser',
    `reasons` Array(String) COMMENT 'Why, by name',
    `score` UInt8 COMMENT 'How sure it is, 0 to 100',
    `events` UInt64 COMMENT 'Events',
    `pageviews` UInt64 COMMENT 'Page views',
    `visits` UInt64 COMMENT 'Visits'
)
AS SELECT site_id, day, toString(browser) AS name, bot_reasons AS reasons, any(bot_score) AS score, count() AS events, countIf(action_type = 1) AS pageviews, uniqExact(visit_id) AS visits
FROM events WHERE bot_score >= 50 GROUP BY site_id, day, name, reasons
COMMENT 'What may not be people (a score of at least 50), by day, name and reason';

CREATE OR REPLACE VIEW crashes
(
    `site_id` UInt32 COMMENT 'The site''s id',
    `day` Date COMMENT 'Calendar day at the site',
    `message` String COMMENT 'cra, as the site''s rules keep it',
    `type` LowCardinality(String) COMMENT 'cra_tp',
    `category` LowCardinality(String) COMMENT 'cra_ct',
    `source` String COMMENT 'Script or page (cra_ru), as the site''s rules keep it',
    `line` UInt32 COMMENT 'cra_rl',
    `crashes` UInt64 COMMENT 'Times it was reported',
    `visits` UInt64 COMMENT 'Visits that met it',
    `pages` UInt64 COMMENT 'Pages that it was met on',
    `last_at` DateTime64(3, 'UTC') COMMENT 'When it was last met, UTC',
    `stack` String COMMENT 'cra_st of the last, a frame a line'
)
AS SELECT site_id, day, crash_message AS message, toString(crash_type) AS type, toString(crash_category) AS category, crash_source AS source,
    crash_line AS line, count() AS crashes, uniqExact(visit_id) AS visits, uniqExact(url) AS pages, max(time) AS last_at, argMax(crash_stack, time) AS stack
FROM events WHERE action_type = 11 GROUP BY site_id, day, message, type, category, source, line
COMMENT 'Errors of scripts by day and place';
