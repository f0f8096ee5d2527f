//! The thread that waits: for upstreams, on behalf of UDP clients, and for TCP clients.

use super::tables::View;
use super::udp::{Peer, Socket};
use super::{Ledger, Shared, WAITING_MAX, tcp};
use crate::dns::answer::Answer;
use crate::dns::{Query, Responder, Response, Target, Transport};
use domain::base::iana::OptRcode;
use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

/// A query that came in a datagram and has to be asked for.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) socket: Arc<Socket>,
    pub(super) peer: Peer,
    pub(super) query: Box<[u8]>,
    /// Of an ExternalName: where it leads, and the beginning of the answer.
    pub(super) begun: Option<(Target, Vec<u8>)>,
}

/// What the thread is given when it starts.
pub(super) struct Asking {
    shared: Arc<Shared>,
    runtime: Runtime,
    acceptors: Vec<TcpListener>,
    waiting: mpsc::Receiver<Pending>,
}

/// What the tasks of the thread share.
pub(super) struct Desk {
    pub(super) shared: Arc<Shared>,
    responder: RefCell<Responder>,
    ledger: Arc<Ledger>,
    view: RefCell<View>,
    /// Queries that wait for upstreams.
    waiting: Cell<usize>,
}

impl Asking {
    pub(super) fn new(
        shared: Arc<Shared>,
        acceptors: Vec<TcpListener>,
        waiting: mpsc::Receiver<Pending>,
    ) -> io::Result<Asking> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Asking { shared, runtime, acceptors, waiting })
    }

    /// Works until `stopped` ends.
    pub(super) fn run(self, stopped: oneshot::Receiver<()>) {
        let Asking { shared, runtime, acceptors, mut waiting } = self;
        let responder = RefCell::new(Responder::new(shared.dns.clone(), RandomState::new().hash_one(0)));
        let ledger = shared.open_ledger();
        let desk = Rc::new(Desk { shared, responder, ledger, view: RefCell::default(), waiting: Cell::new(0) });
        let tasks = LocalSet::new();
        let forwarder = desk.shared.forwarder.clone();
        tasks.spawn_local(async move { forwarder.find_loops().await });
        let connections = Rc::new(Cell::new(0));
        for acceptor in acceptors {
            tasks.spawn_local(tcp::accept(acceptor, desk.clone(), connections.clone()));
        }
        tasks.spawn_local(async move {
            while let Some(pending) = waiting.recv().await {
                tokio::task::spawn_local(desk.clone().answer_datagram(pending));
            }
        });
        runtime.block_on(tasks.run_until(async {
            // The other end is dropped, which is an error here and what was waited for.
            let _ = stopped.await;
        }));
    }
}

impl Desk {
    async fn answer_datagram(self: Rc<Desk>, pending: Pending) {
        let Pending { socket, peer, query, begun } = pending;
        let answer = self.ask(&query, Transport::Udp, begun).await;
        if !answer.is_empty() && socket.send(&answer, &peer).is_err() {
            self.shared.counters.unsent.add();
        }
    }

    /// The answer to a query that came over TCP; empty if there is none.
    pub(super) async fn answer(&self, query: &[u8]) -> Vec<u8> {
        let mut answer = Vec::with_capacity(512);
        let response = {
            let mut view = self.view.borrow_mut();
            let tables = view.get(&self.shared.tables);
            let mut responder = self.responder.borrow_mut();
            let response = responder.respond(tables, Transport::Tcp, query, &mut answer);
            self.ledger.write(responder.counters());
            response
        };
        match response {
            Response::Answer | Response::Silence => answer,
            Response::Forward => self.ask(query, Transport::Tcp, None).await,
            Response::Chase(target) => self.ask(query, Transport::Tcp, Some((target, answer))).await,
        }
    }

    /// Asks upstreams for what a query leads to.
    async fn ask(&self, query: &[u8], transport: Transport, begun: Option<(Target, Vec<u8>)>) -> Vec<u8> {
        let mut answer = Vec::new();
        if self.waiting.get() >= WAITING_MAX {
            self.shared.counters.overloaded.add();
            overloaded(query, transport, &mut answer);
            return answer;
        }
        self.waiting.set(self.waiting.get() + 1);
        let _leaves = Leaves(&self.waiting);
        let forwarder = &self.shared.forwarder;
        let Some((target, mut answer)) = begun else { return forwarder.resolve(query, transport).await };
        let Ok(qtype) = Query::parse(query).map(|query| query.qtype) else { return Vec::new() };
        let upstream = forwarder.chase(&target, qtype).await;
        let mut responder = self.responder.borrow_mut();
        responder.complete(transport, query, &mut answer, Some(&upstream));
        self.ledger.write(responder.counters());
        answer
    }
}

/// One who waits, and leaves whatever comes of it.
struct Leaves<'a>(&'a Cell<usize>);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Writes into `answer` that `query` cannot be asked for.
pub(super) fn overloaded(query: &[u8], transport: Transport, answer: &mut Vec<u8>) {
    answer.clear();
    if let Ok(query) = Query::parse(query) {
        Answer::new(&query, transport, answer).finish_without(OptRcode::SERVFAIL, None);
    }
}
