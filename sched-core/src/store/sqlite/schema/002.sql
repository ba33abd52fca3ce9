-- Since when the runs of a schedule end badly.
ALTER TABLE schedules ADD COLUMN failing_since INTEGER;

-- Whether schedules that come after this run start when it has ended.
ALTER TABLE runs ADD COLUMN chains INTEGER NOT NULL DEFAULT 1;

CREATE INDEX runs_by_end ON runs (finished_at, run_id) WHERE finished_at IS NOT NULL;
CREATE INDEX runs_of_chains ON runs (schedule, parent) WHERE origin = 'chain';

-- The fires whose history was removed, counted.
CREATE TABLE pruned (
    schedule INTEGER PRIMARY KEY REFERENCES schedules (id),
    from_at  INTEGER NOT NULL,
    until_at INTEGER NOT NULL,
    count    INTEGER NOT NULL
) STRICT;
