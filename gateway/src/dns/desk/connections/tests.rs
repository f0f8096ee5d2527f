//! Clients with a TCP of their own (smoltcp's) against the endpoint, on a clock that only moves when it is told to.

use super::super::stream::{HASTE, IDLE, PIPELINED_MAX};
use super::*;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use wire::Packet;

const SHARD: ShardId = ShardId(0);
const MTU: u16 = 1_450;

fn dns(v6: bool) -> IpAddr {
    let text = if v6 { "fd00:10:96::a" } else { "10.96.0.10" };
    text.parse().expect("an address")
}

/// One pod: its stack, its sockets, its port.
struct Client {
    port: PortId,
    interface: Interface,
    device: Queues,
    sockets: SocketSet<'static>,
    next_port: u16,
}

impl Client {
    fn new(number: u8) -> Client {
        let mut device = Queues::new(MTU);
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut device, Instant::ZERO);
        interface.update_ip_addrs(|list| {
            for text in [format!("10.244.1.{number}"), format!("fd00:10:244:1::{number}")] {
                let addr: IpAddr = text.parse().expect("an address");
                list.push(IpCidr::new(addr.into(), 0)).expect("room for two");
            }
        });
        let port = PortId(u32::from(number));
        Client { port, interface, device, sockets: SocketSet::new(Vec::new()), next_port: 40_000 }
    }

    fn connect(&mut self, v6: bool) -> SocketHandle {
        let buffer = || SocketBuffer::new(vec![0; 70_000]);
        let mut socket = Socket::new(buffer(), buffer());
        self.next_port += 1;
        socket.connect(self.interface.context(), (dns(v6), 53), self.next_port).expect("a fresh socket connects");
        self.sockets.add(socket)
    }

    fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    fn send(&mut self, handle: SocketHandle, message: &[u8]) {
        let bytes = [&(message.len() as u16).to_be_bytes()[..], message].concat();
        assert_eq!(self.socket(handle).send_slice(&bytes), Ok(bytes.len()), "the client's buffer is large");
    }

    /// What has come, without the lengths.
    fn received(&mut self, handle: SocketHandle) -> Vec<Vec<u8>> {
        let mut bytes = vec![0; 70_000];
        let len = self.socket(handle).recv_slice(&mut bytes).unwrap_or(0);
        let (mut rest, mut messages) = (&bytes[..len], Vec::new());
        while let [high, low, tail @ ..] = rest {
            let (message, tail) = tail.split_at(usize::from(u16::from_be_bytes([*high, *low])));
            messages.push(message.to_vec());
            rest = tail;
        }
        messages
    }
}

struct World {
    now: Instant,
    connections: Connections,
    clients: Vec<Client>,
    queries: VecDeque<(ConnectionId, Vec<u8>)>,
}

impl World {
    fn new(clients: u8) -> World {
        World {
            now: Instant::from_secs(100),
            connections: Connections::new(&[dns(false), dns(true)], MTU, 7),
            clients: (2..2 + clients).map(Client::new).collect(),
            queries: VecDeque::new(),
        }
    }

    /// Lets packets go to and fro until nobody has any more.
    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            for client in &mut self.clients {
                client.interface.poll(self.now, &mut client.device, &mut client.sockets);
                for packet in std::mem::take(&mut client.device.transmitted) {
                    quiet = false;
                    let ethertype: u16 = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
                    let frame = [&[0; 12][..], &ethertype.to_be_bytes(), &packet].concat();
                    let query = Query::new(client.port, &Packet::check(&frame).expect("a packet"));
                    self.connections.handle_packet(self.now, SHARD, query, packet);
                }
            }
            while let Some(event) = self.connections.poll_event() {
                quiet = false;
                match event {
                    Event::Query(id, message) => self.queries.push_back((id, message)),
                    Event::Packet(SHARD, port, packet) => {
                        assert!(packet.len() <= usize::from(MTU), "{}", packet.len());
                        let client = self.clients.iter_mut().find(|client| client.port == port).expect("a client");
                        client.device.received = Some(packet);
                        client.interface.poll(self.now, &mut client.device, &mut client.sockets);
                    }
                    Event::Packet(shard, ..) => panic!("nobody is at {shard:?}"),
                }
            }
            if quiet {
                return;
            }
        }
    }

    /// Answers the next query with what `answer` makes of it.
    fn answer(&mut self, answer: impl Fn(&[u8]) -> Vec<u8>) {
        let (id, message) = self.queries.pop_front().expect("somebody asks");
        self.connections.answer(self.now, id, &answer(&message));
    }

    /// Lets time pass, deadline by deadline.
    fn wait(&mut self, time: smoltcp::time::Duration) {
        let end = self.now + time;
        while let Some(at) = self.connections.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.connections.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
        self.settle();
    }
}

