use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::json;
use tower::ServiceExt;

use crate::support::Api;

#[tokio::test]
async fn health_needs_no_token_and_says_that_nothing_runs_here() {
    let api = Api::new().await;
    let answer = api.send(Request::get("/v1/health").body(Body::empty()).unwrap()).await;
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
    assert_eq!(order("/v1/isakmp-sas/1/rekey").await.problem(), "not_found");
}

#[tokio::test]
async fn views_are_lists() {
    let api = Api::new().await;
    assert_eq!(api.get("/v1/isakmp-sas").await.json(), json!({"items": []}));
    assert_eq!(api.get("/v1/ipsec-sas").await.json(), json!({"items": []}));
    assert_eq!(api.get("/v1/dataplane").await.json()["alive"], false);
}

#[tokio::test]
async fn events_tell_the_generation_at_first_and_whenever_it_grows() {
    let api = Api::new().await;
    let request = Request::get("/v1/events").header(header::AUTHORIZATION, format!("Bearer {}", api.token));
    let response = api.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut body = response.into_body();
    let mut next = async || {
        let frame =
            tokio::time::timeout(Duration::from_secs(10), body.frame()).await.unwrap().unwrap().unwrap();
        String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
    };
    assert_eq!(next().await, "event: generation\nid: 0\ndata: 0\n\n");
    api.made("/v1/sites/a", json!({})).await;
    assert_eq!(next().await, "event: generation\nid: 1\ndata: 1\n\n");
}

#[tokio::test]
async fn metrics_are_text_for_prometheus() {
    let api = Api::new().await;
    api.made("/v1/sites/a", json!({})).await;
    let answer = api.get("/metrics").await;
    assert!(answer.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    assert!(answer.text.lines().any(|line| line == "culvert_desired_generation 1"), "{}", answer.text);
}
