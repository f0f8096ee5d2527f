//! Secrets as TLS needs them.
//!
//! A cluster's Secrets hold passwords and tokens that are none of this program's business: of every Secret only a certificate
//! and its key are kept. A Secret without them is kept as that, so that whoever refers to it can be told what it lacks.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as ApiSecret;
use std::fmt;
use std::sync::Arc;

/// Where a Secret has its certificate chain.
pub(crate) const CERTIFICATE_ENTRY: &str = "tls.crt";

/// Where a Secret has the key of its certificate.
pub(crate) const KEY_ENTRY: &str = "tls.key";

/// A Secret, whatever its type: `kubernetes.io/tls` is only a promise that both parts are there.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its type; `Opaque` if not given.
    pub kind: Arc<str>,
    /// Entry `tls.crt`: PEM, the leaf first; `None` if it is absent or empty.
    pub chain_pem: Option<Arc<[u8]>>,
    /// Entry `tls.key`: PEM; `None` if it is absent or empty.
    pub key_pem: Option<Arc<[u8]>>,
}

/// PEM of a certificate chain, the leaf first, and PEM of its key.
pub type ChainAndKey<'a> = (&'a Arc<[u8]>, &'a Arc<[u8]>);

impl Secret {
    /// Certificate chain and key, or the entries that it lacks.
    pub fn certificate(&self) -> Result<ChainAndKey<'_>, &'static [&'static str]> {
        match (&self.chain_pem, &self.key_pem) {
            (Some(chain), Some(key)) => Ok((chain, key)),
            (None, Some(_)) => Err(&[CERTIFICATE_ENTRY]),
            (Some(_), None) => Err(&[KEY_ENTRY]),
            (None, None) => Err(&[CERTIFICATE_ENTRY, KEY_ENTRY]),
        }
    }
}

impl From<&ApiSecret> for Secret {
    fn from(secret: &ApiSecret) -> Secret {
        let entry = |name: &str| {
            let ByteString(bytes) = secret.data.as_ref()?.get(name)?;
            (!bytes.is_empty()).then(|| Arc::from(&**bytes))
        };
        Secret {
            kind: secret.type_.as_deref().filter(|kind| !kind.is_empty()).unwrap_or("Opaque").into(),
            chain_pem: entry(CERTIFICATE_ENTRY),
            key_pem: entry(KEY_ENTRY),
        }
    }
}

/// Tells what is there, not what it says: logs and test failures are read by many.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |part: &Option<Arc<[u8]>>| part.as_ref().map(|bytes| bytes.len());
        let mut text = f.debug_struct("Secret");
        text.field("kind", &self.kind);
        text.field("chain_pem_bytes", &bytes(&self.chain_pem)).field("key_pem_bytes", &bytes(&self.key_pem)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::{Object, parse};

    fn secret(fields: &str) -> Secret {
        let parsed = parse("test.yaml", &format!("{{apiVersion: v1, kind: Secret, metadata: {{name: s}}, {fields}}}"));
        let [sourced] = &parsed.objects[..] else { panic!("one object: {:?}", parsed.problems) };
        let Object::Secret(secret) = &sourced.object else { panic!("a Secret") };
        Secret::from(&**secret)
    }

    #[test]
    fn only_a_certificate_and_its_key_are_kept() {
        let secret =
            secret("type: kubernetes.io/tls, data: {tls.crt: Q0hBSU4=, tls.key: S0VZ, password: aHVudGVyMg==}");
        let (chain, key) = secret.certificate().expect("both are there");
        assert_eq!((&**chain, &**key), (&b"CHAIN"[..], &b"KEY"[..]));
        assert_eq!(
            format!("{secret:?}"),
            "Secret { kind: \"kubernetes.io/tls\", chain_pem_bytes: Some(5), key_pem_bytes: Some(3) }"
        );
    }

    #[test]
    fn text_wins_over_data_as_in_the_api_server() {
        let secret = secret("data: {tls.crt: Q0hBSU4=, tls.key: S0VZ}, stringData: {tls.key: other}");
        assert_eq!(secret.key_pem.as_deref(), Some(&b"other"[..]));
        assert_eq!(&*secret.kind, "Opaque");
    }

    #[test]
    fn what_a_secret_lacks_is_told() {
        let lacks = |fields: &str| secret(fields).certificate().map(drop).unwrap_err();
        assert_eq!(lacks("data: {tls.crt: Q0hBSU4=, tls.key: ''}"), ["tls.key"]);
        assert_eq!(lacks("data: {tls.key: S0VZ}"), ["tls.crt"]);
        assert_eq!(lacks("stringData: {password: x}"), ["tls.crt", "tls.key"]);
    }
}
