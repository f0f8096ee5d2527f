//! What a node says where it cannot start (B44): each cause by name, with what to do.

mod common;

use common::*;
use node::{DataplaneConfig, StartError, TapMode};
use std::net::UdpSocket;

fn refusal(config: DataplaneConfig) -> StartError {
    start(config).err().expect("it cannot start")
}

#[test]
fn without_the_device_it_says_how_to_get_it() {
    namespace::run(|| {
        make_namespaces();
        sh("mount -t tmpfs tmpfs /dev/net");
        let error = refusal(config("node1", TapMode::Auto));
        assert!(matches!(error, StartError::NoTunDevice), "{error}");
        let text = error.to_string();
        assert!(text.contains("modprobe tun") && text.contains("--device /dev/net/tun"), "{text}");
    });
}

#[test]
fn without_permission_for_the_device_it_says_so() {
    namespace::run(|| {
        make_namespaces();
        // A device on a file system without devices cannot be opened, not even by root.
        sh("mount --bind /dev/net/tun /dev/net/tun; mount -o remount,bind,nodev /dev/net/tun");
        let error = refusal(config("node1", TapMode::Auto));
        assert!(matches!(error, StartError::TunDeviceDenied(_)), "{error}");
    });
}

#[test]
fn without_net_admin_it_says_so() {
    namespace::run_without_net_admin(|| {
        // The namespace is not ours; its loopback address is all that is needed to get to the TAP.
        let config = DataplaneConfig {
            host_tap: "podplane-test".to_owned(),
            vxlan_port: 47_890,
            ..DataplaneConfig::new("node1", vec!["127.0.0.1".parse().expect("an address")], Vec::new())
        };
        let error = node::Dataplane::start(config).err().expect("it cannot start");
        assert!(matches!(error, StartError::NoNetAdmin), "{error}");
        assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
    });
}

#[test]
fn an_address_of_another_machine_is_refused() {
    namespace::run(|| {
        make_namespaces();
        let underlay = vec!["192.0.2.9".parse().expect("an address")];
        let error = refusal(DataplaneConfig { underlay, ..config("node1", TapMode::Auto) });
        assert!(matches!(error, StartError::AddressNotLocal(_)), "{error}");
    });
}

#[test]
fn a_port_in_use_is_named() {
    namespace::run(|| {
        make_namespaces();
        let _other = within("node1", || UdpSocket::bind("172.30.0.11:4789")).expect("the port is free");
        let error = refusal(config("node1", TapMode::Auto));
        assert!(matches!(error, StartError::PortInUse(_, 4789)), "{error}");
        within("node1", || sh("! ip link show podplane0 2> /dev/null"));
    });
}

#[test]
fn a_second_node_in_the_same_place_is_refused() {
    namespace::run(|| {
        make_namespaces();
        let _first = start(config("node1", TapMode::Auto)).expect("the node starts");
        let other_port = DataplaneConfig { vxlan_port: 4_790, ..config("node1", TapMode::Auto) };
        let error = refusal(other_port);
        assert!(matches!(error, StartError::HostTapBusy(_)), "{error}");
    });
}

#[test]
fn an_underlay_that_is_too_small_is_refused() {
    namespace::run(|| {
        make_namespaces();
        let error = refusal(DataplaneConfig { underlay_mtu: Some(1_300), ..config("node1", TapMode::Auto) });
        assert!(matches!(error, StartError::UnderlayTooSmall(1_300)), "{error}");
    });
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused() {
    namespace::run(|| {
        make_namespaces();
        let good = || config("node1", TapMode::Auto);
        for bad in [
            DataplaneConfig { shards: 0, ..good() },
            DataplaneConfig { shards: 65, ..good() },
            DataplaneConfig { underlay: Vec::new(), ..good() },
            DataplaneConfig { host_tap: "a name".to_owned(), ..good() },
            DataplaneConfig { vxlan_port: 0, ..good() },
        ] {
            let error = refusal(bad);
            assert!(matches!(error, StartError::Config(_)), "{error}");
        }
    });
}
