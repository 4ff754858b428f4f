use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};

use axum::http::StatusCode;
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use crate::support::Api;

const SECRET: &str = "swordfish-and-chips-for-everyone";

#[tokio::test]
async fn a_key_is_in_no_answer_no_log_and_no_file() {
    let log = Log::of_this_process();
    let api = Api::new().await;
    let path = "/v1/pre-shared-keys/logged";
    let mut answers = vec![
        api.put(path, json!({"peer": "192.0.2.2", "key": SECRET})).await,
        api.put(path, json!({"peer": "192.0.2.3", "key": SECRET})).await,
        api.get(path).await,
        api.get("/v1/pre-shared-keys").await,
        // Refused bodies must not be quoted either.
        api.put(path, json!({"peer": "no peer", "key": SECRET})).await,
        api.put(path, json!({"peer": "192.0.2.2", "key": format!("hex:{SECRET}")})).await,
        api.put(path, json!({"peer": "192.0.2.2", "key": {"text": SECRET}})).await,
        api.put(path, json!({"peer": "192.0.2.2", "key": SECRET.repeat(20)})).await,
    ];
    answers.push(api.get("/metrics").await);
    assert_eq!(answers[0].status, StatusCode::CREATED);
    assert!(answers[4..8].iter().all(|answer| answer.status == StatusCode::UNPROCESSABLE_ENTITY));
    for answer in &answers {
        assert!(!format!("{answer:?}").contains("swordfish"), "{answer:?}");
    }
    let log = log.text();
    assert!(log.contains(path), "the log was captured");
    assert!(!log.contains("swordfish"), "{log}");
    for entry in std::fs::read_dir(api.directory.path()).unwrap() {
        let content = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!content.windows(9).any(|window| window == b"swordfish"));
    }
}

#[tokio::test]
async fn a_key_shows_itself_by_fingerprint_and_version() {
    let api = Api::new().await;
    let path = "/v1/pre-shared-keys/beta";
    let first = api.made(path, json!({"peer": "192.0.2.2", "key": SECRET})).await.json();
    assert_eq!(first["version"], 1);
    assert_eq!(first["fingerprint"].as_str().unwrap().len(), 16);
    assert!(first.get("key").is_none());
    let kept = api.made(path, json!({"peer": "192.0.2.9"})).await.json();
    assert_eq!((&kept["version"], &kept["fingerprint"]), (&first["version"], &first["fingerprint"]));
    let changed =
        api.made(path, json!({"peer": "192.0.2.9", "key": "another secret of length"})).await.json();
    assert_eq!(changed["version"], 2);
    assert_ne!(changed["fingerprint"], first["fingerprint"]);
    assert_eq!(api.put("/v1/pre-shared-keys/new", json!({"peer": "192.0.2.4"})).await.pointers(), ["/key"]);
}

#[tokio::test]
async fn a_ppk_is_sealed_like_a_key_and_stays_while_it_is_used() {
    let api = Api::new().await;
    let path = "/v1/ppks/grove";
    let made = api.made(path, json!({"ppk_id": "grove", "key": SECRET})).await.json();
    assert_eq!((&made["version"], made.get("key")), (&json!(1), None));
    assert_eq!(made["fingerprint"].as_str().unwrap().len(), 16);
    let short = api.put(path, json!({"ppk_id": "grove", "key": &SECRET[1..]})).await;
    assert_eq!(short.pointers(), ["/key"]);
    assert_eq!(api.put("/v1/ppks/new", json!({"ppk_id": "new"})).await.pointers(), ["/key"]);

    api.made("/v1/transform-sets/aes", json!({"encryption": "aes-256-gcm", "mode": "transport"})).await;
    let profile = |more: serde_json::Value| {
        let mut body = json!({"transform_sets": ["aes"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let profiles = "/v1/ipsec-profiles/p";
    assert_eq!(api.put(profiles, profile(json!({"ppk_required": true}))).await.pointers(), ["/ppk_required"]);
    assert_eq!(api.put(profiles, profile(json!({"ppk": "forest"}))).await.pointers(), ["/ppk"]);
    let named = api.made(profiles, profile(json!({"ppk": "grove", "ppk_required": true}))).await.json();
    assert_eq!((&named["ppk"], &named["ppk_required"]), (&json!("grove"), &json!(true)));
    assert_eq!(api.delete(path).await.problem(), "in_use");

    let old = json!({"priority": 1, "profile": "cisco-classic"});
    api.made("/v1/isakmp-policies/old", old).await;
    let both = profile(json!({"ppk": "grove", "isakmp_policies": ["old"]}));
    assert_eq!(api.put(profiles, both).await.pointers(), ["/ppk"]);
}

#[tokio::test]
async fn a_token_is_not_logged() {
    let log = Log::of_this_process();
    let api = Api::new().await;
    api.put("/v1/sites/logged", json!({})).await;
    let log = log.text();
    assert!(log.contains("/v1/sites/logged"), "the log was captured");
    let (_, secret) = api.token.strip_prefix("cvt_").unwrap().split_once('_').unwrap();
    assert!(!log.contains(secret), "{log}");
}

/// The log of this process, at the finest level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Shared by all tests: what one logs, another may look at.
    fn of_this_process() -> Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self::default();
            tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).init();
            log
        })
        .clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
