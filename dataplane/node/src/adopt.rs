//! Taking over what a process before this one has left: devices with all that is around them, and the flows of their ports.
//!
//! # How it works
//! With a [`crate::DataplaneConfig::state_dir`] devices are persistent: they stay when the process ends, without a carrier, with their
//! addresses and routes. The host TAP is taken over when the dataplane starts. Control knows which pods' interfaces there are, and
//! has them taken over before it sets the first tables. Until then nothing is read, so what comes meanwhile waits in the
//! kernel's queues; and then all ports are there at once, so nobody is told that another pod is gone.
//!
//! Flows are judged under the first tables, each at its next packet, as after any other change.

use crate::dataplane::Flows;
use crate::device::{self, Device, take_device};
use crate::netlink::Netlink;
use crate::state;
use crate::sys::netns;
use crate::tap::Tap;
use crate::uplink::silence;
use crate::{AttachError, Dataplane, PortInfo, PortSpec, Stopped};
use std::io;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread;
use switch::Restored;
use wire::MacAddr;

/// Threads that take interfaces over. It is waiting for the kernel more than anything else.
const CREW: usize = 4;

/// An interface to take over: the MAC that it is to have, if any, and the port that it becomes.
type Wanted = (Option<MacAddr>, PortInfo);

impl Dataplane {
    /// Takes over pods' interfaces that a process before this one has attached; what is missing of one is made. To be called once,
    /// before the first tables are set. Gives what became of each. One that could not be taken over is left as it is. What is kept
    /// of the flows of all other pods is removed.
    pub fn adopt(&self, specs: Vec<PortSpec>) -> Result<Vec<Result<PortInfo, AttachError>>, Stopped> {
        let mut registry = self.registry();
        let wanted: Vec<Result<Wanted, AttachError>> = specs
            .into_iter()
            .map(|spec| registry.check(&spec).map(|()| (spec.mac, self.describe(&mut registry, spec))))
            .collect();
        let adopted = self.take_devices(wanted).into_iter().map(|taken| {
            let (tap, info) = taken?;
            registry.check_addresses(&info.addresses)?;
            let before = self.state.as_ref().and_then(|state| state.shard_before(&info, self.shards.len()));
            let shard = before.unwrap_or_else(|| registry.least_loaded(self.shards.len()));
            let info = PortInfo { shard, ..info };
            self.register(&mut registry, &info, tap, Flows::Left)?;
            Ok(info)
        });
        let adopted = adopted.collect();
        if let Some(state) = &self.state {
            state.keep_only(registry.ports.values());
        }
        self.publish(&mut registry)?;
        Ok(adopted)
    }

    /// Takes several devices at once, in the order of `wanted`.
    fn take_devices(&self, wanted: Vec<Result<Wanted, AttachError>>) -> Vec<Result<(Tap, PortInfo), AttachError>> {
        let share = wanted.len().div_ceil(CREW).max(1);
        let taken: Vec<_> = thread::scope(|scope| {
            let take = |share: &[Result<Wanted, AttachError>]| {
                share.iter().map(|wanted| wanted.as_ref().ok().map(|wanted| self.take_one(wanted))).collect::<Vec<_>>()
            };
            let crew: Vec<_> = wanted.chunks(share).map(|share| scope.spawn(move || take(share))).collect();
            crew.into_iter().flat_map(|one| one.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        let one = |(wanted, taken): (Result<Wanted, AttachError>, Option<_>)| match (wanted, taken) {
            (_, Some(taken)) => taken,
            (Err(error), None) => Err(error),
            (Ok(_), None) => unreachable!("what is wanted is tried"),
        };
        wanted.into_iter().zip(taken).map(one).collect()
    }

    fn take_one(&self, (mac, port): &Wanted) -> Result<(Tap, PortInfo), AttachError> {
        let (Device { tap, .. }, mac) = take_device(port, *mac, self.config.tap_mode)?;
        tap.set_persistent(self.state.is_some())
            .map_err(|error| AttachError::Step("making the interface outlive the process", error))?;
        let info = PortInfo { tap: tap.kind(), mac, ..port.clone() };
        Ok((tap, info))
    }

    /// What became of the flows that the process before this one had.
    pub fn restored(&self) -> Restored {
        self.registry().restored.clone()
    }
}

/// What a node process that does not run any more has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// The host TAP of this name in the network namespace of the calling thread, with its addresses and routes.
    HostTap(String),
    /// A pod's interface: network namespace and name.
    Interface(PathBuf, String),
    /// The rules for the kernel's own answers, in that namespace.
    Rules,
    /// The flows in a state folder.
    Flows(PathBuf),
}

/// Removes it, if it is there; `false` if it is not.
///
/// Errors: `EBUSY` if a node process still has the interface open, `EINVAL` if the interface is not one of a node process.
pub fn remove_leftover(leftover: &Leftover) -> io::Result<bool> {
    match leftover {
        Leftover::HostTap(name) => device::remove_tap(name),
        Leftover::Interface(namespace, name) if namespace.exists() => {
            netns::within(namespace, || device::remove_tap(name)).and_then(|removed| removed)
        }
        Leftover::Interface(..) => Ok(false),
        Leftover::Rules => silence::remove_all(&mut Netlink::open()?),
        Leftover::Flows(folder) => state::remove_all(folder),
    }
}
