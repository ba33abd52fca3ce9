//! What a brief takes from sources, against servers, files, databases and programs that are as they should be, and not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

#[expect(dead_code, reason = "this test needs no TLS")]
mod world;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sched_core::{MemoryStore, Registry, RunRecord, RunState};
use sched_jobs::{JobEnv, register_all};
use serde_json::{Value, json};

use self::world::{World, answers, header, say, server};

/// No test: where this executable, run again, becomes the shim of a program.
#[test]
fn shim() {
    sched_core::process::init_within(&["--exact", "shim", "--nocapture"]);
}

/// A brief of these sources, in a folder with these files.
async fn brief_of(files: &[(&str, &str)], sources: Value) -> (World, RunRecord) {
    shim();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let world = World::in_folder(folder, MemoryStore::new(), &[("brief", "ceo_brief", json!({ "sources": sources }))]);
    let run = world.run("brief").await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    (world, run)
}

/// The rows that the document has of a source.
fn rows(run: &RunRecord, source: usize) -> Value {
    let text = std::fs::read_to_string(run.data["json_path"].as_str().unwrap()).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["sources"][source]["table"]["rows"].clone()
}

/// The error of each source; empty where it gave something.
fn errors(run: &RunRecord) -> Vec<String> {
    let sources = run.data["sources"].as_array().unwrap();
    sources.iter().map(|source| source["error"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Name and value of each figure of a source.
fn figures(run: &RunRecord, source: usize) -> Vec<(String, Value)> {
    let figures = run.data["sources"][source]["figures"].as_array().unwrap();
    figures.iter().map(|figure| (figure["name"].as_str().unwrap().to_owned(), figure["value"].clone())).collect()
}

fn named(pairs: &[(&str, Value)]) -> Vec<(String, Value)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

#[tokio::test]
async fn servers_that_hang_drip_lie_flood_or_redirect_fail_alone_and_the_others_are_read() {
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let (hangs, _) = server(|stream, _, _| drop(std::io::Read::read(stream, &mut [0])));
    let (drips, _) = server(|stream, _, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n");
        while stream.write_all(b" ").is_ok() {
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
    });
    let (lies, _) = server(|stream, _, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}");
    });
    let (floods, _) = server(move |stream, _, _| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 10_u64 << 30);
        let piece = vec![b' '; 64 * 1024];
        while stream.write_all(&piece).is_ok() {
            count.fetch_add(piece.len() as u64, Ordering::SeqCst);
        }
    });
    let (circles, asked) = server(|stream, _, _| say(stream, "302 Go\r\nlocation: /", ""));
    let (missing, _) = answers("404 Not Found", "{\"a\":1}");
    let (well, _) = answers("200 OK", "{\"visits\": 12}");
    let source = |name: &str, address: &str| json!({ "name": name, "url": format!("http://{address}/"), "timeout": "2s", "retries": 0 });
    let mut sources: Vec<Value> = [
        ("hangs", &hangs),
        ("drips", &drips),
        ("lies", &lies),
        ("floods", &floods),
        ("circles", &circles),
        ("missing", &missing),
        ("well", &well),
    ]
    .map(|(name, address)| source(name, address))
    .into();
    sources[0]["timeout"] = json!("200ms");
    sources[1]["timeout"] = json!("300ms");
    let (world, run) = brief_of(&[], json!(sources)).await;
    let errors = errors(&run);
    for (error, expected) in errors.iter().zip([
        "no answer within 0.2s",
        "no answer within 0.3s",
        "end of file before message length reached",
        "more than 1048576 bytes",
        "it redirects more than 5 times",
        "answered 404 Not Found",
        "",
    ]) {
        assert!(error.contains(expected) && error.is_empty() == expected.is_empty(), "{error} instead of {expected}");
    }
    assert_eq!(figures(&run, 6), named(&[("visits", json!(12.0))]));
    assert!(sent.load(Ordering::SeqCst) < 64 << 20, "of ten gigabytes no more is taken than the limit");
    assert_eq!(asked.lock().unwrap().len(), 6);
    let html = std::fs::read_to_string(run.data["html_path"].as_str().unwrap()).unwrap();
    assert!(html.contains("no answer within 0.2s"), "a source that fails is shown as failed with its reason");
    drop(world);
}

