//! Scenes: switches of two nodes joined in memory, packets in words, one behaviour each. After every packet the counters
//! must balance, checksums must be right and the hop limit lowered once; see [`scene::Scene`].

mod allocations;
mod answers;
mod anything;
mod bytes;
mod errors;
mod forwarding;
mod fragments;
mod limits;
mod masquerade;
mod objects;
mod outside_errors;
mod policies;
mod scene;
mod services;
mod spoofing;
mod translation;
mod uplink;
