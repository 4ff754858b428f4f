use axum::http::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::support::{Api, everything};

#[tokio::test]
async fn each_resource_is_made_read_listed_replaced_and_deleted() {
    let api = Api::new().await;
    for (path, body) in everything() {
        let made = api.put(path, body.clone()).await;
        assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
        assert_eq!(made.headers[header::LOCATION], path);

        let read = api.get(path).await;
        assert_eq!(read.status, StatusCode::OK);
        assert_eq!(read.etag(), made.etag());
        assert_holds(&read.json(), &body);
        let (collection, name) = path.rsplit_once('/').unwrap();
        assert_eq!(read.json()["name"], name);
        assert_eq!(format!("\"{}\"", read.json()["generation"]), read.etag());

        let list = api.get(collection).await.json();
        assert_eq!(list["items"], json!([read.json()]));
        assert_eq!(list["next"], Value::Null);

        let again = api.put(path, body.clone()).await;
        assert_eq!(again.status, StatusCode::OK, "{again:?}");
        assert_eq!(again.etag(), made.etag(), "writing what stands there changes nothing");

        let mut named = body;
        named["name"] = json!(name);
        assert_eq!(api.put(path, named).await.status, StatusCode::OK);
    }
    for (path, _) in everything().into_iter().rev() {
        let deleted = api.delete(path).await;
        assert_eq!((deleted.status, deleted.text.as_str()), (StatusCode::NO_CONTENT, ""));
        assert_eq!(api.get(path).await.problem(), "not_found");
        assert_eq!(api.delete(path).await.problem(), "not_found");
    }
}

/// What was written is read back as it was written, whatever else there is.
fn assert_holds(read: &Value, written: &Value) {
    match (read, written) {
        (Value::Object(read), Value::Object(written)) => {
            for (field, value) in written.iter().filter(|(field, _)| *field != "key") {
                assert_holds(&read[field], value);
            }
        }
        (Value::Array(read), Value::Array(written)) => {
            assert_eq!(read.len(), written.len());
            read.iter().zip(written).for_each(|(read, written)| assert_holds(read, written));
        }
        _ => assert_eq!(read, written),
    }
}

#[tokio::test]
async fn what_is_read_can_be_written_back_without_the_servers_own_fields() {
    let api = Api::new().await;
    api.whole_gateway().await;
    for (path, _) in everything() {
        let read = api.get(path).await;
        let mut body = read.json();
        for own in ["generation", "created_at", "updated_at", "fingerprint", "certificates"] {
            body.as_object_mut().unwrap().remove(own);
        }
        let written = api.put(path, body).await;
        assert_eq!(written.status, StatusCode::OK, "{written:?}");
        assert_eq!(written.etag(), read.etag(), "{path}");
    }
}

#[tokio::test]
async fn what_is_in_use_is_not_deleted_and_its_users_are_named() {
    let api = Api::new().await;
    api.whole_gateway().await;
    let users = [
        ("/v1/sites/branch", "/v1/tunnels/gre1#/site"),
        ("/v1/isakmp-policies/strong", "/v1/crypto-maps/map#/entries/0/isakmp_policies/0"),
        ("/v1/transform-sets/aes256", "/v1/crypto-maps/map#/entries/0/transform_sets/0"),
        ("/v1/ipsec-profiles/branch", "/v1/tunnels/gre1#/protection/ipsec_profile"),
        ("/v1/access-lists/gre", "/v1/crypto-maps/map#/entries/0/access_list"),
        ("/v1/crypto-maps/map", "/v1/interfaces/black0#/crypto_map"),
        ("/v1/interfaces/black0", "/v1/tunnels/gre1#/source"),
        ("/v1/tunnels/gre1", "/v1/routes/to-branch#/tunnel"),
    ];
    for (path, user) in users {
        let refused = api.delete(path).await;
        assert_eq!((refused.status, refused.problem().as_str()), (StatusCode::CONFLICT, "in_use"), "{path}");
        assert_eq!(refused.json()["used_by"][0], user);
        assert_eq!(api.get(path).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let api = Api::new().await;
    assert_eq!(api.get("/v1/nothing").await.problem(), "not_found");
    assert_eq!(api.get("/v1/tunnels/no/such/path").await.problem(), "not_found");
    let refused = api.call(Method::POST, "/v1/tunnels/gre1", &[], Some(&json!({}))).await;
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed")
    );
    let allowed = refused.headers[header::ALLOW].to_str().unwrap();
    assert!(["GET", "PUT", "DELETE"].iter().all(|method| allowed.contains(method)), "{allowed}");
}

#[tokio::test]
async fn warnings_come_with_the_answer() {
    let api = Api::new().await;
    api.whole_gateway().await;
    let body = json!({"source": "black0", "destination": "198.51.100.9", "protection": "none"});
    let made = api.made("/v1/tunnels/clear", body).await.json();
    assert_eq!(made["warnings"][0]["pointer"], "/protection");
    assert!(api.get("/v1/tunnels/clear").await.json().get("warnings").is_none());
    let short = api
        .made("/v1/pre-shared-keys/short", json!({"peer": "203.0.113.1", "key": "only nineteen chars"}))
        .await;
    assert_eq!(short.json()["warnings"][0]["pointer"], "/key");
}
