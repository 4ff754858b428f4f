//! Whatever is wrong with a request gets the right problem, and nothing is half written.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};

use crate::support::Api;

/// Puts a body that must be refused, and looks whether anything changed.
async fn refused(api: &Api, path: &str, body: Value) -> Vec<String> {
    let before = api.desired().await;
    let pointers = api.put(path, body).await.pointers();
    assert_eq!(api.desired().await, before);
    pointers
}

fn tunnel(changes: Value) -> Value {
    let mut body =
        json!({"source": "black0", "destination": "198.51.100.7", "protection": {"ipsec_profile": "branch"}});
    for (field, value) in changes.as_object().unwrap() {
        body[field] = value.clone();
    }
    body
}

#[tokio::test]
async fn an_unknown_field() {
    let api = Api::new().await;
    assert_eq!(refused(&api, "/v1/sites/a", json!({"colour": "red"})).await, ["/colour"]);
    assert_eq!(
        refused(
            &api,
            "/v1/access-lists/a",
            json!({"rules": [{"sequence": 1, "action": "deny", "protocol": "ip",
            "source": "any", "destination": "any", "log": true}]})
        )
        .await,
        ["/rules/0/log"]
    );
}

#[tokio::test]
async fn a_wrong_type() {
    let api = Api::new().await;
    for body in [json!([]), json!("x"), json!(7), json!(null)] {
        assert_eq!(refused(&api, "/v1/sites/a", body).await, [""]);
    }
    assert_eq!(refused(&api, "/v1/sites/a", json!({"networks": "10.0.0.0/8"})).await, ["/networks"]);
    let wrong = json!({"encryption": 7, "mode": ["tunnel"], "esn": "yes"});
    assert_eq!(refused(&api, "/v1/transform-sets/a", wrong).await, ["/encryption", "/esn", "/mode"]);
}

#[tokio::test]
async fn a_number_out_of_range() {
    let api = Api::new().await;
    api.whole_gateway().await;
    for ttl in [json!(0), json!(256), json!(-1), json!(1.5), json!(1e300)] {
        assert_eq!(refused(&api, "/v1/tunnels/t", tunnel(json!({"ttl": ttl}))).await, ["/ttl"]);
    }
    let answer = api.put("/v1/tunnels/t", tunnel(json!({"key": 4_294_967_296_u64}))).await;
    assert_eq!(answer.pointers(), ["/key"]);
    assert_eq!(answer.json()["errors"][0]["detail"], "must be an integer from 0 to 4294967295");
}

#[tokio::test]
async fn an_address_that_can_not_be_parsed() {
    let api = Api::new().await;
    api.whole_gateway().await;
    let body = tunnel(
        json!({"destination": "198.51.100", "addresses": ["10.0.0.1", "10.0.0.300/24", "10.9.0.1/24"]}),
    );
    assert_eq!(refused(&api, "/v1/tunnels/t", body).await, ["/addresses/0", "/addresses/1", "/destination"]);
    assert_eq!(
        refused(&api, "/v1/tunnels/t", tunnel(json!({"destination": "2001:db8::2"}))).await,
        ["/destination"]
    );
    assert_eq!(refused(&api, "/v1/sites/s", json!({"networks": ["10.1.0.1/16"]})).await, ["/networks/0"]);
}

#[tokio::test]
async fn a_dangling_reference() {
    let api = Api::new().await;
    api.whole_gateway().await;
    let body = tunnel(
        json!({"source": "black9", "protection": {"ipsec_profile": "none-such"}, "site": "none-such"}),
    );
    assert_eq!(refused(&api, "/v1/tunnels/t", body).await, ["/source", "/protection/ipsec_profile", "/site"]);
    assert_eq!(
        refused(&api, "/v1/routes/r", json!({"destination": "10.9.0.0/16", "tunnel": "t"})).await,
        ["/tunnel"]
    );
}

#[tokio::test]
async fn a_name_that_differs_from_the_paths() {
    let api = Api::new().await;
    assert_eq!(refused(&api, "/v1/sites/a", json!({"name": "b"})).await, ["/name"]);
    assert_eq!(refused(&api, "/v1/sites/a", json!({"name": 7, "x": 1})).await, ["/name", "/x"]);
}

#[tokio::test]
async fn a_name_that_is_none() {
    let api = Api::new().await;
    assert_eq!(refused(&api, "/v1/sites/-a", json!({})).await, ["/name"]);
    assert_eq!(refused(&api, "/v1/sites/a%20b", json!({})).await, ["/name"]);
    let too_long = json!({"device": "af_packet:eth1", "side": "red"});
    assert_eq!(refused(&api, "/v1/interfaces/sixteen-letters-", too_long).await, ["/name"]);
    assert_eq!(api.get("/v1/sites/-a").await.problem(), "not_found");
    assert_eq!(api.get("/v1/sites/%ff").await.problem(), "bad_request");
}

