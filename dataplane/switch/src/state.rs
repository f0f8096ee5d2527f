//! What a flow is doing, as far as a switch has to know: enough to give each flow a lifetime and to choose whom to forget
//! first. Sequence numbers and windows are not looked at (S27): a packet of a known flow is never refused for its state.
//!
//! ```text
//! TCP   SynSent → SynReceived → Established → FinWait → TimeWait        any → Closed on RST
//!       a first packet that is no SYN: Unconfirmed → Established when the other side is seen
//! UDP   UdpUnreplied → UdpReplied → UdpAssured (the opener spoke again after a reply)
//! ICMP  IcmpUnreplied → IcmpReplied
//! SCTP  SctpOpening → SctpEstablished → SctpShutdown
//! else  OtherUnreplied → OtherReplied
//! ```
//! Where a value below has no RFC, it is the one of Linux' conntrack, which applications are used to.

use std::time::Duration;
use wire::{L4, Packet, Protocol};

/// TCP flag bits (RFC 9293 §3.1).
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// SCTP chunk types (RFC 9260 §3.2).
const SCTP_INIT: u8 = 1;
const SCTP_ABORT: u8 = 6;
const SCTP_SHUTDOWN: u8 = 7;
const SCTP_COOKIE_ECHO: u8 = 10;
const SCTP_COOKIE_ACK: u8 = 11;
const SCTP_SHUTDOWN_COMPLETE: u8 = 14;

/// Which direction of a flow a packet travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Side {
    /// From the opener.
    Original = 0,
    /// To the opener.
    Reply = 1,
}

impl Side {
    pub(crate) fn other(self) -> Side {
        match self {
            Side::Original => Side::Reply,
            Side::Reply => Side::Original,
        }
    }
}

/// State of a flow. The order is the order in which flows are forgotten when a table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    TcpClosed,
    TcpTimeWait,
    TcpSynSent,
    TcpSynReceived,
    UdpUnreplied,
    IcmpUnreplied,
    OtherUnreplied,
    SctpOpening,
    SctpShutdown,
    IcmpReplied,
    UdpReplied,
    TcpUnconfirmed,
    TcpFinWait,
    OtherReplied,
    UdpAssured,
    SctpEstablished,
    TcpEstablished,
}

impl State {
    pub(crate) const ALL: [State; 17] = [
        State::TcpClosed,
        State::TcpTimeWait,
        State::TcpSynSent,
        State::TcpSynReceived,
        State::UdpUnreplied,
        State::IcmpUnreplied,
        State::OtherUnreplied,
        State::SctpOpening,
        State::SctpShutdown,
        State::IcmpReplied,
        State::UdpReplied,
        State::TcpUnconfirmed,
        State::TcpFinWait,
        State::OtherReplied,
        State::UdpAssured,
        State::SctpEstablished,
        State::TcpEstablished,
    ];

    /// How long a flow stays in this state without a packet.
    pub(crate) const fn timeout(self) -> Duration {
        Duration::from_secs(match self {
            // Long enough for stragglers behind a reset.
            State::TcpClosed => 10,
            // Twice the maximum segment lifetime that Linux uses.
            State::TcpTimeWait => 120,
            // A SYN is retransmitted at least once in a minute.
            State::TcpSynSent | State::TcpSynReceived => 60,
            // A connection picked up in the middle lives as long as a sender waits for an acknowledgment.
            State::TcpUnconfirmed => 300,
            State::TcpFinWait => 120,
            // Five days; RFC 5382 REQ-5 asks for at least 2 h 4 min.
            State::TcpEstablished => 432_000,
            State::UdpUnreplied | State::UdpReplied => 30,
            // RFC 4787 REQ-5 asks for at least 2 min.
            State::UdpAssured => 180,
            // RFC 5508 REQ-2 asks for at least 60 s where queries are outstanding; pings repeat every second.
            State::IcmpUnreplied | State::IcmpReplied => 30,
            State::SctpOpening => 60,
            // Seven heartbeats (RFC 9260 §8.3: one every 30 s).
            State::SctpEstablished => 210,
            State::SctpShutdown => 10,
            State::OtherUnreplied => 60,
            State::OtherReplied => 600,
        })
    }

    /// How long a flow in this state is left alone when its table is full and a new flow asks for room.
    pub(crate) const fn spared(self) -> Duration {
        Duration::from_secs(match self {
            State::TcpEstablished => 3_600,
            State::SctpEstablished | State::UdpAssured | State::OtherReplied => 60,
            State::TcpFinWait | State::TcpUnconfirmed => 30,
            State::UdpReplied | State::IcmpReplied => 5,
            _ => 0,
        })
    }

