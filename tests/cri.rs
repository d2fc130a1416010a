//! The daemon as a runtime for a kubelet: the Container Runtime Interface on a socket, through a gRPC client.
#![allow(clippy::unwrap_used)]

use wharf_cri::{Cri, Remote, v1};
use wharf_testkit::images;
use wharf_testkit::sandbox::{Sandbox, Server};

/// A daemon that serves the interface, with busybox.
struct House {
    sandbox: Sandbox,
    daemon: Server,
}

impl House {
    fn open() -> House {
        let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_wharf"));
        let daemon = start(&sandbox);
        let busybox = images::path("busybox");
        let load = ["load", "-i", busybox.to_str().unwrap()];
        sandbox.wharf(&load).ok();
        House { sandbox, daemon }
    }

    fn client(&self) -> Remote {
        Remote::new(&address(&self.sandbox)).unwrap()
    }
}

fn address(sandbox: &Sandbox) -> String {
    format!("unix://{}/cri.sock", sandbox.folder().display())
}

fn start(sandbox: &Sandbox) -> Server {
    sandbox.start_daemon(&["--cri-listen", &address(sandbox)])
}

fn pod(sandbox: &Sandbox, name: &str) -> v1::PodSandboxConfig {
    // A kubelet makes the folder of a pod's logs itself.
    let logs = sandbox.folder().join("logs");
    std::fs::create_dir_all(&logs).unwrap();
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.into(),
            uid: format!("uid-{name}"),
            namespace: "default".into(),
            attempt: 0,
        }),
        hostname: name.into(),
        log_directory: logs.to_str().unwrap().into(),
        linux: Some(v1::LinuxPodSandboxConfig::default()),
        ..Default::default()
    }
}

fn container(name: &str, line: &str) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: name.into(),
            attempt: 0,
        }),
        image: Some(v1::ImageSpec {
            image: "busybox".into(),
            ..Default::default()
        }),
        command: vec!["sh".into(), "-c".into(), line.into()],
        log_path: format!("{name}.log"),
        linux: Some(v1::LinuxContainerConfig::default()),
        ..Default::default()
    }
}

async fn run(
    client: &Remote,
    config: v1::PodSandboxConfig,
    container: v1::ContainerConfig,
) -> (String, String) {
    let request = v1::RunPodSandboxRequest {
        config: Some(config.clone()),
        ..Default::default()
    };
    let pod = client
        .run_pod_sandbox(request)
        .await
        .unwrap()
        .pod_sandbox_id;
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: pod.clone(),
        config: Some(container),
        sandbox_config: Some(config),
    };
    let id = client.create_container(request).await.unwrap().container_id;
    let container_id = id.clone();
    let request = v1::StartContainerRequest { container_id };
    client.start_container(request).await.unwrap();
    (pod, id)
}

async fn set_range(client: &Remote) {
    let network_config = v1::NetworkConfig {
        pod_cidr: "10.42.9.0/24".into(),
    };
    let runtime_config = v1::RuntimeConfig {
        network_config: Some(network_config),
    };
    let request = v1::UpdateRuntimeConfigRequest {
        runtime_config: Some(runtime_config),
    };
    client.update_runtime_config(request).await.unwrap();
}

async fn exec(client: &Remote, id: &str, line: &str) -> v1::ExecSyncResponse {
    let request = v1::ExecSyncRequest {
        container_id: id.into(),
        cmd: vec!["sh".into(), "-c".into(), line.into()],
        timeout: 20,
    };
    client.exec_sync(request).await.unwrap()
}

#[tokio::test]
async fn a_kubelet_runs_a_pod() {
    let house = House::open();
    let client = house.client();
    let version = client.version(v1::VersionRequest::default()).await.unwrap();
    assert_eq!(version.runtime_api_version, "v1");
    set_range(&client).await;
    let config = pod(&house.sandbox, "one");
    let line = "echo hello; echo bad >&2; exec sleep 3600";
    let (pod, id) = run(&client, config, container("main", line)).await;
    let said = exec(&client, &id, "hostname; echo no >&2; exit 4").await;
    assert_eq!(
        (said.exit_code, &said.stdout[..], &said.stderr[..]),
        (4, &b"one\n"[..], &b"no\n"[..])
    );
    let request = v1::PodSandboxStatusRequest {
        pod_sandbox_id: pod.clone(),
        verbose: false,
    };
    let status = client
        .pod_sandbox_status(request)
        .await
        .unwrap()
        .status
        .unwrap();
    assert!(status.network.unwrap().ip.starts_with("10.42.9."));
    let log = house.sandbox.folder().join("logs/main.log");
    let log = std::fs::read_to_string(log).unwrap();
    assert!(
        log.contains(" stdout F hello\n") && log.contains(" stderr F bad\n"),
        "{log}"
    );
    let request = v1::ExecRequest {
        container_id: id.clone(),
        cmd: vec!["true".into()],
        stdout: true,
        ..Default::default()
    };
    let url = client.exec(request).await.unwrap().url;
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let request = v1::RemovePodSandboxRequest {
        pod_sandbox_id: pod,
    };
    client.remove_pod_sandbox(request).await.unwrap();
    let left = client
        .list_containers(v1::ListContainersRequest::default())
        .await
        .unwrap();
    assert!(left.containers.is_empty());
}

#[tokio::test]
async fn pods_outlive_the_daemon() {
    let mut house = House::open();
    let client = house.client();
    set_range(&client).await;
    let config = pod(&house.sandbox, "steady");
    let (_, id) = run(
        &client,
        config,
        container("main", "echo $$ > /pid; exec sleep 3600"),
    )
    .await;
    house.daemon.kill();
    house.daemon = start(&house.sandbox);
    let client = house.client();
    let said = exec(&client, &id, "hostname").await;
    assert_eq!(said.stdout, b"steady\n");
    let pods = client
        .list_pod_sandbox(v1::ListPodSandboxRequest::default())
        .await
        .unwrap();
    let state = v1::PodSandboxState::SandboxReady;
    assert_eq!(
        pods.items
            .iter()
            .map(v1::PodSandbox::state)
            .collect::<Vec<_>>(),
        [state]
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let house = House::open();
    let client = house.client();
    let request = v1::ExecSyncRequest {
        container_id: "none".into(),
        cmd: vec!["true".into()],
        timeout: 1,
    };
    let refused = client.exec_sync(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound);
    let request = v1::RunPodSandboxRequest::default();
    let refused = client.run_pod_sandbox(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
    let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_wharf"));
    let tcp = sandbox.wharf(&["daemon", "--cri-listen", "tcp://127.0.0.1:1"]);
    assert!(tcp.failed().contains("unix socket"), "{}", tcp.both());
}
