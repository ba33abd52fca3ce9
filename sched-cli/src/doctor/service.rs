//! Who starts the scheduler again after a reboot.

use std::path::{Path, PathBuf};

use super::Check;

/// What there is that starts things here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Starter {
    /// A unit that is enabled, for the system.
    Unit,
    /// One of a user whose services run without a session.
    Lingering,
    /// One of a user whose services end with the last session.
    WithTheSession,
    /// A unit that nothing starts.
    NotEnabled,
    Container,
    Nobody,
}

pub(super) fn check() -> Check {
    judge(look())
}

fn look() -> Starter {
    let names_us = |path: &Path| std::fs::read_to_string(path).is_ok_and(|text| text.contains(crate::install::MARK));
    let units = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.filter(|path| path.extension().is_some_and(|end| end == "service") && names_us(path)).collect()
    };
    let enabled = |folder: &Path| {
        ["default.target.wants", "multi-user.target.wants"].iter().any(|wants| !units(&folder.join(wants)).is_empty())
    };
    let system = Path::new("/etc/systemd/system");
    if enabled(system) {
        return Starter::Unit;
    }
    let of_user = crate::install::user_folder();
    if of_user.as_deref().is_some_and(enabled) {
        let user = std::env::var("USER").unwrap_or_default();
        let lingers = !user.is_empty() && Path::new("/var/lib/systemd/linger").join(user).exists();
        return if lingers { Starter::Lingering } else { Starter::WithTheSession };
    }
    if !units(system).is_empty() || of_user.is_some_and(|folder| !units(&folder).is_empty()) {
        return Starter::NotEnabled;
    }
    let contained = ["/.dockerenv", "/run/.containerenv"].iter().any(|path| Path::new(path).exists());
    if contained { Starter::Container } else { Starter::Nobody }
}

fn judge(starter: Starter) -> Check {
    let check = "after a reboot";
    match starter {
        Starter::Unit => Check::ok(check, "systemd starts it"),
        Starter::Lingering => Check::ok(check, "systemd starts it, for this user"),
        Starter::WithTheSession => {
            Check::warn(check, "this user's services end with the last session", "loginctl enable-linger")
        }
        Starter::NotEnabled => Check::warn(
            check,
            "there is a unit, and nothing enables it",
            "`systemctl enable --now sched`, for a user's unit `systemctl --user enable --now sched`",
        ),
        Starter::Container => {
            Check::ok(check, "in a container: what started it starts it again, by its restart policy")
        }
        Starter::Nobody => Check::warn(check, "nothing starts it again", "`sched install` writes a systemd unit"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn only_what_comes_back_by_itself_is_well() {
        use Starter::{Container, Lingering, Nobody, NotEnabled, Unit, WithTheSession};
        assert_eq!([Unit, Lingering, Container].map(|starter| judge(starter).state), [State::Ok; 3]);
        assert_eq!([WithTheSession, NotEnabled, Nobody].map(|starter| judge(starter).state), [State::Warn; 3]);
    }
}