#[tokio::test]
async fn what_is_only_read_is_asked_for_again_and_what_may_change_something_is_not() {
    let second_time = |stream: &mut std::net::TcpStream, _: &str, before: usize| match before {
        0 => say(stream, "503 Busy", ""),
        _ => say(stream, "200 OK", "7"),
    };
    let (read, asked_read) = server(second_time);
    let (posted, asked_posted) = server(second_time);
    let (_world, run) = brief_of(
        &[("token", "s3cret\n")],
        json!([
            { "name": "read", "url": format!("http://{read}/"), "bearer": "file:token" },
            { "name": "posted", "url": format!("http://{posted}/"), "method": "POST", "body": { "q": 1 },
              "headers": { "X-Key": "file:token" } },
        ]),
    )
    .await;
    assert_eq!(errors(&run), ["", "answered 503 Service Unavailable"]);
    assert_eq!(figures(&run, 0), named(&[("read", json!(7.0))]));
    assert_eq!((asked_read.lock().unwrap().len(), asked_posted.lock().unwrap().len()), (2, 1));
    assert_eq!(header(&asked_read.lock().unwrap()[1], "authorization").unwrap(), "Bearer s3cret");
    assert_eq!(header(&asked_posted.lock().unwrap()[0], "x-key").unwrap(), "s3cret");
    assert!(!serde_json::to_string(&run).unwrap().contains("s3cret"), "a secret is in no record");
}

#[tokio::test]
async fn a_server_that_says_when_to_come_back_is_asked_then_unless_that_is_too_late() {
    let first = |status: &'static str| {
        server(move |stream, _, before| match before {
            0 => say(stream, status, ""),
            _ => say(stream, "200 OK", "7"),
        })
    };
    let (limited, asked_limited) = first("429 Slow Down\r\nretry-after: 1");
    let (busy, asked_busy) = first("503 Busy\r\nretry-after: Sun, 06 Nov 1994 08:49:37 GMT");
    let (late, asked_late) = first("503 Busy\r\nretry-after: 3600");
    let (posted, asked_posted) = first("429 Slow Down\r\nretry-after: 0");
    let (gone, asked_gone) = first("410 Gone\r\nretry-after: 0");
    let source = |name: &str, address: &str| json!({ "name": name, "url": format!("http://{address}/") });
    let mut post = source("posted", &posted);
    post["method"] = json!("POST");
    let all = [source("limited", &limited), source("busy", &busy), source("late", &late), post, source("gone", &gone)];
    let (_world, run) = brief_of(&[], json!(all)).await;
    let expected = [
        "",
        "",
        "answered 503 Service Unavailable, and asks for 3600s until it is asked again",
        "answered 429 Too Many Requests",
        "answered 410 Gone",
    ];
    assert_eq!(errors(&run), expected);
    let times =
        [asked_limited, asked_busy, asked_late, asked_posted, asked_gone].map(|asked| asked.lock().unwrap().len());
    assert_eq!(times, [2, 2, 1, 1, 1]);
}

#[tokio::test]
async fn a_document_made_to_take_memory_takes_none() {
    let fields: Vec<String> = (0..70_000).map(|n| format!("\"{n}\":1")).collect();
    let long = format!("{{\"{}\":{{{}}}}}", "k".repeat(250_000), fields.join(","));
    let deep = format!("{}1{}", "[".repeat(200_000), "]".repeat(200_000));
    let (_world, run) = brief_of(
        &[("long.json", &long), ("deep.json", &deep)],
        json!([{ "name": "long", "file": "long.json" }, { "name": "deep", "file": "deep.json" }]),
    )
    .await;
    let figures = figures(&run, 0);
    assert_eq!(figures.len(), 50);
    assert!(figures.iter().all(|(name, _)| name.len() < 200), "{:?}", figures[0]);
    assert!(errors(&run)[1].contains("not JSON: recursion limit exceeded"), "{:?}", errors(&run));
}

