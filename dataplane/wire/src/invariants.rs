//! What must hold for every byte string. Property tests, the replay of the corpus and the fuzz targets call these
//! functions; each takes arbitrary bytes and panics when a promise of this crate is broken.
//!
//! A function that needs more than a frame takes it from the front of its input, so that a fuzzer can choose it.

use crate::checksum::{self, ICMP_FIELD, TCP_FIELD, UDP_FIELD};
use crate::ethernet::ETHERNET_HEADER_BYTES;
use crate::fragment::FragmentPlan;
use crate::icmp::Quote;
use crate::ipv4::OFFSET_MASK;
use crate::{
    ArpPacket, Checksum, Ethernet, FRAME_MAX_BYTES, FlowKey, Fragment, Frame, IcmpError, IcmpKind, L4, MacAddr,
    NeighborMessage, Packet, Protocol, craft, describe, edit,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A checked view has its offsets in order and inside the bytes, ignores padding, needs every byte in front of it, and
/// says what etherparse says.
pub fn packet_check(bytes: &[u8]) {
    let line = describe(bytes).to_string();
    assert!(!line.contains('\n'), "one line: {line:?}");
    let Ok(packet) = Packet::check(bytes) else { return };
    let (l3, l4) = (usize::from(packet.l3_offset), usize::from(packet.l4_offset));
    let (payload, end) = (usize::from(packet.payload_offset), packet.end as usize);
    assert!(l3 < l4 && l4 <= payload && payload <= end && end <= bytes.len(), "offsets in order: {packet:?}");
    assert_eq!(packet.ip_len_bytes(), end - l3);
    assert_eq!(Packet::check(&bytes[..end]), Ok(packet), "padding says nothing");
    assert!(Packet::check(&bytes[..end - 1]).is_err(), "no byte is optional");
    let flow = packet.flow();
    assert_eq!((flow.src(), flow.dst(), flow.protocol), (packet.src, packet.dst, packet.protocol));
    if packet.is_fragment() {
        assert!(checksum::verify_l4(bytes, &packet), "a fragment has no checksum to verify");
    }
    assert_like_etherparse(&bytes[..end], &packet);
}

fn assert_like_etherparse(bytes: &[u8], packet: &Packet) {
    use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};
    let other = LaxSlicedPacket::from_ethernet(bytes).expect("etherparse reads the Ethernet header");
    let (src, dst, ttl): (IpAddr, IpAddr, u8) = match other.net.as_ref().expect("etherparse reads the IP header") {
        LaxNetSlice::Ipv4(ip) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into(), ip.header().ttl())
        }
        LaxNetSlice::Ipv6(ip) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into(), ip.header().hop_limit())
        }
        LaxNetSlice::Arp(_) => panic!("etherparse takes an IP packet for ARP"),
    };
    assert_eq!((packet.src, packet.dst, packet.ttl), (src, dst, ttl));
    match (packet.l4, &other.transport) {
        (L4::Tcp { src_port, dst_port, .. }, Some(TransportSlice::Tcp(tcp))) => {
            assert_eq!((src_port, dst_port), (tcp.source_port(), tcp.destination_port()));
        }
        (L4::Udp { src_port, dst_port }, Some(TransportSlice::Udp(udp))) => {
            assert_eq!((src_port, dst_port), (udp.source_port(), udp.destination_port()));
        }
        (L4::Tcp { .. } | L4::Udp { .. }, found) => {
            assert!(packet.is_fragment(), "etherparse sees the transport header: {packet:?}, {found:?}");
        }
        (L4::Icmp { kind, code, .. }, Some(TransportSlice::Icmpv4(icmp))) => {
            assert_eq!((kind, code), (icmp.type_u8(), icmp.code_u8()));
        }
        (L4::Icmp { kind, code, .. }, Some(TransportSlice::Icmpv6(icmp))) => {
            assert_eq!((kind, code), (icmp.type_u8(), icmp.code_u8()));
        }
        _ => {}
    }
}

