//! The routes as callers meet them, without a socket; the server on a real one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use sched_core::{
    Event, Job, JobError, MemoryStore, Now, Output, Overlap, Recorded, Registry, RunContext, ScheduleSpec, Scheduler,
    TriggerSpec, async_trait,
};
use sched_http::{Alias, AppState, Connections, DashboardKey, Health, StatusBody, local_router, router, serve};
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt;

const KEY: &str = "0f8b1c0a6f6b4d0d9a1e2c3b4a5f6e7d";

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    #[serde(default)]
    say: String,
}

struct Say(Params, Gate);

/// Shut until opened; who waits blocks its thread.
type Gate = Arc<(Mutex<bool>, Condvar)>;

#[async_trait]
impl Job for Say {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        ctx.log("<script>alert(1)</script>").await;
        match self.0.say.as_str() {
            "fail" => Err(JobError::permanent("<script>alert(2)</script>")),
            "block" => {
                let (open, changed) = &*self.1;
                drop(changed.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
                Ok(Output::default())
            }
            "wait" => {
                ctx.cancelled().await;
                Err(JobError::new("stopped"))
            }
            text => Ok(Output::summary("<b>said</b>").with_data(json!({ "headline": text }))),
        }
    }
}

struct World {
    scheduler: Scheduler,
    state: AppState,
    app: Router,
    gate: Gate,
    _folder: tempfile::TempDir,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let mut registry = Registry::new();
    let gate = Gate::default();
    let shut = gate.clone();
    registry.register("say", "Says", move |params: Params| Ok(Say(params, shut.clone())));
    let never = TriggerSpec::once("2999-01-01T00:00:00Z".parse().unwrap());
    let spec = |name: &str| ScheduleSpec::new(name, "say", never.clone()).unwrap().with_param("say", name);
    let mut specs = ["brief", "fail", "wait", "block"].map(spec);
    specs[3].overlap = Overlap::Allow;
    let builder = Scheduler::builder(MemoryStore::new()).registry(registry).schedules(specs);
    let scheduler = builder.data_dir(folder.path()).start().unwrap();
    let alias = |path, schedule| Alias { path, schedule, kind: "none", lift: &["headline"] };
    let aliases =
        vec![alias("/api/exec/brief", "brief"), alias("/api/exec/report", "fail"), alias("/api/none", "none")];
    let handle = scheduler.handle().clone();
    let health = Arc::new(Health::new(handle.clock().now(), "127.0.0.1:5000".into()));
    let state = AppState::new(handle, DashboardKey::new(KEY).unwrap(), aliases, health);
    World { scheduler, app: router(state.clone()), state, gate, _folder: folder }
}

impl World {
    async fn send(&self, request: Request<Body>) -> (StatusCode, axum::http::HeaderMap, String) {
        let answer = self.app.clone().oneshot(request).await.unwrap();
        let (head, body) = answer.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers, String::from_utf8(bytes.to_vec()).unwrap())
    }

    async fn json(&self, method: &str, path: &str) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path).header("X-Dash-Key", KEY);
        let (status, _, body) = self.send(request.body(Body::empty()).unwrap()).await;
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }
}

