//! Talks to the running scheduler over its control socket: HTTP/1.1 on a Unix socket.

use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::daemon::place::socket_in;
use crate::exit::{Exit, Failure};

/// Whoever answers, answers within this; a run is waited for by repeated calls.
const PATIENCE: Duration = Duration::from_secs(31);

const SILENT: &str = "the scheduler does not answer; see `sched status`";

/// One call to the scheduler whose data folder this is.
pub(crate) fn call<T: DeserializeOwned>(
    data_dir: &Path,
    method: Method,
    path: &str,
    body: Option<&Value>,
    patience: Option<Duration>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let exchange = exchange(data_dir, method, path, body);
    let (status, bytes) = runtime
        .block_on(async { tokio::time::timeout(patience.unwrap_or(PATIENCE), exchange).await })
        .map_err(|_| Failure::failed(SILENT))??;
    if status.is_success() {
        return serde_json::from_slice(&bytes).map_err(|error| Failure::failed(format!("an odd answer: {error}")));
    }
    let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let message = answer["error"]["message"].as_str().map_or_else(|| format!("answered {status}"), str::to_owned);
    let exit = if status == StatusCode::UNPROCESSABLE_ENTITY { Exit::Usage } else { Exit::Failed };
    Err(Failure::new(exit, message))
}

type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

async fn connect(data_dir: &Path) -> Result<(Sender, tokio::task::JoinHandle<hyper::Result<()>>), Failure> {
    let not_running = |_| Failure::new(Exit::NotRunning, "the scheduler is not running; start it with `sched start`");
    let (socket, _folder) = socket_in(data_dir).map_err(not_running)?;
    let stream = UnixStream::connect(socket).await.map_err(not_running)?;
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(Failure::failed)?;
    Ok((sender, tokio::spawn(connection)))
}

async fn exchange(
    data_dir: &Path,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<(StatusCode, Bytes), Failure> {
    let (mut sender, connection) = connect(data_dir).await?;
    let mut request = Request::builder().method(method).uri(path).header("host", "local");
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let text = body.map(Value::to_string).unwrap_or_default();
    let request = request.body(Full::new(Bytes::from(text))).map_err(Failure::failed)?;
    let answer = sender.send_request(request).await.map_err(Failure::failed)?;
    let status = answer.status();
    let bytes = answer.into_body().collect().await.map_err(Failure::failed)?.to_bytes();
    connection.abort();
    Ok((status, bytes))
}

/// What the scheduler announces, as it happens.
pub(crate) struct Events {
    runtime: tokio::runtime::Runtime,
    interrupts: tokio::signal::unix::Signal,
    body: Option<hyper::body::Incoming>,
    connection: tokio::task::JoinHandle<hyper::Result<()>>,
    /// What has come of the next ones.
    text: String,
}

/// What came within the time that was given.
pub(crate) enum Heard {
    Event(Value),
    Nothing,
    /// Someone wants to wait no longer.
    Interrupted,
}

impl Events {
    /// From now on.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (body, connection, interrupts) = runtime.block_on(async {
            let (mut sender, connection) = connect(data_dir).await?;
            let request = Request::get("/api/v1/events").header("host", "local");
            let request = request.body(Full::new(Bytes::new())).map_err(Failure::failed)?;
            let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
            let answer = answer.map_err(|_| Failure::failed(SILENT))?.map_err(Failure::failed)?;
            let interrupts = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
            Ok::<_, Failure>((answer.into_body(), connection, interrupts))
        })?;
        Ok(Self { runtime, interrupts, body: Some(body), connection, text: String::new() })
    }

    /// The next one, or that there was none for so long. Events are a hint: when the stream ends, there are no more.
    pub(crate) fn next(&mut self, within: Duration) -> Heard {
        let Self { runtime, interrupts, body, text, .. } = self;
        runtime.block_on(async {
            let end = tokio::time::sleep(within);
            tokio::pin!(end);
            loop {
                if let Some((event, rest)) = text.split_once("\n\n") {
                    let data: String = event.lines().filter_map(|line| line.strip_prefix("data:")).collect();
                    let read = serde_json::from_str(&data).ok();
                    *text = rest.to_owned();
                    // What is no event keeps the connection open.
                    match read {
                        Some(event) => return Heard::Event(event),
                        None => continue,
                    }
                }
                let frame = async {
                    match body.as_mut() {
                        Some(body) => body.frame().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    _ = interrupts.recv() => return Heard::Interrupted,
                    () = &mut end => return Heard::Nothing,
                    frame = frame => match frame {
                        Some(Ok(frame)) => {
                            let bytes = frame.into_data().unwrap_or_default();
                            text.push_str(&String::from_utf8_lossy(&bytes));
                        }
                        _ => *body = None,
                    },
                }
            }
        })
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
