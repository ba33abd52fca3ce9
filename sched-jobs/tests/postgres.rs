//! A brief's questions to a real PostgreSQL server.

#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

#[expect(dead_code, reason = "this test needs no servers of its own")]
mod world;

use std::io::Write as _;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use sched_core::{MemoryStore, RunState};
use serde_json::json;

use self::world::World;

/// The newest installed PostgreSQL's programs.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let folders = versions.map(|version| version.path().join("bin"));
    folders.filter(|bin| bin.join("initdb").exists() && bin.join("postgres").exists()).max()
}

/// A server in a folder of its own, reached by a socket in it.
struct Server {
    folder: tempfile::TempDir,
    child: Child,
}

impl Server {
    /// None where PostgreSQL is not installed. It refuses to run as root, so it runs as whoever owns that name.
    fn start() -> Option<Self> {
        let bin = programs()?;
        let folder = tempfile::tempdir().unwrap();
        let user = if rustix::process::geteuid().is_root() { Some(postgres()?) } else { None };
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let command = |name: &str| {
            let mut command = Command::new(bin.join(name));
            if let Some((uid, gid)) = user {
                command.gid(gid).uid(uid);
            }
            command.current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let data = folder.path().join("data");
        let made = command("initdb").args(["-U", "postgres", "-A", "trust", "-N", "-D"]).arg(&data).status();
        assert!(made.unwrap().success(), "initdb failed");
        let mut server = command("postgres");
        server.args(["-c", "listen_addresses=", "-c", "fsync=off", "-D"]).arg(&data).arg("-k").arg(folder.path());
        let child = server.spawn().unwrap();
        Some(Self { folder, child })
    }

    fn socket(&self) -> &Path {
        self.folder.path()
    }

    /// Asks until the server answers.
    async fn ready(&self) -> tokio_postgres::Client {
        let config = format!("host={} user=postgres dbname=postgres", self.socket().display());
        loop {
            if let Ok((client, connection)) = tokio_postgres::connect(&config, tokio_postgres::NoTls).await {
                tokio::spawn(connection);
                return client;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends with the test in any case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn postgres() -> Option<(u32, u32)> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.starts_with("postgres:"))?.to_owned();
    let number = |field: usize| line.split(':').nth(field)?.parse().ok();
    Some((number(2)?, number(3)?))
}

#[tokio::test]
async fn postgresql_is_only_read_and_a_question_without_end_is_stopped_there_too() {
    let Some(server) = Server::start() else {
        // Past the harness, which keeps what passing tests print.
        let _ = writeln!(std::io::stderr(), "skipped: no PostgreSQL here; ./test installs it on Debian");
        return;
    };
    let client = server.ready().await;
    client
        .batch_execute(
            "CREATE TABLE orders (id int, region text, total numeric);
             INSERT INTO orders VALUES (1, 'north', 12.5), (2, 'south', 30);
             CREATE FUNCTION drain() RETURNS int LANGUAGE sql AS 'DELETE FROM orders RETURNING 1'",
        )
        .await
        .unwrap();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let socket = server.socket().to_str().unwrap().replace('/', "%2F");
    let url = |host: &str| format!("postgres://postgres:s3cret@{host}/postgres");
    std::fs::write(folder.path().join("url"), url(&socket)).unwrap();
    std::fs::write(folder.path().join("gone"), url("127.0.0.1:1")).unwrap();
    std::fs::write(folder.path().join("odd"), "s3cret").unwrap();
    let ask = |name: &str, query: &str| json!({ "name": name, "sql": { "postgres": "file:url", "query": query } });
    let mut endless = ask("endless", "SELECT pg_sleep(1000)");
    endless["timeout"] = json!("500ms");
    let sources = json!([
        ask("sum", "SELECT count(*) AS orders, sum(total) AS total FROM orders -- of all"),
        ask("table", "SELECT region, total FROM orders ORDER BY id;"),
        ask("writes", "SELECT drain()"),
        ask("two", "SELECT 1) AS asked; DELETE FROM orders; --"),
        ask("wrong", "SELECT nothing FROM orders"),
        ask("many", "SELECT generate_series(1, 10001)"),
        endless,
        { "name": "gone", "sql": { "postgres": "file:gone", "query": "SELECT 1" }, "timeout": "2s" },
        { "name": "odd", "sql": { "postgres": "file:odd", "query": "SELECT 1" } },
        ask("value", "SELECT repeat('x', 200000000) AS big"),
        ask("together", "SELECT repeat('x', 100000) AS big FROM generate_series(1, 10000)"),
    ]);
    let world = World::in_folder(folder, MemoryStore::new(), &[("brief", "ceo_brief", json!({ "sources": sources }))]);
    let run = world.run("brief").await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    let said = run.data["sources"].as_array().unwrap();
    let figures: Vec<_> =
        said[0]["figures"].as_array().unwrap().iter().map(|f| (f["name"].clone(), f["value"].clone())).collect();
    assert_eq!(figures, [(json!("orders"), json!(2.0)), (json!("total"), json!(42.5))], "{}", run.data);
    assert_eq!(said[1]["error"], json!(null), "{}", said[1]);
    for (index, expected) in [
        (2, "cannot execute DELETE in a read-only transaction"),
        (3, "syntax error"),
        (4, "column \"nothing\" does not exist"),
        (5, "more than 10000 rows"),
        (6, "no answer within 0.5s"),
        (7, "refused"),
        (8, "not the URL of a PostgreSQL database"),
        (9, "more than 1048576 bytes: select less"),
        (10, "more than 1048576 bytes: select less"),
    ] {
        let error = said[index]["error"].as_str().unwrap_or_default();
        assert!(error.contains(expected), "{index}: {}", said[index]);
    }
    assert!(!run.data.to_string().contains("s3cret"));
    let left: i64 = client.query_one("SELECT count(*) FROM orders", &[]).await.unwrap().get(0);
    assert_eq!(left, 2);
    // The server has ended the question that nobody waits for.
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()";
    while client.query_one(sleeping, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        tokio::task::yield_now().await;
    }
}
