//! Congestion marks across the tunnel (RFC 6040, normal mode): the outer header copies the inner mark on the way in; on the
//! way out a mark that the underlay set is carried over to the inner packet.

use switch::DropReason;
use wire::{Frame, Packet, edit};

/// The ECN bits of a traffic class byte.
pub(crate) const MASK: u8 = 0b11;

const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// Combines the outer mark with that of the inner packet `frame`, as RFC 6040 figure 4 says.
///
/// # Errors
/// Congestion was experienced by a sender that does not understand marks: the packet must be dropped, as a router would have.
pub(crate) fn pop(frame: &mut Frame, outer: u8) -> Result<(), DropReason> {
    if outer & 1 == 0 {
        return Ok(());
    }
    let Ok(packet) = Packet::check(frame.bytes()) else { return Ok(()) };
    match (packet.traffic_class & MASK, outer & MASK) {
        (NOT_ECT, CE) => Err(DropReason::Congested),
        (ECT_0 | ECT_1, CE) => {
            edit::set_ecn(frame, &packet, CE);
            Ok(())
        }
        (ECT_0, ECT_1) => {
            edit::set_ecn(frame, &packet, ECT_1);
            Ok(())
        }
        _ => Ok(()),
    }
}
