-- What people are to be told, and how far that is.
CREATE TABLE outbox (
    id         BLOB PRIMARY KEY,
    channel    TEXT NOT NULL,
    kind       TEXT NOT NULL,
    schedule   TEXT,
    at         INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    state      TEXT NOT NULL,
    error      TEXT,
    ended_at   INTEGER,
    content    TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX outbox_by_state ON outbox (state, id);
CREATE INDEX outbox_by_end ON outbox (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX outbox_told ON outbox (channel, schedule, kind, at) WHERE kind IN ('failed', 'missed');
