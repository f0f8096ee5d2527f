//! Which ports are open, which are asked for, and which cannot be had.

use super::sockets;
use policy::routes::Routes;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};

/// What becomes of ports when routes change.
#[derive(Debug)]
pub(super) enum PortChange {
    /// Connections are to be accepted on these sockets, one for each worker.
    Open(u16, Vec<TcpListener>),
    /// No more are to be accepted.
    Close(u16),
}

/// The ports of a server.
#[derive(Debug)]
pub(super) struct Ports {
    http: SocketAddr,
    https: SocketAddr,
    workers: usize,
    /// Sockets of the ports of HTTP and HTTPS, until there are routes.
    held: Vec<(u16, Vec<TcpListener>)>,
    /// The other ports that routes ask for.
    others: BTreeMap<u16, Other>,
}

/// A port beside those of HTTP and HTTPS.
#[derive(Debug)]
struct Other {
    address: SocketAddr,
    /// Why it is not open; `None` if it is.
    error: Option<String>,
}

impl Ports {
    /// Binds the ports of `http` and `https`. The address that cannot be bound, and why.
    pub(super) fn bind(
        http: SocketAddr,
        https: SocketAddr,
        workers: usize,
    ) -> Result<Ports, (SocketAddr, std::io::Error)> {
        let bind = |address| sockets::bind(address, workers).map_err(|error| (address, error));
        let (http, http_sockets) = bind(http)?;
        let (https, https_sockets) = bind(https)?;
        let held = vec![(http.port(), http_sockets), (https.port(), https_sockets)];
        Ok(Ports { http, https, workers, held, others: BTreeMap::new() })
    }

    pub(super) fn http(&self) -> SocketAddr {
        self.http
    }

    pub(super) fn https(&self) -> SocketAddr {
        self.https
    }

    /// Follows `routes`. A port that changes to or from TLS keeps its socket if both have the same address.
    pub(super) fn follow(&mut self, routes: &Routes) -> Vec<PortChange> {
        let opened = std::mem::take(&mut self.held).into_iter();
        let mut changes: Vec<PortChange> = opened.map(|(port, sockets)| PortChange::Open(port, sockets)).collect();
        let mut before = std::mem::take(&mut self.others);
        for served in &routes.ports {
            if served.port == self.http.port() || served.port == self.https.port() {
                continue;
            }
            let host = if served.tls { self.https } else { self.http };
            let address = SocketAddr::new(host.ip(), served.port);
            let kept = before.remove(&served.port).filter(|other| other.address == address || other.error.is_some());
            if let Some(kept) = kept {
                self.others.insert(served.port, Other { address, ..kept });
            } else {
                // Whatever was open under this port has another address.
                changes.push(PortChange::Close(served.port));
                self.others.insert(served.port, Other { address, error: Some("not tried yet".to_owned()) });
            }
        }
        changes.extend(before.into_keys().map(PortChange::Close));
        changes.extend(self.retry());
        changes
    }

    /// Tries to bind what is asked for and not open.
    pub(super) fn retry(&mut self) -> Vec<PortChange> {
        let mut changes = Vec::new();
        for (port, other) in self.others.iter_mut().filter(|(_, other)| other.error.is_some()) {
            match sockets::bind(other.address, self.workers) {
                Ok((_, sockets)) => {
                    other.error = None;
                    changes.push(PortChange::Open(*port, sockets));
                }
                Err(error) => other.error = Some(error.to_string()),
            }
        }
        changes
    }

    /// Addresses that cannot be bound, and why.
    pub(super) fn problems(&self) -> impl Iterator<Item = (SocketAddr, &str)> {
        self.others.values().filter_map(|other| Some((other.address, other.error.as_deref()?)))
    }
}
