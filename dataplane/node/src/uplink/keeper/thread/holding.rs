//! Which claims are held, and which of them refuse.

use super::{CLAIM_BASE, CONNECTION_BASE, HeldClaim, HeldSocket, Thread};
use crate::uplink::bpf;
use crate::uplink::claims::{self, Claim, Held};
use crate::uplink::status::ClaimFailure;
use mio::unix::SourceFd;
use mio::{Interest, Token};
use policy::tables::{NodeFrontend, Tables};
use socket2::Socket;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use wire::Protocol;

impl Thread {
    /// Claims what is not held yet; what is not served any more is kept until [`Thread::let_go`].
    pub(super) fn hold(&mut self, tables: Arc<Tables>) -> Vec<ClaimFailure> {
        let unchanged = self.failures.is_empty() && tables.shares_frontends(self.chooser.tables());
        if !unchanged {
            self.claim_frontends(&tables);
        }
        self.chooser.set_tables(tables, &self.node_name);
        self.refuse_without_endpoint();
        self.failures.clone()
    }

    /// Has the listeners of Services without a usable endpoint take no connections, which are refused instead, and the others
    /// take them (again). A listener whose filter cannot be set stays as it is: the relay resets what it accepts.
    fn refuse_without_endpoint(&mut self) {
        let mut changes = Vec::new();
        let mut any = false;
        for (claim, held) in &mut self.claims {
            let Some(frontends) = self.wanted.get(claim) else { continue };
            let HeldSocket::Tcp(listener) = &held.held else { continue };
            let refuse = frontends.iter().all(|frontend| self.chooser.lacks_endpoint(frontend));
            any |= refuse;
            if refuse != held.refuses {
                changes.push((listener, &mut held.refuses, refuse));
            }
        }
        // Heard while a listener is deaf, so that each SYN is seen by one of them.
        let hears = any && self.refusals.listen(self.poll.registry());
        for (listener, refuses, refuse) in changes {
            let refuse = refuse && hears;
            let filter = if refuse { bpf::take_nothing() } else { bpf::take_loopback() };
            if bpf::attach(listener, &filter).is_ok() {
                *refuses = refuse;
            }
        }
        if !any {
            self.refusals.stop_listening();
        }
    }

    fn claim_frontends(&mut self, tables: &Tables) {
        let frontends = tables.find_node(&self.node_name).map(|node| tables.node_frontends(node)).unwrap_or_default();
        self.wanted = claims::plan(&frontends);
        if self.sctp.is_empty() && self.wanted.keys().any(|claim| claim.protocol == Protocol::SCTP) {
            self.sctp = claims::hold_sctp();
        }
        let missing: Vec<_> = self.wanted.iter().filter(|(claim, _)| !self.claims.contains_key(claim)).collect();
        let missing: Vec<(Claim, NodeFrontend)> = missing.into_iter().map(|(claim, by)| (*claim, by[0])).collect();
        self.failures.clear();
        for (claim, by) in missing {
            let Err(error) = claim.hold().and_then(|held| self.take_over(claim, held)) else { continue };
            let entry = tables.service(by.service);
            self.failures.push(ClaimFailure {
                host_port: tables.host_port(by.service).map(|host_port| host_port.field.clone()),
                namespace: entry.service.namespace.clone(),
                name: entry.service.name.clone(),
                protocol: claim.protocol,
                address: claim.address,
                port: claim.port,
                error: error.kind(),
            });
        }
        self.set_filter();
    }

    /// Polls a claim's socket.
    fn take_over(&mut self, claim: Claim, held: Held) -> io::Result<()> {
        self.claims_so_far += 1;
        let token = Token(CLAIM_BASE + self.claims_so_far % (CONNECTION_BASE - CLAIM_BASE));
        let poll = |socket: &Socket| {
            let registry = self.poll.registry();
            registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)
        };
        let held = match held {
            Held::Tcp(socket) => {
                poll(&socket)?;
                HeldSocket::Tcp(socket)
            }
            Held::Udp(socket) => {
                poll(&socket)?;
                HeldSocket::Udp(Arc::new(socket))
            }
            Held::Sctp => HeldSocket::Sctp,
        };
        self.tokens.insert(token, claim);
        self.claims.insert(claim, HeldClaim { held, token, refuses: false });
        Ok(())
    }

    pub(super) fn let_go(&mut self) {
        let wanted = &self.wanted;
        if self.claims.keys().all(|claim| wanted.contains_key(claim)) {
            return;
        }
        let gone: Vec<_> = self.claims.extract_if(.., |claim, _| !wanted.contains_key(claim)).collect();
        for (_, claim) in gone {
            self.tokens.remove(&claim.token);
            // A UDP socket may live on in the sessions that answer through it.
            if let HeldSocket::Udp(socket) = &claim.held {
                let _ = self.poll.registry().deregister(&mut SourceFd(&socket.as_raw_fd()));
                self.sessions.close_claim(socket);
            }
        }
        if !self.claims.keys().any(|claim| claim.protocol == Protocol::SCTP) {
            self.sctp.clear();
        }
        self.set_filter();
    }
}
