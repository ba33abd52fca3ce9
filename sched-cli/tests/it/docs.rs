//! What the documents say of tests is so.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::world::World;

/// The names of all tests in the sources below a folder.
fn tests_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target" && name != ".git") {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for part in text.split("test]\n").chain(text.split("test(")).skip(1) {
                let name = part.split_once("fn ").and_then(|(_, rest)| rest.split_once('('));
                found.extend(name.map(|(name, _)| name.to_owned()));
            }
        }
    }
}

/// Words in backticks that are long enough to be the name of a test.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter(|word| {
        word.len() > 20 && word.contains('_') && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

#[test]
fn every_sentence_names_a_test_that_there_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut tests = BTreeSet::new();
    tests_below(root, &mut tests);
    for document in ["guarantees.md", "field.md"] {
        let text = std::fs::read_to_string(root.join("docs").join(document)).unwrap();
        let missing: Vec<_> = names(&text).filter(|name| !tests.contains(*name)).collect();
        assert!(missing.is_empty(), "{document} names tests that are not there: {missing:#?}");
        let rows = text.lines().filter(|line| line.starts_with('|') && !line.starts_with("|--"));
        for row in rows.filter(|row| !row.contains("| test |")) {
            assert!(names(row).next().is_some(), "{document}: no test stands in {row}");
        }
        let (_, points) = text.split_once("\n- ").unwrap_or_default();
        for point in points.split("\n- ").filter(|point| !point.is_empty()) {
            assert!(names(point).next().is_some(), "{document}: no test stands beside: {point}");
        }
    }
}

/// The first cells of a document's tables, each word in backticks in them.
fn keys_of_tables(text: &str) -> BTreeSet<&str> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    rows.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

/// Keys of a kind's parameters that no table of its page has.
fn untold(text: &str, kind: &str) -> Vec<String> {
    let mut registry = sched_core::Registry::new();
    let env = sched_jobs::JobEnv { base_dir: ".".into(), data_dir: "data".into(), base_url: None };
    sched_jobs::register_all(&mut registry, &env);
    let keys = registry.kind(kind).unwrap().schema()["properties"].as_object().unwrap().keys().cloned();
    let told = keys_of_tables(text);
    keys.filter(|key| !told.contains(key.as_str())).collect()
}

/// The blocks of a document in this language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("\n```{language}\n");
    text.split(&begin).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
}

#[test]
fn the_configuration_on_the_page_of_retention_works_as_pasted() {
    let blocks = blocks(include_str!("../../../docs/kinds/retention.md"), "toml");
    assert_eq!(blocks.len(), 1);
    let world = World::with(blocks[0]);
    world.ok(&["check"]);
    for name in ["a", "b", "c", "d", "e"] {
        std::fs::create_dir_all(world.path("backups/db")).unwrap();
        std::fs::write(world.path(&format!("backups/db/{name}.dump")), name).unwrap();
    }
    world.ok(&["start"]);
    let run = world.ok(&["trigger", "tidy", "--wait", "--json"]).json();
    assert_eq!(run["data"]["removed_count"], 2, "{run}");
    assert_eq!(std::fs::read_dir(world.path("old-backups/db")).unwrap().count(), 2);
}

#[test]
fn the_configurations_on_the_page_of_command_work_as_pasted() {
    let text = include_str!("../../../docs/kinds/command.md");
    let blocks = blocks(text, "toml");
    assert_eq!(blocks.len(), 2);
    let world = World::with(&blocks.join("\n\n"));
    world.ok(&["check"]);
    world.ok(&["start"]);
    let backup = world.ok(&["trigger", "backup", "--wait", "--json"]).json();
    assert_eq!((&backup["state"], &backup["data"]["result"]["files"]), (&"succeeded".into(), &12.into()), "{backup}");
    for name in ["tidy", "report"] {
        let run = world.ok(&["trigger", name, "--wait", "--json"]).json();
        assert_eq!(run["state"], "succeeded", "{run}");
    }
    for key in
        ["argv", "shell", "cwd", "env", "secrets", "inherit", "stdin", "stdin_file", "success_codes", "retry_codes"]
    {
        assert!(text.contains(&format!("`{key}`")), "{key} is not on the page");
    }
}

