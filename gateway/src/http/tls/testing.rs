//! Certificates for tests, made with the `openssl` command.

use std::io::Write;
use std::process::{Command, Stdio};

/// Kind of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Rsa,
    EcP256,
    EcP384,
    Ed25519,
}

/// A certificate and its key, PEM.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) chain: String,
    pub(crate) key: String,
}

/// What `openssl ARGS` answers to `input`.
pub(crate) fn openssl(args: &[&str], input: &str) -> String {
    let mut child = Command::new("openssl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    child.stdin.take().expect("stdin is piped").write_all(input.as_bytes()).expect("openssl reads");
    let output = child.wait_with_output().expect("openssl ends");
    assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("PEM is text")
}

/// A certificate for `host` that is valid for a century, signed by its own key.
pub(crate) fn self_signed(host: &str, kind: Key) -> Pair {
    let key = match kind {
        Key::Rsa => openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], ""),
        Key::EcP256 => openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], ""),
        Key::EcP384 => openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"], ""),
        Key::Ed25519 => openssl(&["genpkey", "-algorithm", "ED25519"], ""),
    };
    let (subject, names) = (format!("/CN={host}"), format!("subjectAltName=DNS:{host}"));
    let args = ["req", "-x509", "-key", "/dev/stdin", "-days", "36500", "-subj", &subject, "-addext", &names];
    Pair { chain: openssl(&args, &key), key }
}
