//! Secret, as `ValidateSecret` of the API server judges it. What it asks of types that have nothing to do with TLS is left
//! out: nothing of such Secrets is used.

use super::{Findings, name};
use crate::cluster::secret::{CERTIFICATE_ENTRY, KEY_ENTRY};
use k8s_openapi::api::core::v1::Secret;

/// All values together.
const DATA_BYTES_MAX: usize = 1024 * 1024;

pub(super) fn validate_secret(secret: &Secret, out: &mut Findings) {
    let data = secret.data.as_ref();
    for key in data.into_iter().flatten().map(|(key, _)| key) {
        out.check(format!("data[{key}]"), name::entry_key(key));
    }
    if data.into_iter().flatten().map(|(_, value)| value.0.len()).sum::<usize>() > DATA_BYTES_MAX {
        out.add("data", format!("longer than {DATA_BYTES_MAX} bytes together"));
    }
    if secret.type_.as_deref() == Some("kubernetes.io/tls") {
        for entry in [CERTIFICATE_ENTRY, KEY_ENTRY] {
            if !data.is_some_and(|data| data.contains_key(entry)) {
                out.add(format!("data[{entry}]"), "required for type kubernetes.io/tls");
            }
        }
    }
}
