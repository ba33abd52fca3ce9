//! What a person at a terminal sees, by a terminal of script(1).

use std::process::Command;

use crate::world::World;

/// What a terminal of 80 columns shows after `sched` with these words and variables.
fn shown(world: &World, variables: &str, words: &str) -> Option<String> {
    let line = format!("stty rows 24 columns 80; env {variables} {} {words}", env!("CARGO_BIN_EXE_sched"));
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).current_dir(world.folder.path());
    script.env_clear().env("PATH", "/usr/bin:/bin").env("TERM", "xterm").stdin(std::process::Stdio::null());
    let output = script.output().ok()?;
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n"))
}

#[test]
fn what_is_long_goes_through_the_pager_of_whoever_reads_it_on_a_terminal() {
    let world = World::new();
    world.ok(&["start"]);
    let Some(paged) = shown(&world, "SCHED_PAGER='sed s/^/paged:/' PAGER=false", "kinds command") else { return };
    let lines: Vec<&str> = paged.lines().collect();
    assert!(lines.len() > 20 && lines.iter().all(|line| line.starts_with("paged:")), "{paged}");
    let paged = shown(&world, "PAGER='sed s/^/paged:/' NO_COLOR=1", "list").unwrap();
    assert!(paged.starts_with("paged:NEXT") && paged.lines().all(|line| line.chars().count() <= 86), "{paged}");
    for (variables, words) in [
        ("PAGER='sed s/^/paged:/'", "list --no-pager"),
        ("PAGER='sed s/^/paged:/'", "list --json"),
        ("PAGER='sed s/^/paged:/'", "check"),
        ("PAGER='sed s/^/paged:/' SCHED_PAGER=", "list"),
        ("PAGER='sed s/^/paged:/' TERM=dumb", "list"),
        ("PAGER=cat", "list"),
        ("PAGER=no-such-pager", "list"),
    ] {
        let plain = shown(&world, variables, words).unwrap();
        assert!(!plain.is_empty() && !plain.contains("paged:"), "{variables} {words}: {plain}");
    }
    // Nobody's terminal.
    let piped = world.command(&["list"]).env("PAGER", "sed s/^/paged:/").env("TERM", "xterm").output().unwrap();
    assert!(piped.stdout.starts_with(b"NEXT"), "{piped:?}");
}

#[test]
fn a_pager_that_ends_early_is_no_fault() {
    let world = World::new();
    let Some(first) = shown(&world, "PAGER='head -n 1'", "kinds command") else { return };
    assert_eq!(first.lines().count(), 1, "{first}");
}
