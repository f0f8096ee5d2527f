//! Starting: what the kernel must grant is probed before anything is made, and named when it is missing (B44).

use crate::command::{Command, Neighbor};
use crate::dataplane::{ShardHandle, is_interface_name};
use crate::netlink::{Link, Netlink};
use crate::pool::Pool;
use crate::shard::{Channels, Clock, NameServer, Shard, WAKE};
use crate::tap::Tap;
use crate::tunnel::Tunnel;
use crate::{ClusterDns, DataplaneConfig, StartError, TapMode, command, link};
use crossbeam_channel::{Sender, bounded};
use gateway::dns::Responder;
use gateway::dns::desk::{ADDRESSES_MAX, Desk, DeskConfig, Outlet};
use mio::{Poll, Waker};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use switch::{ShardId, Switch, SwitchConfig};

/// The smallest MTU that IPv6 allows (RFC 8200 §5).
const POD_MTU_MIN: u16 = 1_280;

/// Longest time for which duplicate address detection keeps a fresh IPv6 address from being used: a random delay of up to a
/// second and a probe of one second (RFC 4862 §5.4.2), and some reserve.
const TENTATIVE_MAX: Duration = Duration::from_secs(4);
/// How often to look whether it has ended.
const TENTATIVE_STEP: Duration = Duration::from_millis(50);

/// Commands that may wait for one shard; control asks one after another, so it is never full for long.
const COMMANDS_MAX: usize = 64;

/// What probing found and made.
pub(crate) struct Probed {
    pub(crate) pod_mtu: u16,
    pub(crate) netlink: Netlink,
    pub(crate) host_tap: Tap,
    pub(crate) host_link: Link,
}

/// Checks the configuration and the kernel, and makes the host TAP.
pub(crate) fn probe(config: &DataplaneConfig) -> Result<Probed, StartError> {
    check(config)?;
    let netlink_failed = |error| StartError::System("netlink cannot be asked", error);
    let mut netlink = Netlink::open().map_err(netlink_failed)?;
    let addresses = netlink.addresses().map_err(netlink_failed)?;
    let mut underlay_mtu = u16::MAX;
    for address in &config.underlay {
        let (index, _) =
            addresses.iter().find(|(_, known)| known == address).ok_or(StartError::AddressNotLocal(*address))?;
        let link = netlink.find_link_by_index(*index).map_err(netlink_failed)?;
        let mtu = link.map_or(u16::MAX, |link| u16::try_from(link.mtu).unwrap_or(u16::MAX));
        underlay_mtu = underlay_mtu.min(mtu);
        probe_tunnel(*address, config.vxlan_port)?;
    }
    let underlay_mtu = config.underlay_mtu.unwrap_or(underlay_mtu);
    let pod_mtu = overlay::mtu::pod_mtu(underlay_mtu, config.underlay[0]);
    if pod_mtu < POD_MTU_MIN {
        return Err(StartError::UnderlayTooSmall(underlay_mtu));
    }
    let is_left = netlink.find_link(&config.host_tap).map_err(netlink_failed)?.is_some();
    let host_tap = Tap::take_over(&config.host_tap, config.tap_mode).map_err(|error| match error.raw_os_error() {
        Some(libc::EBUSY | libc::EINVAL) if is_left => StartError::HostTapBusy(config.host_tap.clone()),
        _ => explain(config, error),
    })?;
    let host_link = netlink
        .find_link(&config.host_tap)
        .map_err(netlink_failed)?
        .ok_or_else(|| StartError::HostTap(config.host_tap.clone(), io::Error::from_raw_os_error(libc::ENODEV)))?;
    if config.gateways.iter().any(IpAddr::is_ipv6) {
        link::set_ipv6_switches(&config.host_tap);
    }
    Ok(Probed { pod_mtu, netlink, host_tap, host_link })
}

/// Waits for an IPv6 address that is still tentative; the interface is known to have it.
fn probe_tunnel(address: IpAddr, port: u16) -> Result<(), StartError> {
    let deadline = Instant::now() + TENTATIVE_MAX;
    loop {
        match Tunnel::probe(address, port) {
            Err(StartError::AddressNotLocal(_)) if address.is_ipv6() && Instant::now() < deadline => {
                thread::sleep(TENTATIVE_STEP);
            }
            other => return other,
        }
    }
}

fn check(config: &DataplaneConfig) -> Result<(), StartError> {
    let refuse = |what: String| Err(StartError::Config(what));
    let two_of_a_family = |addresses: &[IpAddr]| {
        addresses.iter().filter(|address| address.is_ipv4()).count() > 1
            || addresses.iter().filter(|address| address.is_ipv6()).count() > 1
    };
    if config.shards == 0 || config.shards > DataplaneConfig::SHARDS_MAX {
        return refuse(format!("{} shards: 1 to {} are possible", config.shards, DataplaneConfig::SHARDS_MAX));
    }
    if config.underlay.is_empty() {
        return refuse("the node has no address on the underlay: its Node object needs an InternalIP".to_owned());
    }
    if two_of_a_family(&config.underlay) {
        return refuse("the node has more than one underlay address of a family".to_owned());
    }
    if two_of_a_family(&config.gateways) {
        return refuse("the node has more than one gateway address of a family".to_owned());
    }
    if !is_interface_name(&config.host_tap) {
        return refuse(format!("\"{}\" is not an interface name for the host TAP", config.host_tap));
    }
    if config.cluster_dns.as_ref().is_some_and(|dns| dns.addresses.len() > ADDRESSES_MAX) {
        return refuse(format!("the cluster DNS has more than {ADDRESSES_MAX} addresses"));
    }
    if config.vxlan_port == 0 {
        return refuse("0 is not a UDP port for the tunnel".to_owned());
    }
    Ok(())
}