fn plain(method: &str, path: &str) -> Request<Body> {
    Request::builder().method(method).uri(path).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn without_the_key_every_path_answers_401_whether_it_exists_or_not() {
    let world = world();
    for (method, path) in [
        ("GET", "/api/automations/status"),
        ("POST", "/api/automations/start"),
        ("POST", "/api/exec/brief"),
        ("GET", "/api/v1/schedules"),
        ("POST", "/api/v1/schedules/brief/trigger"),
        ("GET", "/api/v1/runs"),
        ("GET", "/api/v1/events"),
        ("GET", "/parts/live"),
        ("GET", "/no/such/path"),
        ("DELETE", "/api/v1/runs"),
        ("GET", "/"),
    ] {
        let (status, _, body) = world.send(plain(method, path)).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&body["ok"], &body["error"]["code"]), (&json!(false), &json!("unauthorized")));
    }
    for path in ["/healthz", "/readyz", "/login"] {
        assert_eq!(world.send(plain("GET", path)).await.0, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn the_key_works_in_both_headers_and_a_wrong_one_in_neither() {
    let world = world();
    let check = async |name: &str, value: &str| {
        let request = Request::builder().uri("/api/v1/status").header(name, value).body(Body::empty()).unwrap();
        world.send(request).await.0
    };
    assert_eq!(check("X-Dash-Key", KEY).await, StatusCode::OK);
    assert_eq!(check("Authorization", &format!("Bearer {KEY}")).await, StatusCode::OK);
    assert_eq!(check("X-Dash-Key", "wrong").await, StatusCode::UNAUTHORIZED);
    assert_eq!(check("Authorization", "Bearer wrong").await, StatusCode::UNAUTHORIZED);
    assert_eq!(check("Cookie", "sched_session=wrong").await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_browser_logs_in_and_a_change_from_another_site_is_refused() {
    let world = world();
    let login = |key: &str, origin: &str| {
        Request::builder()
            .method(Method::POST)
            .uri("/login")
            .header("host", "s:1")
            .header("origin", origin)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(format!("key={key}")))
            .unwrap()
    };
    assert_eq!(world.send(login("wrong", "http://s:1")).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(world.send(login(KEY, "http://evil")).await.0, StatusCode::FORBIDDEN);
    let (status, headers, _) = world.send(login(KEY, "http://s:1")).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    let cookie = headers["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains(KEY), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    let post = |site: &str| {
        let request = Request::builder().method("POST").uri("/api/automations/start").header("cookie", cookie);
        request.header("sec-fetch-site", site).body(Body::empty()).unwrap()
    };
    assert_eq!(world.send(post("cross-site")).await.0, StatusCode::FORBIDDEN);
    assert_eq!(world.send(post("same-site")).await.0, StatusCode::FORBIDDEN);
    assert_eq!(world.send(post("same-origin")).await.0, StatusCode::OK);
    let bare = Request::builder().method("POST").uri("/api/automations/start").header("cookie", cookie);
    assert_eq!(world.send(bare.body(Body::empty()).unwrap()).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn the_original_calls_keep_their_shapes() {
    let world = world();
    let (status, body) = world.json("POST", "/api/exec/brief").await;
    assert_eq!((status, &body["ok"], &body["headline"]), (StatusCode::OK, &json!(true), &json!("brief")));
    assert_eq!(body["data"]["headline"], "brief");
    assert!(body["run_id"].is_string());
    let (status, body) = world.json("POST", "/api/exec/report").await;
    assert_eq!((status, &body["ok"]), (StatusCode::INTERNAL_SERVER_ERROR, &json!(false)));
    assert_eq!(world.json("POST", "/api/none").await.0, StatusCode::NOT_FOUND);
    let (_, body) = world.json("POST", "/api/automations/stop").await;
    assert_eq!(body, json!({ "ok": true, "running": false, "pid": std::process::id() }));
    let (_, body) = world.json("GET", "/api/automations/status").await;
    assert_eq!(
        (&body["ok"], &body["running"], &body["pid"]),
        (&json!(true), &json!(false), &json!(std::process::id()))
    );
    assert!(body["next"].is_object() && body["tick"].is_u64());
    let (_, body) = world.json("POST", "/api/automations/start").await;
    assert_eq!(body["running"], true);
    let (_, again) = world.json("POST", "/api/automations/start").await;
    assert_eq!(again, body);
}

#[tokio::test]
async fn a_schedule_is_triggered_refused_while_open_and_its_run_cancelled() {
    let world = world();
    let (status, body) = world.json("POST", "/api/v1/schedules/wait/trigger").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let run_id = body["run_id"].as_str().unwrap().to_owned();
    let (status, body) = world.json("POST", "/api/v1/schedules/wait/trigger").await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(body["error"]["message"].as_str().unwrap().contains(&run_id), "the blocker is named");
    assert_eq!(world.json("POST", &format!("/api/v1/runs/{run_id}/cancel")).await.0, StatusCode::OK);
    world.scheduler.handle().wait(run_id.parse().unwrap()).await.unwrap();
    let (_, run) = world.json("GET", &format!("/api/v1/runs/{run_id}")).await;
    assert_eq!(
        (&run["state"], &run["origin"], &run["requested_by"]),
        (&json!("cancelled"), &json!("manual"), &json!("key"))
    );
}

#[tokio::test]
async fn wrong_requests_get_clear_errors_in_one_shape() {
    let world = world();
    for (method, path, expected) in [
        ("GET", "/api/v1/schedules/nope", StatusCode::NOT_FOUND),
        ("POST", "/api/v1/schedules/nope/trigger", StatusCode::NOT_FOUND),
        ("POST", "/api/v1/schedules/a%20b/trigger", StatusCode::BAD_REQUEST),
        ("GET", "/api/v1/runs/xyz", StatusCode::BAD_REQUEST),
        ("GET", "/api/v1/runs/00000000-0000-7000-8000-000000000000", StatusCode::NOT_FOUND),
        ("GET", "/api/v1/runs?state=nope", StatusCode::BAD_REQUEST),
        ("GET", "/api/v1/runs?after=x", StatusCode::BAD_REQUEST),
        ("GET", "/api/v1/runs?limit=x", StatusCode::BAD_REQUEST),
        ("POST", "/api/v1/schedules/brief/pause", StatusCode::BAD_REQUEST),
        ("GET", "/nothing", StatusCode::NOT_FOUND),
        ("DELETE", "/api/v1/runs", StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let (status, body) = world.json(method, path).await;
        assert_eq!(status, expected, "{method} {path}: {body}");
        assert!(body["ok"] == false && body["error"]["message"].is_string(), "{body}");
    }
    let large = Request::builder().method("POST").uri("/api/v1/schedules/brief/trigger").header("X-Dash-Key", KEY);
    let large = large.header("content-type", "application/json").body(Body::from(vec![b' '; 1024 * 1024 + 1])).unwrap();
    assert_eq!(world.send(large).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn what_jobs_say_reaches_the_page_escaped_and_the_page_needs_nothing_from_outside() {
    let world = world();
    world.json("POST", "/api/exec/brief").await;
    world.json("POST", "/api/exec/report").await;
    let request = Request::builder().uri("/").header("X-Dash-Key", KEY).body(Body::empty()).unwrap();
    let (status, headers, page) = world.send(request).await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("&lt;script&gt;alert(2)") && !page.contains("<script>alert"), "{page}");
    assert!(page.contains("&lt;b&gt;said") && !page.contains("<b>said"), "{page}");
    assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
    assert!(headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'self'"));
    assert_eq!(headers["x-frame-options"], "DENY");
}

#[tokio::test]
async fn history_is_paged_without_a_gap() {
    let world = world();
    for _ in 0..5 {
        world.json("POST", "/api/exec/brief").await;
    }
    let mut seen = Vec::new();
    let mut path = "/api/v1/runs?schedule=brief&limit=2".to_owned();
    loop {
        let (_, page) = world.json("GET", &path).await;
        seen.extend(page["runs"].as_array().unwrap().iter().map(|run| run["run_id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/runs?schedule=brief&limit=2&after={next}");
    }
    let all = seen.len();
    seen.dedup();
    assert_eq!((all, seen.len()), (5, 5));
}

#[tokio::test]
async fn events_stream_from_the_last_one_seen() {
    let world = world();
    world.json("POST", "/api/exec/brief").await;
    let request = Request::builder().uri("/api/v1/events").header("X-Dash-Key", KEY).header("Last-Event-ID", "0");
    let mut body = world.app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().into_body();
    let mut text = String::new();
    while !text.contains("event: run_finished") {
        let frame = body.frame().await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    assert!(text.contains("event: run_started") && text.contains("id: "), "{text}");
}

#[tokio::test]
async fn the_local_router_needs_no_key() {
    let world = world();
    let answer = local_router(world.state.clone()).oneshot(plain("GET", "/api/v1/status")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_server_answers_on_a_real_socket_and_closes() {
    let world = world();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Connections::default();
    let server = tokio::spawn(serve(listener, world.app.clone(), connections.clone()));
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    assert!(answer.await.unwrap().starts_with("HTTP/1.1 200 OK"));
    connections.close(Duration::from_secs(5)).await;
    server.await.unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[tokio::test]
async fn the_description_of_the_api_comes_from_its_handlers() {
    let world = world();
    assert_eq!(world.send(plain("GET", "/openapi.json")).await.0, StatusCode::UNAUTHORIZED);
    let (status, api) = world.json("GET", "/openapi.json").await;
    assert_eq!((status, &api["openapi"]), (StatusCode::OK, &json!("3.1.0")));
    let run = &api["paths"]["/api/v1/runs/{id}"]["get"];
    assert_eq!(run["parameters"][0]["name"], "id");
    let schema = &run["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
    assert_eq!(schema, "#/components/schemas/RunRecord");
    assert!(api["components"]["schemas"]["RunRecord"]["properties"]["nominal_at"].is_object());
    let error = &run["responses"]["default"]["content"]["application/json"]["schema"]["$ref"];
    assert_eq!(error, "#/components/schemas/ErrorBody");
    for path in ["/api/exec/brief", "/api/automations/status", "/api/v1/events", "/api/v1/schedules/{name}/trigger"] {
        assert!(api["paths"][path].is_object(), "{path}");
    }
    assert!(api["components"]["securitySchemes"]["key"].is_object());
}

#[tokio::test]
async fn a_nested_router_keeps_its_pages_below_its_path() {
    let world = world();
    let app = Router::new().nest("/scheduler", router(world.state.clone()));
    let get = async |path: &str, accept: &str, key: &str| {
        let request = Request::builder().uri(path).header("accept", accept).header("X-Dash-Key", key);
        let request = if key.is_empty() { Request::builder().uri(path).header("accept", accept) } else { request };
        let answer = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        let page = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        // The templates write slashes as entities.
        (head, page.replace("&#x2f;", "/"))
    };
    let (head, _) = get("/scheduler", "text/html", "").await;
    assert_eq!((head.status, &head.headers["location"]), (StatusCode::SEE_OTHER, &"/scheduler/login".parse().unwrap()));
    let (head, page) = get("/scheduler/login", "text/html", "").await;
    assert_eq!(head.status, StatusCode::OK);
    assert!(page.contains("action=\"/scheduler/login\"") && page.contains("href=\"/scheduler/assets/style.css\""));
    let (_, page) = get("/scheduler", "text/html", KEY).await;
    assert!(page.contains("data-post=\"/scheduler/api/v1/schedules/brief/trigger\""), "{page}");
    assert_eq!(get("/scheduler/assets/dashboard.js", "*/*", KEY).await.0.status, StatusCode::OK);
}

#[tokio::test]
async fn jobs_that_block_their_threads_stop_neither_other_jobs_nor_answers() {
    let world = world();
    let mut blocked = Vec::new();
    for _ in 0..16 {
        let (_, body) = world.json("POST", "/api/v1/schedules/block/trigger").await;
        blocked.push(body["run_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(world.json("POST", "/api/exec/brief").await.0, StatusCode::OK, "another job runs");
    let (status, body) = world.json("GET", "/api/v1/status").await;
    assert_eq!((status, &body["state"]), (StatusCode::OK, &json!("running")));
    let (open, changed) = &*world.gate;
    *open.lock().unwrap() = true;
    changed.notify_all();
    for run_id in blocked {
        let run = world.scheduler.handle().wait(run_id.parse().unwrap()).await.unwrap();
        assert_eq!(run.state.to_string(), "succeeded");
    }
}

#[tokio::test]
async fn the_status_is_right_about_itself_after_the_clock_went_back() {
    let world = world();
    let handle = world.scheduler.handle().clone();
    let Now { utc, mono } = handle.clock().now();
    let year = chrono::TimeDelta::days(365);
    let health = Arc::new(Health::new(Now { utc: utc + year, mono }, "127.0.0.1:5000".into()));
    for ts in [utc + year, utc] {
        health.note_event(&Recorded { ts, event: Event::Stalled { millis: 1 }, seq: None }, mono);
    }
    let state = AppState::new(handle, DashboardKey::new(KEY).unwrap(), Vec::new(), health);
    let answer = local_router(state).oneshot(plain("GET", "/api/v1/status")).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let status: StatusBody = serde_json::from_slice(&body).unwrap();
    assert_eq!(status.last_activity, Some(utc));
    assert!(status.uptime_seconds < 3600, "{status:?}");
}

#[tokio::test]
async fn a_body_that_is_not_sent_as_json_is_refused_instead_of_being_taken_for_none() {
    let world = world();
    let path = "/api/v1/schedules/brief/trigger";
    let form = Request::builder().method("POST").uri(path).header("X-Dash-Key", KEY);
    let form = form.header("content-type", "application/x-www-form-urlencoded").body(Body::from("{\"queue\":true}"));
    let (status, _, body) = world.send(form.unwrap()).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(body.contains("content-type: application/json"), "{body}");
    assert_eq!(world.json("GET", "/api/v1/runs").await.1["runs"], serde_json::json!([]));
    assert_eq!(world.json("POST", path).await.0, StatusCode::OK, "no body is none");
}