#[tokio::test]
async fn files_are_read_by_their_ending_and_broken_ones_say_where() {
    let elsewhere = tempfile::tempdir().unwrap();
    let pipe = elsewhere.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    let (_world, run) = brief_of(
        &[
            ("shop.json", "{\"orders\": {\"open\": 3, \"value\": \"12.5\"}}"),
            ("days.csv", "day,orders\nmon,3\ntue,4\n"),
            ("load.txt", "0.75\n"),
            ("broken.json", "{\"a\": 1"),
            ("broken.csv", "a,b\n1,2,3\n"),
        ],
        json!([
            { "name": "shop", "file": "shop.json", "metrics": {
                "open": "/orders/open",
                "value": { "at": "/orders/value", "unit": "€", "label": "Order value" },
                "gone": "/orders/returned" } },
            { "name": "days", "file": "days.csv" },
            { "name": "tuesday", "file": "days.csv", "pointer": "/1", "metrics": { "orders": "/orders" } },
            { "name": "load", "file": "load.txt" },
            { "name": "broken-json", "file": "broken.json" },
            { "name": "broken-csv", "file": "broken.csv" },
            { "name": "absent", "file": "absent.json" },
            { "name": "endless", "file": "/dev/zero" },
            { "name": "pipe", "file": pipe },
            { "name": "secret", "url": "http://127.0.0.1:9/", "bearer": format!("file:{}", pipe.display()) },
        ]),
    )
    .await;
    let told = errors(&run);
    assert_eq!(told[..4], ["", "", "", ""]);
    for (error, expected) in told[4..].iter().zip([
        "not JSON: EOF",
        "line: 2",
        "absent.json: No such file",
        "/dev/zero: not a file",
        "pipe: not a file",
        "bearer: ",
    ]) {
        assert!(error.contains(expected), "{error}");
    }
    let shop = [("gone", Value::Null), ("open", json!(3.0)), ("value", json!(12.5))];
    assert_eq!(figures(&run, 0), named(&shop));
    assert_eq!(run.data["sources"][0]["figures"][0]["missing"], "nothing is at /orders/returned");
    assert_eq!(rows(&run, 1), json!([["mon", 3], ["tue", 4]]));
    assert_eq!(figures(&run, 2), named(&[("orders", json!(4.0))]));
    assert_eq!(figures(&run, 3), named(&[("load", json!(0.75))]));
}

#[tokio::test]
async fn a_database_is_only_read_and_a_question_without_end_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database
        .execute_batch(
            "CREATE TABLE o (day TEXT, n INTEGER); INSERT INTO o VALUES ('mon', 3), ('tue', 4);
             CREATE TABLE large (n INTEGER, photo BLOB); INSERT INTO large VALUES (8, zeroblob(5000000))",
        )
        .unwrap();
    let ask =
        |name: &str, query: &str| json!({ "name": name, "sql": { "file": path, "query": query }, "timeout": "5s" });
    let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)";
    let mut stopped = ask("stopped", &format!("{endless} SELECT count(*) AS n FROM n"));
    stopped["timeout"] = json!("200ms");
    let (_world, run) = brief_of(
        &[],
        json!([
            ask("sum", "SELECT sum(n) AS orders, 'x' AS note FROM o"),
            ask("days", "SELECT day, n FROM o ORDER BY day DESC"),
            ask("writes", "WITH a AS (SELECT 1) DELETE FROM o"),
            ask("two", "SELECT 1; DELETE FROM o"),
            ask("rows", &format!("{endless} SELECT x FROM n")),
            ask("bytes", "SELECT hex(zeroblob(2000000)) AS big"),
            ask("blob", "SELECT zeroblob(2000000000) AS big"),
            ask("within", "SELECT length(randomblob(900000000)) AS n"),
            ask("joined", &format!("{endless} SELECT length(group_concat(x)) AS n FROM (SELECT x FROM n LIMIT 1000000)")),
            ask("repeated", "WITH RECURSIVE t(s) AS (SELECT 'x' UNION ALL SELECT s || s FROM t) SELECT length(s) AS n FROM t"),
            ask("beside", "SELECT sum(n) AS n FROM large"),
            stopped,
            { "name": "absent", "sql": { "file": "absent.db", "query": "SELECT 1" } },
        ]),
    )
    .await;
    let expected = [
        "",
        "",
        "only a SELECT is asked",
        "more than one statement",
        "more than 10000 rows: add a LIMIT",
        "more than 1048576 bytes: select less",
        "more than 1048576 bytes: select less",
        "more than 1048576 bytes: select less",
        "more than 1048576 bytes: select less",
        "more than 1048576 bytes: select less",
        "",
        "no answer within 0.2s",
        "unable to open database file",
    ];
    for (error, expected) in errors(&run).iter().zip(expected) {
        assert!(error.contains(expected) && error.is_empty() == expected.is_empty(), "{error} instead of {expected}");
    }
    assert_eq!(figures(&run, 0), named(&[("orders", json!(7.0))]));
    assert_eq!(rows(&run, 1), json!([["tue", 4], ["mon", 3]]));
    assert_eq!(figures(&run, 10), named(&[("n", json!(8.0))]), "what is large and not asked for is in nobody's way");
    let left: i64 = database.query_row("SELECT count(*) FROM o", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 2, "nothing was written");
}