#[test]
fn the_configuration_on_the_page_of_the_brief_works_as_pasted() {
    let text = include_str!("../../../docs/kinds/ceo_brief.md");
    let blocks = blocks(text, "toml");
    assert_eq!(blocks.len(), 1);
    let world = World::with(blocks[0]);
    world.ok(&["check"]);
    std::fs::write(world.path("shop.json"), "{\"orders\": {\"open\": 12}, \"revenue\": 700}").unwrap();
    let crm = rusqlite::Connection::open(world.path("crm.db")).unwrap();
    crm.execute_batch("CREATE TABLE lead (closed TEXT); INSERT INTO lead VALUES (NULL), ('yes')").unwrap();
    world.ok(&["start"]);
    let run = world.ok(&["trigger", "brief", "--wait", "--json"]).json();
    assert_eq!(run["state"], "succeeded", "{run}");
    let (figures, sources) = (&run["data"]["figures"], run["data"]["sources"].as_array().unwrap());
    let told = [&figures["shop.orders"], &figures["shop.revenue"], &figures["crm.leads"]];
    assert_eq!(told.map(serde_json::Value::as_f64), [Some(12.0), Some(700.0), Some(1.0)], "{run}");
    assert!(figures["disk.used"].is_number(), "{run}");
    assert_eq!(sources.iter().filter(|source| source["ok"] == false).count(), 1, "nobody answers for the last one");
    let document: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(run["data"]["json_path"].as_str().unwrap()).unwrap()).unwrap();
    assert_eq!((&document["figures"][0]["figure"], &document["level"]), (&"shop.revenue".into(), &"warn".into()));
    for key in document.as_object().unwrap().keys().chain(document["figures"][0].as_object().unwrap().keys()) {
        assert!(key == "schema" || text.contains(&format!("`{key}`")), "{key} is not on the page");
    }
}

#[test]
fn the_configurations_on_the_page_of_the_report_work_as_pasted() {
    let text = include_str!("../../../docs/kinds/report.md");
    let blocks = blocks(text, "toml");
    assert_eq!(blocks.len(), 2);
    let world = World::with(&blocks.join("\n\n"));
    world.ok(&["check"]);
    std::fs::write(world.path("weeks.csv"), "week,this_year,last_year\nW1,3,2\nW2,5,4\n").unwrap();
    world.ok(&["start"]);
    let run = world.ok(&["trigger", "monthly", "--wait", "--json"]).json();
    assert_eq!((&run["state"], &run["data"]["version"]), (&"succeeded".into(), &1.into()), "{run}");
    let read =
        |run: &serde_json::Value, key: &str| std::fs::read_to_string(run["data"][key].as_str().unwrap()).unwrap();
    assert!(read(&run, "html_path").contains("This year: from 3 to 5, last 5"));
    let document: serde_json::Value = serde_json::from_str(&read(&run, "json_path")).unwrap();
    for key in document.as_object().unwrap().keys() {
        assert!(key == "schema" || text.contains(&format!("`{key}`")), "{key} is not on the page");
    }
    assert_eq!(run["artifacts"].as_array().unwrap().len(), 4);
    let run = world.ok(&["trigger", "short", "--wait", "--json"]).json();
    assert!(read(&run, "text_path").contains("Nothing ran in this period"), "{run}");
}

#[test]
fn the_configuration_on_the_page_of_channels_works_as_pasted() {
    let text = include_str!("../../../docs/notify.md");
    let blocks = blocks(text, "toml");
    assert_eq!(blocks.len(), 1);
    let world = World::with(blocks[0]);
    world.ok(&["check"]);
    for kind in sched_core::NoticeKind::ALL.iter().map(|kind| kind.word()) {
        assert!(["test", "letter"].contains(&kind) || text.contains(&format!("`{kind}`")), "{kind} is not on the page");
    }
}

