//! Heartbeats between threads on the loopback network; nothing is announced to anybody.

use super::*;

/// How long anything may take before a test fails; far above what it takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// A node without a dataplane: what it would announce comes out of a channel.
struct Node {
    shared: Arc<Shared>,
    wake: UnixStream,
    wins: Receiver<BTreeSet<IpAddr>>,
    won: BTreeSet<IpAddr>,
    thread: Option<JoinHandle<()>>,
}

/// A port and loopback addresses that no other test uses at this moment.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn address(number: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, number])
}

fn vip(number: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, number])
}

/// Node `number` of `count`, with the addresses vip(0) to vip(63) to announce.
fn start(number: u8, count: u8, port: u16) -> Node {
    let name = |number: u8| format!("node{number}");
    let candidates: Arc<[Arc<str>]> = (1..=count).map(|number| name(number).into()).collect();
    let ballots = (0..64).map(|number| Ballot { address: vip(number), candidates: candidates.clone() }).collect();
    let peers = (1..=count).filter(|other| *other != number).map(|other| (name(other), vec![address(other)])).collect();
    let inbox = Inbox { plan: Some(Plan { ballots, peers }), uplink: Ok(()), stop: false };
    let shared = Arc::new(Shared { inbox: Mutex::new(inbox), seen: Mutex::default() });
    let (wake, woken) = UnixStream::pair().unwrap();
    woken.set_nonblocking(true).unwrap();
    let (won, wins) = channel();
    let config = AnnouncerConfig {
        node_name: name(number),
        addresses: vec![address(number)],
        port,
        vni: Vni::new(1).unwrap(),
        is_succeeded: false,
    };
    let beats = Beats::new(config, shared.clone(), woken, won);
    let thread = std::thread::spawn(move || beats.run());
    Node { shared, wake, wins, won: BTreeSet::new(), thread: Some(thread) }
}

impl Node {
    fn won(&mut self) -> &BTreeSet<IpAddr> {
        self.won = self.wins.try_iter().last().unwrap_or_else(|| self.won.clone());
        &self.won
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        lock(&self.shared.inbox).stop = true;
        ring(&self.wake);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// How long it takes until each of the 64 addresses is announced by exactly one of `nodes`, and by none but `of`.
fn settle(nodes: &mut [Node], of: usize) -> Duration {
    let began = Instant::now();
    loop {
        let won: Vec<IpAddr> = nodes.iter_mut().flat_map(|node| node.won().clone()).collect();
        let distinct: BTreeSet<IpAddr> = won.iter().copied().collect();
        let all_share = nodes.iter().all(|node| !node.won.is_empty());
        if won.len() == 64 && distinct.len() == 64 && all_share && nodes.len() == of {
            return began.elapsed();
        }
        assert!(began.elapsed() < DEADLINE, "{} announcements of {} addresses", won.len(), distinct.len());
        std::thread::yield_now();
    }
}

#[test]
fn each_address_is_announced_once_and_moves_at_once_when_its_node_ends() {
    let port = free_port();
    let mut nodes: Vec<Node> = (1..=3).map(|number| start(number, 3, port)).collect();
    settle(&mut nodes, 3);
    let owners = lock(&nodes[0].shared.seen).owners.clone();
    let leaving = nodes.pop().unwrap();
    let its: BTreeSet<IpAddr> = leaving.won.clone();
    drop(leaving);
    let took = settle(&mut nodes, 2);
    assert!(took < heartbeat::DEAD_AFTER, "a farewell is faster than silence: {took:?}");
    let after = lock(&nodes[0].shared.seen).owners.clone();
    let moved: BTreeSet<IpAddr> = after.keys().copied().filter(|vip| owners[vip] != after[vip]).collect();
    assert_eq!(moved, its, "nothing else moves");
}

#[test]
fn a_node_that_falls_silent_loses_its_addresses_within_two_seconds_and_a_stranger_is_not_heard() {
    let port = free_port();
    let dying = UdpSocket::bind((address(3), port)).unwrap();
    let stranger = UdpSocket::bind((address(4), port)).unwrap();
    let beat = |socket: &UdpSocket, name: &str| {
        let datagram = heartbeat::encode(Kind::Alive, Vni::new(1).unwrap(), name);
        (1..=2).for_each(|to| drop(socket.send_to(&datagram, (address(to), port))));
    };
    let mut nodes: Vec<Node> = (1..=2).map(|number| start(number, 3, port)).collect();
    let began = Instant::now();
    // For longer than silence means nothing, only node3 is heard of.
    let mut last = Instant::now();
    while began.elapsed() < heartbeat::DEAD_AFTER * 2 {
        beat(&dying, "node3");
        last = Instant::now();
        std::thread::park_timeout(INTERVAL);
        let won: usize = nodes.iter_mut().map(|node| node.won().len()).sum();
        assert!(won < 64, "node3 lives and has its share");
    }
    let took = loop {
        beat(&stranger, "node3");
        let won: usize = nodes.iter_mut().map(|node| node.won().len()).sum();
        if won == 64 {
            break last.elapsed();
        }
        assert!(last.elapsed() < DEADLINE, "{won}");
        std::thread::park_timeout(Duration::from_millis(10));
    };
    assert!((Duration::from_millis(900)..Duration::from_secs(2)).contains(&took), "{took:?}");
}

#[test]
fn a_node_without_uplink_leaves_its_addresses_to_the_others() {
    let port = free_port();
    let mut nodes: Vec<Node> = (1..=2).map(|number| start(number, 2, port)).collect();
    settle(&mut nodes, 2);
    lock(&nodes[0].shared.inbox).uplink = Err("pulled out".to_owned());
    ring(&nodes[0].wake);
    let began = Instant::now();
    while !nodes[0].won().is_empty() || nodes[1].won().len() < 64 {
        assert!(began.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
    assert_eq!(lock(&nodes[0].shared.seen).hindrance.as_deref(), Some("pulled out"));
}
