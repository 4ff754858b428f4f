//! Orders to a gateway whose control plane runs, in a network namespace of its own where no peer answers. Needs root.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{Method, StatusCode};
use control::Config;
use serde_json::Value;
use shm::{BootId, Region};
use tempfile::TempDir;

use crate::support::Api;

const INSIDE: &str = "CULVERT_TEST_NAMESPACE";

/// Runs `body` in a network namespace of its own: this test binary calls itself under `unshare --net`.
fn in_own_network(test: &str, body: impl Future<Output = ()>) {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(body);
    }
    let status = Command::new("unshare")
        .args(["--net", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed in its namespace, or is not run by root");
}

/// As much of a dataplane as lets the control plane negotiate: a heartbeat.
fn beat(directory: PathBuf) {
    let reader = loop {
        let boot = BootId::current().unwrap();
        match Region::attach(&directory.join("region"), boot).and_then(|region| region.reader()) {
            Ok(reader) => break reader,
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        reader.beat(now.as_millis().try_into().unwrap());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The IKE SAs, once there are some.
async fn ike_sas(api: &Api) -> Vec<Value> {
    for _ in 0..600 {
        let items = api.get("/v1/isakmp-sas").await.json()["items"].as_array().unwrap().clone();
        if !items.is_empty() {
            return items;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no IKE SA is begun: {}", api.get("/v1/health").await.text)
}

#[test]
fn an_ike_sa_that_is_not_established_is_not_rekeyed() {
    in_own_network("running::an_ike_sa_that_is_not_established_is_not_rekeyed", async {
        let status = Command::new("ip")
            .args(["link", "add", "eth1", "type", "veth", "peer", "name", "far"])
            .status()
            .unwrap();
        assert!(status.success());
        let (api, inbox) = Api::and_inbox().await;
        api.whole_gateway().await;
        let directory = TempDir::new_in("/dev/shm").unwrap();
        let store = api.store.clone();
        let desired = move || {
            let store = store.clone();
            async move { store.desired().await }
        };
        let config = Config::new(directory.path());
        let beating = directory.path().to_owned();
        // It ends with the process.
        drop(std::thread::spawn(move || beat(beating)));
        let control = tokio::spawn(control::run(config, desired, (), inbox, std::future::pending()));

        let order =
            async |id: &str| api.call(Method::POST, &format!("/v1/isakmp-sas/{id}/rekey"), &[], None).await;
        for sa in ike_sas(&api).await {
            let (id, state) = (sa["id"].as_str().unwrap(), sa["state"].as_str().unwrap());
            assert_ne!(state, "established", "nobody answers");
            let answer = order(id).await;
            assert_eq!(answer.problem(), "conflict");
            assert_eq!(answer.status, StatusCode::CONFLICT);
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains(&format!("the IKE SA {id} is {state}")), "{detail}");
        }
        let answer = order("ffffffffffffffff").await;
        assert_eq!((answer.problem().as_str(), answer.status), ("not_found", StatusCode::NOT_FOUND));
        assert!(!control.is_finished(), "the control plane runs");
    });
}