/// ARP and neighbor discovery views read anything, and the answers to what they accept are well-formed.
pub fn arp_nd(bytes: &[u8]) {
    const MAC: MacAddr = MacAddr([0x0a, 1, 2, 3, 4, 5]);
    if bytes.len() > FRAME_MAX_BYTES {
        return;
    }
    if let Ok(request) = ArpPacket::check(bytes) {
        let mut frame = Frame::from_bytes(bytes);
        craft::arp_reply(&mut frame, &request, MAC);
        let reply = ArpPacket::check(frame.bytes()).expect("an ARP reply is ARP");
        assert_eq!((reply.sender_mac, reply.sender_ip), (MAC, request.target_ip));
        assert_eq!((reply.target_mac, reply.target_ip), (request.sender_mac, request.sender_ip));
        let asked = Ethernet::check(bytes).expect("it was ARP");
        assert_eq!(Ethernet::check(frame.bytes()).map(|ethernet| ethernet.dst), Ok(asked.src));
    }
    let Ok(packet) = Packet::check(bytes) else { return };
    if let Ok(Some(NeighborMessage::Solicitation { target, .. })) = NeighborMessage::check(bytes, &packet) {
        if target.is_unspecified() || target.is_loopback() || target.to_ipv4_mapped().is_some() {
            return;
        }
        let mut frame = Frame::from_bytes(bytes);
        craft::neighbor_advertisement(&mut frame, &packet, target, MAC);
        let answer = Packet::check(frame.bytes()).expect("an advertisement is a packet");
        let expected = NeighborMessage::Advertisement { target, target_mac: Some(MAC) };
        assert_eq!(NeighborMessage::check(frame.bytes(), &answer), Ok(Some(expected)));
    }
}

/// A rewritten packet is one of the flow asked for with checksums as right as before, full or partial, and rewriting it
/// back gives the bytes that were there. Input: 36 bytes of flow, then a frame.
pub fn rewrite_reverse(input: &[u8]) {
    let Some((wish, bytes)) = Wish::take(input) else { return };
    let Ok(packet) = Packet::check(bytes) else { return };
    let to = wish.flow(packet.protocol, packet.src);
    let mut frame = Frame::from_bytes(bytes);
    make_canonical(&mut frame, &packet);
    let original = frame.bytes().to_vec();

    edit::rewrite(&mut frame, &packet, &to);
    let rewritten = Packet::check(frame.bytes()).expect("a rewritten packet is a packet");
    assert_eq!(rewritten.flow(), as_far_as_it_goes(&to, &packet));
    let whole_sctp = matches!(packet.l4, L4::Sctp { .. }) && !packet.is_fragment();
    if !matches!(packet.l4, L4::Sctp { .. }) || whole_sctp {
        assert!(checksum::verify_l4(frame.bytes(), &rewritten), "the checksum stays right: {packet:?} to {to}");
    }
    edit::rewrite(&mut frame, &rewritten, &packet.flow());
    assert_eq!(frame.bytes(), original, "there and back: {packet:?} to {to}");

    if matches!(packet.l4, L4::Tcp { .. } | L4::Udp { .. }) && !packet.is_fragment() {
        make_partial(&mut frame, &packet);
        edit::rewrite(&mut frame, &packet, &to);
        checksum::finish_partial(&mut frame, &rewritten);
        assert!(checksum::verify_l4(frame.bytes(), &rewritten), "a partial checksum stays right: {packet:?} to {to}");
    }
}

/// An ICMP error whose quote is rewritten quotes the flow asked for, with checksums right, and can be turned back.
/// Input: 36 bytes of flow, then a frame.
pub fn icmp_quote(input: &[u8]) {
    let Some((wish, bytes)) = Wish::take(input) else { return };
    let Ok(packet) = Packet::check(bytes) else { return };
    let L4::Icmp { meaning: IcmpKind::Error { quoted: Some(quoted) }, .. } = packet.l4 else { return };
    if packet.is_fragment() {
        return;
    }
    let mut frame = Frame::from_bytes(bytes);
    make_canonical(&mut frame, &packet);
    let original = frame.bytes().to_vec();
    let mut to = wish.flow(quoted.protocol, packet.src);
    if !quoted.protocol.has_ports() {
        // An echo has one identifier; a quoted packet of the error's own protocol is nothing else.
        let id = if quoted.protocol == packet.protocol { to.src_port } else { 0 };
        (to.src_port, to.dst_port) = (id, id);
    }

    edit::rewrite_quoted(&mut frame, &packet, &to);
    let rewritten = Packet::check(frame.bytes()).expect("a rewritten error is a packet");
    let L4::Icmp { meaning: IcmpKind::Error { quoted: Some(found) }, .. } = rewritten.l4 else {
        panic!("a rewritten error quotes: {rewritten:?}")
    };
    assert_eq!(found, to, "quoted: {packet:?}");
    assert!(checksum::verify_l4(frame.bytes(), &rewritten), "the error's checksum stays right: {packet:?} to {to}");
    edit::rewrite_quoted(&mut frame, &rewritten, &quoted);
    assert_eq!(frame.bytes(), original, "there and back: {packet:?} to {to}");
}

