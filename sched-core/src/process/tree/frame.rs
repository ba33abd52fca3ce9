//! Messages on a stream: four bytes of length, then JSON, or between a scheduler and its shims a denser form (postcard);
//! descriptors ride on the length.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most descriptors that come with a message: standard output and error.
const DESCRIPTORS: usize = 2;
/// No message is longer.
pub(crate) const LIMIT: usize = 32 * 1024 * 1024;
/// Room for most messages.
const MESSAGE: usize = 1024;
/// The length in front.
pub(crate) const HEAD: usize = 4;

/// A message as bytes, its length in front.
pub(crate) fn encode(message: &impl Serialize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; HEAD];
    serde_json::to_writer(&mut bytes, message)?;
    measured(bytes)
}

/// [`encode`] in the dense form.
pub(super) fn pack(message: &impl Serialize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(MESSAGE);
    bytes.resize(HEAD, 0);
    let bytes = postcard::to_extend(message, bytes);
    measured(bytes.map_err(|error| invalid(format!("it cannot be told: {error}")))?)
}

/// Writes the length into the room in front.
fn measured(mut bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let length = bytes.len() - HEAD;
    let head = u32::try_from(length).ok().filter(|_| length <= LIMIT);
    let head =
        head.ok_or_else(|| invalid(format!("a message of {length} bytes is longer than the {LIMIT} allowed")))?;
    bytes[..HEAD].copy_from_slice(&head.to_be_bytes());
    Ok(bytes)
}

/// Takes the first whole message out of what was read; none while there is none.
pub(crate) fn decode<T: DeserializeOwned>(read: &mut Vec<u8>) -> std::io::Result<Option<T>> {
    first(read, |bytes| serde_json::from_slice(bytes).map_err(|error| error.to_string()))
}

/// [`decode`] of the dense form.
pub(super) fn unpack<T: DeserializeOwned>(read: &mut Vec<u8>) -> std::io::Result<Option<T>> {
    first(read, dense)
}

fn dense<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    postcard::from_bytes(bytes).map_err(|error| error.to_string())
}

fn first<T>(read: &mut Vec<u8>, form: impl FnOnce(&[u8]) -> Result<T, String>) -> std::io::Result<Option<T>> {
    let Some(head) = read.first_chunk::<HEAD>() else { return Ok(None) };
    let end = HEAD + length(*head)?;
    if read.len() < end {
        return Ok(None);
    }
    let message = form(&read[HEAD..end]).map_err(|error| invalid(format!("not a message: {error}")))?;
    read.drain(..end);
    Ok(Some(message))
}

fn length(head: [u8; HEAD]) -> std::io::Result<usize> {
    let length = u32::from_be_bytes(head) as usize;
    if length > LIMIT {
        return Err(invalid(format!("not a message: its length would be {length} bytes")));
    }
    Ok(length)
}

fn invalid(message: String) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, message)
}

/// Sends an encoded message with descriptors, as much of it as there is room for; the rest is sent like any bytes.
pub(super) fn send_with(socket: impl AsFd, encoded: &[u8], descriptors: &[BorrowedFd<'_>]) -> std::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let sent = rustix::io::retry_on_intr(|| {
        sendmsg(socket.as_fd(), &[IoSlice::new(encoded)], &mut control, SendFlags::NOSIGNAL)
    });
    Ok(sent?)
}

/// Sends a message in the dense form, and descriptors.
pub(super) fn send(
    socket: &mut UnixStream,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> std::io::Result<()> {
    let packed = pack(message)?;
    let sent = send_with(&*socket, &packed, descriptors)?;
    socket.write_all(&packed[sent..])
}

/// Reads some bytes, and the descriptors that came with them; none at the end of the stream.
pub(super) fn read(socket: impl AsFd, into: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> std::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(socket.as_fd(), &mut [IoSliceMut::new(into)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(sent) = message {
            descriptors.extend(sent);
        }
    }
    Ok(received.bytes)
}

/// Waits for a message in the dense form, and what came with it; none at the end of the stream.
pub(super) fn receive<T: DeserializeOwned>(socket: &mut UnixStream) -> std::io::Result<Option<(T, Vec<OwnedFd>)>> {
    let (mut head, mut descriptors) = ([0; HEAD], Vec::new());
    let got = read(&*socket, &mut head, &mut descriptors)?;
    if got == 0 {
        return Ok(None);
    }
    socket.read_exact(&mut head[got..])?;
    let mut bytes = vec![0; length(head)?];
    socket.read_exact(&mut bytes)?;
    let message = dense(&bytes).map_err(|error| invalid(format!("not a message: {error}")))?;
    Ok(Some((message, descriptors)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_found_when_it_is_whole_and_damage_is_told() {
        let bytes = encode(&"one").unwrap();
        let mut read = bytes[..5].to_vec();
        assert_eq!(decode::<String>(&mut read).unwrap(), None);
        read.extend(&bytes[5..]);
        read.extend(&bytes[..2]);
        assert_eq!(decode::<String>(&mut read).unwrap().as_deref(), Some("one"));
        assert_eq!(read.len(), 2);
        let told = |bytes: &[u8]| decode::<String>(&mut bytes.to_vec()).unwrap_err().to_string();
        assert!(told(b"HTTP/1.1 200").starts_with("not a message: its length would be 1213486160 bytes"));
        assert!(told(&[0, 0, 0, 2, b'{', b'x']).starts_with("not a message: "));
    }
}
