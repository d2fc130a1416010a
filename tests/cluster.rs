//! A cluster on one machine, driven by the unmodified kubectl: the book's applications run, heal, scale, roll and find
//! each other.
#![allow(clippy::unwrap_used)]

mod cluster_house;

use std::process::{Command, Stdio};

use cluster_house::Cluster;
use wharf_testkit::images;
use wharf_testkit::kubectl::Kubectl;

/// Three web servers that say who they are, behind a name and a port of the node.
const WEB: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30081}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  progressDeadlineSeconds: 8
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: web
        image: busybox
        imagePullPolicy: IfNotPresent
        command: [sh, -c]
        args:
        - |
          mkdir -p /www; echo "$VERSION $HOSTNAME" > /www/index.html; touch /www/ready
          httpd -f -p 8080 -h /www & trap 'sleep 1; kill %1; exit 0' TERM; wait
        env: [{name: VERSION, value: one}]
        readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}
        lifecycle: {preStop: {exec: {command: [sleep, "1"]}}}
"#;

/// A pod that sleeps, with this name and these further fields of its container.
fn sleeper(name: &str, container: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {name}}}}}, spec: {{terminationGracePeriodSeconds: 0, \
         containers: [{{name: c, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, '3600'], {container}}}]}}}}"
    )
}

/// Row 34: the counter reaches Redis by its name, and again when the Redis pod was replaced.
#[test]
fn the_page_counter_finds_its_database() {
    let cluster = Cluster::up(&["redis", "alpine"]);
    let context = cluster.sandbox.folder().join("pagecounter");
    std::fs::create_dir_all(&context).unwrap();
    let source = wharf_testkit::workspace_dir().join("examples/pagecounter");
    std::fs::copy(source.join("Dockerfile"), context.join("Dockerfile")).unwrap();
    std::fs::copy(images::example("pagecounter"), context.join("pagecounter")).unwrap();
    let context = context.to_str().unwrap();
    cluster
        .sandbox
        .wharf(&["build", "-t", "you/pagecounter:v1", context])
        .ok();
    cluster.apply(&std::fs::read_to_string(source.join("cluster.yaml")).unwrap());
    cluster.rolled_out("deployment/db");
    cluster.rolled_out("deployment/counter");
    let visit = || {
        cluster.until("a visit", || {
            let page = cluster.page("http://127.0.0.1:30080/").both();
            match page.strip_prefix("Hello, you're visitor #") {
                Some(rest) => Ok(rest.trim_end_matches(".\n").parse::<u64>().unwrap()),
                None => Err(page),
            }
        })
    };
    assert_eq!([visit(), visit(), visit()], [1, 2, 3]);
    let first = cluster.pods("app=db");
    cluster.run(&format!("delete pod {}", first[0]));
    cluster.rolled_out("deployment/db");
    assert_ne!(cluster.pods("app=db"), first);
    assert_eq!(visit(), 1, "an empty Redis took over the name");
}

/// Row 38: a pod that fits nowhere waits with the reason, and goes on when there is room.
#[test]
fn a_pod_that_fits_nowhere_says_why() {
    let cluster = Cluster::up(&["busybox"]);
    cluster.apply(&sleeper("huge", "resources: {requests: {cpu: '1000'}}"));
    cluster.apply(&sleeper("gpu", "resources: {limits: {example.com/gpu: 1}}"));
    cluster.wait("pod/huge --for=condition=PodScheduled=false");
    let why = cluster.field(
        "pod huge",
        ".status.conditions[?(@.type==\"PodScheduled\")].message",
    );
    assert!(
        why.starts_with("0/1 nodes are available: 1 Insufficient cpu."),
        "{why}"
    );
    cluster.until("the event", || {
        let events = cluster.run("events --for pod/huge");
        if events.contains("FailedScheduling") {
            Ok(())
        } else {
            Err(events)
        }
    });
    let node = cluster.run("get nodes -o name").replace("node/", "");
    let patch =
        r#"{"status":{"capacity":{"example.com/gpu":"2"},"allocatable":{"example.com/gpu":"2"}}}"#;
    cluster.run(&format!(
        "patch node {node} --subresource=status -p '{patch}'"
    ));
    cluster.wait("pod/gpu --for=condition=Ready");
    cluster.run(&format!("taint node {node} closed=now:NoSchedule"));
    cluster.apply(&sleeper("refused", ""));
    cluster.wait("pod/refused --for=condition=PodScheduled=false");
    cluster.run(&format!("taint node {node} closed-"));
    cluster.wait("pod/refused --for=condition=Ready");
}

/// Row 42: a rollout loses no request; a bad image stops it, and it rolls back.
#[test]
fn a_rolling_update_loses_no_request() {
    let cluster = Cluster::up(&["busybox"]);
    cluster.apply(WEB);
    cluster.rolled_out("deployment/web");
    let log = cluster.sandbox.folder().join("visits");
    let mut visitor = cluster
        .sandbox
        .command("sh")
        .args([
            "-c",
            "while :; do curl -sS --max-time 5 http://127.0.0.1:30081/ || echo failed; done",
        ])
        .stdout(std::fs::File::create(&log).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    cluster.run("set env deployment/web VERSION=two");
    cluster.rolled_out("deployment/web");
    cluster.run("set image deployment/web web=busybox:missing");
    let failed = cluster.fails("rollout status deployment/web --timeout=60s");
    assert!(
        failed.contains("exceeded its progress deadline"),
        "{failed}"
    );
    cluster.run("rollout undo deployment/web");
    cluster.rolled_out("deployment/web");
    // The loop's process in the sandbox ends with its parent's session; what counts is what it saw until now.
    let visits = std::fs::read_to_string(&log).unwrap();
    end(&mut visitor);
    let seen = |word: &str| visits.lines().filter(|line| line.starts_with(word)).count();
    assert_eq!(seen("failed"), 0, "{visits}");
    assert!(seen("one") > 0 && seen("two") > 0, "{visits}");
    assert!(
        visits.lines().last().unwrap().starts_with("two"),
        "{visits}"
    );
}

fn end(child: &mut std::process::Child) {
    Command::new("pkill")
        .args(["-KILL", "-P", &child.id().to_string()])
        .status()
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The whole process is killed while a rollout goes on: pods live on, and it arrives.
#[test]
fn a_killed_cluster_goes_on() {
    let mut cluster = Cluster::up(&["busybox"]);
    cluster.apply(WEB);
    cluster.rolled_out("deployment/web");
    cluster.apply(&sleeper("steady", ""));
    cluster.wait("pod/steady --for=condition=Ready");
    let id = cluster.field("pod steady", ".status.containerStatuses[0].containerID");
    for round in 0..20 {
        cluster.run(&format!("set env deployment/web VERSION=v{round}"));
        cluster.restart();
    }
    cluster.rolled_out("deployment/web");
    let page = cluster.page("http://127.0.0.1:30081/");
    assert!(page.ok().starts_with("v19 "), "{}", page.both());
    assert_eq!(
        cluster.field("pod steady", ".status.containerStatuses[0].containerID"),
        id
    );
    assert_eq!(
        cluster.field("pod steady", ".status.containerStatuses[0].restartCount"),
        "0"
    );
}
