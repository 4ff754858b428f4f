//! What culvertd does besides running.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

use tempfile::TempDir;

fn culvertd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_culvertd")).args(arguments).output().unwrap()
}

#[test]
fn it_prints_the_committed_document() {
    let printed = culvertd(&["openapi"]);
    assert!(printed.status.success());
    let committed =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../openapi/culvert-v1.json")).unwrap();
    assert!(printed.stdout == committed, "UPDATE_OPENAPI=1 cargo test -p api --test http renews it");
}

#[test]
fn it_makes_a_token_and_nothing_else_on_its_output() {
    let directory = TempDir::new().unwrap();
    let state_dir = directory.path().to_str().unwrap();
    let made = culvertd(&["token", "create", "--name", "me", "--role", "viewer", "--state-dir", state_dir]);
    let token = String::from_utf8(made.stdout).unwrap();
    assert!(
        token.starts_with("cvt_") && token.trim().split('_').count() >= 3 && token.lines().count() == 1,
        "{token}"
    );
    assert!(!directory.path().join("master-key").exists(), "a token needs no master key");
    let refused = culvertd(&["token", "revoke", "nobody", "--state-dir", state_dir]);
    assert!(!refused.status.success());
    assert!(String::from_utf8(refused.stderr).unwrap().contains("no valid token"));
}

#[test]
fn it_serves_no_clear_http_to_the_network() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().to_str().unwrap();
    let plain =
        ["--state-dir", path, "--run-dir", path, "--listen", "127.0.0.1:0", "--listen-plain", "0.0.0.0:0"];
    let refused = culvertd(&plain);
    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("must be a loopback address"), "{said}");
}
