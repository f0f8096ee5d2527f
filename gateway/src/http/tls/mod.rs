//! TLS at the door: which certificates can be served ([`check_certificate`]).

mod certificate;
#[cfg(test)]
pub(crate) mod testing;

pub use certificate::{CertificateError, CertificateWarning, CheckedCertificate, check_certificate};