/// A shop on loopback: its health, an answer to a POST, and a page. Gives its URL and what was asked.
fn shop() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, asked) = (format!("http://{}", listener.local_addr().unwrap()), Arc::<Mutex<Vec<String>>>::default());
    let log = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
                let mut piece = [0; 4096];
                match stream.read(&mut piece) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => request.extend_from_slice(&piece[..count]),
                }
            }
            log.lock().unwrap().push(String::from_utf8(request).unwrap());
            let body = "{\"ok\": true, \"orders\": 12}";
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    (url, asked)
}

/// Starts the scheduler with variables in its environment.
fn start_with(world: &World, variables: &[(&str, &str)]) {
    let started = world.command(&["start"]).envs(variables.iter().copied()).output().unwrap();
    assert!(started.status.success(), "{started:?}");
}

#[test]
fn the_configuration_on_the_page_of_http_call_works_as_pasted() {
    let text = include_str!("../../../docs/kinds/http_call.md");
    let blocks = blocks(text, "toml");
    assert_eq!(blocks.len(), 1);
    let world = World::with(blocks[0]);
    world.ok(&["check"]);
    let (url, asked) = shop();
    start_with(&world, &[("BASE_URL", &url), ("SHOP_TOKEN", "s3cret")]);
    let run = world.ok(&["trigger", "close-day", "--wait", "--json"]).json();
    assert_eq!(run["data"]["extracted"]["orders"], 12, "{run}");
    assert!(!run.to_string().contains("s3cret"));
    assert!(asked.lock().unwrap()[0].contains("authorization: Bearer s3cret"));
    let run = world.ok(&["trigger", "front-page", "--wait", "--json"]).json();
    assert_eq!(run["state"], "succeeded", "{run}");
    assert_eq!(untold(text, "http_call"), Vec::<String>::new());
}

#[test]
fn proxies_of_the_environment_are_asked_unless_the_params_say_otherwise() {
    let (proxy, asked) = shop();
    let (direct, asked_directly) = shop();
    let spared = direct.replace("127.0.0.1", "localhost");
    let world = World::new();
    for (url, network) in [
        ("http://shop.invalid", "{}"),
        (direct.as_str(), r#"{"proxy": "none"}"#),
        (direct.as_str(), r#"{"deny_private": true, "allow_hosts": ["127.0.0.1"]}"#),
        (spared.as_str(), "{}"),
    ] {
        let params = [format!("url=\"{url}/x\""), format!("network={network}")];
        let mut command = world.command(&["exec", "http_call", "--param", &params[0], "--param", &params[1]]);
        let ended = command.env("HTTP_PROXY", &proxy).env("NO_PROXY", "localhost").output().unwrap();
        assert!(ended.status.success(), "{params:?}: {ended:?}");
    }
    let asked = asked.lock().unwrap();
    assert_eq!((asked.len(), asked[0].lines().next().unwrap()), (1, "GET http://shop.invalid/x HTTP/1.1"));
    assert_eq!(asked_directly.lock().unwrap().len(), 3);
}

#[test]
fn the_configuration_on_the_page_of_self_heal_works_as_pasted() {
    let text = include_str!("../../../docs/kinds/self_heal.md");
    let blocks = blocks(text, "toml");
    assert_eq!(blocks.len(), 1);
    let world = World::with(blocks[0]);
    world.ok(&["check"]);
    let (url, asked) = shop();
    start_with(&world, &[("BASE_URL", &url)]);
    let run = world.ok(&["trigger", "selfheal", "--wait", "--json"]).json();
    assert_eq!((&run["state"], &run["data"]["found"]), (&"succeeded".into(), &serde_json::json!([])), "{run}");
    assert!(asked.lock().unwrap()[0].starts_with("GET /health"));
    assert_eq!(untold(text, "self_heal"), Vec::<String>::new());
}
