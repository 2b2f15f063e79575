//! The control plane does what the tests rely on.

use std::time::{Duration, Instant};

use berth_test_cluster::{ControlPlane, ControlPlaneOptions, Result, wait_for};

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: example}]}
";

#[test]
fn an_api_server_answers_and_its_controllers_work() -> Result<()> {
    let start = Instant::now();
    let options = ControlPlaneOptions { controller_manager: true, audit: true };
    let cluster = ControlPlane::start(&options)?;
    eprintln!("ready in {:?}", start.elapsed());
    let namespace = cluster.namespace()?;
    let kubectl = cluster.kubectl().in_namespace(&namespace);

    kubectl.apply_yaml(DEPLOYMENT)?.ok()?;
    let replica_set = wait_for("a ReplicaSet", Duration::from_secs(20), || {
        let names = kubectl.run(&["get", "replicasets", "-o", "name"])?.ok()?;
        Ok(names.lines().next().map(str::to_owned))
    })?;
    assert!(replica_set.starts_with("replicaset.apps/web-"), "{replica_set}");
    let stored = kubectl.get_json("deployment/web")?;
    assert_eq!(stored["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], 30);
    if let Some(log) = cluster.audit_log() {
        let audit = std::fs::read_to_string(log).expect("audit log");
        assert!(audit.contains(&format!("/namespaces/{namespace}/deployments")), "{audit}");
    }

    let refused = kubectl.run(&["get", "deployment/missing"])?;
    assert_eq!(refused.status, 1);
    assert_eq!(refused.stderr, "Error from server (NotFound): deployments.apps \"missing\" not found\n");
    Ok(())
}

#[test]
fn a_service_account_may_do_what_rbac_says_and_no_more() -> Result<()> {
    let cluster = ControlPlane::start(&ControlPlaneOptions::default())?;
    let namespace = cluster.namespace()?;
    let admin = cluster.kubectl().in_namespace(&namespace);
    admin.run(&["create", "serviceaccount", "reader"])?.ok()?;
    admin.run(&["create", "role", "reader", "--verb=list", "--resource=configmaps"])?.ok()?;
    let subject = format!("--serviceaccount={namespace}:reader");
    admin.run(&["create", "rolebinding", "reader", "--role=reader", &subject])?.ok()?;

    let reader = admin.with_kubeconfig(&cluster.service_account_kubeconfig(&namespace, "reader")?);
    reader.run(&["get", "configmaps"])?.ok()?;
    let refused = reader.run(&["get", "secrets"])?;
    assert!(refused.stderr.contains("Forbidden"), "{}", refused.stderr);
    Ok(())
}
