//! `podplane lab join`: one part of a lab whose other parts run elsewhere.

use super::controller::UnderlayArgs;
use super::{DnsFlags, NameArgs, ServiceFlags, TapMode, failure, node_options};
use crate::follow;
use crate::output::{self, Answer, Failure};
use clap::Args;
use lab::{JoinOptions, Member};
use std::path::PathBuf;

/// Arguments of `podplane lab join`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane lab join node1 --cluster-dir /srv/cluster
  podplane lab join world --cluster-dir /srv/cluster --underlay 10.213.0.0/24
  podplane lab status; podplane lab exec shop/db-0 -- ip addr     in another shell of the same machine

Runs the node and its pods, or a server outside of the cluster (TCP and UDP port 80), in the network that this machine or container
has, and follows the cluster directory that `podplane lab controller` writes. The node waits until the directory has a Node object of
its name; this machine must have its InternalIP. Needs what `podplane lab up` needs. SIGTERM and SIGINT end it and everything that
it started. What dies meanwhile is started again within ten seconds.

Exit codes: 0 it was told to stop, 1 it could not start or broke, 2 bad usage.")]
pub(crate) struct JoinArgs {
    /// The part: a node, by its name, or world
    #[arg(value_name = "NODE|world", value_parser = part)]
    part: Member,
    /// Folder of completed objects, watched
    #[arg(long, value_name = "DIR")]
    cluster_dir: PathBuf,
    #[command(flatten)]
    underlay: UnderlayArgs,
    #[command(flatten)]
    name: NameArgs,
    /// How the node opens TAPs
    #[arg(long, value_enum, default_value_t = TapMode::Auto, value_name = "MODE")]
    tap_mode: TapMode,
    /// Threads of the node that carry traffic
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    shards: u16,
    #[command(flatten)]
    services: ServiceFlags,
    #[command(flatten)]
    dns: DnsFlags,
}

/// `world`, or the name of a node.
fn part(text: &str) -> Result<Member, String> {
    if text == "world" {
        return Ok(Member::World);
    }
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    if text.is_empty() || text.len() > 253 || !text.bytes().all(is_plain) {
        return Err(format!("{text:?} is not world, nor the name of a node"));
    }
    Ok(Member::Node(text.to_owned()))
}

/// Runs the part until the process is told to end.
pub(crate) fn run(args: JoinArgs) -> Result<Answer, Failure> {
    let options = JoinOptions {
        name: args.name.name,
        member: args.part,
        cluster_dir: args.cluster_dir,
        underlay_ranges: args.underlay.ranges()?,
        tap_mode: args.tap_mode.into(),
        node_options: node_options(&args.services, args.dns, args.shards)?,
    };
    lab::join(&options, &follow::stop()?, &mut output::warn).map_err(failure)?;
    Ok(Answer::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_world_or_a_node() {
        assert_eq!(part("world"), Ok(Member::World));
        assert_eq!(part("ip-10-0-0-1.internal"), Ok(Member::Node("ip-10-0-0-1.internal".into())));
        for bad in ["", "../x", "Node1", "a b"] {
            assert!(part(bad).is_err(), "{bad}");
        }
    }
}
