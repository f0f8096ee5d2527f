//! The Ingress and Gateway proxy as pods of a lab: asked from outside and from pods, over HTTP, HTTPS, WebSocket and gRPC; under
//! policy; through changes.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;
use support::ingress::{Certificate, Script};
use support::services::{NODES, WORLD};
use support::{Folder, Lab, has_program, labs_can_run, podplane, podplane_with_input, stdout, text, wait_for};

/// Longest that anything takes here.
const PATIENCE: Duration = Duration::from_secs(20);

/// `client` without a server, and Service `web` of `near` (node1) and `far` (node2).
const SHOP: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop}
spec: {nodeName: node1, containers: [{name: c, image: none}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, namespace: shop, labels: {app: web}}
spec: {nodeName: node1, containers: [{name: c, image: none, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: shop, labels: {app: web}}
spec: {nodeName: node2, containers: [{name: c, image: none, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: idle, namespace: shop}
spec: {selector: {app: nobody}, ports: [{port: 80, targetPort: 8080}]}
---
";

/// An Ingress of namespace shop: a host, paths to Services, and more of its spec.
fn ingress(name: &str, host: &str, paths: &[(&str, &str)], more: &str) -> String {
    let path = |(path, service): &(&str, &str)| {
        format!("{{path: {path}, pathType: Prefix, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}")
    };
    let paths: Vec<String> = paths.iter().map(path).collect();
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  rules: [{{host: \
         {host}, http: {{paths: [{}]}}}}]\n{more}---\n",
        paths.join(", ")
    )
}

/// The certificate as Secret `tls` of namespace shop.
fn secret(certificate: &Certificate) -> String {
    certificate.secret("tls").replacen("{name: tls}", "{name: tls, namespace: shop}", 1).replacen("---\n", "", 1)
        + "---\n"
}

/// Waits until the proxies serve what was applied: a lab comes up with what it was given, but follows changes on its own.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, PATIENCE, || condition().then_some(()));
}

/// `curl` at `place` for a URL whose host is at `address`: the status, and the body as JSON (null if it is none). Status 0 is no
/// answer.
fn curl(lab: &Lab, place: &str, url: &str, address: &str, more: &[&str]) -> (u16, Value) {
    let host = url.split("://").nth(1).and_then(|rest| rest.split('/').next()).expect("a URL");
    let port = if url.starts_with("https") { 443 } else { 80 };
    let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let resolve = format!("{host}:{port}:{address}");
    // A backend that nobody reaches is tried for five seconds.
    let fixed = ["curl", "-s", "--noproxy", "*", "--max-time", "30", "-w", "\n%{http_code}", "--resolve", &resolve];
    let output = text(&lab.exec(place, &[&fixed[..], more, &[url]].concat()).stdout);
    let (body, status) = output.rsplit_once('\n').expect("a status");
    (status.parse().expect("a number"), serde_json::from_str(body).unwrap_or(Value::Null))
}

fn status(lab: &Lab, place: &str, url: &str, address: &str) -> u16 {
    curl(lab, place, url, address, &[]).0
}

/// The addresses of an Ingress or a Gateway as `lab status` shows them.
fn addresses(lab: &Lab, kind: &str, name: &str) -> Vec<String> {
    let status = lab.json("status", &[]);
    let all = status[kind].as_array().expect("a list");
    let found = all.iter().find(|own| own["name"] == name).unwrap_or_else(|| panic!("no {name}: {status:#}"));
    let addresses = found["addresses"].as_array().expect("addresses");
    addresses.iter().map(|address| address.as_str().expect("text").to_owned()).collect()
}

#[test]
fn i01_the_outside_and_pods_reach_services_by_host_and_path_and_backends_know_the_client() {
    if !labs_can_run() || !has_program("curl") || !has_program("openssl") {
        return;
    }
    let certificates = Folder::new();
    let certificate = Certificate::new(&certificates, "shop.example");
    let paths = [("/", "web"), ("/idle", "idle"), ("/gone", "missing")];
    let foreign = "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: nginx}\nspec: {controller: \
                   k8s.io/ingress-nginx}\n---\n";
    let manifests = [
        SHOP,
        foreign,
        &secret(&certificate),
        &ingress(
            "web",
            "shop.example",
            &paths,
            "  ingressClassName: podplane\n  tls: [{hosts: [shop.example], secretName: tls}]\n",
        ),
        &ingress("foreign", "foreign.example", &[("/", "web")], "  ingressClassName: nginx\n"),
    ];
    let lab = Lab::up(&manifests.concat(), &[]);
    let published = addresses(&lab, "ingresses", "web");
    assert_eq!(published.len(), 2, "one address of each family: {published:?}");
    assert_eq!(addresses(&lab, "ingresses", "foreign"), [""; 0]);
    let mut doors: Vec<&str> = published.iter().map(String::as_str).collect();
    doors.extend(NODES.iter().flatten());
    let mut servers = BTreeSet::new();
    for door in &doors {
        for (url, proto) in [("http://shop.example/a?b=c", "http"), ("https://shop.example/a?b=c", "https")] {
            let trust = ["--cacert", &certificate.file];
            let (code, told) = curl(&lab, "world", url, door, &trust);
            assert_eq!(code, 200, "{url} at {door}");
            servers.insert(told["server"].as_str().expect("a server").to_owned());
            let asked = &told["request"];
            assert_eq!((&asked["target"], &asked["fields"]["host"]), (&json!("/a?b=c"), &json!("shop.example")));
            assert_eq!(asked["fields"]["x-forwarded-for"], WORLD[usize::from(door.contains(':'))], "{url} at {door}");
            assert_eq!(asked["fields"]["x-forwarded-proto"], proto);
            // A pod is a client like any other.
            let (code, told) = curl(&lab, "shop/client", url, door, &trust);
            assert_eq!(code, 200, "{url} at {door} from a pod");
            servers.insert(told["server"].as_str().expect("a server").to_owned());
            let own = lab.address("shop/client", door.contains(':'));
            assert_eq!(told["request"]["fields"]["x-forwarded-for"], own, "{url} at {door}");
        }
    }
    assert_eq!(servers, BTreeSet::from(["shop/near".to_owned(), "shop/far".to_owned()]));
    let door = NODES[1][0];
    assert_eq!(status(&lab, "world", "http://other.example/", door), 404);
    assert_eq!(status(&lab, "world", "http://foreign.example/", door), 404);
    assert_eq!(status(&lab, "world", "http://shop.example/idle", door), 503);
    assert_eq!(status(&lab, "world", "http://shop.example/gone", door), 503);
    assert_eq!(status(&lab, "world", "https://other.example/", door), 0, "there is no certificate");
    let http2 = curl(
        &lab,
        "world",
        "https://shop.example/",
        door,
        &["--cacert", &certificate.file, "--http2", "-o", "/dev/null"],
    );
    assert_eq!(http2.0, 200);
    // Each request is a line of a proxy's log.
    let pods = lab.json("status", &[])["pods"].clone();
    let proxy =
        pods.as_array().unwrap().iter().find(|pod| pod["namespace"] == "podplane-system" && pod["node"] == "node2");
    let proxy = format!("podplane-system/{}", proxy.expect("a proxy on node2")["name"].as_str().unwrap());
    let log = stdout(lab.run("logs", &[&proxy]));
    assert!(log.contains("shop.example"), "{log}");
    // Told when the lab came up, and again by a change.
    let output = podplane_with_input(
        &["lab", "apply", "--name", &lab.name, "-f", "-"],
        &ingress("later", "x.example", &[("/", "missing")], "  ingressClassName: podplane\n"),
    );
    let told = text(&output.stderr);
    assert!(told.contains("Ingress shop/later: spec.rules[0].http.paths[0].backend.service.name"), "{told}");
}

#[test]
fn i10_a_websocket_lives_through_changes_and_grpc_passes() {
    if !labs_can_run() || !has_program("openssl") || !Script::has_library("websockets") || !Script::has_library("grpc")
    {
        return;
    }
    let certificates = Folder::new();
    let certificate = Certificate::new(&certificates, "grpc.example");
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/clients");
    let echo = |name: &str, script: &str, app_protocol: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}, annotations: \
             {{lab.podplane.io/command: exec /usr/bin/python3 {}/{script} serve 0.0.0.0 8080}}}}\nspec: {{nodeName: node2, \
             containers: [{{name: c, image: none, ports: [{{containerPort: 8080}}], readinessProbe: {{tcpSocket: {{port: \
             8080}}}}}}]}}\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{selector: {{app: \
             {name}}}, ports: [{{port: 80, targetPort: 8080{app_protocol}}}]}}\n---\n",
            scripts.display()
        )
    };
    let manifests = [
        SHOP,
        &echo("ws", "websocket_echo.py", ""),
        &echo("grpc", "grpc_echo.py", ", appProtocol: kubernetes.io/h2c"),
        &secret(&certificate),
        &ingress("ws", "ws.example", &[("/", "ws")], ""),
        &ingress("grpc", "grpc.example", &[("/", "grpc")], "  tls: [{hosts: [grpc.example], secretName: tls}]\n"),
    ];
    let lab = Lab::up(&manifests.concat(), &[]);
    let door = NODES[0][0];

    let target = format!("{door}:443");
    let script = scripts.join("grpc_echo.py").display().to_string();
    let call = ["/usr/bin/python3", &script, "call", &target, &certificate.file, "grpc.example"];
    let got: Value = serde_json::from_str(&lab.exec_ok("world", &call)).expect("JSON");
    assert_eq!(got["Unary"], "echo hi");
    assert_eq!(got["Both"], json!(["echo 0", "echo 1", "echo 2", "echo 3", "echo 4"]));
    assert_eq!(got["Fail"], json!(["FAILED_PRECONDITION", "as asked", "trailer"]));

    let script = scripts.join("websocket_echo.py").display().to_string();
    let mut talk = Conversation::start(&lab, &["/usr/bin/python3", &script, "talk", "ws://ws.example/"], door);
    assert_eq!(talk.ask("before"), "before");
    lab.apply(
        &[
            &*ingress("ws", "ws.example", &[("/", "ws"), ("/more", "web")], ""),
            &*ingress("new", "new.example", &[("/", "web")], ""),
        ]
        .concat(),
    );
    eventually("the route comes", || status(&lab, "world", "http://new.example/", door) == 200);
    assert_eq!(talk.ask("between"), "between");
    lab.delete(&ingress("new", "new.example", &[("/", "web")], ""));
    eventually("the route goes", || status(&lab, "world", "http://new.example/", door) == 404);
    assert_eq!(talk.ask("after"), "after");
}

