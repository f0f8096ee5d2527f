//! Which bytes of a datagram have passed, so that no two of its fragments give different bytes for the same place.

/// Separate ranges that are remembered of one datagram. The worst order of the 54 fragments that 64 KiB make at the
/// smallest IPv6 MTU leaves 27; a datagram that needs more was cut to cost memory.
const RANGES_MAX: usize = 32;

/// Why a fragment does not belong to what has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contradiction {
    /// All of its bytes have passed: a duplicate, as far as lengths say.
    Repeated,
    /// It overlaps another, lies behind the end, moves the end, or scatters the datagram over too many pieces.
    Inconsistent,
}

/// The bytes of one datagram that have passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coverage {
    /// Start and end of each range in order; ranges that touch are joined.
    ranges: [(u16, u16); RANGES_MAX],
    len: u8,
    /// Where the datagram ends, once its last fragment has passed.
    end: Option<u16>,
}

impl Coverage {
    /// What a first fragment of `len` bytes covers.
    pub(super) fn begun(len: u16) -> Coverage {
        let mut ranges = [(0, 0); RANGES_MAX];
        ranges[0] = (0, len);
        Coverage { ranges, len: 1, end: None }
    }

    /// Whether every byte has passed.
    pub(super) fn is_complete(&self) -> bool {
        self.len == 1 && self.end == Some(self.ranges[0].1)
    }

    /// Adds the bytes from `start` to `end`; `last` says that the datagram ends there.
    pub(super) fn add(&mut self, start: u16, end: u16, last: bool) -> Result<(), Contradiction> {
        let known = &self.ranges[..usize::from(self.len)];
        if known.iter().any(|&(from, to)| from <= start && end <= to) && (!last || self.end == Some(end)) {
            return Err(Contradiction::Repeated);
        }
        let behind_the_end = self.end.is_some_and(|known| end > known || (end == known && !last));
        let moves_the_end = last && (self.end.is_some() || known.iter().any(|&(_, to)| to > end));
        let overlaps = known.iter().any(|&(from, to)| from < end && start < to);
        if behind_the_end || moves_the_end || overlaps {
            return Err(Contradiction::Inconsistent);
        }
        self.join(start, end)?;
        if last {
            self.end = Some(end);
        }
        Ok(())
    }

    /// Takes in a range that overlaps none.
    fn join(&mut self, start: u16, end: u16) -> Result<(), Contradiction> {
        let len = usize::from(self.len);
        let at = self.ranges[..len].iter().position(|&(from, _)| from >= end).unwrap_or(len);
        let touches_before = at > 0 && self.ranges[at - 1].1 == start;
        let touches_behind = at < len && self.ranges[at].0 == end;
        match (touches_before, touches_behind) {
            (true, true) => {
                self.ranges[at - 1].1 = self.ranges[at].1;
                self.ranges.copy_within(at + 1..len, at);
                self.len -= 1;
            }
            (true, false) => self.ranges[at - 1].1 = end,
            (false, true) => self.ranges[at].0 = start,
            (false, false) if len == RANGES_MAX => return Err(Contradiction::Inconsistent),
            (false, false) => {
                self.ranges.copy_within(at..len, at + 1);
                self.ranges[at] = (start, end);
                self.len += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_complete_in_whatever_order_its_fragments_come() {
        // Every order of five pieces behind the first.
        let mut orders = vec![vec![]];
        for piece in 1..=5u16 {
            orders = orders
                .into_iter()
                .flat_map(|order: Vec<u16>| {
                    (0..=order.len()).map(move |at| {
                        let mut order = order.clone();
                        order.insert(at, piece);
                        order
                    })
                })
                .collect();
        }
        assert_eq!(orders.len(), 120);
        for order in orders {
            let mut coverage = Coverage::begun(8);
            for (n, piece) in order.iter().enumerate() {
                assert!(!coverage.is_complete(), "{order:?} after {n}");
                assert_eq!(coverage.add(piece * 8, piece * 8 + 8, *piece == 5), Ok(()), "{order:?}");
            }
            assert!(coverage.is_complete(), "{order:?}");
        }
    }

    #[test]
    fn a_repeated_fragment_is_told_from_one_that_overlaps() {
        let mut coverage = Coverage::begun(16);
        coverage.add(32, 48, false).unwrap();
        assert_eq!(coverage.add(32, 48, false), Err(Contradiction::Repeated));
        assert_eq!(coverage.add(8, 16, false), Err(Contradiction::Repeated));
        assert_eq!(coverage.add(8, 24, false), Err(Contradiction::Inconsistent));
        assert_eq!(coverage.add(24, 40, false), Err(Contradiction::Inconsistent));
        assert_eq!(coverage.add(24, 56, false), Err(Contradiction::Inconsistent));
        coverage.add(16, 32, false).unwrap();
        coverage.add(48, 50, true).unwrap();
        assert_eq!(coverage.add(48, 50, true), Err(Contradiction::Repeated));
        assert!(coverage.is_complete());
    }

    #[test]
    fn a_datagram_has_one_end() {
        let mut coverage = Coverage::begun(16);
        coverage.add(32, 40, true).unwrap();
        for (start, end, last) in [(40, 48, false), (40, 48, true), (24, 32, true), (16, 48, false)] {
            assert_eq!(coverage.add(start, end, last), Err(Contradiction::Inconsistent), "{start} to {end}");
        }
        let mut coverage = Coverage::begun(16);
        coverage.add(32, 40, false).unwrap();
        assert_eq!(coverage.add(16, 24, true), Err(Contradiction::Inconsistent));
        assert_eq!(coverage.add(32, 40, true), Err(Contradiction::Inconsistent));
    }

    #[test]
    fn a_datagram_in_too_many_pieces_is_refused() {
        let mut coverage = Coverage::begun(8);
        for n in 1..RANGES_MAX as u16 {
            coverage.add(n * 16, n * 16 + 8, false).unwrap();
        }
        let next = RANGES_MAX as u16 * 16;
        assert_eq!(coverage.add(next, next + 8, false), Err(Contradiction::Inconsistent));
        coverage.add(8, 16, false).unwrap();
        coverage.add(next, next + 8, false).unwrap();
    }
}
