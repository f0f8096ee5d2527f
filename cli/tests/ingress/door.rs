//! Start, limits and addresses: what holds before a request is one.

use crate::shop;
use crate::support::ingress::{Backend, CLASS, PATIENCE, Proxy, ingress, own_address, service, takes_effect};
use crate::support::{Folder, PODPLANE, podplane, text};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

#[test]
fn the_ready_line_says_what_is_served_and_where() {
    let (_folder, _backend, proxy) = shop(&[]);
    assert_eq!((&proxy.ready["ingresses"], &proxy.ready["http_routes"]), (&1.into(), &0.into()), "{}", proxy.ready);
    assert_ne!(proxy.http.port(), 0);
    assert!(proxy.get("http://shop.example/a", &[]).starts_with("shop\nGET /a HTTP/1.1\r\n"));
    assert_eq!(proxy.status("http://other.example/", &[]), "404 1.1");
}

#[test]
fn the_ready_line_is_one_for_people_too() {
    let folder = Folder::new();
    folder.write("class.yaml", CLASS);
    let mut child = Command::new(PODPLANE)
        .args(["ingress", "--http", "127.0.0.1:0", "--https", "[::1]:0", "-f"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("podplane runs");
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().expect("stdout is piped"));
    std::io::BufRead::read_line(&mut stdout, &mut line).expect("a line");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert!(line.starts_with("serving HTTP on 127.0.0.1:") && line.contains(", HTTPS on [::1]:"), "{line}");
    assert!(line.ends_with("; 0 routes from 0 Ingresses and 0 HTTPRoutes\n"), "{line}");
}

#[test]
fn an_address_that_cannot_be_had_is_bad_input_with_what_to_do() {
    let folder = Folder::new();
    let file = folder.write("class.yaml", CLASS);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("bound").to_string();
    for (http, words) in
        [(taken.as_str(), "another program listens there"), ("198.51.100.1:80", "no interface has this")]
    {
        let output = podplane(&["ingress", "-f", &file, "--http", http, "--https", "127.0.0.1:0"]);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(http) && told.contains(words), "{told}");
    }
}

