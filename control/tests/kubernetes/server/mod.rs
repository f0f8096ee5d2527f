//! An API server for tests, on a free port of loopback: it lists and watches what a test gives it, in the exact bytes of
//! recordings where there are such, and lies when it is told to.

mod wire;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// One line that a watch sends.
struct Line {
    version: u64,
    bytes: Vec<u8>,
    /// Sent only to watches that are open, and never again.
    is_lie: bool,
}

#[derive(Default)]
struct Resource {
    kind: String,
    /// By `NAMESPACE/NAME` or `NAME`.
    items: BTreeMap<String, Value>,
    log: Vec<Line>,
    /// Watches from before this version are answered with 410.
    oldest: u64,
    /// The answer to a list at this version, as it was recorded.
    recorded: Option<(u64, String)>,
    /// Version of the last change.
    version: u64,
    /// Raised to end watches.
    ends: u64,
    is_end_clean: bool,
}

/// An answer in place of the right one.
#[derive(Clone)]
pub(crate) struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
    /// The connection is closed after so many bytes of the body.
    cut_after: usize,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status, headers: String::new(), body: body.into(), cut_after: usize::MAX }
    }

    pub(crate) fn header(self, line: &str) -> Answer {
        Answer { headers: format!("{}{line}\r\n", self.headers), ..self }
    }

    pub(crate) fn cut_after(self, cut_after: usize) -> Answer {
        Answer { cut_after, ..self }
    }
}

/// Answers for requests whose URI has `text` in it.
struct Rule {
    text: String,
    times: usize,
    answer: Answer,
}

#[derive(Default)]
struct State {
    /// By path, such as `/api/v1/pods`.
    resources: BTreeMap<String, Resource>,
    version: u64,
    rules: Vec<Rule>,
    requests: Vec<String>,
    /// Bytes of each piece that is sent, and how long is waited between two.
    piece: Option<(usize, Duration)>,
    is_down: bool,
    is_over: bool,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

/// See the module.
pub(crate) struct ApiServer {
    address: SocketAddr,
    shared: Shared,
}

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Kinds that are built into every cluster, with their paths.
const BUILT_IN: &[(&str, &str)] = &[
    ("Node", "/api/v1/nodes"),
    ("Namespace", "/api/v1/namespaces"),
    ("Pod", "/api/v1/pods"),
    ("Service", "/api/v1/services"),
    ("Secret", "/api/v1/secrets"),
    ("EndpointSlice", "/apis/discovery.k8s.io/v1/endpointslices"),
    ("NetworkPolicy", "/apis/networking.k8s.io/v1/networkpolicies"),
    ("Ingress", "/apis/networking.k8s.io/v1/ingresses"),
    ("IngressClass", "/apis/networking.k8s.io/v1/ingressclasses"),
];

fn key(object: &Value) -> String {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().expect("an object has a name");
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

impl ApiServer {
    /// A cluster without objects.
    pub(crate) fn empty() -> ApiServer {
        let shared = Shared::default();
        {
            let mut state = lock(&shared);
            state.version = 100;
            for (kind, path) in BUILT_IN {
                let resource = Resource { kind: (*kind).to_owned(), version: 100, ..Resource::default() };
                state.resources.insert((*path).to_owned(), resource);
            }
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let accepting = shared.clone();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let shared = accepting.clone();
                if lock(&shared).is_over {
                    return;
                }
                // A client that goes away ends its thread.
                thread::spawn(move || connection.and_then(|connection| wire::serve(&shared, connection)));
            }
        });
        ApiServer { address, shared }
    }

