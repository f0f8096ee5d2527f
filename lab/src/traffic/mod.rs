//! Clients that no ordinary tool is: thousands of flows at once, pairs of datagrams like a resolver's, a conversation that
//! says when another server answers, fragments in an order of one's choice, attempts from a
//! pod's first moment. The end-to-end tests and the bench use them;
//! they run at a place of a lab like any other program:
//!
//! ```text
//! podplane lab exec PLACE -- podplane lab internal traffic '{"kind": "flows", "target": "172.30.0.100:80", "count": 9000}'
//! ```
//! The other end is the built-in test server ([`crate::server`]). Each answers with JSON on standard output; what was lost is
//! a number in it, not a failure.

pub mod conversation;
pub mod flows;
pub mod fragments;
pub mod knock;
pub mod pairs;

use crate::error::{LabError, Result};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Write};
use std::net::{SocketAddr, UdpSocket};

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Traffic {
    /// Many flows to one destination, all open at once.
    Flows(flows::Flows),
    /// Two datagrams at once, as a resolver asks for A and AAAA, again and again.
    Pairs(pairs::Pairs),
    /// One socket that asks at a steady pace who answers, until it is killed.
    Conversation(conversation::Conversation),
    /// One large datagram in fragments.
    Fragments(fragments::Fragments),
    /// Connection attempts from the first moment of a pod's life.
    Knock(knock::Knock),
}

/// Behind `lab internal traffic JSON`; gives the exit code.
pub(crate) fn run(traffic: &Traffic) -> Result<i32> {
    let failed = |e: io::Error| LabError::io("traffic", e);
    match traffic {
        Traffic::Flows(flows) => say(&flows.run()?),
        Traffic::Pairs(pairs) => say(&pairs.run().map_err(failed)?),
        Traffic::Conversation(conversation) => conversation.run().map_err(failed),
        Traffic::Fragments(fragments) => say(&fragments.run().map_err(failed)?),
        Traffic::Knock(knock) => knock.run().map_err(failed),
    }
}

/// Says something on a line of its own, at once: who listens may end this process whenever it likes.
fn say(value: &impl Serialize) -> Result<i32> {
    let mut json = serde_json::to_vec(value).expect("an answer is plain data");
    json.push(b'\n');
    io::stdout().write_all(&json).map_err(|e| LabError::io("standard output", e))?;
    Ok(0)
}

/// A UDP socket connected to `target`, from `source` or whatever the kernel chooses. A given source may be used by several
/// sockets with different targets.
fn connected(target: SocketAddr, source: Option<SocketAddr>) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(target), Type::DGRAM, Some(Protocol::UDP))?;
    if let Some(source) = source {
        socket.set_reuse_address(true)?;
        socket.bind(&source.into())?;
    }
    socket.connect(&target.into())?;
    Ok(socket.into())
}

/// Whether nothing came in time, as the kernel says it.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
