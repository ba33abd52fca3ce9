//! The unit's text (systemd.service(5), systemd.exec(5)).

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::MARK;
use crate::args::Install;
use crate::compose::Setup;
use crate::exit::Failure;

/// What the end of connections, logs and store may take beside the grace of jobs.
const REST_OF_AN_END: u64 = 10;

pub(super) struct Unit {
    program: PathBuf,
    config: Option<PathBuf>,
    folder: PathBuf,
    writable: Vec<PathBuf>,
    /// Whom it runs as; none for a unit of a user.
    user: Option<String>,
    of_user: bool,
    trust_jobs: bool,
    home: bool,
    tmp: bool,
    stop: u64,
    watchdog: u64,
}

impl Unit {
    /// Whether the service has all rights that there are.
    pub(super) fn is_root(&self) -> bool {
        self.user.as_deref().is_some_and(|user| user == "0" || user == "root")
    }

    pub(super) fn of(setup: &Setup, words: &Install) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| Failure::failed(format!("this program: {error}")))?;
        let here = std::env::current_dir()?;
        let file = setup.file.as_ref().map(|file| std::fs::canonicalize(file).unwrap_or_else(|_| here.join(file)));
        let folder = file.as_deref().and_then(Path::parent).unwrap_or(&here).to_path_buf();
        let mut writable = vec![setup.config.data_dir.clone(), setup.config.log_dir.clone()];
        writable.extend(setup.store_path().parent().map(Path::to_path_buf));
        writable.sort();
        writable.dedup();
        // systemd refuses to start a service whose writable folders are not there.
        for path in &writable {
            if !words.dry_run {
                std::fs::create_dir_all(path)
                    .map_err(|error| Failure::failed(format!("{} cannot be made: {error}", path.display())))?;
            }
        }
        let owner = || {
            let owned = [Some(setup.config.data_dir.as_path()), file.as_deref(), Some(folder.as_path())];
            let meta = owned.into_iter().flatten().find_map(|path| path.metadata().ok());
            meta.map_or(0, |meta| meta.uid()).to_string()
        };
        let user = (!words.user).then(|| words.run_as.clone().unwrap_or_else(owner));
        if user.as_deref().is_some_and(|user| user.is_empty() || user.contains(|c: char| c.is_whitespace() || c == '%'))
        {
            return Err(Failure::usage("--run-as takes the name or number of a user"));
        }
        let all: Vec<&PathBuf> = writable.iter().chain([&program, &folder]).chain(&file).collect();
        let home = all.iter().any(|path| path.starts_with("/home") || path.starts_with("/root"));
        let tmp = all.iter().any(|path| path.starts_with("/tmp") || path.starts_with("/var/tmp"));
        if let Some(odd) = all.iter().find(|path| path.to_str().is_none_or(|text| text.contains(['\n', '\r']))) {
            return Err(Failure::failed(format!("{}: a unit cannot name this path", odd.display())));
        }
        Ok(Self {
            program,
            config: file,
            folder,
            writable,
            user,
            of_user: words.user,
            trust_jobs: words.trust_jobs,
            home,
            tmp,
            stop: setup.config.shutdown_grace.as_secs().saturating_add(REST_OF_AN_END),
            // Three heartbeats: one that is late is no death.
            watchdog: setup.config.heartbeat.as_secs().saturating_mul(3).max(30),
        })
    }
}

/// A path as a word of a unit's line: `%` and `\` have meanings there, spaces end words.
fn word(path: &Path) -> String {
    let text = path.to_string_lossy().replace('\\', "\\\\").replace('%', "%%").replace('"', "\\\"");
    if text.contains([' ', '\t', '"', '\'', ';', '#']) { format!("\"{text}\"") } else { text }
}

/// A path as a word of a line that is executed, where `$` begins a variable too.
fn argument(path: &Path) -> String {
    word(path).replace('$', "$$")
}

/// A path that is the whole of its line.
fn whole(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%%")
}

/// Takes nothing from ordinary jobs.
const ANYWHERE: &str = "\
# Jobs get no more rights than the service: sudo and the like need --trust-jobs.
NoNewPrivileges=true
RestrictRealtime=true
RestrictSUIDSGID=true
LockPersonality=true
SystemCallArchitectures=native
UMask=0077
";

/// Filters of system calls; each comment says who needs it loosened.
const FILTERS: &str = "\
# Jobs in sandboxes of their own (bubblewrap, podman, browsers) need these three loosened.
RestrictNamespaces=true
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
# Jobs that capture packets or speak Bluetooth need more families.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
# MemoryDenyWriteExecute=true would be stricter; Java, Node.js and other compilers at run time fail under it.
";

