//! UDP clients among the node's processes: each has a socket of its own to its backend, for as long as it speaks.
//!
//! A session is found by claim, client and the address that was asked, so that answers come from that address. Before a
//! datagram is passed on the backend is checked: one that serves no longer is replaced by the tables' choice, at once (S13).

use super::{Chooser, Refusals};
use crate::sys::udp;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use socket2::Socket;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::Protocol;

/// Sessions at the same time; the one that was silent for longest makes room. One descriptor each.
const SESSIONS_MAX: usize = 1_024;

/// A session is forgotten when nothing was said for so long, as the switch forgets a UDP flow.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// Datagrams of one socket per turn.
const DATAGRAMS_PER_TURN: usize = 64;

/// The longest UDP payload there is.
const DATAGRAM_MAX_BYTES: usize = 65_535;

/// Who speaks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    client: SocketAddr,
    asked: SocketAddr,
}

struct Session {
    key: Key,
    backend: SocketAddr,
    socket: UdpSocket,
    /// The claim's socket, which answers.
    claim: Arc<Socket>,
    last: Instant,
}

/// All sessions.
pub(crate) struct Sessions {
    /// First of the tokens.
    base: usize,
    slots: Vec<Option<Session>>,
    free: Vec<usize>,
    by_key: HashMap<Key, usize>,
    buffer: Vec<u8>,
}

impl Sessions {
    /// None yet; tokens are given from `base` on.
    pub(crate) fn new(base: usize) -> Sessions {
        let buffer = vec![0; DATAGRAM_MAX_BYTES];
        Sessions { base, slots: Vec::new(), free: Vec::new(), by_key: HashMap::new(), buffer }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Takes what clients sent to a claimed port; `true` if none is left.
    pub(crate) fn take(
        &mut self,
        registry: &Registry,
        now: Instant,
        port: u16,
        claim: &Arc<Socket>,
        chooser: &mut Chooser,
        refusals: &Refusals,
    ) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut drained = false;
        for _ in 0..DATAGRAMS_PER_TURN {
            match udp::receive_asked(claim, &mut buffer) {
                Ok(Some(asked)) => {
                    let key = Key { client: asked.sender, asked: SocketAddr::new(asked.address, port) };
                    let slot = self.find_or_open(registry, now, key, claim, chooser);
                    if slot.is_none() && chooser.refuses(Protocol::UDP, key.client, key.asked) {
                        refusals.send_unreachable(key.client, key.asked);
                    }
                    if let Some(session) = slot.and_then(|slot| self.slots[slot].as_mut()) {
                        session.last = now;
                        // What the host TAP does not take is lost, as datagrams may be.
                        let _ = session.socket.send(&buffer[..asked.len_bytes]);
                    }
                }
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    drained = true;
                    break;
                }
                // What an earlier answer met (a client that is gone); it is told once.
                Err(_) => {}
            }
        }
        self.buffer = buffer;
        drained
    }

    fn find_or_open(
        &mut self,
        registry: &Registry,
        now: Instant,
        key: Key,
        claim: &Arc<Socket>,
        chooser: &mut Chooser,
    ) -> Option<usize> {
        if let Some(&slot) = self.by_key.get(&key) {
            let backend = self.slots[slot].as_ref().map(|session| session.backend)?;
            if chooser.is_backend(Protocol::UDP, key.asked, backend) {
                return Some(slot);
            }
            self.close(slot);
        }
        let backend = chooser.choose(now, Protocol::UDP, key.client, key.asked)?;
        if self.by_key.len() >= SESSIONS_MAX {
            let sessions = self.slots.iter().enumerate().filter_map(|(slot, session)| Some((slot, session.as_ref()?)));
            let oldest = sessions.min_by_key(|(_, session)| session.last).map(|(slot, _)| slot)?;
            self.close(oldest);
        }
        let any = if backend.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let mut socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
        socket.connect(backend).ok()?;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        if registry.register(&mut socket, Token(self.base + slot), Interest::READABLE).is_err() {
            self.free.push(slot);
            return None;
        }
        self.slots[slot] = Some(Session { key, backend, socket, claim: claim.clone(), last: now });
        self.by_key.insert(key, slot);
        Some(slot)
    }

    /// Passes on what the backend of `token` answered; `true` if nothing is left.
    pub(crate) fn answer(&mut self, now: Instant, token: Token) -> bool {
        let slot = token.0 - self.base;
        let Some(Some(session)) = self.slots.get_mut(slot) else { return true };
        for _ in 0..DATAGRAMS_PER_TURN {
            match session.socket.recv(&mut self.buffer) {
                Ok(len) => {
                    session.last = now;
                    let Key { client, asked } = session.key;
                    let _ = udp::send_from(&session.claim, asked.ip(), client, &self.buffer[..len]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    // Nobody at the backend's port: the client's next datagram may find another.
                    self.close(slot);
                    return true;
                }
            }
        }
        false
    }

    /// Forgets sessions that are idle; gives when to call again.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Instant> {
        let idle = |session: &Session| now.saturating_duration_since(session.last) >= IDLE_MAX;
        let old: Vec<usize> =
            (0..self.slots.len()).filter(|slot| self.slots[*slot].as_ref().is_some_and(idle)).collect();
        old.into_iter().for_each(|slot| self.close(slot));
        let oldest = self.slots.iter().flatten().map(|session| session.last).min()?;
        Some(oldest + IDLE_MAX)
    }

    /// Forgets the sessions that a claim's socket answers.
    pub(crate) fn close_claim(&mut self, claim: &Arc<Socket>) {
        let of_claim = |session: &Session| Arc::ptr_eq(&session.claim, claim);
        let old: Vec<usize> =
            (0..self.slots.len()).filter(|slot| self.slots[*slot].as_ref().is_some_and(of_claim)).collect();
        old.into_iter().for_each(|slot| self.close(slot));
    }

    fn close(&mut self, slot: usize) {
        if let Some(session) = self.slots[slot].take() {
            self.by_key.remove(&session.key);
            self.free.push(slot);
        }
    }
}
