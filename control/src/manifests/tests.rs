use super::*;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a change may take to be seen before a test fails; far above what it takes.
const DEADLINE: Duration = Duration::from_secs(20);

const COMPLETE: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {kubernetes.io/metadata.name: default}}
---
apiVersion: v1
kind: Node
metadata: {name: node1}
spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 192.168.1.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {nodeName: node1, containers: [{name: c, image: i}]}
status: {phase: Running, podIP: 10.244.1.5, podIPs: [{ip: 10.244.1.5}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, clusterIP: 10.96.7.7, clusterIPs: [10.96.7.7], ports: [{port: 80}]}
";

fn slice(address: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-1, labels: {{kubernetes.io/service-name: \
         web, endpointslice.kubernetes.io/managed-by: podplane-controller}}}}\naddressType: IPv4\nendpoints: [{{addresses: \
         [{address}], conditions: {{ready: true}}}}]\nports: [{{port: 8080}}]\n"
    )
}

fn service(name: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}]}}\n")
}

struct Bench {
    folder: TempDir,
    source: Manifests,
    stop: OwnedFd,
    _keep_open: UnixStream,
}

impl Bench {
    /// A source of the folder `m`, which holds `files`, and of `others` beside it.
    fn with(files: &[(&str, &str)], others: &[&str]) -> Bench {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("m")).unwrap();
        files.iter().for_each(|(name, text)| fs::write(folder.path().join(name), text).unwrap());
        let paths: Vec<PathBuf> = others.iter().map(|name| folder.path().join(name)).collect();
        let (stop, keep_open) = UnixStream::pair().unwrap();
        let source = Manifests::open(&paths, LabNetwork::default(), CompileOptions::default()).unwrap();
        Bench { folder, source, stop: stop.into(), _keep_open: keep_open }
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// The next update for which `done` holds.
    fn until(&mut self, done: impl Fn(&Manifests, &Update) -> bool) -> Update {
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < DEADLINE, "the change was not seen");
            if let Some(update) = self.source.refresh()
                && done(&self.source, &update)
            {
                return update;
            }
            assert_eq!(self.source.wait(self.stop.as_fd()).unwrap(), Wake::Look);
        }
    }

    fn services(&self) -> Vec<String> {
        services(&self.source)
    }
}

fn services(source: &Manifests) -> Vec<String> {
    source.cluster().services.keys().map(|(_, name)| name.to_string()).collect()
}

/// Addresses of all endpoints.
fn endpoints(source: &Manifests) -> Vec<String> {
    let slices = source.cluster().endpoint_slices.values();
    slices.flat_map(|slice| slice.object.endpoints.iter().map(|endpoint| endpoint.addr.to_string())).collect()
}

#[test]
fn complete_objects_are_taken_as_they_are() {
    let mut bench = Bench::with(&[("m/a.yaml", COMPLETE), ("m/b.yaml", &slice("10.244.1.99"))], &["m"]);
    let update = bench.source.refresh().unwrap();
    assert_eq!(update.problems, []);
    // The controller would say 10.244.1.5.
    assert_eq!(endpoints(&bench.source), ["10.244.1.99"]);
    assert_eq!(bench.source.filled, None);
    assert!(update.tables.is_some_and(|tables| tables.pod_count() == 1));
}

#[test]
fn what_is_missing_is_filled_in_and_what_was_filled_in_stays() {
    let mut bench = Bench::with(&[("m/b.yaml", &service("b"))], &["m"]);
    assert_eq!(bench.source.refresh().unwrap().problems, []);
    let address = |source: &Manifests, name: &str| {
        let key: policy::cluster::Key = ("default".into(), name.into());
        source.cluster().services[&key].object.spec.as_ref().unwrap().cluster_ip.clone().unwrap()
    };
    let of_b = address(&bench.source, "b");
    bench.put("m/a.yaml", &service("a"));
    bench.until(|source, _| services(source) == ["a", "b"]);
    assert_eq!(address(&bench.source, "b"), of_b, "the first free address is not given to a");
    assert_ne!(address(&bench.source, "a"), of_b);
}

