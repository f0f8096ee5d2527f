use super::*;
use crate::agent::{Agent, AgentConfig};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use tempfile::TempDir;

struct Bench {
    folder: TempDir,
    agent: Arc<Agent>,
}

impl Bench {
    /// An agent that waits for its Node object: everything but the dataplane.
    fn new() -> Bench {
        let folder = TempDir::new().unwrap();
        let agent = Agent::new(AgentConfig {
            state_dir: Some(folder.path().join("state")),
            ..AgentConfig::new("node1", folder.path().join("cluster").as_path(), &folder.path().join("run/node.sock"))
        });
        Bench { agent: Arc::new(agent.unwrap()), folder }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("run/node.sock")
    }

    fn serve(&self) -> (Server, Client) {
        (Server::start(&self.socket(), None, self.agent.clone()).unwrap(), Client::new(self.socket()))
    }
}

fn request() -> AttachRequest {
    AttachRequest {
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        container_id: "c1".to_owned(),
        netns: "/run/netns/web".into(),
        ifname: "eth0".to_owned(),
        addresses: None,
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> ApiError {
    match result {
        Err(ClientError::Refused(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn g11_metrics_are_served_over_tcp_and_nothing_else_is() {
    let bench = Bench::new();
    let metrics = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = metrics.local_addr().unwrap();
    let _server = Server::start(&bench.socket(), Some(metrics), bench.agent.clone()).unwrap();
    let get = |path: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let page = get("/metrics");
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("application/openmetrics-text"), "{page}");
    assert!(page.contains("podplane_ready 0.0\n") && page.ends_with("# EOF\n"), "{page}");
    for other in ["/v1/status", "/v1/ports", "/metrics/", "/"] {
        assert!(get(other).starts_with("HTTP/1.1 404 "), "{other}");
    }
}

#[test]
fn a_waiting_node_says_what_it_waits_for() {
    let bench = Bench::new();
    let (_server, client) = bench.serve();
    assert!(!client.is_ready());
    let status = client.status().unwrap();
    assert_eq!((status.node.as_str(), status.ready, status.dataplane), ("node1", false, None));
    assert!(status.waiting_for.unwrap().contains("the first look at"));
    assert_eq!(status.source.cluster_dir, Some(bench.folder.path().join("cluster")));
    assert_eq!(status.source.service_cidrs.len(), 2);
    assert_eq!(refusal(client.ports()).code, ErrorCode::NotReady);
    assert_eq!(refusal(client.flows()).code, ErrorCode::NotReady);
    assert_eq!(refusal(client.services()).code, ErrorCode::NotReady);
    assert_eq!(refusal(client.drops()).code, ErrorCode::NotReady);
    assert_eq!(refusal(client.policies()).code, ErrorCode::NotReady);
    assert!(!client.detach("never/attached %", "eth0").unwrap());
}

#[test]
fn requests_that_contradict_themselves_are_refused_with_the_reason() {
    let bench = Bench::new();
    let (_server, client) = bench.serve();
    let long = AttachRequest { ifname: "sixteen-bytes-xx".to_owned(), ..request() };
    let error = refusal(client.attach(&long));
    assert_eq!(error.code, ErrorCode::BadRequest);
    assert_eq!(error.message, "ifname \"sixteen-bytes-xx\" has not 1 to 15 bytes");
    let relative = AttachRequest { netns: "web".into(), ..request() };
    assert_eq!(refusal(client.attach(&relative)).message, "netns web is not an absolute path");
}

#[test]
fn nothing_on_the_socket_is_an_error_that_says_what_to_check() {
    let bench = Bench::new();
    let error = Client::new(bench.socket()).status().unwrap_err().to_string();
    assert!(error.starts_with("no node process answers on ") && error.ends_with("is this its --socket?"), "{error}");
}

#[test]
fn the_socket_is_for_its_owner_and_goes_with_the_server() {
    let bench = Bench::new();
    let (server, client) = bench.serve();
    assert_eq!(fs::metadata(bench.socket()).unwrap().permissions().mode() & 0o777, 0o600);
    client.status().unwrap();
    drop(server);
    assert!(!bench.socket().exists());
    assert_eq!(fs::read_dir(bench.socket().parent().unwrap()).unwrap().count(), 0);
}

#[test]
fn a_stale_socket_is_replaced_and_a_served_one_is_not() {
    let bench = Bench::new();
    fs::create_dir_all(bench.socket().parent().unwrap()).unwrap();
    drop(UnixListener::bind(bench.socket()).unwrap());
    let (_server, client) = bench.serve();
    client.status().unwrap();
    let second = Server::start(&bench.socket(), None, bench.agent.clone()).err().unwrap();
    assert_eq!(second.to_string(), "another process serves it");
    client.status().unwrap();
    fs::write(bench.folder.path().join("file"), "x").unwrap();
    let file = Server::start(&bench.folder.path().join("file"), None, bench.agent.clone()).err().unwrap();
    assert_eq!(file.to_string(), "it exists and is not a socket");
}

/// Sends `text` as it is and gives the first line of the answer.
fn raw(socket: &std::path::Path, text: &str) -> String {
    use std::io::{BufRead, BufReader, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

#[test]
fn paths_methods_and_bodies_that_are_not_the_apis_have_their_status() {
    let bench = Bench::new();
    let (_server, _client) = bench.serve();
    let ask = |head: &str| raw(&bench.socket(), &format!("{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    assert_eq!(ask("GET /healthz"), "HTTP/1.1 200 OK");
    assert_eq!(ask("GET /readyz"), "HTTP/1.1 503 Service Unavailable");
    assert_eq!(ask("GET /v2/ports"), "HTTP/1.1 404 Not Found");
    assert_eq!(ask("GET /v1/drops?since=yesterday"), "HTTP/1.1 400 Bad Request");
    assert_eq!(ask("PUT /v1/ports"), "HTTP/1.1 405 Method Not Allowed");
    assert_eq!(ask("POST /v1/ports"), "HTTP/1.1 400 Bad Request");
    assert_eq!(ask("DELETE /v1/ports/%zz/eth0"), "HTTP/1.1 400 Bad Request");
    assert_eq!(raw(&bench.socket(), "nonsense\r\n\r\n"), "HTTP/1.1 400 Bad Request");
}

#[test]
fn a_body_that_does_not_end_is_refused() {
    let bench = Bench::new();
    let (_server, _client) = bench.serve();
    let body = "x".repeat(100_000);
    let text = format!("POST /v1/ports HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(raw(&bench.socket(), &text), "HTTP/1.1 400 Bad Request");
}
