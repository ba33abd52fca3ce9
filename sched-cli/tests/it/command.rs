//! Programs that behave badly, below the real daemon.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::world::{World, command_schedule};

/// Whether a process is there, and no zombie.
fn lives(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Processes whose environment bears a run's id.
fn marked(run: &str) -> Vec<PathBuf> {
    let mark = format!("SCHED_RUN_ID={run}");
    let bears = |path: &Path| {
        std::fs::read(path.join("environ"))
            .unwrap_or_default()
            .split(|byte| *byte == 0)
            .any(|one| one == mark.as_bytes())
    };
    let all = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| bears(path)).collect()
}

fn schedule(name: &str, params: &str, more: &str) -> String {
    format!(
        "[[schedule]]\nname = \"{name}\"\njob = \"command\"\ntrigger = {{ once = 2999-01-01T00:00:00Z }}\n{more}\n\
         [schedule.params]\n{params}\n"
    )
}

fn sh(name: &str, line: &str, params: &str) -> String {
    schedule(name, &format!("argv = [{line:?}]\nshell = true\n{params}"), "")
}

fn run(world: &World, name: &str) -> Value {
    world.sched(&["trigger", name, "--wait", "--json"]).json()
}

fn output(world: &World, run: &Value) -> String {
    world.ok(&["logs", run["run_id"].as_str().unwrap()]).out
}

/// Waits until a file has a line.
fn line_of(world: &World, file: &str) -> String {
    loop {
        let text = std::fs::read_to_string(world.path(file)).unwrap_or_default();
        if text.ends_with('\n') {
            return text.trim().to_owned();
        }
        std::thread::yield_now();
    }
}

#[test]
fn nothing_is_left_of_a_program_that_double_forks_leaves_its_session_and_ignores_term() {
    let hide = "(setsid sh -c \"trap '' TERM HUP; (sh -c 'trap \\\"\\\" TERM; echo $$ > grandchild; exec sleep 1000' &) ; \
                echo $$ > daemon; while :; do sleep 1; done\" > /dev/null 2>&1 &)";
    let config = [
        sh("ends", &format!("{hide}; until test -s daemon -a -s grandchild; do :; done"), ""),
        sh(
            "stays",
            &format!("rm -f daemon grandchild; trap '' TERM; {hide}; echo up > up; while :; do sleep 1; done"),
            "",
        ),
        sh("forgets", "env -u SCHED_RUN_ID setsid sleep 1000 & echo $! > forgets", ""),
    ];
    let world = World::with(&config.concat());
    world.ok(&["start"]);
    let ended = run(&world, "ends");
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert!(!lives(&line_of(&world, "daemon")) && !lives(&line_of(&world, "grandchild")));
    assert!(output(&world, &ended).contains("processes that had left the program's group were killed)"));
    let stays = world.ok(&["trigger", "stays"]).out.trim().to_owned();
    for file in ["up", "daemon", "grandchild"] {
        line_of(&world, file);
    }
    world.ok(&["cancel", &stays]);
    let ended = world.wait_for(|line| line["event"] == "run_finished" && line["run_id"] == stays.as_str());
    assert_eq!(ended["state"], "cancelled");
    assert!(!lives(&line_of(&world, "daemon")) && !lives(&line_of(&world, "grandchild")));
    assert_eq!(marked(&stays), Vec::<PathBuf>::new());
    run(&world, "forgets");
    assert!(!lives(&line_of(&world, "forgets")), "also who hides the run's id is below the shim");
}