#[test]
fn a_set_may_become_complete_and_incomplete_again() {
    let mut bench = Bench::with(&[("m/a.yaml", COMPLETE)], &["m"]);
    bench.source.refresh().unwrap();
    assert_eq!(endpoints(&bench.source), ["10.244.1.5"], "no slice: the controller makes it");
    bench.put("m/b.yaml", &slice("10.244.1.99"));
    bench.until(|source, _| endpoints(source) == ["10.244.1.99"]);
    assert_eq!(bench.services(), ["web"]);
    bench.put("m/c.yaml", &service("c"));
    let update = bench.until(|source, _| services(source) == ["c", "web"]);
    assert_eq!(update.problems, []);
    assert_eq!(endpoints(&bench.source), ["10.244.1.5"], "computed again");
    fs::remove_file(bench.folder.path().join("m/c.yaml")).unwrap();
    bench.until(|source, _| services(source) == ["web"]);
    assert_eq!(endpoints(&bench.source), ["10.244.1.99"]);
}

#[test]
fn one_endpoint_of_a_complete_set_costs_its_service_alone() {
    let many: Vec<String> = (0..50)
        .map(|number| {
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: s{number}}}\nspec: {{clusterIP: 10.96.8.{number}, clusterIPs: \
                 [10.96.8.{number}], ports: [{{port: 80}}]}}\n"
            )
        })
        .collect();
    let files = [
        ("m/a.yaml", COMPLETE),
        ("m/b.yaml", &slice("10.244.1.98") as &str),
        ("m/c.yaml", &many.join("---\n") as &str),
    ];
    let mut bench = Bench::with(&files, &["m"]);
    bench.source.refresh().unwrap();
    bench.put("m/b.yaml", &slice("10.244.1.99"));
    let update = bench.until(|source, _| endpoints(source) == ["10.244.1.99"]);
    assert_eq!(bench.source.compiler.work().services, 1);
    assert_eq!(update.delta.services.len(), 1);
}

#[test]
fn a_single_file_of_any_name_is_watched() {
    let mut bench =
        Bench::with(&[("m/cluster.txt", &service("one")), ("m/other", &service("other"))], &["m/cluster.txt"]);
    bench.source.refresh().unwrap();
    assert_eq!(bench.services(), ["one"]);
    bench.put("m/cluster.txt", &service("two"));
    bench.until(|source, _| services(source) == ["two"]);
    bench.put("m/new", &service("three"));
    fs::rename(bench.folder.path().join("m/new"), bench.folder.path().join("m/cluster.txt")).unwrap();
    bench.until(|source, _| services(source) == ["three"]);
    bench.put("m/cluster.txt", "kind: [");
    let broken = bench.until(|_, update| !update.problems.is_empty());
    assert_eq!(bench.services(), ["three"]);
    assert!(broken.problems[0].to_string().ends_with("its last good content stays in force"), "{:?}", broken.problems);
    fs::remove_file(bench.folder.path().join("m/cluster.txt")).unwrap();
    bench.until(|_, update| update.problems[0].to_string().ends_with("what it last held stays in force"));
    assert_eq!(bench.services(), ["three"]);
}

#[test]
fn a_link_to_a_file_of_a_mounted_config_map_is_followed() {
    let folder = TempDir::new().unwrap();
    for (version, name) in [("..v1", "one"), ("..v2", "two")] {
        fs::create_dir(folder.path().join(version)).unwrap();
        fs::write(folder.path().join(version).join("a.yaml"), service(name)).unwrap();
    }
    symlink("..v1", folder.path().join("..data")).unwrap();
    symlink("..data/a.yaml", folder.path().join("a.yaml")).unwrap();
    let (stop, _keep_open) = UnixStream::pair().unwrap();
    let paths = [folder.path().join("a.yaml")];
    let source = Manifests::open(&paths, LabNetwork::default(), CompileOptions::default()).unwrap();
    let mut bench = Bench { folder, source, stop: stop.into(), _keep_open };
    bench.source.refresh().unwrap();
    assert_eq!(bench.services(), ["one"]);
    symlink("..v2", bench.folder.path().join("..tmp")).unwrap();
    fs::rename(bench.folder.path().join("..tmp"), bench.folder.path().join("..data")).unwrap();
    bench.until(|source, _| services(source) == ["two"]);
}

