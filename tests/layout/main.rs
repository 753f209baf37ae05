//! The shape of the repository, as a test: which crate may know which, and what every file opens with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Our crates, and which of ours each may depend on.
const ARROWS: [(&str, &[&str]); 5] = [
    ("outlast-mesh", &[]),
    ("outlast-store", &[]),
    ("outlast-ui", &[]),
    ("outlast", &["outlast-mesh", "outlast-store", "outlast-ui"]),
    (
        "outlast-tests",
        &["outlast", "outlast-mesh", "outlast-store"],
    ),
];

#[test]
fn crates_depend_only_along_the_arrows() {
    let allowed: BTreeMap<_, _> = ARROWS.into_iter().collect();
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    assert_eq!(
        packages.len(),
        allowed.len(),
        "a crate nobody drew an arrow for"
    );
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let on = dependency["name"].as_str().expect("a name");
            let ours = allowed.contains_key(on);
            assert!(
                !ours || allowed[name].contains(&on),
                "{name} must not depend on {on}"
            );
        }
    }
}

#[test]
fn only_the_engine_names_sled_and_only_the_session_names_boringtun() {
    for (word, home) in [
        ("sled::", "store/src/engine/body.rs"),
        ("boringtun::", "mesh/src/tunnel/session.rs"),
    ] {
        let strays: Vec<_> = rust_files()
            .into_iter()
            .filter(|path| !path.ends_with(home) && !path.starts_with(root().join("tests")))
            .filter(|path| code_of(path).contains(word))
            .collect();
        assert!(
            strays.is_empty(),
            "{word} belongs in {home} alone, but stands in {strays:?}"
        );
    }
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<_> = rust_files()
        .into_iter()
        .filter(|path| {
            let text = std::fs::read_to_string(path).expect("read a source file");
            !text.starts_with("//!")
        })
        .collect();
    assert!(silent.is_empty(), "no header in {silent:?}");
}

#[test]
fn files_are_named_for_what_they_hold() {
    let vague = [
        "util", "utils", "helper", "helpers", "common", "misc", "manager", "handler",
    ];
    let named: Vec<_> = rust_files()
        .into_iter()
        .filter(|path| {
            let stem = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .unwrap_or_default();
            vague.contains(&stem)
        })
        .collect();
    assert!(named.is_empty(), "say what they hold: {named:?}");
}

#[test]
fn kept_inputs_and_released_encodings_belong_to_a_crate_that_replays_them() {
    for place in ["tests/fuzz/corpus", "tests/released"] {
        let entries = std::fs::read_dir(root().join(place)).expect("the directory is there");
        let crates: BTreeSet<String> = entries
            .map(|entry| entry.expect("its entries can be read").path())
            .filter(|path| path.is_dir())
            .map(|path| {
                path.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        let replaying = ["mesh", "node", "store"].map(str::to_owned);
        assert_eq!(crates, BTreeSet::from(replaying), "{place}");
    }
}

/// The file without its comments and its tests.
fn code_of(path: &Path) -> String {
    let text = std::fs::read_to_string(path).expect("read a source file");
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn rust_files() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "*.rs",
        ])
        .current_dir(root())
        .output()
        .expect("run git ls-files");
    let files: Vec<_> = String::from_utf8_lossy(&listed.stdout)
        .lines()
        .map(|line| root().join(line))
        .filter(|path| path.exists())
        .collect();
    assert!(files.len() > 20, "found only {} source files", files.len());
    files
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .expect("run cargo metadata");
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the workspace is there")
}
