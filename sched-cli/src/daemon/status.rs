//! `sched status`: how the scheduler is, without HTTP and without a key.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::death::{self, Death, SESSION_REMEDY};
use super::marker::{Marker, Note as _, Stopped};
use super::place::{holder, is_held, lock_path, socket_in};
use super::start::supervised;
use super::supervisor::{Record, lost_supervisor};
use super::witness;
use crate::args::Global;
use crate::compose::Setup;
use crate::control::call;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

/// A scheduler that does not answer for so long hangs.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn status(global: &Global) -> Outcome {
    let setup = Setup::find(global)?;
    let data_dir = &setup.config.data_dir;
    may_look(data_dir)?;
    let (mut body, exit) = look(data_dir, &setup.config.log_dir);
    body["supervisor"] = json!(supervised(data_dir));
    body["lost_supervisor"] = json!(lost_supervisor(data_dir));
    if global.json {
        output::json(&body);
    } else if !global.quiet {
        print(&body);
    }
    Ok(exit)
}

/// Refuses a data folder of someone else that keeps everything to itself.
fn may_look(data_dir: &Path) -> Result<(), Failure> {
    let denied =
        |path: &Path| std::fs::File::open(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
    if !denied(data_dir) && !denied(&lock_path(data_dir)) {
        return Ok(());
    }
    let owner = std::fs::metadata(data_dir).map_or("another user".into(), |meta| format!("user {}", meta.uid()));
    Err(Failure::failed(format!("{} is closed to you: ask as {owner} or as root", data_dir.display())))
}

fn look(data_dir: &Path, log_dir: &Path) -> (Value, Exit) {
    let answer = call::<Value>(data_dir, Method::GET, "/api/v1/status", None, Some(PATIENCE));
    if let Ok(mut body) = answer {
        // The process runs, whether or not it dispatches.
        body["dispatching"] = body["running"].take();
        body["running"] = json!(true);
        return (body, Exit::Done);
    }
    let marker = Marker::read(data_dir);
    if is_held(data_dir) {
        let pid = holder(data_dir);
        let marker = marker.filter(|marker| Some(marker.pid) == pid);
        let http = marker.as_ref().map(|marker| marker.http.as_str());
        if is_closed_to_us(data_dir) && http.is_some_and(serves) {
            let mut body = from_outside("running", pid);
            (body["running"], body["http"], body["seen"]) = (json!(true), json!(http), json!("outside"));
            return (body, Exit::Done);
        }
        if marker.is_some_and(|marker| marker.stopping) {
            let mut body = from_outside("running", pid);
            (body["running"], body["stopping"]) = (json!(true), json!(true));
            return (body, Exit::Done);
        }
        return (from_outside("hung", pid), Exit::Failed);
    }
    match marker {
        Some(marker) => {
            let seen = witness::seen(data_dir, &marker);
            let death = death::of(&marker, seen, log_dir);
            let mut body = from_outside("unclean", Some(marker.pid));
            body["death"] = json!(death);
            body["gave_up"] = json!(Record::read(data_dir).and_then(|record| record.gave_up));
            (body, Exit::Failed)
        }
        None => {
            let mut body = from_outside("stopped", None);
            body["stopped"] = json!(Stopped::read(data_dir));
            (body, Exit::NotRunning)
        }
    }
}

/// Whether the control socket is another user's.
fn is_closed_to_us(data_dir: &Path) -> bool {
    let Ok((socket, _folder)) = socket_in(data_dir) else { return false };
    UnixStream::connect(socket).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

/// Whether a scheduler answers there the question that needs no key.
fn serves(listen: &str) -> bool {
    let ask = || -> Option<bool> {
        let address: SocketAddr = listen.parse().ok()?;
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(stream, "GET /healthz HTTP/1.1\r\nhost: {listen}\r\nconnection: close\r\n\r\n").ok()?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).ok()?;
        Some(&head == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}

fn from_outside(state: &str, pid: Option<u32>) -> Value {
    json!({
        "running": false,
        "state": state,
        "pid": pid,
        "last_activity": null,
        "uptime_seconds": 0,
        "tick": 0,
        "next": {},
        "next_total": 0,
        "http": null,
        "version": env!("CARGO_PKG_VERSION"),
    })
}

fn print(body: &Value) {
    let text = |key: &str| match &body[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text("state").as_str() {
        "stopped" => print_stopped(serde_json::from_value(body["stopped"].clone()).ok()),
        "unclean" => print_unclean(body),
        "hung" => {
            output::line(&format!("hung: pid {} holds the data folder and does not answer", text("pid")));
            output::line("`sched restart` ends it and starts another; `sched start --supervise` does so by itself");
        }
        _ if body["seen"] == "outside" => {
            output::line(&format!("running: pid {}, http://{}/", text("pid"), text("http")));
            output::line("it is another user's: more is told to that user, to root, and over HTTP with the key");
        }
        _ if body["stopping"] == true => output::line(&format!("running: pid {} is shutting down", text("pid"))),
        state => print_running(body, state),
    }
    print_supervisor(body);
}

fn print_stopped(stopped: Option<Stopped>) {
    let Some(stopped) = stopped else { return output::line("stopped") };
    let at = output::short_time(Some(stopped.at));
    if stopped.asked {
        return output::line(&format!("stopped: by `sched stop` at {at}"));
    }
    let signal = sched_core::process::signal_name(stopped.signal);
    output::line(&format!("stopped: by {signal} at {at}, which did not come from `sched stop`"));
    if let Some(session) = stopped.session {
        output::line(&format!("{session}, the session that started it, had ended"));
        output::line(&format!("to keep that from happening again: {SESSION_REMEDY}"));
    }
}

fn print_unclean(body: &Value) {
    let Ok(Death { pid, message, remedy, .. }) = serde_json::from_value(body["death"].clone()) else { return };
    output::line(&format!("unclean: pid {pid} was not stopped: {message}"));
    if let Some(gave_up) = body["gave_up"].as_str() {
        output::line(gave_up);
    }
    if let Some(remedy) = remedy {
        output::line(&format!("to keep that from happening again: {remedy}"));
    }
    output::line("`sched start` recovers: nothing that was acknowledged is lost");
}

fn print_supervisor(body: &Value) {
    if let Some(pid) = body["lost_supervisor"].as_u64() {
        output::line(&format!("its supervisor (pid {pid}) is gone; `sched restart` starts it anew with one"));
    }
    let Ok(Some(record)) = serde_json::from_value::<Option<Record>>(body["supervisor"].clone()) else { return };
    let mut text = format!("supervised by pid {}", record.pid);
    if record.restarts > 0 {
        text.push_str(&format!(", restarts: {}", record.restarts));
    }
    if let (Some(death), Some(at)) = (&record.last_death, record.last_death_at) {
        text.push_str(&format!(", the last at {}: {}", output::short_time(Some(at)), death.message));
    }
    if let Some(next) = record.next_start_at {
        text.push_str(&format!("; it starts again at {}", output::short_time(Some(next))));
    }
    output::line(&text);
}

fn print_running(body: &Value, state: &str) {
    let text = |key: &str| body[key].as_str().map_or_else(|| body[key].to_string(), str::to_owned);
    output::line(&format!(
        "{state}: pid {}, tick {}, up {} s, http://{}/",
        text("pid"),
        text("tick"),
        text("uptime_seconds"),
        text("http")
    ));
    if let Some(problem) = body["problem"].as_str() {
        output::line(problem);
    }
    if body["dispatching"] == json!(false) {
        output::line("dispatching is stopped");
    }
    let Some(next) = body["next"].as_object() else { return };
    let mut next: Vec<_> = next.iter().map(|(name, at)| (at.as_str().unwrap_or_default(), name)).collect();
    next.sort_unstable();
    for (at, name) in next.into_iter().take(10) {
        output::line(&format!("  {at}  {name}"));
    }
}
