//! What a lab needs of the machine or container that it is started in, judged before anything is made, and named with what
//! to do about it when it is missing.

use crate::error::{LabError, Result};
use nix::errno::Errno;
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// The device that gives TAPs.
const TUN: &str = "/dev/net/tun";

/// Capabilities without which no lab starts, with their numbers (capability.h): to make namespaces and mounts, to set up
/// interfaces, to join mount namespaces. Docker gives the last one unless it is told `--cap-drop ALL`.
const NEEDED: [(&str, u32); 3] = [("SYS_ADMIN", 21), ("NET_ADMIN", 12), ("SYS_CHROOT", 18)];

/// Refuses where no lab can start. A lab with a user namespace of its own (`rootless`) has all capabilities in there.
pub(super) fn check(rootless: bool) -> Result<()> {
    let mut problems: Vec<String> = tun_problem(rootless).into_iter().collect();
    if !rootless {
        let status = fs::read_to_string("/proc/self/status").map_err(|e| LabError::io("/proc/self/status", e))?;
        problems.extend(capability_problem(&missing_capabilities(&status)));
    }
    if problems.is_empty() { Ok(()) } else { Err(LabError::Failed(problems.join("; and "))) }
}

/// Names of the needed capabilities that the process of this `/proc/PID/status` does not have. A status without the line
/// says nothing: then the system calls will.
fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(effective) = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()) else { return Vec::new() };
    NEEDED.iter().filter(|(_, bit)| effective & 1 << bit == 0).map(|(name, _)| *name).collect()
}

fn capability_problem(missing: &[&str]) -> Option<String> {
    let names: Vec<String> = missing.iter().map(|name| format!("CAP_{name}")).collect();
    let flags: Vec<String> = missing.iter().map(|name| format!("--cap-add {name}")).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "root without {} cannot make a lab: start the container with {}, or use --rootless where user namespaces are \
             allowed",
            names.join(" and "),
            flags.join(" ")
        )
    })
}

fn tun_problem(rootless: bool) -> Option<String> {
    let error = File::options().read(true).write(true).open(Path::new(TUN)).err()?;
    Some(match error.kind() {
        io::ErrorKind::NotFound => {
            format!("{TUN} is missing: load the tun module (modprobe tun), or start the container with --device {TUN}")
        }
        io::ErrorKind::PermissionDenied => format!(
            "{TUN}: not readable and writable for {}: run `sudo chmod 666 {TUN}` (most distributions ship it so){}",
            if rootless { "this user" } else { "this process" },
            if rootless { ", or run the lab as root" } else { "" }
        ),
        _ => format!("{TUN}: cannot be opened (in a container: --device {TUN}): {error}"),
    })
}

/// Why namespaces were refused.
pub(super) fn explain_unshare(error: Errno, rootless: bool) -> LabError {
    let limit = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let hint = match (rootless, error) {
        (_, Errno::ENOSPC) => "the limit in /proc/sys/user is reached",
        (false, _) => "something forbids it to root (seccomp or AppArmor of the container?): try --rootless",
        (true, _) if limit("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" => {
            "AppArmor forbids user namespaces: run `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or run \
             the lab as root"
        }
        (true, _) if limit("/proc/sys/kernel/unprivileged_userns_clone") == "0" => {
            "run `sudo sysctl kernel.unprivileged_userns_clone=1`, or run the lab as root"
        }
        (true, _) => {
            "user namespaces are forbidden here: run the lab as root without --rootless (container: --cap-add SYS_ADMIN \
             --cap-add NET_ADMIN --device /dev/net/tun)"
        }
    };
    LabError::Failed(format!("cannot make the lab's namespaces: {error}: {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        // What Docker gives: everything, its default, and its default with SYS_ADMIN.
        for (effective, missing) in [
            ("000001ffffffffff", vec![]),
            ("00000000a80425fb", vec!["SYS_ADMIN", "NET_ADMIN"]),
            ("00000000a82425fb", vec!["NET_ADMIN"]),
            ("0000000000201000", vec!["SYS_CHROOT"]),
        ] {
            assert_eq!(missing_capabilities(&format!("Name:\tx\nCapEff:\t{effective}\n")), missing, "{effective}");
        }
        assert_eq!(missing_capabilities("Name:\tx\n"), Vec::<&str>::new());
    }

    #[test]
    fn a_problem_says_what_to_add() {
        let text = capability_problem(&["SYS_ADMIN", "NET_ADMIN"]).unwrap();
        assert!(text.contains("CAP_SYS_ADMIN and CAP_NET_ADMIN"), "{text}");
        assert!(text.contains("--cap-add SYS_ADMIN --cap-add NET_ADMIN"), "{text}");
        assert_eq!(capability_problem(&[]), None);
    }
}
