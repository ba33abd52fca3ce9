//! What a scheduler says of itself beside its store: while it runs, and how it ended. The lock decides; this is
//! information, and stays behind when the process dies.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::origin::Origin;

/// A running scheduler.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Marker {
    pub(crate) pid: u32,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) http: String,
    /// Where it comes from; none in what an older version left.
    #[serde(default)]
    pub(crate) origin: Origin,
    /// It shuts down.
    #[serde(default)]
    pub(crate) stopping: bool,
    /// When the session that started it ended; it went on.
    #[serde(default)]
    pub(crate) session_ended_at: Option<DateTime<Utc>>,
    /// Its own last word, if it had one.
    #[serde(default)]
    pub(crate) failure: Option<String>,
}

/// How a scheduler ended that was told to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stopped {
    pub(crate) pid: u32,
    pub(crate) at: DateTime<Utc>,
    /// The signal that it got.
    pub(crate) signal: i32,
    /// Whether `sched stop` or `sched restart` sent it.
    pub(crate) asked: bool,
    /// The session that started it had ended, when and which.
    #[serde(default)]
    pub(crate) session: Option<String>,
}

/// A file of the data folder by which a process tells others of itself.
pub(crate) trait Note: Serialize + DeserializeOwned {
    /// Its name in the folder.
    const FILE: &'static str;

    /// Writes it whole in the place of the one before.
    fn write(&self, data_dir: &Path) -> std::io::Result<()> {
        write_whole(&data_dir.join(Self::FILE), &serde_json::to_string(self)?)
    }

    /// What stands there; none when there is none, or what is there is none of ours.
    fn read(data_dir: &Path) -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(data_dir.join(Self::FILE)).ok()?).ok()
    }

    fn remove(data_dir: &Path) {
        // What is gone is what is wanted.
        let _ = std::fs::remove_file(data_dir.join(Self::FILE));
    }
}

impl Note for Marker {
    const FILE: &'static str = "daemon.json";
}

impl Note for Stopped {
    const FILE: &'static str = "stopped.json";
}

impl Marker {
    pub(crate) const fn new(pid: u32, started_at: DateTime<Utc>, http: String, origin: Origin) -> Self {
        Self { pid, started_at, http, origin, stopping: false, session_ended_at: None, failure: None }
    }
}

/// `sched stop` leaves word that the next signal is its own.
pub(crate) fn announce_stop(data_dir: &Path) {
    // Without it the end is told as one by a signal.
    let _ = File::create(data_dir.join("stop.asked"));
}

/// Whether `sched stop` has left word, which is then forgotten.
pub(crate) fn stop_was_announced(data_dir: &Path) -> bool {
    std::fs::remove_file(data_dir.join("stop.asked")).is_ok()
}

/// Writes a file so that readers see all of it or nothing.
pub(crate) fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let part = path.with_extension("part");
    let mut file = File::create(&part)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    std::fs::rename(&part, path)
}
