//! The protocol's variables, checked: what a runtime says about the command and the sandbox.

use crate::failure::Failure;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Longest interface name of the kernel.
const IFNAME_BYTES_MAX: usize = 15;

/// Ids are 64 hexadecimal digits; more than this has no room in the name of a file.
const CONTAINER_ID_BYTES_MAX: usize = 180;

/// Looks up a variable.
pub(crate) type Get<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Add,
    Del,
    Check,
    Status,
    Gc,
    Version,
}

/// The attachment that a command is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(crate) container_id: String,
    pub(crate) ifname: String,
    /// Empty where the command does without.
    pub(crate) netns: PathBuf,
    pub(crate) args: Args,
}

/// What we understand of CNI_ARGS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) uid: Option<String>,
    pub(crate) ip: Option<String>,
    pub(crate) mac: Option<String>,
}

fn text(get: Get<'_>, name: &str) -> Result<Option<String>, Failure> {
    let Some(value) = get(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    value.into_string().map(Some).map_err(|value| Failure::environment(format!("{name} is not UTF-8: {value:?}")))
}

/// The command.
pub(crate) fn command(get: Get<'_>) -> Result<Command, Failure> {
    let Some(command) = text(get, "CNI_COMMAND")? else {
        return Err(Failure::environment(
            "CNI_COMMAND is not set: podplane-cni is a CNI plugin and is run by container runtimes",
        ));
    };
    match command.as_str() {
        "ADD" => Ok(Command::Add),
        "DEL" => Ok(Command::Del),
        "CHECK" => Ok(Command::Check),
        "STATUS" => Ok(Command::Status),
        "GC" => Ok(Command::Gc),
        "VERSION" => Ok(Command::Version),
        other => {
            let known = "ADD, DEL, CHECK, STATUS, GC or VERSION";
            Err(Failure::environment(format!("CNI_COMMAND is {other:?}, not {known}")))
        }
    }
}

/// The attachment of a command; DEL does without a network namespace.
pub(crate) fn attachment(get: Get<'_>, command: Command) -> Result<Attachment, Failure> {
    let needs_netns = command != Command::Del;
    let container_id = text(get, "CNI_CONTAINERID")?;
    let ifname = text(get, "CNI_IFNAME")?;
    let netns = text(get, "CNI_NETNS")?;
    let required = [("CNI_CONTAINERID", &container_id), ("CNI_NETNS", &netns), ("CNI_IFNAME", &ifname)];
    let missing: Vec<&str> = required
        .into_iter()
        .filter(|(name, value)| value.is_none() && (needs_netns || *name != "CNI_NETNS"))
        .map(|(name, _)| name)
        .collect();
    if !missing.is_empty() {
        return Err(Failure::environment(format!("{} must be set and not empty", missing.join(", "))));
    }
    let (container_id, ifname) = (container_id.unwrap_or_default(), ifname.unwrap_or_default());
    check_container_id(&container_id)?;
    check_ifname(&ifname)?;
    let netns = PathBuf::from(netns.unwrap_or_default());
    if needs_netns && !netns.is_absolute() {
        return Err(Failure::environment(format!("CNI_NETNS {netns:?} is not an absolute path")));
    }
    let args = args(&text(get, "CNI_ARGS")?.unwrap_or_default())?;
    Ok(Attachment { container_id, ifname, netns, args })
}

fn check_container_id(id: &str) -> Result<(), Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let begins_well = id.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
    if !begins_well || !id.bytes().all(plain) {
        return Err(Failure::environment(format!(
            "CNI_CONTAINERID {id:?} is not a letter or digit followed by letters, digits, \"_\", \".\" and \"-\""
        )));
    }
    if id.len() > CONTAINER_ID_BYTES_MAX {
        return Err(Failure::environment(format!(
            "CNI_CONTAINERID has {} bytes, and may have {CONTAINER_ID_BYTES_MAX}",
            id.len()
        )));
    }
    Ok(())
}

fn check_ifname(name: &str) -> Result<(), Failure> {
    let wrong = name.len() > IFNAME_BYTES_MAX
        || matches!(name, "." | "..")
        || name.contains(|c: char| matches!(c, '/' | ':' | '\0') || c.is_whitespace());
    if wrong {
        return Err(Failure::environment(format!(
            "CNI_IFNAME {name:?} is not the name of an interface: 1 to {IFNAME_BYTES_MAX} bytes without \"/\", \":\" and spaces"
        )));
    }
    Ok(())
}

