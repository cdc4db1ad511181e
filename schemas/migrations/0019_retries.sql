-- The lane of a video job ("" where who told it does not know, as in rows of the time before), and when the next attempt
-- may begin of a job that waits for one; 1970 for all others.
ALTER TABLE video_jobs
    ADD COLUMN IF NOT EXISTS `priority` LowCardinality(String),
    ADD COLUMN IF NOT EXISTS `due_at` DateTime64(3, 'UTC');