/// A client in `world` that answers line by line; killed with its value.
struct Conversation {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Conversation {
    /// Starts `words` where the host `ws.example` is `address`.
    fn start(lab: &Lab, words: &[&str], address: &str) -> Conversation {
        // The name is asked of a hosts file of its own mount namespace.
        let hosts = format!(
            "echo '{address} ws.example' > /tmp/hosts-$$; mount --bind /tmp/hosts-$$ /etc/hosts; rm -f /tmp/hosts-$$; exec \"$@\""
        );
        let wrapped = ["unshare", "--mount", "sh", "-c", &hosts, "sh"];
        let mut command = lab.command("world", &[&wrapped[..], words].concat());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("podplane runs");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Conversation { child, input, output }
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").and_then(|()| self.input.flush()).expect("it reads");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("text");
        answer.trim_end().to_owned()
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn i17_a_gateway_on_a_port_of_its_own_shares_requests_out_by_weight_and_says_so_in_its_status() {
    if !labs_can_run() || !has_program("curl") {
        return;
    }
    let one = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{selector: {{pod: {name}}}, ports: \
             [{{port: 80, targetPort: 8080}}]}}\n---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: \
             {{pod: {name}}}}}\nspec: {{containers: [{{name: c, image: none, ports: [{{containerPort: 8080}}]}}]}}\n---\n"
        )
    };
    let gateway = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: door, namespace: shop}
