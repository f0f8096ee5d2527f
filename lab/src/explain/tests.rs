mod policies;
mod web;

use super::*;
use control::controller::fill;

/// Two nodes; client and near on node1, far on node2; near and far are web servers, also over UDP and SCTP.
const PODS: &str = "
apiVersion: v1
kind: Node
metadata: {name: node1}
spec: {podCIDRs: [10.244.1.0/24, 'fd00:10:244:1::/64']}
status: {addresses: [{type: InternalIP, address: 172.30.0.11}, {type: InternalIP, address: 'fd00:172:30::b'}]}
---
apiVersion: v1
kind: Node
metadata: {name: node2}
spec: {podCIDRs: [10.244.2.0/24, 'fd00:10:244:2::/64']}
status: {addresses: [{type: InternalIP, address: 172.30.0.12}, {type: InternalIP, address: 'fd00:172:30::c'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
spec: {nodeName: node1, containers: [{name: c, image: i}]}
status: {podIPs: [{ip: 10.244.1.2}, {ip: 'fd00:10:244:1::2'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, namespace: shop, labels: {app: web, on: node1}}
spec: {nodeName: node1, containers: [{name: c, image: i, ports: [{name: http, containerPort: 8080}]}]}
status: {podIPs: [{ip: 10.244.1.3}, {ip: 'fd00:10:244:1::3'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: shop, labels: {app: web, on: node2}}
spec: {nodeName: node2, containers: [{name: c, image: i, ports: [{name: http, containerPort: 8080}]}]}
status: {podIPs: [{ip: 10.244.2.3}, {ip: 'fd00:10:244:2::3'}]}
";

/// A Service called `web` with this spec.
fn service(spec: &str) -> String {
    format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\nspec: {spec}\n")
}

const CLUSTER_IP: &str = "{clusterIP: 10.96.0.80, selector: {app: web}, ports: [{port: 80, targetPort: http}]}";

/// NodePort 30080 with this selector and more fields.
fn node_port(selector: &str, more: &str) -> String {
    service(&format!(
        "{{type: NodePort, clusterIP: 10.96.0.80, selector: {selector}, ports: [{{port: 80, targetPort: 8080, nodePort: \
         30080}}]{more}}}"
    ))
}

fn policy(spec: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n"
    )
}

/// What is asked, beside the objects.
#[derive(Clone, Default)]
struct Ask {
    node: Option<&'static str>,
    protocol: Option<ProbeProtocol>,
    options: NodeOptions,
    each: bool,
    exact: bool,
}

#[track_caller]
fn try_ask(objects: &str, from: &str, to: &str, ask: &Ask) -> Result<Explanation> {
    let parsed = policy::objects::parse("test.yaml", &format!("{PODS}{objects}"));
    assert_eq!(parsed.problems, vec![], "{objects}");
    let network = LabNetwork::default();
    let filled = fill(&parsed.objects, [], &network);
    let protocol = ask.protocol.unwrap_or(ProbeProtocol::Tcp);
    let (host, port) = crate::probe::split_target(to, protocol).expect("a target");
    let question = Question {
        from: from.into(),
        to: to.into(),
        host,
        port,
        protocol,
        url: None,
        node: ask.node.map(str::to_owned),
        each: ask.each,
        assume_pods: !ask.exact,
    };
    explain(&filled.objects, &network, &ask.options, &question).map(|(explanation, _)| explanation)
}

#[track_caller]
fn asked(objects: &str, from: &str, to: &str) -> Explanation {
    try_ask(objects, from, to, &Ask::default()).unwrap_or_else(|error| panic!("{from} -> {to}: {error}"))
}

/// The outcome, and the candidates by the last part of their names or addresses.
fn summary(explanation: &Explanation) -> (Outcome, Vec<String>) {
    let candidates = explanation.service.iter().flat_map(|service| &service.candidates);
    let name = |candidate: &Candidate| match &candidate.pod {
        Some(pod) => pod.rsplit('/').next().unwrap_or_default().to_owned(),
        None => candidate.ip.to_string(),
    };
    let mut names: Vec<String> = candidates.map(name).collect();
    names.sort();
    (explanation.outcome, names)
}

#[track_caller]
fn check(objects: &str, from: &str, to: &str, outcome: Outcome, candidates: &[&str]) -> Explanation {
    let explanation = asked(objects, from, to);
    let expected = (outcome, candidates.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(summary(&explanation), expected, "{from} -> {to}: {}\n{:#?}", explanation.reason, explanation.steps);
    explanation
}

use Outcome::{Delivered, Denied, Dropped, External, Rejected, Unresolved};

const BOTH: &[&str] = &["far", "near"];

#[test]
fn a_cluster_ip_leads_to_every_ready_backend() {
    let told = check(&service(CLUSTER_IP), "shop/client", "10.96.0.80:80", Delivered, BOTH);
    let service = told.service.unwrap();
    assert_eq!((&*service.namespace, &*service.name, service.port, &*service.kind), ("shop", "web", 80, "ClusterIP"));
    assert_eq!(
        (service.vip.unwrap().to_string(), service.source_nat, &*service.affinity),
        ("10.96.0.80".into(), false, "None")
    );
    let near = service.candidates.iter().find(|candidate| candidate.local).unwrap();
    assert_eq!((near.pod.as_deref(), near.port, near.node.as_deref()), (Some("shop/near"), 8080, Some("node1")));
    assert!(near.ready);
    // The node itself is a client like any other.
    check(&self::service(CLUSTER_IP), "node:node2", "web.shop:80", Delivered, BOTH);
}

#[test]
fn every_candidate_gets_its_own_walk() {
    let ask = Ask { each: true, ..Ask::default() };
    let told = try_ask(&service(CLUSTER_IP), "shop/client", "web:80", &ask).unwrap();
    let each = told.each.unwrap();
    assert_eq!(each.len(), 2);
    for each in each {
        let backend = each.backend.unwrap();
        let delivered = each.steps.last().unwrap();
        assert_eq!(delivered.stage, "deliver");
        assert_eq!(Some(&delivered.place), backend.node.as_ref(), "the packet came to the backend's node");
        assert_eq!(each.steps.iter().any(|step| step.stage == "tunnel"), !backend.local);
        assert_eq!(each.outcome, Delivered);
    }
}

#[test]
fn a_service_without_endpoints_or_port_refuses_at_once() {
    let empty = service("{clusterIP: 10.96.0.80, selector: {app: none}, ports: [{port: 80}]}");
    let told = check(&empty, "shop/client", "web:80", Rejected, &[]);
    assert!(told.reason.contains("Service shop/web port 80/TCP has no ready endpoint"), "{}", told.reason);
    let told = check(&service(CLUSTER_IP), "shop/client", "web:81", Rejected, &[]);
    assert!(told.reason.contains("no TCP port 81") && told.service.is_none(), "{}", told.reason);
    check(&node_port("{app: none}", ""), "world", "172.30.0.11:30080", Rejected, &[]);
    check(&node_port("{app: none}", ""), "node:node1", "127.0.0.1:30080", Rejected, &[]);
}

#[test]
fn a_node_port_is_reached_from_everywhere() {
    let objects = node_port("{app: web}", "");
    for (from, to) in [
        ("shop/client", "172.30.0.11:30080"),
        ("shop/client", "node2:30080"),
        ("world", "172.30.0.12:30080"),
        ("world:203.0.113.9", "node:node1:30080"),
        ("node:node1", "172.30.0.11:30080"),
        ("node:node1", "127.0.0.1:30080"),
        ("node:node1", "172.30.0.12:30080"),
        ("203.0.113.9", "172.30.0.11:30080"),
    ] {
        let told = check(&objects, from, to, Delivered, BOTH);
        assert_eq!(told.service.unwrap().kind, "NodePort", "{from} -> {to}");
    }
    // On the node itself the relay speaks for it; only what comes from outside keeps its source.
    assert!(asked(&objects, "node:node1", "127.0.0.1:30080").service.unwrap().source_nat);
    assert!(!asked(&objects, "world", "172.30.0.12:30080").service.unwrap().source_nat);
}

#[test]
fn a_node_address_without_the_node_port_is_the_nodes_own() {
    let objects = node_port("{app: web}", "");
    for (from, to) in
        [("shop/client", "node1:22"), ("world", "node1:22"), ("node:node1", "node1:22"), ("node:node1", "node2:22")]
    {
        let told = check(&objects, from, to, Delivered, &[]);
        assert!(told.service.is_none(), "{from} -> {to}");
    }
    let options = NodeOptions { nodeport_addresses: vec!["172.30.0.12/32".parse().unwrap()], ..NodeOptions::default() };
    let ask = Ask { options, ..Ask::default() };
    let kind = |to| try_ask(&objects, "shop/client", to, &ask).unwrap().service.map(|service| service.kind);
    assert_eq!((kind("172.30.0.11:30080"), kind("172.30.0.12:30080")), (None, Some("NodePort".to_owned())));
}

#[test]
fn a_load_balancer_address_is_served_and_may_be_kept_to_some_clients() {
    for from in ["world", "shop/client", "node:node1"] {
        let told = check(&load_balancer(""), from, "172.30.0.200:80", Delivered, &["far"]);
        assert_eq!(told.service.unwrap().kind, "LoadBalancer");
    }
    let ranges = load_balancer(", loadBalancerSourceRanges: [203.0.113.0/24]");
    check(&ranges, "world:203.0.113.9", "172.30.0.200:80", Delivered, &["far"]);
    let told = check(&ranges, "world:198.51.100.9", "172.30.0.200:80", Dropped, &[]);
    let expected =
        "198.51.100.9 is not in spec.loadBalancerSourceRanges of Service shop/web port 80/TCP [203.0.113.0/24]";
    assert!(told.reason.contains(expected), "{}", told.reason);
    // Nobody said where it enters: at a node that answers for the address.
    let told = check(&load_balancer(", externalTrafficPolicy: Local"), "world", "172.30.0.200:80", Delivered, &["far"]);
    assert!(told.steps.iter().all(|step| step.place == "node2"), "{:?}", told.steps);
    let ask = Ask { node: Some("node1"), ..Ask::default() };
    let told = try_ask(&load_balancer(", externalTrafficPolicy: Local"), "world", "172.30.0.200:80", &ask).unwrap();
    assert_eq!(summary(&told), (Dropped, vec![]));
}

#[test]
fn affinity_and_source_translation_are_told() {
    let affinity = "{clusterIP: 10.96.0.80, sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}, \
                    selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}";
    let service_of = |told: Explanation| told.service.unwrap();
    let told = service_of(check(&service(affinity), "shop/client", "web:80", Delivered, BOTH));
    assert_eq!((&*told.affinity, told.affinity_timeout_seconds), ("ClientIP", Some(60)));
    let options = NodeOptions { masquerade_all: true, ..NodeOptions::default() };
    let ask = Ask { options, ..Ask::default() };
    let told = try_ask(&service(CLUSTER_IP), "shop/client", "web:80", &ask).unwrap();
    assert!(told.steps.iter().any(|step| step.stage == "source-nat"), "{:?}", told.steps);
    assert!(service_of(told).source_nat);
}

#[test]
fn external_traffic_policy_local_keeps_to_the_node() {
    let objects = node_port("{on: node1}", ", externalTrafficPolicy: Local");
    check(&objects, "world", "172.30.0.11:30080", Delivered, &["near"]);
    let told = check(&objects, "world", "172.30.0.12:30080", Dropped, &[]);
    assert!(told.reason.contains("externalTrafficPolicy Local, and no ready endpoint on node2"), "{}", told.reason);
    // From inside, the own node's address is a short cut to all, another node's is not.
    check(&objects, "shop/client", "172.30.0.11:30080", Delivered, &["near"]);
    check(&objects, "shop/client", "172.30.0.12:30080", Dropped, &[]);
    check(&objects, "shop/client", "web:80", Delivered, &["near"]);
    let both = node_port("{app: web}", ", externalTrafficPolicy: Local");
    check(&both, "world", "172.30.0.12:30080", Delivered, &["far"]);
    check(&both, "shop/client", "172.30.0.11:30080", Delivered, BOTH);
}

#[test]
fn internal_traffic_policy_local_keeps_to_the_node() {
    let spec = |on| {
        format!(
            "{{clusterIP: 10.96.0.80, internalTrafficPolicy: Local, selector: {{on: {on}}}, ports: [{{port: 80, targetPort: 8080}}]}}"
        )
    };
    check(&service(&spec("node1")), "shop/client", "web:80", Delivered, &["near"]);
    let told = check(&service(&spec("node2")), "shop/client", "web:80", Dropped, &[]);
    assert!(told.reason.contains("internalTrafficPolicy Local, and no ready endpoint on node1"), "{}", told.reason);
}

/// A LoadBalancer with this address and more fields.
fn load_balancer(more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\nspec: {{type: LoadBalancer, clusterIP: \
         10.96.0.80, selector: {{on: node2}}, ports: [{{port: 80, targetPort: 8080, nodePort: 30080}}]{more}}}\nstatus: \
         {{loadBalancer: {{ingress: [{{ip: 172.30.0.200}}]}}}}\n"
    )
}

#[test]
fn an_external_ip_is_served_if_it_is_allowed() {
    let objects = service(
        "{clusterIP: 10.96.0.80, externalIPs: [198.51.100.7], selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}",
    );
    let options = NodeOptions { external_ips: vec!["198.51.100.0/24".parse().unwrap()], ..NodeOptions::default() };
    let ask = Ask { options, ..Ask::default() };
    for from in ["world", "shop/client"] {
        let told = try_ask(&objects, from, "198.51.100.7:80", &ask).unwrap();
        assert_eq!((told.outcome, told.service.unwrap().kind.as_str()), (Delivered, "ExternalIP"), "{from}");
    }
    // Otherwise it is an address outside like any other (CVE-2020-8554).
    let told = check(&objects, "shop/client", "198.51.100.7:80", External, &[]);
    assert!(told.service.is_none());
}

#[test]
fn a_pod_reaches_itself_through_its_service_in_both_families() {
    let objects = service(
        "{clusterIP: 10.96.0.80, clusterIPs: [10.96.0.80, 'fd00:10:96::50'], ipFamilyPolicy: RequireDualStack, selector: {on: \
         node1}, ports: [{port: 80, targetPort: 8080}]}",
    );
    let objects = format!("{objects}{}", policy("{podSelector: {}, policyTypes: [Ingress, Egress]}"));
    for to in ["10.96.0.80:80", "[fd00:10:96::50]:80"] {
        let told = check(&objects, "shop/near", to, Delivered, &["near"]);
        assert!(told.service.unwrap().source_nat);
        assert_eq!((told.egress.verdict, told.ingress.verdict), ("allow", "allow"));
    }
    // By its own address it does not even leave the pod.
    check(&objects, "shop/near", "shop/near:8080", Delivered, &[]);
}

#[test]
fn both_families_and_all_protocols_have_their_backends() {
    let ports = "[{name: t, port: 80, targetPort: 8080}, {name: u, port: 80, protocol: UDP, targetPort: 8080}, {name: s, port: 80, \
                 protocol: SCTP, targetPort: 8080}]";
    let objects = service(&format!(
        "{{clusterIP: 10.96.0.80, clusterIPs: [10.96.0.80, 'fd00:10:96::50'], ipFamilyPolicy: PreferDualStack, selector: {{app: \
         web}}, ports: {ports}}}"
    ));
    for protocol in [ProbeProtocol::Tcp, ProbeProtocol::Udp, ProbeProtocol::Sctp] {
        for to in ["10.96.0.80:80", "[fd00:10:96::50]:80"] {
            let ask = Ask { protocol: Some(protocol), ..Ask::default() };
            let told = try_ask(&objects, "shop/client", to, &ask).unwrap();
            assert_eq!(summary(&told), (Delivered, vec!["far".to_owned(), "near".to_owned()]), "{to} {protocol:?}");
            let families = told.service.unwrap().candidates.iter().all(|c| c.ip.is_ipv6() == to.starts_with('['));
            assert!(families);
        }
    }
    let ask = Ask { protocol: Some(ProbeProtocol::Icmp), ..Ask::default() };
    assert_eq!(try_ask("", "shop/client", "shop/far", &ask).unwrap().outcome, Delivered);
}

#[test]
fn names_resolve_as_in_the_pod() {
    let headless = service("{clusterIP: None, selector: {app: web}, ports: [{port: 8080}]}");
    let told = check(&headless, "shop/client", "web:8080", Delivered, &[]);
    assert!(told.service.is_none());
    assert_eq!(told.steps[0].stage, "name");
    check(&headless, "shop/client", "10-244-2-3.shop.pod.cluster.local:8080", Delivered, &[]);
    let alias = service("{type: ExternalName, externalName: example.com}");
    let told = check(&alias, "shop/client", "web:80", Unresolved, &[]);
    assert!(told.reason.contains("ExternalName for example.com"), "{}", told.reason);
    check("", "shop/client", "nothing:80", Unresolved, &[]);
    check(&service(CLUSTER_IP), "shop/client", "http.web.shop:80", Unresolved, &[]);
}

#[test]
fn a_denial_names_policy_rule_and_field() {
    let ingress = policy(
        "{podSelector: {matchLabels: {on: node2}}, ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}]}",
    );
    let told = check(&ingress, "shop/client", "shop/far:8080", Denied, &[]);
    assert_eq!(told.ingress.policies, ["shop/p"]);
    assert_eq!(told.ingress.rule.as_deref(), Some("shop/p spec.ingress[0].ports: TCP 8080 is not in [TCP 80]"));
    assert_eq!((told.egress.verdict, told.egress.isolated), ("allow", false));
    assert!(
        told.reason
            .starts_with("ingress policy of shop/far denies it (dropped, not refused): shop/p spec.ingress[0].ports"),
        "{}",
        told.reason
    );

    let egress = policy("{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress]}");
    let told = check(&format!("{}{egress}", service(CLUSTER_IP)), "shop/client", "web:80", Denied, BOTH);
    assert_eq!(told.egress.rule.as_deref(), Some("shop/p spec.egress: there is no rule, so nothing is allowed"));
    assert!(told.backend.is_some() && told.ingress.verdict == "allow", "{told:#?}");
    assert_eq!(told.steps.last().unwrap().place, "node1", "it did not get away");

    // Egress policies see the backend, not the Service (N08).
    let allowed = policy(
        "{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}], ports: [{port: 8080}]}]}",
    );
    check(&format!("{}{allowed}", service(CLUSTER_IP)), "shop/client", "web:80", Delivered, BOTH);
}

#[test]
fn a_backend_that_is_not_reached_stands_for_all() {
    let ingress = policy("{podSelector: {matchLabels: {on: node2}}, policyTypes: [Ingress]}");
    let told = check(&format!("{}{ingress}", service(CLUSTER_IP)), "shop/client", "web:80", Denied, BOTH);
    assert_eq!(told.backend.unwrap().pod.as_deref(), Some("shop/far"));
    assert!(told.reason.contains("1 of 2 would get through"), "{}", told.reason);
}

#[test]
fn what_leaves_the_cluster_is_external_and_what_comes_in_must_be_for_a_service() {
    let told = check("", "shop/client", "203.0.113.9:443", External, &[]);
    let nat = told.steps.iter().find(|step| step.stage == "source-nat").unwrap();
    assert_eq!(nat.decision, "10.244.1.2 becomes 172.30.0.11");
    check("", "node:node1", "203.0.113.9:443", External, &[]);
    check("", "shop/client", "world:80", External, &[]);
    check("", "world", "203.0.113.9:443", External, &[]);
    let told = check("", "world", "shop/near:8080", Dropped, &[]);
    assert!(told.reason.contains("from outside"), "{}", told.reason);
    check("", "shop/client", "10.244.1.99:80", Rejected, &[]);
}

#[test]
fn a_bare_address_is_an_unlabelled_pod_on_the_node_that_is_said() {
    let deny = policy("{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {}}]}]}");
    let told = check(&deny, "10.244.1.77", "shop/near:8080", Denied, &[]);
    assert_eq!(told.from, "10.244.1.77");
    let rule = told.ingress.rule.unwrap();
    assert!(rule.contains("no labels, 10.244.1.77"), "{rule}");
    let told = check("", "10.244.1.77", "shop/near:8080", Delivered, &[]);
    assert_eq!(told.steps[0].place, "node1");
    let ask = Ask { node: Some("node2"), ..Ask::default() };
    let told = try_ask("", "10.244.1.77", "shop/near:8080", &ask).unwrap();
    assert_eq!((told.outcome, &*told.steps[0].place), (Delivered, "node2"));
}

#[test]
fn endpoints_without_pods_are_taken_to_be_there_unless_the_objects_are_complete() {
    let objects = format!(
        "{}---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\nmetadata: {{name: s, namespace: shop, \
         labels: {{kubernetes.io/service-name: web}}}}\nports: [{{port: 8080}}]\nendpoints:\n- {{addresses: [10.244.2.50], nodeName: \
         node2}}\n- {{addresses: [203.0.113.80]}}\n",
        service("{clusterIP: 10.96.0.80, ports: [{port: 80, targetPort: 8080}]}")
    );
    let ask = Ask { each: true, ..Ask::default() };
    let told = try_ask(&objects, "shop/client", "web:80", &ask).unwrap();
    assert_eq!(summary(&told), (Delivered, vec!["10.244.2.50".to_owned(), "203.0.113.80".to_owned()]));
    let outcomes: Vec<Outcome> = told.each.unwrap().iter().map(|each| each.outcome).collect();
    assert!(outcomes.contains(&Delivered) && outcomes.contains(&External), "{outcomes:?}");
    let ask = Ask { exact: true, ..ask };
    assert_eq!(try_ask(&objects, "shop/client", "web:80", &ask).unwrap().outcome, Dropped);
}

#[test]
fn what_cannot_be_asked_is_bad_input() {
    for (from, node, says) in [
        ("shop/nobody", None, "no such pod"),
        ("node:node9", None, "no such node"),
        ("underlay", None, "nothing is sent from here"),
        ("somewhere", None, "not a place"),
        ("127.0.0.1", None, "--node"),
        ("world", Some("node9"), "no such node"),
    ] {
        let error = try_ask("", from, "shop/near:80", &Ask { node, ..Ask::default() }).unwrap_err();
        assert!(matches!(&error, LabError::BadInput(text) if text.contains(says)), "{from}: {error}");
    }
}

#[test]
fn p04_a_host_port_leads_to_its_pod_and_the_story_names_the_field() {
    let door = "
---
apiVersion: v1
kind: Pod
metadata: {name: door, namespace: shop, labels: {app: door}}
spec: {nodeName: node2, containers: [{name: c, image: i, ports: [{containerPort: 8080, hostPort: 80}]}]}
status: {podIPs: [{ip: 10.244.2.9}]}
";
    for from in ["world", "shop/client", "node:node1", "node:node2"] {
        let told = check(door, from, "node:node2:80", Delivered, &[]);
        assert_eq!(told.service, None, "{from}");
        assert_eq!(told.backend.and_then(|backend| backend.pod).as_deref(), Some("shop/door"), "{from}");
        let step = told.steps.iter().find(|step| step.stage == "service").expect("a step");
        assert!(step.why.contains("spec.containers[0].ports[0].hostPort of Pod shop/door"), "{from}: {}", step.why);
    }
    check(door, "world", "node:node1:80", Delivered, &[]);
    let closed = policy("{podSelector: {matchLabels: {app: door}}, ingress: []}");
    check(&format!("{door}{closed}"), "world", "node:node2:80", Denied, &[]);
}