#[test]
fn a_program_dies_with_its_scheduler_and_with_its_shim() {
    let world =
        World::with(&command_schedule("long", "echo $PPID > shim; setsid sleep 1000 & echo $! > pid; sleep 1000", ""));
    world.ok(&["start"]);
    let first = world.ok(&["trigger", "long"]).out.trim().to_owned();
    let (pid, shim) = (line_of(&world, "pid"), line_of(&world, "shim"));
    kill_process(Pid::from_raw(shim.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    let ended = world.wait_for(|line| line["event"] == "run_finished" && line["run_id"] == first.as_str());
    assert_eq!(ended["error"], "the shim that held its processes was killed");
    assert!(!lives(&pid), "what lost its shim is swept by its mark");
    assert_eq!(marked(&first), Vec::<PathBuf>::new());
    std::fs::remove_file(world.path("pid")).unwrap();
    world.ok(&["trigger", "long"]);
    let pid = line_of(&world, "pid");
    world.kill();
    while lives(&pid) {
        std::thread::yield_now();
    }
}

#[test]
fn what_outlived_its_scheduler_and_its_shim_is_ended_at_the_next_start() {
    let world = World::with(&command_schedule(
        "long",
        "echo $PPID > shim; echo $$ > program; setsid sleep 1000 & echo $! > pid; sleep 1000",
        "",
    ));
    world.ok(&["start"]);
    let first = world.ok(&["trigger", "long"]).out.trim().to_owned();
    let (pid, program, shim) = (line_of(&world, "pid"), line_of(&world, "program"), line_of(&world, "shim"));
    let signal = |signal| kill_process(Pid::from_raw(shim.parse().unwrap()).unwrap(), signal).unwrap();
    // Stopped, it sees its scheduler die and can do nothing.
    signal(Signal::STOP);
    world.kill();
    signal(Signal::KILL);
    while lives(&shim) {
        std::thread::yield_now();
    }
    assert!(lives(&pid) && lives(&program), "nobody is left to end them");
    world.ok(&["start"]);
    let ended = world.wait_for(|line| line["event"] == "run_finished" && line["run_id"] == first.as_str());
    assert_eq!(ended["ok"], false, "{ended}");
    assert!(!lives(&pid) && !lives(&program) && marked(&first).is_empty(), "they are swept before it is settled");
}

#[test]
fn a_code_to_retry_is_tried_again_and_any_other_ends_it() {
    let params = "retry_codes = [75]";
    let tries = |name: &str, line: &str| {
        let more = "retry = { attempts = 3, initial = \"10ms\", jitter = false }";
        schedule(name, &format!("argv = [{line:?}]\nshell = true\n{params}"), more)
    };
    let config = [
        tries("heals", "echo x >> heals; test $(wc -l < heals) = 3 || exit 75"),
        tries("breaks", "echo x >> breaks; test $(wc -l < breaks) = 1 && exit 75; exit 3"),
    ];
    let world = World::with(&config.concat());
    world.ok(&["start"]);
    let heals = run(&world, "heals");
    assert_eq!((&heals["state"], &heals["attempt"]), (&json!("succeeded"), &json!(3)), "{heals}");
    let breaks = run(&world, "breaks");
    assert_eq!((&breaks["error"], &breaks["attempt"]), (&json!("exited with code 3"), &json!(2)), "{breaks}");
    assert_eq!(std::fs::read_to_string(world.path("breaks")).unwrap().lines().count(), 2);
}

#[test]
fn a_program_that_prints_at_full_speed_leaves_memory_flat_and_others_undisturbed() {
    let config = [
        sh("floods", "yes 'a line that is printed as fast as can be' | head -c 60000000; echo the end", ""),
        sh("binary", "head -c 5000000 /dev/urandom; printf '\\033[31mred\\033[0m\\377\\n'", ""),
        sh("quick", "echo done", ""),
    ];
    let world = World::with(&config.concat());
    world.ok(&["start"]);
    let pid = world.status()["pid"].clone();
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().to_owned();
        line.strip_suffix(" kB").unwrap().parse::<u64>().unwrap()
    };
    run(&world, "quick");
    let before = resident();
    let flood = world.ok(&["trigger", "floods"]).out.trim().to_owned();
    assert_eq!(run(&world, "quick")["state"], "succeeded");
    let ended = world.wait_for(|line| line["event"] == "run_finished" && line["run_id"] == flood.as_str());
    assert_eq!(ended["state"], "succeeded");
    let grown = resident() - before;
    assert!(grown < 32 * 1024, "60 MB of output cost {grown} KiB of memory");
    let text = world.ok(&["logs", &flood]).out;
    assert!(text.len() < 5_000_000 && text.ends_with("the end\n") && text.contains(" bytes left out here)\n"));
    let binary = run(&world, "binary");
    assert_eq!(binary["state"], "succeeded", "{}", binary["error"]);
    assert!(output(&world, &binary).ends_with("\u{1b}[31mred\u{1b}[0m\\xff\n"));
}

#[test]
fn how_a_program_ended_and_what_it_used_is_recorded() {
    let config = [
        sh("killed", "echo last words; kill -SEGV $$", ""),
        sh("again", "exit 75", "retry_codes = [75]"),
        sh("never", "exit 3", "retry_codes = [75]"),
        sh("works", "i=0; while test $i -lt 200000; do i=$((i+1)); done; echo '{\"rows\": 3}'", ""),
        sh("says", "echo '::progress 40 half way'; echo '::result {\"n\": 1}'; echo more", ""),
        schedule("typed", "argv = [\"cat\"]\nstdin_file = \"sched.toml\"", ""),
        schedule("nowhere", "argv = [\"true\"]\ncwd = \"nowhere\"", ""),
    ];
    let world = World::with(&config.concat());
    world.ok(&["start"]);
    let killed = run(&world, "killed");
    assert_eq!(killed["error"], "was ended by SIGSEGV: last words");
    assert_eq!((&killed["data"]["signal"], &killed["data"]["exit_code"]), (&json!(11), &Value::Null));
    assert_eq!(run(&world, "again")["error"], "exited with code 75");
    assert_eq!(run(&world, "never")["error"], "exited with code 3");
    let works = run(&world, "works");
    assert!(works["data"]["cpu_ms"].as_u64().unwrap() > 0, "{works}");
    assert!(works["data"]["peak_memory_bytes"].as_u64().unwrap() > 500_000, "{works}");
    assert_eq!(works["data"]["result"], json!({ "rows": 3 }));
    let says = run(&world, "says");
    assert_eq!((&says["data"]["result"], output(&world, &says).as_str()), (&json!({ "n": 1 }), "more\n"));
    let typed = run(&world, "typed");
    assert_eq!(output(&world, &typed), std::fs::read_to_string(world.path("sched.toml")).unwrap());
    let nowhere = run(&world, "nowhere");
    assert!(nowhere["error"].as_str().unwrap().contains("nowhere: No such file"), "{nowhere}");
}

#[test]
fn a_program_gets_its_limits_its_umask_its_priority_and_its_user() {
    let root = rustix::process::geteuid().is_root();
    let config = [
        sh(
            "limits",
            "ulimit -n; ulimit -t; ulimit -d; umask; nice",
            "umask = \"027\"\nnice = 7\nlimits = { files = 100, cpu = \"9s\", memory = \"64 MiB\" }",
        ),
        sh("spins", "while :; do :; done", "limits = { cpu = \"1s\" }"),
        sh("eats", "x=$(yes | head -c 100000000)", "limits = { memory = \"32 MiB\" }"),
        sh("nobody", "id -u; id -g; id -G; echo $HOME; echo $USER", "user = \"nobody\""),
        sh("absent", "true", "user = \"no-such-user\""),
        sh("grouped", "id -u; id -g; id -G", "group = \"daemon\""),
        sh("files", "ls -l /proc/self/fd | wc -l; ps -o sid= -p $$; echo $PPID", ""),
    ];
    let world = World::with(&config.concat());
    world.ok(&["start"]);
    let limits = run(&world, "limits");
    assert_eq!(output(&world, &limits), "100\n9\n65536\n0027\n7\n", "{}", limits["error"]);
    let spins = run(&world, "spins");
    assert_eq!(spins["error"], "was ended by SIGXCPU");
    let eats = run(&world, "eats");
    assert_eq!(eats["state"], "failed", "{}", eats["data"]["result"]);
    assert!(eats["data"]["peak_memory_bytes"].as_u64().unwrap() < 64 << 20, "{eats}");
    let nobody = run(&world, "nobody");
    let absent = run(&world, "absent");
    let grouped = run(&world, "grouped");
    if root {
        let group = "0\n1\n1\n";
        assert_eq!(crate::command::output(&world, &grouped), group, "a group alone changes no user");
        let output = output(&world, &nobody);
        assert!(output.starts_with("65534\n65534\n65534\n") && output.ends_with("nobody\n"), "{output}");
        assert_eq!(absent["error"], "no user `no-such-user` in /etc/passwd; write a number");
    } else {
        eprintln!("not root: that a user is changed to was not tested");
        assert_eq!(nobody["error"], "`user` and `group` need a scheduler that runs as root; leave them out");
    }
    let files = run(&world, "files");
    let output = output(&world, &files);
    let lines: Vec<&str> = output.lines().map(str::trim).collect();
    // The total, standard input, output and error, and the listing's own.
    assert_eq!(lines[0], "5", "{output}");
    assert_eq!(lines[1], lines[2], "the shim leads a session of its own");
}

/// Whether any file below a folder contains a text.
fn contains(folder: &Path, text: &str) -> bool {
    let found = |path: &Path| std::fs::read(path).unwrap().windows(text.len()).any(|part| part == text.as_bytes());
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| match path.is_dir() {
        true => contains(&path, text),
        false => path.is_file() && found(&path),
    })
}