/// `KEY=VALUE` pairs. Keys that we do not know are for others.
fn args(text: &str) -> Result<Args, Failure> {
    let mut args = Args::default();
    for pair in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Failure::environment(format!("CNI_ARGS: {pair:?} is not KEY=VALUE")));
        };
        let value = (!value.is_empty()).then(|| value.to_owned());
        match key {
            "K8S_POD_NAMESPACE" => args.namespace = value,
            "K8S_POD_NAME" => args.name = value,
            "K8S_POD_UID" => args.uid = value,
            "IP" => args.ip = value,
            "MAC" => args.mac = value,
            _ => {}
        }
    }
    Ok(args)
}

/// Refuses a network namespace that is gone, and the plugin's own: a runtime that mixes them up would have the node's own network
/// changed. `CNI_NETNS_OVERRIDE` says that it is meant.
pub(crate) fn check_netns(get: Get<'_>, netns: &Path) -> Result<(), Failure> {
    let identity = |path: &Path| path.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
    let there = identity(netns).map_err(|error| {
        Failure::new(
            crate::failure::Code::UnknownContainer,
            "no such container",
            format!("CNI_NETNS {}: {error}: the sandbox is gone", netns.display()),
        )
    })?;
    let overridden =
        text(get, "CNI_NETNS_OVERRIDE")?.is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"));
    if !overridden && identity(Path::new("/proc/self/ns/net")).is_ok_and(|own| own == there) {
        return Err(Failure::environment(format!(
            "CNI_NETNS {} is the network namespace that the plugin runs in (set CNI_NETNS_OVERRIDE=1 if that is meant)",
            netns.display()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Code;

    fn with(pairs: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<OsString> {
        |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into())
    }

    fn refused<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
        let failure = result.unwrap_err();
        assert_eq!(failure.code, Code::InvalidEnvironment);
        failure.details
    }

    #[test]
    fn all_variables_that_are_missing_are_named() {
        assert!(refused(command(&with(&[]))).starts_with("CNI_COMMAND is not set"));
        assert!(refused(command(&with(&[("CNI_COMMAND", "add")]))).starts_with("CNI_COMMAND is \"add\", not ADD"));
        let none = refused(attachment(&with(&[]), Command::Add));
        assert_eq!(none, "CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME must be set and not empty");
        let none = refused(attachment(&with(&[("CNI_IFNAME", "")]), Command::Del));
        assert_eq!(none, "CNI_CONTAINERID, CNI_IFNAME must be set and not empty");
    }

    #[test]
    fn names_that_are_paths_or_too_long_are_refused() {
        for bad in ["../x", "", "-x", "a/b", "a b", "a@b", ".x", "ä"] {
            assert!(check_container_id(bad).is_err(), "{bad:?}");
        }
        assert!(check_container_id(&"a".repeat(181)).is_err());
        assert!(check_container_id(&format!("a_.-{}", "0".repeat(64))).is_ok());
        for bad in [".", "..", "a/b", "sixteen-bytes-xx", "a b", "a:b"] {
            assert!(check_ifname(bad).is_err(), "{bad:?}");
        }
        assert!(check_ifname("eth0.7@x").is_ok());
    }

    #[test]
    fn arguments_are_pairs_and_those_of_others_do_not_matter() {
        let read = args("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=u;IP=10.0.0.5/24;X=a=b;")
            .unwrap();
        let expected = Args {
            namespace: Some("shop".into()),
            name: Some("web".into()),
            uid: Some("u".into()),
            ip: Some("10.0.0.5/24".into()),
            mac: None,
        };
        assert_eq!(read, expected);
        assert_eq!(refused(args("K8S_POD_NAME")), "CNI_ARGS: \"K8S_POD_NAME\" is not KEY=VALUE");
    }

    #[test]
    fn the_own_namespace_is_refused_unless_it_is_meant() {
        let own = Path::new("/proc/self/ns/net");
        assert!(refused(check_netns(&with(&[]), own)).contains("is the network namespace that the plugin runs in"));
        check_netns(&with(&[("CNI_NETNS_OVERRIDE", "1")]), own).unwrap();
        let gone = check_netns(&with(&[]), Path::new("/run/netns/gone-forever")).unwrap_err();
        assert_eq!(gone.code, Code::UnknownContainer);
    }
}
