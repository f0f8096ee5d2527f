//! Names in a lab, asked by real resolvers: every node answers the cluster DNS at the pod's own port (D20), forwards other names, and
//! gives pods a resolv.conf.

mod support;

use std::time::{Duration, Instant};
use support::{Background, Folder, Lab, has_program, labs_can_run, podplane, stdout, text, wait_for};

/// A web server on two nodes behind a Service, a headless one, one with 120 addresses, an alias of a name outside.
const SHOP: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
spec: {nodeName: node1, containers: [{name: main, image: none}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: shop, labels: {app: far}}
spec:
  nodeName: node2
  dnsConfig: {searches: [more.example], options: [{name: ndots, value: '2'}, {name: edns0}]}
  containers: [{name: main, image: none}]
---
apiVersion: v1
kind: Pod
metadata: {name: own, namespace: shop}
spec:
  nodeName: node2
  dnsPolicy: None
  dnsConfig: {nameservers: [10.96.0.10], searches: [svc.cluster.local]}
  containers: [{name: main, image: none}]
---
apiVersion: v1
kind: Pod
metadata:
  name: web-0
  namespace: shop
  labels: {app: web}
  annotations:
    lab.podplane.io/command: |
      exec socat TCP4-LISTEN:8080,reuseaddr,fork SYSTEM:'echo HTTP/1.0 200 OK; echo; hostname'
spec: {hostname: web-0, subdomain: peers, nodeName: node2, containers: [{name: main, image: none, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: shop}
spec:
  selector: {app: web}
  clusterIP: 10.96.0.77
  ipFamilyPolicy: SingleStack
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: peers, namespace: shop}
spec: {selector: {app: web}, clusterIP: None, ipFamilyPolicy: SingleStack, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: shop}
spec: {type: ExternalName, externalName: www.far.example}
---
apiVersion: v1
kind: Service
metadata: {name: crowd, namespace: shop}
spec: {clusterIP: None, ports: [{port: 80}]}
";

/// The endpoints of the crowd.
fn crowd() -> String {
    let endpoints: Vec<String> =
        (1..=120).map(|n| format!("{{addresses: [192.0.2.{n}], conditions: {{ready: true}}}}")).collect();
    format!(
        "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: crowd-1, namespace: shop, labels: {{kubernetes.io/service-name: crowd}}}}
addressType: IPv4
ports: [{{port: 80}}]
endpoints: [{}]
",
        endpoints.join(", ")
    )
}

fn can_run() -> bool {
    labs_can_run() && ["dig", "dnsmasq", "socat", "curl"].into_iter().all(has)
}

fn has(program: &str) -> bool {
    // dig knows only -v.
    if program == "dig" {
        let found = std::process::Command::new("dig").arg("-v").output();
        return support::can_run("dig", found.map(drop).map_err(|error| error.to_string()));
    }
    has_program(program)
}

/// A name server outside of the cluster, which knows `far.example`.
fn world_dns(lab: &Lab) -> Background {
    let server = lab.spawn(
        "world",
        &[
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--user=root",
            "--pid-file=",
            "--listen-address=172.30.0.100",
            "--bind-interfaces",
            "--local-ttl=60",
            "--address=/www.far.example/198.51.100.7",
            "--txt-record=text.far.example,hello",
        ],
    );
    wait_for("the name server in world", Duration::from_secs(10), || {
        let asked = lab.exec("world", &["dig", "+short", "+time=1", "+tries=1", "@172.30.0.100", "www.far.example"]);
        (asked.stdout == b"198.51.100.7\n").then_some(())
    });
    server
}

/// What dig prints in `place`.
#[track_caller]
fn dig(lab: &Lab, place: &str, words: &str) -> String {
    let all: Vec<&str> = ["dig", "+time=2", "+tries=1"].into_iter().chain(words.split_whitespace()).collect();
    lab.exec_ok(place, &all)
}

/// The sorted lines of a short answer.
#[track_caller]
fn short(lab: &Lab, place: &str, words: &str) -> Vec<String> {
    let mut lines: Vec<String> = dig(lab, place, &format!("+short {words}")).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[track_caller]
fn status(lab: &Lab, place: &str, words: &str) -> String {
    let told = dig(lab, place, words);
    let (_, rest) = told.split_once("status: ").unwrap_or_else(|| panic!("no status in {told}"));
    rest.split(',').next().unwrap_or_default().to_owned()
}

#[test]
fn d20_real_resolvers_are_answered_at_the_pods_own_port_over_udp_and_tcp() {
    if !can_run() {
        return;
    }
    let lab = Lab::up(&(SHOP.to_owned() + &crowd()), &["--shards", "2", "--dns-upstream", "172.30.0.100"]);
    let _world = world_dns(&lab);
    let web = lab.address("shop/web-0", false);
    let backend = "backend.shop.svc.cluster.local";
    for place in ["shop/client", "shop/far", "node:node1"] {
        for at in ["@10.96.0.10", "@fd00:10:96::a"] {
            for over in ["", "+tcp"] {
                let asked = |words: &str| short(&lab, place, &format!("{at} {over} {words}"));
                assert_eq!(asked(backend), ["10.96.0.77"], "{place} {at} {over}");
                assert_eq!(
                    asked("_http._tcp.peers.shop.svc.cluster.local SRV"),
                    ["0 100 8080 web-0.peers.shop.svc.cluster.local."]
                );
                assert_eq!(asked("-x 10.96.0.77"), ["backend.shop.svc.cluster.local."]);
                assert_eq!(asked("dns-version.cluster.local TXT"), ["\"1.1.0\""]);
            }
        }
    }
    let client = "shop/client";
    assert_eq!(short(&lab, client, "web-0.peers.shop.svc.cluster.local"), [web.as_str()]);
    assert_eq!(short(&lab, client, "BackEnd.SHOP.svc.cluster.local"), ["10.96.0.77"]);
    assert_eq!(status(&lab, client, &format!("{backend} AAAA")), "NOERROR", "no IPv6 address is no missing name");
    assert_eq!(status(&lab, client, "nobody.shop.svc.cluster.local"), "NXDOMAIN");

    // One connection, several questions.
    let told =
        dig(&lab, client, &format!("+tcp +keepopen +short {backend} A peers.shop.svc.cluster.local A {backend} A"));
    assert_eq!(told.lines().collect::<Vec<_>>(), ["10.96.0.77", web.as_str(), "10.96.0.77"]);
    // More than a datagram holds: cut off, and whole over TCP.
    let crowd = "crowd.shop.svc.cluster.local";
    assert!(dig(&lab, client, &format!("+ignore {crowd}")).contains(" tc"), "cut off");
    assert_eq!(short(&lab, client, crowd).into_iter().filter(|line| line.starts_with("192.0.2.")).count(), 120);

    // Other names, and an alias that leads out; the second time from memory.
    for over in ["", "+tcp"] {
        assert_eq!(short(&lab, client, &format!("{over} www.far.example")), ["198.51.100.7"]);
        assert_eq!(short(&lab, "shop/far", &format!("{over} text.far.example TXT")), ["\"hello\""]);
        assert_eq!(
            short(&lab, client, &format!("{over} alias.shop.svc.cluster.local")),
            ["198.51.100.7", "www.far.example."]
        );
    }

    // As applications do it, with search domains.
    assert!(lab.exec_ok(client, &["getent", "ahostsv4", "backend"]).starts_with("10.96.0.77 "));
    assert!(lab.exec_ok("shop/far", &["getent", "ahostsv4", "backend.shop"]).starts_with("10.96.0.77 "));
    assert_eq!(lab.exec_ok(client, &["curl", "-s", "-m", "5", "http://backend/"]), "web-0\n");
    if has_program("busybox") {
        let told = text(&lab.exec(client, &["busybox", "nslookup", backend]).stdout);
        assert!(told.contains("10.96.0.77"), "{told}");
    }
    let own = lab.exec_ok("shop/own", &["cat", "/etc/resolv.conf"]);
    assert_eq!(own, "search svc.cluster.local\nnameserver 10.96.0.10\n");
    assert!(lab.exec_ok("shop/own", &["getent", "ahostsv4", "backend.shop"]).starts_with("10.96.0.77 "));
    let far = lab.exec_ok("shop/far", &["cat", "/etc/resolv.conf"]);
    assert!(far.contains("search shop.svc.cluster.local svc.cluster.local cluster.local more.example\n"), "{far}");
    assert!(far.contains("options ndots:2 edns0\n"), "{far}");

    let counted = stdout(podplane(&["status", "--lab", &lab.name, "--node", "node1", "-o", "json"]));
    let counted: serde_json::Value = serde_json::from_str(&counted).expect("JSON");
    let dns = &counted["dataplane"]["dns"];
    assert!(dns["udp"].as_u64() > Some(10) && dns["tcp"].as_u64() > Some(10), "{dns}");
    assert_eq!((&dns["overloaded"], &dns["serv_fail"]), (&0.into(), &0.into()), "{dns}");
}

/// An egress policy of the client.
fn egress(rules: &str) -> String {
    format!(
        "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: client, namespace: shop}}
spec: {{podSelector: {{matchLabels: {{app: client}}}}, policyTypes: [Egress], egress: [{rules}]}}
"
    )
}

#[test]
fn d20_a_policy_says_who_may_ask_and_what_it_denies_is_told() {
    if !can_run() {
        return;
    }
    let lab = Lab::up(SHOP, &[]);
    let client = "shop/client";
    let ask = |over: &str| {
        let words = ["dig", "+time=1", "+tries=1", "+short", over, "backend.shop.svc.cluster.local"];
        let asked = lab.exec(client, &words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>());
        asked.status.success() && asked.stdout == b"10.96.0.77\n"
    };
    let explain = |protocol: &str| {
        let words = [
            "explain",
            "--lab",
            &lab.name,
            "--from",
            client,
            "--to",
            "10.96.0.10:53",
            "--protocol",
            protocol,
            "-o",
            "json",
        ];
        let told: serde_json::Value = serde_json::from_slice(&podplane(&words).stdout).expect("JSON");
        (told["outcome"].as_str().expect("an outcome").to_owned(), told)
    };
    assert!(ask("") && ask("+tcp"));
    let (outcome, told) = explain("udp");
    assert_eq!(outcome, "delivered", "{told}");
    assert!(told["steps"].to_string().contains("answers the cluster DNS"), "{told}");

    lab.apply(&egress(""));
    assert!(!ask("") && !ask("+tcp"));
    for protocol in ["udp", "tcp"] {
        assert_eq!(explain(protocol).0, "denied");
    }
    let drops = stdout(podplane(&["drops", "--lab", &lab.name, "--node", "node1"]));
    assert!(drops.contains("denied-by-egress-policy") && drops.contains("10.96.0.10"), "{drops}");

    let dns = "{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, \
               podSelector: {matchLabels: {k8s-app: kube-dns}}}]";
    lab.apply(&egress(&format!("{dns}, ports: [{{port: dns, protocol: UDP}}]}}")));
    assert!(ask("") && !ask("+tcp"));
    lab.apply(&egress(&format!("{dns}}}")));
    assert!(ask("") && ask("+tcp"));
    assert_eq!(explain("tcp").0, "delivered");
}

#[test]
fn d17_a_change_of_endpoints_is_seen_within_a_second_and_no_name_is_missing_meanwhile() {
    if !can_run() {
        return;
    }
    let lab = Lab::up(SHOP, &[]);
    let folder = Folder::new();
    let names = folder.write("names", &"peers.shop.svc.cluster.local\n".repeat(100));
    let told = folder.path().join("told").to_str().expect("a UTF-8 path").to_owned();
    let script = format!(
        "while true; do dig +time=1 +tries=1 -f {names} | grep -oE 'status: [A-Z]*|timed out|no servers' >> {told}; done"
    );
    let asking = lab.spawn("shop/far", &["sh", "-c", &script]);
    let seen = || std::fs::read_to_string(&told).unwrap_or_default();
    wait_for("the first answers", Duration::from_secs(20), || seen().contains("NOERROR").then_some(()));
    for n in 1..4 {
        let pod = format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: web-{n}, namespace: shop, labels: {{app: web}}}}
spec: {{nodeName: node1, containers: [{{name: main, image: none, ports: [{{containerPort: 8080}}]}}]}}
"
        );
        lab.apply(&pod);
        let applied = Instant::now();
        wait_for("the next address", Duration::from_secs(5), || {
            (short(&lab, "shop/client", "peers.shop.svc.cluster.local").len() == n + 1).then_some(())
        });
        let took = applied.elapsed();
        eprintln!("seen {took:?} after lab apply had returned");
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
    let answers = || seen().matches("NOERROR").count();
    let before = answers();
    wait_for("answers after the last change", Duration::from_secs(20), || (answers() > before + 100).then_some(()));
    drop(asking);
    let told = seen();
    let (good, all) = (told.matches("NOERROR").count(), told.lines().count());
    eprintln!("{all} answers meanwhile");
    assert_eq!(good, all, "{:?}", told.lines().find(|line| !line.contains("NOERROR")));
}
