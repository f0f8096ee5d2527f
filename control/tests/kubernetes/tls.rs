//! Certificates of both sides, with OpenSSL's server as the stranger: the API server's must be one of the authority that the
//! kubeconfig names, ours is shown.

use control::kubernetes::connect::Access;
use control::kubernetes::{KubernetesSource, NODE_KINDS, SourceConfig};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::followed::{DEADLINE, timing};

/// Makes an authority, and certificates of a server at 127.0.0.1 and of a client.
fn certificates(folder: &Path) {
    let script = "
        key='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
        openssl req -x509 $key -keyout ca.key -out ca.crt -subj /CN=ca -days 2
        openssl req -x509 $key -keyout other.key -out other.crt -subj /CN=other -days 2
        echo subjectAltName=IP:127.0.0.1 > names
        for name in server client; do
            openssl req $key -keyout $name.key -out $name.csr -subj /CN=$name
            openssl x509 -req -in $name.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out $name.crt -days 2 -extfile names
        done";
    let made = Command::new("sh").args(["-e", "-c", script]).current_dir(folder).output().expect("sh starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// OpenSSL's server, which wants a certificate and answers every request with a page that is no list.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(folder: &Path) -> Server {
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "server.crt", "-key", "server.key"])
            .args(["-CAfile", "ca.crt", "-Verify", "1", "-verify_return_error", "-www"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let address =
            lines.by_ref().map_while(Result::ok).find_map(|line| Some(line.strip_prefix("ACCEPT ")?.to_owned()));
        // What it says later must go somewhere.
        thread::spawn(move || lines.for_each(drop));
        Server { child, address: address.expect("it says where it listens") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

/// What a source that follows `server` says about it.
fn said(server: &Server, folder: &Path, authority: &str, user: &str) -> String {
    let path = folder.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: 'https://{}', certificate-authority: {authority}}}}}]\n\
         users: [{{name: u, user: {user}}}]\n",
        server.address
    );
    fs::write(&path, text).expect("a temporary folder");
    let access = Access { kubeconfig: Some(path), ..Access::default() };
    let config = SourceConfig { timing: timing(), ..SourceConfig::new(access, NODE_KINDS) };
    let source = KubernetesSource::open(config).expect("a good kubeconfig");
    let began = Instant::now();
    loop {
        let failing = source.status().resources.into_iter().find_map(|resource| resource.error);
        if let Some(error) = failing {
            return error;
        }
        assert!(began.elapsed() < DEADLINE, "{:?}", source.status());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn servers_are_believed_by_their_certificate_and_believe_ours() {
    let found = Command::new("openssl").arg("version").stdout(Stdio::null()).status();
    if found.is_err() {
        assert!(std::env::var_os("CI").is_none(), "openssl is missing, and in CI it must be there");
        return eprintln!("not run: openssl is missing");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    certificates(folder);
    let server = Server::start(folder);
    let ours = "{client-certificate: client.crt, client-key: client.key}";
    // A page that is no list came through: both sides have accepted each other.
    let page = said(&server, folder, "ca.crt", ours);
    assert!(page.contains("expected value at line 1 column 1"), "{page}");
    let stranger = said(&server, folder, "other.crt", ours);
    assert!(stranger.contains("UnknownIssuer"), "{stranger}");
    let nobody = said(&server, folder, "ca.crt", "{token: t}");
    assert!(!nobody.contains("expected value"), "{nobody}");
}
