//! The parser on arbitrary text, and the replay of the committed fuzz corpus.

use policy::invariants;
use policy::objects::{Severity, parse};
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

/// Pieces that manifests are made of, and that YAML trips over.
const PIECES: [&str; 64] = [
    "apiVersion: v1\n",
    "apiVersion: networking.k8s.io/v1\n",
    "kind: Pod\n",
    "kind: Node\n",
    "kind: Service\n",
    "kind: NetworkPolicy\n",
    "apiVersion: podplane.io/v1alpha1\n",
    "kind: IPAddressPool\n",
    "kind: Endpoints\n",
    "kind: EndpointSlice\n",
    "  addresses: [10.0.0.0/24, 10.0.0.1-x]\n",
    "  type: LoadBalancer\n",
    "  {externalIPs: ['::2', 1.2.3.4], loadBalancerSourceRanges: [0/0], clusterIP: 10.0.0.1, ports: [{port: 1, nodePort: 0}]}\n",
    "apiVersion: gateway.networking.k8s.io/v1\n",
    "kind: Ingress\n",
    "kind: Secret\ndata: {tls.crt: QQ==, tls.key: ''}\nstringData: {tls.key: k}\n",
    "kind: Gateway\n",
    "kind: HTTPRoute\n",
    "kind: ReferenceGrant\n",
    "  rules: [{host: '*.a.b', http: {paths: [{path: /a, pathType: Prefix, backend: {service: {name: s, port: {name: p}}}}]}}]\n",
    "  {gatewayClassName: c, listeners: [{name: l, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: s}]}}]}\n",
    "  rules: [{matches: [{path: {value: '/%2'}}, {x: 1}], filters: [{type: RequestRedirect}], backendRefs: [{name: s}]}]\n",
    "  {from: [{group: a, kind: K, namespace: b}], to: [{group: '', kind: Secret}]}\n",
    "kind: List\n",
    "kind: PodList\n",
    "items:\n",
    "- ",
    "  ",
    "metadata: {name: a}\n",
    "metadata:\n  name: b\n",
    "spec:\n",
    "  podSelector: {}\n",
    "  ingress: [{ports: [{port: http, endPort: 3}]}]\n",
    "  egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], x: 1}]\n",
    "apiVersion: policy.networking.k8s.io/v1alpha2\n",
    "kind: ClusterNetworkPolicy\n",
    "metadata: {name: a, annotations: {podplane.io/closed-rules: 'ingress[0],*', podplane.io/dry-run: x}}\n",
    "  {tier: Admin, priority: 1, subject: {namespaces: {}}}\n",
    "  tier: Baseline\n  priority: 1000\n  subject: {pods: {podSelector: {}}}\n",
    "  ingress: [{action: Deny, from: [{services: {}}, {namespaces: {}}], protocols: [{icmp: {}}]}]\n",
    "  egress: [{action: Pass, to: [{networks: ['::/0']}, {domainNames: ['*.a.b']}], protocols: [{destinationNamedPort: a}]}]\n",
    "  podCIDRs: [10.0.0.0/24, '::/64']\n",
    "  clusterIPs: [10.96.0.1]\n",
    "  ports: [{port: 80}]\n",
    "status: {podIPs: [{ip: 10.0.0.1}]}\n",
    "status: null\n",
    "---\n",
    "--- # comment\n",
    "...\n",
    "%YAML 1.2\n",
    "&a ",
    "*a",
    "<<: *a\n",
    "!!binary ",
    "? ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "|\n",
    "\t",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_without_a_panic(text in any::<String>()) {
        invariants::objects_parse(&text);
    }

    #[test]
    fn any_mixture_of_manifest_pieces_is_read_without_a_panic(
        pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..24)
    ) {
        invariants::objects_parse(&pieces.concat());
    }
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/objects_parse")
}

#[test]
fn the_corpus_has_objects_of_every_fate() {
    let fates = [
        ("cluster_network_policy.yaml", 2, None),
        ("cluster_network_policy_closed.yaml", 3, Some(Severity::Closed)),
        ("cluster_network_policy_refused.yaml", 0, Some(Severity::Refused)),
        ("policy_with_everything.yaml", 1, Some(Severity::Closed)),
        ("ingress.yaml", 4, None),
        ("ingress_refused.yaml", 0, Some(Severity::Refused)),
        ("gateway_api.yaml", 5, None),
        ("gateway_api_refused.yaml", 0, Some(Severity::Refused)),
    ];
    for (file, objects, worst) in fates {
        let text = fs::read_to_string(corpus().join(file)).expect("the file is committed");
        let parsed = parse(file, &text);
        assert_eq!(parsed.objects.len(), objects, "{file}: {:?}", parsed.problems);
        assert_eq!(
            parsed.problems.iter().map(|problem| problem.severity).max(),
            worst,
            "{file}: {:?}",
            parsed.problems
        );
    }
}

#[test]
fn the_corpus_of_objects_parse_holds() {
    let dir = corpus();
    let mut replayed = 0;
    for entry in fs::read_dir(&dir).expect("the corpus is committed") {
        let bytes = fs::read(entry.expect("the corpus can be listed").path()).expect("a corpus file can be read");
        if let Ok(text) = std::str::from_utf8(&bytes) {
            invariants::objects_parse(text);
            replayed += 1;
        }
    }
    assert!(replayed > 0, "the corpus in {} is empty", dir.display());
}
