//! hostPort: pods at ports of their node, asked from outside, from pods and from nodes (P04).

mod support;

use serde_json::Value;
use support::services::{NODES, WORLD, at, curl, outcome, probe};
use support::{Lab, has_program, labs_can_run};

/// `client` on node1, and `door` on node2 with the built-in server at ports 80 of TCP, UDP and SCTP of its node. `v4` and `v6` share
/// port 81 of node1, an address for each.
fn cluster() -> String {
    let door = |name: &str, node: &str, ports: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: e2e}}\nspec: {{nodeName: {node}, containers: [{{name: main, \
             image: none, ports: [{ports}]}}]}}\n---\n"
        )
    };
    let of_all = ["TCP", "UDP", "SCTP"]
        .map(|protocol| format!("{{containerPort: 8080, protocol: {protocol}, hostPort: 80}}"))
        .join(", ");
    let one = |address: &str| format!("{{containerPort: 8080, hostPort: 81, hostIP: '{address}'}}");
    [
        door("client", "node1", ""),
        door("door", "node2", &of_all),
        door("v4", "node1", &one(NODES[0][0])),
        door("v6", "node1", &one(NODES[0][1])),
    ]
    .concat()
}

fn answer(lab: &Lab, from: &str, to: &str) -> (String, String) {
    let told = curl(lab, from, to, &[]).unwrap_or_else(|code| panic!("curl from {from} to {to}: exit code {code}"));
    server_and_client(&told)
}

fn server_and_client(told: &Value) -> (String, String) {
    let text = |key: &str| told[key].as_str().unwrap_or_else(|| panic!("no {key}: {told:#}")).to_owned();
    (text("server"), text("client_ip"))
}

#[test]
fn p04_a_pod_is_reached_at_its_nodes_port_from_everywhere() {
    if !labs_can_run() || !has_program("curl") {
        return;
    }
    let lab = Lab::up(&cluster(), &[]);
    for family in [0, 1] {
        let door = at(NODES[1][family], 80);
        let from_world = ("e2e/door".to_owned(), WORLD[family].to_owned());
        assert_eq!(answer(&lab, "world", &door), from_world);
        for protocol in ["udp", "sctp"] {
            assert_eq!(server_and_client(&probe(&lab, "world", &door, protocol)), from_world, "{protocol}");
        }
        // A pod keeps its address, another node is a client outside, and the node itself speaks through its relay.
        assert_eq!(answer(&lab, "e2e/client", &door).0, "e2e/door");
        assert_eq!(answer(&lab, "node:node1", &door), ("e2e/door".to_owned(), NODES[0][family].to_owned()));
        assert_eq!(answer(&lab, "node:node2", &door).0, "e2e/door");
        assert_eq!(answer(&lab, "node:node2", &at(["127.0.0.1", "::1"][family], 80)).0, "e2e/door");
        // The other node has nothing there, and says so.
        assert_eq!(outcome(&lab, "world", &at(NODES[0][family], 80), "tcp", 2_000), "refused");
        let shared = at(NODES[0][family], 81);
        assert_eq!(answer(&lab, "world", &shared).0, ["e2e/v4", "e2e/v6"][family]);
    }
    // A pod that goes gives the port back to the kernel.
    lab.delete(&pod_named("door"));
    assert_eq!(outcome(&lab, "world", &at(NODES[1][0], 80), "tcp", 2_000), "refused");
}

fn pod_named(name: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: e2e}}\nspec: {{containers: []}}\n")
}
