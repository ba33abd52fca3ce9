//! `http_call` against real servers: that hang, lie, drip, flood, redirect for ever and elsewhere, with proxies and TLS.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod world;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sched_core::{Registry, RunState};
use sched_jobs::{JobEnv, register_all};
use serde_json::{Value, json};

use self::world::{World, answers, babbler, header, say, server, tls_server};

fn call(address: &str, mut rest: Value) -> Value {
    rest["url"] = json!(format!("http://{address}/"));
    rest
}

#[tokio::test]
async fn servers_that_hang_lie_or_drip_end_in_time_and_say_how() {
    let (hangs, _) = server(|stream, _, _| drop(stream.read(&mut [0])));
    let (lies, _) = server(|stream, _, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort");
    });
    let (drips, _) = server(|stream, _, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    let (babbles, _) = server(|stream, _, _| while stream.write_all(b"x-more: of it\r\n").is_ok() {});
    let world = World::new(&[
        ("hangs", "http_call", call(&hangs, json!({ "timeout": "300ms" }))),
        ("lies", "http_call", call(&lies, json!({}))),
        ("drips", "http_call", call(&drips, json!({ "timeout": "1500ms" }))),
        ("babbles", "http_call", call(&babbles, json!({}))),
    ]);
    for (name, expected) in [
        ("hangs", "no answer within 0.3s"),
        ("lies", "end of file before message length reached"),
        ("drips", "no answer within 1.5s"),
        ("babbles", "invalid HTTP"),
    ] {
        let run = world.run(name).await;
        let error = run.error.unwrap();
        assert!(run.state == RunState::Failed && error.contains(expected), "{name}: {error}");
    }
}

#[tokio::test]
async fn of_ten_gigabytes_no_more_is_taken_than_the_limit() {
    const LENGTH: u64 = 10 << 30;
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let (floods, _) = server(move |stream, _, _| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
        let piece = vec![b'x'; 64 * 1024];
        while count.load(Ordering::SeqCst) < LENGTH && stream.write_all(&piece).is_ok() {
            count.fetch_add(piece.len() as u64, Ordering::SeqCst);
        }
    });
    let expect = json!([{ "pointer": "/ok", "exists": true }]);
    let world = World::new(&[
        ("plain", "http_call", call(&floods, json!({}))),
        ("asserts", "http_call", call(&floods, json!({ "expect": expect, "network": { "max_answer": "2 MiB" } }))),
    ]);
    let run = world.run("plain").await;
    assert_eq!((run.state, &run.data["body_cut"]), (RunState::Succeeded, &json!(true)));
    assert_eq!(run.data["body"].as_str().unwrap().len(), 64 * 1024);
    let error = world.run("asserts").await.error.unwrap();
    assert_eq!(error, "answered 200 OK, but it is more than 2097152 bytes (network.max_answer)");
    // What was written beyond lies in the buffers of the sockets.
    assert!(sent.load(Ordering::SeqCst) < 64 << 20, "{sent:?}");
}

#[tokio::test]
async fn redirects_end_and_carry_no_secret_to_another_origin() {
    let (other, asked_other) = answers("200 OK", "there");
    let target = format!("http://{other}/elsewhere");
    let (first, asked) = server(move |stream, request, _| match request.split(' ').nth(1).unwrap() {
        "/" => say(stream, "307 Go\r\nlocation: /same", ""),
        "/same" => say(stream, &format!("307 Go\r\nlocation: {target}"), ""),
        "/for-ever" => say(stream, "302 Go\r\nlocation: /for-ever", ""),
        "/cloud" => say(stream, "302 Go\r\nlocation: http://169.254.169.254/latest/meta-data", ""),
        path => say(stream, "500 Odd", path),
    });
    let secrets = json!({
        "method": "post", "body": { "n": 1 }, "bearer": "file:token",
        "headers": { "X-Api-Key": "file:token", "X-Plain": "pl4in", "Cookie": "c=1", "Accept": "text/plain" },
    });
    let path = |path: &str, network: Value| json!({ "url": format!("http://{first}{path}"), "network": network });
    let world = World::new(&[
        ("moves", "http_call", call(&first, secrets)),
        ("for-ever", "http_call", path("/for-ever", json!({ "redirects": 3 }))),
        ("not-followed", "http_call", path("/for-ever", json!({ "redirects": 0 }))),
        ("cloud", "http_call", path("/cloud", json!({}))),
    ]);
    std::fs::write(world.path().join("token"), "s3cret\n").unwrap();
    let run = world.run("moves").await;
    assert_eq!((run.state, &run.data["body"]), (RunState::Succeeded, &json!("there")), "{:?}", run.error);
    assert!(!serde_json::to_string(&run).unwrap().contains("s3cret"));
    for request in asked.lock().unwrap().iter() {
        assert_eq!(header(request, "authorization").unwrap(), "Bearer s3cret");
        assert_eq!(header(request, "x-api-key").unwrap(), "s3cret");
    }
    let elsewhere = asked_other.lock().unwrap()[0].clone();
    assert!(elsewhere.starts_with("POST /elsewhere") && elsewhere.ends_with("{\"n\":1}"), "{elsewhere}");
    assert!(header(&elsewhere, "accept").unwrap() == "text/plain" && header(&elsewhere, "idempotency-key").is_some());
    for private in ["s3cret", "pl4in", "c=1"] {
        assert!(!elsewhere.contains(private), "{elsewhere}");
    }
    asked.lock().unwrap().clear();
    assert_eq!(world.run("for-ever").await.error.unwrap(), "it redirects more than 3 times (network.redirects)");
    assert_eq!(asked.lock().unwrap().len(), 4);
    assert_eq!(world.run("not-followed").await.error.unwrap(), "answered 302 Found");
    assert!(world.run("cloud").await.error.unwrap().contains("no connection to 169.254.169.254"));
}

