//! The node process by itself, in private namespaces: it starts, idles for nothing, and SIGTERM leaves nothing behind.

mod support;

use std::process::Command;
use support::{Folder, PODPLANE, labs_can_run, stdout};

const NODE: &str = "
apiVersion: v1
kind: Node
metadata: {name: node1}
spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24, 'fd00:10:244:1::/64']}
status: {addresses: [{type: InternalIP, address: 172.30.0.11}]}
";

/// Clock ticks (10 ms) that an idle node may use in three seconds: one percent.
const IDLE_TICKS_MAX: u64 = 3;

/// Runs a shell script in private namespaces with an underlay interface and a started, ready node `$node`; gives what it
/// prints. `$D` is a folder of the test.
fn with_node(folder: &Folder, script: &str) -> String {
    let all = format!(
        "set -e
         ip link set lo up
         ip link add eth0 type veth peer name wire
         ip addr add 172.30.0.11/24 dev eth0
         ip link set eth0 up
         ip link set wire up
         state() {{ ip -o link | sed 's/^[0-9]*: //'; ip -o addr | sed 's/^[0-9]*: //; s/valid_lft.*//'; ip route; ip -6 route | sed '/fe80/d'; }}
         P={PODPLANE}
         # Addresses of the kernel's own making (fe80::) are there before the states are compared.
         timeout 10 sh -c 'until ip -6 addr show dev eth0 | grep -q fe80 && ! ip -6 addr | grep -q tentative; do sleep 0.02; done'
         state > $D/before
         $P node --node-name node1 --cluster-dir $D/cluster --socket $D/node.sock 2>$D/log &
         node=$!
         timeout 20 sh -c \"until $P status --socket $D/node.sock >/dev/null 2>&1; do sleep 0.05; done\" || {{ cat $D/log >&2; exit 1; }}
         timeout 20 sh -c 'until ip link show podplane0 >/dev/null 2>&1; do sleep 0.02; done'
         {script}"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    stdout(command.args(["sh", "-c", &all]).env("D", folder.path()).output().expect("unshare runs"))
}

fn is_root() -> bool {
    stdout(Command::new("id").arg("-u").output().expect("id runs")).trim() == "0"
}

fn cluster() -> Folder {
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("cluster")).expect("a folder");
    folder.write("cluster/node.yaml", NODE);
    folder
}

#[test]
fn sigterm_ends_the_node_cleanly_and_leaves_nothing() {
    if !labs_can_run() {
        return;
    }
    let folder = cluster();
    let said = with_node(
        &folder,
        "ip -o link show podplane0 >/dev/null
         kill -TERM $node
         wait $node && echo code 0
         state > $D/after
         diff $D/before $D/after && echo same
         test ! -e $D/node.sock && echo no socket
         ss -Huln 'sport = :4789' | grep . || echo no tunnel",
    );
    assert_eq!(said, "code 0\nsame\nno socket\nno tunnel\n");
}

#[test]
fn an_idle_node_uses_no_processor_time() {
    if !labs_can_run() {
        return;
    }
    let folder = cluster();
    let said = with_node(
        &folder,
        "# Fields 14 and 15 of stat: time in user and kernel mode, of all threads.
         used() { sed 's/.*) //' /proc/$node/stat | awk '{ print $12 + $13 }'; }
         first=$(used)
         sleep 3
         echo $(($(used) - first))",
    );
    let ticks: u64 = said.trim().parse().expect("clock ticks");
    assert!(ticks <= IDLE_TICKS_MAX, "{ticks} clock ticks in three idle seconds");
}

#[test]
fn without_dev_net_tun_the_node_says_what_is_missing() {
    if !labs_can_run() {
        return;
    }
    let folder = cluster();
    let script = format!(
        "mount -t tmpfs tmpfs /dev/net; ip link set lo up; ip addr add 172.30.0.11/24 dev lo
         {PODPLANE} node --node-name node1 --cluster-dir $D/cluster --socket $D/node.sock; echo code $?"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net"]);
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let output = command.args(["sh", "-c", &script]).env("D", folder.path()).output().expect("unshare runs");
    let said = support::text(&output.stderr);
    assert_eq!(support::text(&output.stdout).trim(), "code 1", "{said}");
    assert!(said.contains("/dev/net/tun"), "{said}");
}
