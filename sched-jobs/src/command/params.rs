//! What is written under `params`, and what of it cannot work.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::LazyLock;

use sched_core::process::{Conditions, Program};
use sched_core::{Limits, ParamError, RunContext};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{JobEnv, secret};

/// What a program inherits from the scheduler's environment. Everything else is withheld unless it is named.
const INHERITED: &[&str] = &["PATH", "LANG", "LC_ALL", "TZ", "TMPDIR"];
/// What it inherits too when it runs as the scheduler's own user.
const OF_THE_USER: &[&str] = &["HOME", "USER", "LOGNAME", "SHELL"];

/// What a program that runs as the scheduler's own user inherits. It is the same for as long as the scheduler lives.
static OURS: LazyLock<Environment> = LazyLock::new(|| inherited(INHERITED.iter().chain(OF_THE_USER).copied()));

type Environment = BTreeMap<OsString, OsString>;

fn inherited<'a>(names: impl Iterator<Item = &'a str>) -> Environment {
    names.filter_map(|name| Some((name.into(), std::env::var_os(name)?))).collect()
}

/// Parameters of `command`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// The program and its arguments; with `shell`, one line for `/bin/sh`.
    pub(crate) argv: Vec<String>,
    /// Run `argv`'s only element by `/bin/sh -c`.
    #[serde(default)]
    shell: bool,
    /// The folder it runs in; the configuration's folder unless set.
    #[serde(default)]
    cwd: Option<PathBuf>,
    /// Variables beside the inherited ones.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Variables whose values are secrets, each as "env:NAME" or "file:PATH".
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    /// Names of further variables to inherit from the scheduler.
    #[serde(default)]
    inherit: Vec<String>,
    /// A text for its standard input.
    #[serde(default)]
    pub(crate) stdin: Option<String>,
    /// A file for its standard input.
    #[serde(default)]
    stdin_file: Option<PathBuf>,
    /// Exit codes that are success.
    #[serde(default = "zero")]
    success_codes: Vec<u8>,
    /// Exit codes after which another attempt may help; after others none follows. Any, unless set.
    #[serde(default)]
    retry_codes: Option<Vec<u8>>,
    /// Whom it runs as: a name or a number. Needs a scheduler that runs as root.
    #[serde(default)]
    user: Option<String>,
    /// Its group, instead of the user's own: a name or a number.
    #[serde(default)]
    group: Option<String>,
    /// The permissions that files it makes do not get, in octal: "027".
    #[serde(default)]
    umask: Option<String>,
    /// How far it stands back behind others: 19 the most, below 0 only for root.
    #[serde(default)]
    nice: Option<i32>,
    /// What each of its processes may use.
    #[serde(default)]
    limits: Limits,
}

fn zero() -> Vec<u8> {
    vec![0]
}

/// What an exit code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    Success,
    Failure,
    /// No further attempt helps.
    Final,
}

impl Params {
    /// What of it cannot work; `at` is where it stands in the params, with its dot.
    pub(crate) fn check(&self, at: &str) -> Result<(), ParamError> {
        let fault = |path: &str, message: &str| Err(ParamError::new(format!("{at}{path}"), message));
        if self.argv.first().is_none_or(String::is_empty) {
            return fault("argv", "needs at least the program, such as [\"/usr/bin/true\"]");
        }
        if self.shell && self.argv.len() != 1 {
            return fault("argv", "with shell = true it has one element, the line for /bin/sh");
        }
        if self.argv.iter().any(|word| word.contains('\0')) {
            return fault("argv", "a word with a NUL byte cannot be handed to a program");
        }
        for name in self.env.keys().chain(self.secrets.keys()).chain(&self.inherit) {
            if name.is_empty() || name.contains(['=', '\0']) {
                return fault("env", &format!("`{name}` is not the name of a variable"));
            }
        }
        if let Some((name, _)) = self.env.iter().find(|(_, value)| value.contains('\0')) {
            return fault(&format!("env.{name}"), "a value with a NUL byte cannot be handed to a program");
        }
        if let Some((name, _)) = self.secrets.iter().find(|(_, value)| !secret::is_reference(value)) {
            return fault(&format!("secrets.{name}"), "write \"env:NAME\" or \"file:PATH\", not the secret itself");
        }
        let own = |name: &str| name == "DASHBOARD_KEY" || name.starts_with("SCHED__");
        if let Some(name) = self.inherit.iter().find(|name| own(name)) {
            return fault("inherit", &format!("`{name}` is the scheduler's own, and no program gets it"));
        }
        if let Some((name, value)) = self.secrets.iter().find(|(_, value)| value.strip_prefix("env:").is_some_and(own))
        {
            let message = format!("`{value}` is the scheduler's own, and no program gets it");
            return fault(&format!("secrets.{name}"), &message);
        }
        if self.stdin.is_some() && self.stdin_file.is_some() {
            return fault("stdin_file", "a program has one standard input: write `stdin` or `stdin_file`");
        }
        if self.umask.is_some() && self.umask().is_none() {
            return fault("umask", "write it in octal, such as \"027\"");
        }
        if self.nice.is_some_and(|nice| !(-20..=19).contains(&nice)) {
            return fault("nice", "must be -20 to 19");
        }
        if let Some((field, message)) = self.limits.fault() {
            return fault(&format!("limits.{field}"), message);
        }
        Ok(())
    }

