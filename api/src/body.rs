//! JSON bodies, made domain types with every wrong field told.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use model::Resource;
use model::read::{FieldError, parse};
use serde_json::Value;
use zeroize::Zeroize;

use crate::problem::Problem;

/// Largest body in bytes. An access-list of 10,000 rules fits.
pub(crate) const LIMIT_BYTES: usize = 4 << 20;

/// A JSON document.
pub(crate) struct Document(Value);

impl Document {
    /// The resource that it describes; if it bears a name, that must be `name`.
    pub(crate) fn resource<R: Resource>(mut self, name: &R::Name) -> Result<R, Problem> {
        let mut errors = Vec::new();
        if let Some(given) = self.0.as_object_mut().and_then(|fields| fields.remove("name"))
            && given != Value::String(name.to_string())
        {
            let detail = format!("must be {name}, as in the path, or absent");
            errors.push(FieldError { pointer: "/name".to_owned(), detail });
        }
        let parsed = parse(&self.0);
        if let Some(field) = R::SECRET_FIELD
            && let Some(Value::String(text)) = self.0.get_mut(field)
        {
            text.zeroize();
        }
        match parsed {
            Ok(resource) if errors.is_empty() => Ok(resource),
            Ok(_) => Err(Problem::fields(errors)),
            Err(wrong) => {
                errors.extend(wrong);
                Err(Problem::fields(errors))
            }
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for Document {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::unsupported_media_type("send Content-Type: application/json"));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| refuse(&rejection))?;
        // The position helps; the words around it could quote a secret.
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            Problem::malformed(format!("not JSON at line {}, column {}", error.line(), error.column()))
        })
    }
}

fn refuse(rejection: &BytesRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Problem::too_large(format!("at most {LIMIT_BYTES} bytes"))
    } else {
        Problem::bad_request("the body could not be read")
    }
}

/// `application/json`, with or without parameters.
fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}
