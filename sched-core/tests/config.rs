//! What a person who writes `sched.toml` gets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use std::time::Duration;

use sched_core::config::Config;
use sched_core::{
    Channel, ChannelName, DeliveryError, Job, JobError, Message, Output, Registry, RunContext, async_trait,
};
use serde::Deserialize;

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    #[serde(default, rename = "count")]
    _count: u32,
}

struct Nothing;

#[async_trait]
impl Job for Nothing {
    async fn run(&self, _: &RunContext) -> Result<Output, JobError> {
        Ok(Output::default())
    }
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.register("report", "Reports", |_: Params| Ok(Nothing));
    registry.register_with_attempts("command", "Commands", 1, |_: Params| Ok(Nothing));
    registry
}

fn parse(text: &str) -> Config {
    Config::parse(text, &[], &registry()).unwrap()
}

#[track_caller]
fn check_fault(text: &str, expected: &str) {
    let error = Config::parse(text, &[], &registry()).unwrap_err().to_string();
    assert!(error.starts_with(expected), "expected: {expected}\nfound: {error}");
}

const SCHEDULE: &str = "[[schedule]]\nname = \"a\"\njob = \"report\"\ntrigger = { daily = \"08:00\" }\n";

#[test]
fn an_empty_text_is_the_documented_defaults() {
    let config = parse("");
    assert_eq!(config, Config::default());
    assert_eq!(config.listen.to_string(), "127.0.0.1:5000");
    assert_eq!((config.heartbeat, config.shutdown_grace), (Duration::from_secs(60), Duration::from_secs(5)));
}

#[test]
fn defaults_reach_each_schedule_and_partial_tables_keep_the_rest() {
    let head = "timezone = \"Europe/London\"\n[defaults]\nretry = { initial = \"7s\" }\ntimeout = \"30s\"\n";
    let spec = &parse(&format!("{head}{SCHEDULE}retry = {{ attempts = 5 }}\n")).schedules[0];
    assert_eq!((spec.retry.attempts, spec.retry.initial), (5, Duration::from_secs(7)));
    assert_eq!(spec.timeout, Duration::from_secs(30));
    assert_eq!(spec.trigger.timezone, Some(chrono_tz::Europe::London));
}

#[test]
fn attempts_come_from_the_kind_and_at_most_once_means_one() {
    let command = SCHEDULE.replace("report", "command");
    assert_eq!(parse(SCHEDULE).schedules[0].retry.attempts, 3);
    assert_eq!(parse(&command).schedules[0].retry.attempts, 1);
    assert_eq!(parse(&format!("{SCHEDULE}delivery = \"at_most_once\"\n")).schedules[0].retry.attempts, 1);
}

#[test]
fn the_environment_wins_over_the_text() {
    let overlay = [("SCHED__HTTP__LISTEN".to_owned(), "127.0.0.1:6000".to_owned())];
    let config = Config::parse("[http]\nlisten = \"127.0.0.1:5001\"", &overlay, &registry()).unwrap();
    assert_eq!(config.listen.port(), 6000);
    let wrong = [("SCHED__HTTP__LISTTEN".to_owned(), "x".to_owned())];
    let error = Config::parse("", &wrong, &registry()).unwrap_err().to_string();
    assert!(error.contains("SCHED__HTTP__LISTTEN") && error.contains("did you mean `HTTP__LISTEN`"), "{error}");
}

#[test]
fn each_fault_is_named_with_its_place_and_remedy() {
    let zone = "1:12: timezone: no time zone `Europe/Lodnon`; did you mean `Europe/London`?";
    check_fault("timezone = \"Europe/Lodnon\"", zone);
    check_fault("[http]\nlisten = \"localhost\"", "2:10: listen: `localhost` is not an address and port");
    check_fault("[http]\ndashboard_key = \"short\"", "2:17: dashboard_key: a literal key has at least 32 characters");
    check_fault("[store]\nurl = \"postgres://x\"", "2:7: url: this version stores in SQLite only");
    check_fault("[heartbeat]\nevery = \"0s\"", "2:9: every: the heartbeat's period is at least");
    check_fault("a = ", "1:");
    check_fault("[groups]\nx = 0", "2:5: `x` is a whole number from 1");
    check_fault(&SCHEDULE.replace("\"report\"", "\"repotr\""), "3:7: no job kind `repotr`; did you mean `report`?");
    check_fault(&SCHEDULE.replace("08:00", "8 o'clock"), "4:11: trigger: `8 o'clock` is not a time of day");
    check_fault(&format!("{SCHEDULE}timeot = \"1s\"\n"), "5:10: unknown key `timeot`; did you mean `timeout`?");
    check_fault(&format!("{SCHEDULE}params = {{ cuont = 1 }}\n"), "5:20: params.cuont: unknown field");
    check_fault(&format!("{SCHEDULE}params = {{ count = \"x\" }}\n"), "5:20: params.count: invalid type");
    check_fault(&format!("{SCHEDULE}group = \"g\"\n"), "5:9: no group `g`; write its limit under [groups]");
    check_fault(&format!("{SCHEDULE}{SCHEDULE}"), "6:8: two schedules are named `a`");
    check_fault(&format!("{SCHEDULE}notify = [\"ops\"]\n"), "5:10: no channel `ops`; write it as a [[channel]]");
    check_fault(
        &format!("{SCHEDULE}runner = \"thread\"\n"),
        "5:10: runner: no runner `thread`; write \"task\" or \"process\"",
    );
    check_fault(
        &format!("{SCHEDULE}runner = {{ process = {{ cpu = \"0s\" }} }}\n"),
        "5:10: runner: process.cpu: the kernel counts whole seconds; write \"1s\" or more",
    );
    check_fault(&SCHEDULE.replace("name = \"a\"\n", ""), "1:1: this schedule has no `name`");
    let both = "delivery = \"at_most_once\"\nretry = { attempts = 2 }\n";
    check_fault(&format!("{SCHEDULE}{both}"), "6:22: retry.attempts: delivery = \"at_most_once\" allows one attempt");
}

