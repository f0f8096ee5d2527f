//! One client connection.

use super::worker::Worker;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

/// What is known of a connection when it has been accepted.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The client, as a PROXY protocol header names it if there was one.
    pub peer: SocketAddr,
    /// The port that it was accepted on, as routes know it.
    pub local_port: u16,
    /// What the TLS handshake gave; `None` on a plain port.
    pub tls: Option<TlsInfo>,
}

/// What a TLS handshake gave.
#[derive(Clone, Debug)]
pub struct TlsInfo {
    /// Server name that the client asked for, in lower case.
    pub sni: Option<Arc<str>>,
    /// Whether ALPN settled on `h2`.
    pub h2: bool,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
}

/// Serves `io` until it is closed, by either side or by [`Worker::drain`].
pub async fn serve_connection<IO>(io: IO, info: ConnectionInfo, worker: Rc<Worker>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let _ = (io, info, worker);
}
