//! The manifests for Kubernetes: every document is of its type in Kubernetes 1.36 and has no field that the type does not have; what
//! they say of each other and of this program's command line holds.

mod support;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use support::{podplane, text};

/// Kinds that podplane has no use for itself; the others are read by `podplane check`.
const OTHER_KINDS: [&str; 7] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "PodDisruptionBudget",
    "Role",
    "RoleBinding",
    "ServiceAccount",
    "Kustomization",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let parse =
        |document: &str| serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.split("\n---\n").map(parse).collect()
}

/// Every object, with its file.
fn objects() -> Vec<(PathBuf, Value)> {
    let yaml = files(&folder()).into_iter().filter(|path| path.extension().is_some_and(|end| end == "yaml"));
    let objects = yaml.flat_map(|path| documents(&path).into_iter().map(move |object| (path.clone(), object)));
    objects.filter(|(_, object)| !matches!(str_of(object, "/kind"), "Kustomization" | "Component")).collect()
}

fn str_of<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn of_kind<'a>(objects: &'a [(PathBuf, Value)], kind: &str) -> Vec<&'a Value> {
    objects.iter().map(|(_, object)| object).filter(|object| str_of(object, "/kind") == kind).collect()
}

/// Pod templates with the name of who makes pods of them.
fn templates(objects: &[(PathBuf, Value)]) -> Vec<(&str, &Value)> {
    let makers = ["DaemonSet", "Deployment"].into_iter().flat_map(|kind| of_kind(objects, kind));
    makers.map(|maker| (str_of(maker, "/metadata/name"), &maker["spec"]["template"])).collect()
}

fn containers(template: &Value) -> impl Iterator<Item = &Value> {
    list(template, "/spec/initContainers").iter().chain(list(template, "/spec/containers"))
}

#[test]
fn what_podplane_reads_itself_is_valid_and_nothing_else_is_unknown() {
    let output = podplane(&["check", "-o", "json", "-f", folder().to_str().unwrap()]);
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    assert_eq!(output.status.code(), Some(0), "{findings:#}");
    let unexpected = list(&findings, "/problems").iter().filter(|problem| {
        let kind = str_of(problem, "/kind");
        !OTHER_KINDS.contains(&kind) && kind != "Component"
    });
    assert_eq!(unexpected.collect::<Vec<_>>(), Vec::<&Value>::new());
}

#[test]
fn what_podplane_does_not_read_is_of_its_type_and_has_no_field_beside_it() {
    for (path, object) in objects() {
        let kind = str_of(&object, "/kind").to_owned();
        let again = match kind.as_str() {
            "ServiceAccount" => again::<ServiceAccount>(&object),
            "ClusterRole" => again::<ClusterRole>(&object),
            "ClusterRoleBinding" => again::<ClusterRoleBinding>(&object),
            "Role" => again::<Role>(&object),
            "RoleBinding" => again::<RoleBinding>(&object),
            "PodDisruptionBudget" => again::<PodDisruptionBudget>(&object),
            _ => {
                assert!(!OTHER_KINDS.contains(&kind.as_str()));
                continue;
            }
        };
        assert_eq!(again, Ok(object), "{}", path.display());
    }
}

/// `object` after a way through its type, which loses what the type does not have.
fn again<T: DeserializeOwned + Serialize>(object: &Value) -> Result<Value, String> {
    let typed: T = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
    serde_json::to_value(typed).map_err(|error| error.to_string())
}

#[test]
fn every_file_is_part_of_a_kustomization() {
    for folder in files(&folder()).iter().filter(|path| path.ends_with("kustomization.yaml")) {
        let kustomization = &documents(folder)[0];
        let here = folder.parent().unwrap();
        let named: Vec<&Value> =
            ["/resources", "/components"].iter().flat_map(|field| list(kustomization, field)).collect();
        for name in &named {
            let path = here.join(name.as_str().unwrap());
            let target = if path.is_dir() { path.join("kustomization.yaml") } else { path };
            assert!(target.is_file(), "{}: {name} does not exist", folder.display());
        }
        let inside = fs::read_dir(here)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "yaml") && !path.ends_with("kustomization.yaml"));
        for file in inside {
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(named.iter().any(|other| *other == name), "{}: {name} is not listed", folder.display());
        }
    }
}

#[test]
fn pods_are_selected_by_their_labels_and_have_the_recommended_ones() {
    let objects = objects();
    for (name, template) in templates(&objects) {
        let labels = &template["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/name"], *name, "{name}");
        assert!(labels["app.kubernetes.io/component"].is_string(), "{name}");
    }
    let makers = ["DaemonSet", "Deployment"].into_iter().flat_map(|kind| of_kind(&objects, kind));
    for maker in makers {
        let selector = maker["spec"]["selector"]["matchLabels"].as_object().unwrap();
        let labels = &maker["spec"]["template"]["metadata"]["labels"];
        assert!(selector.iter().all(|(key, value)| labels[key] == *value), "{maker:#}");
    }
    let all: Vec<&Value> = templates(&objects).iter().map(|(_, template)| &template["metadata"]["labels"]).collect();
    let of_services =
        of_kind(&objects, "Service").into_iter().filter_map(|service| service["spec"]["selector"].as_object());
    let of_budgets = of_kind(&objects, "PodDisruptionBudget");
    let of_budgets = of_budgets.into_iter().filter_map(|budget| budget["spec"]["selector"]["matchLabels"].as_object());
    for selector in of_services.chain(of_budgets) {
        let selects = |labels: &&Value| selector.iter().all(|(key, value)| labels[key] == *value);
        assert_eq!(all.iter().copied().filter(selects).count(), 1, "{selector:?}");
    }
}