/// Names what keeps the first TAP from being made.
fn explain(config: &DataplaneConfig, error: io::Error) -> StartError {
    use std::io::ErrorKind;
    // The device node may exist without its module: then opening it says ENODEV or ENXIO.
    let no_module = matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO));
    match error.kind() {
        ErrorKind::NotFound => StartError::NoTunDevice,
        _ if no_module => StartError::NoTunDevice,
        ErrorKind::PermissionDenied if crate::sys::tap::open_device().is_err() => StartError::TunDeviceDenied(error),
        ErrorKind::PermissionDenied => StartError::NoNetAdmin,
        ErrorKind::ResourceBusy => StartError::HostTapBusy(config.host_tap.clone()),
        _ if config.tap_mode == TapMode::Offload => StartError::NoOffload(error),
        _ => StartError::HostTap(config.host_tap.clone(), error),
    }
}

/// A shard whose thread has not started.
pub(crate) struct Made {
    pub(crate) shard: Shard,
    pub(crate) commands: Sender<Command>,
    pub(crate) waker: Arc<Waker>,
}

/// Opens every shard's poll, channels and tunnel sockets.
pub(crate) fn make_shards(config: &DataplaneConfig, pod_mtu: u16) -> Result<Vec<Made>, StartError> {
    let failed = |error| StartError::System("a shard's poll cannot be made", error);
    let clock = Clock::start();
    let mut neighbors = Vec::new();
    let mut parts = Vec::new();
    for _ in 0..config.shards {
        let poll = Poll::new().map_err(failed)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE).map_err(failed)?);
        let (inbox_sender, inbox) = bounded(command::HANDOVER_MAX);
        let (pool, returns) = Pool::new();
        neighbors.push(Neighbor { inbox: inbox_sender, returns, waker });
        parts.push((poll, inbox, pool));
    }
    let make = |(number, (poll, inbox, pool)): (u16, _)| {
        let waker = neighbors[usize::from(number)].waker.clone();
        let (commands_sender, commands) = bounded(COMMANDS_MAX);
        let channels = Channels { commands, inbox, neighbors: neighbors.clone() };
        let mut switch = Switch::new(switch_config(config, ShardId(number), pod_mtu));
        let outlives = config.state_dir.is_some();
        if outlives {
            switch.keep_records();
        }
        let tunnel = Tunnel::open(config, pod_mtu)?;
        let shard = Shard::new(switch, poll, clock, channels, tunnel, pool, outlives).map_err(failed)?;
        Ok(Made { shard, commands: commands_sender, waker })
    };
    (0..).zip(parts).map(make).collect()
}

/// Makes the shards, with the desk of the cluster DNS if this node answers that, and starts their threads.
pub(crate) fn spawn_shards(
    config: &DataplaneConfig,
    pod_mtu: u16,
) -> Result<(Vec<ShardHandle>, Option<Desk>), StartError> {
    let mut made = make_shards(config, pod_mtu)?;
    let desk = config.cluster_dns.as_ref().map(|dns| open_desk(config, dns, pod_mtu, &mut made)).transpose()?;
    let spawn = |(number, Made { shard, commands, waker }): (usize, Made)| {
        let thread = thread::Builder::new()
            .name(format!("podplane-{number}"))
            .spawn(move || shard.run())
            .map_err(|error| StartError::System("a shard's thread cannot be started", error))?;
        Ok(ShardHandle { commands, waker, thread })
    };
    let shards = made.into_iter().enumerate().map(spawn).collect::<Result<_, _>>()?;
    Ok((shards, desk))
}

/// Starts the desk and gives every shard its line to it.
fn open_desk(
    config: &DataplaneConfig,
    dns: &ClusterDns,
    pod_mtu: u16,
    shards: &mut [Made],
) -> Result<Desk, StartError> {
    let (mut outlets, mut replies) = (Vec::<Outlet>::new(), Vec::new());
    for Made { waker, .. } in shards.iter() {
        let (sender, receiver) = bounded(command::REPLIES_MAX);
        let waker = waker.clone();
        outlets.push(Box::new(move |reply| sender.try_send(reply).is_ok_and(|()| waker.wake().is_ok())));
        replies.push(receiver);
    }
    let seed = config.seed;
    let desk = DeskConfig {
        addresses: dns.addresses.clone(),
        mtu: pod_mtu,
        responder: dns.responder.clone(),
        forward: dns.forward.clone(),
        seed,
    };
    let desk = Desk::start(desk, outlets, dns.report)
        .map_err(|error| StartError::System("the name server's thread cannot be started", error))?;
    for (number, (Made { shard, .. }, replies)) in (1..).zip(shards.iter_mut().zip(replies)) {
        // Each shard gives the addresses of a name in an order of its own.
        let responder = Responder::new(dns.responder.clone(), seed.wrapping_add(number));
        shard.serve_names(NameServer::new(responder, desk.errands(), replies));
    }
    Ok(desk)
}

fn switch_config(config: &DataplaneConfig, shard: ShardId, pod_mtu: u16) -> SwitchConfig {
    SwitchConfig {
        node_name: config.node_name.clone(),
        shard,
        shards: config.shards,
        vni: config.vni,
        vxlan_port: config.vxlan_port,
        vtep_mac: config.vtep_mac,
        gateways: config.gateways.clone(),
        tunnel_mtu: pod_mtu,
        seed: config.seed,
        flows_per_port_max: config.flows_per_port_max,
        uplink_flows_max: config.uplink_flows_max,
        service_cidrs: config.service_cidrs.clone(),
        non_masquerade: config.non_masquerade.clone(),
        masquerade_all: config.masquerade_all,
        trusted_dns: config.trusted_dns.clone(),
    }
}