#[test]
fn bad_usage_is_named() {
    let folder = Folder::new();
    let file = folder.write("class.yaml", CLASS);
    let base = ["ingress", "-f", &file, "--http", "127.0.0.1:0", "--https", "127.0.0.1:0"];
    for (more, words) in [
        (&["--proxy-protocol"][..], "--trusted-proxies"),
        (&["--default-certificate", "nothing"], "NAMESPACE/SECRET"),
        (&["--trusted-proxies", "10.0.0.0/99"], "CIDR"),
        (&["--workers", "0"], "--workers"),
        (&["--max-head-bytes", "10"], "8192"),
    ] {
        let output = podplane(&[&base[..], more].concat());
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        assert!(text(&output.stderr).contains(words), "{more:?}: {}", text(&output.stderr));
    }
    let output = podplane(&["ingress", "-f", "/nonexistent.yaml", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("/nonexistent.yaml"), "{}", text(&output.stderr));
}

/// D15 of names, for routes: what nobody has read is not known to be missing.
#[test]
fn clients_wait_until_something_was_read() {
    let folder = Folder::new();
    let mut child = Command::new(PODPLANE)
        .args(["ingress", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "-f"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("podplane runs");
    let mut told = std::io::BufReader::new(child.stderr.take().expect("stderr is piped"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut told, &mut line).expect("a line");
    assert!(line.contains("clients wait"), "{line}");
    folder.write("class.yaml", CLASS);
    let mut stdout = std::io::BufReader::new(child.stdout.take().expect("stdout is piped"));
    line.clear();
    std::io::BufRead::read_line(&mut stdout, &mut line).expect("a line");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert!(line.starts_with("serving HTTP on "), "{line}");
}

#[test]
fn i12_a_proxy_protocol_header_names_the_client() {
    let (_folder, _backend, proxy) = shop(&["--proxy-protocol", "--trusted-proxies", "127.0.0.0/8"]);
    let own = own_address().to_string();
    // curl names the two ends of its own connection.
    let answer = proxy.get("http://shop.example/", &["--haproxy-protocol", "--interface", "127.0.0.9"]);
    assert!(answer.to_lowercase().contains("x-forwarded-for: 127.0.0.9\r\n"), "{answer}");
    for header in [
        b"PROXY TCP4 203.0.113.7 127.0.0.1 1000 80\r\n".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x7f\0\0\x01\x03\xe8\0\x50".to_vec(),
    ] {
        let answer =
            raw(&proxy, &[&header[..], b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"].concat());
        assert!(answer.to_lowercase().contains("x-forwarded-for: 203.0.113.7\r\n"), "{answer}");
    }
    let plain = b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n";
    assert_eq!(raw(&proxy, plain), "", "a trusted proxy must name its client ({own})");
    assert_eq!(raw(&proxy, b"PROXY TCP4 nonsense\r\nGET / HTTP/1.1\r\n\r\n"), "");
}

#[test]
fn i12_a_proxy_protocol_header_of_anybody_else_is_no_request() {
    let (_folder, _backend, proxy) = shop(&["--proxy-protocol", "--trusted-proxies", "192.0.2.0/24"]);
    let answer =
        raw(&proxy, b"PROXY TCP4 203.0.113.7 127.0.0.1 1000 80\r\nGET / HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(proxy.get("http://shop.example/", &[]).to_lowercase().contains("x-forwarded-for: 127.0.0.1\r\n"));
}

fn raw(proxy: &Proxy, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(proxy.http).expect("the proxy listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(bytes).expect("it takes bytes");
    let mut answer = Vec::new();
    // A connection that is closed with bytes unread is reset.
    let _ = stream.read_to_end(&mut answer);
    text(&answer)
}

#[test]
fn health_is_that_of_the_proxy() {
    let (folder, _backend, mut proxy) = shop(&["--healthz-listen", "127.0.0.1:0", "--drain-timeout", "20"]);
    assert_eq!(proxy.health("/healthz"), "ok\n200");
    assert_eq!(proxy.status("http://shop.example/", &[]), "200 1.1");
    proxy.counts("answers_2xx_total", 1);
    // A request under way keeps the proxy from ending; it says meanwhile that it takes no more.
    let gate = folder.write("gate", "");
    let mut stream = TcpStream::connect(proxy.http).expect("the proxy listens");
    write!(stream, "GET /slow?{gate} HTTP/1.1\r\nHost: shop.example\r\n\r\n").expect("sent");
    proxy.counts("requests_total", 2);
    proxy.terminate();
    takes_effect("not ready", PATIENCE, || proxy.health("/healthz") == "not ready\n503");
    std::fs::remove_file(gate).expect("it is there");
    assert_eq!(proxy.wait(), Some(0));
}

#[test]
fn descriptors_that_run_out_are_waited_for() {
    let (folder, backend) = (Folder::new(), Backend::start("shop"));
    let shop = [CLASS, &service("shop", &[backend.address], ""), &ingress("shop", "shop.example", "shop", None)];
    folder.write("shop.yaml", &shop.concat());
    let args = ["--workers", "1", "--healthz-listen", "127.0.0.1:0"];
    let proxy = Proxy::start_with_descriptors(64, &folder, &args);
    let held: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(proxy.http).expect("the kernel takes it")).collect();
    // One request tells that the table is full: it waits with the others.
    assert_eq!(proxy.status("http://shop.example/", &["--max-time", "1"]), "000 0");
    drop(held);
    takes_effect("a request", PATIENCE, || proxy.status("http://shop.example/", &["--max-time", "2"]) == "200 1.1");
    let counters = proxy.health("/metrics");
    let pauses = counters.lines().find_map(|line| line.strip_prefix("podplane_ingress_accept_pauses_total "));
    let pauses = pauses.map(str::parse::<u64>);
    // A worker that spins would have counted thousands.
    assert!(matches!(pauses, Some(Ok(1..=1000))), "{counters}");
}

#[test]
fn problems_are_told_once_and_the_rest_is_served() {
    let (folder, backend, proxy) = shop(&[]);
    let lost = ingress("lost", "lost.example", "nowhere", None);
    folder.write("lost.yaml", &lost);
    proxy.tells("Ingress default/lost");
    assert_eq!(proxy.status("http://lost.example/", &[]), "503 1.1");
    assert_eq!(proxy.status("http://shop.example/", &[]), "200 1.1");
    folder.write("more.yaml", &service("more", &[backend.address], ""));
    folder.write("broken.yaml", "kind: [");
    proxy.tells("broken.yaml");
    let told = proxy.stderr();
    assert_eq!(told.matches("nowhere").count(), 1, "{told}");
}

#[test]
fn access_is_logged_as_json_when_asked_for() {
    let (_folder, _backend, proxy) = shop(&["--access-log"]);
    proxy.get("http://shop.example/a?b=c", &[]);
    let line = proxy.line();
    let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!(entry["status"], 200, "{line}");
    assert!(line.contains("shop.example") && line.contains("/a"), "{line}");
    let backend = Backend::start("unused");
    assert!(!line.contains(&backend.address.to_string()), "{line}");
}
