//! The replay of the committed fuzz corpora.

use std::fs;
use std::path::Path;

/// Calls `invariant` with every file of the corpus `name`.
fn replay(name: &str, files_min: usize, invariant: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files = 0;
    for entry in entries {
        let path = entry.expect("the corpus can be listed").path();
        invariant(&fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
        files += 1;
    }
    assert!(files >= files_min, "{}: {files} files", folder.display());
}

#[test]
fn the_corpus_of_proxy_protocol_holds() {
    replay("proxy_protocol", 7, gateway::invariants::proxy_protocol);
}

#[test]
fn the_corpus_of_dns_query_holds() {
    replay("dns_query", 14, gateway::invariants::dns_query);
}

#[test]
fn the_corpus_of_dns_upstream_answer_holds() {
    replay("dns_upstream_answer", 22, gateway::invariants::dns_upstream_answer);
}
