//! The one-node cluster does what the tests rely on: pods run, Services balance, names resolve.

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use berth_test_cluster::{ControlPlane, Error, Kubectl, Node, Result, Stage, busybox_image, redis_image, wait_for};

const BOUND: Duration = Duration::from_secs(60);

/// Three servers that tell their names, their governing Service, one in front of them; and a pod to look from.
const SERVERS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web-headless}
spec: {clusterIP: None, publishNotReadyAddresses: true, selector: {app: web}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  replicas: 3
  serviceName: web-headless
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: web
        image: berth-test/busybox:1
        imagePullPolicy: Never
        args: [-c, "echo $HOSTNAME > /tmp/index.html && echo serving && exec httpd -f -p 8080 -h /tmp"]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: looker}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: looker, image: "berth-test/busybox:1", imagePullPolicy: Never, args: [-c, "sleep 3600"]}]
"#;

const REDIS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: redis}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: redis, image: "berth-test/redis:1", imagePullPolicy: Never, args: [--requirepass, open-sesame]}]
"#;

fn namespace(node: &Node) -> Result<Kubectl> {
    Ok(node.kubectl().in_namespace(&node.cluster().namespace()?))
}

fn text(kubectl: &Kubectl, what: &str, path: &str) -> Result<String> {
    kubectl.run(&["get", what, "-o", &format!("jsonpath={path}")])?.ok()
}

fn wait_until_ready(kubectl: &Kubectl, pod: &str) -> Result<()> {
    wait_for(&format!("{pod} ready"), BOUND, || {
        Ok(kubectl.run(&["wait", "--for=condition=Ready", "--timeout=5s", pod])?.success().then_some(()))
    })
}

/// What a server answers to one request on a connection of its own.
fn ask(mut stream: TcpStream, request: &str) -> Result<String> {
    let failed = |cause: std::io::Error| Error::new(format!("cannot ask: {cause}"));
    stream.set_read_timeout(Some(BOUND)).map_err(failed)?;
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    Ok(answer)
}

#[test]
fn a_node_runs_pods_balances_services_and_resolves_names() -> Result<()> {
    let start = Instant::now();
    let node = Node::start()?;
    eprintln!("ready in {:?}", start.elapsed());
    node.load(&busybox_image()?)?;
    node.load(&redis_image()?)?;
    eprintln!("images after {:?}", start.elapsed());
    let kubectl = namespace(&node)?;
    kubectl.apply_yaml(&format!("{SERVERS}---{REDIS}"))?.ok()?;
    for pod in ["pod/web-0", "pod/web-1", "pod/web-2", "pod/looker", "pod/redis"] {
        wait_until_ready(&kubectl, pod)?;
    }
    eprintln!("pods after {:?}", start.elapsed());
    let looker = |command: &[&str]| kubectl.run(&[&["exec", "looker", "--"], command].concat());

    // Logs and exec go through the API server to the kubelet.
    assert_eq!(kubectl.run(&["logs", "web-1"])?.ok()?, "serving\n");
    assert_eq!(looker(&["echo", "hello"])?.ok()?, "hello\n");

    // Each pod has its name, and the Service tells all of them.
    let address = text(&kubectl, "pod/web-1", "{.status.podIP}")?;
    let namespace = text(&kubectl, "pod/web-1", "{.metadata.namespace}")?;
    let headless = format!("web-headless.{namespace}.svc.cluster.local");
    // CoreDNS hears of pods a moment after they are ready.
    let found = wait_for("the name of a pod", BOUND, || {
        let output = looker(&["nslookup", &format!("web-1.{headless}")])?;
        Ok(output.success().then_some(output.stdout))
    })?;
    assert!(found.contains(&format!("Address: {address}")), "{found}");
    let found = looker(&["nslookup", "-type=srv", &headless])?.ok()?;
    for pod in ["web-0", "web-1", "web-2"] {
        assert!(found.contains(&format!("8080 {pod}.{headless}")), "{found}");
    }
    let missing = looker(&["nslookup", &format!("web-7.{headless}")])?;
    assert!(missing.stdout.contains("NXDOMAIN"), "{}{}", missing.stdout, missing.stderr);

    // The Service leads to all of them: from a pod by its name, from here by its address.
    let page = looker(&["wget", "-q", "-O", "-", "http://web/"])?.ok()?;
    assert!(page.starts_with("web-"), "{page}");
    let service: SocketAddr =
        format!("{}:80", text(&kubectl, "service/web", "{.spec.clusterIP}")?).parse().expect("IP");
    let mut seen = HashSet::new();
    wait_for("answers of all pods", BOUND, || {
        let answer = ask(node.connect(service)?, "GET / HTTP/1.0\r\n\r\n")?;
        seen.insert(answer.lines().last().unwrap_or_default().to_owned());
        Ok((seen.len() == 3).then_some(()))
    })?;
    let local = node.forward(service)?;
    let answer = ask(TcpStream::connect(local).expect("loopback"), "GET / HTTP/1.0\r\n\r\n")?;
    assert!(answer.contains("200 OK"), "{answer}");

    // Redis asks for its password.
    let redis: SocketAddr = format!("{}:6379", text(&kubectl, "pod/redis", "{.status.podIP}")?).parse().expect("IP");
    let mut answers = String::new();
    wait_for("an answer of Redis", BOUND, || {
        answers = ask(node.connect(redis)?, "PING\r\nAUTH open-sesame\r\nPING\r\nQUIT\r\n")?;
        Ok(answers.ends_with("+OK\r\n").then_some(()))
    })?;
    assert_eq!(answers, "-NOAUTH Authentication required.\r\n+OK\r\n+PONG\r\n+OK\r\n");
    from_outside(&node, service, redis)?;
    eprintln!("all after {:?}", start.elapsed());
    Ok(())
}

