-- Instants are microseconds since the Unix epoch, UTC. Ids are UUIDs as 16 bytes.

CREATE TABLE facts (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE schedules (
    id             INTEGER PRIMARY KEY,
    name           TEXT NOT NULL UNIQUE,
    spec           TEXT NOT NULL,
    version        INTEGER NOT NULL,
    effective_from INTEGER NOT NULL,
    cursor         INTEGER NOT NULL,
    paused         TEXT,
    retired        INTEGER NOT NULL DEFAULT 0
) STRICT;

-- A version owns the fires in (effective_from, effective_until].
CREATE TABLE schedule_versions (
    schedule        INTEGER NOT NULL REFERENCES schedules (id),
    version         INTEGER NOT NULL,
    spec            TEXT NOT NULL,
    effective_from  INTEGER NOT NULL,
    effective_until INTEGER,
    PRIMARY KEY (schedule, version)
) STRICT, WITHOUT ROWID;

-- One fire, once: the current disposition is its run's state.
CREATE TABLE fires (
    schedule   INTEGER NOT NULL REFERENCES schedules (id),
    nominal_at INTEGER NOT NULL,
    run_id     BLOB NOT NULL,
    PRIMARY KEY (schedule, nominal_at)
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
    run_id       BLOB PRIMARY KEY,
    schedule     INTEGER NOT NULL REFERENCES schedules (id),
    job          TEXT NOT NULL,
    version      INTEGER NOT NULL,
    nominal_at   INTEGER,
    origin       TEXT NOT NULL,
    state        TEXT NOT NULL,
    reason       TEXT,
    attempt      INTEGER NOT NULL,
    not_before   INTEGER NOT NULL,
    queued_at    INTEGER NOT NULL,
    started_at   INTEGER,
    finished_at  INTEGER,
    duration_ms  INTEGER,
    node         BLOB,
    fence        INTEGER NOT NULL,
    params       TEXT NOT NULL,
    summary      TEXT,
    data         TEXT NOT NULL,
    error        TEXT,
    abandoned    INTEGER NOT NULL,
    artifacts    TEXT NOT NULL,
    parent       BLOB,
    requested_by TEXT,
    idempotency  TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX runs_by_time ON runs (queued_at, run_id);
CREATE INDEX runs_by_schedule ON runs (schedule, queued_at, run_id);
CREATE INDEX runs_by_state ON runs (state, queued_at, run_id);
CREATE UNIQUE INDEX runs_by_key ON runs (idempotency) WHERE idempotency IS NOT NULL;

CREATE TABLE attempts (
    run_id      BLOB NOT NULL,
    fence       INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    node        BLOB NOT NULL,
    started_at  INTEGER NOT NULL,
    finished_at INTEGER,
    state       TEXT,
    error       TEXT,
    PRIMARY KEY (run_id, fence)
) STRICT, WITHOUT ROWID;

-- Consecutive fires that did not run for one reason, counted.
CREATE TABLE ranges (
    range_id   BLOB PRIMARY KEY,
    schedule   INTEGER NOT NULL REFERENCES schedules (id),
    version    INTEGER NOT NULL,
    state      TEXT NOT NULL,
    reason     TEXT NOT NULL,
    blocker    BLOB,
    from_at    INTEGER NOT NULL,
    until_at   INTEGER NOT NULL,
    count      INTEGER NOT NULL,
    superseded INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX ranges_by_time ON ranges (until_at, range_id);
CREATE INDEX ranges_by_schedule ON ranges (schedule, until_at, range_id);

CREATE TABLE events (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    ts   INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE job_state (
    schedule INTEGER NOT NULL REFERENCES schedules (id),
    key      TEXT NOT NULL,
    value    TEXT NOT NULL,
    PRIMARY KEY (schedule, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE sinks (
    name TEXT PRIMARY KEY,
    seq  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
