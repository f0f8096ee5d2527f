//! Packets of a scene: from words to frames, through the switches, and what became of them in words again.

use super::*;
use crate::bytes::{self, FLAGS, Sketch};
use overlay::vxlan;
use std::fmt::Write;
use switch::{DropReason, Exit, Fate, GATEWAY_MAC};
use wire::{FRAME_MAX_BYTES, Frame, Offload, Packet};

impl Scene {
    /// Sends the packet of `input` (`SENDER: WORDS`) and compares what becomes of it (`RECEIVER: WORDS` or `drop REASON`).
    #[track_caller]
    pub(crate) fn check(&mut self, input: &str, expect: &str) {
        let actual = self.send(input);
        assert_eq!(actual, expect, "\n  input: {input}\n{}", self.report());
    }

    /// What becomes of the packet of `input`.
    pub(crate) fn send(&mut self, input: &str) -> String {
        let (sender, sketch, offload) = self.sketch(input);
        let mut frame = Frame::from_bytes(&sketch.bytes());
        frame.offload = offload;
        self.send_frame(&sender, &mut frame)
    }

    /// The packet of `SENDER: WORDS`.
    pub(crate) fn sketch(&self, input: &str) -> (String, Sketch, Offload) {
        let (sender, packet) = input.split_once(": ").expect("SENDER: PACKET");
        let words: Vec<&str> = packet.split_whitespace().collect();
        let v6 = words[0].ends_with('6');
        let value = |key: &str| words.iter().find_map(|w| w.strip_prefix(key));
        let number = |key: &str, otherwise: usize| value(key).map_or(otherwise, |v| v.parse().expect("a number"));
        let (dst_name, dst_port) = match words[3].rsplit_once(':').map(|(name, port)| (name, port.parse())) {
            Some((name, Ok(port))) if words[3].parse::<Ipv6Addr>().is_err() => (name, port),
            _ => (words[3], 0),
        };
        let src_port: u16 = words[1].parse().expect("a source port or identifier");
        let len = number("len=", 20);
        let (protocol, l4) = match words[0].trim_end_matches('6') {
            "tcp" => {
                let flags = FLAGS.iter().find(|(name, _)| words.contains(name)).expect("TCP flags").1;
                let payload = if flags == 0x18 { len } else { 0 };
                (Protocol::TCP, bytes::tcp(src_port, dst_port, flags, payload))
            }
            "udp" => (Protocol::UDP, bytes::udp(src_port, dst_port, len)),
            "sctp" => (Protocol::SCTP, bytes::sctp(src_port, dst_port, number("chunk=", 1) as u8)),
            "ping" | "pong" => {
                let protocol = if v6 { Protocol::ICMPV6 } else { Protocol::ICMP };
                (protocol, bytes::echo(!v6, words[0].starts_with("ping"), src_port, len))
            }
            other => panic!("no such packet: {other}"),
        };
        let sketch = Sketch {
            src_mac: value("mac=").map_or_else(|| self.entry(sender).3, |mac| mac.parse().unwrap()),
            dst_mac: if self.entry(sender).2 == UPLINK_PORT { uplink_mac(1) } else { GATEWAY_MAC },
            src: self.address(value("from=").unwrap_or(sender), v6),
            dst: self.address(dst_name, v6),
            ttl: number("ttl=", 64) as u8,
            dont_fragment: !words.contains(&"may-be-cut"),
            protocol,
            l4,
        };
        let offload = match value("segments=") {
            None => Offload::NONE,
            Some(size) => Offload {
                checksum: wire::Checksum::Partial,
                segmentation: Some(wire::Segmentation {
                    kind: if protocol == Protocol::TCP {
                        wire::SegmentationKind::Tcp
                    } else {
                        wire::SegmentationKind::Udp
                    },
                    size_bytes: size.parse().unwrap(),
                    ecn: false,
                }),
            },
        };
        (sender.to_owned(), sketch, offload)
    }

    /// Sends a frame as `sender`.
    pub(crate) fn send_frame(&mut self, sender: &str, frame: &mut Frame) -> String {
        let (mut node, shard, port, _) = self.entry(sender);
        let now = self.now;
        let before = Packet::check(frame.bytes()).ok();
        if port == UPLINK_PORT && !sender.contains('@') {
            let named =
                before.and_then(|packet| (1..=2).find(|n| packet.dst == node_v4(*n) || packet.dst == node_v6(*n)));
            node = named.unwrap_or(node);
        }
        let switch = &mut self.nodes[node - 1].shards[usize::from(shard)];
        let fate = match port {
            HOST_PORT => switch.from_host(now, port, frame),
            UPLINK_PORT => switch.from_uplink(now, port, frame),
            _ => switch.from_pod(now, port, frame),
        };
        let outcome = self.follow(node, shard, fate, frame, before);
        self.release();
        outcome
    }

