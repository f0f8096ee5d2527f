//! Which pod a sandbox is of, and which addresses that is to have.
//!
//! | the runtime says | a Pod object of that name | the pod |
//! |---|---|---|
//! | `K8S_POD_NAME` and `K8S_POD_UID` | with that uid, or without any | the object's |
//! | | none, or another uid | waited for; then an error, or implicit |
//! | `K8S_POD_NAME` | any | the object's |
//! | | none | implicit after a moment, or waited for; then an error |
//! | nothing | | implicit, called as the sandbox's id, or an error |
//!
//! *Implicit* pods are those of podman, `ctr` and other runtimes beside Kubernetes: in the namespace that the runtime says, else
//! `default`, with the labels that it says. Only a node on a cluster directory has them ([`super::AgentConfig::implicit_pods`]); where Kubernetes
//! is, a sandbox without a Pod is a mistake or the watch is behind.
//!
//! On a cluster directory the object's status.podIPs are what somebody chose for the pod, and it gets them. From Kubernetes they are what was
//! reported of the pod's sandbox before: it gets the same again if they are free.

use super::leases::key_of;
use super::{Agent, State};
use crate::api::{ApiError, ErrorCode};
use crate::sandboxes::{LeaseError, PodName, SandboxName};
use ::cni::api::Add;
use ipnet::IpNet;
use node::Dataplane;
use policy::cluster::{Key, Pod};
use policy::tables::{Owner, Tables};
use std::net::IpAddr;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

/// How long an add waits for its pod: far longer than a change takes from the source to force, far shorter than the timeout of a
/// container runtime (minutes).
const POD_WAIT: Duration = Duration::from_secs(5);

/// The same for a pod that may be implicit: an object that was written before the add is in force by then.
const OBJECT_WAIT: Duration = Duration::from_millis(250);

/// Namespace of pods of which nobody says one.
const DEFAULT_NAMESPACE: &str = "default";

/// Who a sandbox is, and by what tables.
pub(super) struct Identity {
    pub(super) pod: PodName,
    /// The pod's object; `None`: it is implicit.
    pub(super) object: Option<Arc<Pod>>,
    pub(super) tables: Arc<Tables>,
    pub(super) dataplane: Arc<Dataplane>,
    /// This node's pod ranges.
    pub(super) ranges: Vec<IpNet>,
}