/// Every answer to a packet is a packet with right checksums that goes back to its sender, and an ICMP error is no
/// longer than its family allows and quotes the packet's flow.
pub fn answers(bytes: &[u8]) {
    let Ok(packet) = Packet::check(bytes) else { return };
    let mut original = Frame::from_bytes(bytes);
    make_canonical(&mut original, &packet);
    let check = |frame: &Frame| {
        let answer = Packet::check(frame.bytes()).expect("an answer is a packet");
        assert_eq!(answer.dst, packet.src);
        assert_eq!(answer.end as usize, frame.len(), "an answer has no padding");
        assert!(checksum::verify_l4(frame.bytes(), &answer), "an answer has a right checksum: {answer:?}");
        answer
    };
    let mut frame = original.clone();
    if craft::tcp_reset(&mut frame, &packet) || craft::sctp_abort(&mut frame, &packet) {
        assert_eq!(check(&frame).flow(), packet.flow().reverse());
    }
    if !craft::may_answer_with_error(bytes, &packet) {
        return;
    }
    if matches!(packet.l4, L4::Icmp { meaning: IcmpKind::EchoRequest { .. }, .. }) && !packet.is_fragment() {
        let mut frame = original.clone();
        frame.truncate(packet.end as usize);
        craft::echo_reply(&mut frame, &packet);
        assert_eq!(check(&frame).flow(), packet.flow().reverse());
    }
    let (from, longest) = match packet.src {
        IpAddr::V4(_) => (IpAddr::from([10, 0, 0, 1]), 576),
        IpAddr::V6(_) => (IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]), 1_280),
    };
    let errors = [
        IcmpError::NetUnreachable,
        IcmpError::HostUnreachable,
        IcmpError::PortUnreachable,
        IcmpError::Prohibited,
        IcmpError::TooBig { mtu: 1_450 },
        IcmpError::TtlExceeded,
    ];
    for error in errors {
        let mut frame = original.clone();
        craft::icmp_error(&mut frame, &packet, error, from);
        let answer = check(&frame);
        assert!(answer.ip_len_bytes() <= longest, "{error:?} is too long: {answer:?}");
        let L4::Icmp { meaning: IcmpKind::Error { quoted }, .. } = answer.l4 else { panic!("no error: {answer:?}") };
        assert!(quoted.is_none_or(|quoted| quoted == packet.flow()), "{quoted:?} is quoted of {packet:?}");
        assert!(!craft::may_answer_with_error(frame.bytes(), &answer), "no error about an error");
    }
}

/// Fragments fit the MTU, follow each other without gap or overlap, and together hold the payload. Input: 2 bytes of
/// MTU, then a frame.
pub fn fragments(input: &[u8]) {
    let Some(([high, low], bytes)) = input.split_first_chunk() else { return };
    let mtu = usize::from(u16::from_be_bytes([*high, *low]));
    let Ok(packet) = Packet::check(bytes) else { return };
    let Some(plan) = FragmentPlan::new(bytes, &packet, mtu) else { return };
    assert!(plan.count() >= 2);
    let l3 = usize::from(packet.l3_offset);
    let flags = |ip: &[u8]| u16::from_be_bytes([ip[6], ip[7]]);
    let first_offset = usize::from(flags(&bytes[l3..]) & OFFSET_MASK) * 8;
    let mut next = usize::from(packet.l4_offset);
    for index in 0..plan.count() {
        let payload = plan.payload(index);
        assert_eq!(payload.start, next, "no gap, no overlap");
        next = payload.end;
        let mut header = vec![0; plan.header_len(index)];
        plan.write_header(index, &mut header);
        let ip = &header[ETHERNET_HEADER_BYTES..];
        assert_eq!(checksum::sum(ip), 0xffff, "the header checksum is right");
        assert_eq!(ip.len(), usize::from(ip[0] & 0x0f) * 4);
        assert_eq!(usize::from(u16::from_be_bytes([ip[2], ip[3]])), ip.len() + payload.len());
        assert!(ip.len() + payload.len() <= mtu);
        let offset = usize::from(flags(ip) & OFFSET_MASK) * 8;
        assert_eq!(offset, first_offset + payload.start - usize::from(packet.l4_offset));
        let last_of_all = !matches!(packet.fragment, Fragment::First { .. } | Fragment::Later { last: false, .. });
        let expect_more = index + 1 < plan.count() || !last_of_all;
        assert_eq!(flags(ip) & 0x2000 != 0, expect_more);
    }
    assert_eq!(next, packet.end as usize);
}

