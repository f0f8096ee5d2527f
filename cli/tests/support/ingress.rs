//! A running `podplane ingress` with backends on this machine, and the clients that speak to it.

use super::{Folder, PODPLANE, text, wait_for};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long anything may take that is not about time.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An address of this machine that an EndpointSlice may have: not one of loopback. Nothing is sent to find it.
pub fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.connect("198.51.100.1:9").expect("this machine has an address besides 127.0.0.1");
    socket.local_addr().expect("it is connected").ip()
}

/// The Service `name` in namespace default with port 80 at these endpoints.
pub fn service(name: &str, endpoints: &[SocketAddr], more_of_port: &str) -> String {
    let addresses: Vec<String> =
        endpoints.iter().map(|at| format!("{{addresses: [{}], conditions: {{ready: true}}}}", at.ip())).collect();
    let port = endpoints.first().map_or(1, SocketAddr::port);
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: None, ports: [{{port: \
         80{more_of_port}}}]}}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-1, labels: \
         {{kubernetes.io/service-name: {name}}}}}\naddressType: IPv4\nendpoints: [{}]\nports: [{{port: {port}}}]\n",
        addresses.join(", ")
    )
}

/// An Ingress `name` for all paths of `host` to the Service `service`, with TLS if there is a Secret.
pub fn ingress(name: &str, host: &str, service: &str, secret: Option<&str>) -> String {
    let tls = secret.map(|secret| format!("  tls: [{{hosts: [{host}], secretName: {secret}}}]\n")).unwrap_or_default();
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, annotations: \
         {{podplane.io/ssl-redirect: \"false\"}}}}\nspec:\n  ingressClassName: podplane\n{tls}  rules:\n  - host: {host}\n    http: \
         {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}]}}\n"
    )
}

/// The class of the Ingresses.
pub const CLASS: &str = "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: podplane}
spec: {controller: podplane.io/ingress}
";

/// A certificate and its key as PEM, and the file of a folder with the certificate.
pub struct Certificate {
    pub chain: String,
    pub key: String,
    pub file: String,
}

impl Certificate {
    /// Signed by its own key, for `host`.
    pub fn new(folder: &Folder, host: &str) -> Certificate {
        let path = |what: &str| folder.path().join(format!("{host}-{}.{what}", super::unique()));
        let (chain, key) = (path("crt"), path("pem"));
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "36500"])
            .args(["-subj", &format!("/CN={host}"), "-addext", &format!("subjectAltName=DNS:{host}"), "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&chain)
            .output()
            .expect("openssl is installed");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let read = |path: &Path| std::fs::read_to_string(path).expect("openssl has written it");
        Certificate { chain: read(&chain), key: read(&key), file: chain.to_str().expect("UTF-8").to_owned() }
    }

    /// The Secret `name` in namespace default with it.
    pub fn secret(&self, name: &str) -> String {
        secret(name, &self.chain, &self.key)
    }
}

/// A Secret of type kubernetes.io/tls.
pub fn secret(name: &str, chain: &str, key: &str) -> String {
    let indented = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |\n{}  \
         tls.key: |\n{}",
        indented(chain),
        indented(key)
    )
}

/// A running proxy; killed with its value.
pub struct Proxy {
    child: Child,
    pub http: SocketAddr,
    pub https: SocketAddr,
    /// The line that told that it is ready.
    pub ready: Value,
    lines: Mutex<Receiver<String>>,
    stderr: Arc<Mutex<String>>,
}

impl Proxy {
    /// Starts it on loopback with the manifests of `folder` and waits until it is ready.
    pub fn start(folder: &Folder, args: &[&str]) -> Proxy {
        Proxy::run(Command::new(PODPLANE), folder, args)
    }

