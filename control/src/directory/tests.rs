use super::*;
use crate::source::DELAY_MAX;
use policy::cluster::Definitions;
use policy::objects::{Object, parse};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// How long a change may take to be seen before a test fails; far above what it takes.
const DEADLINE: Duration = Duration::from_secs(20);

struct Bench {
    _folder: TempDir,
    root: PathBuf,
    directory: Directory,
    definitions: Definitions,
    stop: OwnedFd,
    _keep_open: UnixStream,
}

impl Bench {
    /// A directory on `root`, a folder that does not exist yet, in a temporary folder.
    fn empty() -> Bench {
        let folder = TempDir::new().unwrap();
        let root = folder.path().join("cluster");
        let (stop, keep_open) = UnixStream::pair().unwrap();
        let directory = Directory::open(&root).unwrap();
        Bench {
            _folder: folder,
            root,
            directory,
            definitions: Definitions::default(),
            stop: stop.into(),
            _keep_open: keep_open,
        }
    }

    /// A directory with `files`, read once.
    fn with(files: &[(&str, &str)]) -> (Bench, Generation) {
        let mut bench = Bench::empty();
        fs::create_dir(&bench.root).unwrap();
        for (name, text) in files {
            bench.put(name, text);
        }
        let first = bench.refresh().unwrap();
        (bench, first)
    }

    /// Looks, and takes over what changed.
    fn refresh(&mut self) -> Option<Generation> {
        let generation = self.directory.refresh()?;
        self.definitions.apply(generation.files.iter().cloned());
        Some(generation)
    }

    /// Names of all objects in force, in order.
    fn names(&self) -> Vec<String> {
        let cluster = self.definitions.cluster();
        let policies = cluster.network_policies.keys().chain(cluster.cluster_network_policies.keys());
        let keys = cluster.namespaces.keys().chain(policies);
        let mut names: Vec<String> = keys.map(|(_, name)| name.to_string()).collect();
        names.sort();
        names
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.root.join(name), text).unwrap();
    }

    /// The next generation for which `done` holds.
    fn until(&mut self, done: impl Fn(&[String], &Generation) -> bool) -> Generation {
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < DEADLINE, "the change was not seen: {:?}", self.names());
            if let Some(generation) = self.refresh()
                && done(&self.names(), &generation)
            {
                return generation;
            }
            assert_eq!(self.directory.wait(self.stop.as_fd()).unwrap(), Wake::Look);
        }
    }

    fn until_names(&mut self, wanted: &[&str]) -> Generation {
        self.until(|names, _| names == wanted)
    }
}

fn namespace(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
}

fn policy(name: &str, cidr: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{podSelector: {{}}, ingress: \
         [{{from: [{{ipBlock: {{cidr: {cidr}}}}}]}}]}}\n"
    )
}

#[test]
fn all_manifest_files_of_the_tree_are_read_and_hidden_ones_are_not() {
    let (bench, first) = Bench::with(&[
        ("a.yaml", &namespace("a")),
        ("b.yml", &namespace("b")),
        ("c.json", r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"c"}}"#),
        (".d.yaml", &namespace("d")),
        ("e.txt", &namespace("e")),
    ]);
    assert_eq!(bench.names(), ["a", "b", "c"]);
    assert_eq!((first.number, first.problems.len()), (1, 0));
}

#[test]
fn nothing_changed_gives_no_generation() {
    let (mut bench, _) = Bench::with(&[("a.yaml", &namespace("a"))]);
    assert!(bench.refresh().is_none());
    bench.put("a.yaml", &namespace("a"));
    assert!(bench.refresh().is_none(), "the same content again");
}

#[test]
fn a_folder_that_appears_later_is_found() {
    let mut bench = Bench::empty();
    let first = bench.refresh().unwrap();
    assert_eq!(first.problems.len(), 1, "the missing folder is reported");
    fs::create_dir(&bench.root).unwrap();
    bench.put("a.yaml", &namespace("a"));
    let found = bench.until_names(&["a"]);
    assert!(found.problems.is_empty());
    fs::create_dir_all(bench.root.join("deep/er")).unwrap();
    fs::write(bench.root.join("deep/er/b.yaml"), namespace("b")).unwrap();
    bench.until_names(&["a", "b"]);
}

