//! Containers of podman, and of containerd by `ctr`, on two nodes: they talk by address and by name, policies hold for them, and their ports are published. No
//! Kubernetes, no other network, no rules of the kernel's.
//!
//! Everything is in a mount namespace of the test's own: two nodes are network namespaces that a wire joins, each with its node process
//! and its own store of podman. The image is made from busybox.

mod support;

use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Command;
use support::{Folder, PODPLANE, can_run, has_program, labs_can_run, stdout, text};

/// The plugin under test.
const PLUGIN: &str = env!("CARGO_BIN_EXE_podplane-cni");

/// Web servers on node 2, clients on node 1. Nobody says an address for `open` and `stranger`, nor that they exist.
const CLUSTER: &str = "
apiVersion: v1
kind: Node
metadata: {name: node1}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 172.30.0.11}]}
---
apiVersion: v1
kind: Node
metadata: {name: node2}
spec: {podCIDRs: [10.244.2.0/24]}
status: {addresses: [{type: InternalIP, address: 172.30.0.12}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {nodeName: node2, containers: [{name: c, image: i}]}
status: {podIPs: [{ip: 10.244.2.80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {role: client}}
spec: {nodeName: node1, containers: [{name: c, image: i}]}
status: {podIPs: [{ip: 10.244.1.80}]}
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {clusterIP: 10.96.0.80, clusterIPs: [10.96.0.80], selector: {app: web}, ports: [{port: 8000, targetPort: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: shop-1, labels: {kubernetes.io/service-name: shop}}
addressType: IPv4
ports: [{port: 80, protocol: TCP, name: ''}]
endpoints: [{addresses: [10.244.2.80], nodeName: node2, conditions: {ready: true}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {role: client}}}], ports: [{port: 80}]}]
";

/// What the nodes and their containers are made by; `$D` is the folder of the test.
const SETUP: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir /run/netns
# Runtimes keep the results of plugins there.
mount -t tmpfs tmpfs /var/lib
# crun looks at cgroups even where it is to leave them alone, and refuses those of a machine that has both kinds.
mount -t tmpfs tmpfs /sys/fs/cgroup
ip link set lo up
for n in 1 2; do
    ip netns add node$n
    ip -n node$n link set lo up
done
ip link add wire1 netns node1 type veth peer name wire2 netns node2
for n in 1 2; do
    ip -n node$n address add 172.30.0.1$n/24 dev wire$n
    ip -n node$n link set wire$n up
    ip -n node$n route add default via 172.30.0.$((3 - n + 10)) dev wire$n
done
# ip netns exec would give each a mount namespace of its own, and the other processes would not see their sandboxes.
on() { n=$1; shift; nsenter --net=/run/netns/node$n "$@"; }
for n in 1 2; do
    nsenter --net=/run/netns/node$n "$P" node --node-name node$n --cluster-dir $D/cluster --socket $D/node$n.sock \
        --state-dir $D/state$n >/dev/null 2>$D/log$n &
done
podman_on() {
    n=$1; shift
    CONTAINERS_CONF=$D/containers$n.conf on $n podman \
        --root $D/store$n --runroot $D/run$n --tmpdir $D/tmp$n --storage-driver vfs "$@"
}
for n in 1 2; do
    timeout 30 sh -c "until $P status --socket $D/node$n.sock >/dev/null 2>&1; do sleep 0.05; done" || { cat $D/log$n >&2; exit 1; }
    podman_on $n import -q $D/image.tar localhost/box:1 >/dev/null
done
run() {
    n=$1; name=$2; shift 2
    podman_on $n run -d --network podplane --name $name "$@" >/dev/null || { cat $D/log$n >&2; exit 1; }
}
# A client in the container's network, with the container's own resolver.
ask() {
    n=$1; name=$2; shift 2
    pid=$(podman_on $n inspect --format '{{.State.Pid}}' $name)
    cat /proc/$pid/root/etc/resolv.conf > $D/resolv.$name
    nsenter --target $pid --net unshare --mount sh -c 'mount --bind $0 /etc/resolv.conf && exec curl -sS -m 3 "$@"' \
        $D/resolv.$name "$@" 2>/dev/null || echo no answer
}
"#;

fn is_root() -> bool {
    stdout(Command::new("id").arg("-u").output().expect("id runs")).trim() == "0"
}

fn can_run_podman() -> bool {
    labs_can_run()
        && ["podman", "crun", "busybox", "nsenter", "curl"].iter().all(|name| has_program(name))
        && can_run("podman", if is_root() { Ok(()) } else { Err("it is run by root here".to_owned()) })
}

/// Makes an image's files and the configurations of podman.
fn prepare(folder: &Folder) {
    let root = folder.path().join("root");
    for dir in ["bin", "etc", "proc", "sys", "dev", "run", "tmp", "www"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    let found = stdout(Command::new("sh").args(["-c", "command -v busybox"]).output().unwrap());
    fs::copy(found.trim(), root.join("bin/busybox")).unwrap();
    for applet in ["httpd", "sleep"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("www/index.html"), "hello from a container\n").unwrap();
    let archive = folder.path().join("image.tar");
    stdout(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(archive).arg(".").output().unwrap());
    let plugins = folder.path().join("plugins");
    fs::create_dir(&plugins).unwrap();
    fs::copy(PLUGIN, plugins.join("podplane-cni")).unwrap();
    fs::create_dir(folder.path().join("cluster")).unwrap();
    folder.write("cluster/cluster.yaml", CLUSTER);
    for node in 1..=2 {
        let at = |name: &str| folder.path().join(format!("{name}{node}")).display().to_string();
        let capabilities = json!({"portMappings": true, "ips": true, "mac": true});
        let plugin =
            json!({"type": "podplane-cni", "socket": format!("{}.sock", at("node")), "capabilities": capabilities});
        let list = json!({"cniVersion": "1.0.0", "name": "podplane", "plugins": [plugin]});
        fs::create_dir(at("net.d")).unwrap();
        fs::write(Path::new(&at("net.d")).join("05-podplane.conflist"), list.to_string()).unwrap();
        folder.write(
            &format!("containers{node}.conf"),
            &format!(
                "[containers]\ncgroups = \"disabled\"\ndefault_sysctls = []\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
                 [engine]\nruntime = \"crun\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nenable_port_reservation = false\n\
                 [network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\"{}\"]\nnetwork_config_dir = \"{}\"\n",
                plugins.display(),
                at("net.d"),
            ),
        );
    }
}

/// Runs a script with both nodes up; gives what it prints.
fn with_nodes(folder: &Folder, script: &str) -> String {
    let output = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"])
        .arg(format!("{SETUP}\n{script}"))
        .env("D", folder.path())
        .env("P", PODPLANE)
        .output()
        .expect("unshare runs");
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn w11_containers_of_podman_on_two_nodes_talk_resolve_obey_policies_and_publish_ports() {
    if !can_run_podman() {
        return;
    }
    let folder = Folder::new();
    prepare(&folder);
    let said = with_nodes(
        &folder,
        r#"
        run 2 web localhost/box:1 httpd -f -p 80 -h /www
        run 2 open -p 8080:80 localhost/box:1 httpd -f -p 80 -h /www
        run 1 client localhost/box:1 sleep 1000
        run 1 stranger localhost/box:1 sleep 1000
        open=$(podman_on 2 inspect --format '{{(index .NetworkSettings.Networks "podplane").IPAddress}}' open)
        echo "web has $(podman_on 2 inspect --format '{{(index .NetworkSettings.Networks "podplane").IPAddress}}' web)"
        echo "by address: $(ask 1 stranger http://$open/)"
        echo "policy, for the client: $(ask 1 client http://10.244.2.80/)"
        echo "policy, for a stranger: $(ask 1 stranger http://10.244.2.80/)"
        echo "policy, on the same node: $(ask 2 open http://10.244.2.80/)"
        echo "by name: $(ask 1 client http://shop.default.svc.cluster.local:8000/)"
        echo "by short name: $(ask 1 client http://shop:8000/)"
        echo "published, from the other node: $(on 1 curl -sS -m 5 http://172.30.0.12:8080/)"
        echo "published, on the node: $(on 2 curl -sS -m 5 http://127.0.0.1:8080/)"
        for n in 1 2; do podman_on $n rm -fa -t 0 >/dev/null; done
        echo "ports left: $($P ports --socket $D/node2.sock -o json | grep -c '"kind": *"pod"')"
        echo "records left: $(ls $D/state1/sandboxes $D/state2/sandboxes | grep -c json)"
        true
        "#,
    );
    let hello = "hello from a container";
    let expected = format!(
        "web has 10.244.2.80\nby address: {hello}\npolicy, for the client: {hello}\npolicy, for a stranger: no answer\n\
         policy, on the same node: no answer\nby name: {hello}\nby short name: {hello}\npublished, from the other node: {hello}\n\
         published, on the node: {hello}\nports left: 0\nrecords left: 0\n"
    );
    assert_eq!(said, expected);
}

/// A container of podman on node 2, and a containerd of the test's own beside node 1 with the plugin where `ctr` looks for it.
const CONTAINERD: &str = r#"
        run 2 open localhost/box:1 httpd -f -p 80 -h /www
        # runc wants what crun does not.
        umount /sys/fs/cgroup
        mount -t tmpfs tmpfs /opt
        mkdir -p /opt/cni/bin $D/etc
        cp $D/plugins/podplane-cni /opt/cni/bin
        cp -a /etc/. $D/etc
        mount --bind $D/etc /etc
        rm -rf /etc/cni
        mkdir -p /etc/cni/net.d
        cp $D/net.d1/05-podplane.conflist /etc/cni/net.d
        cat > $D/containerd.toml <<END
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
root = "$D/containerd"
state = "$D/containerd.state"
[grpc]
address = "$D/containerd.sock"
END
        containerd -c $D/containerd.toml >$D/containerd.log 2>&1 &
        ctr_on() { on 1 ctr --address $D/containerd.sock --namespace podplane-test "$@"; }
        # The groups of processes are the machine's own.
        trap 'ctr_on task rm -f server >/dev/null 2>&1 || true; rmdir /sys/fs/cgroup/*/podplane-test/* /sys/fs/cgroup/*/podplane-test 2>/dev/null || true' EXIT
        timeout 30 sh -c "until ctr --address $D/containerd.sock version >/dev/null 2>&1; do sleep 0.05; done" || { cat $D/containerd.log >&2; exit 1; }
        podman_on 1 save -q -o $D/saved.tar localhost/box:1
        ctr_on image import --snapshotter native $D/saved.tar >/dev/null
"#;

#[test]
fn containers_of_containerd_are_attached_by_ctr_and_detached_when_they_end() {
    if !can_run_podman() || !["containerd", "ctr", "runc"].iter().all(|name| has_program(name)) {
        return;
    }
    let folder = Folder::new();
    prepare(&folder);
    let script = r#"
        ctr_on run -d --cni --snapshotter native localhost/box:1 server httpd -f -p 80 -h /www
        pid=$(ctr_on task ls | awk '$1 == "server" { print $2 }')
        address=$($P ports --socket $D/node1.sock | awk '$2 == "default/podplane-test-server" { print $3 }')
        open=$(podman_on 2 inspect --format '{{(index .NetworkSettings.Networks "podplane").IPAddress}}' open)
        echo "address: $address"
        echo "from the other node: $(ask 2 open http://$address/)"
        echo "to the other node: $(nsenter --target $pid --net curl -sS -m 3 http://$open/)"
        # In the foreground ctr says when the container has ended.
        echo "in the foreground: $(ctr_on run --rm --cni --snapshotter native localhost/box:1 brief sleep 0 && echo ended)"
        echo "records: $(ls $D/state1/sandboxes)"
        "#;
    let said = with_nodes(&folder, &format!("{CONTAINERD}\n{script}"));
    let hello = "hello from a container";
    let expected = format!(
        "address: 10.244.1.2\nfrom the other node: {hello}\nto the other node: {hello}\nin the foreground: ended\n\
         records: podplane-test-server@eth0.json\n"
    );
    assert_eq!(said, expected);
}
