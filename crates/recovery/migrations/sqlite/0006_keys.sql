-- Keys of programs.
CREATE TABLE api_keys (
    name       TEXT PRIMARY KEY,
    name_key   TEXT NOT NULL UNIQUE,
    hash       TEXT NOT NULL UNIQUE,              -- SHA-256 of the key, hex; the key itself is kept nowhere
    role       TEXT NOT NULL,
    stores     TEXT NOT NULL,                     -- JSON list of names; empty = all
    operations TEXT NOT NULL,                     -- JSON list of groups
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    last_used  BIGINT NOT NULL                    -- to the hour; 0 = never
);