#[test]
fn a_file_replaced_by_renaming_is_seen_and_a_removed_one_takes_its_objects_along() {
    let (mut bench, _) = Bench::with(&[("a.yaml", &namespace("a")), ("b.yaml", &namespace("b"))]);
    bench.put(".a.tmp", &namespace("a2"));
    fs::rename(bench.root.join(".a.tmp"), bench.root.join("a.yaml")).unwrap();
    bench.until_names(&["a2", "b"]);
    fs::remove_file(bench.root.join("b.yaml")).unwrap();
    bench.until_names(&["a2"]);
}

#[test]
fn a_broken_file_is_reported_and_its_last_good_objects_stay() {
    let (mut bench, _) = Bench::with(&[("a.yaml", &namespace("a")), ("b.yaml", &namespace("b"))]);
    bench.put("a.yaml", "apiVersion: v1\nkind: [");
    bench.put("b.yaml", &namespace("b2"));
    let broken = bench.until(|_, generation| !generation.problems.is_empty());
    assert_eq!(bench.names(), ["a", "b2"]);
    let text = broken.problems[0].to_string();
    assert!(text.contains("a.yaml") && text.ends_with("its last good content stays in force"), "{text}");
    bench.put("a.yaml", &namespace("a3"));
    let mended = bench.until_names(&["a3", "b2"]);
    assert!(mended.problems.is_empty());
}

#[test]
fn the_last_good_form_of_a_refused_object_stays() {
    let text = |cidr| [policy("p", cidr), "---\n".to_owned(), namespace("a")].concat();
    let (mut bench, _) = Bench::with(&[("a.yaml", &text("10.0.0.0/8"))]);
    bench.put("a.yaml", &text("10.0.0.0/99"));
    let refused = bench.until(|_, generation| !generation.problems.is_empty());
    assert_eq!(bench.names(), ["a", "p"]);
    assert!(refused.problems[0].field.contains("cidr"), "{:?}", refused.problems);
}

/// A ClusterNetworkPolicy that denies everything to `to`.
fn cluster_policy(name: &str, to: &str) -> String {
    format!(
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{tier: \
         Admin, priority: 1, subject: {{namespaces: {{}}}}, egress: [{{action: Deny, to: [{to}]}}]}}\n"
    )
}

#[test]
fn a_policy_that_becomes_invalid_stays_in_force_as_it_was_and_the_problem_says_so() {
    let good = [policy("np", "10.0.0.0/8"), cluster_policy("cnp", "{namespaces: {}}")].join("---\n");
    let (mut bench, first) = Bench::with(&[("a.yaml", &good)]);
    assert_eq!(first.problems, []);
    let in_force = |bench: &Bench| {
        let cluster = bench.definitions.cluster();
        let np = cluster.network_policies.values().map(|policy| policy.object.clone()).next();
        let cnp = cluster.cluster_network_policies.values().map(|policy| policy.object.clone()).next();
        (np.unwrap(), cnp.unwrap())
    };
    let before = in_force(&bench);
    let mistakes = [
        good.replace("10.0.0.0/8", "10.0.0.5/8").replace("Admin", "Middle"),
        good.replace("[{ipBlock: {cidr: 10.0.0.0/8}}]", "any").replace("{namespaces: {}}]", "{}]"),
        good.replace("networking.k8s.io/v1\n", "networking.k8s.io/v2\n").replace("v1alpha2", "v1alpha1"),
        good.replace("apiVersion: networking.k8s.io/v1\n", "")
            .replace("apiVersion: policy.networking.k8s.io/v1alpha2\n", ""),
    ];
    for (number, mistake) in mistakes.iter().enumerate() {
        bench.put("a.yaml", mistake);
        let seen = bench.until(|_, _| true);
        let texts: Vec<String> = seen.problems.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 2, "{number}: {texts:?}");
        for (text, object) in texts.iter().zip(["NetworkPolicy default/np", "ClusterNetworkPolicy cnp"]) {
            assert!(text.contains(object), "{number}: {text}");
            assert!(text.ends_with("; its last good form stays in force"), "{number}: {text}");
        }
        assert_eq!(in_force(&bench), before, "{number}");
    }
    bench.put("a.yaml", &good);
    assert_eq!(bench.until(|_, _| true).problems, []);
}

