use super::*;
use crate::objects::parse;

const PODS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: a}}
---
apiVersion: v1
kind: Node
metadata: {name: node1, labels: {zone: a}}
spec: {podCIDRs: [10.244.1.0/24, 'fd00:10:244:1::/64']}
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
metadata: {name: web, namespace: shop, labels: {app: web, tier: front}}
spec: {nodeName: node1, containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
status: {podIPs: [{ip: 10.244.1.3}]}
---
";

/// A NetworkPolicy in namespace shop; `metadata` and `spec` go into the braces.
fn policy(name: &str, metadata: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: shop, {metadata}}}\n\
         spec: {{{spec}}}\n---\n"
    )
}

fn cluster_policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\n\
         spec: {{{spec}}}\n---\n"
    )
}

/// ID, object and field of every finding.
fn found(policies: &[String]) -> Vec<String> {
    let parsed = parse("test.yaml", &[PODS, &policies.concat()].concat());
    assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    let lines = lint(&parsed.objects).into_iter().map(|finding| {
        assert_eq!(finding.file, "test.yaml");
        assert!(finding.message.len() > 20, "{finding:?}");
        format!("{} {} {}", finding.id.id(), finding.name, finding.field)
    });
    lines.collect()
}

const DB: &str = "podSelector: {matchLabels: {app: db}}";

fn ingress(rules: &str) -> String {
    format!("{DB}, ingress: [{rules}]")
}

#[test]
fn sensible_policies_are_silent() {
    let dns = "podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: \
               {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}], \
               ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]}]";
    let web = "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{podSelector: \
               {matchLabels: {app: db}}}], ports: [{port: sql}]}]";
    let policies = [
        policy("deny", "", "podSelector: {}, policyTypes: [Ingress, Egress]"),
        policy("dns", "", dns),
        policy("web", "", web),
        policy("db", "", &ingress("{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: sql}]}")),
        cluster_policy(
            "admin",
            "tier: Admin, priority: 10, subject: {namespaces: {}}, ingress: [{action: Pass, from: [{namespaces: {}}]}]",
        ),
        cluster_policy(
            "base",
            "tier: Baseline, priority: 10, subject: {namespaces: {}}, egress: [{action: Deny, to: [{networks: [203.0.113.0/24]}, {nodes: {}}]}]",
        ),
    ];
    assert_eq!(found(&policies), Vec::<String>::new());
}

#[test]
fn a_policy_that_selects_nothing_is_found() {
    let policies = [
        policy("typo", "", "podSelector: {matchLabels: {app: dbb}}"),
        cluster_policy("none", "tier: Admin, priority: 1, subject: {namespaces: {matchLabels: {team: z}}}"),
        cluster_policy("some", "tier: Admin, priority: 1, subject: {namespaces: {matchLabels: {team: a}}}"),
    ];
    assert_eq!(found(&policies), ["selects-nothing none spec.subject", "selects-nothing typo spec.podSelector"]);
}

#[test]
fn a_peer_that_matches_nothing_is_found() {
    let peers = "{from: [{podSelector: {matchLabels: {app: web}}}, {podSelector: {matchLabels: {app: wbe}}}, \
                 {namespaceSelector: {matchLabels: {team: z}}}]}";
    let nodes = "tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{nodes: {matchLabels: \
                 {zone: a}}}, {nodes: {matchLabels: {zone: z}}}, {pods: {podSelector: {matchLabels: {app: x}}}}]}]";
    let expected = [
        "peer-matches-nothing nodes spec.egress[0].to[1]",
        "peer-matches-nothing nodes spec.egress[0].to[2]",
        "peer-matches-nothing db spec.ingress[0].from[1]",
        "peer-matches-nothing db spec.ingress[0].from[2]",
    ];
    assert_eq!(found(&[policy("db", "", &ingress(peers)), cluster_policy("nodes", nodes)]), expected);
}

