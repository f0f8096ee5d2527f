//! Going on where a process before this one ended (R01, R02).
//!
//! The records of sandboxes say what was attached. When the dataplane has started, and before it has its first tables, their
//! interfaces are taken over with the flows of their ports; a port whose interface cannot be had is told and missing, the rest
//! works. What became of the pods meanwhile, the tables say: a port is closed unless they know its pod.

use super::Agent;
use super::ports::Attachment;
use crate::log::{Level, event};
use crate::sandboxes::Record;
use node::{Dataplane, PortSpec, Stopped};
use switch::PortKind;

impl Agent {
    /// Takes over what a process before this one has attached.
    pub(super) fn take_over(&self, dataplane: &Dataplane) -> Result<(), Stopped> {
        let records = self.sandboxes.all();
        let adopted = dataplane.adopt(records.iter().map(port_spec).collect())?;
        let mut state = self.lock();
        let mut ports = 0;
        for (record, adopted) in records.iter().zip(adopted) {
            match adopted {
                Ok(info) => {
                    ports += 1;
                    state.attachments.insert(record.sandbox(), Attachment::Attached(info.id));
                }
                Err(error) => event(Level::Error, "not taken over", &[("pod", &record.pod), ("reason", &error)]),
            }
        }
        drop(state);
        self.changed.notify_all();
        let restored = dataplane.restored();
        if ports > 0 || restored.flows > 0 {
            event(Level::Info, "taken over", &[("ports", &ports), ("flows", &restored.flows)]);
        }
        if restored.rejected > 0 {
            let what = "flows of the process before could not be read: they begin anew";
            event(Level::Warn, what, &[("flows", &restored.rejected)]);
        }
        Ok(())
    }
}

fn port_spec(record: &Record) -> PortSpec {
    PortSpec {
        kind: PortKind::Pod { namespace: record.pod.namespace.clone(), name: record.pod.name.clone() },
        netns: record.netns.clone(),
        ifname: record.ifname.clone(),
        addresses: record.addresses.clone(),
        mac: Some(record.mac),
    }
}