    /// Whether a flow in this state is recorded for the process after this one: its ends would notice if it was begun anew. A
    /// connection attempt, a question without an answer and what is over are not.
    pub(crate) const fn is_kept(self) -> bool {
        match self {
            State::TcpSynReceived
            | State::TcpEstablished
            | State::TcpFinWait
            | State::UdpReplied
            | State::UdpAssured
            | State::SctpEstablished
            | State::OtherReplied => true,
            State::TcpClosed
            | State::TcpTimeWait
            | State::TcpSynSent
            | State::TcpUnconfirmed
            | State::UdpUnreplied
            | State::IcmpUnreplied
            | State::IcmpReplied
            | State::OtherUnreplied
            | State::SctpOpening
            | State::SctpShutdown => false,
        }
    }

    /// The state in words.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            State::TcpClosed => "closed",
            State::TcpTimeWait => "time-wait",
            State::TcpSynSent => "syn-sent",
            State::TcpSynReceived => "syn-received",
            State::TcpUnconfirmed => "unconfirmed",
            State::TcpFinWait => "fin-wait",
            State::TcpEstablished | State::SctpEstablished => "established",
            State::UdpUnreplied | State::IcmpUnreplied | State::OtherUnreplied => "unreplied",
            State::UdpReplied | State::IcmpReplied | State::OtherReplied => "replied",
            State::UdpAssured => "assured",
            State::SctpOpening => "opening",
            State::SctpShutdown => "shutdown",
        }
    }

    /// The state of a flow that `packet` opens.
    pub(crate) fn opened_by(packet: &Packet) -> State {
        match packet.l4 {
            L4::Tcp { flags, .. } if flags & RST != 0 => State::TcpClosed,
            L4::Tcp { flags, .. } if flags & (SYN | ACK) == SYN => State::TcpSynSent,
            L4::Tcp { .. } => State::TcpUnconfirmed,
            L4::Udp { .. } => State::UdpUnreplied,
            L4::Icmp { .. } => State::IcmpUnreplied,
            L4::Sctp { .. } => State::SctpOpening,
            L4::Other if packet.protocol == Protocol::UDP => State::UdpUnreplied,
            L4::Other => State::OtherUnreplied,
        }
    }

    /// The state after `packet`, travelling on `side`. `fins` remembers on which sides a FIN was seen.
    pub(crate) fn after(self, packet: &Packet, side: Side, fins: &mut u8) -> State {
        match packet.l4 {
            L4::Tcp { flags, .. } => self.after_tcp(flags, side, fins),
            L4::Sctp { chunk, .. } => self.after_sctp(chunk, side),
            _ => match (self, side) {
                (State::UdpUnreplied, Side::Reply) => State::UdpReplied,
                (State::UdpReplied, Side::Original) => State::UdpAssured,
                (State::IcmpUnreplied, Side::Reply) => State::IcmpReplied,
                (State::OtherUnreplied, Side::Reply) => State::OtherReplied,
                (state, _) => state,
            },
        }
    }

    fn after_tcp(self, flags: u8, side: Side, fins: &mut u8) -> State {
        if flags & RST != 0 {
            return State::TcpClosed;
        }
        if flags & FIN != 0 {
            *fins |= 1 << side as u8;
        }
        match (self, side) {
            _ if *fins == 0b11 => State::TcpTimeWait,
            _ if *fins != 0 => State::TcpFinWait,
            (State::TcpSynSent, Side::Reply) if flags & (SYN | ACK) == SYN | ACK => State::TcpSynReceived,
            (State::TcpSynReceived, Side::Original) if flags & ACK != 0 => State::TcpEstablished,
            (State::TcpUnconfirmed, Side::Reply) => State::TcpEstablished,
            // Both ends go on after a reset that was not meant for them or never arrived.
            (State::TcpClosed, _) => State::TcpUnconfirmed,
            (state, _) => state,
        }
    }

    fn after_sctp(self, chunk: u8, side: Side) -> State {
        match (chunk, self) {
            (SCTP_ABORT | SCTP_SHUTDOWN | SCTP_SHUTDOWN_COMPLETE, _) => State::SctpShutdown,
            (SCTP_INIT | SCTP_COOKIE_ECHO, State::SctpShutdown) => State::SctpOpening,
            (SCTP_COOKIE_ACK, State::SctpOpening) if side == Side::Reply => State::SctpEstablished,
            // Data of an association that was picked up in the middle, answered.
            (0, State::SctpOpening) if side == Side::Reply => State::SctpEstablished,
            (_, state) => state,
        }
    }

    /// Whether a connection is asked for and was not answered.
    pub(crate) fn is_unanswered(self) -> bool {
        self == State::TcpSynSent
    }

    /// Whether `packet` begins a conversation of its own although its 5-tuple is known: a SYN after the end (S14, B19).
    pub(crate) fn is_reopened_by(self, packet: &Packet) -> bool {
        self.is_ended() && begins_connection(packet)
    }

    /// Whether a connection is over and only waits for stragglers.
    pub(crate) fn is_ended(self) -> bool {
        matches!(self, State::TcpClosed | State::TcpTimeWait | State::SctpShutdown)
    }

    /// The state of a connection whose opener was told that it is over and whose other end was not: for as long as that end
    /// may repeat what it said.
    pub(crate) fn closed(self) -> State {
        match self {
            State::SctpOpening | State::SctpEstablished | State::SctpShutdown => State::SctpShutdown,
            _ => State::TcpTimeWait,
        }
    }
}

