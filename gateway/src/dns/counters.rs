//! What a responder did, counted.

/// Counts of one responder since it was made; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsCounters {
    /// Queries over UDP, and whatever else came there.
    pub udp: u64,
    /// Queries over TCP, and whatever else came there.
    pub tcp: u64,
    /// Names that are not the cluster's.
    pub forwarded: u64,
    /// ExternalNames that lead out of the cluster.
    pub chased: u64,
    /// Messages that were not answered at all.
    pub silent: u64,
    /// Messages that could not be read and were answered FORMERR.
    pub malformed: u64,
}
