//! Keeps what the engine asked of its store, to ask the same again with nothing around it: the bare limit.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use sched_core::store::{Committed, Snapshot, Write};
use sched_core::{Query, SqliteStore, Store, StoreError};

/// What was asked, commit by commit.
pub(crate) type Batches = Arc<Mutex<Vec<Vec<Write>>>>;

/// A store that keeps what it was asked.
pub(crate) struct Recording {
    inner: SqliteStore,
    batches: Batches,
}

impl Recording {
    pub(crate) fn new(inner: SqliteStore, batches: &Batches) -> Self {
        Self { inner, batches: batches.clone() }
    }
}

pub(crate) fn take(batches: &Batches) -> Vec<Vec<Write>> {
    std::mem::take(&mut *batches.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The commits so far.
pub(crate) fn count(batches: &Batches) -> usize {
    batches.lock().unwrap_or_else(PoisonError::into_inner).len()
}

impl Store for Recording {
    fn load(&mut self) -> Result<Snapshot, StoreError> {
        self.inner.load()
    }

    fn commit(&mut self, writes: &[Write]) -> Result<Committed, StoreError> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).push(writes.to_vec());
        self.inner.commit(writes)
    }

    fn reader(&self) -> Arc<dyn Query> {
        self.inner.reader()
    }
}

/// Commits what was recorded, from `begin` on, on a fresh file; the seconds of that part.
pub(crate) fn replay(path: &Path, batches: &[Vec<Write>], begin: usize) -> anyhow::Result<f64> {
    let mut store = SqliteStore::open(path)?;
    for batch in &batches[..begin] {
        store.commit(batch)?;
    }
    let begun = Instant::now();
    for batch in &batches[begin..] {
        store.commit(batch)?;
    }
    Ok(begun.elapsed().as_secs_f64())
}