/// As on a cluster of somebody's: through a pod, and without a trace afterwards.
fn from_outside(node: &Node, service: SocketAddr, redis: SocketAddr) -> Result<()> {
    let cluster = ControlPlane::connect("the kubeconfig of a node", node.kubectl().kubeconfig().as_os_str())?;
    let programs = Path::new(env!("CARGO_BIN_EXE_berth-test-cluster")).parent().unwrap_or(Path::new("/"));
    let namespaces = || node.kubectl().run(&["get", "namespaces", "-o", "name"])?.ok();
    let before = namespaces()?;
    let stage = Stage::on(cluster, &node.load_command(), programs)?;
    assert_ne!(namespaces()?, before);

    let (local, store) = (stage.forward(service)?, stage.forward(redis)?);
    let page = || ask(TcpStream::connect(local).map_err(lost)?, "GET / HTTP/1.0\r\n\r\n");
    let mut seen = HashSet::new();
    wait_for("answers of all pods", BOUND, || {
        seen.insert(page()?.lines().last().unwrap_or_default().to_owned());
        Ok((seen.len() == 3).then_some(()))
    })?;

    // Asked for, all said, and answered then; and one that stays open meanwhile.
    let mut open = TcpStream::connect(store).map_err(lost)?;
    let half = TcpStream::connect(store).map_err(lost)?;
    (&half).write_all(b"PING\r\n").map_err(lost)?;
    half.shutdown(Shutdown::Write).map_err(lost)?;
    assert_eq!(ask(half, "")?, "-NOAUTH Authentication required.\r\n");
    assert_eq!(exchange(&mut open, "AUTH open-sesame\r\n")?, "+OK\r\n");

    // A client that leaves in the middle takes nobody along.
    for _ in 0..20 {
        drop(TcpStream::connect(local).map_err(lost)?);
    }
    assert_eq!(exchange(&mut open, "PING\r\n")?, "+PONG\r\n");

    // A tunnel that ends is made anew, before anything is said in it.
    let first = tunnels(&stage)?;
    assert_eq!(first.len(), 1, "one tunnel was enough so far");
    let kill = format!("kill -s KILL {}", first[0]);
    assert!(Command::new("sh").args(["-c", &kill]).status().map_err(lost)?.success());
    assert!(page()?.contains("200 OK"));
    assert_eq!(tunnels(&stage)?.len(), 2);

    drop(stage);
    assert_eq!(namespaces()?, before);
    Ok(())
}

/// The processes of all tunnels so far.
fn tunnels(stage: &Stage) -> Result<Vec<String>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir(stage.cluster().dir()).map_err(lost)? {
        let path = entry.map_err(lost)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("port-forward") && name.ends_with(".pid") {
            pids.push(fs::read_to_string(&path).map_err(lost)?.trim().to_owned());
        }
    }
    Ok(pids)
}

/// One answer on a connection that stays open.
fn exchange(stream: &mut TcpStream, request: &str) -> Result<String> {
    stream.set_read_timeout(Some(BOUND)).map_err(lost)?;
    stream.write_all(request.as_bytes()).map_err(lost)?;
    let mut answer = [0; 64];
    let length = stream.read(&mut answer).map_err(lost)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

fn lost(cause: std::io::Error) -> Error {
    Error::new(format!("on the way into the cluster: {cause}"))
}
