//! Attaching and detaching pods: what the API asks, checked against the tables in force, done by the dataplane.
//!
//! An attach waits until its pod is in the tables in force, because callers write the pod first and attach it at once. A
//! port is named by container id and interface, never by its pod: a late detach of an old sandbox leaves the new one alone
//! (P09).

use super::leases::{says_something, unix_ms};
use super::{Agent, State};
use crate::api::{ApiError, AttachRequest, Detached, ErrorCode, Port};
use crate::log::{Level, event};
use crate::sandboxes::{self, PodName, RECORD_VERSION, Record, SandboxName};
use node::{AttachError, PortInfo, PortSpec};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use switch::{PortId, PortKind};

/// How long an attach waits for its pod: far longer than a change takes from file to force, far shorter than the timeout of
/// a container runtime (minutes).
const POD_WAIT: Duration = Duration::from_secs(5);

/// How long a detach waits for an attach of the same port to end.
const ATTACH_WAIT: Duration = Duration::from_secs(20);

/// Longest interface name of the kernel.
const IFNAME_BYTES_MAX: usize = 15;

/// Longest id of a sandbox: its record's file has room for that, however it is escaped.
const CONTAINER_ID_BYTES_MAX: usize = 180;

/// The ports that were attached here, by name.
pub(super) type Attachments = BTreeMap<SandboxName, Attachment>;

/// An attached port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attachment {
    /// The dataplane works on it.
    Pending,
    /// In force.
    Attached(PortId),
}

impl Agent {
    /// Attaches a pod's interface; returns when its port is judged by the pod's policies.
    pub(crate) fn attach(&self, request: AttachRequest) -> Result<Port, ApiError> {
        check_names(&request.container_id, &request.ifname, &request.netns)?;
        let name = SandboxName::new(&*request.container_id, &*request.ifname);
        self.reserve(&name)?;
        let attached = self.attach_reserved(&name, &request);
        self.settle(&name, attached.as_ref().ok().map(|info| info.id));
        let pod = format!("{}/{}", request.namespace, request.name);
        match attached {
            Ok(info) => {
                event(Level::Info, "attached", &[("pod", &pod), ("port", &info.id.0), ("ifname", &info.ifname)]);
                Ok(super::views::port(&info, &name.container_id, None))
            }
            Err(error) => {
                event(Level::Error, "not attached", &[("pod", &pod), ("reason", &error)]);
                Err(error)
            }
        }
    }

    fn attach_reserved(&self, name: &SandboxName, request: &AttachRequest) -> Result<PortInfo, ApiError> {
        let pod = format!("{}/{}", request.namespace, request.name);
        let (dataplane, spec) = {
            let (state, spec) = self.wait_for_pod(request)?;
            (state.dataplane.clone().ok_or_else(|| self.not_ready(&state))?, spec)
        };
        let refused =
            |error: sandboxes::LeaseError| ApiError::new(ErrorCode::BadRequest, format!("Pod {pod}: {error}"));
        self.sandboxes.claim(name, &spec.addresses).map_err(refused)?;
        let record = Record {
            version: RECORD_VERSION,
            container_id: request.container_id.clone(),
            ifname: request.ifname.clone(),
            netns: request.netns.clone(),
            netns_inode: sandboxes::inode(&request.netns).unwrap_or_default(),
            pod: PodName { namespace: request.namespace.clone(), name: request.name.clone(), uid: None },
            addresses: spec.addresses.clone(),
            leased: false,
            mac: dataplane.mac_for(&spec),
            implicit: None,
            port_mappings: Vec::new(),
            bandwidth: None,
            network: None,
            boot_id: self.boot_id.clone(),
            attached_unix_ms: unix_ms(SystemTime::now()),
        };
        self.keep(&record)?;
        dataplane.attach(spec).map_err(|error| {
            self.sandboxes.give_back(name);
            attach_error(&pod, &error)
        })
    }