spec: {gatewayClassName: podplane, listeners: [{name: http, port: 8000, protocol: HTTP, hostname: '*.example'}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: split, namespace: shop}
spec:
  parentRefs: [{name: door}]
  hostnames: [split.example]
  rules: [{backendRefs: [{name: blue, port: 80, weight: 3}, {name: green, port: 80, weight: 1}]}]
";
    let lab = Lab::up(&[&one("blue"), &one("green"), gateway].concat(), &[]);
    let door = addresses(&lab, "gateways", "door");
    assert_eq!(door.len(), 2, "{door:?}");
    let shown = lab.json("status", &[])["gateways"][0].clone();
    assert_eq!(
        (&shown["programmed"], &shown["listeners"][0]["attached_routes"]),
        (&json!(true), &json!(1)),
        "{shown:#}"
    );
    let script = format!(
        "for i in $(seq 80); do curl -s --noproxy '*' --max-time 5 -H 'Host: split.example' http://{}:8000/ || true; done",
        door[0]
    );
    let answers = lab.sh("world", &script);
    let blue = answers.matches("shop/blue").count();
    let green = answers.matches("shop/green").count();
    assert_eq!(blue + green, 80, "{answers}");
    assert!((40..=76).contains(&blue), "three of four: {blue}");
}

#[test]
fn i21_policy_at_the_backend_sees_the_proxy_and_explain_says_what_happens() {
    if !labs_can_run() || !has_program("curl") || !has_program("openssl") {
        return;
    }
    let certificates = Folder::new();
    let certificate = Certificate::new(&certificates, "shop.example");
    let paths = [("/", "web"), ("/idle", "idle")];
    let only = |namespace: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: door, namespace: shop}}\nspec:\n  podSelector: \
             {{matchLabels: {{app: web}}}}\n  ingress: [{{from: [{{namespaceSelector: {{matchLabels: \
             {{kubernetes.io/metadata.name: {namespace}}}}}}}]}}]\n---\n"
        )
    };
    let manifests = [
        SHOP,
        &secret(&certificate),
        &ingress("web", "shop.example", &paths, "  tls: [{hosts: [shop.example], secretName: tls}]\n"),
        &only("podplane-system"),
    ];
    let lab = Lab::up(&manifests.concat(), &[]);
    let door = addresses(&lab, "ingresses", "web").remove(0);
    let explain = |from: &str, to: &str| -> Value {
        let output = podplane(&["explain", "--lab", &lab.name, "--from", from, "--to", to, "-o", "json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)))
    };
    let check = |url: &str, real: &[u16], outcome: &str, told: &str| {
        let code = curl(&lab, "world", url, &door, &["--cacert", &certificate.file]).0;
        assert!(real.contains(&code), "{url}: {code}");
        let explained = explain("world", url);
        assert_eq!(explained["outcome"], outcome, "{url}: {explained:#}");
        assert!(explained["reason"].as_str().unwrap().contains(told), "{url}: {}", explained["reason"]);
        explained
    };
    // Only the proxy is let in.
    let told = check("https://shop.example/", &[200], "delivered", "from the proxy podplane-system/podplane-ingress");
    assert_eq!(
        told["ingress_route"],
        json!({
            "kind": "Ingress", "ingress": "shop/web", "field": "spec.rules[0].http.paths[0]", "host": "shop.example", "path": "/",
            "path_type": "Prefix", "service": "shop/web", "port": 80, "tls_secret": "shop/tls"
        })
    );
    let candidates = told["service"]["candidates"].as_array().expect("candidates");
    assert_eq!(candidates.len(), 2);
    assert_eq!(told["ingress"]["policies"], json!(["shop/door"]));
    let pod = lab.address("shop/near", false);
    assert_eq!(lab.outcome("world", &format!("{pod}:8080")), "timeout");
    assert_eq!(lab.outcome("shop/client", "web:80"), "timeout");
    // A URL that names the Service is no matter of the proxy.
    let told = explain("shop/client", "http://web.shop/");
    assert_eq!((&told["outcome"], &told["ingress_route"]), (&json!("denied"), &Value::Null));
    check("http://shop.example/idle", &[503], "rejected", "503");
    check("http://other.example/", &[404], "unresolved", "other.example");
    let to_node = format!("http://{}/", NODES[0][0]);
    assert_eq!(explain("world", &to_node)["reason"].as_str().unwrap().split(':').next(), Some("404"));
    let by_address = format!("https://{}/", NODES[0][0]);
    assert_eq!(explain("world", &by_address)["outcome"], "rejected", "no certificate is for an address");
    // Without it, the proxy has nobody to give the request to.
    lab.apply(&only("elsewhere"));
    let told = check("https://shop.example/", &[504], "denied", "504");
    assert_eq!(told["ingress"]["verdict"], "deny");
    lab.delete(&only("elsewhere"));
    check("https://shop.example/", &[200], "delivered", "");
}

#[test]
fn a_rootless_lab_has_the_proxy_too() {
    if !labs_can_run() || !has_program("curl") {
        return;
    }
    let lab = Lab::up(&[SHOP, &ingress("web", "shop.example", &[("/", "web")], "")].concat(), &["--rootless"]);
    assert_eq!(status(&lab, "world", "http://shop.example/", NODES[0][0]), 200);
}
