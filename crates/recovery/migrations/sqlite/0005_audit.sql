-- Who did what, when, from where, and what came of it.
CREATE TABLE audit (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    at           BIGINT NOT NULL,
    username     TEXT NOT NULL,
    address      TEXT NOT NULL,
    operation    TEXT NOT NULL,
    path         TEXT NOT NULL,
    log_in       BIGINT NOT NULL,                 -- 1 = a log-in, which a stranger can try
    code         BIGINT NOT NULL,                 -- 0 = done, else the code of the refusal
    message_code TEXT NOT NULL,
    job          TEXT NOT NULL,
    request_id   TEXT NOT NULL
);
CREATE INDEX audit_by_user ON audit (username, seq);
CREATE INDEX audit_log_ins ON audit (at) WHERE log_in = 1;
