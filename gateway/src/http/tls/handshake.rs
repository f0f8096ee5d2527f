//! A handshake: from a connection to what HTTP is spoken on, under the certificate of the name that the client asks for.

use super::table::TlsTable;
use crate::http::TlsInfo;
use rustls::ProtocolVersion;
use rustls::server::Acceptor;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// The fatal alert `unrecognized_name` as a record of its own (RFC 8446, sections 5.1 and 6; RFC 6066, section 3).
const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

/// Why there is no TLS connection.
#[derive(Debug)]
pub(crate) enum HandshakeError {
    /// There is no certificate for what the client asks for. It has been told.
    NoCertificate,
    /// The client went away, or speaks no TLS that is served. rustls has told it.
    Failed,
}

impl From<io::Error> for HandshakeError {
    fn from(_: io::Error) -> HandshakeError {
        HandshakeError::Failed
    }
}

/// Performs the handshake of a connection to `port`. `table` is asked when the client has said what it wants. The caller has
/// the deadline.
pub(crate) async fn accept<IO>(
    io: IO,
    port: u16,
    table: impl FnOnce() -> Arc<TlsTable>,
) -> Result<(TlsStream<IO>, TlsInfo), HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), io).await?;
    let sni = start.client_hello().server_name().map(|name| Arc::from(name.to_ascii_lowercase()));
    let Some(config) = table().find(port, sni.as_deref()) else {
        start.io.write_all(UNRECOGNIZED_NAME).await?;
        start.io.shutdown().await?;
        return Err(HandshakeError::NoCertificate);
    };
    let stream = start.into_stream(config).await?;
    let connection = stream.get_ref().1;
    let info = TlsInfo {
        sni,
        h2: connection.alpn_protocol() == Some(b"h2"),
        version: match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        },
    };
    Ok((stream, info))
}