    /// The same with no more than `count` open descriptors.
    pub fn start_with_descriptors(count: u32, folder: &Folder, args: &[&str]) -> Proxy {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {count} && exec \"$@\""), "sh", PODPLANE]);
        Proxy::run(command, folder, args)
    }

    fn run(mut command: Command, folder: &Folder, args: &[&str]) -> Proxy {
        let mut child = command
            .args(["-o", "json", "ingress", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "-f"])
            .arg(folder.path())
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("podplane runs");
        let stderr = Arc::<Mutex<String>>::default();
        let (noted, from) = (stderr.clone(), child.stderr.take().expect("stderr is piped"));
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                *noted.lock().unwrap() += &(line + "\n");
            }
        });
        let (sender, lines) = channel();
        let from = child.stdout.take().expect("stdout is piped");
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("not ready: {}", stderr.lock().unwrap()));
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let address = |name: &str| ready[name].as_str().expect("an address").parse().expect("an address");
        Proxy { http: address("http"), https: address("https"), child, ready, lines: Mutex::new(lines), stderr }
    }

    /// What it has told on standard error.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until it has told `words` on standard error.
    pub fn tells(&self, words: &str) {
        wait_for(words, PATIENCE, || self.stderr().contains(words).then_some(()));
    }

    /// The next line of standard output.
    pub fn line(&self) -> String {
        match self.lines.lock().unwrap().recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("no line"),
            Err(RecvTimeoutError::Disconnected) => panic!("it has ended: {}", self.stderr()),
        }
    }

    /// What it says at `path` of --healthz-listen: the body, and the status behind it.
    pub fn health(&self, path: &str) -> String {
        let address = self.ready["healthz"].as_str().expect("an address");
        let output =
            Command::new("curl").args(["-s", "-w", "%{http_code}", &format!("http://{address}{path}")]).output();
        text(&output.expect("curl is installed").stdout)
    }

    /// Waits until a metric has this value.
    pub fn counts(&self, name: &str, value: u64) {
        let line = format!("\npodplane_ingress_{name} {value}\n");
        wait_for(&line, PATIENCE, || self.health("/metrics").contains(&line).then_some(()));
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill runs");
        assert!(status.success());
    }

    /// Waits for its end; the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let child = &mut self.child;
        wait_for("the proxy's end", PATIENCE, || child.try_wait().expect("its state")).code()
    }

    /// `curl` to `url` of `host`, whatever address that has elsewhere: written as `http://HOST/...` or `https://HOST/...`.
    pub fn curl(&self, url: &str, args: &[&str]) -> Output {
        let host = url.split("://").nth(1).and_then(|rest| rest.split('/').next()).expect("a URL with a host");
        let to = |port: &str, address: SocketAddr| format!("{host}:{port}:{}:{}", address.ip(), address.port());
        Command::new("curl")
            .args([
                "-sS",
                "--max-time",
                "20",
                "--connect-to",
                &to("80", self.http),
                "--connect-to",
                &to("443", self.https),
            ])
            .args(args)
            .arg(url)
            .output()
            .expect("curl is installed")
    }

    /// What `curl` prints; it must succeed.
    pub fn get(&self, url: &str, args: &[&str]) -> String {
        super::stdout(self.curl(url, args))
    }

    /// The status, the version of HTTP and the version of TLS of a request by `curl`, as `200 2`; `000 0` if there is no answer.
    pub fn status(&self, url: &str, args: &[&str]) -> String {
        let wanted = [&["-o", "/dev/null", "-w", "%{http_code} %{http_version}"], args].concat();
        text(&self.curl(url, &wanted).stdout)
    }

    /// `openssl s_client` to the HTTPS port; everything that it prints.
    pub fn s_client(&self, args: &[&str], input: &str) -> String {
        let mut child = Command::new("openssl")
            .args(["s_client", "-connect", &self.https.to_string()])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl is installed");
        let _ = child.stdin.take().expect("stdin is piped").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("openssl ends");
        text(&output.stdout) + &text(&output.stderr)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A backend that says its name, and then the head of the request that it answers. A path `/slow` is answered when the file of
/// its query is gone.
pub struct Backend {
    pub address: SocketAddr,
}

impl Backend {
    /// Starts on a free port of this machine.
    pub fn start(name: &str) -> Backend {
        let listener = TcpListener::bind((own_address(), 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let name = name.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let name = name.clone();
                std::thread::spawn(move || serve(stream, &name));
            }
        });
        Backend { address }
    }
}

/// Answers until the connection ends.
fn serve(mut stream: TcpStream, name: &str) -> Option<()> {
    let mut unread = Vec::new();
    loop {
        let end = loop {
            match unread.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => read(&mut stream, &mut unread)?,
            }
        };
        let head: Vec<u8> = unread.drain(..end).collect();
        let head = text(&head);
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let length: usize = length.unwrap_or(0);
        while unread.len() < length {
            read(&mut stream, &mut unread)?;
        }
        unread.drain(..length);
        if let Some(file) = head.split(' ').nth(1).and_then(|target| target.strip_prefix("/slow?")) {
            wait_for("the file's end", PATIENCE, || (!Path::new(file).exists()).then_some(()));
        }
        let body = format!("{name}\n{head}");
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).ok()?;
    }
}

fn read(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 4096];
    let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
    unread.extend(&buffer[..count]);
    Some(())
}

/// A script of `tests/support/clients`, run by Debian's Python with Debian's libraries; killed with its value.
pub struct Script {
    pub child: Child,
    pub output: BufReader<std::process::ChildStdout>,
}

impl Script {
    /// Starts it.
    pub fn start(name: &str, args: &[&str]) -> Script {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/clients").join(name);
        let mut child = Command::new("/usr/bin/python3")
            .arg(file)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        let output = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Script { child, output }
    }

    /// The next line that it prints; empty if it has ended.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("text");
        line.trim_end().to_owned()
    }

    /// Gives it a line.
    pub fn say(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("stdin is piped");
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).expect("it reads");
    }

    /// Whether the library that it needs is there.
    pub fn has_library(name: &str) -> bool {
        let import = Command::new("/usr/bin/python3").args(["-c", &format!("import {name}")]).output();
        let result = match import {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(text(&output.stderr)),
            Err(error) => Err(error.to_string()),
        };
        super::can_run(&format!("python3-{name}"), result)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Polls until `condition` holds, for `limit` at most; how long it took.
pub fn takes_effect(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    wait_for(what, limit, || condition().then_some(()));
    began.elapsed()
}
