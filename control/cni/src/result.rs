//! The result of ADD in the form of each version.
//!
//! | | until 0.4.0 | 1.0.0 | 1.1.0 |
//! |---|---|---|---|
//! | `ips[].version` | yes | no | no |
//! | `interfaces[].mtu`, `routes[].mtu` | no | no | yes |

use crate::api::{Added, Dns};
use crate::environment::Attachment;
use crate::failure::{Code, Failure};
use crate::version::Version;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// What was added, behind what plugins before have added.
pub(crate) fn of(
    version: Version,
    attachment: &Attachment,
    added: &Added,
    dns: Option<&Dns>,
    previous: Option<&Value>,
) -> Result<Value, Failure> {
    let mut result = match previous {
        Some(previous) => object(previous)?.clone(),
        None => Map::new(),
    };
    result.insert("cniVersion".to_owned(), version.as_str().into());
    let interfaces = list(&mut result, "interfaces")?;
    let position = interfaces.len();
    let mut interface = json!({"name": attachment.ifname, "mac": added.mac, "sandbox": attachment.netns});
    if version >= Version::V1_1 {
        interface["mtu"] = added.mtu.into();
    }
    interfaces.push(interface);
    let ips = list(&mut result, "ips")?;
    for address in &added.addresses {
        let mut ip = json!({
            "address": format!("{}/{}", address.address, prefix(address.address)),
            "gateway": address.gateway,
            "interface": position,
        });
        if version < Version::V1_0 {
            ip["version"] = if address.address.is_ipv4() { "4" } else { "6" }.into();
        }
        ips.push(ip);
    }
    let routes = list(&mut result, "routes")?;
    for address in &added.addresses {
        let everything = if address.address.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        let mut route = json!({"dst": everything, "gw": address.gateway});
        if version >= Version::V1_1 {
            route["mtu"] = added.mtu.into();
        }
        routes.push(route);
    }
    let has_dns = result.get("dns").and_then(Value::as_object).is_some_and(|dns| !dns.is_empty());
    if !has_dns {
        let dns = serde_json::to_value(dns.unwrap_or(&added.dns)).unwrap_or_default();
        result.insert("dns".to_owned(), dns);
    }
    Ok(result.into())
}

fn prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn object(previous: &Value) -> Result<&Map<String, Value>, Failure> {
    let wrong = || Failure::new(Code::Decode, "undecodable network configuration", "prevResult is not an object");
    previous.as_object().ok_or_else(wrong)
}

fn list<'a>(result: &'a mut Map<String, Value>, field: &str) -> Result<&'a mut Vec<Value>, Failure> {
    let entry = result.entry(field).or_insert_with(|| Value::Array(Vec::new()));
    if entry.is_null() {
        *entry = Value::Array(Vec::new());
    }
    let wrong =
        || Failure::new(Code::Decode, "undecodable network configuration", format!("prevResult.{field} is not a list"));
    entry.as_array_mut().ok_or_else(wrong)
}