    /// Lets the switches send what they held; [`Scene::released`] has what became of it.
    fn release(&mut self) {
        let mut frame = Frame::with_capacity(FRAME_MAX_BYTES);
        while let Some((node, shard)) = self.pending() {
            let switch = &mut self.nodes[node - 1].shards[usize::from(shard)];
            let fate = switch.release(self.now, &mut frame).expect("something is pending");
            let outcome = self.follow(node, shard, fate, &mut frame, None);
            self.released.push(outcome);
        }
        for node in &self.nodes {
            assert!(node.shards.iter().all(|s| s.counters().balance()), "the counters balance");
        }
    }

    fn pending(&self) -> Option<(usize, u16)> {
        let shards =
            (1..).zip(&self.nodes).flat_map(|(node, of)| (0..).zip(&of.shards).map(move |(n, s)| (node, n, s)));
        shards.filter(|(.., switch)| switch.has_pending()).map(|(node, shard, _)| (node, shard)).next()
    }

    /// What became of the frames that the switches held, since this was asked last.
    pub(crate) fn released(&mut self) -> Vec<String> {
        std::mem::take(&mut self.released)
    }

    /// Lets every switch look for what is overdue.
    pub(crate) fn expire(&mut self) {
        let now = self.now;
        self.nodes.iter_mut().flat_map(|node| &mut node.shards).for_each(|switch| {
            switch.expire(now, 1_000);
        });
        self.release();
    }

    /// A datagram from `sender` on the underlay to `node`.
    pub(crate) fn send_datagram(&mut self, sender: IpAddr, node: usize, datagram: &[u8]) -> String {
        let mut frame = Frame::from_bytes(datagram);
        let fate = self.nodes[node - 1].shards[0].from_peer(self.now, sender, &mut frame);
        let outcome = self.follow(node, 0, fate, &mut frame, None);
        self.release();
        outcome
    }

    fn follow(&mut self, node: usize, shard: u16, fate: Fate, frame: &mut Frame, before: Option<Packet>) -> String {
        let exit = match fate {
            Fate::Drop(reason) => return format!("drop {}", reason.name()),
            Fate::Held => return "held".to_owned(),
            Fate::Ask(query) => return self.asked(node, shard, &query, frame),
            Fate::Forward(exit) | Fate::Answer(exit) => exit,
        };
        // An answer has a hop limit of its own.
        let before = before.filter(|_| matches!(fate, Fate::Forward(_)));
        match exit {
            Exit::Port(port) => {
                if let (Fate::Forward(_), Some(before), Ok(after)) = (fate, before, Packet::check(frame.bytes())) {
                    assert_eq!(after.ttl, before.ttl - 1, "the hop limit is lowered once");
                }
                self.received(node, shard, port, frame)
            }
            Exit::Shard(shard, port, origin) => {
                let fate = self.nodes[node - 1].shards[usize::from(shard.0)].to_port(self.now, port, origin, frame);
                self.follow(node, shard.0, fate, frame, before)
            }
            Exit::Peer(_) => {
                let other = 3 - node;
                assert_eq!(frame.bytes()[..6], vtep_mac(other).0, "the inner destination is the peer's VTEP");
                assert_eq!(frame.bytes()[6..12], vtep_mac(node).0, "the inner source is the own VTEP");
                frame.push_front(vxlan::HEADER_BYTES).copy_from_slice(&vxlan::header(Vni::new(1).unwrap()));
                let fate = self.nodes[other - 1].shards[0].from_peer(self.now, node_v4(node).into(), frame);
                self.follow(other, 0, fate, frame, before)
            }
        }
    }

    fn asked(&mut self, node: usize, shard: u16, query: &Query, frame: &Frame) -> String {
        let packet = Packet::check(frame.bytes()).expect("a query is a packet");
        assert_eq!((query.asked, query.packet(frame).len()), (packet.flow(), packet.ip_len_bytes()));
        assert_eq!(query.message(frame).len(), packet.payload_len_bytes());
        self.query = Some((node, shard, *query));
        format!("asked: {}", bytes::describe(frame, &|addr| self.name(addr)))
    }

    /// What becomes of this answer to the last query.
    pub(crate) fn answer(&mut self, message: &[u8]) -> String {
        let (node, shard, query) = self.query.expect("somebody asked");
        let mut frame = Frame::with_capacity(FRAME_MAX_BYTES);
        let switch = &mut self.nodes[node - 1].shards[usize::from(shard)];
        match switch.answer(self.now, &query, message, &mut frame) {
            Ok(Exit::Port(port)) => {
                let packet = Packet::check(frame.bytes()).expect("an answer is a packet");
                assert!(wire::checksum::verify_l4(frame.bytes(), &packet), "its checksum is right");
                assert_eq!(&frame.bytes()[usize::from(packet.payload_offset)..], message);
                self.received(node, shard, port, &frame)
            }
            Ok(exit) => panic!("an answer goes to a port, not to {exit:?}"),
            Err(reason) => format!("drop {}", reason.name()),
        }
    }

