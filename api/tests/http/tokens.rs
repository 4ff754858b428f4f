use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::json;
use store::Role;

use crate::support::{Answer, Api};

async fn send(api: &Api, authorization: Option<&str>, method: &str, path: &str) -> Answer {
    let mut request =
        Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    api.send(request.body(Body::from("{}")).unwrap()).await
}

#[tokio::test]
async fn without_a_valid_token_there_is_no_answer() {
    let api = Api::new().await;
    let good = api.role(Role::Admin).await;
    let cut = format!("Bearer {}", &good[..good.len() - 1]);
    let basic = format!("Basic {good}");
    for authorization in
        [None, Some(""), Some("Bearer"), Some("Bearer x"), Some(&*cut), Some(&*basic), Some(&*good)]
    {
        for (method, path) in [
            ("GET", "/v1/sites"),
            ("GET", "/v1/sites/a"),
            ("PUT", "/v1/sites/a"),
            ("DELETE", "/v1/sites/a"),
            ("GET", "/v1/isakmp-sas"),
            ("GET", "/v1/ipsec-sas"),
            ("GET", "/v1/tunnels/a/state"),
            ("GET", "/v1/crypto-maps/a/state"),
            ("GET", "/v1/dataplane"),
            ("GET", "/v1/events"),
            ("POST", "/v1/tunnels/a/rekey"),
            ("POST", "/v1/crypto-maps/a/rekey"),
            ("POST", "/v1/isakmp-sas/a/rekey"),
            ("GET", "/metrics"),
        ] {
            let answer = send(&api, authorization, method, path).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{authorization:?} {method} {path}");
            assert_eq!(answer.problem(), "unauthorized");
            assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer");
        }
    }
    assert_eq!(api.desired().await, model::Desired::default());
    assert_eq!(send(&api, Some(&format!("bearer {good}")), "GET", "/v1/sites").await.status, StatusCode::OK);
}

#[tokio::test]
async fn every_described_operation_but_health_wants_a_token() {
    let api = Api::new().await;
    let document = serde_json::to_value(api::router::openapi()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let path = path.replace("{name}", "a").replace("{id}", "a");
            let answer = send(&api, None, &method.to_uppercase(), &path).await;
            let expected = if path == "/v1/health" { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
            assert_eq!(answer.status, expected, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_role_allows_what_it_says() {
    let api = Api::new().await;
    api.whole_gateway().await;
    for (role, read, act, change) in
        [(Role::Viewer, 200, 403, 403), (Role::Operator, 200, 503, 403), (Role::Admin, 200, 503, 201)]
    {
        let authorization = format!("Bearer {}", api.role(role).await);
        let status =
            async |method, path| send(&api, Some(&authorization), method, path).await.status.as_u16();
        assert_eq!(status("GET", "/v1/sites").await, read, "{role}");
        assert_eq!(status("GET", "/metrics").await, read, "{role}");
        assert_eq!(status("POST", "/v1/tunnels/gre1/rekey").await, act, "{role}");
        assert_eq!(status("PUT", "/v1/sites/new").await, change, "{role}");
        if change == 403 {
            assert_eq!(status("DELETE", "/v1/sites/branch").await, 403, "{role}");
        }
    }
}

#[tokio::test]
async fn a_revoked_token_is_worth_nothing() {
    let api = Api::new().await;
    let token = api.store.database().create_token("t", Role::Admin).await.unwrap();
    let authorization = format!("Bearer {}", *token.text);
    assert_eq!(send(&api, Some(&authorization), "GET", "/v1/sites").await.status, StatusCode::OK);
    assert!(api.store.database().revoke_token(&token.id).await.unwrap());
    assert_eq!(send(&api, Some(&authorization), "GET", "/v1/sites").await.problem(), "unauthorized");
}

#[tokio::test]
async fn the_role_is_asked_before_the_body_is_read() {
    let api = Api::new().await;
    let authorization = format!("Bearer {}", api.role(Role::Viewer).await);
    let request = Request::put("/v1/sites/a")
        .header(header::AUTHORIZATION, authorization)
        .body(Body::from(json!({"wrong": true}).to_string()))
        .unwrap();
    assert_eq!(api.send(request).await.problem(), "forbidden");
}
