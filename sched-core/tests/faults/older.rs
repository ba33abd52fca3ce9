//! A store as an older program would have left it; the crash campaign of sched-cli uses it too.

use std::path::Path;

use rusqlite::Connection;

const SCHEMA_1: &str = include_str!("../../src/store/sqlite/schema/001.sql");

/// Makes the store what the first version of the program would have left: its schema, with the same rows.
pub(crate) fn take_back_to_schema_1(path: &Path) {
    let old = path.with_extension("old");
    drop(std::fs::remove_file(&old));
    let conn = Connection::open(&old).unwrap();
    conn.pragma_update(None, "journal_mode", "WAL").unwrap();
    conn.execute_batch(SCHEMA_1).unwrap();
    conn.execute("ATTACH ?1 AS now", [path.to_str().unwrap()]).unwrap();
    let names = |sql: &str| -> Vec<String> {
        let mut statement = conn.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let tables = names("SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'");
    for table in tables {
        let columns = names(&format!("SELECT name FROM pragma_table_info('{table}', 'main')")).join("\", \"");
        let copy = format!("INSERT INTO main.{table} (\"{columns}\") SELECT \"{columns}\" FROM now.{table}");
        conn.execute(&copy, []).unwrap();
    }
    conn.execute_batch("PRAGMA main.application_id = 0x53434844; PRAGMA main.user_version = 1; DETACH now").unwrap();
    drop(conn);
    for log in ["-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(log);
        drop(std::fs::remove_file(name));
    }
    std::fs::rename(&old, path).unwrap();
}