/// Addresses and ports that an input asks for; the family comes with the packet.
struct Wish {
    src: [u8; 16],
    dst: [u8; 16],
    src_port: u16,
    dst_port: u16,
}

impl Wish {
    fn take(input: &[u8]) -> Option<(Wish, &[u8])> {
        let (src, rest) = input.split_first_chunk()?;
        let (dst, rest) = rest.split_first_chunk()?;
        let ([a, b, c, d], frame) = rest.split_first_chunk()?;
        let (src_port, dst_port) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
        (frame.len() <= FRAME_MAX_BYTES).then_some((Wish { src: *src, dst: *dst, src_port, dst_port }, frame))
    }

    /// The flow in the family of `like`, with addresses that a packet may have.
    fn flow(&self, protocol: Protocol, like: IpAddr) -> FlowKey {
        let addr = |octets: &[u8; 16]| match like {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::new(10, octets[1], octets[2], octets[3])),
            IpAddr::V6(_) => {
                let mut octets = *octets;
                octets[0] = 0xfd;
                IpAddr::from(Ipv6Addr::from(octets))
            }
        };
        FlowKey::new(protocol, addr(&self.src), self.src_port, addr(&self.dst), self.dst_port)
    }
}

/// The flow that a packet has after a rewrite to `to`: without ports where it has none.
fn as_far_as_it_goes(to: &FlowKey, packet: &Packet) -> FlowKey {
    let (src_port, dst_port) = match packet.l4 {
        L4::Tcp { .. } | L4::Udp { .. } | L4::Sctp { .. } => (to.src_port, to.dst_port),
        L4::Icmp { meaning: IcmpKind::EchoRequest { .. }, .. } => (to.src_port, to.src_port),
        L4::Icmp { meaning: IcmpKind::EchoReply { .. }, .. } => (to.dst_port, to.dst_port),
        L4::Icmp { .. } | L4::Other => (0, 0),
    };
    FlowKey::new(to.protocol, to.src(), src_port, to.dst(), dst_port)
}

/// Gives a whole packet its right transport checksum, and every other checksum that an edit touches the one of its two
/// forms of zero that computing it would give: all ones and zero are the same sum, and an update keeps only the sum.
fn make_canonical(frame: &mut Frame, packet: &Packet) {
    let bytes = frame.bytes_mut();
    let zero_form = |bytes: &mut [u8], at: usize, end: usize| {
        if at + 2 <= end && bytes[at..at + 2] == [0xff, 0xff] {
            bytes[at..at + 2].fill(0);
        }
    };
    if let Some(quote) = Quote::find(bytes, packet) {
        if quote.src.is_ipv4() {
            zero_form(bytes, quote.l3_offset + 10, quote.end);
        }
        match quote.protocol {
            Protocol::TCP => zero_form(bytes, quote.l4_offset + TCP_FIELD, quote.end),
            Protocol::ICMP | Protocol::ICMPV6 => zero_form(bytes, quote.l4_offset + ICMP_FIELD, quote.end),
            _ => {}
        }
    }
    let (l3, l4, end) = (usize::from(packet.l3_offset), usize::from(packet.l4_offset), packet.end as usize);
    if packet.src.is_ipv4() {
        zero_form(bytes, l3 + 10, end);
    }
    match packet.l4 {
        L4::Tcp { .. } if packet.is_fragment() => zero_form(bytes, l4 + TCP_FIELD, end),
        L4::Icmp { .. } if packet.is_fragment() => zero_form(bytes, l4 + ICMP_FIELD, end),
        _ if packet.is_fragment() => {}
        _ => checksum::write_full(bytes, packet),
    }
}

/// Turns a whole TCP or UDP packet into what a sender with checksum offload hands over.
fn make_partial(frame: &mut Frame, packet: &Packet) {
    let (at, len) = match packet.l4 {
        L4::Tcp { .. } => (TCP_FIELD, packet.end - u32::from(packet.l4_offset)),
        _ => {
            let l4 = &frame.bytes()[usize::from(packet.l4_offset)..];
            (UDP_FIELD, u32::from(u16::from_be_bytes([l4[4], l4[5]])))
        }
    };
    let sum = checksum::pseudo_header(packet.src, packet.dst, packet.protocol, len);
    let field = usize::from(packet.l4_offset) + at;
    frame.bytes_mut()[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    frame.offload.checksum = Checksum::Partial;
}