impl Agent {
    /// Who the sandbox is; waits for its object.
    pub(super) fn identify(&self, add: &Add) -> Result<Identity, ApiError> {
        let pod = PodName {
            namespace: add.pod.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
            name: add.pod.name.clone().unwrap_or_else(|| add.container_id.clone()),
            uid: add.pod.uid.clone(),
        };
        let may_be_implicit = self.config.implicit_pods;
        let patience = match (&add.pod.name, may_be_implicit) {
            (Some(_), true) if pod.uid.is_none() => OBJECT_WAIT,
            (None, true) => Duration::ZERO,
            _ => POD_WAIT,
        };
        let began = Instant::now();
        loop {
            // Taken before the look, so that no change between the look and the wait is missed.
            let seen = self.lock().in_force.as_ref().map(|in_force| in_force.tables.epoch);
            let refusal = match self.find_identity(&pod) {
                Ok(found) if found.object.is_some() => return Ok(found),
                Ok(found) if may_be_implicit && began.elapsed() >= patience => return Ok(found),
                Ok(_) => self.unknown(&pod),
                Err(refusal) => refusal,
            };
            let waits = matches!(refusal.code, ErrorCode::NotReady | ErrorCode::PodNotInForce);
            let patience = if refusal.code == ErrorCode::NotReady { POD_WAIT } else { patience };
            let left = patience.saturating_sub(began.elapsed());
            if !waits || (left.is_zero() && !(may_be_implicit && refusal.code == ErrorCode::PodNotInForce)) {
                return Err(refusal);
            }
            let state = self.lock();
            if state.stopping {
                return Err(refusal);
            }
            let nothing_new = |state: &mut State| {
                state.in_force.as_ref().map(|in_force| in_force.tables.epoch) == seen && !state.stopping
            };
            let waited = self.changed.wait_timeout_while(state, left, nothing_new);
            drop::<(MutexGuard<'_, State>, _)>(waited.unwrap_or_else(|poisoned| poisoned.into_inner()));
        }
    }

    fn unknown(&self, pod: &PodName) -> ApiError {
        let uid = pod.uid.as_deref().map(|uid| format!(" with uid {uid}")).unwrap_or_default();
        let message = format!("Pod {pod}{uid} is not known to node {} yet", self.config.node_name);
        ApiError::new(ErrorCode::PodNotInForce, message)
    }

    /// The pod by the tables in force. Without an object it may be that there is none yet.
    fn find_identity(&self, pod: &PodName) -> Result<Identity, ApiError> {
        let (tables, dataplane) = {
            let state = self.lock();
            let in_force = state.in_force.as_ref().ok_or_else(|| self.not_ready(&state))?;
            (in_force.tables.clone(), state.dataplane.clone().ok_or_else(|| self.not_ready(&state))?)
        };
        let own = tables.find_node(&self.config.node_name);
        let ranges = own.map(|own| tables.node(own).pod_cidrs.clone()).unwrap_or_default();
        let object = self.intent().find_pod(&key_of(pod));
        let is_another =
            |object: &Pod| matches!((&object.uid, &pod.uid), (Some(known), Some(asked)) if **known != **asked);
        let object = object.filter(|object| !is_another(object));
        if let Some(object) = &object {
            let refuse = |code, message: String| Err(ApiError::new(code, format!("Pod {pod} {message}")));
            if object.host_network {
                let message = "shares the node's network (hostNetwork): it has no interface of its own";
                return refuse(ErrorCode::BadRequest, message.to_owned());
            }
            if object.ended {
                return refuse(ErrorCode::PodNotInForce, "has ended (its phase is Succeeded or Failed)".to_owned());
            }
            match object.node.as_deref() {
                Some(node) if node == self.config.node_name => {}
                // Containers of a person are where they were started.
                None if self.config.implicit_pods => {}
                Some(node) => {
                    let message = format!("is scheduled on node {node}, this is {}", self.config.node_name);
                    return refuse(ErrorCode::PodNotInForce, message);
                }
                None => return refuse(ErrorCode::PodNotInForce, "is scheduled on no node".to_owned()),
            }
        }
        Ok(Identity { pod: pod.clone(), object, tables, dataplane, ranges })
    }

    pub(super) fn tables_in_force(&self) -> Option<Arc<Tables>> {
        self.lock().in_force.as_ref().map(|in_force| in_force.tables.clone())
    }

    /// Takes the sandbox's addresses; whether this node chose them.
    pub(super) fn take_addresses(
        &self,
        name: &SandboxName,
        identity: &Identity,
        wanted: &[IpAddr],
    ) -> Result<(Vec<IpAddr>, bool), ApiError> {
        self.sandboxes.set_ranges(&identity.ranges);
        let known: &[IpAddr] = identity.object.as_ref().map(|object| &*object.addresses).unwrap_or_default();
        if self.config.implicit_pods && !known.is_empty() {
            if let Some(other) = wanted.iter().find(|address| !known.contains(address)) {
                let listed: Vec<String> = known.iter().map(ToString::to_string).collect();
                let message = format!(
                    "the requested address {other} is none of Pod {}, which has [{}] (status.podIPs)",
                    identity.pod,
                    listed.join(", ")
                );
                return Err(ApiError::new(ErrorCode::AddressRefused, message));
            }
            self.sandboxes.claim(name, known).map_err(|error| refused(&identity.pod, &error))?;
            return Ok((known.to_vec(), false));
        }
        let own = key_of(&identity.pod);
        let lease = |wanted: &[IpAddr]| {
            let tables = self.tables_in_force().unwrap_or_else(|| identity.tables.clone());
            self.sandboxes.lease(name, wanted, SystemTime::now(), |address| is_taken(&tables, address, Some(&own)))
        };
        if wanted.is_empty()
            && !known.is_empty()
            && let Ok(addresses) = lease(known)
        {
            return Ok((addresses, true));
        }
        let mut leased = lease(wanted);
        if matches!(leased, Err(LeaseError::Exhausted(_))) && self.end_vanished() > 0 {
            leased = lease(wanted);
        }
        leased.map(|addresses| (addresses, true)).map_err(|error| refused(&identity.pod, &error))
    }
}

/// Whether an object other than the pod `own` has `address`.
pub(super) fn is_taken(tables: &Tables, address: IpAddr, own: Option<&Key>) -> bool {
    match tables.owner(address) {
        None => false,
        Some(Owner::Node(_)) => true,
        Some(Owner::Pod(pod)) => {
            let pod = tables.pod(pod);
            own.is_none_or(|(namespace, name)| (&pod.namespace, &pod.name) != (namespace, name))
        }
    }
}

fn refused(pod: &PodName, error: &LeaseError) -> ApiError {
    let code = match error {
        LeaseError::Exhausted(_) | LeaseError::NoRange => ErrorCode::RangeExhausted,
        LeaseError::NotOurs(..) | LeaseError::OnePerFamily(_) | LeaseError::Taken(..) => ErrorCode::AddressRefused,
    };
    ApiError::new(code, format!("Pod {pod}: {error}"))
}
