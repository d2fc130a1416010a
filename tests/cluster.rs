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

/// Row 39: a container that dies is started again, with back-off; a deleted pod is replaced.
#[test]
fn what_dies_comes_back() {
    let cluster = Cluster::up(&["busybox"]);
    cluster.apply(&sleeper("crash", "").replace("'3600'", "'0'"));
    cluster.until("a crash loop", || {
        let reason = cluster.field(
            "pod crash",
            ".status.containerStatuses[0].state.waiting.reason",
        );
        if reason == "CrashLoopBackOff" {
            Ok(())
        } else {
            Err(reason)
        }
    });
    cluster.apply(WEB);
    cluster.rolled_out("deployment/web");
    let before = cluster.pods("app=web");
    cluster.run(&format!("delete pod {} --wait=false", before[0]));
    cluster.rolled_out("deployment/web");
    cluster
        .exec(&before[1], "kill -9 1; kill -9 $(pidof httpd)")
        .both();
    cluster.wait_field(
        &format!("pod/{}", before[1]),
        ".status.containerStatuses[0].restartCount",
        "1",
    );
    cluster.wait(&format!("pod/{} --for=condition=Ready", before[1]));
    cluster.until("the deleted pod's end", || {
        let pods = cluster.pods("app=web");
        match pods.len() {
            3 => Ok(()),
            _ => Err(format!("{pods:?}")),
        }
    });
}

/// Rows 40 and 41: a Deployment scales, its Service spreads over all that are ready, and only over those.
#[test]
fn a_service_spreads_over_ready_replicas() {
    let cluster = Cluster::up(&["busybox"]);
    cluster.apply(WEB);
    cluster.rolled_out("deployment/web");
    let seen = |url: &str| {
        let line = format!(
            "for i in $(seq 60); do curl -sS --max-time 5 {url} || echo failed; done | sort -u"
        );
        cluster
            .sh(&line)
            .ok()
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(seen("http://127.0.0.1:30081/").len(), 3);
    let address = cluster.field("service web", ".spec.clusterIP");
    assert_eq!(seen(&format!("http://{address}/")).len(), 3);
    let pods = cluster.pods("app=web");
    cluster.exec(&pods[0], "rm /www/ready").ok();
    cluster.wait(&format!("pod/{} --for=condition=Ready=false", pods[0]));
    cluster.until("one replica less", || {
        let names = seen(&format!("http://{address}/"));
        let gone = names
            .iter()
            .all(|name| !name.contains(&pods[0]) && name != "failed");
        if gone && names.len() == 2 {
            Ok(())
        } else {
            Err(format!("{names:?}"))
        }
    });
    cluster.run("scale deployment web --replicas=5");
    cluster.wait_field("deployment/web", ".status.readyReplicas", "4");
    cluster.run("scale deployment web --replicas=0");
    cluster.until("no replica", || match cluster.pods("app=web") {
        none if none.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    let refused = cluster.page(&format!("http://{address}/")).failed();
    assert!(refused.contains("connect to"), "{refused}");
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

/// Row 43: startup, readiness and liveness.
#[test]
fn probes_decide() {
    let cluster = Cluster::up(&["busybox", "redis"]);
    let alive = "livenessProbe: {exec: {command: [test, '!', '-e', /tmp/dead]}, periodSeconds: 1, failureThreshold: 1}";
    cluster.apply(&sleeper("mortal", alive));
    cluster.wait("pod/mortal --for=condition=Ready");
    cluster.exec("mortal", "touch /tmp/dead").ok();
    cluster.wait_field(
        "pod/mortal",
        ".status.containerStatuses[0].restartCount",
        "1",
    );
    let late = "startupProbe: {exec: {command: [test, -e, /tmp/up]}, periodSeconds: 1, failureThreshold: 60}, \
                readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1}";
    cluster.apply(&sleeper("late", late));
    cluster.wait_field("pod/late", ".status.phase", "Running");
    assert_eq!(
        cluster.field("pod late", ".status.containerStatuses[0].started"),
        "false"
    );
    cluster.exec("late", "touch /tmp/up").ok();
    cluster.wait_field("pod/late", ".status.containerStatuses[0].started", "true");
    assert_eq!(
        cluster.field("pod late", ".status.containerStatuses[0].ready"),
        "false"
    );
    cluster.exec("late", "touch /tmp/ready").ok();
    cluster.wait("pod/late --for=condition=Ready");
    cluster.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: tcp}, spec: {containers: [{name: c, image: redis, \
         imagePullPolicy: IfNotPresent, readinessProbe: {tcpSocket: {port: 6379}, periodSeconds: 1}}]}}",
    );
    cluster.wait("pod/tcp --for=condition=Ready");
}

/// Row 44: configuration as environment and as files, which follow the object.
#[test]
fn configuration_reaches_its_pods() {
    let cluster = Cluster::up(&["busybox"]);
    cluster.run("create configmap settings --from-literal=color=red");
    cluster.run("create secret generic pass --from-literal=word=open");
    cluster.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {tier: front}}, spec: {terminationGracePeriodSeconds: 0, \
         volumes: [{name: v, configMap: {name: settings}}, {name: s, secret: {secretName: pass, defaultMode: 0400}}, \
         {name: d, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}], \
         containers: [{name: c, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, '3600'], \
         env: [{name: WORD, valueFrom: {secretKeyRef: {name: pass, key: word}}}, \
               {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}, {name: BOTH, value: '$(WORD)-$(NODE)'}], \
         envFrom: [{configMapRef: {name: settings}}], \
         volumeMounts: [{name: v, mountPath: /v}, {name: s, mountPath: /s}, {name: d, mountPath: /d}]}]}}",
    );
    cluster.wait("pod/p --for=condition=Ready");
    let node = cluster.field("pod p", ".spec.nodeName");
    let seen = cluster.exec("p", "echo $color $WORD $BOTH; cat /v/color; echo; cat /s/word; echo; cat /d/labels; stat -Lc %a /s/word");
    assert_eq!(
        seen.ok(),
        format!("red open open-{node}\nred\nopen\ntier=\"front\"400")
    );
    cluster.run("patch configmap settings -p '{\"data\":{\"color\":\"blue\"}}'");
    cluster.until("the file to follow", || {
        let now = cluster.exec("p", "cat /v/color").both();
        if now == "blue" { Ok(()) } else { Err(now) }
    });
    let denied = cluster.fails("auth can-i delete pods --as=system:serviceaccount:default:default");
    assert!(denied.contains("no"));
}

