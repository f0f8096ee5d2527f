//! The proxies of the bench, their backend and the namespaces that they run in.
//!
//! A holder process keeps the namespaces; servers enter them, so that they are our own children and their processor time can be read.
//! All of them end with this value, and with us.

use super::super::{Cpus, own_binary, pinned};
use super::Front;
use crate::error::{LabError, Result};
use crate::wait;
use nix::unistd::geteuid;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long servers may take until they answer.
const DEADLINE: Duration = Duration::from_secs(20);

/// Makes the namespaces and files; run by `sh` inside of the holder with the directory as `$1`, which then says that it is ready and
/// waits for its input to end.
const SETUP: &str = r#"
set -e
cd "$1"
mount --make-rprivate /
ip link set lo up
ip addr add 10.9.0.1/32 dev lo
echo 10.9.0.1 shop.example localhost > hosts
mount --bind hosts /etc/hosts
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=shop.example \
    -addext subjectAltName=DNS:shop.example -keyout key.pem -out cert.pem 2>/dev/null
cat cert.pem key.pem > both.pem
indent() { sed 's/^/    /' "$1"; }
cat > manifests.yaml <<END
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: bench}
spec: {clusterIP: 10.96.0.50, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: backend-1, namespace: bench, labels: {kubernetes.io/service-name: backend}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.9.0.1], conditions: {ready: true}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: bench}
spec:
  tls: [{hosts: [shop.example], secretName: shop}]
  rules:
  - host: shop.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: backend, port: {number: 80}}}}]}
---
apiVersion: v1
kind: Secret
metadata: {name: shop, namespace: bench}
type: kubernetes.io/tls
stringData:
  tls.crt: |
$(indent cert.pem)
  tls.key: |
$(indent key.pem)
END
common='daemon off; master_process off; error_log stderr crit; events { worker_connections 4096; }'
cat > backend.conf <<END
$common
pid $1/backend.pid;
http {
    access_log off; keepalive_requests 1000000000;
    server { listen 10.9.0.1:8080; location / { return 200 "hello, world\n"; } }
}
END
cat > nginx.conf <<END
$common
pid $1/nginx.pid;
http {
    access_log off; keepalive_requests 1000000000; ssl_session_cache off; ssl_session_tickets off;
    upstream backend { server 10.9.0.1:8080; keepalive 256; keepalive_requests 1000000000; }
    server {
        listen 10.9.0.1:8082; listen 10.9.0.1:8442 ssl http2;
        server_name shop.example; ssl_certificate $1/cert.pem; ssl_certificate_key $1/key.pem;
        location / {
            proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header Host \$http_host; proxy_set_header X-Real-IP \$remote_addr;
            proxy_set_header X-Forwarded-For \$remote_addr; proxy_set_header X-Forwarded-Proto \$scheme;
            proxy_set_header X-Forwarded-Host \$http_host; proxy_set_header X-Forwarded-Port \$server_port;
            proxy_set_header X-Request-ID \$request_id;
        }
    }
}
END
cat > haproxy.cfg <<END
global
    nbthread 1
    maxconn 4096
    tune.ssl.cachesize 0
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend front
    bind 10.9.0.1:8083
    bind 10.9.0.1:8443 ssl crt $1/both.pem alpn h2,http/1.1 no-tls-tickets
    http-request set-header X-Real-IP %[src]
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header X-Forwarded-Port %[dst_port]
    http-request set-header X-Forwarded-Proto https if { ssl_fc }
    http-request set-header X-Forwarded-Proto http if !{ ssl_fc }
    http-request set-header X-Request-ID %[uuid]
    use_backend backend if { req.hdr(host),field(1,:) -i shop.example }
backend backend
    server one 10.9.0.1:8080
END
echo ready
exec cat
"#;

/// Servers and namespaces.
pub(super) struct Setup {
    directory: PathBuf,
    holder: Child,
    enter: Vec<String>,
    servers: Vec<(Option<Front>, Child)>,
}

