use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::support::Api;

#[tokio::test]
async fn all_pages_together_hold_everything_once() {
    let api = Api::new().await;
    let mut expected = Vec::new();
    for index in 0..25 {
        let name = format!("site-{index:02}");
        api.made(&format!("/v1/sites/{name}"), json!({})).await;
        expected.push(name);
    }
    for limit in [1, 7, 24, 25, 26, 500] {
        let (mut seen, mut path) = (Vec::new(), format!("/v1/sites?limit={limit}"));
        loop {
            let page = api.get(&path).await.json();
            let items = page["items"].as_array().unwrap();
            assert!(!items.is_empty() && items.len() <= limit);
            seen.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
            match &page["next"] {
                Value::String(next) => path = format!("/v1/sites?limit={limit}&after={next}"),
                end => {
                    assert_eq!(*end, Value::Null);
                    break;
                }
            }
        }
        assert_eq!(seen, expected, "limit {limit}");
    }
}

#[tokio::test]
async fn an_empty_list_is_a_page() {
    let api = Api::new().await;
    let answer = api.get("/v1/tunnels").await;
    assert_eq!((answer.status, answer.json()), (StatusCode::OK, json!({"items": [], "next": null})));
}

#[tokio::test]
async fn a_bad_query_is_refused() {
    let api = Api::new().await;
    for query in [
        "limit=0",
        "limit=501",
        "limit=-1",
        "limit=x",
        "limit=",
        "after=x",
        "after=",
        "offset=3",
        "limit=1&limit=2",
    ] {
        let answer = api.get(&format!("/v1/sites?{query}")).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (StatusCode::BAD_REQUEST, "bad_request"),
            "{query}"
        );
    }
}
