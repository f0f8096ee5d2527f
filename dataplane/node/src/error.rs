//! What can go wrong on the control side. Traffic cannot fail: it is counted.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// The shards have stopped; nothing can be changed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the dataplane has stopped")
    }
}

impl std::error::Error for Stopped {}

/// Why a dataplane did not start. Each says what to do.
#[derive(Debug)]
pub enum StartError {
    /// The configuration contradicts itself.
    Config(String),
    /// `/dev/net/tun` is absent.
    NoTunDevice,
    /// `/dev/net/tun` may not be opened.
    TunDeviceDenied(io::Error),
    /// CAP_NET_ADMIN is missing in the user namespace that owns this network namespace.
    NoNetAdmin,
    /// An interface with the host TAP's name exists and is in use.
    HostTapBusy(String),
    /// The kernel refused the host TAP.
    HostTap(String, io::Error),
    /// The offload TAP was demanded and the kernel refuses it.
    NoOffload(io::Error),
    /// No interface of this machine has the node address.
    AddressNotLocal(IpAddr),
    /// Another program holds the tunnel's UDP port.
    PortInUse(IpAddr, u16),
    /// The underlay is too small for the tunnel: its MTU.
    UnderlayTooSmall(u16),
    /// Another system call failed: what was tried, and its error.
    System(&'static str, io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(what) => write!(f, "{what}"),
            StartError::NoTunDevice => f.write_str(
                "/dev/net/tun does not exist: load the tun module (modprobe tun), or give the container the device \
                 (--device /dev/net/tun)",
            ),
            StartError::TunDeviceDenied(error) => write!(
                f,
                "/dev/net/tun may not be opened ({error}): make it readable and writable for this user \
                 (chmod 0666 /dev/net/tun), or allow the device for the container (--device /dev/net/tun)"
            ),
            StartError::NoNetAdmin => f.write_str(
                "this process may not configure the network: it needs CAP_NET_ADMIN (run as root, give the container \
                 --cap-add NET_ADMIN, or start it in its own user and network namespace)",
            ),
            StartError::HostTapBusy(name) => write!(
                f,
                "interface {name} is in use: another podplane node runs in this network namespace; stop it, or choose \
                 another host TAP name"
            ),
            StartError::HostTap(name, error) => write!(f, "the kernel refused the host TAP {name}: {error}"),
            StartError::NoOffload(error) => write!(
                f,
                "the kernel refuses TAP offloads ({error}): use the plain TAP mode, or auto to fall back to it"
            ),
            StartError::AddressNotLocal(address) => write!(
                f,
                "no interface of this machine has the node address {address}: set it on the underlay interface, or \
                 correct the Node object's InternalIP"
            ),
            StartError::PortInUse(address, port) => write!(
                f,
                "UDP port {port} of {address} is in use (a kernel vxlan device, or another overlay): remove it, or \
                 choose another VXLAN port on all nodes"
            ),
            StartError::UnderlayTooSmall(mtu) => write!(
                f,
                "the underlay's MTU of {mtu} bytes leaves less than 1,280 bytes for pods, which IPv6 needs: raise it"
            ),
            StartError::System(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Why a port was not attached. Nothing of it is left.
#[derive(Debug)]
pub enum AttachError {
    /// The request contradicts itself or what is attached already.
    Invalid(String),
    /// The network namespace cannot be entered.
    Namespace(PathBuf, io::Error),
    /// An interface of that name exists in the namespace.
    InterfaceExists(String),
    /// A step inside the namespace failed: which, and its error.
    Step(&'static str, io::Error),
    /// The node has as many ports as it may have.
    TooManyPorts,
    /// The dataplane has stopped.
    Stopped,
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttachError::Invalid(what) => write!(f, "{what}"),
            AttachError::Namespace(path, error) => {
                write!(f, "network namespace {} cannot be entered: {error}", path.display())
            }
            AttachError::InterfaceExists(name) => {
                write!(f, "interface {name} exists already in the network namespace")
            }
            AttachError::Step(step, error) => write!(f, "{step}: {error}"),
            AttachError::TooManyPorts => f.write_str("the node has no room for another port"),
            AttachError::Stopped => Stopped.fmt(f),
        }
    }
}

impl std::error::Error for AttachError {}

impl From<Stopped> for AttachError {
    fn from(_: Stopped) -> AttachError {
        AttachError::Stopped
    }
}
