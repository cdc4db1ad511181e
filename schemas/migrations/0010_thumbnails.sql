-- What is told of an output beyond its place and size: JSON with the score of a poster's frame, the placeholder (BlurHash)
-- and the most common colour, as far as it has them; "" for rows of the time before.
ALTER TABLE video_jobs ADD COLUMN IF NOT EXISTS `output_about` Array(String);
-- More of each GPU: percent, watts, MHz, counts of errors and of rows; NaN where the device does not say.
ALTER TABLE worker_samples
    ADD COLUMN IF NOT EXISTS `gpu_encoder` Array(Float64),
    ADD COLUMN IF NOT EXISTS `gpu_jpeg` Array(Float64),
    ADD COLUMN IF NOT EXISTS `gpu_power_limit` Array(Float64),
    ADD COLUMN IF NOT EXISTS `gpu_sm_clock` Array(Float64),
    ADD COLUMN IF NOT EXISTS `gpu_memory_clock` Array(Float64),
    ADD COLUMN IF NOT EXISTS `gpu_video_clock` Array(Float64),
    ADD COLUMN IF NOT EXISTS `gpu_throttled` Array(Float64),
    ADD COLUMN IF NOT EXISTS `gpu_ecc_corrected` Array(Float64),
    ADD COLUMN IF NOT EXISTS `gpu_ecc_uncorrected` Array(Float64),
    ADD COLUMN IF NOT EXISTS `gpu_remapped_rows` Array(Float64),
    ADD COLUMN IF NOT EXISTS `gpu_remap_pending` Array(Float64);
