//! The tarball: whole, and the same bytes twice.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::World;

/// Packs a program that stands for this one: a build for release takes minutes, and its bytes are not what is tried.
fn pack(world: &World, out: &str) -> PathBuf {
    let program = world.path("program");
    std::fs::write(&program, format!("#!/bin/sh\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_sched"))).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut tarball = Command::new(root.join("packaging/tarball.sh"));
    tarball.arg(world.path(out)).env("SCHED_BINARY", &program).env("SOURCE_DATE_EPOCH", "1700000000");
    let ended = tarball.env_remove("SCHED_CONFIG").output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let found = std::fs::read_dir(world.path(out)).unwrap().map(|entry| entry.unwrap().path());
    found.into_iter().find(|path| path.extension().is_some_and(|end| end == "gz")).unwrap()
}

#[test]
fn the_tarball_is_whole_and_the_same_bytes_twice() {
    if Command::new("jq").arg("--version").output().is_err() {
        eprintln!("skipped: there is no jq here");
        return;
    }
    let world = World::new();
    let (one, two) = (pack(&world, "one"), pack(&world, "two"));
    assert!(std::fs::read(&one).unwrap() == std::fs::read(two).unwrap(), "two tarballs of the same differ");
    let unpacked = Command::new("tar").arg("-xzf").arg(&one).arg("-C").arg(world.folder.path()).status().unwrap();
    assert!(unpacked.success());
    let name = one.file_name().unwrap().to_str().unwrap().strip_suffix(".tar.gz").unwrap().to_owned();
    let folder = world.path(&name);
    let sums = Command::new("sha256sum").args(["--check", "--quiet", "SHA256SUMS"]).current_dir(&folder).status();
    assert!(sums.unwrap().success());
    for file in [
        "completions/sched.bash",
        "completions/sched.elvish",
        "completions/sched.fish",
        "completions/sched.powershell",
        "completions/sched.zsh",
        "man/sched.1",
        "man/sched-doctor.1",
        "sched.service",
        "logrotate.conf",
        "sched.toml.example",
        "README.md",
        "CHANGELOG.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
    ] {
        assert!(folder.join(file).metadata().is_ok_and(|meta| meta.len() > 0), "{file}");
    }
    let crates = std::fs::read_to_string(folder.join("licences/THIRD-PARTY.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = crates.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    for linked in ["tokio", "rusqlite", "ring", "tokio-postgres"] {
        assert!(rows.iter().any(|row| row[0] == linked), "{linked} is not told of");
    }
    for tested in ["proptest", "insta", "divan"] {
        assert!(rows.iter().all(|row| row[0] != tested), "{tested} is not in the program");
    }
    let texts = rows.iter().filter(|row| folder.join(format!("licences/{}-{}", row[0], row[1])).is_dir()).count();
    // A few crates are published without their texts, which are ours as well: MIT and Apache-2.0.
    assert!(texts * 100 >= rows.len() * 95, "{texts} of {}", rows.len());
}
