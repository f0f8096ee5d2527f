//! Who leads: the process whose name is in a Lease (coordination.k8s.io/v1), by the rules of client-go's leader election.
//!
//! A candidate reads the Lease every [`RETRY`]. It takes a Lease that is not there, has no holder, or was not renewed for its
//! duration, measured by the candidate's own clock from when it saw it change; clocks of machines are never compared. Writes carry the
//! resourceVersion that was read, so of two that take it at once one fails. The holder renews at every turn, and leads until
//! [`RENEW`] after its last success, which is before anybody else may take the Lease. Who stops gives it back.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long a Lease holds without being renewed.
pub(super) const DURATION: Duration = Duration::from_secs(15);

/// How long the holder leads without success in renewing.
pub(super) const RENEW: Duration = Duration::from_secs(10);

/// Between two looks.
pub(super) const RETRY: Duration = Duration::from_secs(2);

/// The name of a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseName {
    /// metadata.namespace.
    pub namespace: String,
    /// metadata.name.
    pub name: String,
}

impl LeaseName {
    /// Where Leases of the namespace are.
    pub(super) fn collection(&self) -> String {
        format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", self.namespace)
    }

    pub(super) fn path(&self) -> String {
        format!("{}/{}", self.collection(), self.name)
    }
}

/// What to do about the Lease.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Make it.
    Create(Value),
    /// Replace it.
    Update(Value),
    /// Another one leads.
    Wait,
}

/// A candidate.
pub(super) struct Election {
    lease: LeaseName,
    identity: String,
    /// The spec that was read, and when it was first seen.
    seen: Option<(Value, Instant)>,
    renewed: Option<Instant>,
}

impl Election {
    /// A candidate called `identity`, a name that no other process has or had.
    pub(super) fn new(lease: LeaseName, identity: String) -> Election {
        Election { lease, identity, seen: None, renewed: None }
    }

    /// The Lease was read at `now`; `None`: there is none. Gives what to write.
    pub(super) fn handle_read(&mut self, lease: Option<&Value>, now: Instant, clock: Timestamp) -> Step {
        let Some(lease) = lease else {
            return Step::Create(json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"namespace": self.lease.namespace, "name": self.lease.name},
                "spec": self.spec(&Value::Null, clock),
            }));
        };
        let spec = &lease["spec"];
        if self.seen.as_ref().is_none_or(|(seen, _)| seen != spec) {
            self.seen = Some((spec.clone(), now));
        }
        let holder = spec["holderIdentity"].as_str().unwrap_or_default();
        let is_own = holder == self.identity;
        if !is_own {
            self.renewed = None;
        }
        let seconds = spec["leaseDurationSeconds"].as_u64().unwrap_or(DURATION.as_secs()).min(3600);
        let since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        let has_run_out = now >= since + Duration::from_secs(seconds);
        if !is_own && !holder.is_empty() && !has_run_out {
            return Step::Wait;
        }
        let mut next = lease.clone();
        next["spec"] = self.spec(spec, clock);
        Step::Update(next)
    }

    /// What was to be written at `asked` was written.
    pub(super) fn handle_written(&mut self, written: &Value, asked: Instant) {
        self.seen = Some((written["spec"].clone(), asked));
        self.renewed = Some(asked);
    }

    /// Until when this process leads; `None`: it does not.
    pub(super) fn leads_until(&self) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + RENEW)
    }

    /// The Lease given back, if it is this process's.
    pub(super) fn release(&mut self, lease: &Value, clock: Timestamp) -> Option<Value> {
        self.renewed = None;
        if lease["spec"]["holderIdentity"] != *self.identity {
            return None;
        }
        let mut next = lease.clone();
        next["spec"]["holderIdentity"] = json!("");
        next["spec"]["leaseDurationSeconds"] = json!(1);
        next["spec"]["renewTime"] = json!(micro_time(clock));
        Some(next)
    }

    fn spec(&self, before: &Value, clock: Timestamp) -> Value {
        let is_own = before["holderIdentity"] == *self.identity;
        let transitions = before["leaseTransitions"].as_u64().unwrap_or_default();
        let acquired = before["acquireTime"].as_str().filter(|_| is_own).map(str::to_owned);
        let counts = !before.is_null() && !is_own;
        json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": DURATION.as_secs(),
            "acquireTime": acquired.unwrap_or_else(|| micro_time(clock)),
            "renewTime": micro_time(clock),
            "leaseTransitions": transitions + u64::from(counts),
        })
    }
}