#[test]
fn of_a_policy_that_was_never_valid_nothing_is_in_force_and_the_problem_says_what_is_open() {
    let bad = [policy("np", "10.0.0.0/99"), cluster_policy("cnp", "{}"), namespace("a")].join("---\n");
    let (bench, first) = Bench::with(&[("a.yaml", &bad)]);
    assert_eq!(bench.names(), ["a"]);
    let texts: Vec<String> = first.problems.iter().map(ToString::to_string).collect();
    let ends = [
        "nothing of it is in force: pods that only it isolates are open",
        "nothing of it is in force: what it denies is judged without it",
    ];
    assert_eq!(texts.len(), 2, "{texts:?}");
    for (text, end) in texts.iter().zip(ends) {
        assert!(text.ends_with(end), "{text}");
    }
}

#[test]
fn a_vanished_root_leaves_everything_in_force() {
    let (mut bench, _) = Bench::with(&[("a.yaml", &namespace("a"))]);
    fs::rename(&bench.root, bench.root.with_extension("away")).unwrap();
    bench.until(|_, generation| !generation.problems.is_empty());
    assert_eq!(bench.names(), ["a"]);
    fs::rename(bench.root.with_extension("away"), &bench.root).unwrap();
    let back = bench.until(|_, generation| generation.problems.is_empty());
    assert_eq!(back.number, 3);
}

#[test]
fn a_swapped_link_of_a_mounted_config_map_is_seen() {
    let (mut bench, _) = Bench::with(&[]);
    let version = |number: u32, name: &str| {
        let folder = bench.root.join(format!("..v{number}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a.yaml"), namespace(name)).unwrap();
    };
    version(1, "one");
    symlink("..v1", bench.root.join("..data")).unwrap();
    symlink("..data/a.yaml", bench.root.join("a.yaml")).unwrap();
    version(2, "two");
    bench.until_names(&["one"]);
    symlink("..v2", bench.root.join("..data_tmp")).unwrap();
    fs::rename(bench.root.join("..data_tmp"), bench.root.join("..data")).unwrap();
    bench.until_names(&["two"]);
}

#[test]
fn a_swapped_link_to_the_whole_folder_is_seen() {
    let mut bench = Bench::empty();
    for name in ["one", "two"] {
        fs::create_dir(bench.root.with_file_name(name)).unwrap();
        fs::write(bench.root.with_file_name(name).join("a.yaml"), namespace(name)).unwrap();
    }
    symlink("one", &bench.root).unwrap();
    bench.until_names(&["one"]);
    let next = bench.root.with_file_name("next");
    symlink("two", &next).unwrap();
    fs::rename(&next, &bench.root).unwrap();
    bench.until_names(&["two"]);
    fs::write(bench.root.join("b.yaml"), namespace("b")).unwrap();
    bench.until_names(&["b", "two"]);
}

#[test]
fn a_ring_of_links_ends() {
    let (mut bench, _) = Bench::with(&[("a.yaml", &namespace("a"))]);
    symlink(".", bench.root.join("again")).unwrap();
    bench.put("b.yaml", &namespace("b"));
    bench.until_names(&["a", "b"]);
}

