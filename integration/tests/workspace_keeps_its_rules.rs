//! The rules of the workspace that a compiler does not check: who may import whom, what a crate must not touch,
//! which licences are linked, and how long a file may be.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Crate, the workspace crates it may import, and the outside crates it must not touch. The README has the same table.
const RULES: &[(&str, &[&str], &[&str])] = &[
    ("model", &[], &["tokio", "axum", "sqlx"]),
    ("ike", &[], &["tokio", "socket2", "getrandom", "rand", "rustix", "libc"]),
    ("packet", &[], &["tokio", "dpdk-sys"]),
    ("shm", &[], &["serde", "tokio"]),
    ("dpdk-sys", &[], &["tokio"]),
    ("esp", &["packet"], &["dpdk-sys", "tokio"]),
    ("forward", &["packet", "esp", "shm"], &["dpdk-sys", "tokio"]),
    ("dpdk", &["dpdk-sys", "packet"], &["tokio"]),
    ("dataplane", &["dpdk", "forward", "packet", "shm", "esp"], &["tokio", "sqlx", "axum"]),
    ("store", &["model"], &["axum"]),
    ("control", &["model", "store", "ike", "shm"], &["axum"]),
    ("api", &["model", "store", "control"], &[]),
];

/// Crates in which `unsafe` may stand; elsewhere the crate root forbids it.
const MAY_BE_UNSAFE: &[&str] = &["dpdk-sys", "dpdk", "shm", "esp", "control", "dataplane"];

/// Crates that compute with keys, and the libraries among theirs that no key gets into.
const HOLD_KEYS: &[&str] = &["ike", "esp", "store"];
const GET_NO_KEYS: &[&str] = &["arrayvec", "der"];

const LONGEST_FILE_LINES: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace root").to_path_buf()
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

/// Normal and build dependencies by package name, of the workspace's own packages.
fn imports(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let members: BTreeSet<&str> = strings(&metadata["workspace_members"]).collect();
    array(&metadata["packages"])
        .iter()
        .filter(|package| members.contains(text(&package["id"])))
        .map(|package| {
            let names = array(&package["dependencies"])
                .iter()
                .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
                .map(|dependency| text(&dependency["name"]).to_owned());
            (text(&package["name"]).to_owned(), names.collect())
        })
        .collect()
}

#[test]
fn a_crate_imports_only_what_the_map_allows() {
    let imports = imports(&metadata());
    let ours: BTreeSet<&str> = imports.keys().map(String::as_str).collect();
    let ruled: BTreeSet<&str> = RULES.iter().map(|rule| rule.0).chain(["integration"]).collect();
    assert_eq!(ours, ruled, "every workspace crate has a row in RULES, and every row a crate");
    for (name, may, must_not) in RULES {
        for import in &imports[*name] {
            let inside = ours.contains(import.as_str());
            assert!(!inside || may.contains(&import.as_str()), "{name} must not import {import}");
            assert!(!must_not.contains(&import.as_str()), "{name} must not touch {import}");
        }
    }
}

/// Keys of IKE SAs come out of the engine in tests alone: what is shipped has no code for it, and no argument. The feature is
/// handed from crate to crate, is on by default nowhere, and nothing but tests asks for it.
#[test]
fn nothing_that_is_shipped_logs_keys() {
    const LOG: &str = "key-log";
    const HANDED_ON: &[(&str, &str)] = &[("api", "control/key-log"), ("control", "ike/key-log")];
    let metadata = metadata();
    let mut enabled = Vec::new();
    for package in array(&metadata["packages"]) {
        let name = text(&package["name"]);
        for dependency in array(&package["dependencies"]) {
            let logs = strings(&dependency["features"]).any(|feature| feature == LOG);
            if logs && dependency["kind"].as_str() != Some("dev") {
                enabled.push(name.to_owned());
            }
        }
        for (feature, enables) in package["features"].as_object().expect("features") {
            let asks = strings(enables).filter(|other| *other == LOG || other.ends_with("/key-log"));
            let unasked = asks.filter(|other| feature != LOG || !HANDED_ON.contains(&(name, other)));
            enabled.extend(unasked.map(|other| format!("{name}: {feature} enables {other}")));
        }
    }
    assert!(enabled.is_empty(), "key-log outside of tests: {enabled:?}");

    let shipped = features_of(&[]);
    assert!(shipped.iter().any(|line| line.starts_with("ike ")), "{shipped:?}");
    let logs: Vec<_> = shipped.iter().filter(|line| line.contains(LOG)).collect();
    assert!(logs.is_empty(), "deploy/demo builds {logs:?}");
    // The same look at what the lab runs finds it.
    assert!(
        features_of(&["--all-features"]).iter().any(|line| line.starts_with("ike ") && line.contains(LOG))
    );
    for script in tracked(&["deploy/*", "integration/bench"]) {
        let said = std::fs::read_to_string(root().join(&script)).unwrap_or_default();
        assert!(!said.contains("--all-features") && !said.contains(LOG), "{script} asks for features");
    }
}