/// A time as the API writes its MicroTime.
pub(super) fn micro_time(clock: Timestamp) -> String {
    format!("{clock:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn candidate(identity: &str) -> Election {
        let lease = LeaseName { namespace: "podplane-system".to_owned(), name: "podplane-controller".to_owned() };
        Election::new(lease, identity.to_owned())
    }

    fn clock() -> Timestamp {
        "2026-01-02T03:04:05.5Z".parse().unwrap()
    }

    fn lease(holder: &str, renewed: &str) -> Value {
        json!({"metadata": {"resourceVersion": "7"}, "spec": {
            "holderIdentity": holder, "leaseDurationSeconds": 15, "acquireTime": "a", "renewTime": renewed, "leaseTransitions": 3,
        }})
    }

    #[test]
    fn a_lease_that_is_not_there_is_made() {
        let (mut me, now) = (candidate("me"), Instant::now());
        let Step::Create(made) = me.handle_read(None, now, clock()) else { panic!("it is made") };
        assert_eq!(
            made,
            json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"namespace": "podplane-system", "name": "podplane-controller"},
                "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15, "leaseTransitions": 0,
                         "acquireTime": "2026-01-02T03:04:05.500000Z", "renewTime": "2026-01-02T03:04:05.500000Z"},
            })
        );
        assert_eq!(me.leads_until(), None, "not before it is written");
        me.handle_written(&made, now);
        assert_eq!(me.leads_until(), Some(now + RENEW));
    }

    #[test]
    fn one_that_somebody_renews_is_left_alone_and_one_that_ran_out_is_taken() {
        let (mut me, now) = (candidate("me"), Instant::now());
        assert_eq!(me.handle_read(Some(&lease("other", "1")), now, clock()), Step::Wait);
        assert_eq!(
            me.handle_read(Some(&lease("other", "2")), now + SECOND * 14, clock()),
            Step::Wait,
            "it was renewed"
        );
        assert_eq!(me.handle_read(Some(&lease("other", "2")), now + SECOND * 28, clock()), Step::Wait);
        let Step::Update(taken) = me.handle_read(Some(&lease("other", "2")), now + SECOND * 29, clock()) else {
            panic!("it is taken")
        };
        assert_eq!(
            (&taken["metadata"]["resourceVersion"], &taken["spec"]["holderIdentity"]),
            (&json!("7"), &json!("me"))
        );
        assert_eq!(
            (&taken["spec"]["leaseTransitions"], &taken["spec"]["acquireTime"]),
            (&json!(4), &json!("2026-01-02T03:04:05.500000Z"))
        );
    }

    #[test]
    fn one_that_was_given_back_is_taken_at_once() {
        let mut me = candidate("me");
        assert!(matches!(me.handle_read(Some(&lease("", "1")), Instant::now(), clock()), Step::Update(_)));
    }

    #[test]
    fn the_holder_renews_and_keeps_since_when_it_leads() {
        let (mut me, now) = (candidate("me"), Instant::now());
        let Step::Update(renewed) = me.handle_read(Some(&lease("me", "1")), now, clock()) else { panic!("it renews") };
        assert_eq!((&renewed["spec"]["acquireTime"], &renewed["spec"]["leaseTransitions"]), (&json!("a"), &json!(3)));
    }

    #[test]
    fn who_cannot_renew_stops_leading_before_another_one_may_begin() {
        let (mut me, mut other, now) = (candidate("me"), candidate("other"), Instant::now());
        let own = lease("me", "1");
        me.handle_written(&own, now);
        other.handle_read(Some(&own), now, clock());
        let until = me.leads_until().unwrap();
        assert_eq!(other.handle_read(Some(&own), until, clock()), Step::Wait);
        assert!(until + SECOND < now + DURATION);
        // Somebody else's name in it ends it at once.
        me.handle_read(Some(&lease("other", "2")), now + SECOND, clock());
        assert_eq!(me.leads_until(), None);
    }

    #[test]
    fn who_stops_gives_it_back_if_it_has_it() {
        let mut me = candidate("me");
        let given = me.release(&lease("me", "1"), clock()).unwrap();
        assert_eq!((&given["spec"]["holderIdentity"], &given["spec"]["leaseDurationSeconds"]), (&json!(""), &json!(1)));
        assert_eq!(given["metadata"]["resourceVersion"], "7");
        assert_eq!(me.release(&lease("other", "1"), clock()), None);
    }
}