#[test]
fn b21_a_change_of_one_file_is_looked_for_in_that_file_alone() {
    let files: Vec<String> = (0..50).map(|number| format!("{number}.yaml")).collect();
    let texts: Vec<String> = (0..50).map(|number| namespace(&format!("n{number}"))).collect();
    let all: Vec<(&str, &str)> = files.iter().zip(&texts).map(|(file, text)| (&**file, &**text)).collect();
    let (mut bench, first) = Bench::with(&all);
    assert_eq!(first.files.len(), 50);
    for change in ["written", "renamed", "removed"] {
        let path = bench.root.join("7.yaml");
        match change {
            "written" => fs::write(&path, namespace("seven")).unwrap(),
            "renamed" => {
                bench.put(".7.yaml", &namespace("again"));
                fs::rename(bench.root.join(".7.yaml"), &path).unwrap();
            }
            _ => fs::remove_file(&path).unwrap(),
        }
        assert_eq!(bench.directory.wait(bench.stop.as_fd()).unwrap(), Wake::Look);
        let seen = &bench.directory.watched.seen;
        assert!(!seen.everywhere && seen.paths.iter().eq([&path]), "{change}: {seen:?}");
        let generation = bench.refresh().unwrap();
        let changed: Vec<&str> = generation.files.iter().map(|change| &*change.file).collect();
        assert_eq!(changed, [path.to_str().unwrap()], "{change}");
        let digest = Directory::open(&bench.root).unwrap().refresh().unwrap().digest;
        assert_eq!(generation.digest, digest, "{change}");
    }
    assert_eq!(bench.names().len(), 49);
    // A folder may bring anything.
    fs::create_dir(bench.root.join("more")).unwrap();
    assert_eq!(bench.directory.wait(bench.stop.as_fd()).unwrap(), Wake::Look);
    assert!(bench.directory.watched.seen.everywhere);
}

#[test]
fn a_burst_of_files_is_one_generation() {
    let (mut bench, _) = Bench::with(&[]);
    for number in 0..200 {
        bench.put(&format!("{number}.yaml"), &namespace(&format!("n{number}")));
    }
    assert_eq!(bench.directory.wait(bench.stop.as_fd()).unwrap(), Wake::Look);
    let generation = bench.refresh().unwrap();
    assert_eq!((generation.number, bench.names().len()), (2, 200));
}

#[test]
fn a_burst_that_does_not_end_is_looked_at_all_the_same() {
    let (mut bench, _) = Bench::with(&[]);
    let path = bench.root.join("busy.yaml");
    let writer = std::thread::spawn(move || {
        let began = Instant::now();
        let mut number = 0;
        while began.elapsed() < 4 * DELAY_MAX {
            number += 1;
            fs::write(&path, namespace(&format!("n{number}"))).unwrap();
        }
    });
    let began = Instant::now();
    assert_eq!(bench.directory.wait(bench.stop.as_fd()).unwrap(), Wake::Look);
    assert!(began.elapsed() < DELAY_MAX * 3, "{:?}", began.elapsed());
    writer.join().unwrap();
}

#[test]
fn a_stop_ends_the_wait() {
    let mut bench = Bench::empty();
    bench.refresh();
    let (stop, other) = UnixStream::pair().unwrap();
    drop(other);
    assert_eq!(bench.directory.wait(stop.as_fd()).unwrap(), Wake::Stop);
}

fn objects(yaml: &str) -> Vec<Object> {
    let parsed = parse("test", yaml);
    assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    parsed.objects.into_iter().map(|sourced| sourced.object).collect()
}

#[test]
fn what_is_written_is_read_back_as_it_was() {
    let nasty = r##"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "shop", "labels": {"yes": "no",
        "on": "0123", "v": "1e3", "n": "null", "e": ""}, "annotations": {"t": "~", "a": "two\nlines\n", "b": " - x: #y",
        "c": "tab\there", "d": "\u00e9\u0007", "e": "a: b", "f": "---\nkind: Pod", "g": "|", "h": "0x1F", "i": "12:30:45",
        "j": "  lead", "k": "trail \n\n", "l": "'\"", "m": "2026-01-01", "n": ".5", "o": "!tag", "p": "&a *a", "q": "true"}},
        "spec": {"nodeName": "node1", "containers": [{"name": "c", "image": "i", "args": ["", "-", "a\\b"]}]},
        "status": {"podIPs": [{"ip": "10.244.1.2"}, {"ip": "fd00::2"}]}}"##;
    let written = objects(nasty);
    let folder = TempDir::new().unwrap();
    assert_eq!(write(folder.path(), &written).unwrap().written, 1);
    let text = fs::read_to_string(folder.path().join("pods/shop/p.yaml")).unwrap();
    assert_eq!(objects(&text), written, "{text}");
}

