use super::*;
use crate::cluster::Cluster;
use crate::compile::compile;
use crate::conversation::{Conversation, End};
use crate::objects::parse;
use ipnet::IpNet;
use proptest::prelude::*;
use std::net::IpAddr;
use wire::Protocol;

const PODS: &str = "
apiVersion: v1
kind: Node
metadata: {name: node1}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 172.30.0.11}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {nodeName: node1, containers: [{name: c, ports: [{name: sql, containerPort: 5432}]}]}
status: {podIPs: [{ip: 10.244.1.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {nodeName: node1, containers: []}
status: {podIPs: [{ip: 10.244.1.3}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, namespace: shop, labels: {app: web}}
spec: {nodeName: node1, containers: []}
status: {podIPs: [{ip: 10.244.1.4}]}
---
";

fn policy(name: &str, selector: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{podSelector: {selector}, {spec}}}\n---\n"
    )
}

fn tables(manifests: &str) -> Tables {
    let parsed = parse("test.yaml", manifests);
    assert!(parsed.problems.is_empty(), "{:?}\n{manifests}", parsed.problems);
    compile(&Cluster::from_objects(parsed.objects).0, 1).0
}

fn compared(old: &str, new: &str) -> Diff {
    let (old, new) = (tables(old), tables(new));
    let workloads = Workloads::default();
    diff(Side { tables: &old, workloads: &workloads }, Side { tables: &new, workloads: &workloads })
}

/// One line for each change: who, to whom, what.
fn lines(changes: &[Change]) -> Vec<String> {
    let line = |change: &Change| {
        let flows = change.flows.iter().map(|flows| format!(" {} {}", flows.protocol, flows.ports.join(",")));
        format!("{} -> {}:{}", change.from.text, change.to.text, flows.collect::<String>())
    };
    changes.iter().map(line).collect()
}

#[test]
fn the_same_manifests_change_nothing() {
    let manifests = [PODS, &policy("db", "{}", "ingress: [{ports: [{port: 5432}]}]")].concat();
    assert_eq!(compared(&manifests, &manifests), Diff::default());
}

#[test]
fn a_changed_port_closes_one_and_opens_another_for_all_alike() {
    let with = |port| {
        let rules = format!("ingress: [{{ports: [{{port: {port}}}]}}]");
        [PODS, &policy("db", "{matchLabels: {app: db}}", &rules)].concat()
    };
    let found = compared(&with("sql"), &with("6000, endPort: 6002"));
    assert_eq!(lines(&found.opens), ["shop/web-1, shop/web-2, everything outside -> shop/db: TCP 6000-6002"]);
    assert_eq!(lines(&found.closes), ["shop/web-1, shop/web-2, everything outside -> shop/db: TCP 5432"]);
    assert_eq!(found.opens[0].now, "ingress of shop/db: shop/db spec.ingress[0]");
    assert!(found.closes[0].now.contains("TCP 5432 is not in"), "{found:#?}");
    assert_eq!(found.closes[0].to.pods, ["shop/db"]);
}

#[test]
fn addresses_outside_are_told_as_the_networks_that_change() {
    let with = |except| {
        let block = format!("egress: [{{to: [{{ipBlock: {{cidr: 203.0.113.0/24, except: [{except}]}}}}]}}]");
        [PODS, &policy("web", "{matchLabels: {app: web}}", &format!("policyTypes: [Egress], {block}"))].concat()
    };
    let found = compared(&with("203.0.113.0/26"), &with("203.0.113.64/26"));
    let all = "TCP 1-65535 UDP 1-65535 SCTP 1-65535 ICMP ";
    assert_eq!(lines(&found.opens), [format!("shop/web-1, shop/web-2 -> outside 203.0.113.0/26: {all}")]);
    assert_eq!(lines(&found.closes), [format!("shop/web-1, shop/web-2 -> outside 203.0.113.64/26: {all}")]);
}

#[test]
fn pods_that_only_one_side_has_are_listed_and_open_nothing() {
    let without = PODS.split("---").take(3).collect::<Vec<_>>().join("---");
    let found = compared(PODS, &without);
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!((found.pods.only_old.as_slice(), found.pods.only_new.len()), (&["shop/web-2".to_owned()][..], 0));
}

#[test]
fn a_label_that_moves_a_pod_between_policies_changes_its_flows_only() {
    let policies =
        policy("db", "{matchLabels: {app: db}}", "ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]");
    let old = [PODS, &policies].concat();
    let found = compared(&old, &old.replace("web-2, namespace: shop, labels: {app: web}", "web-2, namespace: shop"));
    assert!(found.opens.is_empty(), "{found:#?}");
    assert_eq!(lines(&found.closes), ["shop/web-2 -> shop/db: TCP 1-65535 UDP 1-65535 SCTP 1-65535 ICMP "]);
}

#[test]
fn pods_of_a_workload_are_matched_though_their_names_change() {
    let parsed = |name: &str, label: &str| {
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: {label}, pod-template-hash: h{name}}}, \
             ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: front-h{name}, uid: u, controller: true}}]}}\n\
             spec: {{nodeName: node1, containers: []}}\nstatus: {{podIPs: [{{ip: 10.244.1.9}}]}}\n---\n"
        );
        let rule =
            policy("db", "{matchLabels: {app: db}}", "ingress: [{from: [{podSelector: {matchLabels: {app: one}}}]}]");
        parse("test.yaml", &[PODS, &pod, &rule].concat()).objects
    };
    let (old, new) = (parsed("a", "one"), parsed("b", "two"));
    let workloads = (Workloads::of(&old), Workloads::of(&new));
    let tables = |objects| compile(&Cluster::from_objects(objects).0, 1).0;
    let (old, new) = (tables(old), tables(new));
    assert_eq!(workloads.0.find("shop", "a"), Some("front"));
    let found = diff(Side { tables: &old, workloads: &workloads.0 }, Side { tables: &new, workloads: &workloads.1 });
    assert_eq!(lines(&found.closes), ["shop/b -> shop/db: TCP 1-65535 UDP 1-65535 SCTP 1-65535 ICMP "]);
    assert_eq!(found.pods, Unmatched::default());
}