/// Whether `packet` is the first of a connection: a TCP SYN, an SCTP INIT.
pub(crate) fn begins_connection(packet: &Packet) -> bool {
    match packet.l4 {
        L4::Tcp { flags, .. } => flags & (SYN | ACK | RST) == SYN,
        L4::Sctp { chunk, .. } => chunk == SCTP_INIT,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};
    use wire::Fragment;

    fn packet(protocol: Protocol, l4: L4) -> Packet {
        Packet {
            src: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            dst: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
            protocol,
            l3_offset: 14,
            l4_offset: 34,
            payload_offset: 54,
            end: 54,
            ttl: 64,
            traffic_class: 0,
            dont_fragment: true,
            fragment: Fragment::Whole,
            l4,
        }
    }

    fn tcp(flags: u8) -> Packet {
        packet(Protocol::TCP, L4::Tcp { src_port: 1, dst_port: 2, flags })
    }

    /// Runs a conversation and gives the names of the states.
    fn run(first: Packet, rest: &[(Side, Packet)]) -> Vec<&'static str> {
        let mut state = State::opened_by(&first);
        let mut fins = 0;
        let mut names = vec![state.name()];
        for (side, packet) in rest {
            state = state.after(packet, *side, &mut fins);
            names.push(state.name());
        }
        names
    }

    #[test]
    fn a_tcp_connection_opens_and_closes() {
        let states = run(
            tcp(SYN),
            &[
                (Side::Original, tcp(SYN)),
                (Side::Reply, tcp(SYN | ACK)),
                (Side::Original, tcp(ACK)),
                (Side::Reply, tcp(ACK)),
                (Side::Original, tcp(FIN | ACK)),
                (Side::Reply, tcp(ACK)),
                (Side::Reply, tcp(FIN | ACK)),
                (Side::Original, tcp(ACK)),
            ],
        );
        assert_eq!(
            states,
            [
                "syn-sent",
                "syn-sent",
                "syn-received",
                "established",
                "established",
                "fin-wait",
                "fin-wait",
                "time-wait",
                "time-wait"
            ]
        );
    }

    #[test]
    fn a_reset_that_nobody_obeys_does_not_end_the_flow() {
        let states = run(tcp(ACK), &[(Side::Reply, tcp(RST)), (Side::Original, tcp(ACK)), (Side::Reply, tcp(ACK))]);
        assert_eq!(states, ["unconfirmed", "closed", "unconfirmed", "established"]);
    }

    #[test]
    fn a_syn_reopens_only_what_has_ended() {
        assert!(State::TcpTimeWait.is_reopened_by(&tcp(SYN)));
        assert!(State::TcpClosed.is_reopened_by(&tcp(SYN)));
        assert!(!State::TcpEstablished.is_reopened_by(&tcp(SYN)));
        assert!(!State::TcpClosed.is_reopened_by(&tcp(SYN | ACK)));
    }

    #[test]
    fn udp_is_assured_when_the_opener_speaks_again_after_a_reply() {
        let udp = packet(Protocol::UDP, L4::Udp { src_port: 1, dst_port: 2 });
        let states = run(udp, &[(Side::Original, udp), (Side::Reply, udp), (Side::Original, udp)]);
        assert_eq!(states, ["unreplied", "unreplied", "replied", "assured"]);
    }

    #[test]
    fn an_sctp_association_opens_and_shuts_down() {
        let sctp = |chunk| packet(Protocol::SCTP, L4::Sctp { src_port: 1, dst_port: 2, chunk });
        let states = run(
            sctp(SCTP_INIT),
            &[
                (Side::Reply, sctp(2)),
                (Side::Original, sctp(SCTP_COOKIE_ECHO)),
                (Side::Reply, sctp(SCTP_COOKIE_ACK)),
                (Side::Original, sctp(0)),
                (Side::Original, sctp(SCTP_SHUTDOWN)),
            ],
        );
        assert_eq!(states, ["opening", "opening", "opening", "established", "established", "shutdown"]);
    }

    #[test]
    fn every_state_is_its_own_position_in_the_list() {
        for (position, state) in State::ALL.iter().enumerate() {
            assert_eq!(*state as usize, position);
        }
    }
}
