//! The same figures of other schedulers in Rust, as far as they have them.

pub(crate) mod apalis;
pub(crate) mod tokio_cron;

/// What became of jobs due at one instant.
pub(crate) struct Started {
    pub(crate) of: usize,
    pub(crate) count: usize,
    /// How late the last one was, in milliseconds.
    pub(crate) last: f64,
}

impl Started {
    pub(crate) fn tell(&self, what: &str) {
        println!("  {what:<40} {:>8.1} ms, {} of {} started", self.last, self.count, self.of);
    }
}
