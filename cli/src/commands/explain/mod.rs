//! `podplane explain`: what becomes of a connection and why, from manifests, or the objects of a lab or of a running node;
//! nothing is sent.

mod source;
mod target;
mod text;

use super::service_flags::ServiceFlags;
use crate::intent;
use crate::output::{Answer, Context, Failure};
use clap::Args;
use lab::explain::{Question, explain};
use lab::probe::ProbeProtocol;

/// Arguments of `podplane explain`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane explain -f manifests/ --from shop/frontend-a1b2c --to backend:80
  podplane explain -f manifests/ --from shop/db-0 --to backend.shop.svc.cluster.local:80 --each
  podplane explain -f manifests/ --from world --to 172.30.0.11:30080
  podplane explain -f manifests/ --from world:203.0.113.9 --to shop/front:80 --node node2 --protocol udp
  podplane explain -f manifests/ --from node:node1 --to 127.0.0.1:30080
  podplane explain -f manifests/ --from shop/db-0 --to shop/front-7x2lq --protocol icmp
  podplane explain --lab mine --from shop/db-0 --to http://backend.shop/ -o json
  podplane explain -f manifests/ --from world --to https://shop.example/api
  podplane explain --socket /run/podplane/node.sock --from shop/db-0 --to 10.244.2.7:8080

PLACE is NS/POD, node:NAME, world (a client outside the cluster), world:IP, or an address: the pod or node that owns it, else a
pod without labels (in namespace default) if a node's pod range holds it, else a host outside.
HOST is an address, NS/SERVICE, a DNS name as that place would look it up, a PLACE, or the name of a node. A URL that
leads to the Ingress and Gateway proxy is followed through it: certificate, rule, Service, and the proxy's connection to the
backend; any other URL stands for its host and port. The name of an Ingress' host means the addresses in its status.

Whether somebody listens at the destination is not judged. A pod that only an EndpointSlice tells of is taken to be there; with
--lab and --socket nothing is taken for granted. What the manifests leave open (nodes, addresses, the pods of a Deployment) is
filled in as in a lab. --socket asks a running node where it reads its objects and with which flags it runs. Packets from outside enter at the node that has the address or would announce it, else at the first ready one that
serves it; --node says another.

For a Service with several backends the first that is not reached is told, else the first; --each tells all.
Exit codes: 0 delivered or external, 1 denied, rejected, dropped or unresolved, 2 bad usage or bad input.")]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    source: source::SourceArgs,
    /// Who asks
    #[arg(long, value_name = "PLACE")]
    from: String,
    /// Whom; [ADDRESS]:PORT for IPv6, HOST alone for ICMP
    #[arg(long, value_name = "HOST:PORT|URL")]
    to: String,
    /// tcp, udp, sctp or icmp [default: tcp]
    #[arg(long, value_name = "P")]
    protocol: Option<String>,
    /// Node where a packet from outside enters, or on which the pod of a bare address lives
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Tell every backend that the connection may reach
    #[arg(long)]
    each: bool,
    #[command(flatten)]
    services: ServiceFlags,
}

/// Runs `podplane explain`.
pub(crate) fn run(args: ExplainArgs, context: &Context) -> Result<Answer, Failure> {
    let protocol =
        args.protocol.as_deref().map(str::parse::<ProbeProtocol>).transpose().map_err(super::lab::failure)?;
    let target = target::read(&args.to, protocol)?;
    let question = Question {
        from: args.from,
        to: args.to,
        host: target.host,
        port: target.port,
        protocol: target.protocol,
        url: target.url,
        node: args.node.map(|node| node.strip_prefix("node:").map(str::to_owned).unwrap_or(node)),
        each: args.each,
        assume_pods: args.source.leaves_pods_out(),
    };
    let cluster = args.source.read(&args.services)?;
    let (explanation, problems) =
        explain(&cluster.objects, &cluster.network, &cluster.options, &question).map_err(super::lab::failure)?;
    intent::warn_of(&problems);
    context.show(&explanation, text::explanation)?;
    Ok(if explanation.outcome.is_yes() { Answer::Yes } else { Answer::No })
}
