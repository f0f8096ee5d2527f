//! TLS at the door: which certificates can be served ([`check_certificate`]), the configurations of handshakes made of them, and
//! the handshake itself. TLS 1.2 and 1.3; ALPN `h2` and `http/1.1`; tickets, so that clients resume their sessions. No early data,
//! which could be replayed; no client certificates; no OCSP responses.

mod certificate;
mod handshake;
mod table;
#[cfg(test)]
pub(crate) mod testing;

pub use certificate::{CertificateError, CertificateWarning, CheckedCertificate, check_certificate, check_routed};
pub(super) use handshake::{HandshakeError, accept};
pub use table::{CertificateFault, CertificateProblem};
pub(super) use table::{TlsMaker, TlsTable};
