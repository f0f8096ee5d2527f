//! Attaching and detaching pods: what the API asks, checked against the tables in force, done by the dataplane.
//!
//! An attach waits until its pod is in the tables in force, because callers write the pod first and attach it at once. A
//! port is named by container id and interface, never by its pod: a late detach of an old sandbox leaves the new one alone
//! (P09).

use super::{Agent, State};
use crate::api::{ApiError, AttachRequest, Detached, ErrorCode, Port};
use crate::log::{Level, event};
use node::{AttachError, PortInfo, PortSpec};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use switch::{PortId, PortKind};

/// How long an attach waits for its pod: far longer than a change takes from file to force, far shorter than the timeout of
/// a container runtime (minutes).
const POD_WAIT: Duration = Duration::from_secs(5);

/// How long a detach waits for an attach of the same port to end.
const ATTACH_WAIT: Duration = Duration::from_secs(20);

/// Longest interface name of the kernel.
const IFNAME_BYTES_MAX: usize = 15;

/// Container id and interface name.
pub(super) type PortName = (String, String);

/// The ports that were attached here, by name.
pub(super) type Attachments = BTreeMap<PortName, Attachment>;

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
        check_names(&request)?;
        let name = (request.container_id.clone(), request.ifname.clone());
        let (dataplane, spec) = {
            let (mut state, spec) = self.wait_for_pod(&request)?;
            if state.attachments.contains_key(&name) {
                let message =
                    format!("interface {} of container {} is attached already: detach it first", name.1, name.0);
                return Err(ApiError::new(ErrorCode::AlreadyAttached, message));
            }
            let dataplane = state.dataplane.clone().ok_or_else(|| self.not_ready(&state))?;
            state.attachments.insert(name.clone(), Attachment::Pending);
            (dataplane, spec)
        };
        let attached = dataplane.attach(spec);
        let mut state = self.lock();
        match &attached {
            Ok(info) => state.attachments.insert(name.clone(), Attachment::Attached(info.id)),
            Err(_) => state.attachments.remove(&name),
        };
        drop(state);
        self.changed.notify_all();
        let pod = format!("{}/{}", request.namespace, request.name);
        match attached {
            Ok(info) => {
                event(Level::Info, "attached", &[("pod", &pod), ("port", &info.id.0), ("ifname", &info.ifname)]);
                Ok(super::views::port(&info, &name.0, None))
            }
            Err(error) => {
                event(Level::Error, "not attached", &[("pod", &pod), ("reason", &error)]);
                Err(attach_error(&pod, &error))
            }
        }
    }

    /// Detaches a port; one that is not there is detached already.
    pub(crate) fn detach(&self, container_id: &str, ifname: &str) -> Result<Detached, ApiError> {
        let name = (container_id.to_owned(), ifname.to_owned());
        let state = self.lock();
        let pending = |state: &mut State| state.attachments.get(&name) == Some(&Attachment::Pending) && !state.stopping;
        let waited = self.changed.wait_timeout_while(state, ATTACH_WAIT, pending);
        let (state, _) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        let port = match state.attachments.get(&name) {
            None => return Ok(Detached { removed: false }),
            Some(Attachment::Attached(port)) => *port,
            Some(Attachment::Pending) => {
                let message = format!("interface {ifname} of container {container_id} is being attached: try again");
                return Err(ApiError::new(ErrorCode::NotReady, message));
            }
        };
        let dataplane = state.dataplane.clone().ok_or_else(|| self.not_ready(&state))?;
        drop(state);
        let removed = dataplane.detach(port).map_err(|error| ApiError::new(ErrorCode::Failed, error.to_string()))?;
        self.lock().attachments.remove(&name);
        event(Level::Info, "detached", &[("port", &port.0), ("container_id", &container_id)]);
        Ok(Detached { removed })
    }

    /// All ports with their counters, the host port first.
    pub(crate) fn ports(&self) -> Result<Vec<Port>, ApiError> {
        let state = self.lock();
        let dataplane = state.dataplane.clone().ok_or_else(|| self.not_ready(&state))?;
        let names: BTreeMap<PortId, String> = state
            .attachments
            .iter()
            .filter_map(|((container_id, _), attachment)| match attachment {
                Attachment::Attached(port) => Some((*port, container_id.clone())),
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

fn check_names(request: &AttachRequest) -> Result<(), ApiError> {
    let bad = |message: String| Err(ApiError::new(ErrorCode::BadRequest, message));
    if request.container_id.is_empty() {
        return bad("container_id is empty".to_owned());
    }
    if request.ifname.is_empty() || request.ifname.len() > IFNAME_BYTES_MAX {
        return bad(format!("ifname {:?} has not 1 to {IFNAME_BYTES_MAX} bytes", request.ifname));
    }
    if !request.netns.is_absolute() {
        return bad(format!("netns {} is not an absolute path", request.netns.display()));
    }
    Ok(())
}

fn attach_error(pod: &str, error: &AttachError) -> ApiError {
    let code = match error {
        AttachError::Invalid(_) | AttachError::Namespace(..) => ErrorCode::BadRequest,
        AttachError::InterfaceExists(_) => ErrorCode::AlreadyAttached,
        AttachError::Step(..) | AttachError::TooManyPorts | AttachError::Stopped => ErrorCode::Failed,
    };
    ApiError::new(code, format!("Pod {pod}: {error}"))
}
