//! The uplink on the shard that serves it: one more port, whose frames come from raw sockets.

use super::{FRAMES_PER_TURN, Shard, Source, UPLINK_BASE};
use crate::command::Kept;
use crate::tap::Received;
use crate::uplink::keeper::Request;
use crate::uplink::link::{INTERFACES_MAX, Interface, Uplink};
use mio::unix::SourceFd;
use mio::{Interest, Token};
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use switch::{PortConfig, PortId, Restored, SourcePool};
use wire::Frame;

/// The uplink's port.
pub(super) struct UplinkPort {
    pub(super) id: PortId,
    pub(super) io: Box<Uplink>,
    /// Which of its interfaces are in the ready list.
    is_ready: [bool; INTERFACES_MAX],
    /// Pools that want ports and that the keeper has not been told of.
    untold: Vec<SourcePool>,
}

impl Shard {
    /// Serves the uplink from now on.
    pub(super) fn add_uplink(
        &mut self,
        config: PortConfig,
        io: Box<Uplink>,
        kept: Option<Kept>,
    ) -> io::Result<Restored> {
        self.poll_interfaces(io.interfaces())?;
        let id = config.id;
        self.uplink = Some(UplinkPort { id, io, is_ready: [false; INTERFACES_MAX], untold: Vec::new() });
        self.switch.add_port(config);
        Ok(self.keep_flows_of(id, kept))
    }

    /// The node's addresses are on other interfaces, or the interfaces are new.
    pub(super) fn set_interfaces(&mut self, interfaces: Vec<Interface>) {
        let Some(uplink) = &mut self.uplink else { return };
        for old in uplink.io.set_interfaces(interfaces) {
            let _ = self.poll.registry().deregister(&mut SourceFd(&old.socket.as_raw_fd()));
        }
        let interfaces = uplink.io.interfaces().to_vec();
        // Refused only for want of memory; then nothing is received until they change again.
        let _ = self.poll_interfaces(&interfaces);
    }

    fn poll_interfaces(&self, interfaces: &[Interface]) -> io::Result<()> {
        interfaces.iter().zip(UPLINK_BASE..).try_for_each(|(interface, token)| {
            let descriptor = interface.socket.as_raw_fd();
            self.poll.registry().register(&mut SourceFd(&descriptor), Token(token), Interest::READABLE)
        })
    }

    pub(super) fn mark_uplink_ready(&mut self, which: usize) {
        if let Some(uplink) = &mut self.uplink
            && !mem::replace(&mut uplink.is_ready[which], true)
        {
            self.ready.push_back(Source::Uplink(which));
        }
    }

    pub(super) fn clear_uplink_ready(&mut self, which: usize) {
        if let Some(uplink) = &mut self.uplink {
            uplink.is_ready[which] = false;
        }
    }

    /// Reads frames that came from outside; `true` if none is left.
    pub(super) fn serve_uplink(&mut self, which: usize) -> bool {
        let mut frame = self.pool.take();
        let mut drained = false;
        for _ in 0..FRAMES_PER_TURN {
            let Some(uplink) = &mut self.uplink else { break };
            match uplink.io.receive(which, &mut frame) {
                Received::Frame => {
                    let fate = self.switch.from_uplink(self.now, uplink.id, &mut frame);
                    self.dispatch(fate, &mut frame);
                }
                Received::Bad(reason) => self.switch.count_drop(reason),
                Received::Nothing | Received::Failed | Received::Gone => {
                    drained = true;
                    break;
                }
            }
        }
        self.pool.put(frame);
        drained
    }

    /// Sends a frame out, if `id` is the uplink's port.
    pub(super) fn write_uplink(&mut self, id: PortId, frame: &mut Frame) -> bool {
        let Some(uplink) = self.uplink.as_mut().filter(|uplink| uplink.id == id) else { return false };
        if let Err(reason) = uplink.io.send(self.now, frame, &mut self.scratch) {
            self.switch.count_drop(reason);
        }
        true
    }

    /// Has the keeper claim more source ports, if the switch wants some.
    pub(super) fn ask_for_source_ports(&mut self) {
        let Some(uplink) = &mut self.uplink else { return };
        while let Some(pool) = self.switch.take_wanted_source_ports() {
            uplink.untold.push(pool);
        }
        let io = &uplink.io;
        uplink.untold.retain(|pool| !io.ask(Request::MoreSourcePorts(*pool)));
    }
}
