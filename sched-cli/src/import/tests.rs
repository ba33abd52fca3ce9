//! Whatever is read, what is written is a configuration.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sched_core::Registry;
use sched_core::config::Config;

use super::{Files, Plan, Source, crontab, systemd};

fn registry() -> Registry {
    let mut registry = Registry::new();
    let env = sched_jobs::JobEnv { base_dir: ".".into(), data_dir: "data".into(), base_url: None };
    sched_jobs::register_all(&mut registry, &env);
    registry
}

fn of_crontab(text: &str, system: bool) -> Plan {
    let home = |_: Option<&str>| Some("/root".to_owned());
    crontab(text, &Source { file: "tab", system, zone: chrono_tz::Europe::Berlin, home: &home })
}

fn of_units(timer: &str, service: &str) -> Plan {
    let texts = [("x.timer", timer), ("x.service", service)].map(|(name, text)| (name.to_owned(), text.to_owned()));
    systemd(&Files { folder: "units".into(), texts: BTreeMap::from(texts), zone: chrono_tz::UTC })
}

#[track_caller]
fn accepted(plan: &Plan, registry: &Registry) -> Config {
    let text = plan.to_toml();
    let config = Config::parse(&text, &[], registry).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    assert_eq!(config.schedules.len(), plan.schedules().count());
    config
}

/// A crontab's line: mostly well formed, with what is hard to quote.
fn line() -> impl Strategy<Value = String> {
    let field =
        prop_oneof![Just("*"), Just("*/5"), Just("1"), Just("1-5"), Just("0,7"), Just("mon"), Just("9-3"), Just("5/2")];
    let entry = (prop::collection::vec(field, 5), "[a-z\"'\\\\%#=$ \\t\u{7f}\u{1}\u{e9}/.-]{0,30}")
        .prop_map(|(fields, command)| format!("{} {command}", fields.join(" ")));
    prop_oneof![
        entry,
        "[A-Z_]{1,8} ?= ?[\"']?[ -~]{0,12}[\"']?",
        Just("CRON_TZ=Europe/Paris".to_owned()),
        Just("RANDOM_DELAY=6".to_owned()),
        "@(reboot|daily|never) [ -~]{0,20}",
        "#\\PC{0,20}",
        any::<String>(),
    ]
}

fn setting() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        Just("OnCalendar"),
        Just("OnBootSec"),
        Just("OnUnitActiveSec"),
        Just("OnUnitInactiveSec"),
        Just("Persistent"),
        Just("RandomizedDelaySec"),
        Just("ExecStart"),
        Just("Environment"),
        Just("User"),
        Just("UMask"),
        Just("Nice"),
        Just("LimitNOFILE"),
        Just("LimitCPU"),
        Just("LimitDATA"),
        Just("TimeoutStartSec"),
        Just("SuccessExitStatus"),
        Just("Type"),
        Just("WorkingDirectory"),
        Just("Description"),
    ];
    let value = prop_oneof![
        Just("daily".to_owned()),
        Just("Mon *-*-* 02:00".to_owned()),
        "[0-9]{1,12}(s|min|h|M| years)?",
        "[-@:+!]?/bin/a [ -~]{0,20}",
        "[A-Z]{1,3}=[ -~]{0,10}",
        any::<String>(),
        Just(String::new()),
    ];
    (key, value).prop_map(|(key, value)| format!("{key}={value}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_crontab_becomes_a_configuration(lines in prop::collection::vec(line(), 0..8), system: bool) {
        accepted(&of_crontab(&lines.join("\n"), system), &registry());
    }

    #[test]
    fn every_unit_becomes_a_configuration(
        timer in prop::collection::vec(setting(), 0..6),
        service in prop::collection::vec(setting(), 0..8),
    ) {
        let service = format!("[Service]\nExecStart=/bin/true\n{}", service.join("\n"));
        accepted(&of_units(&format!("[Timer]\n{}", timer.join("\n")), &service), &registry());
    }
}

#[track_caller]
fn params(plan: &Plan, index: usize) -> serde_json::Value {
    serde_json::to_value(&accepted(plan, &registry()).schedules[index].params).unwrap()
}

#[test]
fn a_percent_sign_begins_the_input_and_an_escaped_one_is_itself() {
    let plan = of_crontab("0 8 * * 1 mail -s '100\\% of it' boss%Dear,%all \\% well\n0 9 * * * cat%\n", false);
    let first = params(&plan, 0);
    assert_eq!(first["argv"], serde_json::json!(["mail -s '100% of it' boss"]));
    assert_eq!(first["stdin"], "Dear,\nall % well\n");
    assert_eq!((&params(&plan, 1)["argv"][0], &params(&plan, 1)["stdin"]), (&"cat".into(), &"".into()));
}

#[test]
fn variables_hold_from_their_line_on_with_nothing_expanded() {
    let plan = of_crontab("A=1\n0 * * * * x\n'A' = \" $B \"\nSHELL=/bin/bash\n1 * * * * y\n", false);
    assert_eq!((&params(&plan, 0)["env"]["A"], &params(&plan, 0)["shell"]), (&"1".into(), &true.into()));
    let second = params(&plan, 1);
    assert_eq!((&second["env"]["A"], &second["argv"]), (&" $B ".into(), &serde_json::json!(["/bin/bash", "-c", "y"])));
}

#[test]
fn a_secret_is_referred_to_and_never_written() {
    let plan = of_crontab("PGPASSWORD=hunter2\n0 * * * * x\n", false);
    let (text, left): (_, Vec<_>) = (plan.to_toml(), plan.left_out().map(|left| left.what.clone()).collect());
    assert!(!text.contains("hunter2") && text.contains("PGPASSWORD = \"env:PGPASSWORD\""), "{text}");
    assert_eq!(left, ["PGPASSWORD"]);
    let odd = "# API_TOKEN=hunter2\n\"MY SECRET\"=hunter2\nTOKEN=\"hunter2\n0 * * * * x\n";
    let text = of_crontab(odd, false).to_toml();
    assert!(!text.contains("hunter2") && text.contains("# API_TOKEN=… was set in a comment"), "{text}");
    let plan = of_units("[Timer]\nOnCalendar=daily", "[Service]\nExecStart=/bin/a\nEnvironment=\"API_TOKEN=hunter2\"");
    assert!(!plan.to_toml().contains("hunter2"), "{}", plan.to_toml());
}

#[test]
fn a_system_crontab_names_users_and_groups() {
    let plan = of_crontab("0 * * * * root:wheel/staff /bin/a\n1 * * * * root\n", true);
    let first = params(&plan, 0);
    assert_eq!((&first["user"], &first["group"], &first["cwd"]), (&"root".into(), &"wheel".into(), &"/root".into()));
    let left: Vec<_> = plan.left_out().map(|left| (left.line, left.what.as_str())).collect();
    assert_eq!(left, [(1, "/staff"), (2, "1 * * * * root")]);
}

#[test]
fn several_commands_and_variables_of_a_service_become_a_line_of_a_shell() {
    let service = "[Service]\nExecStart=-/bin/a 'b c'\nExecStart=/bin/d ${E} $F 1%%\n";
    let plan = of_units("[Timer]\nOnCalendar=daily", service);
    assert_eq!(params(&plan, 0)["argv"][0], "set -f; { /bin/a 'b c' || :; } && /bin/d \"${E}\" $F 1%");
}
