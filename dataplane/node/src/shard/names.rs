//! The cluster DNS at a shard: datagrams about the cluster are answered here, in the buffer that they came in; everything else is the
//! desk's (`gateway::dns::desk`), which replies through a channel.

use super::{FRAMES_PER_TURN, Shard};
use crossbeam_channel::Receiver;
use gateway::dns::desk::{Errand, Errands, Reply};
use gateway::dns::{DnsCounters, Responder, Response, Transport};
use switch::{DropReason, Exit, PortId, Query};
use wire::{Frame, Protocol};

/// What a shard needs to answer.
pub(crate) struct NameServer {
    responder: Responder,
    desk: Errands,
    replies: Receiver<Reply>,
    /// The answer that is made, to be used again.
    answer: Vec<u8>,
}

impl NameServer {
    pub(crate) fn new(responder: Responder, desk: Errands, replies: Receiver<Reply>) -> NameServer {
        NameServer { responder, desk, replies, answer: Vec::new() }
    }

    pub(super) fn counters(&self) -> DnsCounters {
        self.responder.counters()
    }

    pub(super) fn forget_port(&self, id: PortId) {
        // If the desk has too much to do, the port's connections end for want of packets.
        let _ = self.desk.send(Errand::Gone(id));
    }
}

impl Shard {
    /// Answers the cluster DNS from here on.
    pub(crate) fn serve_names(&mut self, names: NameServer) {
        self.names = Some(names);
    }

    pub(super) fn has_replies(&self) -> bool {
        self.names.as_ref().is_some_and(|names| !names.replies.is_empty())
    }

    /// Answers a query, or has it answered.
    pub(super) fn ask(&mut self, query: &Query, frame: &mut Frame) {
        let Some(names) = &mut self.names else { return self.switch.count_drop(DropReason::DnsQueueFull) };
        let errand = if query.asked.protocol == Protocol::TCP {
            Errand::Packet(self.id, *query, query.packet(frame).into())
        } else {
            // Before the first sync there are tables that say nothing.
            let tables = Some(&*self.switch.tables().policy).filter(|policy| policy.epoch > 0);
            let message = query.message(frame);
            match names.responder.respond(tables, Transport::Udp, message, &mut names.answer) {
                Response::Answer => {
                    let made = self.switch.answer(self.now, query, &names.answer, frame);
                    return self.deliver(made, frame);
                }
                Response::Silence => return,
                Response::Forward => Errand::Forward(self.id, *query, message.into()),
                Response::Chase(target) => Errand::Chase(self.id, *query, message.into(), target, names.answer.clone()),
            }
        };
        if !names.desk.send(errand) {
            self.switch.count_drop(DropReason::DnsQueueFull);
        }
    }

    /// Sends what the desk has to say.
    pub(super) fn take_replies(&mut self) {
        if !self.has_replies() {
            return;
        }
        let mut frame = self.pool.take();
        for _ in 0..FRAMES_PER_TURN {
            let Some(Ok(reply)) = self.names.as_ref().map(|names| names.replies.try_recv()) else { break };
            self.saw_traffic = true;
            match reply {
                Reply::Answer(query, message) => {
                    let made = self.switch.answer(self.now, &query, &message, &mut frame);
                    self.deliver(made, &mut frame);
                }
                Reply::Packet(port, packet) => {
                    let made = self.switch.deliver_packet(port, &packet, &mut frame);
                    self.deliver(made, &mut frame);
                }
                Reply::Heard(port, message) => self.switch.hear_answer(self.now, port, &message),
            }
        }
        self.pool.put(frame);
    }

    fn deliver(&mut self, made: Result<Exit, DropReason>, frame: &mut Frame) {
        match made {
            Ok(Exit::Port(id)) => self.write(id, frame),
            Ok(Exit::Shard(..) | Exit::Peer(_)) => unreachable!("who asked has a port of this shard"),
            Err(reason) => self.switch.count_drop(reason),
        }
    }
}
