//! What a scheduler and the process of an attempt tell each other, and how it is carried.

use std::io::{Error, ErrorKind, Result};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::UnixStream;

use crate::context::{PortError, PortReply, PortRequest, RunInfo};
use crate::process::{decode, encode};
use crate::run::Outcome;

/// What the scheduler tells.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToWorker {
    /// The attempt.
    Begin { info: RunInfo, params: Value },
    /// The answer to a request.
    Answer { id: u64, answer: std::result::Result<PortReply, PortError> },
    /// The attempt should stop.
    Cancel,
}

/// What the worker tells.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromWorker {
    /// A request of the job.
    Call { id: u64, request: PortRequest },
    /// The attempt has ended.
    Ended(Outcome),
}

/// What came of a turn at the wire.
#[derive(Debug)]
pub(super) enum Turn<T> {
    /// Some of what was to be sent has gone.
    Sent,
    /// A message came.
    Told(T),
    /// The other side has gone.
    Gone,
}

/// A socket and what has not gone through it yet. Both directions may be dropped in the middle and taken up again.
#[derive(Debug)]
pub(super) struct Wire {
    socket: UnixStream,
    read: Vec<u8>,
    unsent: Vec<u8>,
}

impl Wire {
    pub(super) const fn new(socket: UnixStream) -> Self {
        Self { socket, read: Vec::new(), unsent: Vec::new() }
    }

    /// Puts a message behind those that are not sent yet.
    pub(super) fn put(&mut self, message: &impl Serialize) -> Result<()> {
        self.unsent.extend(encode(message)?);
        Ok(())
    }

    pub(super) const fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends some of what is not sent yet; if there is nothing, waits for a message.
    pub(super) async fn turn<T: DeserializeOwned>(&mut self) -> Result<Turn<T>> {
        if self.has_unsent() {
            return self.send().await.map(|()| Turn::Sent);
        }
        Ok(self.next().await?.map_or(Turn::Gone, Turn::Told))
    }

    async fn send(&mut self) -> Result<()> {
        self.socket.writable().await?;
        match self.socket.try_write(&self.unsent) {
            Ok(sent) => {
                self.unsent.drain(..sent);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The next message; none when the other side has gone.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        loop {
            if let Some(message) = decode(&mut self.read)? {
                return Ok(Some(message));
            }
            self.socket.readable().await?;
            match self.socket.try_read_buf(&mut self.read) {
                Ok(0) if self.read.is_empty() => return Ok(None),
                Ok(0) => return Err(Error::new(ErrorKind::UnexpectedEof, "not a message: it ends in the middle")),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}