    /// Takes a name for a port that is to be made.
    pub(super) fn reserve(&self, name: &SandboxName) -> Result<(), ApiError> {
        let mut state = self.lock();
        if state.attachments.contains_key(name) {
            let message = format!("{name} is attached already: detach it first");
            return Err(ApiError::new(ErrorCode::AlreadyAttached, message));
        }
        state.attachments.insert(name.clone(), Attachment::Pending);
        Ok(())
    }

    /// Ends a reservation: with the port that was made, or with nothing.
    pub(super) fn settle(&self, name: &SandboxName, port: Option<PortId>) {
        let mut state = self.lock();
        match port {
            Some(port) => state.attachments.insert(name.clone(), Attachment::Attached(port)),
            None => state.attachments.remove(name),
        };
        drop(state);
        self.changed.notify_all();
    }

    /// Puts a record on disk.
    pub(super) fn keep(&self, record: &Record) -> Result<(), ApiError> {
        self.sandboxes.keep(record.clone()).map_err(|error| {
            let folder = self.config.state_dir.as_deref().unwrap_or(Path::new(""));
            let message =
                format!("the record of {} cannot be written below {}: {error}", record.sandbox(), folder.display());
            ApiError::new(ErrorCode::NotWritten, message)
        })
    }

    /// Detaches a port; one that is not there is detached already.
    pub(crate) fn detach(&self, container_id: &str, ifname: &str) -> Result<Detached, ApiError> {
        let name = SandboxName::new(container_id, ifname);
        let state = self.lock();
        let pending = |state: &mut State| state.attachments.get(&name) == Some(&Attachment::Pending) && !state.stopping;
        let waited = self.changed.wait_timeout_while(state, ATTACH_WAIT, pending);
        let (state, _) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        let port = match state.attachments.get(&name) {
            None => None,
            Some(Attachment::Attached(port)) => Some(*port),
            Some(Attachment::Pending) => {
                return Err(ApiError::new(ErrorCode::NotReady, format!("{name} is being attached: try again")));
            }
        };
        let dataplane = state.dataplane.clone();
        drop(state);
        if let Some(port) = port {
            let dataplane = dataplane.ok_or_else(|| self.not_ready(&self.lock()))?;
            dataplane.detach(port).map_err(|error| ApiError::new(ErrorCode::Failed, error.to_string()))?;
            self.lock().attachments.remove(&name);
        }
        let (record, failed) = self.sandboxes.release(&name, SystemTime::now());
        if let Some(error) = failed {
            event(Level::Warn, "what rests is not on disk", &[("what", &name), ("reason", &error)]);
        }
        if let Some(record) = record.as_ref().filter(|record| says_something(record))
            && let Err(error) = self.lay_over(&record.pod)
        {
            // The sandbox is gone all the same; the next tables leave it out.
            event(Level::Warn, "tables still have it", &[("what", &name), ("reason", &error)]);
        }
        let removed = port.is_some() || record.is_some();
        if removed {
            event(Level::Info, "detached", &[("container_id", &container_id), ("ifname", &ifname)]);
        }
        Ok(Detached { removed })
    }

    /// All ports with their counters, the host port first.
    pub(crate) fn ports(&self) -> Result<Vec<Port>, ApiError> {
        let state = self.lock();
        let dataplane = state.dataplane.clone().ok_or_else(|| self.not_ready(&state))?;
        let names: BTreeMap<PortId, String> = state
            .attachments
            .iter()
            .filter_map(|(name, attachment)| match attachment {
                Attachment::Attached(port) => Some((*port, name.container_id.clone())),
                Attachment::Pending => None,
            })
            .collect();
        drop(state);
        let counters: BTreeMap<PortId, switch::Counters> = dataplane.counters().switch.ports.into_iter().collect();
        let describe = |info: &PortInfo| {
            let container_id = names.get(&info.id).map(String::as_str).unwrap_or_default();
            super::views::port(info, container_id, counters.get(&info.id))
        };
        Ok(dataplane.ports().iter().map(describe).collect())
    }

