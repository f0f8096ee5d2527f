//! The certificates that are served, each as a configuration of handshakes, for the certificates of one generation of routes.
//!
//! A configuration is made once for a certificate and kept while its Secret stays as it is. All share one ticket key, which
//! changes every six hours (rustls): a client resumes its session whatever else has changed, but only under the server name that
//! it was opened for. Handshakes under way, and connections, keep the configuration that they began with.

use super::certificate::{CertificateError, CertificateWarning, check_certificate};
use policy::objects::ObjectRef;
use policy::routes::{Certificate, Routes};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ProducesTickets;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, version};
use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// What ALPN settles on, the first choice first (RFC 7301).
const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

/// What is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateProblem {
    /// The Secret.
    pub secret: ObjectRef,
    /// What is wrong.
    pub fault: CertificateFault,
}

/// What is wrong with a certificate, and whether it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateFault {
    /// It is not: its hosts have none.
    Unusable(CertificateError),
    /// It is.
    Doubtful(CertificateWarning),
}

impl fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            CertificateFault::Unusable(error) => write!(f, "{}: {}: {error}", self.secret, error.field()),
            CertificateFault::Doubtful(warning) => write!(f, "{}: data[tls.crt]: {warning}", self.secret),
        }
    }
}

/// Makes tables, each out of the one before as far as certificates are the same.
pub(crate) struct TlsMaker {
    provider: Arc<CryptoProvider>,
    tickets: Arc<dyn ProducesTickets>,
    known: RefCell<HashMap<ObjectRef, Known>>,
}

/// A certificate that was looked at, and what came of it.
struct Known {
    certificate: Certificate,
    config: Option<Arc<ServerConfig>>,
    fault: Option<CertificateFault>,
    /// Whether somebody asked since the last table was made. Who is not asked for is forgotten.
    is_asked_for: bool,
}

/// The configurations of one generation of routes.
pub(crate) struct TlsTable {
    routes: Arc<Routes>,
    /// By `CertificateId`.
    configs: Vec<Option<Arc<ServerConfig>>>,
}

impl TlsMaker {
    pub(crate) fn new() -> Result<TlsMaker, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        Ok(TlsMaker { provider, tickets: aws_lc_rs::Ticketer::new()?, known: RefCell::default() })
    }

    /// What is wrong with `certificate`. The next table has use of what was found out.
    pub(crate) fn fault(&self, certificate: &Certificate, now: SystemTime) -> Option<CertificateFault> {
        self.know(certificate, now).1
    }

    /// The table of `routes`, and what is wrong with their certificates.
    pub(crate) fn table(&mut self, routes: Arc<Routes>, now: SystemTime) -> (TlsTable, Vec<CertificateProblem>) {
        let mut configs = Vec::with_capacity(routes.certificates.len());
        let mut problems = Vec::new();
        for certificate in &routes.certificates {
            let (config, fault) = self.know(certificate, now);
            configs.push(config);
            problems.extend(fault.map(|fault| CertificateProblem { secret: certificate.secret.clone(), fault }));
        }
        self.known.get_mut().retain(|_, known| std::mem::take(&mut known.is_asked_for));
        (TlsTable { routes, configs }, problems)
    }

    fn know(
        &self,
        certificate: &Certificate,
        now: SystemTime,
    ) -> (Option<Arc<ServerConfig>>, Option<CertificateFault>) {
        let mut known = self.known.borrow_mut();
        let entry = match known.entry(certificate.secret.clone()) {
            Entry::Occupied(entry) if entry.get().certificate == *certificate => entry.into_mut(),
            entry => entry.insert_entry(self.look_at(certificate, now)).into_mut(),
        };
        entry.is_asked_for = true;
        (entry.config.clone(), entry.fault.clone())
    }

    fn look_at(&self, certificate: &Certificate, now: SystemTime) -> Known {
        let (config, fault) = match check_certificate(&certificate.chain_pem, &certificate.key_pem, now) {
            Ok(checked) => (Some(self.config(&checked.key)), checked.warning.map(CertificateFault::Doubtful)),
            Err(error) => (None, Some(CertificateFault::Unusable(error))),
        };
        Known { certificate: certificate.clone(), config, fault, is_asked_for: true }
    }

    fn config(&self, key: &Arc<CertifiedKey>) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .expect("the provider has cipher suites for both versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::clone(key))));
        config.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
        config.ticketer = self.tickets.clone();
        Arc::new(config)
    }
}

impl TlsTable {
    /// The configuration for a connection to `port` that asks for `sni` (in lower case).
    pub(crate) fn find(&self, port: u16, sni: Option<&str>) -> Option<Arc<ServerConfig>> {
        let id = self.routes.certificate(port, sni)?;
        self.configs.get(id.0 as usize)?.clone()
    }

    /// Whether connections to `port` begin with a TLS handshake.
    pub(crate) fn is_tls(&self, port: u16) -> bool {
        self.routes.ports.iter().any(|served| served.port == port && served.tls)
    }
}