#[test]
fn what_is_referred_to_is_there() {
    let objects = objects();
    let names = |kind: &str| -> BTreeSet<&str> {
        of_kind(&objects, kind).into_iter().map(|object| str_of(object, "/metadata/name")).collect()
    };
    for binding in of_kind(&objects, "ClusterRoleBinding").into_iter().chain(of_kind(&objects, "RoleBinding")) {
        assert!(names(str_of(binding, "/roleRef/kind")).contains(str_of(binding, "/roleRef/name")), "{binding:#}");
        assert!(names("ServiceAccount").contains(str_of(binding, "/subjects/0/name")), "{binding:#}");
        assert_eq!(binding["subjects"][0]["namespace"], "podplane-system");
    }
    for (name, template) in templates(&objects) {
        let account = str_of(template, "/spec/serviceAccountName");
        assert!(account.is_empty() || names("ServiceAccount").contains(account), "{name}");
        let volumes: BTreeSet<&str> = list(template, "/spec/volumes").iter().map(|v| str_of(v, "/name")).collect();
        let mounts = containers(template).flat_map(|container| list(container, "/volumeMounts"));
        let used: BTreeSet<&str> = mounts.map(|mount| str_of(mount, "/name")).collect();
        assert_eq!(volumes, used, "{name}");
        for container in containers(template) {
            let ports: BTreeSet<&str> = list(container, "/ports").iter().map(|port| str_of(port, "/name")).collect();
            for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
                for port in ["/httpGet/port", "/tcpSocket/port"].iter().filter_map(|p| container[probe].pointer(p)) {
                    assert!(ports.contains(port.as_str().unwrap()), "{name}: {probe}");
                }
            }
        }
    }
    for service in of_kind(&objects, "Service").iter().filter(|service| service["spec"]["selector"].is_object()) {
        let templates = templates(&objects);
        let ports: Vec<&str> = templates
            .iter()
            .filter(|(_, t)| {
                t["metadata"]["labels"]["app.kubernetes.io/name"]
                    == service["spec"]["selector"]["app.kubernetes.io/name"]
            })
            .flat_map(|(_, template)| containers(template).flat_map(|container| list(container, "/ports")))
            .map(|port| str_of(port, "/name"))
            .collect();
        assert!(
            list(service, "/spec/ports").iter().all(|port| ports.contains(&str_of(port, "/targetPort"))),
            "{service:#}"
        );
    }
}

#[test]
fn containers_have_no_more_than_they_need() {
    for (name, template) in templates(&objects()) {
        assert_eq!(template["spec"]["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        for container in containers(template) {
            let context = &container["securityContext"];
            assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]), "{name}");
            assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
            assert!(context["privileged"].is_null(), "{name}");
            assert!(container["resources"]["requests"]["memory"].is_string(), "{name}");
        }
    }
}

/// Variables of the configuration.
fn variables() -> BTreeMap<String, String> {
    let text = fs::read_to_string(folder().join("base/podplane.env")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once('=').unwrap()).map(|(name, value)| (name.into(), value.into())).collect()
}

/// The arguments as the kubelet gives them.
fn arguments(container: &Value) -> Vec<String> {
    let mut variables = variables();
    variables.insert("NODE_NAME".to_owned(), "node1".to_owned());
    let expand = |argument: &Value| {
        let mut argument = argument.as_str().unwrap().to_owned();
        for (name, value) in &variables {
            argument = argument.replace(&format!("$({name})"), value);
        }
        assert!(!argument.contains("$("), "{argument}: the configuration has no such variable");
        argument
    };
    list(container, "/args").iter().map(expand).collect()
}

#[test]
fn the_program_knows_the_arguments_of_its_containers() {
    for (name, template) in templates(&objects()) {
        for container in containers(template) {
            assert_eq!(container["command"], serde_json::json!(["podplane"]), "{name}");
            // What comes before --help is judged first.
            let mut arguments = arguments(container);
            arguments.push("--help".to_owned());
            let output = podplane(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(output.status.code(), Some(0), "{name}: {arguments:?}: {}", text(&output.stderr));
        }
    }
    assert_eq!(
        podplane(&["cni", "uninstall", "--no-such-flag", "--help"]).status.code(),
        Some(2),
        "the test sees flags"
    );
    assert_eq!(podplane(&["cni", "uninstall", "--state-dir=/", "--help"]).status.code(), Some(2), "and values");
}

#[test]
fn the_configuration_is_used_and_holds_the_address_of_the_cluster_dns() {
    let objects = objects();
    let all: String = templates(&objects).iter().map(|(_, template)| template.to_string()).collect();
    let variables = variables();
    for name in variables.keys() {
        assert!(all.contains(&format!("$({name})")), "{name}");
    }
    let dns = of_kind(&objects, "Service").into_iter().find(|s| str_of(s, "/metadata/name") == "kube-dns").unwrap();
    assert_eq!(str_of(dns, "/spec/clusterIP"), variables["CLUSTER_DNS"]);
    assert!(dns["spec"]["selector"].is_null());
}
