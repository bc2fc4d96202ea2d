-- Who did what, when, from where, and what came of it.
CREATE TABLE audit (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    at           BIGINT NOT NULL,
    username     TEXT NOT NULL,
    address      TEXT NOT NULL,
    operation    TEXT NOT NULL,
    path         TEXT NOT NULL,
    code         BIGINT NOT NULL,                 -- 0 = done, else the code of the refusal
    message_code TEXT NOT NULL,
    job          TEXT NOT NULL,
    request_id   TEXT NOT NULL
);
CREATE INDEX audit_by_user ON audit (username, seq);
