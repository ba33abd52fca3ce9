//! Answers connections over hyper: requests whose headers do not come in time are closed.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A request's headers come within this.
const HEADER_LIMIT: Duration = Duration::from_secs(10);
/// Connections at once; further ones wait.
const MOST: usize = 512;

/// The open connections of a server.
#[derive(Debug, Clone)]
pub struct Connections {
    tracker: TaskTracker,
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Default for Connections {
    fn default() -> Self {
        Self { tracker: TaskTracker::new(), places: Arc::new(Semaphore::new(MOST)), stop: CancellationToken::new() }
    }
}

impl Connections {
    /// Takes no more connections, and waits at most `grace` for the open ones.
    pub async fn close(&self, grace: Duration) {
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait()).await.is_err() {
            tracing::debug!("connections were cut");
        }
    }

    fn answer(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router, place: Place) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            let service = TowerToHyperService::new(router);
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
            let connection = http.serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
}

type Place = tokio::sync::OwnedSemaphorePermit;

/// Answers on a TCP listener until the connections are closed.
pub async fn serve(listener: TcpListener, router: Router, connections: Connections) {
    while let Some(place) = place(&connections).await {
        tokio::select! {
            () = connections.stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => connections.answer(stream, router.clone(), place),
                Err(error) => rest(&error).await,
            },
        }
    }
}

/// Answers on a Unix socket, only to the user who runs this process, and to root.
pub async fn serve_local(listener: UnixListener, router: Router, connections: Connections) {
    let own = rustix::process::geteuid().as_raw();
    while let Some(place) = place(&connections).await {
        tokio::select! {
            () = connections.stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => match stream.peer_cred() {
                    Ok(peer) if peer.uid() == own || peer.uid() == 0 => {
                        connections.answer(stream, router.clone(), place);
                    }
                    _ => tracing::warn!("another user's connection to the control socket was refused"),
                },
                Err(error) => rest(&error).await,
            },
        }
    }
}

async fn place(connections: &Connections) -> Option<Place> {
    tokio::select! {
        place = connections.places.clone().acquire_owned() => place.ok(),
        () = connections.stop.cancelled() => None,
    }
}

/// Out of descriptors: a short rest lets others close theirs.
async fn rest(error: &std::io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