    /// Waits until the request's pod may be attached; gives the state, still locked, and what to attach.
    fn wait_for_pod(&self, request: &AttachRequest) -> Result<(std::sync::MutexGuard<'_, State>, PortSpec), ApiError> {
        let deadline = Instant::now() + POD_WAIT;
        let mut state = self.lock();
        loop {
            let refusal = match self.find_pod(&state, request) {
                Ok(spec) => return Ok((state, spec)),
                Err(refusal) => refusal,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let waits = matches!(refusal.code, ErrorCode::NotReady | ErrorCode::PodNotInForce);
            if !waits || left.is_zero() || state.stopping {
                return Err(refusal);
            }
            let waited = self.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// What the request's pod becomes, by the tables in force.
    fn find_pod(&self, state: &State, request: &AttachRequest) -> Result<PortSpec, ApiError> {
        let AttachRequest { namespace, name, .. } = request;
        let tables = &state.in_force.as_ref().ok_or_else(|| self.not_ready(state))?.tables;
        let refuse = |message: String| ApiError::new(ErrorCode::PodNotInForce, message);
        let pod = tables.find_pod(namespace, name).map(|index| tables.pod(index)).ok_or_else(|| {
            let origin = &self.config.origin;
            refuse(format!("Pod {namespace}/{name} is not in force on this node: is it in {origin}, and not ended?"))
        })?;
        if pod.host_network {
            let message = format!("Pod {namespace}/{name} shares the node's network (hostNetwork): it has no port");
            return Err(ApiError::new(ErrorCode::BadRequest, message));
        }
        if pod.node != tables.find_node(&self.config.node_name) {
            let place = pod.node.map_or("no node".to_owned(), |node| format!("node {}", tables.node(node).name));
            return Err(refuse(format!(
                "Pod {namespace}/{name} is scheduled on {place}, this is {}",
                self.config.node_name
            )));
        }
        let addresses = request.addresses.clone().unwrap_or_else(|| pod.addresses.clone());
        if addresses.is_empty() || addresses.iter().any(|address| !pod.addresses.contains(address)) {
            let own: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
            let message =
                format!("the addresses of Pod {namespace}/{name} in force are [{}] (status.podIPs)", own.join(", "));
            return Err(refuse(message));
        }
        Ok(PortSpec {
            kind: PortKind::Pod { namespace: namespace.clone(), name: name.clone() },
            netns: request.netns.clone(),
            ifname: request.ifname.clone(),
            addresses,
            mac: None,
        })
    }
}

/// Refuses what cannot name a sandbox and its interface.
pub(super) fn check_names(container_id: &str, ifname: &str, netns: &Path) -> Result<(), ApiError> {
    let bad = |message: String| Err(ApiError::new(ErrorCode::BadRequest, message));
    if container_id.is_empty() || container_id.len() > CONTAINER_ID_BYTES_MAX {
        return bad(format!("container_id has {} bytes, not 1 to {CONTAINER_ID_BYTES_MAX}", container_id.len()));
    }
    if ifname.is_empty() || ifname.len() > IFNAME_BYTES_MAX {
        return bad(format!("ifname {ifname:?} has not 1 to {IFNAME_BYTES_MAX} bytes"));
    }
    if !netns.is_absolute() {
        return bad(format!("netns {} is not an absolute path", netns.display()));
    }
    Ok(())
}

pub(super) fn attach_error(pod: &str, error: &AttachError) -> ApiError {
    let code = match error {
        AttachError::Invalid(_) | AttachError::Namespace(..) => ErrorCode::BadRequest,
        AttachError::InterfaceExists(_) => ErrorCode::AlreadyAttached,
        AttachError::Step(..) | AttachError::TooManyPorts | AttachError::Stopped => ErrorCode::Failed,
    };
    ApiError::new(code, format!("Pod {pod}: {error}"))
}