#[test]
fn a_rule_that_a_wider_one_covers_is_found_whichever_comes_first() {
    let narrow = "{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}";
    let wide = "{from: [{podSelector: {}}], ports: [{port: 5000, endPort: 6000}]}";
    let other = "{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 80}]}";
    assert_eq!(found(&[policy("db", "", &ingress(&[narrow, wide].join(", ")))]), ["rule-covered db spec.ingress[0]"]);
    assert_eq!(found(&[policy("db", "", &ingress(&[wide, narrow].join(", ")))]), ["rule-covered db spec.ingress[1]"]);
    assert_eq!(found(&[policy("db", "", &ingress(&[wide, other].join(", ")))]), Vec::<String>::new());
    // Across policies: only of one that selects all the pods.
    let all = format!("podSelector: {{}}, ingress: [{wide}]");
    assert_eq!(
        found(&[policy("db", "", &ingress(narrow)), policy("all", "", &all)]),
        ["rule-covered db spec.ingress[0]"]
    );
    let narrow_for_all = format!("podSelector: {{}}, ingress: [{narrow}]");
    assert_eq!(found(&[policy("db", "", &ingress(wide)), policy("all", "", &narrow_for_all)]), Vec::<String>::new());
}

#[test]
fn of_two_rules_that_say_the_same_the_later_one_is_found() {
    let rule = "{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}";
    let same = "{from: [{podSelector: {matchLabels: {tier: front}}}], ports: [{port: sql}]}";
    assert_eq!(found(&[policy("db", "", &ingress(&[rule, same].join(", ")))]), ["rule-covered db spec.ingress[1]"]);
    let (one, two) = (policy("one", "", &ingress(rule)), policy("two", "", &ingress(same)));
    assert_eq!(found(&[one, two]), ["rule-covered two spec.ingress[0]"]);
}

#[test]
fn a_rule_is_not_covered_by_a_policy_in_dry_run() {
    let rule = "{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}";
    let dry = policy("dry", "annotations: {podplane.io/dry-run: 'true'}", &ingress("{}"));
    let expected = ["dry-run dry metadata.annotations[podplane.io/dry-run]"];
    assert_eq!(found(&[policy("db", "", &ingress(rule)), dry]), expected);
}

#[test]
fn rules_that_an_earlier_one_decides_for_are_found_with_what_becomes_of_them() {
    let rules = |first: &str, second: &str| {
        format!(
            "tier: Admin, priority: 5, subject: {{namespaces: {{}}}}, ingress: [{{action: {first}, from: [{{namespaces: {{}}}}]}}, \
             {{action: {second}, from: [{{pods: {{podSelector: {{matchLabels: {{app: web}}}}}}}}]}}]"
        )
    };
    let shadowed = ["rule-shadowed admin spec.ingress[1]"];
    assert_eq!(found(&[cluster_policy("admin", &rules("Deny", "Accept"))]), shadowed);
    assert_eq!(found(&[cluster_policy("admin", &rules("Pass", "Deny"))]), shadowed);
    assert_eq!(found(&[cluster_policy("admin", &rules("Deny", "Deny"))]), ["rule-covered admin spec.ingress[1]"]);
    // The narrow one first: both decide something.
    let swapped = "tier: Admin, priority: 5, subject: {namespaces: {}}, ingress: [{action: Accept, from: [{pods: {podSelector: \
                   {matchLabels: {app: web}}}}]}, {action: Deny, from: [{namespaces: {}}]}]";
    assert_eq!(found(&[cluster_policy("admin", swapped)]), Vec::<String>::new());
    // A rule of a NetworkPolicy that the Admin tier overrules, and one that it leaves alone.
    let np = policy("db", "", &ingress("{from: [{podSelector: {matchLabels: {app: web}}}]}"));
    let deny =
        "tier: Admin, priority: 5, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]";
    assert_eq!(found(&[np.clone(), cluster_policy("admin", deny)]), ["rule-shadowed db spec.ingress[0]"]);
    let pass = deny.replace("Deny", "Pass");
    assert_eq!(found(&[np, cluster_policy("admin", &pass)]), Vec::<String>::new());
}

#[test]
fn equal_priorities_that_contradict_each_other_are_found() {
    let rule = |priority: u16, action: &str, port: u16| {
        format!(
            "tier: Admin, priority: {priority}, subject: {{namespaces: {{}}}}, ingress: [{{action: {action}, from: \
             [{{pods: {{podSelector: {{matchLabels: {{app: web}}}}}}}}], protocols: [{{tcp: {{destinationPort: {{range: {{start: {port}, \
             end: 9000}}}}}}}}]}}]"
        )
    };
    let pair = |one: String, two: String| found(&[cluster_policy("one", &one), cluster_policy("two", &two)]);
    assert_eq!(pair(rule(5, "Accept", 80), rule(5, "Deny", 70)), ["equal-priority two spec.priority"]);
    assert_eq!(pair(rule(5, "Accept", 80), rule(6, "Deny", 70)), Vec::<String>::new());
    assert_eq!(pair(rule(5, "Accept", 80), rule(5, "Accept", 70)), Vec::<String>::new());
    let apart = rule(5, "Deny", 70).replace("9000", "79");
    assert_eq!(pair(rule(5, "Accept", 80), apart), Vec::<String>::new());
}

