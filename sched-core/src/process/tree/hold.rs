//! A tree as its scheduler sees it.

use std::io::{ErrorKind, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;

use super::order::{BRIEF, Ending, Launch, News, NulByte, Order, Program, Said};
use super::pool::Shim;
use super::printed::Printed;
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
    /// The shim was killed when it had the order, or what the program prints could not be received: it may have run, and
    /// has been ended.
    #[error("{0}")]
    Lost(#[source] std::io::Error),
}

/// Where a start waits for a program that ends at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// On the thread that starts it, for up to 50 ms: for one that runs nothing else meanwhile.
    Thread,
    /// In the runtime, like any other future.
    Runtime,
}

/// The way to a shim: as the pool has it, or watched by a runtime.
#[derive(Debug)]
enum Control {
    Quiet(std::os::unix::net::UnixStream),
    Watched(UnixStream),
}

/// A program that was started, with all that it starts. Dropping it kills the tree, and waits until nothing is left.
#[derive(Debug)]
pub struct Tree {
    run_id: RunId,
    way: Option<(Shim, Control)>,
    read: Vec<u8>,
    /// What came with it.
    descriptors: Vec<OwnedFd>,
    /// It ended before it was seen to run.
    ending: Option<Ending>,
    /// What it prints.
    pub stdout: Option<Printed>,
    /// What it complains of.
    pub stderr: Option<Printed>,
}

impl Tree {
    /// Starts a program for a run, whose id its environment should bear as `SCHED_RUN_ID`. Without `stdin` there is
    /// nothing to read for it. Needs a tokio runtime.
    ///
    /// # Errors
    /// When it could not be started, or was lost at once. Nothing of it runs then.
    pub async fn start(
        run_id: RunId,
        program: Program,
        stdin: Option<OwnedFd>,
        waiting: Waiting,
    ) -> Result<Self, StartError> {
        if !entry::is_ready() {
            return Err(StartError::NotReady);
        }
        let descriptors: Vec<BorrowedFd<'_>> = stdin.iter().map(OwnedFd::as_fd).collect();
        let launch = Launch::try_from(program).map_err(|NulByte| StartError::Refused {
            message: "a word with a NUL byte cannot be handed to a program".into(),
            hopeless: true,
        })?;
        let encoded = frame::pack(&Order::Run(launch))?;
        let mut shim = Shim::get()?;
        let (mut tree, sent) = loop {
            let used = shim.used;
            let control = shim.take_control().ok_or_else(|| std::io::Error::other("a shim without a way to it"))?;
            match frame::send_with(&control, &encoded, &descriptors) {
                Ok(sent) => break (Self::below(run_id, shim, control), sent),
                // It died while it waited, and has started nothing.
                Err(_) if used => shim = Shim::start()?,
                Err(error) => return Err(error.into()),
            }
        };
        drop(descriptors);
        match tree.begun(&encoded[sent..], stdin.is_none() && waiting == Waiting::Thread).await {
            Ok(News::Started) => tree.prints([Vec::new(), Vec::new()], [true, true]).map_err(StartError::Lost)?,
            Ok(News::Brief { ending, printed: [Said { bytes: out, open }, err] }) => {
                tree.prints([out, err.bytes], [open, err.open]).map_err(StartError::Lost)?;
                tree.ending = Some(ending);
            }
            Ok(News::Refused { message, hopeless }) => {
                tree.put_back();
                return Err(StartError::Refused { message, hopeless });
            }
            Ok(other @ News::Ended(_)) => return Err(unexpected(&other).into()),
            Err(error) => {
                tree.lost().await;
                return Err(StartError::Lost(error));
            }
        }
        Ok(tree)
    }

    const fn below(run_id: RunId, shim: Shim, control: std::os::unix::net::UnixStream) -> Self {
        let way = Some((shim, Control::Quiet(control)));
        Self { run_id, way, read: Vec::new(), descriptors: Vec::new(), ending: None, stdout: None, stderr: None }
    }