#[test]
fn secrets_and_inherited_variables_reach_the_program_and_nothing_else() {
    let line = "echo \"$TOKEN $PASSWORD $MINE ${OTHER-none}\" > ../seen; echo done";
    let params =
        "cwd = \"here\"\nsecrets = { TOKEN = \"env:OUTER\", PASSWORD = \"file:password.txt\" }\ninherit = [\"MINE\"]";
    let world = World::with(&sh("login", line, params));
    std::fs::create_dir(world.path("here")).unwrap();
    std::fs::write(world.path("password.txt"), "open-sesame\n").unwrap();
    let variables = [("OUTER", "t0ken-of-mine"), ("MINE", "mine"), ("OTHER", "others")];
    let started = world.command(&["start"]).envs(variables).output().unwrap();
    assert!(started.status.success(), "{started:?}");
    let login = run(&world, "login");
    assert_eq!(login["state"], "succeeded", "{login}");
    assert_eq!(line_of(&world, "seen"), "t0ken-of-mine open-sesame mine none");
    let shown = world.ok(&["show", "login", "--json"]).out;
    assert!(shown.contains("env:OUTER") && shown.contains("file:password.txt"), "{shown}");
    for secret in ["t0ken-of-mine", "open-sesame"] {
        assert!(!shown.contains(secret));
        for folder in ["data", "logs"] {
            assert!(!contains(&world.path(folder), secret), "{secret} is in {folder}");
        }
    }
}

