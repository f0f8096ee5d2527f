//! Secrets of type kubernetes.io/tls whose certificate or key cannot be served.

use gateway::http::tls::check_certificate;
use policy::cluster::Cluster;
use policy::objects::{ObjectRef, Problem, Severity};
use std::time::SystemTime;

/// The type of Secrets that hold a certificate.
const TLS: &str = "kubernetes.io/tls";

/// What is wrong with the certificates of `cluster`, used or not: whoever writes one wants it served one day.
pub(crate) fn problems(cluster: &Cluster) -> Vec<Problem> {
    let mut problems = Vec::new();
    for ((namespace, name), secret) in cluster.secrets.iter().filter(|(_, secret)| &*secret.object.kind == TLS) {
        let mut add = |field: String, message: String, severity| {
            let object = ObjectRef::new("Secret", &**namespace, &**name);
            problems.push(Problem::of(&secret.source, object, field, message, severity));
        };
        match secret.object.certificate() {
            Err(lacking) => {
                for entry in lacking {
                    add(format!("data[{entry}]"), "is empty".to_owned(), Severity::Refused);
                }
            }
            Ok((chain, key)) => match check_certificate(chain, key, SystemTime::now()) {
                Err(error) => add(error.field().to_owned(), error.to_string(), Severity::Refused),
                Ok(checked) => {
                    if let Some(warning) = checked.warning {
                        add("data[tls.crt]".to_owned(), warning.to_string(), Severity::Warning);
                    }
                }
            },
        }
    }
    problems
}
