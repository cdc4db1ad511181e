-- The site that a video job belongs to; 0 for jobs of the time before sites had any, and for those nobody could read.
ALTER TABLE video_jobs ADD COLUMN IF NOT EXISTS `site_id` UInt32;
