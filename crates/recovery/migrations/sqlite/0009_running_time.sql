-- How long jobs ran, without the time that they waited for their turn or for the server to be there again.
ALTER TABLE jobs ADD COLUMN claimed_at BIGINT NOT NULL DEFAULT 0;   -- when its worker took it
ALTER TABLE jobs ADD COLUMN ran_ms BIGINT;                          -- under earlier workers too; NULL: it ended before this was measured
