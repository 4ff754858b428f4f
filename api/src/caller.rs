//! Who calls, and whether they may.

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use store::Role;

use crate::problem::Problem;
use crate::state::Gateway;

/// A caller who may read.
pub(crate) struct Viewer;

/// A caller who may act.
pub(crate) struct Operator;

/// A caller who may change the desired state.
pub(crate) struct Admin;

impl FromRequestParts<Gateway> for Viewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Problem> {
        require(parts, gateway, Role::Viewer).await.map(|()| Self)
    }
}

impl FromRequestParts<Gateway> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Problem> {
        require(parts, gateway, Role::Operator).await.map(|()| Self)
    }
}

impl FromRequestParts<Gateway> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Problem> {
        require(parts, gateway, Role::Admin).await.map(|()| Self)
    }
}

async fn require(parts: &Parts, gateway: &Gateway, role: Role) -> Result<(), Problem> {
    let token = bearer(parts).ok_or_else(|| {
        Problem::unauthorized("send Authorization: Bearer and a token made by `culvertd token create`")
    })?;
    let caller = gateway
        .store
        .database()
        .authenticate(token)
        .await?
        .ok_or_else(|| Problem::unauthorized("the token is unknown or revoked"))?;
    tracing::Span::current().record("token", caller.token_id.as_str());
    if caller.role >= role {
        Ok(())
    } else {
        Err(Problem::forbidden(format!("the token's role is {}; this needs {role}", caller.role)))
    }
}

/// RFC 6750 section 2.1; the scheme's case does not matter (RFC 9110 section 11.1).
fn bearer(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
