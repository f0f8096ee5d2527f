//! Replays the committed fuzz corpus: what a fuzzer once found stays fixed, on machines that have no fuzzer.

use std::fs;
use std::path::Path;
use wire::invariants;

fn replay(target: &str, run: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.expect("the corpus can be listed").path();
        println!("{}", path.display());
        run(&fs::read(&path).expect("a corpus file can be read"));
        count += 1;
    }
    assert!(count > 0, "{} is empty", dir.display());
}

#[test]
fn the_corpus_of_packet_check_holds() {
    replay("packet_check", invariants::packet_check);
}

#[test]
fn the_corpus_of_arp_nd_holds() {
    replay("arp_nd", invariants::arp_nd);
}

#[test]
fn the_corpus_of_rewrite_reverse_holds() {
    replay("rewrite_reverse", invariants::rewrite_reverse);
}

#[test]
fn the_corpus_of_icmp_quote_holds() {
    replay("icmp_quote", invariants::icmp_quote);
}

#[test]
fn the_corpus_of_answers_holds() {
    replay("answers", invariants::answers);
}

#[test]
fn the_corpus_of_fragments_holds() {
    replay("fragments", invariants::fragments);
}
