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
        .map_err(|_| Failure::failed("the scheduler does not answer; see `sched status`"))??;
    if status.is_success() {
        return serde_json::from_slice(&bytes).map_err(|error| Failure::failed(format!("an odd answer: {error}")));
    }
    let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let message = answer["error"]["message"].as_str().map_or_else(|| format!("answered {status}"), str::to_owned);
    let exit = if status == StatusCode::UNPROCESSABLE_ENTITY { Exit::Usage } else { Exit::Failed };
    Err(Failure::new(exit, message))
}

async fn exchange(
    data_dir: &Path,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<(StatusCode, Bytes), Failure> {
    let not_running = |_| Failure::new(Exit::NotRunning, "the scheduler is not running; start it with `sched start`");
    let (socket, _folder) = socket_in(data_dir).map_err(not_running)?;
    let stream = UnixStream::connect(socket).await.map_err(not_running)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(Failure::failed)?;
    let connection = tokio::spawn(connection);
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
