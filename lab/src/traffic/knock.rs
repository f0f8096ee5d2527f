//! A pod that talks before it is told that it may: connection attempts as fast as they can be sent, from the moment at which the
//! pod's interface is up.
//!
//! The kernel of the pod is passed by: complete frames go to a packet socket, so no route, no neighbor and no answer is waited for,
//! and every attempt is a flow of its own (source ports count up). How many arrive somewhere is for the other end to count.
//!
//! It can be started before the pod: then it waits for the file of the pod's network namespace, enters it, and waits for the interface.
//! It says `{"prepared": N}` before that, and what it did after every round.

use crate::converge::POD_INTERFACE;
use crate::server::ServerProtocol;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, sendto, socket};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use wire::build::{self, Ends, Tcp};
use wire::tcp::flag;

/// Source port of the first attempt on each target.
const FIRST_PORT: u16 = 1024;

/// Time to wait for the namespace and the interface.
const PATIENCE: Duration = Duration::from_secs(30);

/// Attempts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knock {
    /// File of the pod's network namespace; without it the one that this runs in.
    #[serde(default)]
    pub netns: Option<PathBuf>,
    /// The pod's addresses: one of the family of every target.
    pub sources: Vec<IpAddr>,
    /// Whom to try, in turn.
    pub targets: Vec<SocketAddr>,
    /// TCP sends SYNs, UDP datagrams that ask the test server to be sent back.
    pub protocol: ServerProtocol,
    /// Number of attempts.
    pub count: u32,
    /// Pause after each in microseconds; 0 is as fast as possible.
    #[serde(default)]
    pub pause_us: u64,
    /// Whether to begin again after the last one, until this is killed.
    #[serde(default)]
    pub forever: bool,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Attempts that the interface took.
    pub sent: u64,
    /// Of these, in the first ten milliseconds.
    pub sent_in_10_ms: u64,
    /// How often the interface was full, so that an attempt was made again.
    pub full: u64,
    /// Time from the first attempt to the last in microseconds.
    pub elapsed_us: u64,
}

impl Knock {
    pub(super) fn run(&self) -> io::Result<i32> {
        let mut frames = self.frames()?;
        super::say(&serde_json::json!({ "prepared": frames.len() })).map_err(io::Error::other)?;
        self.enter()?;
        let interface = wait_for(|| Ok(interface()))?;
        let mac = interface.addr().ok_or_else(|| io::Error::other("the interface has no MAC address"))?;
        frames.iter_mut().for_each(|frame| frame[6..12].copy_from_slice(&mac));
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), SockProtocol::EthAll)?;
        let began = Instant::now();
        let mut report = Report { sent: 0, sent_in_10_ms: 0, full: 0, elapsed_us: 0 };
        loop {
            for frame in &frames {
                while let Err(error) = sendto(socket.as_raw_fd(), frame, &interface, MsgFlags::empty()) {
                    match error {
                        Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR => report.full += 1,
                        other => return Err(other.into()),
                    }
                    std::thread::yield_now();
                }
                report.sent += 1;
                report.sent_in_10_ms += u64::from(began.elapsed() < Duration::from_millis(10));
                if self.pause_us > 0 {
                    std::thread::sleep(Duration::from_micros(self.pause_us));
                }
            }
            report.elapsed_us = began.elapsed().as_micros() as u64;
            super::say(&report).map_err(io::Error::other)?;
            if !self.forever {
                return Ok(0);
            }
        }
    }

    /// All attempts; the MAC of their sender is not known yet.
    fn frames(&self) -> io::Result<Vec<Vec<u8>>> {
        let families = |target: &SocketAddr| {
            let source = self.sources.iter().find(|source| source.is_ipv4() == target.is_ipv4());
            source.map(|source| (*source, *target)).ok_or_else(|| io::Error::other(format!("no source for {target}")))
        };
        let pairs: Vec<(IpAddr, SocketAddr)> = self.targets.iter().map(families).collect::<io::Result<_>>()?;
        if pairs.is_empty() {
            return Err(io::Error::other("no target"));
        }
        let number_of = |index: u32| {
            let (source, target) = pairs[index as usize % pairs.len()];
            let port = FIRST_PORT.wrapping_add((index / pairs.len() as u32) as u16);
            frame(SocketAddr::new(source, port), target, self.protocol)
        };
        Ok((0..self.count).map(number_of).collect())
    }

    fn enter(&self) -> io::Result<()> {
        let Some(path) = &self.netns else { return Ok(()) };
        // The file is there before the namespace is bound to it.
        wait_for(|| {
            let Ok(file) = File::open(path) else { return Ok(None) };
            Ok(setns(&file, CloneFlags::CLONE_NEWNET).ok())
        })
    }
}

/// The pod's interface, once it is up.
fn interface() -> Option<LinkAddr> {
    let found = getifaddrs().ok()?.find(|address| {
        address.interface_name == POD_INTERFACE
            && address.flags.contains(InterfaceFlags::IFF_UP)
            && address.address.is_some_and(|address| address.as_link_addr().is_some())
    })?;
    found.address?.as_link_addr().copied()
}

/// Spins: whoever sleeps here misses the moment.
fn wait_for<T>(mut condition: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        std::thread::yield_now();
    }
    Err(io::Error::other("the pod's interface did not come up"))
}

/// One attempt: a SYN, or a datagram that is to be sent back.
fn frame(source: SocketAddr, target: SocketAddr, protocol: ServerProtocol) -> Vec<u8> {
    let ends = Ends { dst_mac: switch::GATEWAY_MAC, ..Ends::new(source, target) };
    match protocol {
        ServerProtocol::Tcp => build::tcp(&ends, &Tcp { window: u16::MAX, ..Tcp::flags(flag::SYN) }, &[]),
        _ => build::udp(&ends, b"podplane-echo knock\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Packet;

    #[test]
    fn attempts_are_valid_packets_of_different_flows() {
        for (source, target) in [("10.0.0.1", "10.0.0.2:53"), ("fd00::1", "[fd00::2]:53")] {
            for protocol in [ServerProtocol::Tcp, ServerProtocol::Udp] {
                let knock = Knock {
                    netns: None,
                    sources: vec![source.parse().unwrap()],
                    targets: vec![target.parse().unwrap()],
                    protocol,
                    count: 3,
                    pause_us: 0,
                    forever: false,
                };
                let frames = knock.frames().unwrap();
                assert_eq!(frames.len(), 3);
                let mut keys = Vec::new();
                for frame in &frames {
                    let packet = Packet::check(frame).unwrap();
                    assert!(wire::checksum::verify_l4(frame, &packet), "{protocol} {target}");
                    keys.push(packet.flow());
                }
                keys.dedup();
                assert_eq!(keys.len(), 3, "{keys:?}");
            }
        }
    }
}
