//! Signs of life, in the words of sd_notify(3): what the engine tells whoever watches it, be that systemd or a supervisor
//! of ours, and how a supervisor hears it.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram as Datagram};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt};
use rustix::time::{ClockId, clock_gettime};
use sched_core::Handle;
use sched_http::Health;
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// A field of ours; others pass over it.
const FAILURE: &str = "X_SCHED_FAILURE";
/// Its place in a data folder.
const FILE: &str = "watch.sock";
const SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG: &str = "WATCHDOG_USEC";
const WATCHDOG_PID: &str = "WATCHDOG_PID";
/// No message is longer.
const LONGEST: usize = 4096;
/// Between two looks whether the engine is well there are at most so many.
const MOST_BETWEEN: Duration = Duration::from_secs(10);
/// And at least so many, however short the time is that whoever watches names.
const LEAST_BETWEEN: Duration = Duration::from_millis(20);
/// Whoever watches and does not listen must not hold up the engine.
const PATIENCE: Duration = Duration::from_millis(100);

/// What an engine tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Word {
    Ready,
    Alive,
    /// It ends, and why.
    Failure(String),
}

/// Tells whoever watches; with nobody there, nothing happens.
pub(crate) fn tell(message: &str) {
    let Some(place) = std::env::var_os(SOCKET).filter(|place| !place.is_empty()) else { return };
    // Who does not listen any more cannot be told so.
    let _ = send(place.as_encoded_bytes(), message);
}

fn send(place: &[u8], message: &str) -> std::io::Result<usize> {
    let socket = Datagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    match place.strip_prefix(b"@") {
        Some(name) => socket.send_to_addr(message.as_bytes(), &SocketAddr::from_abstract_name(name)?),
        None => {
            let path = Path::new(std::str::from_utf8(place).map_err(std::io::Error::other)?);
            socket.send_to(message.as_bytes(), path)
        }
    }
}

/// That the engine stands, and how it is.
pub(crate) fn tell_ready(listen: &str) {
    tell(&format!("READY=1\nSTATUS=http://{listen}/\n"));
}

/// That the configuration is read again; [`tell_ready`] says when that is done. The time is the protocol's.
pub(crate) fn tell_reloading() {
    let now = clock_gettime(ClockId::Monotonic);
    tell(&format!(
        "RELOADING=1\nMONOTONIC_USEC={}\n",
        i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000
    ));
}

/// That it shuts down.
pub(crate) fn tell_stopping() {
    tell("STOPPING=1\nSTATUS=shutting down\n");
}

/// Why it ends, in one line.
pub(crate) fn tell_failure(message: &str) {
    let line = message.replace('\n', "; ");
    tell(&format!("STATUS={line}\n{FAILURE}={line}\n"));
}

/// That it is still busy with its start, and wants so much more time.
pub(crate) fn ask_for_time(doing: &str, more: Duration) {
    tell(&format!("STATUS={doing}\nEXTEND_TIMEOUT_USEC={}\n", more.as_micros()));
}

/// How long it may be silent, if it is watched.
fn watchdog() -> Option<Duration> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let ours = number(WATCHDOG_PID).is_none_or(|pid| pid == u64::from(std::process::id()));
    number(WATCHDOG).filter(|micros| *micros > 0 && ours).map(Duration::from_micros)
}

/// Gives signs of life as long as the engine answers and its heartbeat beats, from a runtime that is neither's.
pub(crate) async fn prove_life(handle: Handle, health: Arc<Health>) {
    let Some(limit) = watchdog() else { return };
    let every = (limit / 4).clamp(LEAST_BETWEEN, MOST_BETWEEN);
    loop {
        let answer = tokio::time::timeout(limit / 2, handle.status(0)).await;
        let well = answer.is_ok_and(|status| status.is_ok_and(|status| status.draining || beats(&handle, &health)));
        if well {
            tell("WATCHDOG=1\n");
        }
        tokio::time::sleep(every).await;
    }
}

/// Its heart beats until it drains.
fn beats(handle: &Handle, health: &Health) -> bool {
    health.heartbeat_overdue(handle.clock().now().mono).is_none()
}

/// A place to hear an engine, and its address; the kernel tells who speaks. Below a `folder` of its own it is a file that
/// no other user can fill with words; without one, or where the path is too long for a socket, anybody can speak.
pub(crate) fn listen(folder: Option<&Path>) -> std::io::Result<(Datagram, String)> {
    let (socket, address) = match folder.and_then(listen_in) {
        Some(place) => place,
        None => {
            let name = format!("sched-{}", uuid::Uuid::new_v4().simple());
            (Datagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?, format!("@{name}"))
        }
    };
    sockopt::set_socket_passcred(&socket, true)?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

fn listen_in(folder: &Path) -> Option<(Datagram, String)> {
    let path = std::path::absolute(folder.join(FILE)).ok()?;
    let address = path.to_str()?.to_owned();
    // What an earlier supervisor left.
    forget(folder);
    let socket = Datagram::bind(&path).ok()?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).ok()?;
    Some((socket, address))
}

/// Takes the file away that [`listen`] has made.
pub(crate) fn forget(folder: &Path) {
    // What is gone is what is wanted.
    let _ = std::fs::remove_file(folder.join(FILE));
}

/// Lets a program know that it is watched.
pub(crate) fn let_watch(command: &mut Command, address: &str, limit: Duration) {
    command.env(SOCKET, address).env(WATCHDOG, limit.as_micros().to_string()).env_remove(WATCHDOG_PID);
}

/// The next message, and the process that sent it: any process may send one.
pub(crate) async fn hear(socket: &UnixDatagram) -> std::io::Result<(i32, String)> {
    socket.async_io(Interest::READABLE, || receive(socket)).await
}

/// What has come already, in its order.
pub(crate) fn heard_by_now(socket: &UnixDatagram) -> impl Iterator<Item = (i32, String)> {
    // The queue holds no more (net.unix.max_dgram_qlen), but may be filled as fast as it is read.
    (0..1024).map_while(move |_| receive(socket).ok())
}

fn receive(socket: &UnixDatagram) -> std::io::Result<(i32, String)> {
    let mut bytes = [0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::empty())?;
    let sender = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(sender) => Some(sender.pid.as_raw_nonzero().get()),
        _ => None,
    });
    Ok((sender.unwrap_or_default(), String::from_utf8_lossy(&bytes[..received.bytes]).into_owned()))
}

/// What a message says.
pub(crate) fn words(text: &str) -> Vec<Word> {
    let word = |line: &str| match line.split_once('=') {
        Some(("READY", "1")) => Word::Ready,
        Some((FAILURE, message)) => Word::Failure(message.to_owned()),
        _ => Word::Alive,
    };
    text.lines().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_it_is_and_why_it_ends_are_told_apart() {
        assert_eq!(words("READY=1\nSTATUS=http://127.0.0.1:5000/\n"), [Word::Ready, Word::Alive]);
        assert_eq!(words("WATCHDOG=1\n"), [Word::Alive]);
        let last = "STATUS=the port is taken\nX_SCHED_FAILURE=the port is taken\n";
        assert_eq!(words(last), [Word::Alive, Word::Failure("the port is taken".into())]);
    }
}
