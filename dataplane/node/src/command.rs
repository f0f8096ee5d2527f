//! What control asks of a shard, and what shards hand to each other. Both travel on channels; a waker ends the receiver's sleep.

use crate::Counters;
use crate::state::{Left, PortFiles};
use crate::tap::Tap;
use crate::uplink::link::{Interface, Uplink};
use crate::uplink::next_hops::NextHop;
use crossbeam_channel::Sender;
use mio::Waker;
use policy::tables::ServicePortId;
use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use switch::{
    Decider, DropsSeen, FlowInfo, Origin, PolicyHits, PortConfig, PortId, Restored, ServiceHits, ShardId, SourcePool,
    Tables,
};
use wire::Frame;

/// Frames that may wait for one shard, from all others together. Dropping beyond is right: the shard is overloaded.
pub(crate) const HANDOVER_MAX: usize = 1024;

/// Replies of the name server's desk that may wait for one shard: two full windows of a hundred connections.
pub(crate) const REPLIES_MAX: usize = 4096;

/// What control asks of a shard. Each is answered on its channel, in order.
pub(crate) enum Command {
    /// Serve a port from now on; answers with what became of the flows that it is to go on with.
    AddPort(PortConfig, Tap, Option<Kept>, Sender<io::Result<Restored>>),
    /// Serve the uplink from now on; answers likewise.
    AddUplink(PortConfig, Box<Uplink>, Option<Kept>, Sender<io::Result<Restored>>),
    /// The uplink's interfaces are these.
    SetInterfaces(Vec<Interface>),
    /// Packets for this address leave so.
    NextHop(IpAddr, NextHop),
    /// Ask for all next hops again.
    ForgetNextHops,
    /// The uplink may use these source ports.
    GrantSourcePorts(SourcePool, RangeInclusive<u16>),
    /// Whether more may follow.
    SourcePortsGrow(SourcePool, bool),
    /// Stop serving a port and close its device, which removes the interface.
    RemovePort(PortId, Sender<()>),
    /// Judge by these tables; answers with the old ones, to be freed by the asker.
    SetTables(Arc<Tables>, Sender<Option<Arc<Tables>>>),
    /// Tell what was counted.
    Counters(Sender<Counters>),
    /// Tell how often the ports of Services were used.
    ServiceHits(Sender<Vec<(ServicePortId, ServiceHits)>>),
    /// Tell how often policies and their rules decided.
    PolicyHits(Sender<Vec<(Decider, PolicyHits)>>),
    /// Tell what was dropped of late.
    DropsSeen(Sender<DropsSeen>),
    /// List at most so many flows.
    Flows(usize, Sender<Vec<FlowInfo>>),
    /// End the thread.
    Stop,
}

/// Where flows and names of a port are kept, and those that are there.
pub(crate) struct Kept {
    pub(crate) files: PortFiles,
    pub(crate) left: Left,
}

/// A frame for a port of another shard.
pub(crate) struct Handover {
    pub(crate) port: PortId,
    pub(crate) origin: Origin,
    pub(crate) frame: Frame,
    /// Whose pool the buffer goes back to.
    pub(crate) owner: ShardId,
}

/// How to reach another shard.
#[derive(Clone)]
pub(crate) struct Neighbor {
    pub(crate) inbox: Sender<Handover>,
    pub(crate) returns: Sender<Frame>,
    pub(crate) waker: Arc<Waker>,
}
