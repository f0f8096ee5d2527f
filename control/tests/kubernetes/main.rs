//! The Kubernetes API as a source, against a server on loopback that replays recorded answers of a real one, and lies.

mod faults;
mod followed;
mod kinds;
mod load;
mod lying;
mod recorded;
mod restart;
mod server;
mod tls;
