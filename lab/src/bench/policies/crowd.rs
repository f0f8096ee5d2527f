//! Objects for the bench of policies: pods in many namespaces, labelled as charts label them, and the policies that such
//! namespaces have. Also policies that all select one pod.
//!
//! Nothing is attached for these pods: they are there to be many. Their addresses are apart from those that the lab gives out.

use crate::error::{LabError, Result};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// First address of a pod; room for four million, and never given out by the lab.
const FIRST_POD: u32 = 0x0a80_0000;

/// Applications of a namespace.
const APPS: u32 = 10;

/// Policies of a namespace before they repeat themselves under another name.
const KINDS: u32 = 10;

/// How many there are of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crowd {
    pub(super) namespaces: u32,
    pub(super) pods: u32,
    pub(super) policies: u32,
    /// Whether each pod has a value of its own under a label that policies read, as the pods of a StatefulSet have.
    pub(super) each_its_own: bool,
}

impl Crowd {
    /// Name and text of every file.
    pub(super) fn files(self) -> impl Iterator<Item = (String, String)> {
        let namespaces =
            (0..self.namespaces).map(move |number| (self.namespace_file(number), self.namespace(number, 0)));
        let pods = (0..self.pods).map(move |number| (self.pod_file(number), self.pod(number, 0)));
        let policies = (0..self.policies).map(move |number| (self.policy_file(number), self.policy(number, 0)));
        namespaces.chain(pods).chain(policies)
    }

    pub(super) fn namespace_file(self, number: u32) -> String {
        format!("namespaces/{number}.yaml")
    }

    pub(super) fn pod_file(self, number: u32) -> String {
        format!("pods/{number}.yaml")
    }

    pub(super) fn policy_file(self, number: u32) -> String {
        format!("policies/{number}.yaml")
    }

    /// A namespace; the team that has it is another one in each `version`.
    pub(super) fn namespace(self, number: u32, version: u32) -> String {
        let team = (number + version) % 8;
        format!(
            "apiVersion: v1
kind: Namespace
metadata:
  name: crowd-{number}
  labels:
    team: team-{team}
    pod-security.kubernetes.io/enforce: baseline
"
        )
    }

    /// A pod; it is of another application and of another component in each `version`.
    pub(super) fn pod(self, number: u32, version: u32) -> String {
        let namespace = number % self.namespaces;
        let replica = number / self.namespaces;
        let app = (replica + version) % APPS;
        let component = ["front", "back", "cache"][((replica / APPS + version) % 3) as usize];
        let of_its_own = if self.each_its_own {
            format!("    statefulset.kubernetes.io/pod-name: crowd-{number}\n")
        } else {
            String::new()
        };
        let address = Ipv4Addr::from(FIRST_POD + number);
        let node = 1 + number % 2;
        format!(
            "apiVersion: v1
kind: Pod
metadata:
  name: crowd-{number}
  namespace: crowd-{namespace}
  labels:
    app.kubernetes.io/name: app-{app}
    app.kubernetes.io/instance: crowd-{namespace}
    app.kubernetes.io/component: {component}
    app.kubernetes.io/managed-by: Helm
    pod-template-hash: {version:x}d4b9c{app}
{of_its_own}spec:
  nodeName: node{node}
  containers:
  - name: main
    image: none
    ports:
    - name: http
      containerPort: 8080
    - name: metrics
      containerPort: 9090
status:
  phase: Running
  podIP: {address}
  podIPs:
  - ip: {address}
"
        )
    }

