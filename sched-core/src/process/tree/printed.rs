//! What a program prints, as bytes.

use std::io::Cursor;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe::Receiver;

use super::order::Said;

/// As much is read at once: most print nothing, or a line.
const CHUNK: usize = 512;
/// What a pipe holds, by pipe(7). Whoever fills it anew while it is read is followed like any other.
const ROOM: usize = 64 * 1024;

/// An end of a pipe that a program prints to.
#[derive(Debug)]
pub struct Printed {
    /// What was in the pipe when the program had ended.
    before: Cursor<Vec<u8>>,
    /// None when it has been read to its end.
    pipe: Option<Receiver>,
}

impl Printed {
    /// What was printed before, and the pipe unless it has been read to its end. A pipe needs a runtime.
    pub(super) fn new(before: Vec<u8>, pipe: Option<OwnedFd>) -> std::io::Result<Self> {
        let pipe = pipe.map(Receiver::from_owned_fd).transpose()?;
        Ok(Self { before: Cursor::new(before), pipe })
    }
}

/// Reads what a program that has ended has left in a pipe.
pub(super) fn left_in(pipe: &OwnedFd) -> std::io::Result<Said> {
    // The end to read is a description of its own: the program's stays as it is.
    fcntl_setfl(pipe, OFlags::NONBLOCK)?;
    let (mut bytes, mut chunk) = (Vec::new(), [0; CHUNK]);
    while bytes.len() < ROOM {
        match rustix::io::read(pipe, &mut chunk) {
            Ok(0) => return Ok(Said { bytes, open: false }),
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
            Err(Errno::INTR) => {}
            // It is held by someone who is none of the tree.
            Err(Errno::AGAIN) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Said { bytes, open: true })
}

impl AsyncRead for Printed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let Self { before, pipe } = self.get_mut();
        match pipe {
            Some(pipe) if before.position() == before.get_ref().len() as u64 => Pin::new(pipe).poll_read(cx, buf),
            _ => Pin::new(before).poll_read(cx, buf),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_left_in_a_pipe_is_read_and_what_a_stranger_adds_too() {
        let (read, mut write) = std::io::pipe().unwrap();
        write.write_all(b"one ").unwrap();
        let stranger = write.try_clone().unwrap();
        drop(write);
        let pipe = OwnedFd::from(read);
        let said = left_in(&pipe).unwrap();
        assert!(said.open);
        let mut printed = Printed::new(said.bytes, Some(pipe)).unwrap();
        let mut stranger = stranger;
        stranger.write_all(b"two").unwrap();
        drop(stranger);
        let mut text = String::new();
        printed.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "one two");
    }

    #[test]
    fn what_nobody_adds_to_is_read_to_its_end() {
        let (read, mut write) = std::io::pipe().unwrap();
        write.write_all(&[b'x'; 10_000]).unwrap();
        drop(write);
        let said = left_in(&read.into()).unwrap();
        assert!(!said.open && said.bytes.len() == 10_000);
    }
}
