-- State of one server. Nothing here is needed to restore a backup: stores describe themselves.
-- Times are epoch milliseconds. Texts in JSON are written and read by the server alone.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE users (
    username      TEXT PRIMARY KEY,
    name_key      TEXT NOT NULL UNIQUE,          -- lower case: no two names that differ in case alone
    password_hash TEXT NOT NULL,                 -- Argon2id, PHC form
    role          TEXT NOT NULL,
    created_at    BIGINT NOT NULL
);

CREATE TABLE tokens (
    hash       TEXT PRIMARY KEY,                 -- SHA-256 of the token, hex; the token itself is kept nowhere
    username   TEXT NOT NULL REFERENCES users (username) ON DELETE CASCADE,
    expires_at BIGINT NOT NULL
);
CREATE INDEX tokens_by_user ON tokens (username, expires_at);
CREATE INDEX tokens_by_expiry ON tokens (expires_at);

CREATE TABLE login_failures (
    name_key  TEXT NOT NULL,
    address   TEXT NOT NULL,
    failures  BIGINT NOT NULL,
    failed_at BIGINT NOT NULL,
    PRIMARY KEY (name_key, address)
);

CREATE TABLE stores (
    name           TEXT PRIMARY KEY,
    name_key       TEXT NOT NULL UNIQUE,
    kind           TEXT NOT NULL,
    root_dir       TEXT NOT NULL UNIQUE,         -- with links resolved
    storage_config TEXT NOT NULL,
    is_default     BIGINT NOT NULL,
    identity       TEXT NOT NULL,
    created_at     BIGINT NOT NULL,
    validated_at   BIGINT NOT NULL
);
CREATE UNIQUE INDEX stores_one_default ON stores (is_default) WHERE is_default = 1;

CREATE TABLE jobs (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    operation     TEXT NOT NULL,
    lane          TEXT NOT NULL,                 -- jobs of one lane run one after another
    status        TEXT NOT NULL,
    store         TEXT NOT NULL,
    backup        TEXT NOT NULL,
    backup_key    TEXT NOT NULL,
    parameters    TEXT NOT NULL,                 -- JSON, without secrets
    passcode      BLOB,                          -- sealed under the master key; NULL as soon as the job has ended
    operation_uri TEXT NOT NULL,
    username      TEXT NOT NULL,
    request_id    TEXT NOT NULL,
    submitted_at  BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    ended_at      BIGINT NOT NULL,
    interruptions BIGINT NOT NULL,               -- ends of the server or of a lease in the midst of it; clean stops do not count
    phase         TEXT NOT NULL,                 -- 'changing' once a restore may have changed its target
    lease_owner   TEXT,
    lease_token   BIGINT NOT NULL,               -- one more at each claim: an older one can write nothing
    lease_until   BIGINT NOT NULL,
    messages      TEXT NOT NULL,
    stages        TEXT NOT NULL,
    progress      TEXT,
    result        TEXT
);
CREATE INDEX jobs_by_status ON jobs (status, lane, seq);
-- One backup or restore per deployment, whoever submits it.
CREATE UNIQUE INDEX jobs_one_main ON jobs (lane)
    WHERE lane = 'main' AND status IN ('SUBMITTED', 'EXECUTING', 'CANCELLING');