#[test]
fn a_cluster_network_policy_is_written_back_with_its_closed_rules() {
    let manifest = r#"{"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": {"name": "p"},
        "spec": {"tier": "Admin", "priority": 7, "subject": {"pods": {"podSelector": {}}}, "egress": [
            {"name": "yes", "action": "Accept", "to": [{"domainNames": ["*.example.com"]}, {"networks": ["::/0"]}]},
            {"action": "Deny", "to": [{"unheard": {}}], "protocols": [{"tcp": {"destinationPort": {"number": 80}}}, {"icmp": {}}]}]},
        "status": {"conditions": []}}"#;
    let read = policy::objects::parse("test", manifest).objects;
    let written: Vec<_> = read.into_iter().map(|sourced| sourced.object).collect();
    let folder = TempDir::new().unwrap();
    assert_eq!(write(folder.path(), &written).unwrap().written, 1);
    let text = fs::read_to_string(folder.path().join("clusternetworkpolicies/p.yaml")).unwrap();
    assert_eq!(objects(&text), written, "{text}");
    assert!(text.contains("podplane.io/closed-rules: egress[1]"), "{text}");
}

#[test]
fn writing_touches_what_changed_and_removes_what_is_gone() {
    let folder = TempDir::new().unwrap();
    let three = objects(&["a", "b", "c"].map(|name| format!("---\n{}", namespace(name))).concat());
    let counts = |done: Written| (done.written, done.removed, done.unchanged);
    assert_eq!(counts(write(folder.path(), &three).unwrap()), (3, 0, 0));
    let path = folder.path().join("namespaces/a.yaml");
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    let two = objects(&format!("{}---\n{}", namespace("a"), policy("p", "10.0.0.0/8")));
    let done = write(folder.path(), &two).unwrap();
    assert_eq!(counts(done), (1, 2, 1));
    assert_eq!(Directory::open(folder.path()).unwrap().refresh().unwrap().digest, done.digest);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
    assert!(folder.path().join("networkpolicies/default/p.yaml").exists());
    assert_eq!(write(folder.path(), []).unwrap().removed, 2);
}

#[test]
fn names_that_are_no_file_names_stay_inside_the_folder() {
    let folder = TempDir::new().unwrap();
    let mut odd = objects(&namespace("a"));
    odd[0].metadata_mut().name = Some("../../x".to_owned());
    let mut long = odd.clone();
    long[0].metadata_mut().name = Some("l".repeat(253));
    write(folder.path(), odd.iter().chain(&long)).unwrap();
    let found: Vec<String> = fs::read_dir(folder.path().join("namespaces"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.contains(&"%2E.%2F..%2Fx.yaml".to_owned()), "{found:?}");
}

#[test]
fn a_written_secret_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = "{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {tls.key: k}}";
    let objects = policy::objects::parse("test.yaml", text).objects;
    write(folder.path(), objects.iter().map(|sourced| &sourced.object)).expect("the folder can be written");
    let file = folder.path().join("secrets/default/s.yaml");
    let metadata = std::fs::metadata(file).expect("the Secret is written");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}

#[test]
fn doors_have_the_folders_of_their_plural_names() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = "
{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: c}, spec: {controller: example.com/c}}
---
{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: i}, spec: {defaultBackend: {service: {name: s, port: {number: 80}}}}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: c}, spec: {controllerName: example.com/c}}
";
    let objects = policy::objects::parse("test.yaml", text).objects;
    write(folder.path(), objects.iter().map(|sourced| &sourced.object)).expect("the folder can be written");
    for file in ["ingressclasses/c.yaml", "ingresses/default/i.yaml", "gatewayclasses/c.yaml"] {
        assert!(folder.path().join(file).exists(), "{file}");
    }
}
