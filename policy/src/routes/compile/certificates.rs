//! Secrets as certificates: each is read once, however many objects refer to it.

use super::CertificateCheck;
use crate::cluster::{Cluster, Key};
use crate::objects::ObjectRef;
use crate::routes::table::{Certificate, CertificateId};
use std::collections::BTreeMap;

/// Type of a Secret that holds a certificate.
const TLS_TYPE: &str = "kubernetes.io/tls";

/// The certificates that are referred to.
pub(super) struct Certificates<'a> {
    cluster: &'a Cluster,
    check: CertificateCheck<'a>,
    list: Vec<Certificate>,
    known: BTreeMap<Key, Result<CertificateId, String>>,
}

impl<'a> Certificates<'a> {
    /// None so far.
    pub(super) fn new(cluster: &'a Cluster, check: CertificateCheck<'a>) -> Certificates<'a> {
        Certificates { cluster, check, list: Vec::new(), known: BTreeMap::new() }
    }

    /// The certificate of a Secret, or why it has none, for people.
    pub(super) fn find(&mut self, key: &Key) -> Result<CertificateId, String> {
        if let Some(known) = self.known.get(key) {
            return known.clone();
        }
        let found = self.read(key).map(|certificate| {
            self.list.push(certificate);
            CertificateId(self.list.len() as u32 - 1)
        });
        self.known.insert(key.clone(), found.clone());
        found
    }

    fn read(&self, key: &Key) -> Result<Certificate, String> {
        let name = format!("Secret {}/{}", key.0, key.1);
        let secret = self.cluster.secrets.get(key).ok_or_else(|| format!("{name} does not exist"))?;
        let (chain, private_key) =
            secret.object.certificate().map_err(|lacking| format!("{name} has no {}", lacking.join(" and no ")))?;
        if &*secret.object.kind != TLS_TYPE {
            return Err(format!("{name} is of type {}, not {TLS_TYPE}", secret.object.kind));
        }
        let certificate = Certificate {
            secret: ObjectRef::new("Secret", &*key.0, &*key.1),
            chain_pem: chain.clone(),
            key_pem: private_key.clone(),
        };
        (self.check)(&certificate).map_err(|why| format!("{name}: {why}"))?;
        Ok(certificate)
    }

    /// All of them.
    pub(super) fn into_list(self) -> Vec<Certificate> {
        self.list
    }
}

/// Whether chain and key are what they should be, as far as their first lines tell.
pub(super) fn looks_like_pem(certificate: &Certificate) -> Result<(), String> {
    let holds = |pem: &[u8], label: &str| String::from_utf8_lossy(pem).contains(label);
    if !holds(&certificate.chain_pem, "-----BEGIN CERTIFICATE-----") {
        return Err("tls.crt has no PEM certificate".into());
    }
    if !holds(&certificate.key_pem, "PRIVATE KEY-----") {
        return Err("tls.key has no PEM private key".into());
    }
    Ok(())
}
