//! The dashboard in a real Chromium, driven over WebDriver (W3C).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::world::World;

/// Chromium as it starts for tests: no window, and no host but this one.
const ARGUMENTS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];
/// The name of an element's reference (W3C WebDriver, 12.1).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

struct Browser {
    driver: Child,
    session: String,
    client: reqwest::Client,
}

impl Browser {
    /// None where there is no Chromium.
    async fn start() -> Option<Self> {
        // Another test may have set it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut command = Command::new("chromedriver");
        let mut driver = command.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines().map(Result::unwrap);
        let said = "started successfully on port ";
        let port = lines.filter_map(|line| Some(line.split_once(said)?.1.trim_end_matches('.').to_owned())).next();
        let base = format!("http://127.0.0.1:{}", port.unwrap());
        let client = reqwest::Client::new();
        let options = json!({ "binary": "/usr/bin/chromium", "args": ARGUMENTS });
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let mut browser = Self { driver, session: base, client };
        let session = browser.call("/session", wanted).await;
        browser.session = format!("{}/session/{}", browser.session, session["sessionId"].as_str().unwrap());
        Some(browser)
    }

    async fn call(&self, path: &str, body: Value) -> Value {
        let answer = self.client.post(format!("{}{path}", self.session)).json(&body).send().await.unwrap();
        let ok = answer.status().is_success();
        let body: Value = answer.json().await.unwrap();
        assert!(ok, "{path}: {body}");
        body["value"].clone()
    }

    async fn open(&self, url: &str) {
        self.call("/url", json!({ "url": url })).await;
    }

    async fn element(&self, css: &str) -> String {
        let found = self.call("/element", json!({ "using": "css selector", "value": css })).await;
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    async fn click(&self, css: &str) {
        let element = self.element(css).await;
        self.call(&format!("/element/{element}/click"), json!({})).await;
    }

    async fn type_into(&self, css: &str, text: &str) {
        let element = self.element(css).await;
        self.call(&format!("/element/{element}/value"), json!({ "text": text })).await;
    }

    async fn script(&self, script: &str) -> Value {
        self.call("/execute/sync", json!({ "script": script, "args": [] })).await
    }

    async fn until(&self, condition: &str) {
        while self.script(&format!("return Boolean({condition})")).await != true {}
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends with its session, and not with chromedriver.
        let (address, path) = self.session.trim_start_matches("http://").split_once('/').unwrap_or_default();
        if let Ok(mut stream) = std::net::TcpStream::connect(address) {
            let request = format!("DELETE /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.read(&mut [0; 1024]));
        }
        if let Some(pid) = rustix::process::Pid::from_raw(self.driver.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.driver.wait();
    }
}

#[tokio::test]
async fn the_dashboard_logs_in_follows_runs_stops_and_starts_with_the_network_cut() {
    let world = World::new();
    world.ok(&["start"]);
    let Some(browser) = Browser::start().await else {
        eprintln!("skipped: no chromedriver here; ./test installs it on Debian");
        return;
    };
    let base = format!("http://{}/", world.status()["http"].as_str().unwrap());
    let key = std::fs::read_to_string(world.path("data/dashboard.key")).unwrap();
    browser.open(&base).await;
    browser.until("location.pathname === '/login'").await;
    browser.type_into("#key", "not the key").await;
    browser.click("form button").await;
    browser.until("document.querySelector('[role=alert]')").await;
    browser.type_into("#key", key.trim()).await;
    browser.click("form button").await;
    browser.until("document.querySelector('#live')").await;

    // Columns: when, schedule, origin, state.
    let runs = |name: &str, origin: &str| {
        format!(
            "[...document.querySelectorAll('#runs tr')].some(({{ cells }}) => cells[1].textContent === '{name}' && \
             cells[2].textContent === '{origin}' && cells[3].textContent === 'succeeded')"
        )
    };
    browser.until(&runs("brief", "startup")).await;
    browser.until("/\\d+[hms]/.test(document.querySelector('[data-until]').textContent)").await;
    assert_eq!(browser.script(&format!("return {}", runs("report", "manual"))).await, false);
    browser.click("button[aria-label='Run report now']").await;
    browser.until(&runs("report", "manual")).await;
    world.ok(&["trigger", "retention"]);
    browser.until(&runs("retention", "manual")).await;

    browser.click("button[data-post$='/stop']").await;
    browser.until("document.querySelector('#state').textContent.includes('stopped')").await;
    assert_eq!(world.status()["dispatching"], false);
    browser.click("button[data-post$='/start']").await;
    browser.until("document.querySelector('#state').textContent === 'running'").await;

    let foreign = browser
        .script("return performance.getEntriesByType('resource').filter(e => new URL(e.name).origin !== origin).length")
        .await;
    assert_eq!(foreign, 0);
    world.ok(&["stop"]);
    browser.click("button[data-post$='/start']").await;
    browser.until("document.querySelector('#message').textContent.includes('does not answer')").await;
}
