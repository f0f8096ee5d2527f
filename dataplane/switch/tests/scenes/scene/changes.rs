//! What happens to a scene beside its lines: pods that are replaced, labelled, told to end; other objects; other ports.

use super::*;

impl Scene {
    /// Attaches a port to node1 that belongs to none of the scene's pods.
    pub(crate) fn attach(&mut self, port: PortConfig) {
        self.nodes[0].shards[0].add_port(port.clone());
        self.strangers.push(port);
        self.compile();
    }

    /// Detaches it.
    pub(crate) fn detach_port(&mut self, id: PortId) {
        self.nodes[0].shards[0].remove_port(id);
        self.strangers.retain(|port| port.id != id);
        self.compile();
    }

    /// Gives a pod these labels beside its `name`.
    pub(crate) fn label(&mut self, pod: &str, labels: &str) {
        self.pod_mut(pod).labels = labels.to_owned();
        self.compile();
    }

    /// Gives the namespace of all pods these labels.
    pub(crate) fn label_namespace(&mut self, labels: &str) {
        self.namespace_labels = labels.to_owned();
        self.compile();
    }

    /// A pod is told to end.
    pub(crate) fn terminate(&mut self, pod: &str) {
        self.pod_mut(pod).terminating = true;
        self.compile();
    }

    pub(super) fn read_host_port(&mut self, pod: &str, protocol: &str, target: &str, at: &str) {
        let (host_ip, port) = at.rsplit_once(':').unwrap_or(("", at));
        let host_ip = host_ip.trim_matches(['[', ']']);
        let protocol = protocol.to_uppercase();
        self.pod_mut(pod).ports.push(format!(
            "{{containerPort: {target}, protocol: {protocol}, hostPort: {port}, hostIP: \"{host_ip}\"}}"
        ));
    }

    fn pod_mut(&mut self, name: &str) -> &mut Pod {
        self.pods.iter_mut().find(|pod| pod.name == name).expect("a pod")
    }

    /// The pod called `name` is another one from now on, with the same address on the same port.
    pub(crate) fn rename(&mut self, name: &str, to: &str) {
        let at = self.pods.iter().position(|p| p.name == name).expect("a pod");
        self.pods[at].name = to.to_owned();
        let Pod { node, v4, v6, mac, port, shard, .. } = self.pods[at];
        let switch = &mut self.nodes[node - 1].shards[usize::from(shard)];
        switch.remove_port(port);
        switch.add_port(PortConfig {
            id: port,
            kind: PortKind::Pod { namespace: "default".to_owned(), name: to.to_owned() },
            mac,
            addresses: vec![v4.into(), v6.into()],
            mtu: TUNNEL_MTU,
        });
        self.compile();
    }

    /// The pod called `name` is gone, and the objects do not know it yet.
    pub(crate) fn detach(&mut self, name: &str) {
        let at = self.pods.iter().position(|p| p.name == name).expect("a pod");
        let Pod { node, port, shard, .. } = self.pods[at];
        self.pods[at].attached = false;
        self.nodes[node - 1].shards[usize::from(shard)].remove_port(port);
        self.compile();
    }
}
