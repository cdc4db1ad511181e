-- What the ids of page views and of playings are depends on the site's policy.

ALTER TABLE events
    COMMENT COLUMN `page_view_id` 'Names a page view (pv_id): a hash whose key lives for the site''s day, unless the policy keeps it as it came; empty where it is dropped',
    COMMENT COLUMN `media_id` 'Names one playing (ma_id): a hash whose key lives for the site''s day, unless the policy keeps it as it came; empty where it is dropped';