    /// A program with the scheduler's variables of these names, and else as unset.
    pub(crate) fn plain(argv: Vec<String>, inherit: &[&str]) -> Self {
        Self {
            argv,
            shell: false,
            cwd: None,
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            inherit: inherit.iter().map(|name| (*name).to_owned()).collect(),
            stdin: None,
            stdin_file: None,
            success_codes: zero(),
            retry_codes: None,
            user: None,
            group: None,
            umask: None,
            nice: None,
            limits: Limits::default(),
        }
    }

    fn umask(&self) -> Option<u32> {
        u32::from_str_radix(self.umask.as_deref()?, 8).ok().filter(|mask| *mask <= 0o777)
    }

    /// What the program says by its exit code.
    pub(crate) fn meaning(&self, code: i32) -> Meaning {
        let among = |codes: &[u8]| u8::try_from(code).is_ok_and(|code| codes.contains(&code));
        if among(&self.success_codes) {
            Meaning::Success
        } else if self.retry_codes.as_deref().is_none_or(among) {
            Meaning::Failure
        } else {
            Meaning::Final
        }
    }

    /// The file that is its standard input.
    pub(crate) fn stdin_file(&self, env: &JobEnv) -> Option<PathBuf> {
        self.stdin_file.as_deref().map(|path| env.path(path))
    }

    pub(crate) fn program(&self, ctx: &RunContext, env: &JobEnv) -> Result<Program, String> {
        let argv: Vec<OsString> = if self.shell {
            ["/bin/sh", "-c", &self.argv[0]].map(OsString::from).into()
        } else {
            self.argv.iter().map(OsString::from).collect()
        };
        let info = ctx.info();
        let mut variables = if self.user.is_none() { OURS.clone() } else { inherited(INHERITED.iter().copied()) };
        variables.extend(inherited(self.inherit.iter().map(String::as_str)));
        variables.extend(self.env.iter().map(|(name, value)| (name.into(), value.into())));
        for (name, reference) in &self.secrets {
            let value =
                secret::resolve(reference, &env.base_dir).map_err(|error| format!("secrets.{name}: {error}"))?;
            variables.insert(name.into(), value.into());
        }
        let facts = [
            ("SCHED_RUN_ID", info.run_id.to_string()),
            ("SCHED_SCHEDULE", info.schedule.to_string()),
            ("SCHED_NOMINAL_AT", info.nominal_at.map_or(String::new(), |at| at.to_rfc3339())),
            ("SCHED_ATTEMPT", info.attempt.to_string()),
            ("SCHED_FENCE", info.fence.to_string()),
        ];
        variables.extend(facts.map(|(name, value)| (name.into(), value.into())));
        Ok(Program {
            argv,
            env: variables,
            cwd: self.cwd.as_ref().map_or_else(|| env.base_dir.clone(), |cwd| env.path(cwd)),
            arg0: None,
            conditions: Conditions {
                umask: self.umask(),
                nice: self.nice,
                limits: self.limits.clone(),
                user: self.user.clone(),
                group: self.group.clone(),
            },
        })
    }
}
