//! The first configuration, completions in a real shell, and man pages.

use std::process::{Command, Stdio};

use crate::world::World;

#[test]
fn a_first_configuration_is_whole_and_is_never_written_over() {
    let world = World::new();
    world.ok(&["init"]);
    let text = std::fs::read_to_string(world.path("sched.toml")).unwrap();
    world.ok(&["check"]);
    world.ok(&["start"]);
    let run = world.ok(&["trigger", "hello", "--wait", "--json"]).json();
    assert_eq!(run["state"], "succeeded", "{run}");
    let again = world.sched(&["init"]);
    assert_eq!((again.code, std::fs::read_to_string(world.path("sched.toml")).unwrap()), (1, text.clone()));
    // What is commented out is as right as what is not.
    let all: Vec<&str> = text
        .lines()
        .map(|line| {
            line.strip_prefix("# ").filter(|rest| rest.starts_with('[') || rest.contains(" = ")).unwrap_or(line)
        })
        .collect();
    let whole = World::with(&all.join("\n"));
    let checked = whole.command(&["check"]).env("DASHBOARD_KEY", "8f3a61c2d94b7e05a1c8f3d2e6b70914").output().unwrap();
    assert!(checked.status.success(), "{}\n{}", String::from_utf8_lossy(&checked.stderr), all.join("\n"));
}

#[test]
fn bash_completes_commands_schedules_and_runs() {
    let world = World::new();
    world.ok(&["init"]);
    world.ok(&["start"]);
    let run = world.ok(&["trigger", "hello", "--wait", "--json"]).json();
    let complete = |words: &str, index: usize| {
        let script = format!(
            "PATH={}:$PATH; source <(sched completions bash); COMP_WORDS=({words}); COMP_CWORD={index}; COMP_TYPE=9; \
             _clap_complete_sched sched \"${{COMP_WORDS[COMP_CWORD]}}\" 2>/dev/null; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            std::path::Path::new(env!("CARGO_BIN_EXE_sched")).parent().unwrap().display()
        );
        let mut bash = Command::new("bash");
        bash.args(["-c", &script]).current_dir(world.folder.path()).stdin(Stdio::null());
        String::from_utf8(bash.output().unwrap().stdout).unwrap()
    };
    assert_eq!(complete("sched tri", 1), "trigger\n");
    assert_eq!(complete("sched trigger he", 2), "hello\n");
    assert_eq!(complete("sched runs --schedule ret", 3), "retention\n");
    let id = run["run_id"].as_str().unwrap();
    assert_eq!(complete(&format!("sched logs {}", &id[..8]), 2), format!("{id}\n"));
    let unknown = world.sched(&["completions", "csh"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.err.starts_with("sched: no shell `csh`; did you mean `zsh`?"), "{}", unknown.err);
}

#[test]
fn each_command_has_a_man_page() {
    let world = World::new();
    world.ok(&["man", "--out", "man"]);
    for page in ["sched.1", "sched-trigger.1", "sched-notify-test.1"] {
        let text = std::fs::read_to_string(world.path("man").join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
    assert!(world.ok(&["man"]).out.contains(".TH sched 1"));
}