    /// The same answer a thousand times.
    pub(crate) fn check_answers_allocate_nothing(&mut self, message: &[u8]) {
        let (node, shard, query) = self.query.expect("somebody asked");
        let (now, mut frame) = (self.now, Frame::with_capacity(FRAME_MAX_BYTES));
        let switch = &mut self.nodes[node - 1].shards[usize::from(shard)];
        let counted = allocation_counter::measure(|| {
            for _ in 0..1_000 {
                let _ = switch.answer(now, &query, message, &mut frame);
            }
        });
        assert_eq!(counted.count_total, 0);
    }

    fn received(&self, node: usize, shard: u16, port: PortId, frame: &Frame) -> String {
        if port == UPLINK_PORT {
            return self.left(node, frame);
        }
        let (receiver, mac) = match port {
            HOST_PORT => (format!("node{node}"), host_mac(node)),
            _ => {
                let pod = self.pods.iter().find(|p| p.node == node && p.port == port).expect("an attached pod");
                assert_eq!(pod.shard, shard, "a port is of one shard");
                (pod.name.clone(), pod.mac)
            }
        };
        assert_eq!(frame.bytes()[..6], mac.0, "the frame is for the receiver's MAC");
        assert_eq!(frame.bytes()[6..12], GATEWAY_MAC.0, "the frame is from the gateway's MAC");
        format!("{receiver}: {}", bytes::describe(frame, &|addr| self.name(addr)))
    }

    /// A frame that leaves at a node's uplink.
    fn left(&self, node: usize, frame: &Frame) -> String {
        let words = bytes::describe(frame, &|addr| self.name(addr));
        if words.starts_with("arp") || words.starts_with("neighbor") {
            let to_all = frame.bytes()[..2] == [0x33, 0x33];
            assert!(frame.bytes()[..6] == OUTSIDE_MAC.0 || to_all, "an answer goes to whoever asked");
            assert_eq!(frame.bytes()[6..12], uplink_mac(node).0, "an answer is the interface's own");
            return format!("@node{node}: {words}");
        }
        assert_eq!(frame.bytes()[..12], [0; 12], "the shell knows the next hop");
        let packet = Packet::check(frame.bytes()).expect("the switch sends well-formed packets");
        format!("{}@node{node}: {words}", self.name(packet.dst))
    }

    /// An ICMP error of `kind` from `sender` about the packet that `about` describes as it reached the sender.
    pub(crate) fn error(&self, sender: &str, (kind, code, last): (u8, u8, u16), about: &Sketch) -> Frame {
        let v6 = about.src.is_ipv6();
        let sketch = Sketch {
            src_mac: self.entry(sender).3,
            dst_mac: if self.entry(sender).2 == UPLINK_PORT { uplink_mac(1) } else { GATEWAY_MAC },
            src: self.address(sender, v6),
            dst: about.src,
            ttl: 64,
            dont_fragment: true,
            protocol: if v6 { Protocol::ICMPV6 } else { Protocol::ICMP },
            l4: bytes::icmp_error(kind, code, last, &about.bytes()),
        };
        Frame::from_bytes(&sketch.bytes())
    }

    /// How often `node` dropped for `reason`.
    pub(crate) fn drops(&self, node: usize, reason: DropReason) -> u64 {
        self.nodes[node - 1].shards.iter().map(|s| s.counters().total().drops_of(reason)).sum()
    }

    /// Number of flows on a node.
    pub(crate) fn flows(&self, node: usize) -> usize {
        self.nodes[node - 1].shards.iter().map(|s| s.counters().flows).sum()
    }

    /// Flows and counters, for a failed check.
    pub(crate) fn report(&self) -> String {
        let mut out = String::new();
        for (number, node) in self.nodes.iter().enumerate() {
            for switch in &node.shards {
                let shard = switch.config().shard.0;
                writeln!(out, "node{} shard {shard}", number + 1).unwrap();
                for flow in switch.flows(self.now, 50) {
                    writeln!(out, "  port {} {} | {} {}", flow.port.0, flow.original, flow.reply, flow.state).unwrap();
                }
                for (reason, count) in switch.counters().total().drops() {
                    writeln!(out, "  {} {count}", reason.name()).unwrap();
                }
            }
        }
        out
    }
}
/// The ports of the transport header of a delivered packet, from its words.
pub(crate) fn ports(words: &str) -> (u16, u16) {
    let mut found = words.split_whitespace().filter_map(|w| w.rsplit_once(':')?.1.parse().ok());
    (found.next().expect("a source port"), found.next().expect("a destination port"))
}