#[test]
fn d12_queries_in_a_row_on_one_connection_are_answered_in_any_order() {
    for v6 in [false, true] {
        let mut world = World::new(1);
        let handle = world.clients[0].connect(v6);
        world.settle();
        (0..5u8).for_each(|n| world.clients[0].send(handle, &[n; 40]));
        world.settle();
        assert_eq!(world.queries.len(), 5);
        world.queries.make_contiguous().reverse();
        (0..5).for_each(|_| world.answer(|query| [query, b"!"].concat()));
        world.settle();
        let expected: Vec<Vec<u8>> = (0..5u8).rev().map(|n| [&[n; 40][..], b"!"].concat()).collect();
        assert_eq!(world.clients[0].received(handle), expected);
        let counters = world.connections.counters();
        assert_eq!((counters.open, counters.accepted, counters.refused), (1, 1, 0));
    }
}

#[test]
fn d12_a_query_in_many_pieces_and_an_answer_of_the_greatest_length_pass() {
    let mut world = World::new(1);
    let handle = world.clients[0].connect(false);
    world.settle();
    let query = vec![9; 65_535];
    world.clients[0].send(handle, &query);
    world.settle();
    assert_eq!(world.queries.front().map(|(_, message)| message.len()), Some(query.len()));
    world.answer(|query| query.to_vec());
    world.settle();
    assert_eq!(world.clients[0].received(handle), [query]);
}

#[test]
fn a_client_that_fetches_no_answers_is_not_read_on() {
    let mut world = World::new(1);
    let handle = world.clients[0].connect(false);
    world.settle();
    (0..200u8).for_each(|n| world.clients[0].send(handle, &[n; 100]));
    world.settle();
    assert_eq!(world.queries.len(), PIPELINED_MAX, "the others wait in its own kernel");
    // Answers that the client's window has no room for.
    for _ in 0..PIPELINED_MAX {
        world.answer(|_| vec![7; 60_000]);
    }
    world.settle();
    let seen = PIPELINED_MAX + world.queries.len();
    assert!(seen < PIPELINED_MAX + 5, "{seen} queries were read though nothing is fetched");
    // As soon as it is, the others are.
    let (mut seen, mut fetched) = (seen, 0);
    while seen < 200 {
        let buffered = world.clients[0].socket(handle).recv(|bytes| (bytes.len(), bytes.len()));
        fetched += buffered.expect("the connection stands");
        world.settle();
        while !world.queries.is_empty() {
            world.answer(|query| query.to_vec());
            world.settle();
            seen += 1;
        }
        assert!(fetched < PIPELINED_MAX * 60_002 + 200 * 102, "it goes on");
    }
}

#[test]
fn a_connection_that_is_idle_is_closed_and_one_that_waits_for_an_answer_is_not() {
    let mut world = World::new(1);
    let (idle, asking) = (world.clients[0].connect(false), world.clients[0].connect(true));
    world.settle();
    world.clients[0].send(asking, b"a query");
    world.settle();
    world.wait(IDLE - HASTE);
    assert_eq!(world.clients[0].socket(idle).state(), State::Established);
    world.wait(HASTE);
    assert_eq!(world.clients[0].socket(idle).state(), State::CloseWait);
    assert_eq!(world.clients[0].socket(asking).state(), State::Established);
    world.answer(|_| b"an answer".to_vec());
    world.settle();
    assert_eq!(world.clients[0].received(asking), [b"an answer"]);
    // The client does not close its side: it is given up.
    world.wait(HASTE);
    assert_eq!(world.clients[0].socket(idle).state(), State::Closed, "reset");
    world.wait(IDLE + HASTE + HASTE);
    assert_eq!(world.connections.counters().open, 0);
    assert_eq!(world.connections.poll_timeout(), None);
}

