//! A server that answers single objects as the API server does: reads, merge patches, replacements, new objects, with versions,
//! conflicts and subresources. It notes what it was asked, and fails as it is told.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long a test waits for something to happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request as it came.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    /// Method and path with the query.
    pub(super) line: String,
    pub(super) content_type: String,
    pub(super) body: Value,
}

impl Asked {
    pub(super) fn is_write(&self) -> bool {
        !self.line.starts_with("GET ")
    }
}

/// Answers `status` to requests whose line begins so, while it is there.
pub(super) type Fault = (&'static str, u16);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    asked: Vec<Asked>,
    faults: Vec<Fault>,
    /// Does this before the next write, as another writer would.
    interference: Option<(String, Value)>,
    is_down: bool,
    /// Connections that were closed because it is.
    turned_away: usize,
}

/// A running server. Its threads end with the process.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Server {
    pub(super) fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server { address: listener.local_addr().unwrap(), shared: Arc::default() };
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                // A client that goes away is none of the test's business.
                std::thread::spawn(move || serving.serve(stream).unwrap_or_default());
            }
        });
        server
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.0.lock().unwrap()
    }

    /// Puts an object at `path`.
    pub(super) fn put(&self, path: &str, object: Value) {
        self.state().put(path, object);
    }

    pub(super) fn object(&self, path: &str) -> Value {
        self.state().objects.get(path).cloned().unwrap_or_default()
    }

    pub(super) fn set_faults(&self, faults: &[Fault]) {
        self.state().faults = faults.to_vec();
    }

    pub(super) fn set_down(&self, is_down: bool) {
        self.state().is_down = is_down;
    }

    /// Merges `patch` into the object at `path` right before the next write.
    pub(super) fn interfere(&self, path: &str, patch: Value) {
        self.state().interference = Some((path.to_owned(), patch));
    }

    /// Waits until what was asked satisfies `condition`; gives all of it.
    pub(super) fn wait(&self, what: &str, condition: impl Fn(&[Asked]) -> bool) -> Vec<Asked> {
        self.wait_until(what, |state| condition(&state.asked));
        self.asked()
    }

    /// Waits until the object at `path` is as it should be.
    pub(super) fn wait_for_object(&self, path: &str, condition: impl Fn(&Value) -> bool) {
        self.wait_until(path, |state| state.objects.get(path).is_some_and(&condition));
    }

    /// Waits until somebody asked a server that was down.
    pub(super) fn wait_for_refusal(&self) {
        self.wait_until("a request that is turned away", |state| state.turned_away > 0);
    }

    fn wait_until(&self, what: &str, condition: impl Fn(&State) -> bool) {
        let (state, changed) = &*self.shared;
        let deadline = Instant::now() + PATIENCE;
        let mut state = state.lock().unwrap();
        while !condition(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited for {what}; asked: {:#?}", state.asked);
            state = changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// What was asked so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut stream = stream;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let (mut length, mut content_type) = (0, String::new());
            loop {
                let mut header = String::new();
                reader.read_line(&mut header)?;
                let header = header.trim_end().to_ascii_lowercase();
                if header.is_empty() {
                    break;
                }
                if let Some(value) = header.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if let Some(value) = header.strip_prefix("content-type:") {
                    content_type = value.trim().to_owned();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
            let asked = Asked { line, content_type, body: serde_json::from_slice(&body).unwrap_or_default() };
            let (state, changed) = &*self.shared;
            let (status, answer) = {
                let mut state = state.lock().unwrap();
                if state.is_down {
                    state.turned_away += 1;
                    changed.notify_all();
                    return Ok(());
                }
                state.asked.push(asked.clone());
                state.answer(&asked)
            };
            changed.notify_all();
            let answer = answer.to_string();
            let length = answer.len();
            write!(
                stream,
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{answer}"
            )?;
        }
    }
}

impl State {
    fn put(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn answer(&mut self, asked: &Asked) -> (u16, Value) {
        if let Some((_, status)) = self.faults.iter().find(|(line, _)| asked.line.starts_with(line)) {
            return (*status, json!({"kind": "Status", "message": format!("told to answer {status}")}));
        }
        if asked.is_write()
            && let Some((path, patch)) = self.interference.take()
        {
            let mut object = self.objects[&path].clone();
            merge(&mut object, &patch);
            self.put(&path, object);
        }
        let (method, path) = asked.line.split_once(' ').unwrap();
        let path = path.split('?').next().unwrap();
        let main = path.trim_end_matches("/status");
        match (method, self.objects.get(main).cloned()) {
            ("POST", _) => {
                let path = format!("{path}/{}", asked.body["metadata"]["name"].as_str().unwrap());
                match self.objects.contains_key(&path) {
                    true => (409, json!({"kind": "Status", "message": "already exists"})),
                    false => (201, self.put(&path, asked.body.clone())),
                }
            }
            ("GET", None) if path == "/api/v1/nodes" => {
                let nodes = self.objects.iter().filter(|(path, _)| path.starts_with("/api/v1/nodes/"));
                (200, json!({"kind": "NodeList", "items": nodes.map(|(_, node)| node).collect::<Vec<_>>()}))
            }
            (_, None) => (404, json!({"kind": "Status", "message": "not found"})),
            ("GET", Some(object)) => (200, object),
            (_, Some(object)) => {
                let version = &asked.body["metadata"]["resourceVersion"];
                if !version.is_null() && *version != object["metadata"]["resourceVersion"] {
                    return (409, json!({"kind": "Status", "message": "the object has been modified"}));
                }
                let mut next = object.clone();
                if method == "PUT" {
                    next = asked.body.clone();
                } else {
                    merge(&mut next, &asked.body);
                }
                // A subresource is written by itself.
                if main != path {
                    next = Value::Object(object.as_object().unwrap().clone().into_iter().collect());
                    merge(&mut next, &json!({"status": asked.body["status"]}));
                } else if object["status"].is_object() {
                    next["status"] = object["status"].clone();
                }
                (200, self.put(main, next))
            }
        }
    }
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name], value);
        }
    }
}
