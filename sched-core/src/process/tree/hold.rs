//! A tree as its scheduler sees it.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;

use super::order::{Ending, News, Order, Program};
use super::pool::Shim;
use super::{entry, frame};
use crate::id::RunId;

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// This executable does not serve as a shim.
    #[error("programs are started through this executable: its main must call `sched_core::process::init()` first")]
    NotReady,
    /// The program, its folder, its user or its limits are not as they should be.
    #[error("{message}")]
    Refused {
        /// What is wrong.
        message: String,
        /// Whether another try cannot help.
        hopeless: bool,
    },
    /// The system refused a process, a pipe or a socket.
    #[error("no process could be started: {0}")]
    System(#[from] std::io::Error),
}

/// A program that was started, with all that it starts. Dropping it kills the tree, and waits until nothing is left.
#[derive(Debug)]
pub struct Tree {
    run_id: RunId,
    way: Option<(Shim, UnixStream)>,
    read: Vec<u8>,
    /// What it prints.
    pub stdout: Option<Receiver>,
    /// What it complains of.
    pub stderr: Option<Receiver>,
}

impl Tree {
    /// Starts a program for a run, whose id its environment should bear as `SCHED_RUN_ID`. Without `stdin` there is
    /// nothing to read for it. Needs a tokio runtime.
    ///
    /// # Errors
    /// When it could not be started; then nothing was.
    pub async fn start(run_id: RunId, program: Program, stdin: Option<OwnedFd>) -> Result<Self, StartError> {
        if !entry::is_ready() {
            return Err(StartError::NotReady);
        }
        let (out, their_out) = pipe_with(PipeFlags::CLOEXEC).map_err(std::io::Error::from)?;
        let (err, their_err) = pipe_with(PipeFlags::CLOEXEC).map_err(std::io::Error::from)?;
        let descriptors: Vec<BorrowedFd<'_>> =
            [&their_out, &their_err].into_iter().chain(stdin.as_ref()).map(OwnedFd::as_fd).collect();
        let encoded = frame::encode(&Order::Run(Box::new(program)))?;
        let mut shim = Shim::get()?;
        let mut tree = loop {
            let used = shim.used;
            let control = shim.take_control().ok_or_else(|| std::io::Error::other("a shim without a way to it"))?;
            let control = UnixStream::from_std(control)?;
            let mut tree = Self { run_id, way: Some((shim, control)), read: Vec::new(), stdout: None, stderr: None };
            match tree.order(&encoded, &descriptors).await {
                Ok(()) => break tree,
                // It died while it waited, and has started nothing.
                Err(_) if used => shim = Shim::start()?,
                Err(error) => return Err(error.into()),
            }
        };
        drop(descriptors);
        (tree.stdout, tree.stderr) = (Some(Receiver::from_owned_fd(out)?), Some(Receiver::from_owned_fd(err)?));
        match tree.news().await? {
            News::Started => Ok(tree),
            News::Refused { message, hopeless } => {
                tree.put_back();
                Err(StartError::Refused { message, hopeless })
            }
            other => Err(unexpected(&other).into()),
        }
    }

    /// Hands the order over, until the shim has read it.
    async fn order(&mut self, encoded: &[u8], descriptors: &[BorrowedFd<'_>]) -> std::io::Result<()> {
        let Some((_, control)) = &mut self.way else { return Err(gone()) };
        control.async_io(Interest::WRITABLE, || frame::send_head(&*control, encoded, descriptors)).await?;
        control.write_all(&encoded[frame::HEAD..]).await?;
        match self.news().await? {
            News::Accepted => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// The next message. Nothing is lost when it is dropped before.
    async fn news(&mut self) -> std::io::Result<News> {
        let Some((_, control)) = &mut self.way else { return Err(gone()) };
        loop {
            if let Some(news) = frame::decode(&mut self.read)? {
                return Ok(news);
            }
            if control.read_buf(&mut self.read).await? == 0 {
                return Err(gone());
            }
        }
    }

    /// Asks the whole tree to end: TERM, `grace`, KILL. Returns at once.
    pub fn stop(&self, grace: Duration) {
        let Some((_, control)) = &self.way else { return };
        // A shim whose socket is full or closed ends with its tree when this is dropped.
        let sent = frame::encode(&Order::Stop(grace)).and_then(|bytes| control.try_write(&bytes));
        if let Err(error) = sent {
            tracing::debug!(run_id = %self.run_id, %error, "a tree could not be asked to end");
        }
    }

    /// Waits for the end of the tree. May be dropped and called again.
    ///
    /// # Errors
    /// When the shim itself was killed. What it had, is killed too.
    pub async fn ended(&mut self) -> std::io::Result<Ending> {
        match self.news().await {
            Ok(News::Ended(ending)) => {
                if ending.left == 0 {
                    self.put_back();
                }
                Ok(ending)
            }
            Ok(other) => Err(unexpected(&other)),
            Err(error) => {
                if let Some((shim, control)) = self.way.take() {
                    drop(control);
                    drop(shim);
                }
                let run_id = self.run_id;
                // Whoever was below it has another parent now; its mark tells.
                let _ = tokio::task::spawn_blocking(move || crate::process::sweep(&[run_id])).await;
                Err(error)
            }
        }
    }

    /// The shim has nothing any more, and may serve another tree.
    fn put_back(&mut self) {
        if let Some((shim, control)) = self.way.take()
            && let Ok(control) = control.into_std()
        {
            shim.put(control);
        }
    }
}

impl Drop for Tree {
    /// The shim ends with its tree when it is left; it is waited for only then.
    fn drop(&mut self) {
        if let Some((shim, control)) = self.way.take() {
            drop(control);
            drop(shim);
        }
    }
}

fn gone() -> std::io::Error {
    std::io::Error::other("the shim that held its processes was killed")
}

fn unexpected(news: &News) -> std::io::Error {
    std::io::Error::other(format!("a shim said what was not asked: {news:?}"))
}