#[test]
fn pods_that_all_lose_each_other_are_one_change() {
    let found = compared(PODS, &[PODS, &policy("deny", "{}", "policyTypes: [Ingress]")].concat());
    let all = "TCP 1-65535 UDP 1-65535 SCTP 1-65535 ICMP ";
    assert_eq!(lines(&found.closes), [format!("every pod (3), everything outside -> every pod (3): {all}")]);
    assert_eq!(found.closes[0].before, "no policy decides it");
}

#[test]
fn names_of_the_dns_that_open_and_close_are_told_as_rules_write_them() {
    let with = |rules: &str| {
        let policy = format!(
            "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: out}}\n\
             spec: {{tier: Admin, priority: 1, subject: {{namespaces: {{}}}}, egress: [{rules}{{action: Deny, to: [{{networks: [0.0.0.0/0]}}]}}]}}\n"
        );
        [PODS, &policy].concat()
    };
    let accept = |names: &str| with(&format!("{{action: Accept, to: [{{domainNames: [{names}]}}]}}, "));
    let all = "TCP 1-65535 UDP 1-65535 SCTP 1-65535 ICMP ";
    let found = compared(&accept("api.example.com, '*.example.org'"), &accept("api.example.com"));
    assert_eq!(lines(&found.closes), [format!("every pod (3) -> *.example.org: {all}")]);
    assert_eq!((found.opens.len(), found.closes[0].to.names.as_slice()), (0, &["*.example.org".to_owned()][..]));
    let found = compared(&with(""), &accept("api.example.com"));
    assert_eq!(lines(&found.opens), [format!("every pod (3) -> api.example.com: {all}")]);
    assert!(found.closes.is_empty(), "{found:#?}");
}

