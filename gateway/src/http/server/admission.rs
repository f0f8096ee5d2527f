//! How many connections there are, in all and for each client, and whether one more is let in.
//!
//! A [`Permit`] is one connection. It lives inside of the connection's stream ([`Admitted`](super::stream::Admitted)), so it is
//! returned when the last owner of the stream drops it, whatever became of the connection in between (a WebSocket tunnel, say).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who counts as one client: an IPv4 address, or the 64 bits of an IPv6 address that a network gives to one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Client(IpAddr);

impl Client {
    fn of(address: IpAddr) -> Client {
        match address.to_canonical() {
            IpAddr::V6(v6) => Client(Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX)).into()),
            v4 => Client(v4),
        }
    }
}

/// The counts, shared by all workers.
#[derive(Debug)]
pub(super) struct Admission {
    total_max: usize,
    per_client_max: usize,
    total: AtomicUsize,
    /// No more entries than connections.
    clients: Mutex<HashMap<Client, usize>>,
}

impl Admission {
    pub(super) fn new(total_max: usize, per_client_max: usize) -> Arc<Admission> {
        Arc::new(Admission { total_max, per_client_max, total: AtomicUsize::new(0), clients: Mutex::default() })
    }

    /// One more connection; `None` if there are as many as may be. `own` is counted up with it.
    pub(super) fn admit(self: &Arc<Admission>, own: &Arc<AtomicUsize>) -> Option<Permit> {
        let total = self.total.fetch_add(1, Ordering::Relaxed);
        if total >= self.total_max {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        own.fetch_add(1, Ordering::Relaxed);
        Some(Permit { admission: self.clone(), own: own.clone(), client: None })
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<Client, usize>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections that there are.
    pub(super) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }
}

/// One connection that was let in.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    own: Arc<AtomicUsize>,
    client: Option<Client>,
}

impl Permit {
    /// Counts the connection as one of `address`'s; `false` if that has as many as it may have.
    #[must_use]
    pub(super) fn assign(&mut self, address: IpAddr) -> bool {
        assert!(self.client.is_none(), "a connection has one client");
        let client = Client::of(address);
        let mut clients = self.admission.clients();
        let count = clients.entry(client).or_insert(0);
        if *count >= self.admission.per_client_max {
            return false;
        }
        *count += 1;
        drop(clients);
        self.client = Some(client);
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(client) = self.client {
            let mut clients = self.admission.clients();
            let count = clients.get_mut(&client).expect("a client is counted while it has connections");
            *count -= 1;
            if *count == 0 {
                clients.remove(&client);
            }
        }
        self.admission.total.fetch_sub(1, Ordering::Relaxed);
        self.own.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_full_house_lets_one_in_for_one_that_goes() {
        let (admission, own) = (Admission::new(2, 9), Arc::default());
        let one = admission.admit(&own).expect("the first");
        let two = admission.admit(&own).expect("the second");
        assert!(admission.admit(&own).is_none(), "a third");
        drop(one);
        let three = admission.admit(&own).expect("in its place");
        assert_eq!((admission.total(), own.load(Ordering::Relaxed)), (2, 2));
        drop((two, three));
        assert_eq!((admission.total(), own.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn a_client_has_its_share_and_others_theirs() {
        let (admission, own) = (Admission::new(99, 2), Arc::default());
        let assign = |text: &str| {
            let mut permit = admission.admit(&own).expect("there is room");
            permit.assign(address(text)).then_some(permit)
        };
        let one = assign("192.0.2.1").expect("the first");
        let two = assign("::ffff:192.0.2.1").expect("the same client by another name");
        assert!(assign("192.0.2.1").is_none(), "a third");
        assert_eq!(admission.total(), 2, "the third is not counted any more");
        let other = assign("192.0.2.2").expect("another client");
        drop(one);
        let three = assign("192.0.2.1").expect("in its place");
        drop((two, other, three));
        assert_eq!(admission.clients().len(), 0, "who has no connection is forgotten");
    }

    #[test]
    fn an_ipv6_site_is_one_client() {
        let (admission, own) = (Admission::new(99, 1), Arc::default());
        let (mut one, mut two) = (admission.admit(&own).expect("room"), admission.admit(&own).expect("room"));
        let mut three = admission.admit(&own).expect("room");
        assert!(one.assign(address("2001:db8:0:1::1")));
        assert!(!two.assign(address("2001:db8:0:1:ffff::2")));
        assert!(three.assign(address("2001:db8:0:2::1")));
    }
}