#[tokio::test]
async fn a_program_gives_figures_and_one_that_floods_fails_or_hangs_is_ended() {
    let sh = |name: &str, line: &str| json!({ "name": name, "command": { "argv": [line], "shell": true }, "timeout": "10s" });
    let mut text = sh("text", "echo open = 3; echo warning >&2");
    text["format"] = json!("text");
    let mut hangs = sh("hangs", "echo $$ > pid; exec sleep 1000");
    hangs["timeout"] = json!("1s");
    let (world, run) = brief_of(
        &[],
        json!([
            sh("json", "echo '{\"open\": 3}'"),
            text,
            sh("floods", "trap '' PIPE; while :; do echo 0123456789012345678901234567890123456789; done"),
            sh("fails", "echo 1; echo 'no such table' >&2; exit 3"),
            hangs,
        ]),
    )
    .await;
    let expected =
        ["", "", "printed more than 1048576 bytes", "exited with code 3: no such table", "no answer within 1s"];
    assert_eq!(errors(&run), expected);
    assert_eq!(figures(&run, 0), named(&[("open", json!(3.0))]));
    assert_eq!(figures(&run, 1), named(&[("open", json!(3.0))]));
    let pid = std::fs::read_to_string(world.path().join("pid")).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    assert!(!stat.is_ok_and(|stat| !stat.contains(") Z ")), "what a source started is gone");
}

#[tokio::test]
async fn the_schedulers_own_runs_are_a_source() {
    shim();
    let sources = json!([
        { "name": "all", "history": {} },
        { "name": "one", "history": { "schedule": "bad" }, "metrics": { "failed": "/failed", "p95": "/p95" } },
        { "name": "table", "history": { "by_schedule": true } },
    ]);
    let world = World::new(&[
        ("brief", "ceo_brief", json!({ "sources": sources })),
        ("good", "command", json!({ "argv": ["true"] })),
        ("bad", "command", json!({ "argv": ["false"] })),
    ]);
    for name in ["good", "good", "bad"] {
        world.run(name).await;
    }
    let run = world.run("brief").await;
    let all = figures(&run, 0);
    assert_eq!(all[..2], named(&[("succeeded", json!(2.0)), ("failed", json!(1.0))]));
    assert_eq!(all[5], ("success_rate".to_owned(), json!(66.67)));
    let one = figures(&run, 1);
    assert!(one[0].1 == 1.0 && one[1].1.is_number(), "{one:?}");
    let table = rows(&run, 2);
    assert_eq!((&table[0][0], &table[1][1]), (&json!("bad"), &json!(2)));
    assert_eq!(run.data["sources"][2]["rows"], 2, "the record keeps no table");
}

#[test]
fn sources_that_cannot_work_are_refused_at_their_place() {
    let mut registry = Registry::new();
    register_all(&mut registry, &JobEnv { base_dir: ".".into(), data_dir: "data".into(), base_url: None });
    let check = |source: Value, expected: &str| {
        let mut source = source;
        if source.get("name").is_none() {
            source["name"] = json!("x");
        }
        let params = json!({ "sources": [source] });
        for kind in ["ceo_brief", "report"] {
            let error = registry.check(kind, params.as_object().unwrap()).unwrap_err().to_string();
            assert!(error.contains(expected), "{kind}: {error}");
        }
    };
    check(json!({}), "params.sources[0]: `x` needs exactly one of");
    check(json!({ "file": "a", "url": "http://x" }), "exactly one of");
    check(json!({ "file": "a", "name": "runs" }), "params.sources[0].name: is taken");
    check(json!({ "file": "a", "name": "" }), "params.sources[0].name: needs 1 to 100");
    check(json!({ "file": "a", "bearer": "env:T" }), "params.sources[0].bearer: is for a source with `url`");
    check(json!({ "url": "http://x", "bearer": "s3cret" }), "not the token itself");
    check(json!({ "url": "http://x", "method": "POST", "retries": 1 }), "params.sources[0].retries: only GET and HEAD");
    check(json!({ "url": "http://x", "pointer": "a" }), "params.sources[0].pointer: `a` is no JSON Pointer");
    check(json!({ "url": "http://x", "metrics": { "n": "a" } }), "params.sources[0].metrics.n: `a` is no JSON");
    check(json!({ "url": "http://x", "metrics": { "n": 1 } }), "write a JSON Pointer such as");
    check(
        json!({ "sql": { "file": "a", "query": "DELETE FROM o" } }),
        "params.sources[0].sql.query: must be one SELECT",
    );
    check(json!({ "command": { "argv": [] } }), "params.sources[0].command.argv: needs at least the program");
    check(json!({ "file": "a", "timeout": "0s" }), "params.sources[0].timeout: must be longer than nothing");
    check(json!({ "history": {}, "format": "csv" }), "params.sources[0].format: is for");
    check(json!({ "file": "a", "colums": [] }), "unknown field `colums`");
}
