//! What wrong input is told: fifty kinds of it, each with its message, as they stand in `snapshots/`.
//!
//! After a change, look at what differs and keep it: `INSTA_UPDATE=always cargo test -p sched-core --test errors`.

use sched_core::config::Config;
use sched_core::{Job, JobError, Output, Registry, RunContext, async_trait};
use serde::Deserialize;

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    #[serde(rename = "argv")]
    _argv: Vec<String>,
}

struct Nothing;

#[async_trait]
impl Job for Nothing {
    async fn run(&self, _: &RunContext) -> Result<Output, JobError> {
        Ok(Output::default())
    }
}

/// Triggers, as they stand after `trigger =`.
const TRIGGERS: &[&str] = &[
    r#"{ cron = "60 * * * *" }"#,
    r#"{ cron = "* 24 * * *" }"#,
    r#"{ cron = "0 0 0 * *" }"#,
    r#"{ cron = "0 0 * 13 *" }"#,
    r#"{ cron = "0 0 * * 8" }"#,
    r#"{ cron = "0 8 * *" }"#,
    r#"{ cron = "0 0 8 * * * * *" }"#,
    r#"{ cron = "" }"#,
    r#"{ cron = "@dayly" }"#,
    r#"{ cron = "@reboot" }"#,
    r#"{ cron = "0 22-2 * * *" }"#,
    r#"{ cron = "*/0 * * * *" }"#,
    r#"{ cron = "*/90 * * * *" }"#,
    r#"{ cron = "0 8 * * mno" }"#,
    r#"{ cron = "0 8 * janury *" }"#,
    r#"{ cron = "0 8 ? * mon" }"#,
    r#"{ cron = "0 8,,9 * * *" }"#,
    r#"{ cron = "0 8- * * *" }"#,
    r#"{ cron = "0 8 32W * *" }"#,
    r#"{ cron = "0 8 * * 5#6" }"#,
    r#"{ cron = "0 8 L-31 * *" }"#,
    r#"{ cron = "0 8 * * LW" }"#,
    r#"{ cron = "0 8 * * 1", dialect = "quartz" }"#,
    r#"{ cron = "0 0 8 * * 2", dialect = "quartz" }"#,
    r#"{ cron = "0 0 8 ? * 0", dialect = "quartz" }"#,
    r#"{ cron = "0 8 * * *", dialect = "spring" }"#,
    r#"{ cron = "0 8 * * *", anchor = "2026-01-01T00:00:00Z" }"#,
    r#"{ every = "5" }"#,
    r#"{ every = "10ms" }"#,
    r#"{ every = "6h", timezone = "Europe/Lodnon" }"#,
    r#"{ every = "6h", anchor = "yesterday" }"#,
    r#"{ after_completion = "0s" }"#,
    r#"[{ after_completion = "5m" }, { daily = "08:00" }]"#,
    r#"{ daily = "8" }"#,
    r#"{ daily = "25:00" }"#,
    r#"{ daily = [] }"#,
    r#"{ weekly = { on = ["mo"], at = "02:00" } }"#,
    r#"{ weekly = { at = "02:00" } }"#,
    r#"{ once = "2026-13-01T00:00:00Z" }"#,
    r#"{ calendar = "Mon..Frid 02:00" }"#,
    r#"{ calendar = "*-*-* 00:00:00.5" }"#,
    r#"{ calendar = "*-13-01" }"#,
    r#"{ rrule = "FREQ=HOURLY" }"#,
    r#"{ rrule = "INTERVAL=2" }"#,
    r#"{ rrule = "FREQ=MONTHLY;BYDAY=XX" }"#,
    r#"{ rrule = "FREQ=DAILY;COUNT=2;UNTIL=20300101" }"#,
    r#"{ rrule = "FREQ=WEEKLY;BYDAY=1MO" }"#,
    r#"{ daily = "08:00", every = "1h" }"#,
    r#"{ dayly = "08:00" }"#,
    r#"{ daily = "08:00", limit = 5 }"#,
    r#"{ daily = "08:00", start = "2027-01-01T00:00:00Z", end = "2026-01-01T00:00:00Z" }"#,
    r#"{ daily = "08:00", except = ["christmas"] }"#,
    r#"{ daily = "08:00", dst = { gap = "jump" } }"#,
    r#""08:00""#,
];

/// Whole texts.
const TEXTS: &[&str] = &[
    "timezone = \"Mars/Olympus\"\n",
    "[http]\nlisten = \"localhost\"\n",
    "[heartbeat]\nevery = \"0s\"\n",
    "[engine]\nmax_concurrent_runs = 0\n",
    "[groups]\nreports = 0\n",
    "[shutdwon]\ngrace = \"5s\"\n",
    "[[schedule]]\nname = \"a\"\n",
    "[[schedule]]\nname = \"a b\"\njob = \"command\"\ntrigger = { daily = \"08:00\" }\n",
    "[[schedule]]\nname = \"a\"\njob = \"comand\"\ntrigger = { daily = \"08:00\" }\n",
    "[[schedule]]\nname = \"a\"\njob = \"command\"\ntrigger = { daily = \"08:00\" }\n",
    "[[schedule]]\nname = \"a\"\njob = \"command\"\ntrigger = { daily = \"08:00\" }\nparams = { argv = [\"ls\"], dir = \"/\" }\n",
    "[[schedule]]\nname = \"a\"\njob = \"command\"\ntrigger = { daily = \"08:00\" }\nparams = { argv = [\"ls\"] }\nretry = { attempts = 0 }\n",
    "[[schedule]]\nname = \"a\"\njob = \"command\"\ntrigger = { daily = \"08:00\" }\nparams = { argv = [\"ls\"] }\ngroup = \"reprots\"\n[groups]\nreports = 1\n",
    "[[schedule]]\nname = \"a\"\njob = \"command\"\ntrigger = { daily = \"08:00\" }\nparams = { argv = [\"ls\"] }\noverlap = \"sometimes\"\n",
    "[[schedule]]\nname = \"a\"\njob = \"command\"\ntrigger = { after_completion = \"5m\" }\nparams = { argv = [\"ls\"] }\noverlap = \"allow\"\n",
    "timezone = \"UTC\n",
];

#[test]
fn wrong_input_is_told_where_it_is_wrong_and_what_to_write() {
    let mut registry = Registry::new();
    registry.register_with_attempts("command", "Commands", 1, |_: Params| Ok(Nothing));
    let triggers = TRIGGERS.iter().map(|trigger| {
        let params = "params = { argv = [\"true\"] }";
        (
            format!("trigger = {trigger}"),
            format!("[[schedule]]\nname = \"a\"\njob = \"command\"\n{params}\ntrigger = {trigger}\n"),
        )
    });
    let texts = TEXTS.iter().map(|text| ((*text).to_owned(), (*text).to_owned()));
    let mut told = String::new();
    for (shown, text) in triggers.chain(texts) {
        let error = match Config::parse(&text, &[], &registry) {
            Ok(_) => panic!("this is taken: {text}"),
            Err(error) => error.to_string(),
        };
        told += &format!("{}\n    {}\n\n", shown.trim_end(), error.replace('\n', "\n    "));
    }
    insta::assert_snapshot!(told);
}
