//! The borders between the crates, read from their manifests and sources: who may import whom, what a pure crate may not
//! touch, where unsafe code may live, and the one home of each crate that the project's owner asked for.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A crate may import only crates before it.
const ORDER: &[&str] = &["wire", "policy", "overlay", "switch", "gateway", "node", "cni", "control", "lab", "podplane"];

/// Crates that are given everything and touch nothing.
const PURE: &[&str] = &["wire", "policy", "overlay", "switch"];

/// Runtimes, sockets, clocks, randomness and files, by crate name: none of them belongs in a pure crate's manifest.
const IMPURE_CRATES: &[&str] = &[
    "async-std",
    "chrono",
    "crossbeam-channel",
    "getrandom",
    "inotify",
    "jiff",
    "kube",
    "libc",
    "mio",
    "nix",
    "notify",
    "pnet",
    "polling",
    "rand",
    "rustix",
    "smol",
    "socket2",
    "tempfile",
    "time",
    "tokio",
    "tun-tap",
];

/// The same, as the standard library spells them.
const IMPURE_PATHS: &[&str] = &[
    "std::env",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "SystemTime::now",
    "println!",
];

/// Crates that the owner asked for, and the crates that may list them; for its tests a crate may list any.
const HOMES: &[(&str, &[&str])] = &[
    ("bytes", &["gateway", "wire"]),
    ("crossbeam-channel", &["node", "control"]),
    ("etherparse", &["wire"]),
    ("kube", &["control"]),
    ("mio", &["node"]),
    ("pnet", &["lab", "wire"]),
    ("smoltcp", &["gateway", "lab"]),
    ("tun-tap", &["node"]),
];

/// The only folder with unsafe code.
const UNSAFE_HOME: &str = "dataplane/node/src/sys";

struct Package {
    folder: PathBuf,
    /// Name and kind (`normal`, `dev`, `build`) of each dependency.
    dependencies: Vec<(String, String)>,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("cli/ is in the repository").to_owned()
}

fn packages() -> BTreeMap<String, Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(repository())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let text = |value: &Value| value.as_str().unwrap_or("normal").to_owned();
    metadata["packages"]
        .as_array()
        .expect("a list of packages")
        .iter()
        .map(|package| {
            let manifest = PathBuf::from(text(&package["manifest_path"]));
            let dependencies = package["dependencies"].as_array().expect("a list of dependencies");
            let package_value = Package {
                folder: manifest.parent().expect("a manifest is in a folder").to_owned(),
                dependencies: dependencies.iter().map(|d| (text(&d["name"]), text(&d["kind"]))).collect(),
            };
            (text(&package["name"]), package_value)
        })
        .collect()
}

/// Every Rust file below `folder`, build products excepted.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("a readable folder").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Lines of code, without comments.
fn code_lines(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default().trim();
        if !code.is_empty() {
            lines.push((number + 1, code.to_owned()));
        }
    }
    lines
}

fn is_test_file(path: &Path) -> bool {
    path.ends_with("tests.rs")
        || path.components().any(|part| {
            let part = part.as_os_str();
            part == "tests" || part == "benches" || part == "fuzz"
        })
}

#[test]
fn every_workspace_crate_has_its_place_in_the_order() {
    let packages = packages();
    let names: BTreeSet<&str> = packages.keys().map(String::as_str).collect();
    assert_eq!(names, ORDER.iter().copied().collect(), "ORDER and the workspace's members differ");
}

#[test]
fn a_crate_imports_only_crates_before_it() {
    for (name, package) in packages() {
        let place = ORDER.iter().position(|other| *other == name).expect("in the order");
        for (dependency, kind) in &package.dependencies {
            if let Some(other) = ORDER.iter().position(|other| other == dependency) {
                assert!(other < place, "{name} lists {dependency} ({kind}), which comes after it");
            }
        }
    }
}

#[test]
fn pure_crates_list_no_runtime_socket_clock_or_file_crate() {
    let packages = packages();
    for name in PURE {
        for (dependency, kind) in &packages[*name].dependencies {
            let impure = IMPURE_CRATES.contains(&dependency.as_str());
            assert!(kind == "dev" || !impure, "{name} is pure and lists {dependency} ({kind})");
        }
    }
}

#[test]
fn pure_crates_use_no_file_socket_thread_or_clock_of_the_standard_library() {
    let packages = packages();
    let mut found = Vec::new();
    for name in PURE {
        for path in sources(&packages[*name].folder.join("src")) {
            if is_test_file(&path) {
                continue;
            }
            for (number, line) in code_lines(&path) {
                if line == "mod tests {" {
                    break;
                }
                for impure in IMPURE_PATHS.iter().filter(|impure| line.contains(*impure)) {
                    found.push(format!("{}:{number}: {impure}", path.display()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_crate_but_node_forbids_unsafe_code() {
    for (name, package) in packages() {
        let root = ["src/lib.rs", "src/main.rs"].map(|file| package.folder.join(file));
        let root = root.iter().find(|path| path.exists()).expect("a crate has a root");
        let forbids = code_lines(root).iter().any(|(_, line)| line == "#![forbid(unsafe_code)]");
        assert_eq!(forbids, name != "node", "{}: forbid(unsafe_code)", root.display());
    }
}

#[test]
fn unsafe_code_is_only_in_the_system_call_module() {
    let home = repository().join(UNSAFE_HOME);
    // Spelled in two parts, so that this file does not find itself.
    let word = concat!("uns", "afe");
    let mut found = Vec::new();
    for path in sources(&repository()) {
        if path.starts_with(&home) || path == home.with_extension("rs") {
            continue;
        }
        for (number, line) in code_lines(&path) {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if words.any(|w| w == word) {
                found.push(format!("{}:{number}: {line}", path.display()));
            }
        }
    }
    assert!(found.is_empty(), "outside {UNSAFE_HOME}:\n{}", found.join("\n"));
}

#[test]
fn the_crates_that_the_owner_asked_for_have_their_homes() {
    let packages = packages();
    for (wanted, homes) in HOMES {
        let mut users = BTreeSet::new();
        for (name, package) in &packages {
            for (_, kind) in package.dependencies.iter().filter(|(dependency, _)| dependency == wanted) {
                let at_home = kind == "dev" || homes.contains(&name.as_str());
                assert!(at_home, "{wanted} is listed by {name}, its homes are {homes:?}");
                users.insert(name.as_str());
            }
        }
        assert!(!users.is_empty(), "no crate lists {wanted}");
    }
}
