//! Channels against a real mail server and real HTTP servers, and a scheduler that tells through them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod smtp;
#[path = "../world/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod world;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sched_core::{
    ChannelName, Clock as _, DeliveryError, Letter, MemoryStore, OutboxFilter, OutboxState, ParamError, ReadyChannel,
    Registry, RunState, ScheduleSpec, Scheduler, SystemClock, TriggerRequest, TriggerSpec,
};
use sched_jobs::{JobEnv, register_all};
use serde_json::{Value, json};

use self::smtp::{Manner, Smtp};
use self::world::{answers, header, say, server};

fn name(text: &str) -> ChannelName {
    text.parse().unwrap()
}

/// A folder with a password, a secret and an authority in it.
struct Place {
    folder: tempfile::TempDir,
    registry: Registry,
}

impl Place {
    fn new(authority: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("password"), "open sesame\n").unwrap();
        std::fs::write(folder.path().join("secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority).unwrap();
        let mut registry = Registry::new();
        let env = JobEnv { base_dir: folder.path().into(), data_dir: folder.path().join("data"), base_url: None };
        register_all(&mut registry, &env);
        Self { folder, registry }
    }

    fn build(&self, kind: &str, params: &Value) -> Result<ReadyChannel, ParamError> {
        let channel = self.registry.channel_kind(kind).unwrap().build(params.as_object().unwrap())?;
        Ok(ReadyChannel { policy: channel.policy(), channel })
    }

    fn channel(&self, kind: &str, params: &Value) -> ReadyChannel {
        self.build(kind, params).unwrap()
    }

    async fn test(&self, kind: &str, params: &Value) -> Result<(), DeliveryError> {
        self.channel(kind, params).test(&name("ops"), SystemClock::new().now().utc).await
    }
}

fn mail(server: &Smtp, more: &Value) -> Value {
    let mut params = json!({
        "host": "localhost",
        "port": server.port,
        "from": "Sched <sched@example.com>",
        "to": ["Ann <ann@example.com>", "bob@example.org"],
        "user": "sched",
        "password": "file:password",
        "ca_file": "ca.pem",
    });
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    params
}

#[tokio::test]
async fn mail_goes_out_over_tls_after_a_login_and_nothing_is_said_in_the_clear() {
    for (manner, security) in [(Manner::Starttls, "starttls"), (Manner::Tls, "tls")] {
        let server = Smtp::start(manner);
        let place = Place::new(&server.authority);
        place.test("email", &mail(&server, &json!({ "security": security }))).await.unwrap();
        let heard = server.heard.lock().unwrap();
        assert!(heard.clear.iter().all(|line| line.starts_with("EHLO") || line == "STARTTLS"), "{:?}", heard.clear);
        let login = format!("AUTH PLAIN {}", BASE64.encode("\0sched\0open sesame"));
        assert!(heard.lines.contains(&login), "{:?}", heard.lines);
        let letter = &heard.letters[0];
        for part in [
            "From: Sched <sched@example.com>",
            "To: Ann <ann@example.com>, bob@example.org",
            "Subject: [sched] This is a trial of channel ops. Nothing has happened.",
            "Auto-Submitted: auto-generated",
            "Content-Type: text/plain; charset=utf-8",
            "Content-Type: text/html; charset=utf-8",
        ] {
            assert!(letter.contains(part), "{part}\n{letter}");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_the_one_meant_or_offers_no_tls_gets_nothing() {
    let server = Smtp::start(Manner::Starttls);
    let stranger = Place::new(&Smtp::start(Manner::Tls).authority);
    let error = stranger.test("email", &mail(&server, &json!({}))).await.unwrap_err();
    assert!(!error.is_permanent() && error.to_string().contains("certificate"), "{error}");
    let server = Smtp::start(Manner::Plain);
    let place = Place::new(&server.authority);
    let error = place.test("email", &mail(&server, &json!({}))).await.unwrap_err();
    assert!(error.to_string().contains("STARTTLS"), "{error}");
    let heard = server.heard.lock().unwrap();
    assert!(heard.letters.is_empty() && !heard.clear.iter().any(|line| line.starts_with("AUTH")), "{:?}", heard.clear);
}

#[tokio::test]
async fn a_wrong_login_may_be_put_right_and_an_unknown_recipient_may_not() {
    let server = Smtp::start(Manner::WrongLogin);
    let place = Place::new(&server.authority);
    let error = place.test("email", &mail(&server, &json!({}))).await.unwrap_err();
    assert!(!error.is_permanent() && error.to_string().contains("wrong"), "{error}");
    assert!(!error.to_string().contains("sesame"));
    let server = Smtp::start(Manner::KnowsNobody);
    let params =
        json!({ "host": "127.0.0.1", "port": server.port, "security": "none", "from": "a@b.c", "to": ["x@y.z"] });
    let error = place.test("email", &params).await.unwrap_err();
    assert!(error.is_permanent() && error.to_string().contains("no such user"), "{error}");
}

#[test]
fn what_cannot_work_is_refused_before_it_is_needed() {
    let place = Place::new("x");
    let refused = |kind: &str, params: Value| place.build(kind, &params).unwrap_err().to_string();
    let with = |more: Value| {
        let mut params = json!({ "host": "mail.example.com", "from": "a@b.c", "to": ["x@y.z"] });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        refused("email", params)
    };
    assert!(with(json!({ "to": [] })).starts_with("params.to: write from one to 50 addresses"));
    assert!(with(json!({ "to": ["ann"] })).starts_with("params.to: `ann` is no address"));
    assert!(with(json!({ "user": "u", "password": "p" })).starts_with("params.password: write \"env:NAME\""));
    assert!(with(json!({ "user": "u" })).contains("go together"));
    let clear = json!({ "security": "none", "user": "u", "password": "env:P" });
    assert!(with(clear).starts_with("params.security: a password is not sent in the clear"));
    assert!(refused("webhook", json!({ "url": "http://x", "secret": "abc" })).starts_with("params.secret: write"));
    assert!(refused("slack", json!({ "url": "ftp://x" })).starts_with("params.url: a URL begins with"));
    assert!(refused("ping", json!({ "url": "http://x/?a=1" })).contains("has no query"));
    assert!(refused("slack", json!({ "url": "http://x", "channel": "#a" })).contains("unknown field `channel`"));
}

#[tokio::test]
async fn a_webhook_is_signed_and_says_which_message_it_is() {
    let (address, asked) = answers("200 OK", "");
    let place = Place::new("x");
    place.test("webhook", &json!({ "url": format!("http://{address}/in"), "secret": "file:secret" })).await.unwrap();
    let request = asked.lock().unwrap()[0].clone();
    let body = request.split_once("\r\n\r\n").unwrap().1;
    let [id, time, signature] =
        ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|n| header(&request, n).unwrap());
    let key =
        ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &BASE64.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap());
    let tag = BASE64.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
    ring::hmac::verify(&key, format!("{id}.{time}.{body}").as_bytes(), &tag).unwrap();
    let document: Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        (&document["schema"], &document["id"], &document["notices"][0]["kind"]),
        (&json!(1), &json!(id), &json!("test"))
    );
}

#[tokio::test]
async fn a_secret_that_is_no_url_is_not_told() {
    let place = Place::new("x");
    for kind in ["ping", "slack", "webhook"] {
        let error = place.test(kind, &json!({ "url": "file:secret" })).await.unwrap_err().to_string();
        assert!(error.contains("is no http URL") && !error.contains("whsec"), "{kind}: {error}");
    }
}

#[tokio::test]
async fn refusals_say_what_the_other_side_said_and_which_of_them_are_for_good() {
    let place = Place::new("x");
    let post = |address: String| json!({ "url": format!("http://{address}/") });
    let (bad, _) = answers("400 Bad Request", "invalid_payload");
    let error = place.test("slack", &post(bad)).await.unwrap_err();
    assert_eq!((error.is_permanent(), error.to_string().as_str()), (true, "answered 400 Bad Request: invalid_payload"));
    let (gone, _) = answers("404 Not Found", "<html>no</html>");
    let error = place.test("slack", &post(gone)).await.unwrap_err();
    assert_eq!((error.is_permanent(), error.to_string().as_str()), (false, "answered 404 Not Found"));
    let (busy, _) = server(|stream, _, _| say(stream, "429 Too Many\r\nretry-after: 30", "slow down"));
    let error = place.test("slack", &post(busy)).await.unwrap_err();
    assert_eq!((error.is_permanent(), error.wait()), (false, Some(Duration::from_secs(30))));
}

/// A scheduler with these channels, whose schedules tell through all of them.
fn scheduler(place: &Place, channels: &[(&str, ReadyChannel)], schedules: &[(&str, Value)]) -> Scheduler {
    sched_core::process::init_within(&["--exact", "shim", "--nocapture"]);
    let never = TriggerSpec::once("2999-01-01T00:00:00Z".parse().unwrap());
    let specs = schedules.iter().map(|(schedule, params)| {
        let own = ["ceo_brief", "report", "self_heal"].contains(schedule);
        let kind = if own { schedule } else { "command" };
        let mut spec = ScheduleSpec::new(schedule, kind, never.clone()).unwrap();
        spec.params = params.as_object().unwrap().clone();
        spec.retry.attempts = 1;
        spec.with_notify(channels.iter().map(|(channel, _)| name(channel)))
    });
    let mut builder = Scheduler::builder(MemoryStore::new()).registry(place.registry.clone()).schedules(specs);
    for (channel, ready) in channels {
        builder = builder.channel(name(channel), ready.clone());
    }
    builder.data_dir(place.folder.path().join("data")).start().unwrap()
}

/// No test: where this executable, run again, becomes the shim of a program.
#[test]
fn shim() {
    sched_core::process::init_within(&["--exact", "shim", "--nocapture"]);
}

/// Waits until so many rows of the outbox are delivered.
async fn delivered(scheduler: &Scheduler, count: usize) {
    let filter = OutboxFilter { state: Some(OutboxState::Delivered), after: None, limit: 100 };
    while scheduler.handle().outbox(filter.clone()).await.unwrap().len() < count {
        tokio::task::yield_now().await;
    }
}

async fn run(scheduler: &Scheduler, schedule: &str) -> sched_core::RunRecord {
    let run_id = scheduler.handle().trigger(TriggerRequest::new(schedule.parse().unwrap(), "test")).await.unwrap();
    scheduler.handle().wait(run_id).await.unwrap()
}

#[tokio::test]
async fn a_failed_run_reaches_people_with_what_it_printed_last_and_how_to_go_on() {
    let mail_server = Smtp::start(Manner::Starttls);
    let place = Place::new(&mail_server.authority);
    let (chat, chatted) = answers("200 OK", "ok");
    let mut email = place.channel("email", &mail(&mail_server, &json!({})));
    let mut slack = place.channel("slack", &json!({ "url": format!("http://{chat}/"), "mention": "<!here>" }));
    (email.policy.group, slack.policy.group) = (Duration::ZERO, Duration::ZERO);
    let backup = json!({ "argv": ["seq 1 40; echo 'disk <full> & ```'; exit 3"], "shell": true });
    let scheduler = scheduler(&place, &[("mail", email), ("chat", slack)], &[("backup", backup)]);
    let run = run(&scheduler, "backup").await;
    assert_eq!(run.state, RunState::Failed);
    delivered(&scheduler, 2).await;
    let heard = mail_server.heard.lock().unwrap();
    let letter = heard.letters[0].replace("=\r\n", "");
    for part in ["Subject: [sched] backup has failed: exited with code 3", "  40\r\n", "sched retry", "Failing since"] {
        assert!(letter.contains(part), "{part}\n{letter}");
    }
    assert!(!letter.contains("\r\n  21\r\n"), "the last twenty lines are enough");
    assert!(letter.contains("disk &lt;full&gt; &amp; ```"), "{letter}");
    let chat = chatted.lock().unwrap()[0].clone();
    let text: Value = serde_json::from_str(chat.split_once("\r\n\r\n").unwrap().1).unwrap();
    let text = text["text"].as_str().unwrap();
    assert!(
        text.starts_with("<!here> :red_circle: backup has failed: exited with code 3: disk &lt;full&gt;"),
        "{text}"
    );
    assert!(
        text.contains("disk &lt;full&gt; &amp; '''\n```\n") && text.ends_with(&format!("sched retry {}`", run.run_id)),
        "{text}"
    );
}

#[tokio::test]
async fn a_dead_mans_switch_hears_of_start_and_end_of_each_run_in_order() {
    let (address, asked) = answers("200 OK", "OK");
    let place = Place::new("x");
    let ping = place.channel("ping", &json!({ "url": format!("http://{address}/key/{{schedule}}") }));
    let commands = [("good", json!({ "argv": ["true"] })), ("bad", json!({ "argv": ["false"] }))];
    let scheduler = scheduler(&place, &[("watch", ping)], &commands);
    let good = run(&scheduler, "good").await.run_id;
    delivered(&scheduler, 2).await;
    let bad = run(&scheduler, "bad").await.run_id;
    delivered(&scheduler, 4).await;
    let lines: Vec<String> = asked.lock().unwrap().iter().map(|r| r.lines().next().unwrap().to_owned()).collect();
    let line = |path: &str, run: sched_core::RunId| format!("POST /key/{path}?rid={run} HTTP/1.1");
    assert_eq!(lines, [line("good/start", good), line("good", good), line("bad/start", bad), line("bad/fail", bad)]);
}

#[tokio::test]
async fn a_letter_is_sent_as_it_was_written() {
    let server = Smtp::start(Manner::Starttls);
    let place = Place::new(&server.authority);
    let scheduler = scheduler(
        &place,
        &[("mail", place.channel("email", &mail(&server, &json!({}))))],
        &[("brief", json!({ "argv": ["true"] }))],
    );
    let letter = Letter { subject: "The day: ä".into(), text: "# Good".into(), html: Some("<h1>Good</h1>".into()) };
    let handle = Arc::new(scheduler.handle().clone());
    handle.send(vec![name("mail")], "brief".parse().unwrap(), letter).await.unwrap();
    delivered(&scheduler, 1).await;
    let sent = server.heard.lock().unwrap().letters[0].clone();
    assert!(sent.contains("# Good") && sent.contains("<h1>Good</h1>"), "{sent}");
    let long = Letter { subject: "x".into(), text: "x".repeat(2 << 20), html: None };
    let error = handle.send(vec![name("mail")], "brief".parse().unwrap(), long).await.unwrap_err();
    assert!(error.to_string().contains("more than 1048576"), "{error}");
}

#[tokio::test]
async fn briefs_and_reports_are_sent_through_the_channels_that_they_name() {
    let (address, asked) = answers("200 OK", "");
    let place = Place::new("x");
    let hook = place.channel("webhook", &json!({ "url": format!("http://{address}/"), "secret": "file:secret" }));
    let to = json!({ "send": ["desk"], "title": "Morning" });
    let kinds = [("ceo_brief", to.clone()), ("report", to)];
    let scheduler = scheduler(&place, &[("desk", hook)], &kinds);
    for kind in ["ceo_brief", "report"] {
        let run = run(&scheduler, kind).await;
        assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    }
    let letters = |asked: &[String]| asked.iter().filter(|request| request.contains("\"subject\"")).count();
    while letters(&asked.lock().unwrap()) < 2 {
        tokio::task::yield_now().await;
    }
    let sent = asked.lock().unwrap().clone();
    assert!(sent.iter().any(|request| request.contains("Morning: No run has ended in the last 24 hours")), "{sent:?}");
    assert!(sent.iter().any(|request| request.contains("Morning: Nothing ran in this period")), "{sent:?}");
    assert!(sent.iter().all(|request| !request.contains("\"subject\"") || request.contains("<!doctype html>")));
}

#[tokio::test]
async fn self_heal_finds_what_a_channel_has_given_up_and_delivers_it_again() {
    // The first message is refused for good, and those that tell of it.
    let (address, asked) = server(|stream, request, before| {
        let failure = request.contains("\"failed\"");
        say(stream, if before == 0 && failure { "400 Bad Request" } else { "200 OK" }, "");
    });
    let place = Place::new("x");
    let (other, asked_other) = answers("400 Bad Request", "");
    let hook = |address: &str| {
        let mut hook = place.channel("webhook", &json!({ "url": format!("http://{address}/") }));
        (hook.policy.group, hook.policy.on) = (Duration::ZERO, [sched_core::NoticeKind::Failed].into());
        hook
    };
    let channels = [("desk", hook(&address)), ("shelf", hook(&other))];
    let heal = json!({
        "retry_failed": false,
        "checks": [{ "name": "told", "check": { "undelivered": { "channels": ["de*"] } }, "remedy": { "redeliver": {} } }],
    });
    let scheduler = scheduler(&place, &channels, &[("bad", json!({ "argv": ["false"] })), ("self_heal", heal)]);
    run(&scheduler, "bad").await;
    let dead = OutboxFilter { state: Some(OutboxState::Dead), after: None, limit: 10 };
    while scheduler.handle().outbox(dead.clone()).await.unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    let healed = run(&scheduler, "self_heal").await;
    assert_eq!(healed.state, RunState::Succeeded, "{:?}", healed.error);
    assert_eq!(healed.data["found"][0]["reason"], "desk: answered 400 Bad Request", "{}", healed.data);
    assert_eq!(healed.data["verified"], json!(["told"]), "{}", healed.data);
    delivered(&scheduler, 1).await;
    assert_eq!(asked.lock().unwrap().len(), 2);
    assert_eq!(asked_other.lock().unwrap().len(), 1, "nobody looked at this channel");
}
