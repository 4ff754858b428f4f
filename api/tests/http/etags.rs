use std::sync::Arc;

use axum::http::{Method, StatusCode};
use serde_json::json;

use crate::support::Api;

#[tokio::test]
async fn a_stale_if_match_changes_nothing() {
    let api = Api::new().await;
    let first = api.made("/v1/sites/a", json!({})).await.etag();
    let second = api.made("/v1/sites/a", json!({"description": "two"})).await.etag();
    let body = json!({"description": "three"});
    let stale = api.call(Method::PUT, "/v1/sites/a", &[("If-Match", &first)], Some(&body)).await;
    assert_eq!(
        (stale.status, stale.problem().as_str()),
        (StatusCode::PRECONDITION_FAILED, "precondition_failed")
    );
    let stale = api.call(Method::DELETE, "/v1/sites/a", &[("If-Match", &first)], None).await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(api.get("/v1/sites/a").await.etag(), second);
    let fresh = api.call(Method::DELETE, "/v1/sites/a", &[("If-Match", &second)], None).await;
    assert_eq!(fresh.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn if_match_on_nothing_fails() {
    let api = Api::new().await;
    for condition in ["*", "\"1\"", "\"x\""] {
        let answer = api.call(Method::PUT, "/v1/sites/a", &[("If-Match", condition)], Some(&json!({}))).await;
        assert_eq!(answer.status, StatusCode::PRECONDITION_FAILED, "{condition}");
        let answer = api.call(Method::DELETE, "/v1/sites/a", &[("If-Match", condition)], None).await;
        assert_eq!(answer.status, StatusCode::PRECONDITION_FAILED, "{condition}");
    }
}

#[tokio::test]
async fn conditions_that_make_no_sense_are_refused() {
    let api = Api::new().await;
    for headers in [
        &[("If-Match", "7")][..],
        &[("If-None-Match", "\"7\"")],
        &[("If-Match", "*"), ("If-None-Match", "*")],
        &[("If-Match", "null")],
    ] {
        let answer = api.call(Method::PUT, "/v1/sites/a", headers, Some(&json!({}))).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (StatusCode::BAD_REQUEST, "bad_request"),
            "{headers:?}"
        );
    }
}

#[tokio::test]
async fn a_reader_who_knows_it_already_gets_304() {
    let api = Api::new().await;
    let etag = api.made("/v1/sites/a", json!({})).await.etag();
    let answer = api.call(Method::GET, "/v1/sites/a", &[("If-None-Match", &etag)], None).await;
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!(answer.etag(), etag);
    let answer = api.call(Method::GET, "/v1/sites/a", &[("If-None-Match", "\"0\"")], None).await;
    assert_eq!(answer.status, StatusCode::OK);
    let answer = api.call(Method::GET, "/v1/sites/a", &[("If-None-Match", "0")], None).await;
    assert_eq!(answer.problem(), "bad_request");
}

#[tokio::test]
async fn a_server_that_requires_if_match_says_428() {
    let api = Api::requiring_if_match().await;
    let bare = api.put("/v1/sites/a", json!({})).await;
    assert_eq!(
        (bare.status, bare.problem().as_str()),
        (StatusCode::PRECONDITION_REQUIRED, "precondition_required")
    );
    let made = api.call(Method::PUT, "/v1/sites/a", &[("If-None-Match", "*")], Some(&json!({}))).await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert_eq!(api.delete("/v1/sites/a").await.status, StatusCode::PRECONDITION_REQUIRED);
    let deleted = api.call(Method::DELETE, "/v1/sites/a", &[("If-Match", &made.etag())], None).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_writers_with_one_etag_exactly_one_wins() {
    let api = Arc::new(Api::new().await);
    for round in 0..20 {
        let etag = api.made("/v1/sites/a", json!({"description": format!("round {round}")})).await.etag();
        let writers: Vec<_> = ["left", "right"]
            .into_iter()
            .map(|side| {
                let (api, etag) = (api.clone(), etag.clone());
                tokio::spawn(async move {
                    let body = json!({"description": side});
                    api.call(Method::PUT, "/v1/sites/a", &[("If-Match", &etag)], Some(&body)).await.status
                })
            })
            .collect();
        let mut statuses = Vec::new();
        for writer in writers {
            statuses.push(writer.await.unwrap());
        }
        statuses.sort();
        assert_eq!(statuses, [StatusCode::OK, StatusCode::PRECONDITION_FAILED], "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_creators_exactly_one_wins() {
    let api = Arc::new(Api::new().await);
    let creators: Vec<_> = (0..8)
        .map(|creator| {
            let api = api.clone();
            tokio::spawn(async move {
                let body = json!({"description": format!("creator {creator}")});
                api.call(Method::PUT, "/v1/sites/a", &[("If-None-Match", "*")], Some(&body)).await.status
            })
        })
        .collect();
    let mut made = 0;
    for creator in creators {
        made += usize::from(creator.await.unwrap() == StatusCode::CREATED);
    }
    assert_eq!(made, 1);
}
