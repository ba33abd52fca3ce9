//! Whatever is sent to the control socket or to the HTTP port, the scheduler goes on.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;

use sched_core::testing::Random;
use serde_json::json;

use crate::world::{World, command_schedule};

const WHOLE: &[&str] = &[
    "GET /api/v1/status HTTP/1.1\r\nhost: x\r\n\r\n",
    "POST /api/v1/schedules/s/trigger HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 30\r\n\r\n{\"params\":{},\"queue\":\"maybe\"}  ",
    "POST /api/v1/schedules/%2e%2e%2f/pause HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}",
    "GET /api/v1/runs?limit=99999999999&after=%00&state=no HTTP/1.1\r\nhost: x\r\n\r\n",
    "POST /api/v1/schedules/s/backfill HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"fro\r\n0\r\n\r\n",
    "GET /api/v1/runs/00000000-0000-0000-0000-000000000000/log HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET /api/v1/events HTTP/1.1\r\nhost: x\r\nlast-event-id: -1\r\n\r\n",
    "POST /api/v1/reload HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{\"file\":\"/etc/shadow",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

/// A request, damaged; mostly refused, sometimes not a request at all.
fn frame(random: &mut Random) -> Vec<u8> {
    let mut bytes = WHOLE[random.below(WHOLE.len() as u64) as usize].as_bytes().to_vec();
    for _ in 0..random.below(5) {
        let at = random.below(bytes.len() as u64) as usize;
        match random.below(4) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes.truncate(at.max(1)),
            2 => bytes.splice(at..at, vec![b'a'; 1 << random.below(17)]).for_each(drop),
            _ => bytes.extend(WHOLE[random.below(WHOLE.len() as u64) as usize].bytes()),
        }
    }
    bytes
}

/// Sends it, says that nothing more comes, and takes what is answered.
fn send(mut stream: impl Write + Read, end: impl Fn(), bytes: &[u8]) {
    // The other side may hang up in the middle.
    if stream.write_all(bytes).is_ok() {
        end();
        let mut answer = [0; 64];
        let _ = stream.read(&mut answer);
    }
}

#[test]
fn whatever_is_sent_to_its_sockets_the_scheduler_goes_on_and_obeys_no_stranger() {
    let world = World::with(&command_schedule("s", "echo hi", ""));
    world.ok(&["start"]);
    let address = world.status()["http"].as_str().unwrap().to_owned();
    let socket = world.path("data/sched.sock");
    let mut random = Random(0xf4a);
    for round in 0..400 {
        let bytes = frame(&mut random);
        if round % 2 == 0 {
            let stream = UnixStream::connect(&socket).unwrap();
            let other = stream.try_clone().unwrap();
            send(stream, || drop(other.shutdown(Shutdown::Write)), &bytes);
        } else {
            let stream = TcpStream::connect(&address).unwrap();
            let other = stream.try_clone().unwrap();
            send(stream, || drop(other.shutdown(Shutdown::Write)), &bytes);
        }
    }
    let status = world.status();
    assert_eq!((&status["state"], &status["pid"]), (&json!("running"), &json!(status["pid"].as_u64())));
    world.ok(&["trigger", "s", "--wait"]);
    world.ok(&["audit"]);
    let text = std::fs::read_to_string(world.path("logs/scheduler.out")).unwrap_or_default();
    assert!(!text.contains("panicked"), "{text}");
    let by_key: Vec<_> = world.log().into_iter().filter(|line| line["by"] == json!("key")).collect();
    assert!(by_key.is_empty(), "nobody had the key: {by_key:?}");
}