/// A thousand pods in a hundred groups: what is asked grows with the groups, and nothing at all is asked about pairs that
/// the change does not concern.
#[test]
fn pods_alike_are_asked_about_once() {
    let mut manifests = String::new();
    for pod in 0..1000 {
        let (app, high, low) = (pod % 100, pod / 250, pod % 250 + 2);
        manifests.push_str(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{pod}, namespace: shop, labels: {{app: a{app}}}}}\n\
             status: {{podIPs: [{{ip: 10.244.{high}.{low}}}]}}\n---\n"
        ));
    }
    for app in 0..100 {
        let from = format!("ingress: [{{from: [{{podSelector: {{matchLabels: {{app: a{}}}}}}}]}}]", (app + 1) % 100);
        manifests.push_str(&policy(&format!("a{app}"), &format!("{{matchLabels: {{app: a{app}}}}}"), &from));
    }
    let changed = manifests.replace("{app: a1}}}]}]", "{app: a7}}}]}]");
    let (old, new) = (tables(&manifests), tables(&changed));
    let workloads = Workloads::default();
    let (old, new) = (Side { tables: &old, workloads: &workloads }, Side { tables: &new, workloads: &workloads });
    let cuts = Cuts::default();
    let (pairs, peers) = (Pairs::of(old, new, &cuts), Peers::of(old.tables, new.tables, &cuts));
    assert_eq!((pairs.pairs.len(), pairs.groups.len()), (1000, 100));
    assert_eq!(pairs.groups.iter().filter(|group| group.receives_otherwise).count(), 1);
    let mut judge = Judge::new(old.tables, new.tables, &pairs, &peers, &cuts);
    let edges = judge.run();
    assert!(judge.asked < 1000, "{} flows were compared", judge.asked);
    assert_eq!(edges.len(), 2);
    let found = diff(old, new);
    assert_eq!((found.opens.len(), found.closes.len()), (1, 1), "{found:#?}");
    assert_eq!((found.opens[0].from.pods.len(), found.opens[0].to.pods.len()), (10, 10));
}

fn pod_text(number: usize, app: usize, port: usize) -> String {
    let (namespace, name) = (["red", "blue"][number % 2], ["p0", "p1", "p2", "p3", "p4"][number]);
    let port = [8080, 8081, 53][port];
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: a{app}}}}}\n\
         spec: {{nodeName: node{}, containers: [{{name: c, ports: [{{name: http, containerPort: {port}}}]}}]}}\n\
         status: {{podIPs: [{{ip: 10.244.{}.{}}}, {{ip: 'fd00::{}:{}'}}]}}\n---\n",
        1 + number % 2,
        1 + number % 2,
        number + 2,
        1 + number % 2,
        number + 2
    )
}

const NODES: &str = "
apiVersion: v1
kind: Node
metadata: {name: node1}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 172.30.0.11}]}
---
apiVersion: v1
kind: Node
metadata: {name: node2, labels: {zone: a}}
spec: {podCIDRs: [10.244.2.0/24]}
status: {addresses: [{type: InternalIP, address: 172.30.0.12}]}
---
";

fn peer() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("{podSelector: {}}".to_owned()),
        (0..3usize).prop_map(|app| format!("{{podSelector: {{matchLabels: {{app: a{app}}}}}}}")),
        (0..3usize)
            .prop_map(|app| format!("{{namespaceSelector: {{}}, podSelector: {{matchLabels: {{app: a{app}}}}}}}")),
        Just("{ipBlock: {cidr: 10.244.1.0/24, except: [10.244.1.4/32]}}".to_owned()),
        Just("{ipBlock: {cidr: 172.30.0.0/28}}".to_owned()),
        Just("{ipBlock: {cidr: 0.0.0.0/0, except: [203.0.113.0/25]}}".to_owned()),
        Just("{ipBlock: {cidr: 'fd00::/64'}}".to_owned()),
    ]
}

fn port_text() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("{port: 8080}"),
        Just("{port: http}"),
        Just("{protocol: UDP, port: 53}"),
        Just("{protocol: SCTP}"),
        Just("{port: 8000, endPort: 8080}"),
    ]
}

fn policy_text() -> impl Strategy<Value = String> {
    let rule = (proptest::collection::vec(peer(), 0..3), proptest::collection::vec(port_text(), 0..3));
    let rules = proptest::collection::vec(rule, 0..3);
    (0..2usize, 0..4usize, any::<bool>(), rules).prop_map(|(namespace, app, egress, rules)| {
        let (kind, list, peers) = if egress { ("Egress", "egress", "to") } else { ("Ingress", "ingress", "from") };
        let selector = if app == 3 { "{}".to_owned() } else { format!("{{matchLabels: {{app: a{app}}}}}") };
        let rules = rules
            .iter()
            .map(|(from, ports)| format!("{{{peers}: [{}], ports: [{}]}}", from.join(", "), ports.join(", ")));
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: NAME, namespace: {}}}\n\
             spec: {{podSelector: {selector}, policyTypes: [{kind}], {list}: [{}]}}\n---\n",
            ["red", "blue"][namespace],
            rules.collect::<Vec<_>>().join(", ")
        )
    })
}

