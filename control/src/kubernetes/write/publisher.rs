//! What the Ingress and Gateway proxy writes: the status of what it serves, and Events about what it cannot serve as it is written.
//! All proxies of a cluster serve the same, so the one that holds the lease writes.

use super::routes::{addresses_of, statuses_of_routes};
use super::{LeaseName, Wanted, Writer, WriterConfig};
use crate::kubernetes::connect::Access;
use k8s_openapi::jiff::Timestamp;
use policy::cluster::{Cluster, Key};
use policy::objects::Problem;
use policy::routes::Statuses;
use std::io;

/// What the manifests call the proxy.
const MANAGER: &str = "podplane-ingress";
const CONTROLLER: &str = "podplane.io/ingress";

/// A proxy that writes back.
pub struct Publisher {
    writer: Writer,
    service: Key,
    gateway_controller: String,
}

impl Publisher {
    /// Starts to write as `instance`, while that holds `lease`. Clients reach the proxy at the addresses of `service` (namespace and
    /// name); it is `gateway_controller` to Gateways.
    pub fn start(
        access: Access,
        lease: LeaseName,
        instance: String,
        service: &(String, String),
        gateway_controller: &str,
    ) -> io::Result<Publisher> {
        let config = WriterConfig { access, lease, instance, manager: MANAGER, controller: CONTROLLER };
        Ok(Publisher {
            writer: Writer::start(config)?,
            service: (service.0.as_str().into(), service.1.as_str().into()),
            gateway_controller: gateway_controller.to_owned(),
        })
    }

    /// This is served: objects, what compiling them says of their status, and what is wrong with them.
    pub fn publish(&self, cluster: &Cluster, mut statuses: Statuses, problems: &[Problem]) {
        statuses.stamp(Timestamp::now());
        let addresses = addresses_of(cluster, &self.service);
        let refused = problems.iter().filter(|problem| problem.severity.is_error() && problem.object.is_some());
        self.writer.set(Wanted {
            is_candidate: true,
            led: statuses_of_routes(&statuses, &addresses, &self.gateway_controller),
            led_problems: refused.cloned().collect(),
            ..Wanted::default()
        });
    }
}