#[tokio::test]
async fn a_duplicate_name() {
    let api = Api::new().await;
    let create = |body: Value| {
        let api = &api;
        async move { api.call(Method::PUT, "/v1/sites/a", &[("If-None-Match", "*")], Some(&body)).await }
    };
    assert_eq!(create(json!({"description": "first"})).await.status, StatusCode::CREATED);
    let second = create(json!({"description": "second"})).await;
    assert_eq!(
        (second.status, second.problem().as_str()),
        (StatusCode::PRECONDITION_FAILED, "precondition_failed")
    );
    assert_eq!(api.get("/v1/sites/a").await.json()["description"], "first");
}

#[tokio::test]
async fn a_missing_field_and_several_at_once() {
    let api = Api::new().await;
    assert_eq!(
        refused(&api, "/v1/isakmp-policies/p", json!({"hash": [], "groups": [31, 31]})).await,
        ["/encryption", "/groups/1", "/hash", "/priority"]
    );
}

#[tokio::test]
async fn what_is_weak() {
    let api = Api::new().await;
    let weak = json!({"priority": 10, "encryption": ["3des"], "hash": ["md5", "sha1"], "groups": [2, 5]});
    let answer = api.put("/v1/isakmp-policies/p", weak).await;
    assert_eq!(answer.pointers(), ["/encryption/0", "/groups/0", "/groups/1", "/hash/0", "/hash/1"]);
    for error in answer.json()["errors"].as_array().unwrap() {
        let detail = error["detail"].as_str().unwrap();
        assert!(
            detail.contains(" is insecure: ") && detail.contains("name it in allow_insecure"),
            "{detail}"
        );
    }
    let never = json!({"priority": 10, "encryption": ["des"], "hash": ["sha2-256"], "groups": [1]});
    for error in api.put("/v1/isakmp-policies/p", never).await.json()["errors"].as_array().unwrap() {
        let detail = error["detail"].as_str().unwrap();
        assert!(detail.contains("is refused because") && detail.contains("allowed: "), "{detail}");
    }
    let mut allowed = json!({"priority": 10, "encryption": ["3des"], "hash": ["sha1"], "groups": [2]});
    allowed["allow_insecure"] = json!(["3des", "sha1", "modp1024"]);
    let made = api.made("/v1/isakmp-policies/p", allowed).await.json();
    let pointers: Vec<_> =
        made["warnings"].as_array().unwrap().iter().map(|warning| warning["pointer"].clone()).collect();
    assert_eq!(pointers, ["/encryption/0", "/hash/0", "/groups/0"], "{made}");
    assert_eq!(
        refused(&api, "/v1/pre-shared-keys/k", json!({"peer": "192.0.2.2", "key": "seven77"})).await,
        ["/key"]
    );
}

#[tokio::test]
async fn nat_traversal_is_auto_or_force() {
    let api = Api::new().await;
    api.whole_gateway().await;
    let profile = |word: &str| json!({"transform_sets": ["aes256"], "nat_traversal": word});
    let path = "/v1/ipsec-profiles/forced";
    assert_eq!(refused(&api, path, profile("never")).await, ["/nat_traversal"]);
    let made = api.made(path, profile("force")).await.json();
    assert_eq!(made["nat_traversal"], "force");
    let automatic = api.put(path, profile("auto")).await.json();
    assert_eq!(automatic.get("nat_traversal"), None, "as it is without a word: {automatic}");
}

#[tokio::test]
async fn a_transform_set_of_transport_mode_behind_one_of_tunnel_mode() {
    let api = Api::new().await;
    api.whole_gateway().await;
    api.made("/v1/transform-sets/other", json!({"encryption": "aes-128-gcm", "mode": "tunnel"})).await;
    let mixed = json!({"transform_sets": ["other", "aes256"]});
    assert_eq!(refused(&api, "/v1/ipsec-profiles/mixed", mixed.clone()).await, ["/transform_sets/1"]);
    // The same by changing the set under a profile that has two.
    api.made("/v1/transform-sets/other", json!({"encryption": "aes-128-gcm", "mode": "transport"})).await;
    api.made("/v1/ipsec-profiles/mixed", mixed).await;
    let changed = json!({"encryption": "aes-128-gcm", "mode": "tunnel"});
    assert_eq!(refused(&api, "/v1/transform-sets/other", changed).await, [""]);
}

