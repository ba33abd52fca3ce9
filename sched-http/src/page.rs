//! Pages from templates; everything that is put in is escaped.

use std::sync::LazyLock;

use axum::extract::rejection::NestedPathRejection;
use axum::extract::{NestedPath, Request};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{Html, Response};
use minijinja::{AutoEscape, Environment};
use serde_json::{Value, json};

use crate::error::ApiError;

/// Where the router is nested: empty at the root, else such as `/scheduler`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Base(pub(crate) String);

impl Base {
    /// The path of the dashboard.
    pub(crate) fn home(&self) -> &str {
        if self.0.is_empty() { "/" } else { &self.0 }
    }
}

impl std::fmt::Display for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Notes for every handler where the router is nested.
pub(crate) async fn note_base(
    nested: Result<NestedPath, NestedPathRejection>,
    mut request: Request,
    next: Next,
) -> Response {
    let base = nested.map_or_else(|_| String::new(), |path| path.as_str().trim_end_matches('/').to_owned());
    request.extensions_mut().insert(Base(base));
    next.run(request).await
}

static PAGES: LazyLock<Result<Environment<'static>, String>> = LazyLock::new(|| {
    let mut pages = Environment::new();
    pages.set_auto_escape_callback(|_| AutoEscape::Html);
    let texts = [
        ("page.html", include_str!("pages/page.html")),
        ("live.html", include_str!("pages/live.html")),
        ("login.html", include_str!("pages/login.html")),
    ];
    for (name, text) in texts {
        pages.add_template(name, text).map_err(|error| format!("{error:#}"))?;
    }
    Ok(pages)
});

pub(crate) fn render(name: &str, facts: Value) -> Result<Html<String>, ApiError> {
    let fail = |message: String| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message);
    let pages = PAGES.as_ref().map_err(|message| fail(message.clone()))?;
    let page = pages.get_template(name).and_then(|page| page.render(minijinja::value::Serde(facts)));
    page.map(Html).map_err(|error| fail(format!("{error:#}")))
}

pub(crate) fn login(base: &Base, refused: bool) -> Result<Html<String>, ApiError> {
    render("login.html", json!({ "base": base.0, "refused": refused }))
}
