-- What is told to people and programs outside, and how far each of them has been told.
CREATE TABLE notices (
    id        TEXT PRIMARY KEY,
    event     TEXT NOT NULL,
    at        BIGINT NOT NULL,
    once      TEXT UNIQUE,                        -- what is told once; NULL = each time
    content   TEXT NOT NULL                       -- JSON, without secrets
);
CREATE TABLE deliveries (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    id        TEXT NOT NULL UNIQUE,               -- the same at each attempt
    notice    TEXT NOT NULL REFERENCES notices (id) ON DELETE CASCADE,
    target    TEXT NOT NULL,
    status    TEXT NOT NULL,                      -- waiting, delivered, gaveup
    attempts  BIGINT NOT NULL,
    next_at   BIGINT NOT NULL,
    ended_at  BIGINT NOT NULL,                    -- 0 before its end
    tried_at  BIGINT NOT NULL,                    -- 0 before the first attempt
    error     TEXT NOT NULL                       -- of the last attempt that failed
);
CREATE INDEX deliveries_waiting ON deliveries (target, next_at) WHERE status = 'waiting';
CREATE INDEX deliveries_by_target ON deliveries (target, status, seq);
CREATE INDEX deliveries_by_notice ON deliveries (notice);