#[test]
fn the_schedulers_own_key_reaches_no_program_by_another_name() {
    for name in ["DASHBOARD_KEY", "SCHED__STORE__URL"] {
        let world = World::with(&sh("login", "env", &format!("secrets = {{ TOKEN = \"env:{name}\" }}")));
        let refused = world.sched(&["check"]);
        assert_eq!(refused.code, 2);
        let expected = format!("params.secrets.TOKEN: `env:{name}` is the scheduler's own, and no program gets it");
        assert!(refused.err.contains(&expected), "{}", refused.err);
    }
}

#[test]
fn progress_is_told_to_those_who_listen() {
    let world = World::with(&sh("slow", "echo '::progress 40 half way'; until test -e go; do sleep 0.01; done", ""));
    world.ok(&["start"]);
    let key = std::fs::read_to_string(world.path("data/dashboard.key")).unwrap();
    let mut stream = TcpStream::connect(world.status()["http"].as_str().unwrap()).unwrap();
    write!(stream, "GET /api/v1/events HTTP/1.1\r\nhost: x\r\nx-dash-key: {}\r\n\r\n", key.trim()).unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    // The answer has begun, so it hears what happens from now on.
    assert!(lines.next().unwrap().contains("200"));
    let id = world.ok(&["trigger", "slow"]).out.trim().to_owned();
    let told = lines.find(|line| line.contains("half way")).unwrap();
    let told: Value = serde_json::from_str(told.strip_prefix("data:").unwrap().trim()).unwrap();
    assert_eq!((&told["event"], &told["percent"], &told["run_id"]), (&"progress".into(), &40.into(), &id.into()));
    std::fs::write(world.path("go"), "").unwrap();
}

#[test]
fn who_follows_a_run_past_the_head_of_its_output_gets_its_end_too() {
    let line = "yes a line of some length that is printed again and again | head -n 200000; until test -e go; do sleep \
                0.01; done; echo the last word";
    let world = World::with(&sh("long", line, ""));
    world.ok(&["start"]);
    let id = world.ok(&["trigger", "long"]).out.trim().to_owned();
    let mut follower = world.command(&["logs", &id, "-f"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("a line of some length"));
    std::fs::write(world.path("go"), "").unwrap();
    assert_eq!(lines.last().as_deref(), Some("the last word"));
    assert!(follower.wait().unwrap().success());
}

#[test]
fn a_program_begins_with_default_signals_whatever_its_scheduler_ignores() {
    let line = "grep SigIgn /proc/self/status";
    let world = World::with(&(sh("plain", line, "") + &sh("staged", line, "umask = \"027\"")));
    let mut start = std::process::Command::new("sh");
    start.args(["-c", "trap '' HUP USR1 TERM; exec \"$0\" start", env!("CARGO_BIN_EXE_sched")]);
    start
        .current_dir(world.path(""))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("SCHED__HTTP__LISTEN", "127.0.0.1:0");
    assert!(start.status().unwrap().success());
    for name in ["plain", "staged"] {
        let ignored = run(&world, name)["data"]["result"].as_str().unwrap().replace("SigIgn:\t", "");
        // The C library keeps 32 and 33 for itself.
        assert_eq!(u64::from_str_radix(&ignored, 16).unwrap() & 0x7fff_ffff, 0, "{name}: {ignored}");
    }
}

#[test]
fn a_folder_that_is_not_there_may_come_and_a_variable_of_the_scheduler_s_own_name_changes_nothing() {
    let more = "retry = { attempts = 3, initial = \"10ms\", jitter = false }";
    let missing = "argv = [\"true\"]\ncwd = \"later\"\numask = \"027\"";
    let named = sh("named", "umask", "umask = \"027\"\nenv = { SCHED_STAGE = \"{}\" }");
    let world = World::with(&(schedule("missing", missing, more) + &named));
    world.ok(&["start"]);
    let ended = run(&world, "missing");
    assert_eq!((&ended["attempt"], &ended["state"]), (&json!(3), &json!("failed")), "{ended}");
    assert!(ended["error"].as_str().unwrap().contains("its folder "), "{ended}");
    assert_eq!(run(&world, "named")["data"]["last_lines"], json!(["0027"]));
}