#[test]
fn a_number_that_is_none_is_not_read_as_if_nobody_had_written_it() {
    let params = |value: &str| format!("{SCHEDULE}params = {{ count = {value} }}");
    for (value, expected) in [
        ("nan", "5:20: nan is not a number that can be reckoned with"),
        ("-inf", "5:20: -inf is not a number that can be reckoned with"),
        ("1e999", "5:20: 1e999 is not a number that can be reckoned with"),
        ("99999999999999999999", "5:20: 99999999999999999999 is no whole number of 64 bits"),
    ] {
        check_fault(&params(value), expected);
    }
}

#[test]
fn all_faults_are_reported_at_once() {
    let error = Config::parse("x = 1\n[http]\nlisten = 3", &[], &registry()).unwrap_err();
    assert_eq!(error.0.iter().map(|e| e.line).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn a_key_that_is_refused_is_not_repeated() {
    let error = Config::parse("[http]\ndashboard_key = \"hunter2\"", &[], &registry()).unwrap_err().to_string();
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_fault_in_one_schedule_is_not_told_again_at_those_that_come_after_it() {
    let first = SCHEDULE.replace("08:00", "25:00");
    let second = "[[schedule]]\nname = \"b\"\njob = \"report\"\ntrigger = { after = { schedule = \"a\" } }\n";
    let error = Config::parse(&(first + second), &[], &registry()).unwrap_err();
    assert_eq!(error.0.len(), 1, "{error}");
    check_fault(second, "4:34: trigger.after.schedule: no schedule `a`");
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Sends {
    #[serde(default, rename = "deliver")]
    _deliver: Vec<ChannelName>,
    #[serde(default, rename = "copy")]
    _copy: Option<ChannelName>,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Mail {
    #[serde(rename = "to")]
    _to: String,
}

struct Silent;

#[async_trait]
impl Channel for Silent {
    async fn deliver(&self, _: &Message) -> Result<(), DeliveryError> {
        Ok(())
    }
}

#[test]
fn channels_are_checked_and_so_is_who_names_them() {
    let mut registry = registry();
    registry.register("letter", "Writes", |_: Sends| Ok(Nothing));
    registry.register_channel("mail", "Sends mail", |_: Mail| Ok(Silent));
    let channel = "[[channel]]\nname = \"ops\"\nkind = \"mail\"\nparams = { to = \"a@b\" }\n";
    let schedule = SCHEDULE.replace("report", "letter");
    let read = |text: &str| Config::parse(text, &[], &registry).map_err(|error| error.to_string());

    let text = format!(
        "timezone = \"Europe/London\"\n{channel}on = [\"failed\"]\nrepeat = \"1h\"\nquiet = {{ from = \"22:00\", until = \
         \"07:00\" }}\n{schedule}notify = [\"ops\"]\nparams = {{ deliver = [\"ops\"], copy = \"ops\" }}\n"
    );
    let config = read(&text).unwrap();
    assert_eq!(config.schedules[0].notify[0].as_str(), "ops");
    let ready = config.channels(&registry).unwrap();
    let policy = &ready.values().next().unwrap().policy;
    assert_eq!((policy.on.len(), policy.repeat, policy.most), (1, Duration::from_secs(3600), 50));
    assert_eq!(policy.quiet.as_ref().unwrap().timezone, Some(chrono_tz::Europe::London));

    let fault = |text: &str, expected: &str| assert_eq!(read(text).unwrap_err(), expected, "{text}");
    fault(&format!("{channel}onn = []\n"), "5:7: unknown key `onn`; did you mean `on`?");
    fault(&channel.replace("mail", "mial"), "3:8: no kind of channel `mial`; did you mean `mail`?");
    fault(&channel.replace("to =", "too ="), "4:18: params.too: unknown field `too`, expected `to`");
    fault(&format!("{channel}{channel}"), "6:8: two channels are named `ops`; choose another name for one of them");
    let named = |more: &str| format!("{channel}{schedule}{more}\n");
    let unknown = "no channel `opz`; write it as a [[channel]]; did you mean `ops`?";
    fault(&named("notify = [\"opz\"]"), &format!("9:10: {unknown}"));
    fault(&named("params = { deliver = [\"ops\", \"opz\"] }"), &format!("9:22: params.deliver: {unknown}"));
    fault(&named("params = { copy = \"opz\" }"), &format!("9:19: params.copy: {unknown}"));
}
