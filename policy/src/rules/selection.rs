//! Which rule sets hold for pods that the same policies select in a direction.

use crate::tables::Tier;

/// Position of a rule set in [`super::RuleSets::sets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SetIndex(pub(crate) u32);

/// Position of a selection in [`super::RuleSets::selections`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SelectionIndex(pub(crate) u32);

/// A rule set for each tier, `None` where no policy of the tier selects the pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct TierSets(pub(crate) [Option<SetIndex>; 3]);

impl TierSets {
    /// The sets that there are, in order of evaluation.
    #[inline]
    pub(crate) fn iter(self) -> impl Iterator<Item = (Tier, SetIndex)> {
        let tiers = [Tier::Admin, Tier::NetworkPolicy, Tier::Baseline].into_iter().zip(self.0);
        tiers.filter_map(|(tier, set)| Some((tier, set?)))
    }

    #[inline]
    pub(crate) fn of(self, tier: Tier) -> Option<SetIndex> {
        self.0[tier as usize]
    }
}

/// Which policies are taken to be in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// Those in dry run too.
    pub(crate) with_dry_run: bool,
    /// Not those that keep established flows.
    pub(crate) without_keep: bool,
}

impl View {
    /// What decides.
    pub(crate) const ENFORCED: View = View { with_dry_run: false, without_keep: false };
    /// What would decide with the policies in dry run.
    pub(crate) const REHEARSED: View = View { with_dry_run: true, without_keep: false };
    /// All of them, as [`Selection`] numbers them.
    pub(crate) const ALL: [View; 4] = [
        View::ENFORCED,
        View::REHEARSED,
        View { with_dry_run: false, without_keep: true },
        View { with_dry_run: true, without_keep: true },
    ];

    /// Whether a policy is in force.
    pub(crate) fn has(self, dry_run: bool, keeps_established: bool) -> bool {
        (self.with_dry_run || !dry_run) && !(self.without_keep && keeps_established)
    }

    #[inline]
    fn number(self) -> usize {
        usize::from(self.with_dry_run) + 2 * usize::from(self.without_keep)
    }
}

/// The rule sets of pods in one direction, for each view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Selection {
    views: [TierSets; 4],
}

impl Selection {
    /// The selection whose sets in each view `sets` gives.
    pub(crate) fn new(sets: impl FnMut(View) -> TierSets) -> Selection {
        Selection { views: View::ALL.map(sets) }
    }

    /// The sets in a view.
    #[inline]
    pub(crate) fn in_view(&self, view: View) -> TierSets {
        self.views[view.number()]
    }
}
