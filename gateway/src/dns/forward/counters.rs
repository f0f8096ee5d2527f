//! What a forwarder did, counted.

use crate::dns::count::counts;

counts! {
    /// Counts of one forwarder since it was made; they only grow.
    pub struct ForwardCounters, Counters;
    cached, "Queries that were answered from memory.";
    asked, "Questions that were put to upstreams, each once for all who asked it at that time.";
    joined, "Queries that waited for an answer to a question that had been put already.";
    attempts_udp, "Datagrams sent to upstreams.";
    attempts_tcp, "Connections made to upstreams.";
    mismatched, "Datagrams that were no answer to what was asked: late, or spoofed. Ignored.";
    oversized, "Datagrams that were longer than was asked for. Ignored.";
    malformed, "Answers of upstreams that did not hold together.";
    timeouts, "Attempts that nobody answered in time.";
    unreachable, "Attempts at a server that could not be reached.";
    failed, "Questions that no upstream answered: SERVFAIL.";
    full, "Queries that were answered SERVFAIL because too many questions were waiting.";
    refused, "Queries that nobody is to be asked for: REFUSED.";
    loops, "Servers whose questions came back here.";
}
