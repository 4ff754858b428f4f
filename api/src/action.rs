//! Orders to what runs.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use control::OrderError;
use model::{CryptoMap, Tunnel};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::caller::Operator;
use crate::operations::{named, unknown};
use crate::problem::Problem;
use crate::state::Gateway;

pub(crate) fn routes() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(rekey_tunnel))
        .routes(routes!(rekey_crypto_map))
        .routes(routes!(rekey_isakmp_sa))
}

/// Rekey the IPsec SAs of a tunnel, or bring them up
#[utoipa::path(post, path = "/v1/tunnels/{name}/rekey", operation_id = "rekey_tunnel", tag = "operation",
    params(("name" = String, Path, description = "Name of the tunnel.")),
    responses((status = 202, description = "The rekey has begun."),
        (status = 401, description = "No token, or none that is known.", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The token's role does not allow this.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such tunnel.", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has no SAs of its own, or does not run yet.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The control plane is not ready.", body = Problem, content_type = "application/problem+json")))]
async fn rekey_tunnel(
    State(gateway): State<Gateway>,
    _: Operator,
    path: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let name = named(path)?;
    gateway.store.read::<Tunnel>(&name.parse().map_err(|_| unknown("tunnel", &name))?).await?;
    gateway.control.rekey_tunnel(&name).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Rekey the IPsec SAs of all flows of a crypto map
#[utoipa::path(post, path = "/v1/crypto-maps/{name}/rekey", operation_id = "rekey_crypto_map", tag = "operation",
    params(("name" = String, Path, description = "Name of the crypto map.")),
    responses((status = 202, description = "The rekeys have begun."),
        (status = 401, description = "No token, or none that is known.", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The token's role does not allow this.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such crypto map.", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has no flows, or does not run yet.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The control plane is not ready.", body = Problem, content_type = "application/problem+json")))]
async fn rekey_crypto_map(
    State(gateway): State<Gateway>,
    _: Operator,
    path: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let name = named(path)?;
    gateway.store.read::<CryptoMap>(&name.parse().map_err(|_| unknown("crypto-map", &name))?).await?;
    gateway.control.rekey_crypto_map(&name).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Rekey an IKE SA (phase 1); its IPsec SAs stay
#[utoipa::path(post, path = "/v1/isakmp-sas/{id}/rekey", operation_id = "rekey_isakmp_sa", tag = "operation",
    params(("id" = String, Path, description = "Id of the IKE SA. Of several between the same peers, the one in use is rekeyed.")),
    responses((status = 202, description = "The rekey has begun: another IKE SA, with another id, takes its place."),
        (status = 401, description = "No token, or none that is known.", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The token's role does not allow this.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such IKE SA.", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It is not established: being negotiated, rekeyed or deleted.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The control plane is not ready.", body = Problem, content_type = "application/problem+json")))]
async fn rekey_isakmp_sa(
    State(gateway): State<Gateway>,
    _: Operator,
    path: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let id = named(path)?;
    if !gateway.control.isakmp_sas().iter().any(|sa| sa.id == id) {
        return Err(unknown("isakmp-sa", &id));
    }
    gateway.control.rekey_isakmp_sa(&id).await?;
    Ok(StatusCode::ACCEPTED)
}

impl From<OrderError> for Problem {
    fn from(error: OrderError) -> Self {
        match error {
            // It is desired, or was just seen, or we had answered 404: it only does not run yet, or no more.
            OrderError::Unknown { .. }
            | OrderError::NotProtected { .. }
            | OrderError::NotEstablished { .. } => Self::conflict(error.to_string()),
            OrderError::NotRunning => Self::unavailable(error.to_string()),
        }
    }
}
