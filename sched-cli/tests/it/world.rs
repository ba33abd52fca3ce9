//! A folder with the program in it, as a user has one.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {} {}", self.out, self.err))
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn with(config: &str) -> Self {
        let world = Self::new();
        std::fs::write(world.folder.path().join("sched.toml"), config).unwrap();
        world
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sched"));
        command.args(words).current_dir(self.folder.path()).env_clear().env("PATH", "/usr/bin:/bin");
        command.env("SCHED__HTTP__LISTEN", "127.0.0.1:0");
        command
    }

    pub(crate) fn sched(&self, words: &[&str]) -> Ended {
        self.command(words).output().unwrap().into()
    }

    #[track_caller]
    pub(crate) fn ok(&self, words: &[&str]) -> Ended {
        let ended = self.sched(words);
        assert_eq!(ended.code, 0, "{words:?}: {} {}", ended.out, ended.err);
        ended
    }

    pub(crate) fn status(&self) -> Value {
        self.sched(&["status", "--json"]).json()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("logs/scheduler.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until the log has a line like this.
    pub(crate) fn wait_for(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(line) = self.log().into_iter().find(&wanted) {
                return line;
            }
            std::thread::yield_now();
        }
    }

    pub(crate) fn history(&self) -> Vec<Value> {
        let runs = self.ok(&["runs", "--json", "--limit", "100"]);
        runs.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Whether this process says that it stands.
    pub(crate) fn is_marked_by(&self, pid: u32) -> bool {
        let marker = std::fs::read_to_string(self.path("data/daemon.json")).unwrap_or_default();
        serde_json::from_str::<Value>(&marker).is_ok_and(|marker| marker["pid"] == pid)
    }

    pub(crate) fn kill(&self) {
        let pid = self.status()["pid"].as_i64().unwrap();
        kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
        while Path::new(&format!("/proc/{pid}/stat")).exists()
            && !std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default().contains(") Z ")
        {
            std::thread::yield_now();
        }
    }

    pub(crate) fn http(&self, method: &str, path: &str, key: Option<&str>) -> (u16, Value) {
        let address = self.status()["http"].as_str().unwrap().to_owned();
        let mut stream = TcpStream::connect(address).unwrap();
        let key = key.map_or(String::new(), |key| format!("X-Dash-Key: {key}\r\n"));
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: x\r\n{key}content-length: 0\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.command(&["stop"]).output();
    }
}

/// A server that accepts and never answers.
pub(crate) fn silent_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || listener.incoming().map(Result::unwrap).collect::<Vec<_>>());
    url
}

pub(crate) fn command_schedule(name: &str, line: &str, more: &str) -> String {
    format!(
        "[[schedule]]\nname = \"{name}\"\njob = \"command\"\ntrigger = {{ once = 2999-01-01T00:00:00Z }}\n\
         params = {{ argv = [{line:?}], shell = true }}\n{more}\n"
    )
}

/// A library that lets calls on a folder's files fail; none where it cannot be made.
pub(crate) fn shim(folder: &Path) -> Option<PathBuf> {
    let library = folder.join("shim.so");
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg("../sched-core/tests/faults/shim.c");
    (cfg!(target_os = "linux") && cc.output().is_ok_and(|built| built.status.success())).then_some(library)
}