#[test]
fn a_port_name_that_nobody_has_is_found() {
    let rule = "{from: [{podSelector: {}}], ports: [{port: sql}, {port: psql}, {protocol: UDP, port: sql}]}";
    let egress = "podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: \
                  {app: db}}}], ports: [{port: sql}, {port: http}]}, {ports: [{protocol: UDP, port: 53}]}]";
    let cluster = "tier: Baseline, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], \
                   protocols: [{destinationNamedPort: sql}, {destinationNamedPort: nosql}]}]";
    let expected = [
        "named-port-nowhere base spec.ingress[0].protocols[1].destinationNamedPort",
        "named-port-nowhere db spec.ingress[0].ports[1].port",
        "named-port-nowhere db spec.ingress[0].ports[2].port",
        "named-port-nowhere web spec.egress[0].ports[1].port",
    ];
    let policies = [policy("db", "", &ingress(rule)), policy("web", "", egress), cluster_policy("base", cluster)];
    assert_eq!(found(&policies), expected);
}

#[test]
fn egress_that_forgets_dns_is_found() {
    let web = |rules: &str| {
        let spec = format!("podSelector: {{matchLabels: {{app: web}}}}, policyTypes: [Egress], egress: [{rules}]");
        found(&[policy("web", "", &spec)])
    };
    let db = "{to: [{podSelector: {matchLabels: {app: db}}}]}";
    let forgets = ["egress-without-dns web spec.egress"];
    assert_eq!(web(db), forgets);
    assert_eq!(web(&format!("{db}, {{ports: [{{port: 53}}]}}")), forgets);
    assert_eq!(web(&format!("{db}, {{ports: [{{protocol: UDP, port: 53}}]}}")), Vec::<String>::new());
    let outside = "{to: [{ipBlock: {cidr: 169.254.20.10/32}}], ports: [{protocol: UDP, port: 53}]}";
    assert_eq!(web(&format!("{db}, {outside}")), Vec::<String>::new());
    // Who may connect nowhere has forgotten nothing.
    assert_eq!(web(""), Vec::<String>::new());
}

#[test]
fn address_blocks_that_cannot_be_meant_are_found() {
    let blocks = "{from: [{ipBlock: {cidr: 10.244.1.0/25}}, {ipBlock: {cidr: 10.244.1.3/32}}, {ipBlock: {cidr: 10.244.0.0/16}}, \
                  {ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.0/25, 203.0.113.128/25]}}, \
                  {ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.0/25]}}]}";
    let expected = [
        "ip-block-only-pods db spec.ingress[0].from[0]",
        "ip-block-only-pods db spec.ingress[0].from[1]",
        "ip-block-empty db spec.ingress[0].from[3]",
    ];
    assert_eq!(found(&[policy("db", "", &ingress(blocks))]), expected);
}

#[test]
fn annotations_that_do_nothing_are_found() {
    let with =
        |annotation: &str| found(&[policy("db", &format!("annotations: {{{annotation}: 'true'}}"), &ingress("{}"))]);
    for misspelt in
        ["podplane.io/dryrun", "podplane.io/dry_run", "podplane.com/dry-run", "dry-run", "podplane.io/stablished"]
    {
        assert_eq!(with(misspelt), [format!("unknown-annotation db metadata.annotations[{misspelt}]")]);
    }
    for other in ["example.com/dry-run", "kubernetes.io/description", "argocd.argoproj.io/sync-wave"] {
        assert_eq!(with(other), Vec::<String>::new());
    }
    let dry = "podplane.io/dry-run";
    assert_eq!(with(dry), [format!("dry-run db metadata.annotations[{dry}]")]);
}

#[test]
fn without_pods_only_the_policies_themselves_are_found() {
    let rules = ingress("{from: [{podSelector: {matchLabels: {app: x}}}]}");
    let findings = lint(&parse("test.yaml", &policy("db", "", &rules)).objects);
    assert_eq!(findings.iter().map(|finding| finding.id).collect::<Vec<_>>(), [Check::SelectsNothing]);
}
