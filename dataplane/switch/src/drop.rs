//! Why a frame was discarded: one flat list, one counter each, one sentence for people. Nothing here is formatted while
//! traffic flows.

use wire::Malformed;

macro_rules! drop_reasons {
    ($($(#[$meta:meta])* $variant:ident => $name:literal, $explanation:literal;)*) => {
        /// Why the switch discarded a frame.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $explanation] $(#[$meta])* $variant,)*
        }

        impl DropReason {
            /// Every reason, in the order of the enum.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)*];

            /// Number of reasons.
            pub const COUNT: usize = DropReason::ALL.len();

            /// The reason in kebab case, stable for scripts.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name,)* }
            }

            /// What happened, in one sentence for a person.
            pub const fn explanation(self) -> &'static str {
                match self { $(DropReason::$variant => $explanation,)* }
            }
        }
    };
}

drop_reasons! {
    // The frame's bytes.
    Truncated => "truncated", "The frame is shorter than a header that must be there.";
    BadLength => "bad-length", "A length field contradicts the bytes or another length field.";
    BadHeader => "bad-header", "A version or header length that no such header has.";
    BadHeaderChecksum => "bad-header-checksum", "The IPv4 header checksum is wrong.";
    BadAddress => "bad-address", "A source or destination that no routed packet may have.";
    BadOptions => "bad-options", "IP options or extension headers that are not followed, such as a source route.";
    BadFragment => "bad-fragment", "A fragment that cannot be part of any packet.";
    BadOffload => "bad-offload", "The segmentation request contradicts the packet.";
    BadChecksum => "bad-checksum", "The transport checksum is wrong: the packet was damaged on its way.";
    UnknownEtherType => "unknown-ethertype", "The frame is neither IPv4, IPv6 nor ARP.";

    // Readiness.
    PortGone => "port-gone", "The port that the frame came from or goes to is not attached.";
    PortNotReady => "port-not-ready", "The tables in force do not know the pod of this port with its addresses, so it stays closed.";

    // Admission: who sends.
    SpoofedMac => "spoofed-mac", "The Ethernet source is not the MAC of the port.";
    SpoofedSource => "spoofed-source", "The IP source does not belong to the port or to the peer that sent the frame.";
    SpoofedArp => "spoofed-arp", "The ARP sender is not an address and MAC of the port.";
    SpoofedNeighbor => "spoofed-neighbor", "A neighbor discovery message claims an address or MAC that is not the port's.";
    RogueRouter => "rogue-router", "A pod sent a router advertisement or a redirect.";
    RogueDhcpServer => "rogue-dhcp-server", "A pod answered as a DHCP server.";
    PodEncapsulation => "pod-encapsulation", "A pod, or a client outside by way of a Service, sent tunnel datagrams to a node address.";
    NotForGateway => "not-for-gateway", "The Ethernet destination is not the gateway's MAC.";
    Multicast => "multicast", "Multicast and broadcast are not forwarded.";
    LinkLocal => "link-local", "Link-local addresses are not routed.";
    ToItself => "to-itself", "The destination is an address of the sender itself.";

    // Local chatter that needs no answer.
    ArpIgnored => "arp-ignored", "An ARP probe, announcement or reply, which needs no answer.";
    NeighborIgnored => "neighbor-ignored", "A neighbor discovery or listener message that needs no answer.";
    RouterSolicitation => "router-solicitation", "Router solicitations are not answered: routes are static.";

    // The uplink.
    LeftToKernel => "left-to-kernel", "Neither for a Service nor an answer to a pod: the node's kernel has its own copy.";

    // The tunnel.
    UnknownPeer => "unknown-peer", "A tunnel datagram from an address that is no node's.";
    NotEncapsulated => "not-encapsulated", "A tunnel datagram without a valid VXLAN header.";
    UnknownVni => "unknown-vni", "A tunnel datagram of another VNI.";
    Congested => "congested", "The underlay marked congestion, and the sender does not understand marks.";
    WrongVtep => "wrong-vtep", "The inner Ethernet destination is not this node's VTEP.";
    NotLocal => "not-local", "A peer sent a packet whose destination is not on this node; nodes do not forward for each other.";

    // Flows.
    DeniedByEgressPolicy => "denied-by-egress-policy", "Policy forbids the sender to send it: a rule denies it, or no rule accepts it.";
    DeniedByIngressPolicy => "denied-by-ingress-policy", "Policy forbids the receiver to receive it: a rule denies it, or no rule accepts it.";
    FlowTableFull => "flow-table-full", "The port holds its maximum of flows and none of them is idle.";
    NoSourcePort => "no-source-port", "No source port was found that keeps a translated flow apart from the others.";
    SourcePortsAwaited => "source-ports-awaited", "Every source port that this node holds is in use for the destination, and more are being claimed: the sender tries again.";
    SourcePortsExhausted => "source-ports-exhausted", "Every source port that this node has for the destination is in use by another flow.";
    BackendGone => "backend-gone", "The backend of the flow is no longer listed.";
    NoLocalEndpoint => "no-local-endpoint", "Traffic policy Local keeps the flow to a node on which the Service has no endpoint.";
    SourceNotAllowed => "source-not-allowed", "The client is not within the Service's loadBalancerSourceRanges.";
    RetriedElsewhere => "retried-elsewhere", "A backend refused a connection attempt that goes to another backend instead.";
    NoBackend => "no-backend", "The Service has no backend that takes traffic.";
    NoSuchServicePort => "no-such-service-port", "The address is a Service's, the port is not.";
    UnrelatedIcmpError => "unrelated-icmp-error", "An ICMP error about a packet of no known flow.";
    FragmentWithoutFirst => "fragment-without-first", "A later fragment whose first fragment was not forwarded, or did not come in time.";
    FragmentContradiction => "fragment-contradiction", "A fragment that repeats, overlaps or contradicts another of its datagram.";
    FragmentsWaiting => "fragments-waiting", "Too many fragments waited for their first; the oldest gave way.";

    // The cluster DNS.
    QueryInPieces => "query-in-pieces", "A query to the cluster DNS came in fragments, or several in one super-frame.";
    DnsQueueFull => "dns-queue-full", "Too many queries and packets waited for the node's name server.";

    // Routing.
    TtlExceeded => "ttl-exceeded", "The packet's hop limit is used up.";
    TooBig => "too-big", "The packet is larger than the path takes and may not be fragmented.";
    NoRoute => "no-route", "The destination is outside the cluster and there is no way out.";
    UnknownPod => "unknown-pod", "The destination is in a pod range of this node and no pod there has it.";

    // The shell.
    TransmitQueueFull => "transmit-queue-full", "The device or socket took no more frames.";
    DeviceGone => "device-gone", "The device failed while a frame was written or read.";
    HandoverFull => "handover-full", "The queue to the other shard was full.";
    TunnelSendFailed => "tunnel-send-failed", "The underlay refused a tunnel datagram.";
    ReceiveTruncated => "receive-truncated", "A frame or datagram was longer than the receive buffer.";
}

