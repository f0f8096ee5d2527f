//! What hostile clients send, against the whole proxy over real connections: raw bytes in, and it is looked at what the client
//! got, whether its connection was closed, and what the backend saw: nothing, or exactly the requests that were meant.
//!
//! Smuggling forms are those of RFC 9112 11.2 and of what was published about servers that read one message in two ways; floods
//! are those with a CVE of their own.

// Modules of a test crate are for each other.
#![allow(unreachable_pub)]

mod any_bytes;
mod backend;
mod bench;
mod chunks;
mod framing;
mod h2;
mod h2_floods;
mod heads;
mod limits;
