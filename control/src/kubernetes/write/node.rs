//! What a Node says of its VTEP, for peers that know nothing of podplane and for people: the MAC address and the addresses of the
//! underlay, one per family.

use super::{Target, Wish, Wishes};
use policy::objects::{Kind, VTEP_ADDRESSES_ANNOTATION, VTEP_MAC_ANNOTATION};
use std::net::IpAddr;
use wire::MacAddr;

/// The wish for the Node `name` whose VTEP has these addresses.
pub fn annotations_of_node(name: &str, mac: MacAddr, underlay: &[IpAddr]) -> Wishes {
    let addresses: Vec<String> = underlay.iter().map(ToString::to_string).collect();
    let annotations = [(VTEP_MAC_ANNOTATION, mac.to_string()), (VTEP_ADDRESSES_ANNOTATION, addresses.join(","))];
    Wishes::from([(Target::new(Kind::Node, "", name), Wish::Annotations(annotations.into()))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_says_both_families() {
        let underlay = ["192.0.2.1", "2001:db8::1"].map(|address| address.parse().unwrap());
        let wishes = annotations_of_node("node1", "0a:00:00:00:00:01".parse().unwrap(), &underlay);
        let wish = &wishes[&Target::new(Kind::Node, "", "node1")];
        let annotations = json!({"podplane.io/vtep-mac": "0a:00:00:00:00:01",
                                 "podplane.io/vtep-addresses": "192.0.2.1,2001:db8::1"});
        assert_eq!(wish.patch(&json!({})), Some(json!({"metadata": {"annotations": annotations}})));
    }
}
