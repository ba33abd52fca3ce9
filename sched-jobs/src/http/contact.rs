//! Whether a connection was made: before, a request cannot have reached anyone.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tower::{Layer, Service};

/// Set when a connection is made, TLS and a proxy's tunnel included.
#[derive(Debug, Clone, Default)]
pub(super) struct Contact(Arc<AtomicBool>);

impl Contact {
    pub(super) fn made(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    pub(super) fn forget(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl<S> Layer<S> for Contact {
    type Service = Watched<S>;

    fn layer(&self, inner: S) -> Watched<S> {
        Watched { inner, contact: self.clone() }
    }
}

/// A connector that is watched.
#[derive(Debug, Clone)]
pub(super) struct Watched<S> {
    inner: S,
    contact: Contact,
}

impl<S, R> Service<R> for Watched<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, target: R) -> Self::Future {
        let (connecting, contact) = (self.inner.call(target), self.contact.clone());
        Box::pin(async move {
            let connection = connecting.await?;
            contact.0.store(true, Ordering::SeqCst);
            Ok(connection)
        })
    }
}
