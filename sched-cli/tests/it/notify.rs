//! People are told: channels in the configuration, tried out, at work, and given up.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

use crate::world::World;

/// A server that gives what is posted to it to a test, and answers with this status.
fn inbox(status: &'static str) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (put, got) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut read, mut piece) = (Vec::new(), [0; 4096]);
            let body = loop {
                let count = stream.read(&mut piece).unwrap();
                read.extend_from_slice(&piece[..count]);
                let text = String::from_utf8_lossy(&read).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.unwrap().parse().unwrap() {
                    break body.to_owned();
                }
            };
            let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            if put.send(body).is_err() {
                return;
            }
        }
    });
    (address, got)
}

fn webhook(name: &str, address: &str) -> String {
    format!(
        "[[channel]]\nname = \"{name}\"\nkind = \"webhook\"\nparams = {{ url = \"http://{address}/\" }}\ngroup = \
         \"0s\"\n\n"
    )
}

const BROKEN: &str = "[[schedule]]\nname = \"broken\"\njob = \"command\"\ntrigger = { once = 2999-01-01T00:00:00Z }\n\
                      notify = [\"ops\"]\nparams = { argv = [\"echo a word; exit 7\"], shell = true }\n";

#[test]
fn a_failure_reaches_its_channel_and_the_list_says_so() {
    let (address, got) = inbox("200 OK");
    let world = World::with(&format!("{}{BROKEN}", webhook("ops", &address)));
    assert_eq!(world.ok(&["notify", "test", "ops"]).out, "channel ops has taken a trial message\n");
    let trial: Value = serde_json::from_str(&got.recv().unwrap()).unwrap();
    assert_eq!(trial["notices"][0]["kind"], "test");
    world.ok(&["start"]);
    let run = world.sched(&["trigger", "broken", "--wait", "--json"]).json();
    let told: Value = serde_json::from_str(&got.recv().unwrap()).unwrap();
    let notice = &told["notices"][0];
    assert_eq!((&notice["kind"], &notice["run_id"]), (&"failed".into(), &run["run_id"]));
    assert_eq!(notice["output"], serde_json::json!(["a word"]));
    assert_eq!(notice["message"], "broken has failed: exited with code 7: a word");
    // The scheduler writes down that it was taken after the other side has said so.
    let line = loop {
        let line = world.ok(&["notify", "list", "--json"]).json();
        if line["state"] != "waiting" {
            break line;
        }
    };
    assert_eq!((&line["state"], &line["attempt"], &line["id"]), (&"delivered".into(), &1.into(), &told["id"]));
    let list = world.ok(&["notify", "list"]).out;
    assert!(list.contains("ops      delivered  1      broken has failed: exited with code 7"), "{list}");
}

#[test]
fn what_was_refused_for_good_is_listed_and_tried_again_on_request() {
    let (bad, got) = inbox("400 Bad Request");
    let world = World::with(&format!("{}{BROKEN}", webhook("ops", &bad)));
    world.ok(&["start"]);
    world.sched(&["trigger", "broken", "--wait"]);
    got.recv().unwrap();
    world.wait_for(|line| line["event"] == "alert" && line["kind"] == "undelivered");
    let dead = world.ok(&["notify", "list", "--dead", "--json"]).json();
    assert_eq!(dead["error"], "answered 400 Bad Request");
    // Another address in the configuration is taken over by a reload, and gets what the old one refused.
    let (good, got) = inbox("200 OK");
    std::fs::write(world.path("sched.toml"), format!("{}{BROKEN}", webhook("ops", &good))).unwrap();
    world.ok(&["reload"]);
    assert_eq!(world.ok(&["notify", "retry"]).out, "1 message is tried again\n");
    let told: Value = serde_json::from_str(&got.recv().unwrap()).unwrap();
    assert_eq!((&told["id"], &told["notices"][0]["kind"]), (&dead["id"], &"failed".into()));
}

#[test]
fn a_channel_that_does_not_answer_or_is_not_there_is_told_so() {
    let world = World::with(&webhook("ops", "127.0.0.1:1"));
    let refused = world.sched(&["notify", "test", "ops"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.starts_with("sched: channel ops did not take it: "), "{}", refused.err);
    let unknown = world.sched(&["notify", "test", "opz"]);
    assert_eq!((unknown.code, unknown.err.as_str()), (2, "sched: no channel `opz`; did you mean `ops`?\n"));
}

#[test]
fn each_kind_shows_its_parameters_even_where_the_configuration_is_broken() {
    let world = World::with("[[");
    let list = world.ok(&["kinds"]).out;
    for kind in ["ceo_brief", "command", "http_call", "report", "retention", "self_heal", "email", "ping", "slack"] {
        let shown = world.ok(&["kinds", kind]).out;
        assert!(list.contains(kind) && shown.starts_with(kind), "{shown}");
        let schema = world.ok(&["kinds", kind, "--json"]).json();
        let described = schema["schema"]["properties"].as_object().unwrap();
        for (name, property) in described {
            assert!(property.to_string().contains("description"), "{kind}.{name} says nothing");
            assert!(shown.contains(&format!("\n  {name}  ")), "{kind}.{name} is not shown: {shown}");
        }
    }
    let wrong = world.sched(&["kinds", "nothing"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.starts_with("sched: no kind `nothing`; known: ceo_brief, command,"), "{}", wrong.err);
}
