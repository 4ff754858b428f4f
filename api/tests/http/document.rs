use std::collections::BTreeSet;

use axum::http::{StatusCode, header};
use serde_json::Value;

use crate::support::Api;

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../openapi/culvert-v1.json");

fn document() -> Value {
    serde_json::to_value(api::router::openapi()).unwrap()
}

/// With `UPDATE_OPENAPI=1` the file is written instead.
#[test]
fn the_committed_document_is_the_one_that_is_served() {
    let now = api::router::openapi().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("UPDATE_OPENAPI").is_some_and(|value| value == "1") {
        std::fs::write(COMMITTED, &now).unwrap();
    }
    let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
    assert!(
        committed == now,
        "openapi/culvert-v1.json differs: run the test with UPDATE_OPENAPI=1 and commit it"
    );
}

#[test]
fn operations_have_ids_of_their_own_and_summaries() {
    let document = document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path}"));
            assert!(ids.insert(id.to_owned()), "{id} twice");
            assert!(operation["summary"].is_string(), "{id}");
        }
    }
    assert!(ids.contains("put_tunnel") && ids.contains("list_isakmp_policies"), "{ids:?}");
    assert!(document["components"]["securitySchemes"]["token"]["scheme"] == "bearer");
}

#[test]
fn no_reference_dangles() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 50);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

/// What is described and what is parsed are written down in two places; here they are compared.
#[tokio::test]
async fn described_fields_are_those_that_are_known() {
    let api = Api::new().await;
    let document = document();
    for (path, _) in crate::support::everything() {
        let schema = body_schema(&document, path);
        let described: BTreeSet<&str> =
            schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();

        let answer = api.put(path, serde_json::json!({"no_such_field": 1})).await.json();
        let errors = answer["errors"].as_array().unwrap();
        let detail =
            errors.iter().find(|it| it["pointer"] == "/no_such_field").unwrap()["detail"].as_str().unwrap();
        let mut known: BTreeSet<&str> = detail.split("known ones are ").nth(1).unwrap().split(", ").collect();
        known.insert("name");
        assert_eq!(described, known, "{path}");
    }
}

/// They may name what is not there, and nothing else may be wrong with them.
#[tokio::test]
async fn examples_are_right() {
    let document = document();
    for (path, _) in crate::support::everything() {
        let schema = body_schema(&document, path);
        let example = &schema["example"];
        assert!(example.is_object(), "{path} has no example");
        let answer = Api::new().await.put(path, example.clone()).await;
        if answer.status != StatusCode::CREATED {
            answer.pointers();
            for error in answer.json()["errors"].as_array().unwrap() {
                assert!(error["detail"].as_str().unwrap().starts_with("there is no "), "{path}: {error}");
            }
        }
    }
}

fn body_schema<'a>(document: &'a Value, path: &str) -> &'a Value {
    let (collection, _) = path.rsplit_once('/').unwrap();
    let body = &document["paths"][format!("{collection}/{{name}}")]["put"]["requestBody"];
    let reference = body["content"]["application/json"]["schema"]["$ref"].as_str().unwrap();
    document.pointer(reference.strip_prefix('#').unwrap()).unwrap()
}

#[tokio::test]
async fn pages_for_people_need_nothing_from_elsewhere() {
    let api = Api::new().await;
    let landing = api.get("/").await;
    assert_eq!(landing.status, StatusCode::OK);
    let docs = api.get("/docs/").await;
    assert_eq!(docs.status, StatusCode::OK, "{docs:?}");
    for page in [&landing, &docs] {
        assert!(page.headers.contains_key(header::CONTENT_SECURITY_POLICY));
        assert!(!page.text.contains("src=\"http") && !page.text.contains("href=\"http"), "{}", page.text);
    }
    let initializer = api.get("/docs/swagger-initializer.js").await;
    assert!(initializer.text.contains("/openapi.json"), "{}", initializer.text);
    assert_eq!(api.get("/docs/swagger-ui-bundle.js").await.status, StatusCode::OK);
    assert_eq!(api.get("/openapi.json").await.json(), document());
}