impl DropReason {
    /// Whether nobody misses what was discarded: chatter that needs no answer, what the kernel has its own copy of, what goes
    /// elsewhere instead. It is counted and not recorded.
    pub(crate) const fn is_noise(self) -> bool {
        matches!(
            self,
            DropReason::ArpIgnored
                | DropReason::NeighborIgnored
                | DropReason::RouterSolicitation
                | DropReason::LeftToKernel
                | DropReason::RetriedElsewhere
        )
    }
}

impl From<Malformed> for DropReason {
    fn from(malformed: Malformed) -> DropReason {
        match malformed {
            Malformed::Truncated => DropReason::Truncated,
            Malformed::BadLength => DropReason::BadLength,
            Malformed::BadHeader => DropReason::BadHeader,
            Malformed::BadHeaderChecksum => DropReason::BadHeaderChecksum,
            Malformed::BadAddress => DropReason::BadAddress,
            Malformed::BadOptions => DropReason::BadOptions,
            Malformed::BadFragment => DropReason::BadFragment,
            Malformed::BadOffload => DropReason::BadOffload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_distinct_and_kebab_case() {
        let names: HashSet<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), DropReason::COUNT);
        for name in names {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{name}");
        }
    }

    #[test]
    fn a_reason_is_its_own_position_in_the_list() {
        for (position, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, position);
        }
    }
}
