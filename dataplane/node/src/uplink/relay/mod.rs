//! Service ports of this node for the node's own processes: at 127.0.0.1, ::1 and the node's addresses (S02, S03, W20).
//!
//! What a process sends to an address of its own machine never leaves the kernel, and a frame that came back in with such a source
//! would be discarded as impossible. So the sockets that claim the ports answer such clients themselves: each connection and
//! each UDP client gets a connection of its own to a backend, through the host TAP, where the switch judges and carries it as
//! anything else that the node sends. The backend sees the node's address.
//!
//! Where a Service has no usable endpoint the client is refused at once, as by a closed port (S11): [`Refusals`].
//!
//! Everything is bounded: connections, sessions, what is buffered per direction, bytes per turn. SCTP is not relayed.

mod choice;
mod refusal;
mod tcp;
mod udp;

pub(crate) use choice::Chooser;
pub(crate) use refusal::Refusals;
pub(crate) use tcp::Connections;
pub(crate) use udp::Sessions;
