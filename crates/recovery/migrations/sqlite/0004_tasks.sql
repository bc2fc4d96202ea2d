-- System tasks: what is to be done when, and each time that it was.
CREATE TABLE tasks (
    id              TEXT PRIMARY KEY,
    title           TEXT NOT NULL,
    kind            TEXT NOT NULL,
    active          BIGINT NOT NULL,
    generation      BIGINT NOT NULL,              -- one more at each change
    owner           TEXT NOT NULL,
    cron            TEXT NOT NULL,                -- JSON, the five fields as they were sent
    zone            TEXT NOT NULL,
    start_date      BIGINT NOT NULL,              -- no run before; 0 = none such
    end_date        BIGINT NOT NULL,              -- no run after; 0 = none such
    max_occurrences BIGINT NOT NULL,              -- -1 = no limit
    occurrences     BIGINT NOT NULL,              -- runs since it was last made active
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    last_start      BIGINT NOT NULL,              -- 0 = never
    next_run        BIGINT NOT NULL,              -- -1 = none
    parameters      TEXT NOT NULL,                -- JSON, without secrets
    passcode        BLOB                          -- sealed under the master key
);

CREATE TABLE runs (
    id          TEXT PRIMARY KEY,
    task        TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    slot        BIGINT NOT NULL,                  -- the time by the schedule; for one by hand the time of asking
    by_hand     BIGINT NOT NULL,
    status      TEXT NOT NULL,
    result      TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    modified_at BIGINT NOT NULL,
    ended_at    BIGINT NOT NULL,                  -- 0 before its end; what is written into it later does not change this
    give_up_at  BIGINT NOT NULL,                  -- until then it waits for other jobs to end
    job         TEXT NOT NULL                     -- empty before there is one
);
-- Each slot once, whoever finds it due.
CREATE UNIQUE INDEX runs_once ON runs (task, slot) WHERE by_hand = 0;
CREATE INDEX runs_by_status ON runs (status);
CREATE INDEX runs_by_task ON runs (task, created_at);
