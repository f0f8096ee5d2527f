//! What smoltcp takes for a network device: one packet in, all packets out, no checksum asked for that others have looked at.

use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// IP packets to and from the endpoint.
#[derive(Debug)]
pub(super) struct Queues {
    mtu: u16,
    /// The packet that is handled.
    pub(super) received: Option<Vec<u8>>,
    /// Packets to whoever sent it.
    pub(super) transmitted: Vec<Vec<u8>>,
}

impl Queues {
    /// None yet; packets of at most `mtu` bytes are sent.
    pub(super) fn new(mtu: u16) -> Queues {
        Queues { mtu, received: None, transmitted: Vec::new() }
    }
}

pub(super) struct Received(Vec<u8>);
pub(super) struct Transmit<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Transmit<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut packet = vec![0; len];
        let result = write(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Transmit<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Transmit<'_>)> {
        Some((Received(self.received.take()?), Transmit(&mut self.transmitted)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Transmit<'_>> {
        Some(Transmit(&mut self.transmitted))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu.into();
        // The switch has verified it, or the pod's kernel has left it unfinished because the packet never was on a wire.
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}
