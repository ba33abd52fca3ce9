//! A store that keeps nothing.

use std::sync::Arc;

use crate::event::Recorded;
use crate::id::{Fence, Seq};
use crate::store::{Committed, Intent, MemoryStore, Query, Receipt, Snapshot, Store, StoreError, Write};

/// Says yes to everything and forgets it: for long simulations, whose events are looked at as they come. Readers
/// find it empty.
#[derive(Debug, Default)]
pub struct Oblivious {
    fence: u64,
    seq: u64,
}

impl Store for Oblivious {
    fn load(&mut self) -> Result<Snapshot, StoreError> {
        Ok(Snapshot::default())
    }

    fn commit(&mut self, writes: &[Write]) -> Result<Committed, StoreError> {
        let mut committed = Committed::default();
        for write in writes {
            committed.receipts.push(if matches!(write.intent, Intent::Claim { .. }) {
                self.fence += 1;
                Receipt::Claimed(Fence(self.fence))
            } else {
                Receipt::Applied
            });
            for event in &write.events {
                self.seq += 1;
                committed.events.push(Recorded { ts: write.at, event: event.clone(), seq: Some(Seq(self.seq)) });
            }
        }
        Ok(committed)
    }

    fn reader(&self) -> Arc<dyn Query> {
        Arc::new(MemoryStore::new())
    }
}
