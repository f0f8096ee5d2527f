//! Discarded packets as the API shows them: counted by reason, and the most recent ones one by one.

use super::Endpoint;
use serde::{Deserialize, Serialize};

/// Frames that were discarded for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drop {
    /// The reason, stable for scripts.
    pub reason: String,
    /// The same in one sentence.
    pub explanation: String,
    /// How many; 0 where only a dry run would have discarded something.
    pub count: u64,
    /// The most recent ones, the last first. A port has room for 128 records and a shard for 1024; older ones give way. What is of no
    /// interest to anybody is counted and not recorded, such as `left-to-kernel`.
    #[serde(default)]
    pub recent: Vec<RecentDrop>,
}

/// Packets from one address to another that were discarded at one port for one reason, whatever their source port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentDrop {
    /// The reason, as in [`Drop::reason`].
    pub reason: String,
    /// Nothing was discarded: policies in dry run would have done it if they were in force.
    pub dry_run: bool,
    /// How many packets; with `dry_run` how many flows.
    pub count: u64,
    /// When the first one was, in milliseconds since 1970 (UTC).
    pub first_unix_ms: u64,
    /// When the last one was.
    pub last_unix_ms: u64,
    /// The port that judged them, or else that sent them; absent for what reached no port of this node.
    pub port: Option<u32>,
    /// Whose port that is: `NAMESPACE/POD`, `node`, `uplink`.
    pub owner: Option<String>,
    /// Where policy denies: `egress` at the sender, `ingress` at the receiver; absent for other reasons.
    pub direction: Option<String>,
    /// `TCP`, `UDP`, ...; absent for what is no IP packet.
    pub protocol: Option<String>,
    /// Who sent the last of them, as it was sent.
    pub from: Option<Endpoint>,
    /// Where to, as it was sent.
    pub to: Option<Endpoint>,
    /// The Service behind `to` as `NAMESPACE/NAME`, if it is one.
    pub service: Option<String>,
    /// Where it was led, if that is not `to`.
    pub backend: Option<Endpoint>,
    /// The source that it was given, if that is not `from`.
    pub source: Option<Endpoint>,
    /// Why: of a denial, what `podplane explain` says about it under the policies that are in force now.
    pub why: String,
}

impl RecentDrop {
    /// Whether `other` is the same record at another time.
    pub fn is_same(&self, other: &RecentDrop) -> bool {
        let of = |end: &Option<Endpoint>| end.as_ref().map(|end| end.address);
        let sides = |drop: &RecentDrop| (of(&drop.from), of(&drop.to), of(&drop.backend), of(&drop.source));
        let port = |drop: &RecentDrop| drop.backend.as_ref().or(drop.to.as_ref()).map(|end| end.port);
        (&self.reason, self.dry_run, self.port, &self.protocol)
            == (&other.reason, other.dry_run, other.port, &other.protocol)
            && sides(self) == sides(other)
            && port(self) == port(other)
    }
}
