//! The parser on arbitrary text, and the replay of the committed fuzz corpus.

use policy::invariants;
use proptest::prelude::*;
use std::fs;
use std::path::Path;

/// Pieces that manifests are made of, and that YAML trips over.
const PIECES: [&str; 47] = [
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

#[test]
fn the_corpus_of_objects_parse_holds() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/objects_parse");
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
