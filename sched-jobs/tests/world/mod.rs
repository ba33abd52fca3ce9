//! A real engine in a folder of its own, and real servers on loopback that behave as they are told.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sched_core::{MemoryStore, Registry, RunRecord, ScheduleSpec, Scheduler, Store, TriggerRequest, TriggerSpec};
use sched_jobs::{JobEnv, register_all};
use serde_json::Value;

/// An engine with a schedule for each name, kind and parameters; none of them fires by itself.
pub(crate) struct World {
    pub(crate) folder: Arc<tempfile::TempDir>,
    pub(crate) scheduler: Scheduler,
}

impl World {
    pub(crate) fn new(schedules: &[(&str, &str, Value)]) -> Self {
        Self::in_folder(Arc::new(tempfile::tempdir().unwrap()), MemoryStore::new(), schedules)
    }

    pub(crate) fn in_folder(
        folder: Arc<tempfile::TempDir>,
        store: impl Store + 'static,
        schedules: &[(&str, &str, Value)],
    ) -> Self {
        let mut registry = Registry::new();
        let env = JobEnv { base_dir: folder.path().into(), data_dir: folder.path().join("data"), base_url: None };
        register_all(&mut registry, &env);
        let never = TriggerSpec::once("2999-01-01T00:00:00Z".parse().unwrap());
        let specs = schedules.iter().map(|(name, kind, params)| {
            let mut spec = ScheduleSpec::new(name, kind, never.clone()).unwrap();
            spec.params = params.as_object().unwrap().clone();
            spec.retry.attempts = if name.ends_with("thrice") { 3 } else { 1 };
            spec.retry.initial = Duration::from_millis(1);
            spec.retry.max = Duration::from_millis(1);
            spec.with_timeout(Duration::from_secs(30))
        });
        let builder = Scheduler::builder(store).registry(registry).schedules(specs);
        let scheduler = builder.data_dir(folder.path().join("data")).start().unwrap();
        Self { folder, scheduler }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn run(&self, name: &str) -> RunRecord {
        let handle = self.scheduler.handle();
        let run_id = handle.trigger(TriggerRequest::new(name.parse().unwrap(), "test")).await.unwrap();
        handle.wait(run_id).await.unwrap()
    }
}

/// What a server was asked, head and body, in order.
pub(crate) type Asked = Arc<Mutex<Vec<String>>>;

/// A server that hands each request to `answer`, on a thread of its own, with the number of requests before it.
pub(crate) fn server(answer: impl Fn(&mut TcpStream, &str, usize) + Send + Sync + 'static) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Asked::default();
    let (log, answer) = (asked.clone(), Arc::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, log, answer) = (stream.unwrap(), log.clone(), answer.clone());
            std::thread::spawn(move || {
                let Some(request) = request(&mut stream) else { return };
                let before = {
                    let mut log = log.lock().unwrap();
                    log.push(request.clone());
                    log.len() - 1
                };
                answer(&mut stream, &request, before);
            });
        }
    });
    (address, asked)
}

/// A server with one answer.
pub(crate) fn answers(status: &'static str, body: &'static str) -> (String, Asked) {
    server(move |stream, _, _| say(stream, status, body))
}

/// Answers; a client that has gone already is no fault.
pub(crate) fn say(stream: &mut impl Write, status: &str, body: &str) {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}

/// Reads a request: the head, and as much of a body as the head says. None when the client said nothing.
pub(crate) fn request(stream: &mut impl Read) -> Option<String> {
    let mut read = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = header(&text, "content-length").map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return Some(format!("{head}\r\n\r\n{body}"));
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(count) => read.extend_from_slice(&piece[..count]),
        }
    }
}

/// A header of a request.
pub(crate) fn header(request: &str, name: &str) -> Option<String> {
    let head = request.split("\r\n\r\n").next().unwrap();
    let found = head.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim().to_owned())
}

/// A server's side of TLS for `localhost`, with a certificate until the given day, and the authority to trust.
pub(crate) fn tls(until: (i32, u8, u8)) -> (Arc<ServerConfig>, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &authority).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    (Arc::new(config), authority.pem())
}

/// A server over TLS for `localhost`, and the authority to trust.
pub(crate) fn tls_server(until: (i32, u8, u8)) -> (String, String) {
    let (config, authority) = tls(until);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            std::thread::spawn(move || {
                let mut stream = StreamOwned::new(connection, stream.unwrap());
                if request(&mut stream).is_some() {
                    say(&mut stream, "200 OK", "{\"safe\":true}");
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                }
            });
        }
    });
    (format!("localhost:{port}"), authority)
}