#[test]
fn several_paths_are_one_set_and_the_first_definition_counts() {
    let second = service("a").replace("port: 80", "port: 90");
    let mut bench = Bench::with(&[("z.yaml", &service("a")), ("m/a.yaml", &second)], &["z.yaml", "m"]);
    let update = bench.source.refresh().unwrap();
    assert_eq!(update.problems.len(), 1);
    let text = update.problems[0].to_string();
    assert!(text.contains("m/a.yaml") && text.contains("defined twice"), "{text}");
    let key: policy::cluster::Key = ("default".into(), "a".into());
    let spec = bench.source.cluster().services[&key].object.spec.clone().unwrap();
    assert_eq!(spec.ports.unwrap()[0].port, 80);
}

#[test]
fn an_object_that_becomes_invalid_keeps_its_last_good_form() {
    let both = [service("a"), service("b")].join("---\n");
    let mut bench = Bench::with(&[("m/a.yaml", &both)], &["m"]);
    bench.source.refresh().unwrap();
    bench.put(
        "m/a.yaml",
        &both.replace("name: b}\nspec: {ports: [{port: 80}]}", "name: b}\nspec: {ports: [{port: 99999}]}"),
    );
    let update = bench.until(|_, update| !update.problems.is_empty());
    assert_eq!(bench.services(), ["a", "b"]);
    assert!(update.problems[0].to_string().ends_with("; its last good form stays in force"), "{:?}", update.problems);
}

#[test]
fn d15_there_are_no_tables_until_something_was_read() {
    let mut bench = Bench::with(&[], &["m"]);
    let update = bench.source.refresh().unwrap();
    assert!(update.tables.is_none());
    bench.put("m/a.yaml", "kind: [");
    assert!(bench.until(|_, update| !update.problems.is_empty()).tables.is_none());
    bench.put("m/a.yaml", &service("a"));
    assert!(bench.until(|source, _| services(source) == ["a"]).tables.is_some());
}

#[test]
fn paths_that_cannot_be_used_are_refused_by_name() {
    let open = |paths: &[&str]| {
        let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        Manifests::open(&paths, LabNetwork::default(), CompileOptions::default()).err().map(|error| error.to_string())
    };
    assert!(open(&["/nowhere/a.yaml"]).is_some_and(|text| text.starts_with("/nowhere/a.yaml: No such file")));
    assert_eq!(open(&["-", "-"]).as_deref(), Some("-f -: standard input can be read only once"));
    assert!(open(&["/"; PATHS_MAX + 1]).is_some_and(|text| text.contains("more than 64")));
}

#[test]
fn backends_on_loopback_are_taken_where_no_node_has_to_reach_them() {
    let slice = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [127.0.0.1]}]
";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("web.yaml"), slice).unwrap();
    let paths = [folder.path().to_owned()];
    let mut source = Manifests::open(&paths, LabNetwork::default(), CompileOptions::default()).unwrap();
    let update = source.refresh().expect("a first look");
    assert_eq!(update.problems, []);
    let taken = source.cluster().endpoint_slices.values().flat_map(|slice| &slice.object.endpoints);
    assert_eq!(taken.map(|endpoint| endpoint.addr.to_string()).collect::<Vec<_>>(), ["127.0.0.1"]);
    assert_eq!(policy::objects::parse("web.yaml", slice).objects, [], "a node does not take them");
}
