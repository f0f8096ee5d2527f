//! Connections that have changed their protocol (WebSocket and others): bytes both ways until both sides are done.
//!
//! A tunnel belongs to no route any more. Routes and endpoints may change or go; it stays until the client or the backend closes.
//! When one side has sent all it will, the other is told so and may go on.

use super::backend::{Http1, Lease};
use super::connection::ClientConnection;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::rc::Rc;
use tokio::io::{AsyncWriteExt, copy_bidirectional};

/// A client and a backend that are to be joined.
#[derive(Debug)]
pub(super) struct Tunnel {
    client: OnUpgrade,
    backend: Http1,
    lease: Lease,
    /// Counts as open as long as the tunnel is.
    connection: Rc<ClientConnection>,
}

impl Tunnel {
    /// Joins `client`, once it has its answer, with `backend`.
    pub(super) fn new(client: OnUpgrade, backend: Http1, lease: Lease, connection: Rc<ClientConnection>) -> Tunnel {
        Tunnel { client, backend, lease, connection }
    }

    /// Runs it on its own: the request that began it is over.
    pub(super) fn spawn(self) {
        tokio::task::spawn_local(self.run());
    }

    async fn run(self) {
        let Tunnel { client, backend, lease, connection } = self;
        // An error is a side that is gone; there is nobody to tell.
        if let Ok(client) = client.await {
            let mut client = TokioIo::new(client);
            let (mut backend, first) = backend.into_parts();
            if client.write_all(&first).await.is_ok() {
                let _ = copy_bidirectional(&mut client, &mut backend).await;
            }
        }
        drop((lease, connection));
    }
}