    /// Takes what the program has printed so far, and the pipes that are open.
    fn prints(&mut self, before: [Vec<u8>; 2], open: [bool; 2]) -> std::io::Result<()> {
        let mut pipes = std::mem::take(&mut self.descriptors).into_iter().peekable();
        let mut taken = |open: bool| match (open, pipes.next_if(|_| open)) {
            (true, None) => {
                Err(std::io::Error::other("there was no room for the pipes that it prints to: too many open files"))
            }
            (_, pipe) => Ok(pipe),
        };
        let (stdout, stderr) = (taken(open[0])?, taken(open[1])?);
        let [out, err] = before;
        (self.stdout, self.stderr) = (Some(Printed::new(out, stdout)?), Some(Printed::new(err, stderr)?));
        Ok(())
    }

    /// Sends what is left of the order, and waits for the first message; on this thread at first, if that may be.
    async fn begun(&mut self, rest: &[u8], on_thread: bool) -> std::io::Result<News> {
        if !rest.is_empty() {
            self.watch()?.write_all(rest).await?;
        } else if let Some((_, Control::Quiet(control))) = &self.way
            && on_thread
        {
            let brief = Timespec::try_from(BRIEF).map_err(std::io::Error::other)?;
            // Whether there is a message, the reading tells.
            let _ = poll(&mut [PollFd::new(control, PollFlags::IN)], Some(&brief));
        }
        self.news().await
    }

    /// Lets the runtime watch the way to the shim.
    fn watch(&mut self) -> std::io::Result<&mut UnixStream> {
        self.way = match self.way.take() {
            Some((shim, Control::Quiet(control))) => Some((shim, Control::Watched(UnixStream::from_std(control)?))),
            way => way,
        };
        match &mut self.way {
            Some((_, Control::Watched(control))) => Ok(control),
            _ => Err(gone()),
        }
    }

    /// The next message. Nothing is lost when it is dropped before.
    async fn news(&mut self) -> std::io::Result<News> {
        loop {
            if let Some(news) = frame::unpack(&mut self.read)? {
                return Ok(news);
            }
            let mut chunk = [0; 1024];
            let descriptors = &mut self.descriptors;
            let read = match &mut self.way {
                None => Ok(0),
                Some((_, Control::Quiet(control))) => frame::read(&*control, &mut chunk, descriptors),
                Some((_, Control::Watched(control))) => {
                    control.async_io(Interest::READABLE, || frame::read(&*control, &mut chunk, descriptors)).await
                }
            };
            match read {
                Err(error) if error.kind() == ErrorKind::WouldBlock => drop(self.watch()?),
                Ok(0) => return Err(gone()),
                read => self.read.extend_from_slice(&chunk[..read?]),
            }
        }
    }

    /// Asks the whole tree to end: TERM, `grace`, KILL. Returns at once.
    pub fn stop(&self, grace: Duration) {
        let Some((_, control)) = &self.way else { return };
        // A shim whose socket is full or closed ends with its tree when this is dropped.
        let sent = frame::pack(&Order::Stop(grace)).and_then(|bytes| match control {
            Control::Quiet(control) => (&*control).write(&bytes),
            Control::Watched(control) => control.try_write(&bytes),
        });
        if let Err(error) = sent {
            tracing::debug!(run_id = %self.run_id, %error, "a tree could not be asked to end");
        }
    }

    /// Waits for the end of the tree. May be dropped and called again.
    ///
    /// # Errors
    /// When the shim itself was killed. What it had, is killed too.
    pub async fn ended(&mut self) -> std::io::Result<Ending> {
        let news = match self.ending.take() {
            Some(ending) => Ok(News::Ended(ending)),
            None => self.news().await,
        };
        match news {
            Ok(News::Ended(ending)) => {
                if ending.left == 0 {
                    self.put_back();
                }
                Ok(ending)
            }
            Ok(other) => Err(unexpected(&other)),
            Err(error) => {
                self.lost().await;
                Err(error)
            }
        }
    }

    /// The shim does not answer as it should: it ends, with what it had.
    async fn lost(&mut self) {
        if let Some((shim, control)) = self.way.take() {
            drop(control);
            drop(shim);
        }
        let run_id = self.run_id;
        // Whoever was below it has another parent now; its mark tells.
        let _ = tokio::task::spawn_blocking(move || crate::process::sweep(&[run_id])).await;
    }

    /// The shim has nothing any more, and may serve another tree.
    fn put_back(&mut self) {
        let Some((shim, control)) = self.way.take() else { return };
        let control = match control {
            Control::Quiet(control) => Ok(control),
            Control::Watched(control) => control.into_std(),
        };
        if let Ok(control) = control {
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
