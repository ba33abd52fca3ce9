//! Who may call: the key in a header, or a browser's session cookie. Deny by default.

use axum::extract::{Form, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Extension, Router};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::ApiError;
use crate::page::Base;
use crate::{AppState, health, page};

const COOKIE: &str = "sched_session";

/// Keys that stand in manuals, examples and other programs' defaults.
const KNOWN_KEYS: &[&str] = &["changeme", "secret", "password", "dashboard", "default", "example", "insecure"];

/// The key that guards every route. Only its digest is held.
#[derive(Clone)]
pub struct DashboardKey {
    digest: [u8; 32],
    session: String,
}

impl std::fmt::Debug for DashboardKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DashboardKey(..)")
    }
}

/// Why a key is refused. Never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WeakKey {
    /// Too short.
    #[error("the dashboard key has fewer than 32 characters; take a random one, such as from `openssl rand -hex 32`")]
    Short,
    /// A word that everyone knows, or one character repeated.
    #[error("the dashboard key is a known default; take a random one, such as from `openssl rand -hex 32`")]
    Known,
}

impl DashboardKey {
    /// Takes a key of at least 32 characters.
    ///
    /// ```
    /// use sched_http::{DashboardKey, WeakKey};
    /// assert_eq!(DashboardKey::new("changeme").unwrap_err(), WeakKey::Short);
    /// assert!(DashboardKey::new("0f8b1c0a6f6b4d0d9a1e2c3b4a5f6e7d").is_ok());
    /// ```
    ///
    /// # Errors
    /// When it is short or known.
    pub fn new(key: &str) -> Result<Self, WeakKey> {
        if key.chars().count() < 32 {
            return Err(WeakKey::Short);
        }
        let lower = key.to_ascii_lowercase();
        let repeats = KNOWN_KEYS.iter().any(|known| lower.replace(known, "").trim_matches(['-', '_', ' ']).is_empty());
        let mut characters = lower.chars().collect::<Vec<_>>();
        characters.sort_unstable();
        characters.dedup();
        if repeats || characters.len() < 6 {
            return Err(WeakKey::Known);
        }
        let digest = Sha256::digest(key.as_bytes()).into();
        // Derived from the key: a session ends when the key changes.
        let session = Sha256::digest([b"sched session ".as_slice(), key.as_bytes()].concat());
        Ok(Self { digest, session: session.iter().map(|byte| format!("{byte:02x}")).collect() })
    }

    fn opens(&self, key: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        digest.ct_eq(&self.digest).into()
    }

    fn is_session(&self, cookie: &str) -> bool {
        cookie.as_bytes().ct_eq(self.session.as_bytes()).into()
    }
}

/// Who is calling, for the record.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) String);

pub(crate) async fn as_local(mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Caller("local".into()));
    next.run(request).await
}

pub(crate) async fn require_key(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let key = &state.inner.key;
    let headers = request.headers();
    let bearer = || text(headers, header::AUTHORIZATION.as_str())?.strip_prefix("Bearer ");
    let by_header = text(headers, "x-dash-key").or_else(bearer).map(|given| key.opens(given));
    let by_cookie = || session(headers).is_some_and(|cookie| key.is_session(cookie));
    let caller = match by_header {
        Some(true) => "key",
        Some(false) => return refuse(&request),
        None if by_cookie() => {
            let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
            if changes && !same_site(headers) {
                let message = "a change from another site is refused";
                return ApiError::new(StatusCode::FORBIDDEN, "cross_site", message).into_response();
            }
            "dashboard"
        }
        None => return refuse(&request),
    };
    request.extensions_mut().insert(Caller(caller.into()));
    next.run(request).await
}

/// A person who opens a page is led to the login; everyone else gets 401, whatever the path.
fn refuse(request: &Request) -> Response {
    let wants_page = text(request.headers(), "accept").is_some_and(|accept| accept.contains("text/html"));
    if wants_page && request.method() == Method::GET && request.uri().path() == "/" {
        let base = request.extensions().get::<Base>().cloned().unwrap_or_default();
        return Redirect::to(&format!("{base}/login")).into_response();
    }
    let message = "give the dashboard key in X-Dash-Key, or as Authorization: Bearer";
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message).into_response()
}

/// What browsers say of where a request comes from; a page of ours has the same origin.
fn same_site(headers: &HeaderMap) -> bool {
    match text(headers, "sec-fetch-site") {
        Some(site) => site == "same-origin",
        None => {
            let origin = text(headers, "origin").and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
            origin.is_some() && origin == text(headers, "host")
        }
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn session(headers: &HeaderMap) -> Option<&str> {
    let cookies = text(headers, header::COOKIE.as_str())?;
    cookies.split(';').find_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// The routes that answer without a key.
pub(crate) fn open_routes() -> Router<AppState> {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(health::ready))
        .route("/login", get(login_page).post(login))
        .route("/assets/style.css", get(crate::dashboard::style))
}

#[derive(Deserialize)]
struct Login {
    key: String,
}

async fn login_page(Extension(base): Extension<Base>) -> Result<Response, ApiError> {
    page::login(&base, false).map(IntoResponse::into_response)
}

async fn login(
    State(state): State<AppState>,
    Extension(base): Extension<Base>,
    headers: HeaderMap,
    Form(login): Form<Login>,
) -> Result<Response, ApiError> {
    if !same_site(&headers) {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "cross_site", "log in from this page"));
    }
    let key = &state.inner.key;
    if !key.opens(login.key.trim()) {
        return Ok((StatusCode::UNAUTHORIZED, page::login(&base, true)?).into_response());
    }
    let home = base.home();
    let cookie = format!("{COOKIE}={}; HttpOnly; SameSite=Strict; Path={home}; Max-Age=604800", key.session);
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to(home)).into_response())
}
