//! `/openapi.json`: what the routes are, from the types of their handlers.

use std::sync::Arc;

use aide::axum::ApiRouter;
use aide::openapi::{ApiKeyLocation, Info, OpenApi, SecurityScheme};
use aide::transform::TransformOpenApi;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};

use crate::AppState;

/// Takes the documentation out of the routes and puts it beside them.
pub(crate) fn documented(routes: ApiRouter<AppState>) -> Router<AppState> {
    let mut api = OpenApi {
        info: Info { title: "sched".into(), version: env!("CARGO_PKG_VERSION").into(), ..Info::default() },
        ..OpenApi::default()
    };
    let router = routes.finish_api_with(&mut api, describe);
    let api = Arc::new(api);
    router.route("/openapi.json", get(move || async move { Json(&*api).into_response() }))
}

fn describe(api: TransformOpenApi<'_>) -> TransformOpenApi<'_> {
    let description = "Every call but `/healthz` and `/readyz` needs the dashboard key. Instants are RFC 3339, UTC.";
    let key = |location, name: &str| SecurityScheme::ApiKey {
        location,
        name: name.into(),
        description: Some("the dashboard key".into()),
        extensions: Default::default(),
    };
    let bearer = SecurityScheme::Http {
        scheme: "bearer".into(),
        bearer_format: None,
        description: Some("the dashboard key".into()),
        extensions: Default::default(),
    };
    api.description(description)
        .security_scheme("key", key(ApiKeyLocation::Header, "X-Dash-Key"))
        .security_scheme(header::AUTHORIZATION.as_str(), bearer)
        .security_requirement("key")
        .security_requirement(header::AUTHORIZATION.as_str())
}