/// The packages that `deploy/demo` builds, each with its features, as cargo resolves them with these arguments.
fn features_of(arguments: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--edges", "no-dev", "--prefix", "none", "--format", "{p} {f}"])
        .args(["-p", "api", "-p", "dataplane", "-p", "integration"])
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// Each crate asks for it by itself: whoever builds it without the others wipes as much.
#[test]
fn libraries_that_get_keys_are_told_to_wipe_them() {
    let metadata = metadata();
    let packages = array(&metadata["packages"]);
    let can_wipe: BTreeSet<&str> = packages
        .iter()
        .filter(|package| package["features"].get("zeroize").is_some())
        .map(|package| text(&package["name"]))
        .collect();
    let mut untold = Vec::new();
    let mut told = 0;
    for package in packages.iter().filter(|package| HOLD_KEYS.contains(&text(&package["name"]))) {
        for dependency in array(&package["dependencies"]) {
            let name = text(&dependency["name"]);
            let of_tests = dependency["kind"].as_str() == Some("dev");
            if of_tests || !can_wipe.contains(name) || GET_NO_KEYS.contains(&name) {
                continue;
            }
            if strings(&dependency["features"]).any(|feature| feature == "zeroize") {
                told += 1;
            } else {
                untold.push(format!("{} does not tell {name}", text(&package["name"])));
            }
        }
    }
    assert!(untold.is_empty(), "no zeroize: {}", untold.join(", "));
    assert!(told > 10, "only {told} libraries that can wipe");
}

#[test]
fn nothing_under_a_copyleft_licence_is_linked() {
    let metadata = metadata();
    let mut refused = Vec::new();
    for package in array(&metadata["packages"]) {
        let licence = package["license"].as_str().unwrap_or("none");
        // "A OR B" leaves the choice to us: one acceptable alternative is enough.
        let acceptable = licence.split(" OR ").any(|alternative| !alternative.contains("GPL"));
        if licence == "none" && package["license_file"].is_null() || !acceptable {
            refused.push(format!("{} ({licence})", text(&package["name"])));
        }
    }
    assert!(refused.is_empty(), "not to be linked: {}", refused.join(", "));
}

#[test]
fn no_file_is_longer_than_six_hundred_lines() {
    let mut long = Vec::new();
    for path in
        tracked(&["*.rs", "*.sh", "*.py", "*.sql", "integration/test", "integration/bench", "deploy/demo"])
    {
        let lines = std::fs::read_to_string(root().join(&path)).map_or(0, |text| text.lines().count());
        if lines > LONGEST_FILE_LINES {
            long.push(format!("{path}: {lines}"));
        }
    }
    assert!(long.is_empty(), "a noun is missing in:\n{}", long.join("\n"));
}

#[test]
fn unsafe_stands_only_where_the_map_allows_it() {
    let metadata = metadata();
    let members: BTreeSet<&str> = strings(&metadata["workspace_members"]).collect();
    for package in
        array(&metadata["packages"]).iter().filter(|package| members.contains(text(&package["id"])))
    {
        let name = text(&package["name"]);
        if MAY_BE_UNSAFE.contains(&name) {
            continue;
        }
        for target in array(&package["targets"]) {
            let kinds: Vec<&str> = strings(&target["kind"]).collect();
            if kinds.iter().any(|kind| ["lib", "bin"].contains(kind)) {
                let source =
                    std::fs::read_to_string(text(&target["src_path"])).expect("a target's root file");
                assert!(
                    source.contains("#![forbid(unsafe_code)]"),
                    "{} lacks #![forbid(unsafe_code)]",
                    text(&target["src_path"])
                );
            }
        }
    }
}

#[test]
fn a_helper_without_a_home_has_no_crate_or_module_of_its_own() {
    let homeless = ["utils", "util", "common", "types", "helpers", "misc"];
    for path in tracked(&["*.rs"]) {
        let stem = Path::new(&path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let folder = Path::new(&path)
            .parent()
            .and_then(Path::file_name)
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        assert!(!homeless.contains(&stem) && !homeless.contains(&folder), "{path}: which noun is this?");
    }
}

#[test]
fn the_documents_name_only_files_that_exist() {
    const FOLDERS: &[&str] = &["api/", "dataplane/", "integration/", "deploy/", "docs/", ".ci/"];
    let mut missing = Vec::new();
    for document in tracked(&["*.md"]) {
        let words = std::fs::read_to_string(root().join(&document)).expect("a tracked document");
        for path in words.split('`').skip(1).step_by(2).flat_map(str::split_whitespace) {
            let path = path.trim_end_matches('/');
            if FOLDERS.iter().any(|folder| path.starts_with(folder)) && !root().join(path).exists() {
                missing.push(format!("{document}: {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "named but not there:\n{}", missing.join("\n"));
}

fn tracked(patterns: &[&str]) -> Vec<String> {
    let output =
        Command::new("git").arg("ls-files").args(patterns).current_dir(root()).output().expect("git runs");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let files: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    assert!(!files.is_empty(), "git lists no files");
    files
}

fn array(value: &Value) -> &[Value] {
    value.as_array().expect("an array").as_slice()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    array(value).iter().map(text)
}
