//! From a listening socket to HTTP: connections are accepted, admitted, named by a PROXY protocol header if one is due, put under
//! TLS, and handed to the engine.

use super::Shared;
use super::admission::Permit;
use super::stream::Admitted;
use crate::http::proxy_protocol::{self, ReceiveError};
use crate::http::tls::{self, HandshakeError};
use crate::http::{ConnectionInfo, Worker, serve_connection};
use nix::errno::Errno;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

/// How long accepting rests when descriptors or memory have run out: connections that end in the meantime give some back.
const PAUSE: Duration = Duration::from_millis(50);

/// One worker at the door.
pub(super) struct Door {
    pub(super) shared: Arc<Shared>,
    pub(super) worker: Rc<Worker>,
    /// Connections of this worker.
    pub(super) open: Arc<AtomicUsize>,
}

/// Accepts connections to `port` until `close` says so (or is dropped), and then those that the kernel has already opened.
pub(super) async fn accept(door: Rc<Door>, port: u16, listener: TcpListener, mut close: oneshot::Receiver<()>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut close => break,
        };
        match accepted {
            Ok((stream, peer)) => admit(&door, port, stream, peer),
            Err(error) if is_exhausted(&error) => {
                door.shared.counters.accept_pauses.count();
                tokio::select! {
                    () = sleep(PAUSE) => {}
                    _ = &mut close => break,
                }
            }
            // One connection that was gone before it was accepted (accept(2)).
            Err(_) => door.shared.counters.accept_failures.count(),
        }
    }
    // Closing the socket would reset them.
    if let Ok(listener) = listener.into_std() {
        while let Ok((stream, peer)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                admit(&door, port, stream, peer);
            }
        }
    }
}

/// Whether the process or the machine has run out of something: EMFILE, ENFILE, ENOBUFS, ENOMEM.
fn is_exhausted(error: &io::Error) -> bool {
    let exhausted = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
    error.raw_os_error().is_some_and(|number| exhausted.contains(&Errno::from_raw(number)))
}

fn admit(door: &Rc<Door>, port: u16, stream: TcpStream, peer: SocketAddr) {
    door.shared.counters.accepted.count();
    match door.shared.admission.admit(&door.open) {
        Some(permit) => {
            let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
            tokio::task::spawn_local(serve(door.clone(), port, stream, peer, permit));
        }
        None => door.shared.counters.over_total.count(),
    }
}

async fn serve(door: Rc<Door>, port: u16, mut stream: TcpStream, peer: SocketAddr, mut permit: Permit) {
    let shared = &*door.shared;
    let deadline = Instant::now() + shared.config.handshake_timeout;
    let is_trusted = shared.config.proxy.trusted_proxies.iter().any(|net| net.contains(&peer.ip()));
    let mut client = peer;
    if shared.config.proxy_protocol && is_trusted {
        match timeout_at(deadline, proxy_protocol::receive(&mut stream)).await {
            Ok(Ok(addresses)) => client = addresses.map_or(peer, |addresses| addresses.source),
            Ok(Err(ReceiveError::Malformed(_))) => return shared.counters.proxy_protocol_refused.count(),
            Ok(Err(ReceiveError::Io(_))) => return shared.counters.gone_early.count(),
            Err(_) => return shared.counters.handshake_timeouts.count(),
        }
    }
    // A trusted proxy speaks for many clients; one that it names is a client as any other.
    if (client != peer || !is_trusted) && !permit.assign(client.ip()) {
        return shared.counters.over_client.count();
    }
    let table = || shared.tls();
    let admitted = Admitted::new(stream, permit);
    if !table().is_tls(port) {
        let info = ConnectionInfo { peer: client, local_port: port, tls: None };
        return serve_connection(admitted, info, door.worker.clone()).await;
    }
    match timeout_at(deadline, tls::accept(admitted, port, table)).await {
        Ok(Ok((stream, tls))) => {
            let info = ConnectionInfo { peer: client, local_port: port, tls: Some(tls) };
            serve_connection(stream, info, door.worker.clone()).await;
        }
        Ok(Err(HandshakeError::NoCertificate)) => shared.counters.no_certificate.count(),
        Ok(Err(HandshakeError::Failed)) => shared.counters.handshake_failures.count(),
        Err(_) => shared.counters.handshake_timeouts.count(),
    }
}
