//! Scenes: switches of two nodes joined in memory, packets in words, one behaviour each. After every packet the counters
//! must balance, checksums must be right and the hop limit lowered once; see [`scene::Scene`].

mod affinity;
mod allocations;
mod announced;
mod answers;
mod anything;
mod bytes;
mod cluster_dns;
mod conversations;
mod errors;
mod forwarding;
mod fragments;
mod frontends;
mod host_ports;
mod limits;
mod masquerade;
mod masquerade_all;
mod names;
mod objects;
mod outside_errors;
mod policies;
mod policies_everywhere;
mod policy_modes;
mod records;
mod retry;
mod scene;
mod services;
mod spoofing;
mod stale;
mod translation;
mod uplink;
