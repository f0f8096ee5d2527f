//! Whether a certificate chain and a key, as a Secret of type kubernetes.io/tls has them, can be served: a pure check whose
//! answer is a key to sign handshakes with, or the field that is wrong and what is wrong with it.
//!
//! A certificate that is out of date is served all the same: clients that care refuse it, and those that do not go on working.

use jiff::Timestamp;
use policy::routes::Certificate;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError as Unverified, RootCertStore};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// Certificates of a chain that are sent; longer ones are a mistake, and each handshake would pay for it.
const CHAIN_MAX: usize = 16;

/// What can be served.
#[derive(Clone, Debug)]
pub struct CheckedCertificate {
    /// The chain, and the key that signs for it.
    pub key: Arc<CertifiedKey>,
    /// What clients may dislike about it.
    pub warning: Option<CertificateWarning>,
}

/// What clients may dislike about a certificate that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateWarning {
    /// It was valid until this time, in seconds since 1970.
    Expired(u64),
    /// It is valid from this time on, in seconds since 1970.
    NotYetValid(u64),
}

/// Why a certificate cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateError {
    /// tls.crt is empty or has no CERTIFICATE section.
    NoCertificate,
    /// tls.crt is not PEM.
    ChainNotPem(&'static str),
    /// tls.crt has more than [`CHAIN_MAX`] certificates.
    ChainTooLong(usize),
    /// The first certificate is not one that TLS can be served with.
    BadCertificate(String),
    /// tls.key is empty or has no PRIVATE KEY section.
    NoKey,
    /// tls.key is encrypted.
    KeyEncrypted,
    /// tls.key is not PEM.
    KeyNotPem(&'static str),
    /// tls.key is of a kind that is not supported, or broken.
    BadKey,
    /// The key is that of another certificate.
    KeyMismatch,
}

impl CertificateError {
    /// The field of the Secret that is wrong.
    pub fn field(&self) -> &'static str {
        match self {
            CertificateError::NoCertificate
            | CertificateError::ChainNotPem(_)
            | CertificateError::ChainTooLong(_)
            | CertificateError::BadCertificate(_) => "data[tls.crt]",
            _ => "data[tls.key]",
        }
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateError::NoCertificate => f.write_str("holds no certificate (-----BEGIN CERTIFICATE-----)"),
            CertificateError::ChainNotPem(why) | CertificateError::KeyNotPem(why) => write!(f, "is not PEM: {why}"),
            CertificateError::ChainTooLong(length) => {
                write!(f, "has {length} certificates, more than the {CHAIN_MAX} that are sent")
            }
            CertificateError::BadCertificate(why) => write!(f, "its first certificate cannot be used: {why}"),
            CertificateError::NoKey => f.write_str("holds no private key (-----BEGIN PRIVATE KEY-----)"),
            CertificateError::KeyEncrypted => f.write_str("is encrypted: store it without a passphrase"),
            CertificateError::BadKey => {
                f.write_str("is broken or of a kind that is not supported (RSA of 2048 to 8192 bits, ECDSA, Ed25519)")
            }
            CertificateError::KeyMismatch => f.write_str("does not match the certificate"),
        }
    }
}

impl std::error::Error for CertificateError {}

impl fmt::Display for CertificateWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateWarning::Expired(until) => {
                write!(f, "has expired at {}; it is served all the same", date(*until))
            }
            CertificateWarning::NotYetValid(from) => {
                write!(f, "is not valid before {}; it is served all the same", date(*from))
            }
        }
    }
}

/// Checks the PEM texts of a chain (the leaf first) and of its key (PKCS#8, PKCS#1 or SEC1) at the time `now`.
pub fn check_certificate(
    chain_pem: &[u8],
    key_pem: &[u8],
    now: SystemTime,
) -> Result<CheckedCertificate, CertificateError> {
    let chain = read_chain(chain_pem)?;
    let leaf =
        ParsedCertificate::try_from(&chain[0]).map_err(|error| CertificateError::BadCertificate(error.to_string()))?;
    let warning = out_of_date(&leaf, now);
    let signer = aws_lc_rs::sign::any_supported_type(&read_key(key_pem)?).map_err(|_| CertificateError::BadKey)?;
    let key = CertifiedKey::new(chain, signer);
    key.keys_match().map_err(|_| CertificateError::KeyMismatch)?;
    Ok(CheckedCertificate { key: Arc::new(key), warning })
}

/// Whether a certificate can be served, or the field and the reason why not: for the compiler of routes.
pub fn check_routed(certificate: &Certificate) -> Result<(), String> {
    let checked = check_certificate(&certificate.chain_pem, &certificate.key_pem, SystemTime::now());
    checked.map(|_| ()).map_err(|error| format!("{}: {error}", error.field()))
}

fn read_chain(chain_pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(chain_pem).collect();
    let chain = chain.map_err(|error| CertificateError::ChainNotPem(not_pem(&error)))?;
    match chain.len() {
        0 => Err(CertificateError::NoCertificate),
        1..=CHAIN_MAX => Ok(chain),
        length => Err(CertificateError::ChainTooLong(length)),
    }
}

fn read_key(key_pem: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateError> {
    PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| match error {
        pem::Error::NoItemsFound if holds(key_pem, b"BEGIN ENCRYPTED PRIVATE KEY") => CertificateError::KeyEncrypted,
        // The older form of an encrypted key: its base64 is preceded by header lines.
        _ if holds(key_pem, b"Proc-Type: 4,ENCRYPTED") => CertificateError::KeyEncrypted,
        pem::Error::NoItemsFound => CertificateError::NoKey,
        other => CertificateError::KeyNotPem(not_pem(&other)),
    })
}

fn holds(text: &[u8], words: &[u8]) -> bool {
    text.windows(words.len()).any(|window| window == words)
}

/// Dates are the first thing that verification looks at, so it is asked to verify against no issuer at all.
fn out_of_date(leaf: &ParsedCertificate<'_>, now: SystemTime) -> Option<CertificateWarning> {
    let now = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    match verify_server_cert_signed_by_trust_anchor(leaf, &RootCertStore::empty(), &[], now, algorithms) {
        Err(rustls::Error::InvalidCertificate(Unverified::ExpiredContext { not_after, .. })) => {
            Some(CertificateWarning::Expired(not_after.as_secs()))
        }
        Err(rustls::Error::InvalidCertificate(Unverified::NotValidYetContext { not_before, .. })) => {
            Some(CertificateWarning::NotYetValid(not_before.as_secs()))
        }
        _ => None,
    }
}

/// What is wrong with a PEM text, without any of it: it may hold a key.
fn not_pem(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is broken",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "it cannot be read",
    }
}

/// Seconds since 1970 as `2026-12-01T09:30:00Z`.
fn date(second: u64) -> String {
    let second = i64::try_from(second).unwrap_or(i64::MAX);
    Timestamp::from_second(second).map_or_else(|_| "a time beyond year 9999".to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests;
