//! The thread beside the shards that keeps the kernel out of what the uplink carries.
//!
//! # How it works
//! It sleeps until control or the shard asks for something, the kernel tells a change, a node process uses a claimed port, or
//! something is due. It holds the claims ([`super::claims`]) and the source ports ([`super::source_ports`]), sets the filters
//! of the raw sockets ([`super::interfaces`]), answers where packets go ([`super::resolver`]), announces addresses
//! ([`super::announce`]) and relays for the node itself ([`super::relay`]). The shard never waits for it.
//!
//! What is to be served is claimed and let through by the filter before the switch's tables say so; what is served no longer is
//! let go after the tables have changed. So there is no moment in which the kernel answers for a Service.

mod thread;

use super::interfaces::{self, Survey};
use super::link::Uplink;
use super::status::{ClaimFailure, UplinkState, UplinkStatus};
use crate::DataplaneConfig;
use crate::command::Command;
use crate::netlink::{Events as KernelEvents, Netlink};
use crossbeam_channel::{Sender, bounded};
use mio::unix::SourceFd;
use mio::{Interest, Poll, Waker};
use policy::tables::{ServicePortId, Tables};
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use switch::{ServiceHits, SourcePool};
use thread::{KERNEL, Thread, WAKE};
use wire::Protocol;

/// Requests that may wait. Beyond it a shard's question is dropped; the shard asks again.
const REQUESTS_MAX: usize = 4_096;

/// What is asked of the keeper.
pub(crate) enum Request {
    /// Claim what these tables serve at this node's addresses, and relay by them; answers with what could not be claimed.
    Hold(Arc<Tables>, Sender<Vec<ClaimFailure>>),
    /// Let go of what the tables that were held last do not serve.
    LetGo,
    /// Announce exactly these addresses.
    Announce(BTreeSet<IpAddr>),
    /// The shard serves the uplink and its tables know it: grant source ports from now on, these first, because flows have them;
    /// answers when there are some more.
    Begin(Vec<(Protocol, u16)>, Sender<()>),
    /// Tell the state.
    Status(Sender<UplinkStatus>),
    /// Tell the shard where packets for this address go.
    Resolve(IpAddr),
    /// Grant the shard more source ports.
    MoreSourcePorts(SourcePool),
    /// Tell how often node processes used the ports of Services.
    ServiceHits(Sender<Vec<(ServicePortId, ServiceHits)>>),
    /// End the thread.
    Stop,
}

/// The keeper as others see it. Dropping it ends the thread.
pub(crate) struct Keeper {
    requests: Sender<Request>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

/// What the dataplane makes the uplink's port from.
pub(crate) struct Started {
    pub(crate) keeper: Keeper,
    pub(crate) uplink: Box<Uplink>,
    pub(crate) survey: Survey,
}

impl Keeper {
    /// Opens the raw sockets in the network namespace of the calling thread and starts the thread. `shard` is the one that will
    /// serve the uplink. The error says in words why there is no uplink.
    pub(crate) fn start(config: &DataplaneConfig, shard: ShardLine) -> Result<Started, String> {
        let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let mut netlink = Netlink::open().map_err(failed("netlink cannot be asked"))?;
        let events = KernelEvents::open().map_err(failed("netlink does not tell changes"))?;
        let survey = interfaces::survey(&mut netlink, &config.underlay).map_err(failed("netlink cannot be asked"))?;
        if survey.interfaces.is_empty() {
            return Err(
                "no Ethernet interface has the node's addresses, and no default route leads through one".to_owned()
            );
        }
        let poll = Poll::new().map_err(failed("its poll cannot be made"))?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE).map_err(failed("its poll cannot be made"))?);
        let readable = Interest::READABLE;
        poll.registry()
            .register(&mut SourceFd(&events.raw_fd()), KERNEL, readable)
            .map_err(failed("its poll cannot be made"))?;
        let (requests, inbox) = bounded(REQUESTS_MAX);
        let mut thread = Thread::new(config, shard, poll, inbox, netlink, events, survey.clone());
        thread.open_interfaces().map_err(explain)?;
        let mut uplink = Box::new(Uplink::new(requests.clone(), waker.clone()));
        uplink.set_interfaces(thread.interfaces_for_shard());
        let thread = std::thread::Builder::new()
            .name("podplane-uplink".to_owned())
            .spawn(move || thread.run())
            .map_err(failed("its thread cannot be started"))?;
        Ok(Started { keeper: Keeper { requests, waker, thread: Some(thread) }, uplink, survey })
    }

    /// Grants source ports from now on, those `in_use` first; the switch forgets grants that come before its tables know the
    /// uplink. When it returns there are all those and some more.
    pub(crate) fn begin(&self, in_use: Vec<(Protocol, u16)>) {
        self.ask(|reply| Request::Begin(in_use, reply));
    }

    /// Claims what `tables` serve here, before they are in force. Empty if the thread has ended.
    pub(crate) fn hold(&self, tables: Arc<Tables>) -> Vec<ClaimFailure> {
        self.ask(|reply| Request::Hold(tables, reply)).unwrap_or_default()
    }

    /// Lets go of what is served no longer, once the tables are in force.
    pub(crate) fn let_go(&self) {
        self.tell(Request::LetGo);
    }

    /// Announces exactly `addresses`, for which the switch answers already.
    pub(crate) fn announce(&self, addresses: BTreeSet<IpAddr>) {
        self.tell(Request::Announce(addresses));
    }

    /// How often node processes used the ports of Services.
    pub(crate) fn service_hits(&self) -> Vec<(ServicePortId, ServiceHits)> {
        self.ask(Request::ServiceHits).unwrap_or_default()
    }

    /// The state of the uplink.
    pub(crate) fn status(&self) -> UplinkStatus {
        let ended = || UplinkStatus {
            state: UplinkState::Missing("its thread has ended".to_owned()),
            ..UplinkStatus::default()
        };
        self.ask(Request::Status).unwrap_or_else(ended)
    }

    fn tell(&self, request: Request) {
        // Fails only if the thread has ended, and then there is nobody to tell.
        let _ = self.requests.send(request);
        let _ = self.waker.wake();
    }

    fn ask<T>(&self, request: impl FnOnce(Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = bounded(1);
        self.tell(request(reply));
        answer.recv().ok()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.tell(Request::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Why a raw socket was refused, and what to do.
fn explain(error: io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "the process may not open raw sockets: it needs CAP_NET_RAW (run as root, \
            or give the container --cap-add NET_RAW)"
            .to_owned(),
        Some(libc::EAFNOSUPPORT) => "this kernel has no packet sockets (CONFIG_PACKET)".to_owned(),
        _ => format!("a raw socket cannot be opened: {error}"),
    }
}

/// How the keeper reaches the shard of the uplink.
#[derive(Clone)]
pub(crate) struct ShardLine {
    pub(crate) commands: Sender<Command>,
    pub(crate) waker: Arc<Waker>,
}

impl ShardLine {
    fn tell(&self, command: Command) {
        // Fails only if the shard has ended, and then the node ends.
        let _ = self.commands.send(command);
        let _ = self.waker.wake();
    }
}
