//! What control asks of a shard, and the ports that come and go by it.

use super::{PORT_BASE, Port, Shard};
use crate::command::{Command, Kept};
use crate::shard::NameServer;
use crate::tap::Tap;
use crate::{Counters, DnsStatus};
use mio::unix::SourceFd;
use mio::{Interest, Token};
use std::io;
use switch::{PortConfig, PortId, PortKind, Restored};

impl Shard {
    /// A device vanished under us: somebody deleted it.
    pub(super) fn lose_port(&mut self, id: PortId) {
        if self.remove_port(id) {
            self.ports_lost += 1;
        }
    }

    fn remove_port(&mut self, id: PortId) -> bool {
        let removed = self.ports.remove(&id);
        let known = removed.is_some();
        if let Some(Port { tap, .. }) = removed {
            // Closing the descriptor also takes it out of the poll. A device that is gone has nothing to tell.
            let _ = tap.set_persistent(false);
            drop(tap);
            self.forget_flows_of(id);
            self.switch.remove_port(id);
            if let Some(names) = &self.names {
                names.forget_port(id);
            }
        }
        known
    }

    pub(super) fn add_port(&mut self, config: PortConfig, tap: Tap, kept: Option<Kept>) -> io::Result<Restored> {
        let token = Token(PORT_BASE + config.id.0 as usize);
        self.poll.registry().register(&mut SourceFd(&tap.raw_fd()), token, Interest::READABLE)?;
        let (id, is_host) = (config.id, config.kind == PortKind::Host);
        self.ports.insert(id, Port { tap, is_host, is_ready: false });
        self.switch.add_port(config);
        Ok(self.keep_flows_of(id, kept))
    }

    /// Does what control asked. An answer that nobody waits for is no error.
    pub(super) fn take_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::AddPort(config, tap, kept, reply) => {
                    let _ = reply.send(self.add_port(config, tap, kept));
                }
                Command::RemovePort(id, reply) => {
                    self.remove_port(id);
                    let _ = reply.send(());
                }
                Command::AddUplink(config, uplink, kept, reply) => {
                    let _ = reply.send(self.add_uplink(config, uplink, kept));
                }
                Command::SetInterfaces(interfaces) => self.set_interfaces(interfaces),
                Command::NextHop(destination, hop) => {
                    if let Some(uplink) = &mut self.uplink {
                        uplink.io.learn(self.now, destination, hop);
                    }
                }
                Command::ForgetNextHops => {
                    if let Some(uplink) = &mut self.uplink {
                        uplink.io.forget_next_hops();
                    }
                }
                Command::GrantSourcePorts(pool, ports) => self.switch.grant_source_ports(pool, ports),
                Command::SourcePortsGrow(pool, grow) => self.switch.set_source_ports_growing(pool, grow),
                Command::SetTables(tables, reply) => {
                    self.tunnel.set_peers(&tables.peers, self.switch.config().vxlan_port);
                    self.awaits_tables &= tables.policy.epoch == 0;
                    let _ = reply.send(self.switch.set_tables(tables));
                }
                Command::Counters(reply) => {
                    let mut io = self.tunnel.counters;
                    io.ports_lost = self.ports_lost;
                    io.flow_writes_failed = self.flow_writes_failed;
                    if let Some(uplink) = &self.uplink {
                        uplink.io.count(&mut io);
                    }
                    let shards = self.names.as_ref().map(NameServer::counters).unwrap_or_default();
                    let dns = DnsStatus { shards, ..DnsStatus::default() };
                    let _ = reply.send(Counters { switch: self.switch.counters(), io, dns });
                }
                Command::ServiceHits(reply) => {
                    let _ = reply.send(self.switch.service_hits());
                }
                Command::PolicyHits(reply) => {
                    let _ = reply.send(self.switch.policy_hits());
                }
                Command::DropsSeen(reply) => {
                    let _ = reply.send(self.switch.drops_seen(self.now));
                }
                Command::Flows(max, reply) => {
                    let _ = reply.send(self.switch.flows(self.now, max));
                }
                Command::Stop => self.stopping = true,
            }
        }
    }
}
