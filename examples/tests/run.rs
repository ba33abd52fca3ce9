//! The examples do what they say.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

const KEY: &str = "0f8b1c0a6f6b4d0d9a1e2c3b4a5f6e7d";

#[test]
fn the_embedded_scheduler_remembers_across_processes() {
    let folder = tempfile::tempdir().unwrap();
    for expected in 1..=2 {
        let output = Command::new(env!("CARGO_BIN_EXE_embed")).current_dir(&folder).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text, format!("succeeded: hello world, attempt 1\n{expected} runs so far\n"), "{:?}", output.stderr);
    }
}

#[test]
fn a_runner_of_ones_own_runs_every_attempt_on_its_threads() {
    let output = Command::new(env!("CARGO_BIN_EXE_lanes")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text} {:?}", output.stderr);
    assert!(lines.iter().all(|line| line.starts_with("succeeded on lane-")), "{text}");
}

struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        // A service that has ended already is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_service_answers_itself_and_runs_its_job_through_the_schedulers_api() {
    // Another provider may be set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_service"));
    command.arg("127.0.0.1:0").current_dir(&folder).env("DASHBOARD_KEY", KEY).stdout(Stdio::piped());
    let mut service = Service(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(service.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let base = line.split_whitespace().next().unwrap().to_owned();
    let client = reqwest::Client::new();
    assert_eq!(client.get(&base).send().await.unwrap().text().await.unwrap(), "hello\n");
    let api = format!("{base}scheduler/api/v1");
    let accepted =
        client.post(format!("{api}/schedules/visits/trigger")).header("X-Dash-Key", KEY).send().await.unwrap();
    let accepted: serde_json::Value = accepted.json().await.unwrap();
    let run_id = accepted["run_id"].as_str().unwrap();
    let run = loop {
        let run = client.get(format!("{api}/runs/{run_id}")).header("X-Dash-Key", KEY).send().await.unwrap();
        let run: serde_json::Value = run.json().await.unwrap();
        if run["finished_at"].is_string() {
            break run;
        }
    };
    assert_eq!((&run["state"], &run["summary"]), (&"succeeded".into(), &"1 visits".into()));
}
