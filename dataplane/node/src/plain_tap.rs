//! A TAP without offloads and without a switch behind it, for who carries whole Ethernet frames by himself: the lab's
//! underlay where the kernel has no bridges.

use std::io;
use tun_tap::{Iface, Mode};

/// A plain TAP of the network namespace in which it was opened; the interface goes with its value. It is down at first.
pub struct PlainTap {
    interface: Iface,
}

impl PlainTap {
    /// Opens the TAP `name`.
    pub fn open(name: &str) -> io::Result<PlainTap> {
        Ok(PlainTap { interface: Iface::without_packet_info(name, Mode::Tap)? })
    }

    /// Waits for a frame that the kernel sends; gives its length in bytes.
    pub fn receive(&self, frame: &mut [u8]) -> io::Result<usize> {
        self.interface.recv(frame)
    }

    /// Gives a frame to the kernel.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.interface.send(frame).map(drop)
    }
}
