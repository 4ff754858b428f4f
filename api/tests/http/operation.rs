use axum::http::{Method, StatusCode, header};
use serde_json::json;

use crate::support::Api;

#[tokio::test]
async fn health_needs_no_token_and_says_that_nothing_runs_here() {
    let api = Api::new().await;
    let answer =
        api.send(axum::http::Request::get("/v1/health").body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["ok"], false);
}

#[tokio::test]
async fn a_tunnel_that_was_just_written_is_connecting() {
    let api = Api::new().await;
    api.whole_gateway().await;
    let state = api.get("/v1/tunnels/gre1/state").await.json();
    assert_eq!((&state["name"], &state["state"]), (&json!("gre1"), &json!("connecting")));
    assert!(state["cause"].is_string() && state["since"].is_string());
    assert_eq!(api.get("/v1/tunnels/none/state").await.problem(), "not_found");
    assert_eq!(api.get("/v1/crypto-maps/map/state").await.json(), json!({"name": "map", "flows": []}));
    assert_eq!(api.get("/v1/crypto-maps/none/state").await.problem(), "not_found");
}

#[tokio::test]
async fn orders_to_what_does_not_run_are_refused() {
    let api = Api::new().await;
    api.whole_gateway().await;
    let order = async |path| api.call(Method::POST, path, &[], None).await;
    assert_eq!(order("/v1/tunnels/none/rekey").await.problem(), "not_found");
    assert_eq!(order("/v1/tunnels/gre1/rekey").await.problem(), "unavailable");
    assert_eq!(order("/v1/crypto-maps/map/rekey").await.problem(), "unavailable");
}

#[tokio::test]
async fn views_are_lists() {
    let api = Api::new().await;
    assert_eq!(api.get("/v1/isakmp-sas").await.json(), json!({"items": []}));
    assert_eq!(api.get("/v1/ipsec-sas").await.json(), json!({"items": []}));
    assert_eq!(api.get("/v1/dataplane").await.json()["alive"], false);
}

#[tokio::test]
async fn metrics_are_text_for_prometheus() {
    let api = Api::new().await;
    api.made("/v1/sites/a", json!({})).await;
    let answer = api.get("/metrics").await;
    assert!(answer.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    assert!(answer.text.lines().any(|line| line == "culvert_desired_generation 1"), "{}", answer.text);
}