#[tokio::test]
async fn the_guard_judges_names_by_their_address_also_after_a_redirect() {
    let (inside, asked) = answers("200 OK", "");
    let port = inside.rsplit_once(':').unwrap().1.to_owned();
    let target = format!("http://{inside}/");
    let (outside, _) = server(move |stream, _, _| say(stream, &format!("302 Go\r\nlocation: {target}"), ""));
    let outside = outside.replace("127.0.0.1", "localhost");
    let guarded = |address: &str, allow: &[&str]| {
        call(address, json!({ "network": { "deny_private": true, "allow_hosts": allow } }))
    };
    let world = World::new(&[
        ("address", "http_call", guarded(&inside, &[])),
        ("name", "http_call", guarded(&format!("localhost:{port}"), &[])),
        ("mapped", "http_call", guarded(&format!("[::ffff:127.0.0.1]:{port}"), &[])),
        ("redirected", "http_call", guarded(&outside, &["localhost"])),
        ("allowed", "http_call", guarded(&format!("localhost:{port}"), &["LOCALHOST"])),
    ]);
    for (name, expected) in [
        ("address", "no connection to 127.0.0.1: not a public address"),
        ("name", "no connection to localhost, which is at "),
        ("mapped", "no connection to ::ffff:"),
        ("redirected", "no connection to 127.0.0.1: not a public address"),
    ] {
        let error = world.run(name).await.error.unwrap();
        assert!(error.contains(expected), "{name}: {error}");
    }
    assert!(asked.lock().unwrap().is_empty(), "nothing was connected to");
    assert_eq!(world.run("allowed").await.state, RunState::Succeeded);
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_twice_unless_it_is_idempotent() {
    let (dies, asked) = server(|stream, _, _| drop(stream.shutdown(Shutdown::Both)));
    let (mute, _) = answers("200 OK", "");
    let post = |rest: Value| {
        let mut params = call(&dies, rest);
        params["method"] = json!("POST");
        params
    };
    let world = World::new(&[
        ("post-thrice", "http_call", post(json!({}))),
        ("keyed-thrice", "http_call", post(json!({ "idempotent": true }))),
        ("get-thrice", "http_call", call(&dies, json!({}))),
        ("refused-thrice", "http_call", json!({ "url": "http://127.0.0.1:1/", "method": "POST" })),
        (
            "no-tls-thrice",
            "http_call",
            json!({ "url": format!("https://{mute}/"), "method": "POST", "timeout": "200ms" }),
        ),
    ]);
    let run = world.run("post-thrice").await;
    assert!(run.error.unwrap().contains("the server may have acted"));
    assert_eq!((run.attempt, asked.lock().unwrap().len()), (1, 1));
    asked.lock().unwrap().clear();
    let run = world.run("keyed-thrice").await;
    let requests = std::mem::take(&mut *asked.lock().unwrap());
    assert_eq!((run.attempt, requests.len()), (3, 3));
    let traces: Vec<_> = requests.iter().map(|request| header(request, "traceparent").unwrap()).collect();
    let trace = run.run_id.to_string().replace('-', "");
    for (request, parts) in requests.iter().zip(traces.iter().map(|text| text.split('-').collect::<Vec<_>>())) {
        assert_eq!(header(request, "idempotency-key").unwrap(), run.run_id.to_string());
        assert_eq!((parts[0], parts[1], parts[2].len(), parts[3]), ("00", trace.as_str(), 16, "01"));
    }
    assert!(traces[0] != traces[1] && traces[1] != traces[2], "each attempt is a span of its own");
    assert_eq!(world.run("get-thrice").await.attempt, 3);
    for name in ["refused-thrice", "no-tls-thrice"] {
        assert_eq!(world.run(name).await.attempt, 3, "{name}: what never reached a server may be sent again");
    }
}

#[tokio::test]
async fn a_body_is_made_for_the_run_and_the_answer_is_held_against_what_is_expected() {
    let (echoes, asked) = server(|stream, request, _| {
        let body = request.split("\r\n\r\n").nth(1).unwrap();
        let answer = format!("{{\"ok\": true, \"got\": {body}, \"n\": 7}}");
        say(stream, "201 Created", &answer);
    });
    let template = r#"{"run": "{{ run_id }}", "of": {{ schedule | tojson }}, "try": {{ attempt }}, "who": {{ values.who | tojson }}}"#;
    let params = |expect: Value| {
        call(
            &echoes,
            json!({
                "method": "POST", "body_template": template, "values": { "who": "a \"b\"" },
                "headers": { "content-type": "application/json" },
                "basic": { "user": "me", "password": "file:password" },
                "expect_status": ["2xx", 404], "expect": expect,
                "extract": { "who": "/got/who", "none": "/none" },
            }),
        )
    };
    let world = World::new(&[
        (
            "good",
            "http_call",
            params(json!([
                { "pointer": "/ok", "equals": true }, { "pointer": "/n", "min": 7, "max": 7 },
                { "pointer": "/got/of", "contains": "goo" }, { "pointer": "/error", "exists": false },
            ])),
        ),
        ("bad-thrice", "http_call", params(json!([{ "pointer": "/n", "max": 6 }, { "pointer": "/x", "equals": 1 }]))),
        ("typo", "http_call", call(&echoes, json!({ "body_template": "{{ run_idd }}" }))),
        (
            "endless",
            "http_call",
            call(
                &echoes,
                json!({
                    "body_template": "{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}",
                }),
            ),
        ),
    ]);
    std::fs::write(world.path().join("password"), "open: sesame").unwrap();
    let run = world.run("good").await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    assert_eq!(run.data["extracted"], json!({ "none": null, "who": "a \"b\"" }));
    let body: Value = serde_json::from_str(asked.lock().unwrap()[0].split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(body, json!({ "run": run.run_id, "of": "good", "try": 1, "who": "a \"b\"" }));
    assert_eq!(header(&asked.lock().unwrap()[0], "authorization").unwrap(), "Basic bWU6b3Blbjogc2VzYW1l");
    let run = world.run("bad-thrice").await;
    assert_eq!(run.error.unwrap(), "answered 201 Created, but /n is 7, more than 6; nothing is at /x");
    assert_eq!(run.attempt, 1, "the server has acted");
    assert!(world.run("typo").await.error.unwrap().contains("undefined value"));
    assert!(world.run("endless").await.error.unwrap().contains("out of fuel"));
}

#[tokio::test]
async fn proxies_are_asked_as_proxies_are_and_none_is_none() {
    let (proxy, asked) = answers("200 OK", "by proxy");
    let through = format!("http://{proxy}");
    let world = World::new(&[
        ("plain", "http_call", json!({ "url": "http://no-such-host.invalid/x", "network": { "proxy": through } })),
        (
            "secret",
            "http_call",
            json!({ "url": "http://no-such-host.invalid/x", "network": { "proxy": "file:proxy" } }),
        ),
        ("tunnel", "http_call", json!({ "url": "https://no-such-host.invalid/", "network": { "proxy": through } })),
        ("none", "http_call", call(&proxy, json!({ "network": { "proxy": "none" } }))),
    ]);
    std::fs::write(world.path().join("proxy"), format!("http://me:s3cret@{proxy}")).unwrap();
    assert_eq!(world.run("plain").await.data["body"], "by proxy");
    assert_eq!(world.run("secret").await.data["body"], "by proxy");
    assert_eq!(world.run("tunnel").await.state, RunState::Failed);
    assert_eq!(world.run("none").await.data["body"], "by proxy");
    let asked = asked.lock().unwrap();
    let first: Vec<_> = asked.iter().map(|request| request.lines().next().unwrap()).collect();
    let plain = "GET http://no-such-host.invalid/x HTTP/1.1";
    assert_eq!(first, [plain, plain, "CONNECT no-such-host.invalid:443 HTTP/1.1", "GET / HTTP/1.1"]);
    assert_eq!(header(&asked[1], "proxy-authorization").unwrap(), "Basic bWU6czNjcmV0");
    assert!(asked.iter().enumerate().all(|(n, request)| n == 1 || header(request, "proxy-authorization").is_none()));
}

/// A proxy that opens tunnels.
fn tunnels_to(target: String) -> String {
    let (proxy, _) = server(move |stream, _, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n");
        let mut inside = TcpStream::connect(target.replace("localhost", "127.0.0.1")).unwrap();
        let (mut back, mut from) = (stream.try_clone().unwrap(), inside.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut back));
        let _ = std::io::copy(stream, &mut inside);
    });
    proxy
}

