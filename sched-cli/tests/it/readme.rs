//! What README.md shows, works as it stands there.

use std::net::TcpListener;
use std::process::Command;

use crate::world::World;

/// The shell blocks below a heading, up to the next heading of its level.
fn blocks_below(heading: &str) -> Vec<String> {
    let readme = include_str!("../../../README.md");
    let (_, part) = readme.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no heading {heading}"));
    let part = part.split("\n## ").next().unwrap();
    let blocks = part.split("\n```sh\n").skip(1);
    blocks.map(|block| block.split("\n```").next().unwrap().to_owned()).collect()
}

#[test]
fn every_block_of_the_tour_works_in_an_empty_folder() {
    let blocks = blocks_below("Five-minute tour");
    assert!(blocks.len() >= 5, "{blocks:?}");
    let world = World::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = blocks.join("\n").replace("127.0.0.1:5000", &format!("127.0.0.1:{port}"));
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_sched")).parent().unwrap();
    let mut bash = Command::new("bash");
    bash.args(["-euxo", "pipefail", "-c", &script]).current_dir(world.folder.path()).env_clear();
    bash.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    bash.env("SCHED__HTTP__LISTEN", format!("127.0.0.1:{port}"));
    let output = bash.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
}