/// What only the manager of the system can keep from a service.
const SYSTEM: &str = "\
# A `command` with `user` needs CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_KILL and User=root.
CapabilityBoundingSet=
AmbientCapabilities=
PrivateDevices=true
ProtectClock=true
ProtectControlGroups=true
ProtectHostname=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
# Jobs see only the service's own user's processes; checks of other programs need ProtectProc=default.
ProtectProc=invisible
# Everything is read-only but for ReadWritePaths=; jobs that write elsewhere need one more of these lines.
ProtectSystem=strict
";

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{MARK}; `systemctl edit` keeps changes of your own apart from it.")?;
        writeln!(f, "[Unit]\nDescription=sched, a persistent job scheduler")?;
        if !self.of_user {
            writeln!(
                f,
                "# Not network-online.target: without a network the jobs that need none would wait for minutes."
            )?;
            writeln!(f, "After=network.target time-sync.target")?;
        }
        for path in &self.writable {
            writeln!(f, "RequiresMountsFor={}", word(path))?;
        }
        writeln!(f, "# A crash loop stops after so many starts, and `systemctl status` says so.")?;
        writeln!(f, "StartLimitIntervalSec=300\nStartLimitBurst=10\n\n[Service]\nType=notify\nNotifyAccess=main")?;
        let config = self.config.as_deref().map(argument).map(|path| format!(" --config {path}")).unwrap_or_default();
        writeln!(f, "ExecStart={}{config} run", argument(&self.program))?;
        writeln!(f, "ExecReload=/bin/kill -HUP $MAINPID")?;
        writeln!(f, "# After each end: `sched status` and the next start name its cause.")?;
        writeln!(f, "ExecStopPost=-{}{config} ended", argument(&self.program))?;
        writeln!(f, "WorkingDirectory={}", whole(&self.folder))?;
        writeln!(
            f,
            "# Secrets: lines NAME=value in a file that only root reads.\n#EnvironmentFile=-/etc/sched/environment"
        )?;
        writeln!(f, "Restart=on-failure\nRestartSec=2\nWatchdogSec={}\nTimeoutStartSec=300", self.watchdog)?;
        writeln!(f, "# Above shutdown.grace: running jobs end first.\nTimeoutStopSec={}", self.stop)?;
        writeln!(f, "KillMode=mixed\nLimitNOFILE=65536\n")?;
        if let Some(user) = &self.user {
            writeln!(f, "User={user}")?;
        }
        match (self.of_user, self.trust_jobs) {
            (_, true) => {}
            // The manager of a user cannot take rights away, nor mount: what is left are filters of calls.
            (true, false) => write!(f, "{ANYWHERE}{FILTERS}")?,
            (false, false) => {
                // A folder in a home stays visible, and the lines above it writable.
                let home = if self.home { "read-only" } else { "true" };
                writeln!(f, "{ANYWHERE}{FILTERS}{SYSTEM}ProtectHome={home}")?;
                // With a /tmp of its own it would not see what lies in the machine's.
                writeln!(f, "PrivateTmp={}", !self.tmp)?;
                for path in &self.writable {
                    writeln!(f, "ReadWritePaths={}", word(path))?;
                }
            }
        }
        writeln!(f, "\n[Install]\nWantedBy={}", if self.of_user { "default.target" } else { "multi-user.target" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_in_the_package_is_what_install_writes() {
        let unit = Unit {
            program: "/usr/local/bin/sched".into(),
            config: Some("/etc/sched/sched.toml".into()),
            folder: "/etc/sched".into(),
            writable: vec!["/var/lib/sched".into()],
            user: Some("sched".into()),
            of_user: false,
            trust_jobs: false,
            home: false,
            tmp: false,
            stop: 15,
            watchdog: 180,
        };
        assert_eq!(unit.to_string(), include_str!("../../../packaging/sched.service"));
    }

    #[test]
    fn paths_mean_themselves_in_a_unit() {
        assert_eq!(word(Path::new("/srv/a b")), "\"/srv/a b\"");
        assert_eq!(word(Path::new("/srv/100%")), "/srv/100%%");
        assert_eq!(argument(Path::new("/srv/$x\"y")), "\"/srv/$$x\\\"y\"");
        assert_eq!(whole(Path::new("/srv/a b%")), "/srv/a b%%");
    }
}