#[tokio::test]
async fn tls_is_trusted_only_when_it_is_whole_and_known() {
    let (known, authority) = tls_server((2100, 1, 1));
    let (expired, old_authority) = tls_server((2021, 1, 1));
    let broken = babbler();
    let proxy = format!("http://{}", tunnels_to(known.clone()));
    let tls = |address: &str, network: Value| json!({ "url": format!("https://{address}/"), "network": network });
    let other_name = known.replace("localhost", "127.0.0.1");
    let world = World::new(&[
        ("known", "http_call", tls(&known, json!({ "ca_file": "ca.pem" }))),
        ("tunnelled", "http_call", tls(&known, json!({ "ca_file": "ca.pem", "proxy": proxy }))),
        ("stranger", "http_call", tls(&known, json!({}))),
        ("other-name", "http_call", tls(&other_name, json!({ "ca_file": "ca.pem" }))),
        ("expired", "http_call", tls(&expired, json!({ "ca_file": "old.pem" }))),
        ("broken", "http_call", tls(&broken, json!({}))),
        ("no-ca", "http_call", tls(&known, json!({ "ca_file": "gone.pem" }))),
    ]);
    std::fs::write(world.path().join("ca.pem"), authority).unwrap();
    std::fs::write(world.path().join("old.pem"), old_authority).unwrap();
    for name in ["known", "tunnelled"] {
        let run = world.run(name).await;
        assert_eq!(run.data["body"], "{\"safe\":true}", "{name}: {:?}", run.error);
    }
    for (name, expected) in [
        ("stranger", "invalid peer certificate: UnknownIssuer"),
        ("other-name", "certificate not valid for name"),
        ("expired", "certificate expired"),
        ("broken", "received corrupt message"),
        ("no-ca", "ca_file "),
    ] {
        let error = world.run(name).await.error.unwrap();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn parameters_that_cannot_work_are_refused_with_their_place() {
    let mut registry = Registry::new();
    register_all(&mut registry, &JobEnv { base_dir: ".".into(), data_dir: "data".into(), base_url: None });
    let check = |params: Value, expected: &str| {
        let mut all = json!({ "url": "http://x" });
        all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
        let error = registry.check("http_call", all.as_object().unwrap()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    check(json!({ "url": "http://[bad" }), "params.url: not a URL");
    check(json!({ "method": "ge t" }), "params.method: `ge t` is no HTTP method");
    check(json!({ "headers": { "a b": "1" } }), "params.headers: `a b` is not the name of a header");
    check(json!({ "headers": { "a": "1\n2" } }), "params.headers.a: the value has characters");
    check(json!({ "basic": { "user": "u", "password": "p" } }), "params.basic.password: write \"env:NAME\"");
    check(
        json!({ "bearer": "env:A", "basic": { "user": "u", "password": "env:P" } }),
        "params.basic: a request has one",
    );
    check(json!({ "body": "a", "body_template": "b" }), "params.body_template: a request has one body");
    check(json!({ "body_template": "{% if %}" }), "params.body_template: syntax error");
    check(json!({ "expect_status": ["often"] }), "params.expect_status[0]: write status codes as 204");
    check(
        json!({ "expect": [{ "pointer": "ok", "exists": true }] }),
        "params.expect[0].pointer: `ok` is no JSON Pointer",
    );
    check(json!({ "expect": [{ "pointer": "/ok" }] }), "params.expect[0]: say what is expected");
    check(json!({ "extract": { "a": "b" } }), "params.extract.a: `b` is no JSON Pointer");
    check(json!({ "timeout": "0s" }), "params.timeout: must be longer than nothing");
    check(json!({ "network": { "redirects": 99 } }), "params.network.redirects: at most 20");
    check(json!({ "network": { "max_answer": "1 GiB" } }), "params.network.max_answer: must be from 1 byte to 64 MiB");
    check(json!({ "network": { "max_answer": "lots" } }), "params.network.max_answer: `lots` is not a size");
    check(json!({ "network": { "proxy": "socks9" } }), "params.network.proxy: write \"none\"");
    check(json!({ "network": { "proxy": "http://u:p@h:1" } }), "params.network.proxy: with a password write it as");
    check(
        json!({ "network": { "proxy": "http://h:1", "deny_private": true } }),
        "params.network.proxy: a proxy resolves",
    );
}
