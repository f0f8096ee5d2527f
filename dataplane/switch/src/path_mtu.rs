//! How large a packet the way to a peer takes when that is less than the tunnel's MTU: what the underlay's routers said and the
//! shell passed on (O08). With it, senders are told by ICMP instead of losing packets without a word.

use overlay::peers::PeerId;
use std::collections::HashMap;
use std::time::Duration;
use wire::Instant;

/// How long a path MTU is believed; then a larger packet may try again. RFC 1191 §6.3 and RFC 8201 §5.3 recommend 10 minutes.
const LIFETIME: Duration = Duration::from_secs(600);

/// The smallest inner MTU that is believed: what IPv6 needs (RFC 8200 §5). Smaller claims are forged or useless.
const MTU_MIN: u16 = 1_280;

/// What was learned, at most one entry per peer.
#[derive(Debug, Default)]
pub(crate) struct PathMtus {
    learned: HashMap<PeerId, (u16, Instant)>,
}

impl PathMtus {
    /// Believes that the largest inner packet on the way to `peer` has `mtu` bytes.
    pub(crate) fn learn(&mut self, now: Instant, peer: PeerId, mtu: u16) {
        self.learned.insert(peer, (mtu.max(MTU_MIN), now + LIFETIME));
    }

    /// The numbers of peers mean something else from now on.
    pub(crate) fn forget_all(&mut self) {
        self.learned.clear();
    }

    /// What is believed of the way to `peer`.
    #[inline]
    pub(crate) fn find(&self, now: Instant, peer: PeerId) -> Option<u16> {
        if self.learned.is_empty() {
            return None;
        }
        self.learned.get(&peer).filter(|(_, until)| now < *until).map(|(mtu, _)| *mtu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o08_a_path_mtu_is_believed_for_ten_minutes_and_never_below_1280() {
        let mut mtus = PathMtus::default();
        let (start, peer) = (Instant::from_millis(5), PeerId(3));
        assert_eq!(mtus.find(start, peer), None);
        mtus.learn(start, peer, 1_350);
        assert_eq!(mtus.find(start + Duration::from_secs(599), peer), Some(1_350));
        assert_eq!(mtus.find(start + Duration::from_secs(600), peer), None);
        assert_eq!(mtus.find(start, PeerId(2)), None);
        mtus.learn(start, peer, 68);
        assert_eq!(mtus.find(start, peer), Some(1_280));
        mtus.forget_all();
        assert_eq!(mtus.find(start, peer), None);
    }
}
