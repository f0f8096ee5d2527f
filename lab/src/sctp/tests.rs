use super::packet::{ABORT, Builder, COOKIE_ACK, COOKIE_ECHO, DATA, INIT_ACK, Packet, SHUTDOWN, SHUTDOWN_ACK};
use super::server::Server;
use std::net::SocketAddr;

const TAG: u32 = 0xfeed_0001;
const TSN: u32 = u32::MAX;

fn client() -> SocketAddr {
    "10.244.1.2:50000".parse().unwrap()
}

/// Gives one packet to the server and reads its answer.
fn ask(server: &mut Server, packet: Builder) -> Option<Vec<u8>> {
    let bytes = packet.finish();
    let packet = Packet::check(&bytes).expect("our own packets are right");
    server.answer(client(), &packet, packet.dst_port == 5060, b"hello")
}

fn to_port(port: u16, tag: u32) -> Builder {
    Builder::new(50_000, port, tag)
}

#[test]
fn an_association_is_set_up_asked_and_shut_down() {
    let mut server = Server::new(1);
    let answer = ask(&mut server, to_port(5060, 0).initial(TAG, TSN, None)).unwrap();
    let init_ack = Packet::check(&answer).unwrap();
    assert_eq!(init_ack.tag, TAG);
    let chunk = init_ack.find(INIT_ACK).unwrap();
    let (tag, first_tsn) = chunk.initial().unwrap();
    let answer = ask(&mut server, to_port(5060, tag).chunk(COOKIE_ECHO, 0, chunk.cookie().unwrap())).unwrap();
    assert!(Packet::check(&answer).unwrap().find(COOKIE_ACK).is_some());
    for number in 0..2 {
        let answer = ask(&mut server, to_port(5060, tag).data(TSN.wrapping_add(number), b"question")).unwrap();
        let data = Packet::check(&answer).unwrap().find(DATA).unwrap().data().unwrap();
        assert_eq!(data, (first_tsn.wrapping_add(number), b"hello".as_slice()));
    }
    let answer = ask(&mut server, to_port(5060, tag).chunk(SHUTDOWN, 0, &TSN.to_be_bytes())).unwrap();
    assert!(Packet::check(&answer).unwrap().find(SHUTDOWN_ACK).is_some());
}

#[test]
fn a_port_without_a_listener_and_a_wrong_tag_are_answered_by_abort() {
    let mut server = Server::new(1);
    let answer = ask(&mut server, to_port(5061, 0).initial(TAG, TSN, None)).unwrap();
    assert!(Packet::check(&answer).unwrap().find(ABORT).is_some());
    let answer = ask(&mut server, to_port(5060, 7).data(TSN, b"x")).unwrap();
    assert!(Packet::check(&answer).unwrap().find(ABORT).is_some());
    assert_eq!(ask(&mut server, to_port(5060, 7).chunk(ABORT, 0, &[])), None);
}

#[test]
fn a_packet_that_was_changed_or_cut_is_not_taken() {
    let bytes = to_port(5060, TAG).data(TSN, b"question").finish();
    assert!(Packet::check(&bytes).is_some());
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        assert_eq!(Packet::check(&changed), None, "byte {at}");
        assert_eq!(Packet::check(&bytes[..at]), None, "cut at {at}");
    }
}
