//! Small clusters for the end-to-end tests.

/// Namespace `e2e` with the pods `client` and `near` on node1 and `far` on node2. Nothing listens in them.
pub const THREE_PODS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: e2e}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: e2e, labels: {app: client}}
spec: {nodeName: node1, containers: [{name: main, image: none}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, namespace: e2e, labels: {app: near}}
spec: {nodeName: node1, containers: [{name: main, image: none}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: e2e, labels: {app: far}}
spec: {nodeName: node2, containers: [{name: main, image: none}]}
";

/// Namespace `e2e` with the built-in server in `near` (node1) and `far` (node2) on TCP and UDP 8080 and TCP 9090, a
/// client on node1, and the Service `web` (10.96.0.80, TCP 80) in front of both servers.
pub const SERVERS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: e2e}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: e2e, labels: {app: client}}
spec: {nodeName: node1, containers: [{name: main, image: none}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, namespace: e2e, labels: {app: web, where: near}}
spec:
  nodeName: node1
  containers:
  - name: main
    image: none
    ports: [{containerPort: 8080}, {containerPort: 9090}, {containerPort: 8080, protocol: UDP}]
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: e2e, labels: {app: web, where: far}}
spec:
  nodeName: node2
  containers:
  - name: main
    image: none
    ports: [{containerPort: 8080}, {containerPort: 9090}, {containerPort: 8080, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: e2e}
spec:
  clusterIP: 10.96.0.80
  clusterIPs: [10.96.0.80]
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
";