/// Rules of ClusterNetworkPolicies; the first word is the direction.
fn cluster_policy_text() -> impl Strategy<Value = String> {
    let peer = prop_oneof![
        Just("{namespaces: {}}".to_owned()),
        (0..3usize).prop_map(|app| format!("{{pods: {{podSelector: {{matchLabels: {{app: a{app}}}}}}}}}")),
        Just("EGRESS{networks: [10.244.1.0/28, 'fd00::/32']}".to_owned()),
        Just("EGRESS{nodes: {matchLabels: {zone: a}}}".to_owned()),
    ];
    let protocols = prop_oneof![
        Just(""),
        Just(", protocols: [{tcp: {destinationPort: {number: 8080}}}]"),
        Just(", protocols: [{destinationNamedPort: http}, {udp: {destinationPort: {range: {start: 50, end: 53}}}}]"),
    ];
    let action = prop_oneof![Just("Accept"), Just("Deny"), Just("Pass")];
    let rule = (action, proptest::collection::vec(peer, 1..3), protocols);
    (any::<bool>(), 0..3usize, any::<bool>(), proptest::collection::vec(rule, 1..3)).prop_map(
        |(admin, priority, egress, rules)| {
            let (tier, list, peers) = if egress {
                (["Baseline", "Admin"], "egress", "to")
            } else {
                (["Baseline", "Admin"], "ingress", "from")
            };
            let rules = rules.into_iter().map(|(action, from, protocols)| {
                let mut from: Vec<String> = from
                    .into_iter()
                    .filter(|peer| egress || !peer.starts_with("EGRESS"))
                    .map(|peer| peer.replace("EGRESS", ""))
                    .collect();
                if from.is_empty() {
                    from.push("{namespaces: {matchLabels: {kubernetes.io/metadata.name: red}}}".to_owned());
                }
                // The API refuses named ports where there are no pods.
                let no_pods = from.iter().any(|peer| peer.contains("networks") || peer.contains("nodes"));
                let protocols = if no_pods {
                    protocols.replace("{destinationNamedPort: http}, ", "")
                } else {
                    protocols.to_owned()
                };
                format!("{{action: {action}, {peers}: [{}]{protocols}}}", from.join(", "))
            });
            format!(
                "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: NAME}}\n\
                 spec: {{tier: {}, priority: {priority}, subject: {{namespaces: {{}}}}, {list}: [{}]}}\n---\n",
                tier[usize::from(admin)],
                rules.collect::<Vec<_>>().join(", ")
            )
        },
    )
}

fn side() -> impl Strategy<Value = (Vec<(usize, usize)>, Vec<String>)> {
    let pods = proptest::collection::vec((0..3usize, 0..3usize), 5);
    (pods, proptest::collection::vec(prop_oneof![2 => policy_text(), 1 => cluster_policy_text()], 0..5))
}

fn manifests(pods: &[(usize, usize)], policies: &[String]) -> String {
    let pods = pods.iter().enumerate().map(|(number, (app, port))| pod_text(number, *app, *port));
    let policies = policies.iter().enumerate().map(|(number, text)| text.replace("NAME", &format!("n{number}")));
    NODES.to_owned() + &pods.chain(policies).collect::<String>()
}

/// Whether a change is about the flow.
fn concerns(change: &Change, from: &Place, to: &Place, ipv4: bool, protocol: Protocol, port: u16) -> bool {
    let has_port = |text: &String| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        (first.parse::<u16>().unwrap()..=last.parse().unwrap()).contains(&port)
    };
    let flows = change.flows.iter().any(|flows| {
        flows.protocol == protocol.to_string() && (flows.ports.is_empty() || flows.ports.iter().any(has_port))
    });
    let family = change.family.is_none_or(|family| (family == 4) == ipv4);
    flows && family && is_in(&change.from, from) && is_in(&change.to, to)
}