/// A pod's host name is its own; one on the machine's network has the machine's, and leaves it as it is.
#[test]
fn pods_have_names() {
    let cluster = Cluster::up(&["busybox"]);
    let machine = cluster.sh("hostname").ok().to_owned();
    cluster.apply(&sleeper("named", ""));
    cluster.apply(&sleeper("outside", "").replace("spec: {", "spec: {hostNetwork: true, "));
    cluster.wait("pod/named pod/outside --for=condition=Ready");
    assert_eq!(
        cluster.exec("named", "hostname; echo $HOSTNAME").ok(),
        "named\nnamed"
    );
    let seen = cluster.exec("outside", "hostname; echo $HOSTNAME");
    assert_eq!(seen.ok(), format!("{machine}\n{machine}"));
    assert_eq!(cluster.sh("hostname").ok(), machine);
}

/// Exec, logs, attach, port-forward and cp reach the containers.
#[test]
fn people_look_inside() {
    let cluster = Cluster::up(&["busybox"]);
    cluster.apply(WEB);
    cluster.rolled_out("deployment/web");
    let pod = cluster.pods("app=web").remove(0);
    let echoed = cluster.with_input(&format!("exec -i {pod} -- cat"), "through\n");
    assert_eq!(echoed.ok(), "through");
    assert_eq!(cluster.exec(&pod, "exit 3").code, 3);
    let local = cluster.sandbox.folder().join("page");
    std::fs::write(&local, "copied").unwrap();
    cluster.run(&format!("cp {} {pod}:/www/copied", local.display()));
    let mut forward = cluster
        .kubectl()
        .args(["port-forward", &format!("pod/{pod}"), "9999:8080"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let copied = cluster.until("the forwarded port", || {
        let page = cluster.page("http://127.0.0.1:9999/copied");
        if page.code == 0 {
            Ok(page.stdout)
        } else {
            Err(page.stderr)
        }
    });
    end(&mut forward);
    assert_eq!(copied, "copied");
    cluster.apply(&sleeper("talk", "").replace(
        "[sleep, '3600']",
        "[sh, -c, 'echo first; echo second >&2; sleep 3600']",
    ));
    cluster.wait("pod/talk --for=condition=Ready");
    cluster.until("both lines", || {
        let logs = cluster.run("logs talk");
        if logs == "first\nsecond" {
            Ok(())
        } else {
            Err(logs)
        }
    });
    assert_eq!(cluster.run("logs talk --tail=1"), "second");
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
