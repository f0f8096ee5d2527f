//! Certificates and handshakes, with openssl and curl.

use crate::support::Folder;
use crate::support::ingress::{Backend, CLASS, Certificate, PATIENCE, Proxy, ingress, secret, service, takes_effect};

/// Two hosts with a certificate each, and one without.
struct Hosts {
    folder: Folder,
    a: Certificate,
    b: Certificate,
    proxy: Proxy,
    _backend: Backend,
}

fn hosts(args: &[&str]) -> Hosts {
    let (folder, backend) = (Folder::new(), Backend::start("shop"));
    let certificates = Folder::new();
    let (a, b) = (Certificate::new(&certificates, "a.example"), Certificate::new(&certificates, "b.example"));
    let shop = [CLASS, &service("shop", &[backend.address], "")].concat();
    folder.write("shop.yaml", &shop);
    folder.write("a.yaml", &(a.secret("a") + &ingress("a", "a.example", "shop", Some("a"))));
    folder.write("b.yaml", &(b.secret("b") + &ingress("b", "b.example", "shop", Some("b"))));
    folder.write("plain.yaml", &ingress("plain", "plain.example", "shop", None));
    // curl and openssl read the certificates while the test runs.
    std::mem::forget(certificates);
    let proxy = Proxy::start(&folder, args);
    Hosts { folder, a, b, proxy, _backend: backend }
}

#[test]
fn i08_each_host_has_its_certificate() {
    let Hosts { a, b, proxy, .. } = hosts(&[]);
    for (host, certificate) in [("a.example", &a), ("b.example", &b)] {
        let url = format!("https://{host}/");
        let answer = proxy.get(&url, &["--cacert", &certificate.file]);
        assert!(answer.to_lowercase().contains("x-forwarded-proto: https\r\n"), "{answer}");
    }
    let wrong = proxy.curl("https://a.example/", &["--cacert", &b.file]);
    assert_eq!(wrong.status.code(), Some(60), "curl verifies");
}

#[test]
fn i08_a_host_without_a_certificate_is_refused_by_name() {
    let Hosts { proxy, .. } = hosts(&[]);
    for args in [&["-servername", "plain.example"][..], &["-servername", "other.example"], &["-noservername"]] {
        for version in ["-tls1_2", "-tls1_3"] {
            let told = proxy.s_client(&[args, &[version]].concat(), "");
            assert!(told.contains("unrecognized name"), "{args:?} {version}: {told}");
            assert!(told.contains("no peer certificate available"), "{args:?} {version}: {told}");
        }
    }
}

#[test]
fn i08_the_default_certificate_is_for_hosts_that_have_none() {
    let Hosts { proxy, .. } = hosts(&["--default-certificate", "default/b"]);
    for args in [&["-servername", "plain.example"][..], &["-servername", "other.example"], &["-noservername"]] {
        let told = proxy.s_client(args, "");
        assert!(told.contains("subject=CN = b.example"), "{args:?}: {told}");
    }
    let told = proxy.s_client(&["-servername", "a.example"], "");
    assert!(told.contains("subject=CN = a.example"), "{told}");
}

#[test]
fn versions_and_alpn_are_negotiated() {
    let Hosts { a, proxy, .. } = hosts(&[]);
    for (version, shown) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        for (offered, settled) in [
            ("h2,http/1.1", "ALPN protocol: h2"),
            ("http/1.1,h2", "ALPN protocol: h2"),
            ("http/1.1", "ALPN protocol: http/1.1"),
        ] {
            let told = proxy.s_client(&["-servername", "a.example", version, "-alpn", offered], "");
            assert!(told.contains(settled) && told.contains(&format!("New, {shown}")), "{version} {offered}: {told}");
        }
        let told = proxy.s_client(&["-servername", "a.example", version], "");
        assert!(told.contains("No ALPN negotiated"), "{version}: {told}");
        let told = proxy.s_client(&["-servername", "a.example", version, "-alpn", "spdy/1"], "");
        assert!(told.contains("no application protocol"), "{version}: {told}");
    }
    let told = proxy.s_client(&["-servername", "a.example", "-tls1_1", "-cipher", "ALL@SECLEVEL=0"], "");
    assert!(told.contains("no peer certificate available"), "TLS 1.1: {told}");
    let ca = ["--cacert", a.file.as_str()];
    for (args, status) in [
        (&["--http1.1", "--tls-max", "1.2"][..], "200 1.1"),
        (&["--http1.1", "--tlsv1.3"], "200 1.1"),
        (&["--http2", "--tls-max", "1.2"], "200 2"),
        (&["--http2", "--tlsv1.3"], "200 2"),
    ] {
        assert_eq!(proxy.status("https://a.example/", &[&ca, args].concat()), status, "{args:?}");
    }
    assert_eq!(proxy.status("http://plain.example/", &["--http2-prior-knowledge"]), "200 2");
    assert_eq!(proxy.status("http://plain.example/", &["--http1.0"]), "200 1");
}