enum Place {
    Pod(String, PodIndex, PodIndex, IpAddr),
    Node(String, IpAddr),
    Outside(IpAddr),
}

impl Place {
    fn addr(&self) -> IpAddr {
        match self {
            Place::Pod(_, _, _, addr) | Place::Node(_, addr) | Place::Outside(addr) => *addr,
        }
    }

    fn ends(&self) -> (End, End) {
        let addr = self.addr();
        match self {
            Place::Pod(_, old, new, _) => (End { addr, pod: Some(*old) }, End { addr, pod: Some(*new) }),
            _ => (End { addr, pod: None }, End { addr, pod: None }),
        }
    }
}

fn is_in(party: &Party, place: &Place) -> bool {
    match place {
        Place::Pod(name, ..) => party.pods.contains(name),
        Place::Node(name, addr) => party.nodes.iter().any(|node| node == name || *node == format!("{name} {addr}")),
        Place::Outside(addr) => party.outside.iter().any(|cidr| cidr.parse::<IpNet>().unwrap().contains(addr)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Every flow of a grid that is finer than what rules say is told exactly if it differs, and once.
    #[test]
    fn a_diff_is_what_asking_about_every_flow_gives(old in side(), new in side(), keep in any::<bool>(), keep_pods in any::<bool>()) {
        let mut new = new;
        if keep { new.1.extend(old.1.iter().take(2).cloned()); }
        if keep_pods { new.0 = old.0.clone(); }
        let (old, new) = (tables(&manifests(&old.0, &old.1)), tables(&manifests(&new.0, &new.1)));
        let workloads = Workloads::default();
        let found = diff(Side { tables: &old, workloads: &workloads }, Side { tables: &new, workloads: &workloads });
        let mut places = Vec::new();
        for (index, pod) in new.pods() {
            let before = old.find_pod(&pod.namespace, &pod.name).unwrap();
            let name = format!("{}/{}", pod.namespace, pod.name);
            places.extend(pod.addresses.iter().map(|addr| Place::Pod(name.clone(), before, index, *addr)));
        }
        for (name, addr) in [("node1", "172.30.0.11"), ("node2", "172.30.0.12"), ("node1", "10.244.1.1")] {
            places.push(Place::Node(name.to_owned(), addr.parse().unwrap()));
        }
        for addr in ["0.0.0.0", "10.244.1.0", "10.244.1.255", "10.244.2.0", "172.30.0.1", "172.30.0.16", "203.0.112.255",
            "203.0.113.0", "203.0.113.127", "203.0.113.128", "255.255.255.255", "::", "fd00::1", "fd00:0:0:1::", "ffff::"] {
            places.push(Place::Outside(addr.parse().unwrap()));
        }
        for from in &places {
            for to in &places {
                let (from_ends, to_ends) = (from.ends(), to.ends());
                if from.addr() == to.addr() || from.addr().is_ipv4() != to.addr().is_ipv4() { continue }
                if from_ends.0.pod.is_none() && to_ends.0.pod.is_none() { continue }
                if let (Place::Node(name, _), Place::Pod(_, _, index, _)) = (from, to)
                    && new.pod(*index).node == new.find_node(name)
                {
                    continue;
                }
                let ports = [1, 52, 53, 54, 7999, 8000, 8079, 8080, 8081, 8082, 65535];
                for protocol in [Protocol::TCP, Protocol::UDP, Protocol::SCTP, Protocol::ICMP] {
                    for port in ports {
                        let flow = |tables, from, to| {
                            let port = if protocol.has_ports() { port } else { 0 };
                            Conversation { tables, from, to, protocol, port, names: &[] }.is_allowed()
                        };
                        let before = flow(&old, from_ends.0, to_ends.0);
                        let after = flow(&new, from_ends.1, to_ends.1);
                        let ipv4 = from.addr().is_ipv4();
                        let count = |changes: &[Change]| {
                            changes.iter().filter(|change| concerns(change, from, to, ipv4, protocol, port)).count()
                        };
                        let told = (count(&found.opens), count(&found.closes));
                        let expected = (usize::from(after && !before), usize::from(before && !after));
                        prop_assert_eq!(told, expected, "{} -> {} {}/{}: {:#?}", from.addr(), to.addr(), protocol, port, found);
                    }
                }
            }
        }
    }
}