/// Addresses and gateways of default routes that the last result has for the attachment's interface.
pub(crate) fn expected(attachment: &Attachment, previous: &Value) -> Result<(Vec<IpAddr>, Vec<IpAddr>), Failure> {
    let result = object(previous)?;
    let of = |field: &str| result.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let own = of("interfaces").iter().position(|interface| {
        let sandbox = interface.get("sandbox").and_then(Value::as_str).unwrap_or_default();
        interface.get("name").and_then(Value::as_str) == Some(&*attachment.ifname) && !sandbox.is_empty()
    });
    let Some(own) = own else {
        let details = format!("prevResult has no interface {} in the sandbox", attachment.ifname);
        return Err(Failure::configuration(details));
    };
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    let is_own = |ip: &&Value| ip.get("interface").and_then(Value::as_u64).is_none_or(|at| at == own as u64);
    let addresses =
        of("ips").iter().filter(is_own).filter_map(|ip| text(ip, "address")?.split('/').next()?.parse().ok());
    let is_default = |route: &&Value| matches!(text(route, "dst").as_deref(), Some("0.0.0.0/0" | "::/0"));
    let gateways = of("routes").iter().filter(is_default).filter_map(|route| text(route, "gw")?.parse().ok());
    Ok((addresses.collect(), gateways.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Address;
    use crate::environment::Args;

    fn attachment() -> Attachment {
        Attachment {
            container_id: "c".into(),
            ifname: "eth0".into(),
            netns: "/run/netns/x".into(),
            args: Args::default(),
        }
    }

    fn added() -> Added {
        let address = |address: &str, gateway: &str| Address {
            address: address.parse().unwrap(),
            gateway: gateway.parse().unwrap(),
        };
        Added {
            mac: "0a:00:00:00:00:01".into(),
            mtu: 1450,
            addresses: vec![address("10.0.0.2", "10.0.0.1"), address("fd00::2", "fd00::1")],
            dns: Dns { nameservers: vec!["10.96.0.10".into()], ..Dns::default() },
            warnings: Vec::new(),
        }
    }

    fn version(text: &str) -> Version {
        Version::find(Some(text)).unwrap()
    }

    #[test]
    fn p05_each_version_has_the_fields_that_it_knows() {
        let result = of(version("1.1.0"), &attachment(), &added(), None, None).unwrap();
        let expected = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "eth0", "mac": "0a:00:00:00:00:01", "sandbox": "/run/netns/x", "mtu": 1450}],
            "ips": [
                {"address": "10.0.0.2/32", "gateway": "10.0.0.1", "interface": 0},
                {"address": "fd00::2/128", "gateway": "fd00::1", "interface": 0},
            ],
            "routes": [
                {"dst": "0.0.0.0/0", "gw": "10.0.0.1", "mtu": 1450},
                {"dst": "::/0", "gw": "fd00::1", "mtu": 1450},
            ],
            "dns": {"nameservers": ["10.96.0.10"]},
        });
        assert_eq!(result, expected);
        let older = of(version("1.0.0"), &attachment(), &added(), None, None).unwrap();
        assert_eq!(older["interfaces"][0].get("mtu"), None);
        assert_eq!(older["routes"][1], json!({"dst": "::/0", "gw": "fd00::1"}));
        assert_eq!(older["ips"][0].get("version"), None);
        for text in ["0.3.1", "0.4.0"] {
            let oldest = of(version(text), &attachment(), &added(), None, None).unwrap();
            assert_eq!((&oldest["cniVersion"], &oldest["ips"][1]["version"]), (&text.into(), &"6".into()));
        }
    }

    #[test]
    fn p06_what_plugins_before_have_added_stays_in_front() {
        let previous = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "net0", "sandbox": "/run/netns/x"}],
            "ips": [{"address": "192.168.0.2/24", "interface": 0}],
            "routes": null,
            "dns": {"nameservers": ["192.168.0.1"]},
            "other": true,
        });
        let result = of(Version::LATEST, &attachment(), &added(), None, Some(&previous)).unwrap();
        assert_eq!(result["interfaces"][1]["name"], "eth0");
        assert_eq!((&result["ips"][0], &result["ips"][1]["interface"]), (&previous["ips"][0], &1.into()));
        assert_eq!((&result["dns"], &result["other"]), (&previous["dns"], &true.into()));
        assert_eq!(result["routes"].as_array().unwrap().len(), 2);
        let wrong = of(Version::LATEST, &attachment(), &added(), None, Some(&json!({"ips": 1}))).unwrap_err();
        assert_eq!((wrong.code as u32, wrong.details.as_str()), (6, "prevResult.ips is not a list"));
    }

    #[test]
    fn p10_what_check_expects_is_what_the_last_result_has_for_the_interface() {
        let mut previous = of(Version::LATEST, &attachment(), &added(), None, None).unwrap();
        previous["interfaces"].as_array_mut().unwrap().push(json!({"name": "host0"}));
        previous["ips"].as_array_mut().unwrap().push(json!({"address": "10.9.9.9/24", "interface": 1}));
        let (addresses, gateways) = expected(&attachment(), &previous).unwrap();
        assert_eq!(addresses, ["10.0.0.2", "fd00::2"].map(|text| text.parse::<IpAddr>().unwrap()));
        assert_eq!(gateways, ["10.0.0.1", "fd00::1"].map(|text| text.parse::<IpAddr>().unwrap()));
        let other = Attachment { ifname: "eth1".into(), ..attachment() };
        assert_eq!(expected(&other, &previous).unwrap_err().details, "prevResult has no interface eth1 in the sandbox");
    }
}
