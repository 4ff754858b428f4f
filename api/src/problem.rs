//! Every refusal: `application/problem+json` (RFC 9457).

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::read::FieldError;
use serde::Serialize;
use store::StoreError;

/// A refusal or a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({
    "type": "urn:culvert:problem:invalid", "title": "Some fields are wrong", "status": 422,
    "detail": "1 field is wrong", "instance": "urn:culvert:request:0192f0c1a2b3",
    "errors": [{"pointer": "/mtu_bytes", "detail": "must be an integer from 576 to 9216"}]
}))]
pub(crate) struct Problem {
    /// Stable name of the kind of problem.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The same for people.
    title: &'static str,
    /// HTTP status.
    #[schema(value_type = u16)]
    #[serde(serialize_with = "as_number")]
    status: StatusCode,
    /// What is wrong this time.
    detail: String,
    /// The request that was refused, as the log names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    instance: Option<Box<str>>,
    /// Every wrong field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FieldError>,
    /// What uses the resource that was to be deleted.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(required = false, value_type = Vec<String>)]
    used_by: Box<[String]>,
}

/// Declares one constructor per kind of problem.
macro_rules! problems {
    ($($(#[$meta:meta])* $name:ident = $status:ident, $title:literal;)+) => {
        impl Problem {
            $(
                $(#[$meta])*
                pub(crate) fn $name(detail: impl Into<String>) -> Self {
                    Self {
                        kind: concat!("urn:culvert:problem:", stringify!($name)),
                        title: $title,
                        status: StatusCode::$status,
                        detail: detail.into(),
                        instance: None,
                        errors: Vec::new(),
                        used_by: Box::default(),
                    }
                }
            )+
        }
    };
}

problems! {
    /// A query or a header that can't be understood.
    bad_request = BAD_REQUEST, "The request can't be understood";
    /// A body that is no JSON.
    malformed = BAD_REQUEST, "The body is not JSON";
    /// No token, or none that is known.
    unauthorized = UNAUTHORIZED, "A valid token is required";
    /// A token whose role is too small.
    forbidden = FORBIDDEN, "The token's role does not allow this";
    /// No such path or resource.
    not_found = NOT_FOUND, "There is nothing here";
    /// A known path, another method.
    method_not_allowed = METHOD_NOT_ALLOWED, "The method is not allowed here";
    /// Deleting what others use.
    in_use = CONFLICT, "The resource is in use";
    /// Acting on what can't act now.
    conflict = CONFLICT, "The state does not allow this";
    /// `If-Match` or `If-None-Match` does not hold.
    precondition_failed = PRECONDITION_FAILED, "The precondition does not hold";
    /// A body over the limit.
    too_large = PAYLOAD_TOO_LARGE, "The body is too large";
    /// A body that does not say that it is JSON.
    unsupported_media_type = UNSUPPORTED_MEDIA_TYPE, "The body must be application/json";
    /// Fields that are wrong.
    invalid = UNPROCESSABLE_ENTITY, "Some fields are wrong";
    /// This server wants `If-Match`.
    precondition_required = PRECONDITION_REQUIRED, "If-Match is required";
    /// Our fault; the log knows more.
    internal = INTERNAL_SERVER_ERROR, "The server failed";
    /// The control plane is not there.
    unavailable = SERVICE_UNAVAILABLE, "The control plane is not ready";
}

impl Problem {
    /// Wrong fields.
    pub(crate) fn fields(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [one] if one.pointer.is_empty() => one.detail.clone(),
            [one] => format!("{} {}", one.pointer, one.detail),
            several => format!("{} fields are wrong", several.len()),
        };
        Self { errors, ..Self::invalid(detail) }
    }

    /// Names the request.
    pub(crate) fn with_instance(self, instance: String) -> Self {
        Self { instance: Some(instance.into()), ..self }
    }

    /// A failure that is ours: the whole chain goes to the log, nothing of it to the client.
    pub(crate) fn failure(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut chain = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            chain = format!("{chain}: {cause}");
            source = cause.source();
        }
        tracing::error!(error = chain, "request failed");
        Self::internal("see the log of culvertd for the request's id")
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { .. } => Self::not_found(error.to_string()),
            StoreError::PreconditionFailed { .. } => Self::precondition_failed(error.to_string()),
            StoreError::Invalid(errors) => Self::fields(errors),
            StoreError::InUse(ref users) => {
                let used_by = users
                    .iter()
                    .map(|user| format!("/v1/{}/{}{}", user.kind, user.name, anchor(&user.pointer)));
                Self { used_by: used_by.collect(), ..Self::in_use(error.to_string()) }
            }
            StoreError::Needed(_) => Self::in_use(error.to_string()),
            StoreError::Corrupt { .. }
            | StoreError::Seal(_)
            | StoreError::Database(_)
            | StoreError::Interrupted => Self::failure(&error),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let mut response = (self.status, headers, Json(&self)).into_response();
        // The outermost layer names the request and writes the body anew.
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        response.extensions_mut().insert(self);
        response
    }
}

/// RFC 9457 section 3.
pub(crate) const CONTENT_TYPE: &str = "application/problem+json";

/// The field of the user, as a fragment (RFC 6901 section 6).
fn anchor(pointer: &str) -> String {
    format!("#{pointer}")
}

fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}
