//! `podplane dns` with the real binary, asked by the real `dig`.

mod support;

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use support::{Folder, PODPLANE, podplane, text, wait_for};

/// How long a server may take to be ready, and to end.
const LIMIT: Duration = Duration::from_secs(30);

/// A change has to be in force within this (D17).
const CHANGE: Duration = Duration::from_secs(1);

const CLUSTER: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {kubernetes.io/metadata.name: shop}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.80, clusterIPs: [10.96.0.80, 'fd00:10:96::80'], ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv4, IPv6], ports: [{name: http, port: 80}, {name: metrics, port: 9100}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, clusterIPs: [None], ports: [{name: sql, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints: [{addresses: [10.244.1.5], hostname: db-0, conditions: {ready: true}}, {addresses: [10.244.1.6], hostname: db-1, conditions: {ready: true}}]
ports: [{name: sql, port: 5432}]
---
apiVersion: v1
kind: Service
metadata: {name: partner, namespace: shop}
spec: {type: ExternalName, externalName: api.partner.example}
";

/// A running `podplane dns`; ended with its value.
struct Dns {
    child: Child,
    addresses: Vec<SocketAddr>,
    ready: Value,
}

impl Dns {
    /// Starts it with `-f path --listen 127.0.0.1:0` and `more`, and waits until it is ready.
    fn start(path: &str, more: &[&str]) -> Dns {
        Dns::with_input(&[&["-f", path, "--listen", "127.0.0.1:0"], more].concat(), "")
    }

    fn with_input(args: &[&str], input: &str) -> Dns {
        let mut child = Command::new(PODPLANE)
            .args(["dns", "-o", "json"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("podplane runs");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads its input");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
        if line.is_empty() {
            let output = child.wait_with_output().expect("it ends");
            panic!("it did not start: {}", text(&output.stderr));
        }
        let ready: Value = serde_json::from_str(&line).expect("the line is JSON");
        let listen = ready["listen"].as_array().expect("a list");
        let addresses =
            listen.iter().map(|at| at.as_str().and_then(|at| at.parse().ok()).expect("an address")).collect();
        Dns { child, addresses, ready }
    }

    fn dig(&self, args: &[&str]) -> String {
        dig(self.addresses[0], args)
    }

    /// The lines of the answer section, sorted.
    fn lines(&self, args: &[&str]) -> Vec<String> {
        let mut lines: Vec<String> = self.dig(&[args, &["+short"]].concat()).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// Ends it with SIGTERM; what it said on standard error.
    fn stop(mut self) -> (Option<i32>, String) {
        let killed = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(killed.success());
        let status = wait_for("the server to end", LIMIT, || self.child.try_wait().expect("it is ours"));
        let mut said = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
        (status.code(), said)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn dig(server: SocketAddr, args: &[&str]) -> String {
    let at = [format!("@{}", server.ip()), "-p".to_owned(), server.port().to_string()];
    let fixed = ["+tries=1", "+time=10"];
    let output = Command::new("dig").args(at).args(fixed).args(args).output().expect("dig runs");
    text(&output.stdout)
}

/// Whether `said`, the output of dig, has `status` and as many answers as `answers`.
fn has(said: &str, status: &str, answers: usize) -> bool {
    said.contains(&format!("status: {status},")) && said.contains(&format!("ANSWER: {answers},"))
}

fn cluster_in(folder: &Folder) -> String {
    folder.write("cluster.yaml", CLUSTER)
}

#[test]
fn every_kind_of_record_is_answered() {
    let folder = Folder::new();
    let dns = Dns::start(&cluster_in(&folder), &["--pods", "insecure"]);
    assert_eq!(dns.ready["zone"], "cluster.local");
    assert_eq!(dns.ready["names"], 3);
    for (question, expected) in [
        (&["web.shop.svc.cluster.local", "A"][..], &["10.96.0.80"][..]),
        (&["web.shop.svc.cluster.local", "AAAA"], &["fd00:10:96::80"]),
        (&["WEB.Shop.svc.Cluster.Local", "A"], &["10.96.0.80"]),
        (&["db.shop.svc.cluster.local", "A"], &["10.244.1.5", "10.244.1.6"]),
        (&["db-0.db.shop.svc.cluster.local", "A"], &["10.244.1.5"]),
        (&["_http._tcp.web.shop.svc.cluster.local", "SRV"], &["0 100 80 web.shop.svc.cluster.local."]),
        (
            &["_sql._tcp.db.shop.svc.cluster.local", "SRV"],
            &["0 50 5432 db-0.db.shop.svc.cluster.local.", "0 50 5432 db-1.db.shop.svc.cluster.local."],
        ),
        (&["-x", "10.96.0.80"], &["web.shop.svc.cluster.local."]),
        (&["-x", "fd00:10:96::80"], &["web.shop.svc.cluster.local."]),
        (&["-x", "10.244.1.6"], &["db-1.db.shop.svc.cluster.local."]),
        (&["dns-version.cluster.local", "TXT"], &["\"1.1.0\""]),
        (&["10-1-2-3.shop.pod.cluster.local", "A"], &["10.1.2.3"]),
        (&["partner.shop.svc.cluster.local", "CNAME"], &["api.partner.example."]),
    ] {
        for transport in ["+notcp", "+tcp"] {
            assert_eq!(dns.lines(&[question, &[transport]].concat()), expected, "{question:?} {transport}");
        }
    }
    assert!(has(&dns.dig(&["nobody.shop.svc.cluster.local"]), "NXDOMAIN", 0));
    assert!(has(&dns.dig(&["db.shop.svc.cluster.local", "AAAA"]), "NOERROR", 0), "NODATA is not NXDOMAIN (D11)");
    assert!(dns.dig(&["nobody.shop.svc.cluster.local"]).contains("SOA"));
    assert!(
        dns.dig(&["wEb.shop.svc.cluster.local"]).contains("wEb.shop.svc.cluster.local."),
        "the case comes back (D09)"
    );
}

#[test]
fn a_zone_of_another_name_is_the_clusters_and_the_usual_one_is_not() {
    let folder = Folder::new();
    let none = folder.write("resolv.conf", "");
    let dns = Dns::start(&cluster_in(&folder), &["--zone", "k8s.example", "--resolv-conf", &none]);
    assert_eq!(dns.lines(&["web.shop.svc.k8s.example"]), ["10.96.0.80"]);
    assert!(has(&dns.dig(&["web.shop.svc.cluster.local"]), "REFUSED", 0));
}

/// A headless Service of `count` ready endpoints.
fn many(count: usize) -> String {
    let endpoint = |number: usize| format!("{{addresses: [10.244.{}.{}]}}", number / 250, number % 250 + 1);
    let endpoints: Vec<String> = (0..count).map(endpoint).collect();
    format!(
        "{CLUSTER}---\napiVersion: v1\nkind: Service\nmetadata: {{name: many, namespace: shop}}\nspec: {{clusterIP: None, \
         clusterIPs: [None], ports: [{{port: 80}}]}}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: \
         {{name: many-1, namespace: shop, labels: {{kubernetes.io/service-name: many}}}}\naddressType: IPv4\nendpoints: \
         [{}]\nports: [{{port: 80}}]\n",
        endpoints.join(", ")
    )
}

#[test]
fn d12_d18_a_thousand_addresses_come_over_tcp_and_as_many_as_fit_in_a_datagram() {
    let folder = Folder::new();
    let dns = Dns::start(&folder.write("many.yaml", &many(1000)), &[]);
    let name = "many.shop.svc.cluster.local";
    // dig asks again over TCP by itself.
    assert_eq!(dns.lines(&[name]).len(), 1000);
    for (arguments, bytes) in [(&["+noedns"][..], 512), (&["+bufsize=1232"], 1232), (&["+bufsize=65000"], 1232)] {
        let said = dns.dig(&[&[name, "+ignore", "+notcp"], arguments].concat());
        assert!(said.contains("flags: qr aa tc"), "{said}");
        let size = said.lines().find_map(|line| line.strip_prefix(";; MSG SIZE  rcvd: ")).expect("dig says the size");
        let size: usize = size.parse().expect("a number");
        assert!(bytes - 40 < size && size <= bytes, "{arguments:?}: {size} bytes");
    }
    let first = |_| dns.dig(&[name, "+short", "+tcp"]).lines().next().expect("an address").to_owned();
    let firsts: std::collections::BTreeSet<String> = (0..5).map(first).collect();
    assert!(firsts.len() > 1, "the order changes: {firsts:?}");
}

#[test]
fn d17_a_file_that_changes_is_in_force_within_a_second_and_a_broken_one_keeps_its_last_form() {
    let folder = Folder::new();
    let path = cluster_in(&folder);
    let dns = Dns::start(folder.path().to_str().expect("UTF-8"), &[]);
    let question = ["db.shop.svc.cluster.local"];
    assert_eq!(dns.lines(&question), ["10.244.1.5", "10.244.1.6"]);
    for round in 0..5 {
        let address = format!("10.244.1.{}", 10 + round);
        let changed = Instant::now();
        fs::write(&path, CLUSTER.replace("10.244.1.6", &address)).expect("written");
        let seen = wait_for("the change", LIMIT, || {
            let lines = dns.lines(&question);
            assert_eq!(lines.len(), 2, "never fewer than there are");
            lines.contains(&address).then(|| changed.elapsed())
        });
        assert!(seen < CHANGE, "{seen:?}");
    }
    fs::write(&path, "kind: [").expect("written");
    folder.write("more.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: more, namespace: shop}\nspec: {clusterIP: 10.96.0.9, ports: [{port: 80}]}\n");
    wait_for("the other file", LIMIT, || (dns.lines(&["more.shop.svc.cluster.local"]) == ["10.96.0.9"]).then_some(()));
    assert_eq!(dns.lines(&question), ["10.244.1.14", "10.244.1.5"]);
    let (code, said) = dns.stop();
    assert_eq!(code, Some(0));
    assert_eq!(said.matches("its last good content stays in force").count(), 1, "told once: {said}");
}

#[test]
fn d15_while_nothing_was_read_the_clusters_names_are_servfail() {
    let folder = Folder::new();
    let dns = Dns::start(folder.path().to_str().expect("UTF-8"), &[]);
    assert!(has(&dns.dig(&["web.shop.svc.cluster.local"]), "SERVFAIL", 0));
    cluster_in(&folder);
    let found = || has(&dns.dig(&["web.shop.svc.cluster.local"]), "NOERROR", 1).then_some(());
    wait_for("the first file", LIMIT, found);
    let (_, said) = dns.stop();
    assert!(said.contains("nothing was read yet"), "{said}");
}

#[test]
fn standard_input_is_read_and_what_is_missing_is_filled_in() {
    let deployment = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec: {replicas: 3, selector: {matchLabels: {app: api}}, template: {metadata: {labels: {app: api}}, spec: {containers: [{name: c, image: i}]}}}
---
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {clusterIP: None, selector: {app: api}, ports: [{port: 80}]}
";
    let dns = Dns::with_input(&["-f", "-", "--listen", "127.0.0.1:0", "--listen", "[::1]:0"], deployment);
    assert_eq!(dns.lines(&["api.default.svc.cluster.local"]).len(), 3);
    assert_eq!(dig(dns.addresses[1], &["api.default.svc.cluster.local", "+short"]).lines().count(), 3);
}

/// A server for a zone of its own, whose names are those of a cluster.
fn partner(folder: &Folder) -> Dns {
    let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: partner}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: api, namespace: \
                partner}\nspec: {clusterIP: 10.200.0.1, clusterIPs: [10.200.0.1, 'fd00:200::1'], ports: [{port: 80}]}\n";
    let none = folder.write("none.conf", "");
    let path = folder.write("partner.yaml", text);
    Dns::start(&path, &["--zone", "example", "--resolv-conf", &none])
}

#[test]
fn d07_an_external_name_is_followed_through_upstreams() {
    let (folder, other) = (Folder::new(), Folder::new());
    let partner = partner(&other);
    let upstream = partner.addresses[0].to_string();
    let cluster = CLUSTER.replace("api.partner.example", "api.partner.svc.example");
    let dns = Dns::start(&folder.write("cluster.yaml", &cluster), &["--upstream", &upstream]);
    let name = "partner.shop.svc.cluster.local";
    for transport in ["+notcp", "+tcp"] {
        assert_eq!(dns.lines(&[name, "A", transport]), ["10.200.0.1", "api.partner.svc.example."]);
        assert_eq!(dns.lines(&[name, "AAAA", transport]), ["api.partner.svc.example.", "fd00:200::1"]);
        assert!(has(&dns.dig(&[name, "A", transport]), "NOERROR", 2));
    }
    assert_eq!(dns.lines(&["api.partner.svc.example"]), ["10.200.0.1"], "other names too");
    assert!(has(&dns.dig(&["nobody.partner.svc.example"]), "NXDOMAIN", 0));
}

#[test]
fn d07_the_alias_of_a_name_that_does_not_exist_comes_with_nxdomain() {
    let (folder, other) = (Folder::new(), Folder::new());
    let upstream = partner(&other);
    let dns = Dns::start(&cluster_in(&folder), &["--upstream", &upstream.addresses[0].to_string()]);
    let said = dns.dig(&["partner.shop.svc.cluster.local"]);
    assert!(has(&said, "NXDOMAIN", 1) && said.contains("api.partner.example."), "{said}");
}

#[test]
fn d14_stub_domains_failover_and_what_is_remembered() {
    let (folder, other) = (Folder::new(), Folder::new());
    let (upstream, zone) = (partner(&other), partner(&other));
    // Bound and never read: an upstream that says nothing. The other one is gone.
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let closed = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("an address").to_string();
    let silent_at = silent.local_addr().expect("bound").to_string();
    let upstream_at = upstream.addresses[0].to_string();
    let stub = format!("svc.example={}", zone.addresses[0]);
    let path = cluster_in(&folder);
    let arguments =
        ["--upstream", &closed, "--upstream", &silent_at, "--upstream", &upstream_at, "--stub-domain", &stub];
    let dns = Dns::start(&path, &arguments);
    assert_eq!(dns.lines(&["api.partner.svc.example"]), ["10.200.0.1"], "the zone's own server knows");
    drop(zone);
    assert_eq!(dns.lines(&["api.partner.svc.example"]), ["10.200.0.1"], "it is remembered");
    assert!(has(&dns.dig(&["web.partner.svc.example"]), "SERVFAIL", 0), "no other one is asked for the zone");
    assert!(has(&dns.dig(&["nobody.example"]), "NXDOMAIN", 0), "the third upstream knows");
}

#[test]
fn garbage_is_survived_and_counts_for_nothing() {
    let folder = Folder::new();
    let dns = Dns::start(&cluster_in(&folder), &[]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut seed = 0x9e37_79b9_u32;
    for _ in 0..2000 {
        let bytes: Vec<u8> = (0..seed % 600)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect();
        seed = seed.wrapping_add(1);
        socket.send_to(&bytes, dns.addresses[0]).expect("sent");
        if seed.is_multiple_of(50) {
            let mut stream = TcpStream::connect(dns.addresses[0]).expect("a connection");
            let _ = stream.write_all(&bytes);
        }
    }
    assert_eq!(dns.lines(&["web.shop.svc.cluster.local"]), ["10.96.0.80"]);
    assert_eq!(dns.stop().0, Some(0));
}

#[test]
fn questions_in_parallel_are_all_answered() {
    let folder = Folder::new();
    let dns = Dns::start(&cluster_in(&folder), &[]);
    let dns = &dns;
    thread::scope(|scope| {
        for name in ["web", "db", "nobody"] {
            for transport in ["+tcp", "+notcp"] {
                let name = format!("{name}.shop.svc.cluster.local");
                scope.spawn(move || {
                    (0..5).for_each(|_| assert!(dns.dig(&[&name, transport]).contains("status: N"), "{name}"));
                });
            }
        }
    });
}

fn fails(args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = podplane(&[&["dns"], args].concat());
    (status.code(), text(&stderr))
}

#[test]
fn what_cannot_be_used_is_refused_by_name_with_exit_code_2() {
    let folder = Folder::new();
    let path = cluster_in(&folder);
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let taken = taken.local_addr().expect("bound").to_string();
    let listen = ["-f", &path, "--listen", "127.0.0.1:0"];
    for (args, expected) in [
        (&["-f", &path, "--listen", &taken][..], "in use by another process"),
        (&["-f", &path, "--listen", "192.0.2.1:5353"], "no interface of this machine has that address"),
        (&["-f", "/nonexistent", "--listen", "127.0.0.1:0"], "/nonexistent: No such file or directory"),
        (&["-f", &path], "--listen"),
        (&["--listen", "127.0.0.1:0"], "-f"),
        (&[&listen[..], &["--upstream", "nonsense"]].concat(), "is not an address such as"),
        (&[&listen[..], &["--upstream", "0.0.0.0"]].concat(), "upstream 0.0.0.0:53: no address of a server"),
        (&[&listen[..], &["--stub-domain", "a..b=192.0.2.1"]].concat(), "stub domain \"a..b\": no DNS name"),
        (&[&listen[..], &["--stub-domain", "a.b"]].concat(), "is not ZONE=ADDR[:PORT]"),
        (&[&listen[..], &["--zone", "a..b"]].concat(), "is not a DNS name"),
        (&[&listen[..], &["--resolv-conf", "/nonexistent"]].concat(), "--resolv-conf /nonexistent: No such file"),
    ] {
        let (code, said) = fails(args);
        assert_eq!(code, Some(2), "{args:?}: {said}");
        assert!(said.contains(expected), "{args:?}: {said}");
    }
}

#[test]
fn an_upstream_that_is_the_server_itself_is_refused() {
    let folder = Folder::new();
    let path = cluster_in(&folder);
    // An address of its own: no other test takes its ports.
    let free = TcpListener::bind("127.9.3.9:0").and_then(|socket| socket.local_addr()).expect("an address").to_string();
    let (code, said) = fails(&["-f", &path, "--listen", &free, "--upstream", &free]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("that is this server itself"), "{said}");
}
