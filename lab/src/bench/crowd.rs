//! A crowd of Services for the bench: files of a cluster directory as a control plane would write them, one per object.
//!
//! The files are written beside the cluster directory and moved in and out as one folder. Their addresses are apart from
//! those that the lab gives out, and nothing listens on them: they are there to be many.

use crate::error::{LabError, Result};
use std::fmt::Write;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// First ClusterIP: the lab's controller counts from the start of 10.96.0.0/16 and never comes here.
const FIRST_CLUSTER_IP: u32 = 0x0a60_4000;

/// First endpoint address; room for a million.
const FIRST_ENDPOINT: u32 = 0x0a80_0000;

/// Namespaces that the Services are spread over.
const NAMESPACES: u32 = 50;

/// Services with the same number of endpoints each.
pub(super) struct Crowd {
    services: u32,
    endpoints: u32,
    /// Where the files wait.
    away: PathBuf,
    /// Where they are in force.
    here: PathBuf,
}

impl Crowd {
    /// Writes the files of a crowd of `services` with `endpoints` each that joins `cluster_dir`.
    pub(super) fn new(cluster_dir: &Path, services: u32, endpoints: u32) -> Result<Crowd> {
        let name = format!("crowd-{services}-{endpoints}");
        let away = cluster_dir.with_file_name(&name);
        let crowd = Crowd { services, endpoints, away, here: cluster_dir.join(name) };
        let io = |error| LabError::io(crowd.away.display(), error);
        fs::create_dir_all(crowd.away.join("services")).map_err(io)?;
        fs::create_dir_all(crowd.away.join("endpointslices")).map_err(io)?;
        for number in 0..services {
            fs::write(crowd.away.join(format!("services/{number}.yaml")), service(number)).map_err(io)?;
            let slice = slice(number, endpoints, 0);
            fs::write(crowd.away.join(format!("endpointslices/{number}.yaml")), slice).map_err(io)?;
        }
        Ok(crowd)
    }

    /// How many Services there are.
    pub(super) fn services(&self) -> usize {
        self.services as usize
    }

    /// Puts the files into the cluster directory.
    pub(super) fn join(&self) -> Result<()> {
        fs::rename(&self.away, &self.here).map_err(|error| LabError::io(self.here.display(), error))
    }

    /// Takes them out again.
    pub(super) fn leave(&self) -> Result<()> {
        fs::rename(&self.here, &self.away).map_err(|error| LabError::io(self.away.display(), error))
    }

    /// Replaces one endpoint of one Service, as the control plane does when a pod is replaced; another one each time.
    pub(super) fn change(&self, time: u32) -> Result<()> {
        // Any number without a common factor goes through all Services before it comes back.
        let number = time.wrapping_mul(7_919) % self.services;
        let path = self.here.join(format!("endpointslices/{number}.yaml"));
        let hidden = self.here.join(format!("endpointslices/.{number}.yaml"));
        let written = fs::write(&hidden, slice(number, self.endpoints, time)).and_then(|()| fs::rename(&hidden, &path));
        written.map_err(|error| LabError::io(path.display(), error))
    }
}

fn service(number: u32) -> String {
    let address = Ipv4Addr::from(FIRST_CLUSTER_IP + number);
    let namespace = number % NAMESPACES;
    format!(
        "apiVersion: v1
kind: Service
metadata:
  name: crowd-{number}
  namespace: crowd-{namespace}
  labels:
    app: crowd-{number}
spec:
  type: ClusterIP
  clusterIP: {address}
  clusterIPs:
  - {address}
  ipFamilies:
  - IPv4
  ipFamilyPolicy: SingleStack
  selector:
    app: crowd-{number}
  ports:
  - name: http
    port: 80
    protocol: TCP
    targetPort: 8080
"
    )
}

/// The EndpointSlice of a Service; the first endpoint is another one in each `version`.
fn slice(number: u32, endpoints: u32, version: u32) -> String {
    let namespace = number % NAMESPACES;
    let mut text = format!(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: crowd-{number}-abcde
  namespace: crowd-{namespace}
  labels:
    kubernetes.io/service-name: crowd-{number}
addressType: IPv4
ports:
- name: http
  port: 8080
  protocol: TCP
endpoints:
"
    );
    for index in 0..endpoints {
        let id = number * endpoints + index;
        let moved = if index == 0 { (version & 0xff) << 20 } else { 0 };
        let _ = write!(
            text,
            "- addresses:
  - {}
  conditions:
    ready: true
    serving: true
    terminating: false
  nodeName: node{}
  targetRef:
    kind: Pod
    namespace: crowd-{namespace}
    name: crowd-{number}-7d4b9c-{index}
    uid: 0e4f7a1c-0000-4000-8000-{id:012}
",
            Ipv4Addr::from(FIRST_ENDPOINT + (id & 0xf_ffff) + moved),
            1 + index % 2,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::cluster::Cluster;
    use policy::compile::compile;
    use policy::objects::parse;

    #[test]
    fn a_crowd_is_without_problems_and_a_change_moves_one_endpoint() {
        let texts = (0..3).flat_map(|number| [service(number), slice(number, 4, 0)]);
        let parsed: Vec<_> = texts.map(|text| parse("crowd.yaml", &text)).collect();
        assert!(parsed.iter().all(|parsed| parsed.problems.is_empty()));
        let (cluster, problems) = Cluster::from_objects(parsed.into_iter().flat_map(|parsed| parsed.objects));
        assert_eq!(problems, []);
        let (tables, problems) = compile(&cluster, 1);
        assert_eq!(problems, []);
        assert!(tables.service_ports.iter().all(|port| port.backends().count() == 4));
        let (before, after) = (slice(2, 4, 0), slice(2, 4, 1));
        assert_eq!(before.lines().zip(after.lines()).filter(|(one, other)| one != other).count(), 1);
    }
}
