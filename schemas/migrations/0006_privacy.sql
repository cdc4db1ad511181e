-- What privacy rules decide of a row: consent with its third value, user ids and custom values that a site keeps.
-- The consent of an action: -1 nothing is known, 0 refused, 1 given; until now 0 stood for both of the first.
ALTER TABLE events MODIFY COLUMN consent Int8 DEFAULT -1;
ALTER TABLE events ADD COLUMN `user_name` String;
ALTER TABLE events ADD COLUMN `dimension_slot` Array(UInt16);
ALTER TABLE events ADD COLUMN `dimension_value` Array(String);
-- variable_scope: 1 page, 2 visit, 3 event.
ALTER TABLE events ADD COLUMN `variable_scope` Array(UInt8);
ALTER TABLE events ADD COLUMN `variable_name` Array(String);
ALTER TABLE events ADD COLUMN `variable_value` Array(String);
-- The consent of a visit: -1 nothing is known, 0 refused, 1 given, 2 both occur.
CREATE VIEW visit_consent AS
SELECT
    site_id,
    visit_id,
    multiIf(countIf(consent >= 0) = 0, -1, countIf(consent = 0) = 0, 1, countIf(consent = 1) = 0, 0, 2) AS consent
FROM events
GROUP BY site_id, visit_id;
