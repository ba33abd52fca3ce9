//! The HTTP API and dashboard: [`router`] gives the routes, [`serve`] answers connections.
//!
//! A handler is parse, one core call, render. Everything but `/healthz`, `/readyz` and the login page answers
//! 401 without the key, also what does not exist. Must not know: job kinds, stores, files of configuration.

mod api;
mod auth;
mod dashboard;
mod error;
mod events;
mod health;
mod openapi;
mod original;
mod outbox;
mod page;
mod serve;
mod steer;

use std::sync::Arc;

use aide::axum::ApiRouter;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, header};
use axum::middleware::{from_fn, from_fn_with_state};
use sched_core::{Handle, ScheduleName};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

pub use auth::{DashboardKey, WeakKey};
pub use health::{Health, StatusBody};
pub use original::Alias;
pub use serve::{Connections, serve, serve_local};
pub use steer::{Reload, ReloadOrder, Reloaded};

/// No request body is longer.
const BODY_LIMIT: usize = 1024 * 1024;

/// What handlers share.
#[derive(Clone)]
pub struct AppState {
    inner: Arc<Inner>,
}

struct Inner {
    handle: Handle,
    key: DashboardKey,
    aliases: Vec<Alias>,
    health: Arc<Health>,
    reload: Option<Reload>,
}

impl std::fmt::Debug for AppState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppState").finish_non_exhaustive()
    }
}

impl AppState {
    /// State for these routes; `aliases` are the original system's paths.
    #[must_use]
    pub fn new(handle: Handle, key: DashboardKey, aliases: Vec<Alias>, health: Arc<Health>) -> Self {
        Self { inner: Arc::new(Inner { handle, key, aliases, health, reload: None }) }
    }

    /// State for a service that runs a scheduler of its own; call it in a runtime. `listen` is what the page and
    /// the status say of where it is served.
    #[must_use]
    pub fn embedded(handle: Handle, key: DashboardKey, listen: String) -> Self {
        let health = Arc::new(Health::new(handle.clock().now(), listen));
        let (mut events, noting, clock) = (handle.subscribe(None), health.clone(), handle.clock().clone());
        // Ends with the scheduler.
        tokio::spawn(async move {
            while let Some(recorded) = events.next().await {
                noting.note_event(&recorded, clock.now().mono);
            }
        });
        Self::new(handle, key, Vec::new(), health)
    }

    /// Lets callers have the configuration read again; call it before the state is shared.
    #[must_use]
    pub fn with_reload(mut self, reload: Reload) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.reload = Some(reload);
        }
        self
    }

    fn reload(&self) -> Option<Reload> {
        self.inner.reload.clone()
    }

    fn handle(&self) -> &Handle {
        &self.inner.handle
    }

    /// The schedule that an alias means: the one of its name, else the first of its kind.
    async fn schedule_of(&self, alias: &Alias) -> Result<ScheduleName, error::ApiError> {
        let views = self.handle().schedules().await?;
        let found = views.iter().find(|view| view.name.as_str() == alias.schedule);
        let found = found.or_else(|| views.iter().find(|view| view.spec.job == alias.kind));
        found.map(|view| view.name.clone()).ok_or_else(|| {
            error::ApiError::not_found(format!("no schedule is named `{}` or runs `{}`", alias.schedule, alias.kind))
        })
    }
}

/// Every route, guarded by the key. It binds nothing: nest it, or give it to [`serve`].
pub fn router(state: AppState) -> Router {
    let routes = routes(&state).layer(from_fn_with_state(state.clone(), auth::require_key));
    finish(auth::open_routes().merge(routes).with_state(state))
}

/// Every route for someone who has proved to be this machine's administrator otherwise.
pub fn local_router(state: AppState) -> Router {
    let routes = routes(&state);
    finish(routes.layer(from_fn(auth::as_local)).with_state(state))
}

fn routes(state: &AppState) -> Router<AppState> {
    let documented = ApiRouter::new()
        .merge(original::routes(&state.inner.aliases))
        .merge(api::routes())
        .merge(steer::routes())
        .merge(outbox::routes())
        .merge(events::routes());
    openapi::documented(documented)
        .merge(dashboard::routes())
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::no_such_method)
}

fn finish(router: Router) -> Router {
    let header = |name, value| SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value));
    let policy = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
    router
        .layer(from_fn(error::time_limit))
        .layer(from_fn(page::note_base))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(header(header::CONTENT_SECURITY_POLICY, policy))
        .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(header::X_FRAME_OPTIONS, "DENY"))
        .layer(header(header::REFERRER_POLICY, "no-referrer"))
        .layer(header(header::CACHE_CONTROL, "no-store"))
}
