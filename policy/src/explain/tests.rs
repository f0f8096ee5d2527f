mod tiers;

use super::*;
use crate::cluster::Cluster;
use crate::compile::compile;
use crate::objects::parse;
use crate::tables::PodIndex;
use wire::Protocol;

const CLUSTER: &str = "
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
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: node1, containers: [{name: c}]}
status: {podIPs: [{ip: 10.244.1.3}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: other}
spec: {nodeName: node1, containers: [{name: c}]}
status: {podIPs: [{ip: 10.244.1.4}]}
---
";

/// What is said about a flow from `peer` to the TCP port of shop/db, under the policy with this spec.
#[track_caller]
fn told(spec: &str, peer: &str, port: u16) -> (bool, Option<String>) {
    let policy = format!(
        "{CLUSTER}apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n"
    );
    let (cluster, _) = Cluster::from_objects(parse("test.yaml", &policy).objects);
    let tables = compile_all(&cluster);
    let subject = tables.find_pod("shop", "db").unwrap();
    let reasoned = judge(&tables, &to_pod(subject, peer, port));
    assert_eq!(reasoned.policies, if reasoned.isolated { vec!["shop/p"] } else { vec![] });
    (reasoned.allowed, reasoned.rule)
}

fn to_pod(subject: PodIndex, peer: &str, port: u16) -> Question<'static> {
    let (direction, protocol) = (Direction::ToPod, Protocol::TCP);
    Question { direction, subject, peer: peer.parse().unwrap(), protocol, port, names: &[] }
}

fn compile_all(cluster: &Cluster) -> Tables {
    compile(cluster, 1).0
}

#[test]
fn the_rule_that_allows_is_named() {
    let spec = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24}}]}, {ports: [{port: sql}]}]}";
    assert_eq!(told(spec, "10.244.1.3", 5432), (true, Some("shop/p spec.ingress[1]".into())));
}

#[test]
fn where_no_policy_applies_there_is_no_rule() {
    assert_eq!(told("{podSelector: {matchLabels: {app: web}}}", "10.244.1.3", 5432), (true, None));
}

#[test]
fn exemptions_are_said() {
    assert_eq!(told("{podSelector: {}}", "10.244.1.2", 1).1.unwrap(), "a pod always reaches itself");
    assert_eq!(told("{podSelector: {}}", "172.30.0.11", 1).1.unwrap(), "a node always reaches its own pods");
}

#[test]
fn a_policy_without_rules_allows_nothing() {
    let text = "shop/p spec.ingress: there is no rule, so nothing is allowed";
    assert_eq!(told("{podSelector: {}}", "10.244.1.3", 80), (false, Some(text.into())));
}

#[test]
fn a_rule_that_fails_in_its_ports_is_nearer_than_one_that_fails_in_its_peers() {
    let spec = "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: x}}}], ports: [{port: 80}]}, \
                {from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: sql}, {port: 90, endPort: 99}]}]}";
    assert_eq!(
        told(spec, "10.244.1.3", 80).1.unwrap(),
        "shop/p spec.ingress[1].ports: TCP 80 is not in [TCP sql (5432), TCP 90-99]"
    );
}

#[test]
fn a_peer_that_does_not_match_is_told_with_its_labels() {
    let spec = "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: api}}}, {namespaceSelector: {}, \
                podSelector: {matchLabels: {role: admin}}}, {ipBlock: {cidr: 10.0.0.0/8, except: [10.244.0.0/16]}}]}]}";
    assert_eq!(
        told(spec, "10.244.1.3", 80).1.unwrap(),
        "shop/p spec.ingress[0].from: shop/web (app=web, 10.244.1.3) is not in [pods with app=api in namespace shop, pods \
         with role=admin in namespaces with any labels, ipBlock 10.0.0.0/8 except 10.244.0.0/16]"
    );
    let text = told(spec, "10.244.1.4", 80).1.unwrap();
    assert!(text.contains("other/stranger (no labels, 10.244.1.4) is not in"), "{text}");
    let text = told(spec, "203.0.113.9", 80).1.unwrap();
    assert!(text.contains("203.0.113.9, an address of no pod or node, is not in"), "{text}");
}

#[test]
fn a_rule_that_fails_is_nearer_than_a_policy_without_rules() {
    let default_deny = "{podSelector: {}}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: q, namespace: \
                        shop}\nspec: {podSelector: {}, ingress: [{ports: [{port: 80}]}]}";
    let policy = format!(
        "{CLUSTER}apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {default_deny}\n"
    );
    let (cluster, _) = Cluster::from_objects(parse("test.yaml", &policy).objects);
    let tables = compile_all(&cluster);
    let subject = tables.find_pod("shop", "db").unwrap();
    let reasoned = judge(&tables, &to_pod(subject, "10.244.1.3", 81));
    assert_eq!(reasoned.policies, ["shop/p", "shop/q"]);
    assert_eq!(reasoned.rule.as_deref(), Some("shop/q spec.ingress[0].ports: TCP 81 is not in [TCP 80]"));
}

#[test]
fn a_rule_that_fails_twice_says_both() {
    let spec =
        "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: http}]}]}";
    let text = told(spec, "10.244.1.3", 80).1.unwrap();
    assert!(
        text.contains(".from: shop/web") && text.contains("; .ports: TCP 80 is not in [TCP http (no port"),
        "{text}"
    );
}
