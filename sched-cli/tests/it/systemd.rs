//! A real systemd as the first process of a container: the unit that `sched install` writes, from its start to its end.
//!
//! The container has this machine's /usr, a network of its own, and else nothing.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::world::{Ended, command_schedule as job};

/// Machines so far: each has a name of its own.
static COUNT: AtomicU32 = AtomicU32::new(0);
const SCHED: &str = "/opt/sched --config /etc/sched/sched.toml";

/// A booted machine; it ends with this.
struct Machine {
    container: Child,
    _folder: tempfile::TempDir,
    /// Its first process, as it is numbered outside.
    init: String,
}

impl Machine {
    /// Boots, with this configuration at its place; none where that cannot be, and why is told.
    #[expect(clippy::print_stderr, reason = "a test that cannot run here says why")]
    fn boot(config: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let config = format!("data_dir = \"/var/lib/sched/data\"\nlog_dir = \"/var/lib/sched/logs\"\n{config}");
        std::fs::write(folder.path().join("sched.toml"), config).unwrap();
        let shared = folder.path().display();
        let mut nspawn = Command::new("systemd-nspawn");
        nspawn.args([
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--volatile=yes",
            "--directory=/",
            "--private-network",
        ]);
        nspawn.arg(format!("--machine=sched-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        nspawn.arg(format!("--bind-ro={}:/opt/sched", env!("CARGO_BIN_EXE_sched")));
        nspawn.arg(format!("--bind={shared}:/shared")).arg("--boot");
        nspawn.args(["systemd.unit=multi-user.target", "systemd.firstboot=no"]);
        // Of this machine's services none is wanted there.
        nspawn.args(["systemd.mask=nftables.service", "systemd.mask=postgresql.service"]);
        nspawn.stdin(Stdio::null()).stdout(std::fs::File::create(folder.path().join("console")).unwrap());
        nspawn.stderr(std::fs::File::create(folder.path().join("nspawn")).unwrap());
        let mut container = match nspawn.spawn() {
            Ok(container) => container,
            Err(error) => {
                eprintln!("skipped: systemd-nspawn: {error}");
                return None;
            }
        };
        let init = loop {
            if container.try_wait().unwrap().is_some() {
                let said = std::fs::read_to_string(folder.path().join("nspawn")).unwrap();
                eprintln!("skipped: systemd does not boot here: {said}");
                return None;
            }
            let children = format!("/proc/{0}/task/{0}/children", container.id());
            let children = std::fs::read_to_string(children).unwrap_or_default();
            let is_init =
                |pid: &&str| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "systemd\n");
            if let Some(init) = children.split_whitespace().find(is_init) {
                break init.to_owned();
            }
            std::thread::yield_now();
        };
        let machine = Self { container, _folder: folder, init };
        // Degraded by a service of this machine that does without it there.
        while !["running\n", "degraded\n"].contains(&&*machine.sh("systemctl is-system-running --wait").out) {
            std::thread::yield_now();
        }
        Some(machine)
    }

    /// Runs a line there.
    fn sh(&self, line: &str) -> Ended {
        let mut enter = Command::new("nsenter");
        enter.args(["--all", "--target", &self.init, "/bin/sh", "-c", line]).stdin(Stdio::null());
        enter.env_clear().env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin").output().unwrap().into()
    }

    #[track_caller]
    fn ok(&self, line: &str) -> Ended {
        let ended = self.sh(line);
        assert_eq!(ended.code, 0, "{line}: {} {}\n{}", ended.out, ended.err, self.journal());
        ended
    }

    fn journal(&self) -> String {
        self.sh("journalctl --no-pager --unit=sched").out
    }

    /// Waits until a line succeeds.
    fn until(&self, line: &str) {
        while self.sh(line).code != 0 {
            std::thread::yield_now();
        }
    }

    /// As docs/operations.md tells.
    fn install(&self) {
        self.ok("mkdir -p /etc/sched && cp /shared/sched.toml /etc/sched/");
        self.ok("useradd --system --home-dir /var/lib/sched --create-home --shell /usr/sbin/nologin sched");
        self.ok(&format!("{SCHED} install --run-as sched"));
        self.ok("chown -R sched: /var/lib/sched && systemctl daemon-reload && systemctl enable --now sched");
    }

    fn pid(&self) -> String {
        self.ok("systemctl show --property=MainPID --value sched").out.trim().to_owned()
    }

    fn status(&self) -> Value {
        self.sh(&format!("{SCHED} status --json")).json()
    }

    fn log(&self) -> Vec<Value> {
        let text = self.ok("cat /var/lib/sched/logs/scheduler.log").out;
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits for the one that comes after the scheduler with this number, and tells what it says of that one's end.
    fn word_of_the_next(&self, pid: &str) -> String {
        self.until(&format!("{SCHED} status --json | grep -v '\"pid\":{pid},' | grep '\"running\":true'"));
        let told = |line: &Value| line["event"] == "alert" && line["kind"] == "died";
        loop {
            if let Some(alert) = self.log().iter().rfind(|line| told(line)) {
                let message = alert["message"].as_str().unwrap();
                if message.contains(&format!("(pid {pid})")) {
                    return message.to_owned();
                }
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The end of its first process is the end of them all.
        let _ = Command::new("kill").args(["-KILL", &self.init]).status();
        let _ = self.container.wait();
    }
}

#[test]
fn the_service_starts_reloads_runs_jobs_with_few_rights_and_stops() {
    let rights =
        "id -un; grep -E 'CapEff|NoNewPrivs' /proc/self/status; touch /etc/no; touch /var/lib/sched/data/yes; pwd";
    let config =
        [job("rights", rights, ""), job("apart", "echo hello", "runner = \"process\""), job("long", "sleep 1000", "")];
    let Some(machine) = Machine::boot(&format!("[log]\nstdout = true\n{}", config.concat())) else { return };
    machine.install();
    // `systemctl enable --now` came back when the scheduler had said that it stands.
    assert_eq!((&machine.status()["running"], &machine.status()["state"]), (&true.into(), &"running".into()));
    assert!(machine.ok("systemctl show --property=StatusText sched").out.contains("http://127.0.0.1:5000/"));
    let pid = machine.pid();
    let told = machine.ok(&format!("{SCHED} trigger rights --wait"));
    let told = format!("{}{}", told.out, told.err);
    for line in ["sched\n", "CapEff:\t0000000000000000\n", "NoNewPrivs:\t1\n", "/etc/sched\n"] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(told.contains("'/etc/no': Read-only file system") && !told.contains("'/var/lib/sched/data/yes'"), "{told}");
    machine.ok(&format!("{SCHED} trigger apart --wait"));

    machine.ok("sed -i 's/\"apart\"/\"afar\"/' /etc/sched/sched.toml && systemctl reload sched");
    machine.ok(&format!("{SCHED} show afar"));
    assert_eq!(machine.pid(), pid, "a reload is no restart");

    machine.ok(&format!("{SCHED} trigger long"));
    machine.until("pgrep -f '[s]leep 1000'");
    machine.ok("systemctl stop sched");
    assert_eq!(machine.ok("systemctl show --property=Result --value sched").out, "success\n");
    assert_ne!(machine.sh("pgrep -f '[s]leep 1000'").code, 0, "a job was left");
    assert_eq!(machine.status()["state"], "stopped");
    assert!(machine.log().iter().any(|line| line["event"] == "run_retry" && line["schedule"] == "long"));
    // What the file has, the journal has.
    let journal = machine.ok("journalctl --no-pager --unit=sched --output=cat").out;
    let in_journal =
        |event: &str| journal.lines().filter(|line| line.contains(&format!("\"event\":\"{event}\""))).count();
    for event in ["startup", "tick", "run_started", "run_finished", "schedule_changed", "shutdown", "cleanup"] {
        let in_file = machine.log().iter().filter(|line| line["event"] == event).count();
        assert!(in_file > 0 && in_journal(event) == in_file, "{event}: {in_file} in the file\n{journal}");
    }
}

#[test]
fn a_service_that_is_killed_or_hangs_is_started_again_and_says_why() {
    let Some(machine) = Machine::boot(&job("long", "sleep 1000", "retry = { attempts = 1 }")) else { return };
    machine.install();
    machine.ok("mkdir /etc/systemd/system/sched.service.d");
    machine.ok("printf '[Service]\nWatchdogSec=2\nRestartSec=100ms\n' > /etc/systemd/system/sched.service.d/soon.conf");
    machine.ok("systemctl daemon-reload && systemctl restart sched");
    machine.ok(&format!("{SCHED} trigger long"));
    machine.until("pgrep -f '[s]leep 1000'");

    let first = machine.pid();
    machine.ok(&format!("kill -KILL {first}"));
    let word = machine.word_of_the_next(&first);
    assert!(word.ends_with("was not stopped: it was ended by SIGKILL"), "{word}");
    assert_ne!(machine.sh("pgrep -f '[s]leep 1000'").code, 0, "a job of the dead one was left");

    let second = machine.pid();
    // A start that came to nothing after a death is not its cause.
    let words = "env SERVICE_RESULT=signal EXIT_CODE=killed EXIT_STATUS";
    let told = "cat /var/lib/sched/data/ended.json";
    machine.ok(&format!("{words}=SEGV {SCHED} ended && grep -q SIGSEGV /var/lib/sched/data/ended.json"));
    let first_word = machine.ok(told).out;
    machine.ok(&format!("{words}=TERM {SCHED} ended"));
    assert_eq!(machine.ok(told).out, first_word);
    machine.ok("rm /var/lib/sched/data/ended.json");
    machine.ok(&format!("kill -STOP {second}"));
    let word = machine.word_of_the_next(&second);
    assert!(word.ends_with("it gave no sign of life, and systemd's watchdog ended it"), "{word}");
    assert_eq!(machine.status()["state"], "running");
}

#[test]
fn a_start_inside_a_service_that_ends_is_told_of_as_an_end_with_its_session() {
    let Some(machine) = Machine::boot("") else { return };
    machine.ok("mkdir -p /etc/sched && cp /shared/sched.toml /etc/sched/");
    machine.ok(&format!("systemd-run --wait --quiet {SCHED} start"));
    machine.until(&format!("{SCHED} status --json | grep -v '\"running\":true'"));
    let status = machine.status();
    assert_eq!(status["state"], "stopped", "{status}");
    let again = machine.ok(&format!("systemd-run --scope --quiet {SCHED} start"));
    assert!(again.err.contains("ended by a signal") && again.err.contains("sched install"), "{}", again.err);
}

#[test]
fn self_heal_restarts_a_real_unit_once_and_sees_that_it_helped() {
    let params = "[[schedule]]\nname = \"heal\"\njob = \"self_heal\"\ntrigger = { once = 2999-01-01T00:00:00Z }\n\
         [[schedule.params.checks]]\nname = \"shop\"\nverify_for = \"20s\"\n\
         check = { command = { argv = [\"systemctl\", \"is-active\", \"--quiet\", \"shop\"] } }\n\
         remedy = { restart = { unit = \"shop.service\" } }\n";
    let Some(machine) = Machine::boot(params) else { return };
    machine.ok("mkdir -p /etc/sched && cp /shared/sched.toml /etc/sched/");
    machine.ok("printf '[Service]\nExecStart=/bin/sleep 1000\n' > /etc/systemd/system/shop.service");
    machine.ok(&format!("systemctl daemon-reload && systemctl start shop && {SCHED} start"));
    machine.ok("systemctl kill --signal=KILL shop");
    machine.until("systemctl is-failed shop");
    machine.ok(&format!("{SCHED} trigger heal --wait"));
    machine.ok("systemctl is-active shop");
    let run = machine.ok(&format!("{SCHED} runs --schedule heal --json"));
    let run: Value = serde_json::from_str(run.out.lines().next().unwrap()).unwrap();
    assert!(run["summary"].as_str().unwrap().contains("healed") || run["state"] == "succeeded", "{run}");
}

#[test]
fn a_unit_of_one_user_needs_no_root() {
    let Some(machine) = Machine::boot("") else { return };
    // Without PAM, which this machine may not have set up; what it would set is set here.
    machine.ok("mkdir /etc/systemd/system/user@.service.d");
    let alone = "[Service]\nPAMName=\nEnvironment=XDG_RUNTIME_DIR=/run/user/%%i\n";
    machine
        .ok(&format!("printf '{alone}' > /etc/systemd/system/user@.service.d/alone.conf && systemctl daemon-reload"));
    machine.ok("useradd --create-home --uid 4321 ann && loginctl enable-linger ann && systemctl start user@4321");
    let ann = "cd /home/ann && setpriv --reuid=4321 --regid=$(id -g ann) --clear-groups \
         env HOME=/home/ann XDG_RUNTIME_DIR=/run/user/4321";
    machine.ok(&format!("{ann} /opt/sched install --user"));
    machine.ok(&format!("{ann} systemctl --user daemon-reload && {ann} systemctl --user enable --now sched"));
    let status = || machine.sh(&format!("{ann} /opt/sched status --json")).json();
    assert_eq!(status()["state"], "running");
    let pid = status()["pid"].clone();
    machine.ok(&format!("kill -KILL {pid}"));
    machine.until(&format!("{ann} /opt/sched status --json | grep -v '\"pid\":{pid},' | grep '\"running\":true'"));
    machine.until("grep -q 'was not stopped: it was ended by SIGKILL' /home/ann/logs/scheduler.log");
    machine.ok(&format!("{ann} systemctl --user stop sched"));
    assert_eq!(status()["state"], "stopped");
}

#[test]
fn a_crontab_starts_it_at_boot_and_it_outlives_cron() {
    let Some(machine) = Machine::boot("") else { return };
    if machine.sh("systemctl cat cron").code != 0 {
        return eprintln!("skipped: there is no cron here");
    }
    // What Debian's cron is told by PAM, without the files that this machine may not have.
    machine.ok("mkdir -p /etc/pam.d && for way in auth account session; do echo \"$way sufficient pam_permit.so\"; done > /etc/pam.d/cron");
    let line = "@reboot cd /srv/sched && /opt/sched start >> start.out 2>&1";
    machine
        .ok(&format!("mkdir -p /srv/sched /var/spool/cron/crontabs && echo '{line}' > /var/spool/cron/crontabs/root"));
    machine.ok(
        "systemctl stop cron; rm -f /run/crond.reboot; chmod 600 /var/spool/cron/crontabs/root && systemctl start cron",
    );
    machine.until("grep -q '^started: pid' /srv/sched/start.out");
    let status = || machine.sh("cd /srv/sched && /opt/sched status --json").json();
    let pid = status()["pid"].clone();
    machine.ok("systemctl stop cron");
    assert_eq!((&status()["running"], &status()["pid"]), (&true.into(), &pid));
    machine.ok("cd /srv/sched && /opt/sched stop");
}