impl Setup {
    /// Starts everything.
    pub(super) fn start(cpus: Cpus) -> Result<Setup> {
        let directory = std::env::temp_dir().join(format!("podplane-bench-{}", std::process::id()));
        fs::create_dir_all(&directory).map_err(|e| LabError::io(directory.display(), e))?;
        let rootless = !geteuid().is_root();
        let mut command = Command::new("unshare");
        if rootless {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--mount", "--net", "sh", "-c", SETUP, "sh"]).arg(&directory);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().map_err(|e| LabError::io("cannot start unshare", e))?;
        let stdout = holder.stdout.take().expect("stdout is piped");
        let mut enter =
            vec!["nsenter".to_owned(), format!("--target={}", holder.id()), "--mount".into(), "--net".into()];
        if rootless {
            enter.extend(["--user".into(), "--preserve-credentials".into()]);
        }
        enter.extend(["setpriv", "--pdeathsig=KILL"].map(str::to_owned));
        let mut setup = Setup { directory, holder, enter, servers: Vec::new() };
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        if read.is_err() || line.trim() != "ready" {
            return Err(LabError::Failed("cannot set up the proxies' namespaces (see above)".to_owned()));
        }
        setup.start_servers(cpus)?;
        setup.wait()?;
        Ok(setup)
    }

    /// A file of the bench.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A command inside.
    pub(super) fn command(&self, words: &[String]) -> Command {
        let mut command = Command::new(&self.enter[0]);
        command.args(&self.enter[1..]).args(words);
        command
    }

    /// Processor time that a proxy has had.
    pub(super) fn processor_ticks(&self, front: Front) -> Result<f64> {
        let server = self.servers.iter().find(|(who, _)| *who == Some(front));
        let pid = server.map(|(_, child)| child.id()).unwrap_or_default();
        let path = PathBuf::from(format!("/proc/{pid}/stat"));
        let text = fs::read_to_string(&path).map_err(|e| LabError::io(path.display(), e))?;
        ticks(&text).ok_or_else(|| LabError::Failed(format!("{} is not what the kernel documents", path.display())))
    }

    fn start_servers(&mut self, cpus: Cpus) -> Result<()> {
        let path = |name: &str| self.path(name).display().to_string();
        let podplane = own_binary()?;
        let (manifests, backend) = (path("manifests.yaml"), path("backend.conf"));
        let (nginx, haproxy) = (path("nginx.conf"), path("haproxy.cfg"));
        let ingress = [
            &podplane,
            "ingress",
            "-f",
            &manifests,
            "--http",
            "10.9.0.1:8081",
            "--https",
            "10.9.0.1:8441",
            "--workers",
            "1",
            "--max-connections-per-client",
            "4096",
        ];
        let servers: [(Option<Front>, &[&str]); 4] = [
            (None, &["nginx", "-c", &backend]),
            (Some(Front::Podplane), &ingress),
            (Some(Front::Nginx), &["nginx", "-c", &nginx]),
            (Some(Front::Haproxy), &["haproxy", "-db", "-f", &haproxy]),
        ];
        for (front, words) in servers {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            let cpu = if front.is_some() { cpus.server } else { cpus.client };
            let log = fs::File::create(self.path(&format!("server-{}.log", self.servers.len())));
            let log = log.map_err(|e| LabError::io(self.directory.display(), e))?;
            let mut command = self.command(&pinned(cpu, &words));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            let child = command.spawn().map_err(|e| LabError::io(format_args!("cannot start {}", words[0]), e))?;
            self.servers.push((front, child));
        }
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        for front in Front::ALL {
            let url = format!("https://shop.example:{}/", front.ports().1);
            let words = ["curl", "-sfk", "--noproxy", "*", "-o", "/dev/null", &url].map(str::to_owned);
            let answers = || self.command(&words).stdin(Stdio::null()).status().is_ok_and(|status| status.success());
            if !wait::until(DEADLINE, answers) {
                let log = self.log();
                return Err(LabError::Failed(format!("{} does not answer: {log}", front.title())));
            }
        }
        Ok(())
    }

    fn log(&self) -> String {
        let read = |number| fs::read_to_string(self.path(&format!("server-{number}.log"))).unwrap_or_default();
        (0..self.servers.len()).map(read).collect()
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        for (_, server) in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
        remove(&self.directory);
    }
}

fn remove(directory: &Path) {
    // What cannot be removed is left to whoever clears temporary files.
    let _ = fs::remove_dir_all(directory);
}

/// User and system time of /proc/PID/stat (proc(5)), behind the name, which may contain anything.
fn ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut times = rest.split_whitespace().skip(11);
    let user: f64 = times.next()?.parse().ok()?;
    let system: f64 = times.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::ticks;

    #[test]
    fn processor_time_is_found_behind_a_strange_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 100 0 0";
        assert_eq!(ticks(stat), Some(300.0));
        assert_eq!(ticks("7 (a"), None);
    }
}
