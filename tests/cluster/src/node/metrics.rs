//! What pods use of CPU and memory, for autoscalers: metrics-server.

use super::Image;
use crate::{Binaries, Result, Stage};

/// The image that [`MANIFEST`] runs.
const IMAGE: &str = "berth-test/metrics-server:1";

/// As its release has it, but that it looks as often as it can.
const MANIFEST: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: metrics-server, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: "system:metrics-server"}
rules:
- {apiGroups: [""], resources: [nodes/metrics], verbs: [get]}
- {apiGroups: [""], resources: [pods, nodes], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "system:metrics-server"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:metrics-server"}
subjects: [{kind: ServiceAccount, name: metrics-server, namespace: kube-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "metrics-server:system:auth-delegator"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:auth-delegator"}
subjects: [{kind: ServiceAccount, name: metrics-server, namespace: kube-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: metrics-server-auth-reader, namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: extension-apiserver-authentication-reader}
subjects: [{kind: ServiceAccount, name: metrics-server, namespace: kube-system}]
---
apiVersion: v1
kind: Service
metadata: {name: metrics-server, namespace: kube-system}
spec: {selector: {k8s-app: metrics-server}, ports: [{name: https, port: 443, targetPort: https}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: metrics-server, namespace: kube-system}
spec:
  selector: {matchLabels: {k8s-app: metrics-server}}
  template:
    metadata: {labels: {k8s-app: metrics-server}}
    spec:
      serviceAccountName: metrics-server
      priorityClassName: system-cluster-critical
      terminationGracePeriodSeconds: 0
      containers:
      - name: metrics-server
        image: berth-test/metrics-server:1
        imagePullPolicy: IfNotPresent
        args:
        - --cert-dir=/tmp
        - --secure-port=10250
        - --kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname
        - --kubelet-use-node-status-port
        # The kubelet's certificate is signed by itself.
        - --kubelet-insecure-tls
        - --metric-resolution=10s
        - --kubelet-request-timeout=5s
        ports: [{name: https, containerPort: 10250}]
        readinessProbe: {httpGet: {path: /readyz, port: https, scheme: HTTPS}, periodSeconds: 1}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io}
spec:
  service: {name: metrics-server, namespace: kube-system}
  group: metrics.k8s.io
  version: v1beta1
  insecureSkipTLSVerify: true
  groupPriorityMinimum: 100
  versionPriority: 100
"#;

/// What [`MANIFEST`] makes.
const OBJECTS: [&str; 8] = [
    "apiservice/v1beta1.metrics.k8s.io",
    "deployment/metrics-server",
    "service/metrics-server",
    "rolebinding/metrics-server-auth-reader",
    "clusterrolebinding/metrics-server:system:auth-delegator",
    "clusterrolebinding/system:metrics-server",
    "clusterrole/system:metrics-server",
    "serviceaccount/metrics-server",
];

impl Stage {
    /// Starts metrics-server, where nobody has; autoscalers say themselves when they have its numbers.
    ///
    /// # Errors
    /// When it cannot be built, or the cluster refuses.
    pub fn start_metrics(&self) -> Result<()> {
        if !self.kubectl().run(&["get", OBJECTS[0], "--ignore-not-found", "-o", "name"])?.ok()?.is_empty() {
            return Ok(());
        }
        self.load(&Image::of_program(IMAGE, &Binaries::find().program("metrics-server")?))?;
        self.cluster().undo(&[&["delete", "--namespace=kube-system", "--ignore-not-found"], &OBJECTS[..]].concat())?;
        self.kubectl().apply_yaml(MANIFEST)?.ok()?;
        Ok(())
    }
}
