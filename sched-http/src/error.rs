//! Errors in one shape: `{"ok":false,"error":{"code","message"}}`.

use std::time::Duration;

use aide::OperationOutput;
use aide::generate::GenContext;
use aide::openapi::{Operation, Response as Described, StatusCode as DescribedStatus};
use axum::Json;
use axum::extract::Request;
use axum::http::{StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sched_core::{EngineError, Refusal};
use schemars::JsonSchema;
use serde::Serialize;

/// Every call but a stream ends within this.
const LIMIT: Duration = Duration::from_secs(30);

/// An error as callers see it.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }
}

/// What every error looks like.
#[derive(Serialize, JsonSchema)]
struct ErrorBody {
    /// False.
    ok: bool,
    /// What is wrong.
    error: ErrorText,
}

#[derive(Serialize, JsonSchema)]
struct ErrorText {
    /// A word for programs.
    code: &'static str,
    /// A sentence for people, with the remedy.
    message: String,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = ErrorText { code: self.code, message: self.message };
        (self.status, Json(ErrorBody { ok: false, error })).into_response()
    }
}

impl OperationOutput for ApiError {
    type Inner = Self;

    fn operation_response(ctx: &mut GenContext, operation: &mut Operation) -> Option<Described> {
        Json::<ErrorBody>::operation_response(ctx, operation)
    }

    fn inferred_responses(
        ctx: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<DescribedStatus>, Described)> {
        Self::operation_response(ctx, operation).map(|described| (None, described)).into_iter().collect()
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let (status, code) = match &error {
            EngineError::Refused(Refusal::UnknownSchedule { .. }) | EngineError::UnknownRun(_) => {
                (StatusCode::NOT_FOUND, "not_found")
            }
            EngineError::Refused(Refusal::Draining | Refusal::StoreFailing) | EngineError::Stopped => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
            EngineError::Refused(_) => (StatusCode::CONFLICT, "refused"),
            EngineError::Params(_) | EngineError::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "params"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        Self::new(status, code, error.to_string())
    }
}

pub(crate) async fn no_such_route(uri: Uri) -> ApiError {
    ApiError::not_found(format!("nothing is at {}", uri.path()))
}

pub(crate) async fn no_such_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path has other methods")
}

pub(crate) async fn time_limit(request: Request, next: Next) -> Response {
    match tokio::time::timeout(LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "no answer within 30 seconds").into_response(),
    }
}

pub(crate) fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!("a request handler panicked");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "this is a defect; the log tells more").into_response()
}
