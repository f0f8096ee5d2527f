//! The clients of other protocols: gRPC and WebSocket through the proxy, and many requests at once.

use crate::support::ingress::{Backend, CLASS, Certificate, Proxy, Script, ingress, own_address, service};
use crate::support::{Folder, has_program, text};
use serde_json::{Value, json};
use std::process::Command;

#[test]
fn i11_grpc_goes_through_in_all_its_forms() {
    if !Script::has_library("grpc") {
        return;
    }
    let address = own_address();
    let mut server = Script::start("grpc_echo.py", &["serve", &address.to_string()]);
    let port: u16 = server.line().parse().expect("a port");
    let (folder, certificates) = (Folder::new(), Folder::new());
    let certificate = Certificate::new(&certificates, "grpc.example");
    let manifests = [
        CLASS,
        &service("echo", &[(address, port).into()], ", appProtocol: kubernetes.io/h2c"),
        &certificate.secret("grpc"),
        &ingress("grpc", "grpc.example", "echo", Some("grpc")),
    ];
    folder.write("grpc.yaml", &manifests.concat());
    let proxy = Proxy::start(&folder, &[]);
    let mut client =
        Script::start("grpc_echo.py", &["call", &proxy.https.to_string(), &certificate.file, "grpc.example"]);
    let line = client.line();
    let got: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}: {}", proxy.stderr()));
    let expected = json!({
        "Unary": "echo hi",
        "Big": 1_000_005,
        "ServerStream": ["0 hi", "1 hi", "2 hi"],
        "ClientStream": "a+b+c",
        "Both": ["echo 0", "echo 1", "echo 2", "echo 3", "echo 4"],
        "Fail": ["FAILED_PRECONDITION", "as asked", "trailer"],
    });
    assert_eq!(got, expected);
}

#[test]
fn i11_websockets_go_through_plain_and_under_tls() {
    if !Script::has_library("websockets") {
        return;
    }
    let address = own_address();
    let mut server = Script::start("websocket_echo.py", &["serve", &address.to_string()]);
    let port: u16 = server.line().parse().expect("a port");
    let (folder, certificates) = (Folder::new(), Folder::new());
    let certificate = Certificate::new(&certificates, "localhost");
    let manifests = [
        CLASS,
        &service("echo", &[(address, port).into()], ""),
        &certificate.secret("echo"),
        &ingress("echo", "localhost", "echo", Some("echo")),
    ];
    folder.write("echo.yaml", &manifests.concat());
    let proxy = Proxy::start(&folder, &[]);
    let plain = format!("ws://localhost:{}/", proxy.http.port());
    let under_tls = format!("wss://localhost:{}/", proxy.https.port());
    for args in [&["talk", &plain][..], &["talk", &under_tls, &certificate.file]] {
        let mut client = Script::start("websocket_echo.py", args);
        for message in ["one", "two", &"x".repeat(200_000)] {
            client.say(message);
            assert_eq!(client.line(), message, "{args:?}: {}", proxy.stderr());
        }
        drop(client.child.stdin.take());
        assert_eq!(client.line(), "closed 1000", "{args:?}");
    }
}

#[test]
fn many_requests_at_once_are_all_answered() {
    if !has_program("h2load") {
        return;
    }
    let (folder, certificates) = (Folder::new(), Folder::new());
    let backend = Backend::start("load");
    let certificate = Certificate::new(&certificates, "localhost");
    let manifests = [
        CLASS,
        &service("load", &[backend.address], ""),
        &certificate.secret("load"),
        &ingress("load", "localhost", "load", Some("load")),
    ];
    folder.write("load.yaml", &manifests.concat());
    let proxy = Proxy::start(&folder, &["--workers", "2"]);
    let plain = format!("http://localhost:{}/", proxy.http.port());
    let under_tls = format!("https://localhost:{}/", proxy.https.port());
    for (args, url) in [(&["--h1"][..], &plain), (&[], &plain), (&["--h1"], &under_tls), (&["-m", "10"], &under_tls)] {
        let output = Command::new("h2load").args(["-n", "2000", "-c", "20"]).args(args).arg(url).output();
        let told = text(&output.expect("h2load is installed").stdout);
        assert!(told.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{args:?} {url}: {told}");
        assert!(told.contains("status codes: 2000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{args:?} {url}: {told}");
    }
}
