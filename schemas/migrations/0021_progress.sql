-- How far a video job is that is running: the share of the presentation time decoded, 0 to 1, and the kind of output it is
-- at. It is told again and again under the name (job, attempt, running), so the latest stays.
ALTER TABLE video_jobs
    ADD COLUMN IF NOT EXISTS `progress` Float64,
    ADD COLUMN IF NOT EXISTS `making` LowCardinality(String);