#[test]
fn sessions_are_resumed_under_their_own_name_only() {
    let Hosts { folder, proxy, .. } = hosts(&[]);
    for version in ["-tls1_2", "-tls1_3"] {
        let file = folder.path().join(format!("session{version}"));
        let file = file.to_str().expect("UTF-8");
        let request = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
        // The tickets of TLS 1.3 come after the handshake, so there must be something to wait for.
        let first = proxy.s_client(&["-servername", "a.example", version, "-sess_out", file, "-ign_eof"], request);
        assert!(first.contains("New, TLS") && first.contains("HTTP/1.1 200"), "{version}: {first}");
        let again = proxy.s_client(&["-servername", "a.example", version, "-sess_in", file, "-ign_eof"], request);
        assert!(again.contains("Reused, TLS") && again.contains("HTTP/1.1 200"), "{version}: {again}");
        let other = proxy.s_client(&["-servername", "b.example", version, "-sess_in", file], "");
        assert!(!other.contains("Reused, TLS"), "{version}: {other}");
    }
}

#[test]
fn a_certificate_is_replaced_while_connections_live() {
    let Hosts { folder, a, proxy, .. } = hosts(&[]);
    let serial = |certificate: &str| {
        let output =
            std::process::Command::new("openssl").args(["x509", "-noout", "-serial", "-in", certificate]).output();
        crate::support::text(&output.expect("openssl is installed").stdout)
    };
    // A connection with the first certificate, and a request on it.
    let mut live = std::process::Command::new("openssl")
        .args(["s_client", "-quiet", "-servername", "a.example", "-connect", &proxy.https.to_string()])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("openssl is installed");
    let (mut to, mut from) = (live.stdin.take().expect("piped"), live.stdout.take().expect("piped"));
    let mut ask = || {
        use std::io::{Read, Write};
        write!(to, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").expect("it lives");
        let mut bytes = Vec::new();
        while !crate::support::text(&bytes).contains("shop\nGET / HTTP/1.1") {
            let mut buffer = [0; 4096];
            let count = from.read(&mut buffer).expect("it lives");
            assert_ne!(count, 0, "the connection has ended: {}", crate::support::text(&bytes));
            bytes.extend(&buffer[..count]);
        }
    };
    ask();
    let certificates = Folder::new();
    let next = Certificate::new(&certificates, "a.example");
    assert_ne!(serial(&a.file), serial(&next.file));
    folder.write("a.yaml", &(next.secret("a") + &ingress("a", "a.example", "shop", Some("a"))));
    let took = takes_effect("the next certificate", PATIENCE, || {
        proxy.curl("https://a.example/", &["--cacert", &next.file]).status.success()
    });
    assert!(took.as_millis() < 1000, "it took {took:?}");
    ask();
    live.kill().expect("it lives");
    live.wait().expect("it ends");
}

#[test]
fn a_secret_that_cannot_be_used_is_named_and_the_rest_goes_on() {
    let Hosts { folder, a, b, proxy, .. } = hosts(&[]);
    for (key, words) in [
        (b.key.as_str(), "data[tls.key]: does not match the certificate"),
        ("no key", "data[tls.key]: holds no private key"),
    ] {
        folder.write("a.yaml", &(secret("a", &a.chain, key) + &ingress("a", "a.example", "shop", Some("a"))));
        proxy.tells(&format!("Secret default/a: {words}"));
        assert!(proxy.s_client(&["-servername", "a.example"], "").contains("unrecognized name"), "{words}");
        assert_eq!(proxy.status("https://b.example/", &["--cacert", &b.file]), "200 2");
        assert_eq!(proxy.status("http://a.example/", &[]), "200 1.1");
    }
    folder.write("a.yaml", &(a.secret("a") + &ingress("a", "a.example", "shop", Some("a"))));
    takes_effect("the good key", PATIENCE, || {
        proxy.curl("https://a.example/", &["--cacert", &a.file]).status.success()
    });
}

/// I19: a connection that was opened for one host is not good for another one that has a certificate of its own.
#[test]
fn i19_a_request_for_another_hosts_certificate_is_misdirected() {
    let Hosts { a, proxy, .. } = hosts(&[]);
    let args = ["--cacert", &a.file, "-H", "Host: b.example"];
    assert_eq!(proxy.status("https://a.example/", &args), "421 2");
    assert_eq!(proxy.status("https://a.example/", &[&args[..], &["--http1.1"]].concat()), "421 1.1");
}
