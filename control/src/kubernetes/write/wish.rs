//! What an object should say, and the patch that makes it say so.
//!
//! Patches are JSON merge patches (RFC 7396) of exactly the fields that are podplane's. A field that is replaced as a whole, as lists are,
//! goes with the resourceVersion that it was compared at: whoever wrote in between is not overwritten, but read again. Server-side
//! apply would need the same care, because status lists are atomic, and leave an owner entry on every Node.

use policy::objects::VTEP_MAC_ANNOTATION;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use wire::MacAddr;

/// What an object should say.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// metadata.annotations has these values; all others are somebody else's. A MAC address of the VTEP that is there is
    /// never changed: the node runs with it, or will.
    Annotations(BTreeMap<&'static str, String>),
    /// spec.podCIDRs is this, where there is none.
    TheseCidrs(Vec<String>),
    /// status.loadBalancer.ingress is this list, where there is none.
    GivenAddresses(Value),
    /// status.loadBalancer.ingress is this list.
    Addresses(Value),
    /// status is this.
    Status(Value),
    /// status.parents has these entries of `controller`, and those of others as they are.
    Parents {
        /// controllerName.
        controller: String,
        /// Its entries.
        parents: Vec<Value>,
    },
}

impl Wish {
    /// The patch for an object that says `present`; `None` if nothing is to be done.
    pub(super) fn patch(&self, present: &Value) -> Option<Value> {
        match self {
            Wish::Annotations(wanted) => {
                let now = &present["metadata"]["annotations"];
                let differs = |(key, value): &(&&str, &String)| now[**key] != **value && !is_kept(key, &now[**key]);
                let patch: BTreeMap<&&str, &String> = wanted.iter().filter(differs).collect();
                (!patch.is_empty()).then(|| json!({"metadata": {"annotations": patch}}))
            }
            Wish::TheseCidrs(cidrs) => is_empty(&present["spec"]["podCIDRs"])
                .then(|| at(present, "spec", json!({"podCIDR": cidrs.first(), "podCIDRs": cidrs}))),
            Wish::GivenAddresses(addresses) => is_empty(&present["status"]["loadBalancer"]["ingress"])
                .then(|| at(present, "status", json!({"loadBalancer": {"ingress": addresses}}))),
            Wish::Addresses(addresses) => {
                let now = &present["status"]["loadBalancer"]["ingress"];
                let is_so = now == addresses || (is_empty(now) && is_empty(addresses));
                (!is_so).then(|| at(present, "status", json!({"loadBalancer": {"ingress": addresses}})))
            }
            Wish::Status(status) => {
                (present["status"] != *status).then(|| at(present, "status", replacing(present, status)))
            }
            Wish::Parents { controller, parents } => {
                let now = present["status"]["parents"].as_array().map_or(&[][..], Vec::as_slice);
                let others = now.iter().filter(|parent| parent["controllerName"] != **controller);
                let wanted: Vec<Value> = others.chain(parents).cloned().collect();
                let is_same = now.len() == wanted.len() && wanted.iter().all(|parent| now.contains(parent));
                (!is_same).then(|| at(present, "status", json!({"parents": wanted})))
            }
        }
    }

    /// Where of the object it is written.
    pub(super) fn subresource(&self) -> &'static str {
        match self {
            Wish::Annotations(_) | Wish::TheseCidrs(_) => "",
            _ => "/status",
        }
    }
}

/// Whether an annotation that is there stays whatever is wished.
fn is_kept(key: &str, now: &Value) -> bool {
    let is_usable = |text: &str| text.parse::<MacAddr>().is_ok_and(|mac| !mac.is_multicast());
    key == VTEP_MAC_ANNOTATION && now.as_str().is_some_and(is_usable)
}

fn is_empty(list: &Value) -> bool {
    list.as_array().is_none_or(Vec::is_empty)
}

/// A patch of one field that holds only for the object as it was read.
fn at(present: &Value, field: &str, value: Value) -> Value {
    json!({"metadata": {"resourceVersion": present["metadata"]["resourceVersion"]}, field: value})
}