#[test]
fn a_piece_of_a_query_does_not_keep_a_connection_open() {
    let mut world = World::new(1);
    let handle = world.clients[0].connect(false);
    world.settle();
    for _ in 0..20 {
        let _ = world.clients[0].socket(handle).send_slice(&[1]);
        world.settle();
        world.wait(IDLE / 10);
    }
    assert_eq!(world.connections.counters().open, 0);
}

#[test]
fn what_a_client_asks_before_it_ends_its_side_is_answered() {
    let mut world = World::new(1);
    let handle = world.clients[0].connect(false);
    world.settle();
    world.clients[0].send(handle, b"the last one");
    world.clients[0].socket(handle).close();
    world.settle();
    assert_eq!(world.connections.counters().open, 1);
    world.answer(|query| query.to_vec());
    world.settle();
    assert_eq!(world.clients[0].received(handle), [b"the last one"]);
    // The client takes its time to acknowledge the end.
    world.wait(smoltcp::time::Duration::from_millis(50));
    assert_eq!(world.connections.counters().open, 0);
}

#[test]
fn one_port_uses_up_its_own_share_and_not_that_of_others() {
    let mut world = World::new(2);
    for _ in 0..PER_PORT_MAX + 5 {
        world.clients[0].connect(false);
        world.settle();
    }
    let other = world.clients[1].connect(false);
    world.settle();
    assert_eq!(world.clients[1].socket(other).state(), State::Established);
    let counters = world.connections.counters();
    assert_eq!((counters.open as usize, counters.refused), (PER_PORT_MAX + 1, 5));
    world.connections.forget_port(world.clients[0].port);
    assert_eq!(world.connections.counters().open, 1);
    let another = world.clients[0].connect(false);
    world.settle();
    assert_eq!(world.clients[0].socket(another).state(), State::Established);
}

#[test]
fn handshakes_that_do_not_go_on_have_their_limit_and_their_time() {
    let mut world = World::new(1);
    let syn = |client: &mut Client, now| {
        let handle = client.connect(false);
        client.interface.poll(now, &mut client.device, &mut client.sockets);
        client.sockets.remove(handle);
        client.device.transmitted.pop().expect("a SYN")
    };
    for _ in 0..HALF_OPEN_PER_PORT_MAX + 3 {
        let packet = syn(&mut world.clients[0], world.now);
        let frame = [&[0; 12][..], &[8, 0], &packet].concat();
        let query = Query::new(world.clients[0].port, &Packet::check(&frame).expect("a packet"));
        world.connections.handle_packet(world.now, SHARD, query, packet);
        // Its answer gets lost.
        while world.connections.poll_event().is_some() {}
    }
    assert_eq!(world.connections.counters().open as usize, HALF_OPEN_PER_PORT_MAX);
    assert_eq!(world.connections.counters().refused, 3);
    let end = world.now + HASTE + HASTE;
    while let Some(at) = world.connections.poll_timeout().filter(|at| *at <= end) {
        world.connections.handle_timeout(at);
        while world.connections.poll_event().is_some() {}
    }
    assert_eq!(world.connections.counters().open, 0);
}

#[test]
fn a_packet_of_no_connection_is_reset_and_leaves_nothing() {
    let mut world = World::new(1);
    let handle = world.clients[0].connect(false);
    world.settle();
    world.connections.forget_port(world.clients[0].port);
    world.clients[0].send(handle, b"is anybody there");
    world.settle();
    assert_eq!(world.clients[0].socket(handle).state(), State::Closed, "reset");
    assert_eq!(world.connections.counters().open, 0);
    assert_eq!(world.connections.poll_timeout(), None);
}

#[test]
fn an_answer_to_a_connection_that_is_over_goes_nowhere() {
    let mut world = World::new(1);
    let handle = world.clients[0].connect(false);
    world.settle();
    world.clients[0].send(handle, b"a query");
    world.settle();
    world.clients[0].socket(handle).abort();
    world.settle();
    world.answer(|query| query.to_vec());
    assert_eq!(world.connections.poll_event(), None);
}