    /// The recorded cluster before its scenario, in the recorded bytes.
    pub(crate) fn recorded() -> ApiServer {
        let server = ApiServer::empty();
        {
            let mut state = lock(&server.shared);
            for (path, resource) in &mut state.resources {
                let text = recording(&format!("{}.list.json", plural(path)));
                let list: Value = serde_json::from_str(&text).expect("a recorded list");
                let version =
                    list["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).expect("a version");
                let items = list["items"].as_array().expect("items");
                resource.items = items.iter().map(|item| (key(item), item.clone())).collect();
                resource.recorded = Some((version, text));
                (resource.version, resource.oldest) = (version, version);
            }
            state.version = state.resources.values().map(|resource| resource.version).max().unwrap_or_default();
        }
        server
    }

    /// Plays the recorded scenario, in the recorded bytes.
    pub(crate) fn play(&self) {
        for (_, path) in BUILT_IN {
            self.play_lines(plural(path), usize::MAX);
        }
    }

    /// The first `count` lines of the recorded scenario of one resource.
    pub(crate) fn play_lines(&self, plural: &str, count: usize) {
        let text = recording(&format!("{plural}.watch.jsonl"));
        for line in text.lines().take(count) {
            let event: Value = serde_json::from_str(line).expect("a recorded event");
            let object = &event["object"];
            let version =
                object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).expect("a version");
            self.change(plural, |resource| {
                match event["type"].as_str() {
                    Some("DELETED") => drop(resource.items.remove(&key(object))),
                    Some("ADDED" | "MODIFIED") => drop(resource.items.insert(key(object), object.clone())),
                    _ => {}
                }
                resource.version = version;
                resource.log.push(Line { version, bytes: format!("{line}\n").into_bytes(), is_lie: false });
            });
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Installs a resource that not every cluster has.
    pub(crate) fn install(&self, kind: &str, path: &str) {
        let mut state = lock(&self.shared);
        let version = state.version;
        let resource = Resource { kind: kind.to_owned(), version, ..Resource::default() };
        state.resources.insert(path.to_owned(), resource);
    }

    /// Takes one away again.
    pub(crate) fn uninstall(&self, path: &str) {
        lock(&self.shared).resources.remove(path);
        self.shared.1.notify_all();
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Resource)) {
        let mut state = lock(&self.shared);
        let found = state.resources.iter_mut().find(|(path, _)| plural(path) == name);
        change(found.unwrap_or_else(|| panic!("no {name}")).1);
        state.version = state.resources.values().map(|resource| resource.version).max().unwrap_or_default();
        drop(state);
        self.shared.1.notify_all();
    }

    fn next_version(&self) -> u64 {
        lock(&self.shared).version + 1
    }

    /// Writes an object.
    pub(crate) fn put(&self, plural: &str, mut object: Value) {
        let version = self.next_version();
        object["metadata"]["resourceVersion"] = version.to_string().into();
        self.change(plural, |resource| {
            object["kind"] = resource.kind.clone().into();
            let is_new = resource.items.insert(key(&object), object.clone()).is_none();
            let kind = if is_new { "ADDED" } else { "MODIFIED" };
            resource.version = version;
            resource.log.push(line(version, &json!({"type": kind, "object": object})));
        });
    }

    /// Deletes an object.
    pub(crate) fn delete(&self, plural: &str, name: &str) {
        let version = self.next_version();
        self.change(plural, |resource| {
            let mut object = resource.items.remove(name).unwrap_or_else(|| panic!("no {name}"));
            object["metadata"]["resourceVersion"] = version.to_string().into();
            object["kind"] = resource.kind.clone().into();
            resource.version = version;
            resource.log.push(line(version, &json!({"type": "DELETED", "object": object})));
        });
    }

    /// Changes objects without an event, as if the watch had missed it.
    pub(crate) fn delete_silently(&self, plural: &str, name: &str) {
        let version = self.next_version();
        self.change(plural, |resource| {
            resource.items.remove(name).unwrap_or_else(|| panic!("no {name}"));
            resource.version = version;
        });
    }

    /// Sends bytes to the open watches of a resource, whatever they are.
    pub(crate) fn say(&self, plural: &str, bytes: impl Into<Vec<u8>>) {
        self.change(plural, |resource| {
            resource.log.push(Line { version: resource.version, bytes: bytes.into(), is_lie: true });
        });
    }

    /// Ends the open watches of a resource: as the server does at its timeout, or by breaking the connection.
    pub(crate) fn end_watches(&self, plural: &str, is_end_clean: bool) {
        self.change(plural, |resource| {
            resource.ends += 1;
            resource.is_end_clean = is_end_clean;
        });
    }

    /// Forgets the history: watches from before now are answered with 410.
    pub(crate) fn compact(&self, plural: &str) {
        self.change(plural, |resource| {
            resource.log.clear();
            resource.oldest = resource.version;
        });
    }

    /// Answers the next `times` requests whose URI has `text` in it otherwise.
    pub(crate) fn answer(&self, text: &str, times: usize, answer: Answer) {
        lock(&self.shared).rules.push(Rule { text: text.to_owned(), times, answer });
    }

    /// Takes such answers back.
    pub(crate) fn answer_rightly(&self) {
        lock(&self.shared).rules.clear();
    }

    /// Sends everything in pieces of `bytes`, with a pause between them.
    pub(crate) fn send_in_pieces(&self, bytes: usize, pause: Duration) {
        lock(&self.shared).piece = Some((bytes, pause));
    }

    /// Breaks all connections and accepts no request until [`ApiServer::come_back`].
    pub(crate) fn go_away(&self) {
        let mut state = lock(&self.shared);
        state.is_down = true;
        for resource in state.resources.values_mut() {
            resource.ends += 1;
            resource.is_end_clean = false;
        }
        drop(state);
        self.shared.1.notify_all();
    }

    pub(crate) fn come_back(&self) {
        lock(&self.shared).is_down = false;
    }

    /// URIs of all requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        lock(&self.shared).requests.clone()
    }

    /// How many of them have all of `texts` in them.
    pub(crate) fn count(&self, texts: &[&str]) -> usize {
        self.requests().iter().filter(|uri| texts.iter().all(|text| uri.contains(text))).count()
    }

    /// All objects as one list, as a person would save them: without what only servers write.
    pub(crate) fn saved(&self) -> String {
        let state = lock(&self.shared);
        let groups = state.resources.iter().flat_map(|(path, resource)| {
            let api_version = path.rsplit_once('/').map_or("", |(group, _)| group);
            let api_version = api_version.trim_start_matches("/apis/").trim_start_matches("/api/");
            resource.items.values().map(move |item| {
                let mut item = item.clone();
                item["apiVersion"] = api_version.into();
                item["kind"] = resource.kind.clone().into();
                let metadata = item["metadata"].as_object_mut().expect("metadata");
                metadata
                    .retain(|field, _| !["managedFields", "resourceVersion", "annotations"].contains(&field.as_str()));
                item
            })
        });
        json!({"apiVersion": "v1", "kind": "List", "items": groups.collect::<Vec<_>>()}).to_string()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        lock(&self.shared).is_over = true;
        self.go_away();
        // Wakes the thread that accepts; if nobody listens any more there is nothing to wake.
        let _ = TcpStream::connect(self.address);
    }
}

fn plural(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

fn line(version: u64, event: &Value) -> Line {
    Line { version, bytes: format!("{event}\n").into_bytes(), is_lie: false }
}

pub(crate) fn recording(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../control/tests/kubernetes/recordings");
    std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}
