-- Bytes of the video's file; 0 where nothing was made of it, and in rows of the time before.
ALTER TABLE video_jobs ADD COLUMN IF NOT EXISTS `source_bytes` UInt64;