#[tokio::test]
async fn a_tunnel_that_would_route_through_itself() {
    let api = Api::new().await;
    api.whole_gateway().await;
    let over_its_prefix = tunnel(json!({"addresses": ["198.51.100.1/24"]}));
    assert_eq!(refused(&api, "/v1/tunnels/t", over_its_prefix.clone()).await, ["/destination"]);
    api.made("/v1/routes/peer", json!({"destination": "198.51.100.7/32", "gateway": "192.0.2.254"})).await;
    api.made("/v1/tunnels/t", over_its_prefix).await;
    // Without the more specific route it would be recursive again.
    let deleted = api.delete("/v1/routes/peer").await;
    assert_eq!(deleted.problem(), "in_use");
    assert!(deleted.json()["detail"].as_str().unwrap().contains("tunnels/t /destination"));
}

#[tokio::test]
async fn a_route_that_would_lead_a_tunnel_into_itself() {
    let api = Api::new().await;
    api.whole_gateway().await;
    let route = json!({"destination": "0.0.0.0/0", "tunnel": "gre1"});
    let before = api.desired().await;
    let answer = api.put("/v1/routes/default", route.clone()).await;
    assert_eq!(answer.pointers(), [""]);
    assert!(answer.json()["detail"].as_str().unwrap().contains("tunnels/gre1 /destination"), "{answer:?}");
    assert_eq!(api.desired().await, before);
    api.made("/v1/routes/underlay", json!({"destination": "198.51.100.0/24", "gateway": "192.0.2.254"}))
        .await;
    api.made("/v1/routes/default", route).await;
}

#[tokio::test]
async fn an_mtu_that_does_not_fit() {
    let api = Api::new().await;
    api.whole_gateway().await;
    let answer = api.put("/v1/tunnels/t", tunnel(json!({"mtu_bytes": 1443}))).await;
    assert_eq!(answer.pointers(), ["/mtu_bytes"]);
    assert!(answer.json()["detail"].as_str().unwrap().contains("at most 1442"));
    api.made("/v1/tunnels/t", tunnel(json!({"mtu_bytes": 1442}))).await;
}

#[tokio::test]
async fn a_source_that_no_interface_bears() {
    let api = Api::new().await;
    api.whole_gateway().await;
    assert_eq!(refused(&api, "/v1/tunnels/t", tunnel(json!({"source": "192.0.2.77"}))).await, ["/source"]);
}

#[tokio::test]
async fn a_body_that_is_no_json() {
    let api = Api::new().await;
    let token = api.role(store::Role::Admin).await;
    let send = |content_type: Option<&'static str>, body: &'static str| {
        let mut request = Request::builder()
            .method(Method::PUT)
            .uri("/v1/sites/a")
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        api.send(request.body(Body::from(body)).unwrap())
    };
    for body in ["", "{", "{\"description\": \"swordfish", "\u{0}", "{} {}"] {
        let answer = send(Some("application/json"), body).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (StatusCode::BAD_REQUEST, "malformed"),
            "{body}"
        );
        assert!(!answer.text.contains("swordfish"));
    }
    for content_type in [None, Some("text/plain"), Some("application/jsonx")] {
        let answer = send(content_type, "{}").await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(answer.problem(), "unsupported_media_type");
    }
    assert_eq!(send(Some("application/json; charset=utf-8"), "{}").await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_body_over_the_limit() {
    let api = Api::new().await;
    let huge = json!({"description": "x".repeat(5 << 20)});
    let answer = api.put("/v1/sites/a", huge).await;
    assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "too_large"));
    assert_eq!(api.get("/v1/sites/a").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_largest_access_list_that_is_allowed_fits_the_limit() {
    let api = Api::new().await;
    let rule = |sequence: u32| {
        json!({"sequence": sequence, "action": "permit", "protocol": "tcp", "source": "2001:db8:1111:2222::/64",
            "destination": "2001:db8:3333:4444::/64", "source_ports": "10000-20000", "destination_ports": "30000-40000"})
    };
    let rules = |count: u32| json!({"rules": (1..=count).map(rule).collect::<Vec<_>>()});
    api.made("/v1/access-lists/a", rules(10_000)).await;
    assert_eq!(refused(&api, "/v1/access-lists/b", rules(10_001)).await, ["/rules"]);
}

#[tokio::test]
async fn rules_and_entries_out_of_order() {
    let api = Api::new().await;
    let rule = |sequence: u32| json!({"sequence": sequence, "action": "permit", "protocol": "gre", "source": "any", "destination": "any"});
    for sequences in [[20, 10], [10, 10]] {
        let body = json!({"rules": sequences.map(rule)});
        assert_eq!(refused(&api, "/v1/access-lists/a", body).await, ["/rules/1/sequence"]);
    }
    let ports = json!({"rules": [{"sequence": 1, "action": "permit", "protocol": "gre", "source": "10.0.0.0/8",
        "destination": "2001:db8::/32", "source_ports": "80"}]});
    assert_eq!(
        refused(&api, "/v1/access-lists/a", ports).await,
        ["/rules/0/destination", "/rules/0/source_ports"]
    );
}
