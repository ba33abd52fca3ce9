//! `/api/v1/events`: what happens, as it happens (server-sent events, with `Last-Event-ID`).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use sched_core::{Recorded, Seq, Subscription};

use crate::AppState;
use crate::api::says;

pub(crate) fn routes() -> ApiRouter<AppState> {
    ApiRouter::new()
        .api_route("/api/v1/events", get_with(events, says("What happens, as it happens (server-sent events)")))
}

async fn events(State(state): State<AppState>, headers: HeaderMap) -> Response {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok()).map(Seq);
    let events = Events::of(state.handle().subscribe(last));
    Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response()
}

type Waiting = Pin<Box<dyn Future<Output = (Option<Recorded>, Subscription)> + Send>>;

/// A subscription as a stream.
pub(crate) struct Events {
    waiting: Option<Waiting>,
}

impl Events {
    fn of(subscription: Subscription) -> Self {
        Self { waiting: Some(wait(subscription)) }
    }
}

fn wait(mut subscription: Subscription) -> Waiting {
    Box::pin(async move { (subscription.next().await, subscription) })
}

impl Stream for Events {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(waiting) = self.waiting.as_mut() else { return Poll::Ready(None) };
        let Poll::Ready((recorded, subscription)) = waiting.as_mut().poll(cx) else { return Poll::Pending };
        let Some(recorded) = recorded else {
            self.waiting = None;
            return Poll::Ready(None);
        };
        self.waiting = Some(wait(subscription));
        let mut event =
            Event::default().event(recorded.event.name()).data(sched_core::sink::line(&recorded).trim_end());
        if let Some(seq) = recorded.seq {
            event = event.id(seq.to_string());
        }
        Poll::Ready(Some(Ok(event)))
    }
}