/// `status` with null for what the object's status has beside it, because a merge leaves alone what it does not name.
fn replacing(present: &Value, status: &Value) -> Value {
    let mut patch = status.clone();
    let fields = present["status"].as_object().into_iter().flat_map(|present| present.keys());
    for field in fields.filter(|field| status[field.as_str()].is_null()) {
        patch[field] = Value::Null;
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(mac: &str) -> Wish {
        Wish::Annotations([(VTEP_MAC_ANNOTATION, mac.to_owned()), ("podplane.io/x", "1".to_owned())].into())
    }

    #[test]
    fn only_annotations_that_differ_are_patched() {
        let node = json!({"metadata": {"resourceVersion": "7", "annotations": {"podplane.io/x": "0", "other": "o"}}});
        let mac = "0a:00:00:00:00:01";
        let patch = annotations(mac).patch(&node).unwrap();
        assert_eq!(patch, json!({"metadata": {"annotations": {"podplane.io/vtep-mac": mac, "podplane.io/x": "1"}}}));
        let node = json!({"metadata": {"annotations": {"podplane.io/x": "1", "podplane.io/vtep-mac": mac}}});
        assert_eq!(annotations(mac).patch(&node), None);
        assert!(annotations(mac).patch(&json!({})).is_some());
    }

    #[test]
    fn a_mac_address_that_somebody_gave_stays_and_one_that_is_none_does_not() {
        let with =
            |mac: &str| json!({"metadata": {"annotations": {"podplane.io/x": "1", "podplane.io/vtep-mac": mac}}});
        assert_eq!(annotations("0a:00:00:00:00:01").patch(&with("0a:00:00:00:00:02")), None);
        for bad in ["", "nonsense", "01:00:00:00:00:02"] {
            assert!(annotations("0a:00:00:00:00:01").patch(&with(bad)).is_some(), "{bad}");
        }
    }

    #[test]
    fn what_is_given_once_is_not_given_again() {
        let addresses = json!([{"ip": "192.0.2.1", "ipMode": "VIP"}]);
        let service = json!({"metadata": {"resourceVersion": "7"}, "status": {"loadBalancer": {}}});
        let patch = Wish::GivenAddresses(addresses.clone()).patch(&service).unwrap();
        assert_eq!(
            patch,
            json!({"metadata": {"resourceVersion": "7"}, "status": {"loadBalancer": {"ingress": addresses}}})
        );
        let service = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}});
        assert_eq!(Wish::GivenAddresses(addresses).patch(&service), None, "another controller was first");
        let node = json!({"metadata": {"resourceVersion": "7"}, "spec": {}});
        let cidrs = Wish::TheseCidrs(vec!["10.0.0.0/24".to_owned(), "fd00::/64".to_owned()]);
        let spec = json!({"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24", "fd00::/64"]});
        assert_eq!(cidrs.patch(&node).unwrap(), json!({"metadata": {"resourceVersion": "7"}, "spec": spec}));
        assert_eq!(cidrs.patch(&json!({"spec": {"podCIDRs": ["10.0.9.0/24"]}})), None);
    }

    #[test]
    fn addresses_are_replaced_and_taken_away() {
        let ingress =
            json!({"metadata": {"resourceVersion": "7"}, "status": {"loadBalancer": {"ingress": [{"ip": "a"}]}}});
        assert_eq!(Wish::Addresses(json!([{"ip": "a"}])).patch(&ingress), None);
        let patch = Wish::Addresses(json!([])).patch(&ingress).unwrap();
        assert_eq!(patch["status"]["loadBalancer"]["ingress"], json!([]));
        assert_eq!(Wish::Addresses(json!([])).patch(&json!({"status": {"loadBalancer": {}}})), None);
    }

    #[test]
    fn a_status_has_nothing_beside_what_is_wished() {
        let gateway = json!({"metadata": {"resourceVersion": "7"}, "status": {"addresses": [1], "listeners": [2]}});
        let patch = Wish::Status(json!({"addresses": [3]})).patch(&gateway).unwrap();
        assert_eq!(patch["status"], json!({"addresses": [3], "listeners": null}));
        assert_eq!(Wish::Status(json!({"addresses": [1], "listeners": [2]})).patch(&gateway), None);
    }

    #[test]
    fn what_other_controllers_say_of_a_route_stays() {
        let entry = |controller: &str, text: &str| json!({"controllerName": controller, "conditions": [text]});
        let wish = Wish::Parents { controller: "ours".to_owned(), parents: vec![entry("ours", "b")] };
        let route = |parents: Value| json!({"metadata": {"resourceVersion": "7"}, "status": {"parents": parents}});
        let patch = wish.patch(&route(json!([entry("ours", "a"), entry("theirs", "x")]))).unwrap();
        assert_eq!(patch["status"]["parents"], json!([entry("theirs", "x"), entry("ours", "b")]));
        assert_eq!(wish.patch(&route(json!([entry("ours", "b"), entry("theirs", "x")]))), None, "in whichever order");
        assert!(wish.patch(&route(json!([]))).is_some());
    }
}
