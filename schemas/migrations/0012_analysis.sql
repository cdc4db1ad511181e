-- What an analyst counts: conversions of goals, whether a basket was ordered, product views, media.
-- conversion_repeats: 0 where one conversion of the goal counts per visit; view `goal_conversions` sees to it.
-- Categories of one item or product stand in one text, separated by line feeds.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS `conversion_goal` Array(UInt32),
    ADD COLUMN IF NOT EXISTS `conversion_revenue` Array(Float64),
    ADD COLUMN IF NOT EXISTS `conversion_repeats` Array(UInt8),
    ADD COLUMN IF NOT EXISTS `is_order` UInt8,
    ADD COLUMN IF NOT EXISTS `item_category` Array(String),
    ADD COLUMN IF NOT EXISTS `product_sku` String,
    ADD COLUMN IF NOT EXISTS `product_name` String,
    ADD COLUMN IF NOT EXISTS `product_category` String,
    ADD COLUMN IF NOT EXISTS `product_price` Float64,
    ADD COLUMN IF NOT EXISTS `media_id` String,
    ADD COLUMN IF NOT EXISTS `media_type` LowCardinality(String),
    ADD COLUMN IF NOT EXISTS `media_title` String,
    ADD COLUMN IF NOT EXISTS `media_url` String,
    ADD COLUMN IF NOT EXISTS `media_player` LowCardinality(String),
    ADD COLUMN IF NOT EXISTS `media_watched` UInt32,
    ADD COLUMN IF NOT EXISTS `media_length` UInt32,
    ADD COLUMN IF NOT EXISTS `media_position` UInt32,
    ADD COLUMN IF NOT EXISTS `media_wait` UInt32,
    ADD COLUMN IF NOT EXISTS `media_width` UInt32,
    ADD COLUMN IF NOT EXISTS `media_height` UInt32,
    ADD COLUMN IF NOT EXISTS `media_fullscreen` UInt8;