    /// A policy; it allows another port in each `version`.
    pub(super) fn policy(self, number: u32, version: u32) -> String {
        let namespace = number % self.namespaces;
        let port = 8000 + version;
        let own = if self.each_its_own {
            "    - podSelector:\n        matchExpressions:\n        - {key: statefulset.kubernetes.io/pod-name, operator: NotIn, values: [crowd-7]}\n"
        } else {
            ""
        };
        let spec = match number / self.namespaces % KINDS {
            0 => "  podSelector: {}\n  policyTypes: [Ingress, Egress]\n".to_owned(),
            1 => "  podSelector: {}
  policyTypes: [Egress]
  egress:
  - to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: kube-system
      podSelector:
        matchLabels:
          k8s-app: kube-dns
    ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
"
            .to_owned(),
            2 => "  podSelector: {}
  ingress:
  - from:
    - namespaceSelector:
        matchLabels:
          team: team-3
    ports:
    - {port: metrics}
"
            .to_owned(),
            3 => format!(
                "  podSelector:
    matchLabels:
      app.kubernetes.io/name: app-0
  ingress:
  - from:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: crowd-0
      podSelector:
        matchLabels:
          app.kubernetes.io/component: front
{own}    ports:
    - {{port: {port}}}
"
            ),
            4 => format!(
                "  podSelector:
    matchLabels:
      app.kubernetes.io/component: back
  ingress:
  - from:
    - podSelector:
        matchLabels:
          app.kubernetes.io/component: front
    ports:
    - {{port: 5432}}
    - {{port: {port}}}
"
            ),
            5 => format!(
                "  podSelector:
    matchLabels:
      app.kubernetes.io/name: app-1
  policyTypes: [Egress]
  egress:
  - to:
    - ipBlock:
        cidr: 0.0.0.0/0
        except: [10.0.0.0/8, 169.254.169.254/32]
    ports:
    - {{port: 443}}
    - {{port: {port}}}
"
            ),
            6 => format!(
                "  podSelector:
    matchLabels:
      app.kubernetes.io/component: front
  policyTypes: [Egress]
  egress:
  - to:
    - namespaceSelector:
        matchLabels:
          team: team-{}
      podSelector:
        matchExpressions:
        - {{key: app.kubernetes.io/component, operator: In, values: [back, cache]}}
    ports:
    - {{port: {port}}}
",
                namespace % 8
            ),
            7 => format!(
                "  podSelector:
    matchExpressions:
    - {{key: app.kubernetes.io/name, operator: NotIn, values: [app-5, app-6]}}
  ingress:
  - from:
    - podSelector: {{}}
    ports:
    - {{port: {port}, endPort: 9999}}
"
            ),
            8 => format!(
                "  podSelector:
    matchLabels:
      app.kubernetes.io/name: app-2
  ingress:
  - from:
    - namespaceSelector: {{}}
    ports:
    - {{port: {port}, protocol: UDP}}
"
            ),
            _ => format!(
                "  podSelector:
    matchExpressions:
    - {{key: app.kubernetes.io/name, operator: In, values: [app-3, app-4]}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - podSelector:
        matchLabels:
          app.kubernetes.io/instance: crowd-{namespace}
    ports:
    - {{port: {port}}}
  egress:
  - to:
    - podSelector: {{}}
"
            ),
        };
        format!(
            "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: crowd-{number}
  namespace: crowd-{namespace}
spec:
{spec}"
        )
    }
}

/// The `number`th of many policies that select pod `app: near` of namespace bench; none of them allows anybody who is there,
/// but the last by name, [`open_policy`].
pub(super) fn closed_policy(number: u32) -> String {
    let [high, low] = ((number & 0xffff) as u16).to_be_bytes();
    format!(
        "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: closed-{number}
  namespace: bench
spec:
  podSelector:
    matchLabels:
      app: near
  ingress:
  - from:
    - podSelector:
        matchLabels:
          app: nobody-{number}
    - ipBlock:
        cidr: 192.{high}.{low}.0/24
    ports:
    - {{port: {}, endPort: {}}}
",
        1_000 + number,
        60_000 - number
    )
}

/// The policy that selects pod `app: near` of namespace bench and allows every pod there.
pub(super) fn open_policy() -> String {
    "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: open
  namespace: bench
spec:
  podSelector:
    matchLabels:
      app: near
  ingress:
  - from:
    - podSelector: {}
"
    .to_owned()
}

/// Files that are moved into the cluster directory and out of it as one folder.
pub(super) struct Folder {
    /// Where they wait.
    away: PathBuf,
    /// Where they are in force.
    here: PathBuf,
}

impl Folder {
    /// Writes the files beside `cluster_dir`.
    pub(super) fn write(
        cluster_dir: &Path,
        name: &str,
        files: impl Iterator<Item = (String, String)>,
    ) -> Result<Folder> {
        let folder = Folder { away: cluster_dir.with_file_name(name), here: cluster_dir.join(name) };
        for (file, text) in files {
            let path = folder.away.join(file);
            let parent = path.parent().expect("a file is in a folder");
            let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, text));
            written.map_err(|error| LabError::io(path.display(), error))?;
        }
        Ok(folder)
    }

    /// Puts the files into the cluster directory.
    pub(super) fn join(&self) -> Result<()> {
        fs::rename(&self.away, &self.here).map_err(|error| LabError::io(self.here.display(), error))
    }

    /// Takes them out again.
    pub(super) fn leave(&self) -> Result<()> {
        fs::rename(&self.here, &self.away).map_err(|error| LabError::io(self.away.display(), error))
    }

    /// Replaces a file that is in force, as a control plane does.
    pub(super) fn replace(&self, file: &str, text: &str) -> Result<()> {
        let path = self.here.join(file);
        let hidden = path.with_file_name(".next.yaml");
        let written = fs::write(&hidden, text).and_then(|()| fs::rename(&hidden, &path));
        written.map_err(|error| LabError::io(path.display(), error))
    }
}
