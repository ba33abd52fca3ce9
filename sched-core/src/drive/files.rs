//! The files that runs leave: output and artifacts, below one folder.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use crate::context::{RunInfo, is_plain_file_name};
use crate::id::RunId;
use crate::run::Artifact;

/// Keeps output in `output/<run>.log` and artifacts in `artifacts/<schedule>/<time>-<run>-<name>`.
#[derive(Debug, Clone)]
pub struct Files {
    root: PathBuf,
}

/// Why a file could not be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// The name is not a plain file name.
    #[error("`{0}` is not a plain file name; use no separators and no leading dot")]
    Name(String),
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What failed.
        source: std::io::Error,
    },
}

impl Files {
    /// Files below `root`, which need not exist yet.
    #[must_use]
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where a run's output is.
    #[must_use]
    pub fn output_path(&self, run_id: RunId) -> PathBuf {
        self.root.join("output").join(format!("{run_id}.log"))
    }

    /// Removes a run's output and artifacts, or with `dry_run` counts them; gives how many there are. A file that is not
    /// where it was kept is left: who has moved it wants it.
    pub(super) fn discard(&self, run_id: RunId, artifacts: &[Artifact], dry_run: bool) -> u64 {
        let kept = self.root.join("artifacts");
        let own = |path: &Path| {
            let folder = path.parent().and_then(|folder| folder.strip_prefix(&kept).ok());
            let name = path.file_name().and_then(|name| name.to_str());
            let one_below = folder.is_some_and(|folder| {
                let mut parts = folder.components();
                matches!(parts.next(), Some(std::path::Component::Normal(_))) && parts.next().is_none()
            });
            one_below && name.is_some_and(is_plain_file_name)
        };
        let output = self.output_path(run_id);
        let files = artifacts.iter().map(|artifact| artifact.path.as_path()).filter(|path| own(path));
        let mut count = 0;
        for path in files.chain([output.as_path()]) {
            let found = std::fs::symlink_metadata(path).is_ok_and(|about| about.is_file());
            let gone = found && (dry_run || std::fs::remove_file(path).is_ok());
            if found && !gone {
                tracing::warn!(path = %path.display(), "the file of a run that is pruned could not be removed");
            }
            count += u64::from(gone);
        }
        count
    }

    /// Opens a run's output to append to it.
    pub(super) fn append<T>(
        &self,
        run_id: RunId,
        write: impl FnOnce(&std::fs::File) -> std::io::Result<T>,
    ) -> Result<T, FilesError> {
        let path = self.output_path(run_id);
        open_below(&path).and_then(|file| write(&file)).map_err(|source| FilesError::Io { path, source })
    }

    /// Keeps an artifact; a repeated attempt's file replaces the earlier one.
    ///
    /// # Errors
    /// When the name is not plain, or the file cannot be written.
    pub fn keep(&self, run: &RunInfo, name: &str, content: &[u8]) -> Result<Artifact, FilesError> {
        if !is_plain_file_name(name) {
            return Err(FilesError::Name(name.to_owned()));
        }
        let id = run.run_id.as_uuid().simple().to_string();
        let time = run.started_at.format("%Y%m%dT%H%M%SZ");
        let folder = self.root.join("artifacts").join(run.schedule.as_str());
        let path = folder.join(format!("{time}-{}-{name}", &id[id.len() - 8..]));
        let part = path.with_extension("part");
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(&folder)?;
            std::fs::write(&part, content)?;
            std::fs::rename(&part, &path)
        };
        write().map_err(|source| FilesError::Io { path: path.clone(), source })?;
        Ok(Artifact { name: name.to_owned(), path, bytes: content.len() as u64 })
    }
}

fn open_below(path: &Path) -> std::io::Result<std::fs::File> {
    let open = || OpenOptions::new().create(true).append(true).open(path);
    match open() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            open()
        }
        other => other,
    }
}
