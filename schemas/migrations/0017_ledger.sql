-- The ledger asks again and again for the rows of the last hours; they lie together, as offsets rise with time.
ALTER TABLE packets
    ADD INDEX IF NOT EXISTS `appended` `appended_at` TYPE minmax GRANULARITY 1;
