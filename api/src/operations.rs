//! What runs: read-only views of the control plane.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use control::view::{
    Condition, CryptoMapState, DataplaneStatus, Health, HealthPart, IpsecSa, IsakmpSa, Traffic, TunnelState,
};
use model::{CryptoMap, Tunnel};
use serde::Serialize;
use store::Stored;
use time::OffsetDateTime;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::caller::Viewer;
use crate::expiry;
use crate::problem::Problem;
use crate::state::Gateway;

pub(crate) fn routes() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(isakmp_sas))
        .routes(routes!(ipsec_sas))
        .routes(routes!(tunnel_state))
        .routes(routes!(crypto_map_state))
        .routes(routes!(dataplane))
        .routes(routes!(health))
}

/// All IKE SAs.
#[derive(Serialize, utoipa::ToSchema)]
struct IsakmpSaList {
    items: Vec<IsakmpSa>,
}

/// All IPsec SAs.
#[derive(Serialize, utoipa::ToSchema)]
struct IpsecSaList {
    items: Vec<IpsecSa>,
}

/// List the IKE SAs (phase 1)
#[utoipa::path(get, path = "/v1/isakmp-sas", operation_id = "list_isakmp_sas", tag = "operation",
    responses((status = 200, description = "All IKE SAs.", body = IsakmpSaList),
        (status = 401, description = "No token, or none that is known.", body = Problem, content_type = "application/problem+json")))]
async fn isakmp_sas(State(gateway): State<Gateway>, _: Viewer) -> Json<IsakmpSaList> {
    Json(IsakmpSaList { items: gateway.control.isakmp_sas() })
}

/// List the IPsec SAs (phase 2), one for each direction
#[utoipa::path(get, path = "/v1/ipsec-sas", operation_id = "list_ipsec_sas", tag = "operation",
    responses((status = 200, description = "All IPsec SAs, with counters as of now.", body = IpsecSaList),
        (status = 401, description = "No token, or none that is known.", body = Problem, content_type = "application/problem+json")))]
async fn ipsec_sas(State(gateway): State<Gateway>, _: Viewer) -> Json<IpsecSaList> {
    Json(IpsecSaList { items: gateway.control.ipsec_sas() })
}

/// Read the state of a tunnel, with its cause when it is not up
#[utoipa::path(get, path = "/v1/tunnels/{name}/state", operation_id = "read_tunnel_state", tag = "operation",
    params(("name" = String, Path, description = "Name of the tunnel.")),
    responses((status = 200, description = "Its state.", body = TunnelState),
        (status = 401, description = "No token, or none that is known.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such tunnel.", body = Problem, content_type = "application/problem+json")))]
async fn tunnel_state(
    State(gateway): State<Gateway>,
    _: Viewer,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<TunnelState>, Problem> {
    let name = named(path)?;
    let desired = gateway.store.read::<Tunnel>(&name.parse().map_err(|_| unknown("tunnel", &name))?).await?;
    Ok(Json(gateway.control.tunnel_state(&name).unwrap_or_else(|| not_yet_taken_up(&desired))))
}

/// Read the state of a crypto map: of all its flows
#[utoipa::path(get, path = "/v1/crypto-maps/{name}/state", operation_id = "read_crypto_map_state", tag = "operation",
    params(("name" = String, Path, description = "Name of the crypto map.")),
    responses((status = 200, description = "Its flows.", body = CryptoMapState),
        (status = 401, description = "No token, or none that is known.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such crypto map.", body = Problem, content_type = "application/problem+json")))]
async fn crypto_map_state(
    State(gateway): State<Gateway>,
    _: Viewer,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<CryptoMapState>, Problem> {
    let name = named(path)?;
    gateway.store.read::<CryptoMap>(&name.parse().map_err(|_| unknown("crypto-map", &name))?).await?;
    Ok(Json(gateway.control.crypto_map_state(&name)))
}

/// Read the state of the dataplane process
#[utoipa::path(get, path = "/v1/dataplane", operation_id = "read_dataplane", tag = "operation",
    responses((status = 200, description = "Its state.", body = DataplaneStatus),
        (status = 401, description = "No token, or none that is known.", body = Problem, content_type = "application/problem+json")))]
async fn dataplane(State(gateway): State<Gateway>, _: Viewer) -> Json<DataplaneStatus> {
    Json(gateway.control.dataplane())
}

/// Read the gateway's health; needs no token
///
/// The status is 200 as long as culvertd answers at all; `ok` says whether all is well.
#[utoipa::path(get, path = "/v1/health", operation_id = "read_health", tag = "operation", security(()),
    responses((status = 200, description = "Its health.", body = Health)))]
async fn health(State(gateway): State<Gateway>) -> Json<Health> {
    let mut health = gateway.control.health();
    let certificates = match expiry::expiries(&gateway).await {
        Ok(expiries) => expiry::health(&expiries, OffsetDateTime::now_utc()),
        Err(error) => {
            tracing::warn!(%error, "the certificates cannot be read");
            HealthPart { name: "certificates", ok: false, detail: "they cannot be read".to_owned() }
        }
    };
    health.ok &= certificates.ok;
    health.parts.push(certificates);
    Json(health)
}

/// The name in the path.
pub(crate) fn named(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    path.map(|Path(name)| name).map_err(|_| Problem::bad_request("the path is not UTF-8"))
}

pub(crate) fn unknown(noun: &str, name: &str) -> Problem {
    Problem::not_found(format!("there is no {noun} {name}"))
}

/// A tunnel that was written a moment ago, or before a control plane that has not come up yet.
fn not_yet_taken_up(desired: &Stored<Tunnel>) -> TunnelState {
    let since = i128::from(desired.updated_at_ms) * 1_000_000;
    let (state, cause) = if desired.resource.enabled {
        (Condition::Connecting, "the control plane has not taken it up yet")
    } else {
        (Condition::Disabled, "switched off by the operator")
    };
    TunnelState {
        name: desired.name.to_string(),
        state,
        cause: Some(cause.to_owned()),
        since: OffsetDateTime::from_unix_timestamp_nanos(since).unwrap_or(OffsetDateTime::UNIX_EPOCH),
        mtu_bytes: 0,
        counters: Traffic::default(),
        spi_in: None,
        spi_out: None,
    }
}
