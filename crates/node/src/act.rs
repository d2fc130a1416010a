//! Doing what was decided: sandboxes and containers are made, hooks run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use wharf_cri::v1;

use crate::Node;
use crate::decide::Decision;
use crate::environment::{self, Facts};
use crate::handlers::{self, Place};
use crate::images::{self, Missing};
use crate::launch::{self, Launch};
use crate::part::{self, Part};
use crate::seen::{self, Seen};
use crate::terminate;
use crate::volumes::Prepared;
use crate::worker::Memory;

/// Runs of a container that are kept besides the newest, for `logs --previous`.
const KEPT: usize = 1;
/// When something failed that nobody tells the end of.
const TRY_AGAIN: Duration = Duration::from_secs(2);
const HOOK_LIMIT: Duration = Duration::from_secs(3600);

/// Why a step could not be done.
type Failed = Missing;

fn failed(reason: &'static str, message: String) -> Failed {
    Failed {
        reason,
        message,
        until: Timestamp::now().checked_add(TRY_AGAIN).ok(),
    }
}

/// Does it all. Says whether anything was done, so that it is worth looking again at once.
pub(crate) async fn act(
    node: &Arc<Node>,
    pod: &Pod,
    parts: &[Part],
    seen: &Seen,
    decision: &Decision,
    memory: &mut Memory,
) -> bool {
    let mut did = !decision.kill.is_empty();
    for (id, reason) in &decision.kill {
        kill(node, pod, parts, seen, id, reason).await;
    }
    if decision.sandbox.is_none() && decision.start.is_empty() {
        return did;
    }
    let prepared = match prepare(node, pod, seen, memory).await {
        Ok(prepared) => prepared,
        Err(why) => {
            memory.hold_all(parts, &why);
            return did;
        }
    };
    let mut seen = seen.clone();
    if let Some(attempt) = decision.sandbox {
        match make_sandbox(node, pod, &seen, attempt).await {
            Ok(found) => seen = found,
            Err(why) => {
                node.recorder
                    .warning(pod, None, "FailedCreatePodSandBox", why.message.clone());
                memory.hold_all(parts, &why);
                return did;
            }
        }
        did = true;
    }
    for (name, attempt) in &decision.start {
        let Some(part) = parts.iter().find(|part| part.name() == name) else {
            continue;
        };
        match start(node, pod, part, *attempt, &seen, &prepared, memory).await {
            Ok(()) => {
                memory.waiting.remove(name);
                did = true;
            }
            Err(why) => memory.hold(name, why),
        }
    }
    did
}

async fn kill(node: &Node, pod: &Pod, parts: &[Part], seen: &Seen, id: &str, reason: &str) {
    let Some(attempt) = seen.running().find(|attempt| attempt.id() == id) else {
        return;
    };
    let part = parts.iter().find(|part| part.name() == attempt.name());
    let ip = crate::probes::address(node, pod, seen);
    let grace = terminate::grace(pod, part);
    terminate::stop(node, pod, part, attempt, &ip, grace, reason).await;
}

/// Brings volumes up to date. The worker does so too, when what they show changed.
pub(crate) async fn prepare(
    node: &Node,
    pod: &Pod,
    seen: &Seen,
    memory: &mut Memory,
) -> Result<Prepared, Failed> {
    let facts = Facts {
        node,
        ips: &seen.ips,
    };
    let prepared = node.volumes.prepare(&facts, &mut memory.used, pod).await;
    match prepared {
        Ok(prepared) => {
            memory.refresh_at = prepared.refresh_at;
            Ok(prepared)
        }
        Err(words) => {
            node.recorder
                .warning(pod, None, "FailedMount", words.clone());
            Err(failed("ContainerCreating", words))
        }
    }
}

async fn make_sandbox(node: &Node, pod: &Pod, seen: &Seen, attempt: u32) -> Result<Seen, Failed> {
    let words = |words: String| failed("ContainerCreating", words);
    for old in &seen.sandboxes {
        let request = v1::StopPodSandboxRequest {
            pod_sandbox_id: old.id.clone(),
        };
        let stopped = node.cri.stop_pod_sandbox(request).await;
        stopped.map_err(|status| words(status.message().to_owned()))?;
    }
    let folder = launch::log_folder(node, pod);
    std::fs::create_dir_all(&folder)
        .map_err(|error| words(format!("make {}: {error}", folder.display())))?;
    let request = v1::RunPodSandboxRequest {
        config: Some(launch::sandbox(node, pod, attempt)),
        runtime_handler: String::new(),
    };
    let made = node.cri.run_pod_sandbox(request).await;
    made.map_err(|status| {
        words(format!(
            "Failed to create pod sandbox: {}",
            status.message()
        ))
    })?;
    let found = seen::look(&*node.cri, part::uid(pod)).await;
    found.map_err(|status| words(status.message().to_owned()))
}

/// Makes and starts one container.
async fn start(
    node: &Arc<Node>,
    pod: &Pod,
    part: &Part,
    attempt: u32,
    seen: &Seen,
    prepared: &Prepared,
    memory: &mut Memory,
) -> Result<(), Failed> {
    let container = &part.container;
    let sandbox = seen.ready_sandbox();
    let sandbox =
        sandbox.ok_or_else(|| failed("ContainerCreating", "the sandbox is not ready".into()))?;
    let secrets = crate::worker::pull_secrets(node, pod, memory).await;
    let image = images::ensure(node, pod, container, &secrets, &mut memory.backoff).await?;
    let wrong = |words: String| {
        let message = format!("Error: {words}");
        node.recorder
            .warning(pod, Some(part.name()), "Failed", message);
        failed("CreateContainerConfigError", words)
    };
    refuse_root(node, pod, part, &image).await.map_err(wrong)?;
    let facts = Facts {
        node,
        ips: &seen.ips,
    };
    let env = environment::make(&facts, &mut memory.used, pod, container)
        .await
        .map_err(wrong)?;
    let look_up = |name: &str| {
        let found = env.iter().find(|one| one.key == name)?;
        Some(String::from_utf8_lossy(&found.value).into_owned())
    };
    let mut mounts = node
        .volumes
        .mounts(pod, container, prepared, &look_up)
        .map_err(wrong)?;
    mounts.extend(own_files(node, pod, part, attempt, &seen.ips).map_err(wrong)?);
    let target = part.target.as_ref().and_then(|name| seen.current(name));
    let config = launch::container(Launch {
        node,
        pod,
        part,
        attempt,
        image: &image,
        env,
        mounts,
        target: target.map(|attempt| attempt.id().to_owned()),
    });
    let config = config.map_err(wrong)?;
    let id = create(node, pod, part, &sandbox.id, config, attempt).await?;
    if let Some(last) = seen.latest(part.name()) {
        let ended = Timestamp::from_nanosecond(last.status.finished_at.into()).unwrap_or_default();
        memory.backoff.next(part.name(), ended, Timestamp::now());
    }
    launch_created(node, pod, part, &id, seen).await?;
    remove_old(node, seen, part).await;
    Ok(())
}

async fn create(
    node: &Node,
    pod: &Pod,
    part: &Part,
    sandbox: &str,
    config: v1::ContainerConfig,
    attempt: u32,
) -> Result<String, Failed> {
    let folder = launch::log_folder(node, pod).join(part.name());
    let made = std::fs::create_dir_all(&folder);
    made.map_err(|error| {
        failed(
            "CreateContainerError",
            format!("make {}: {error}", folder.display()),
        )
    })?;
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: sandbox.to_owned(),
        config: Some(config),
        sandbox_config: Some(launch::sandbox(node, pod, 0)),
    };
    match node.cri.create_container(request).await {
        Ok(answer) => {
            let message = format!("Created container: {}", part.name());
            node.recorder
                .normal(pod, Some(part.name()), "Created", message);
            Ok(answer.container_id)
        }
        Err(status) => {
            let message = format!("Error: {}", status.message());
            node.recorder
                .warning(pod, Some(part.name()), "Failed", message);
            tracing::debug!(attempt, error = status.message(), "create a container");
            Err(failed("CreateContainerError", status.message().to_owned()))
        }
    }
}

async fn launch_created(
    node: &Arc<Node>,
    pod: &Pod,
    part: &Part,
    id: &str,
    seen: &Seen,
) -> Result<(), Failed> {
    let request = v1::StartContainerRequest {
        container_id: id.to_owned(),
    };
    if let Err(status) = node.cri.start_container(request).await {
        let message = format!("Error: {}", status.message());
        node.recorder
            .warning(pod, Some(part.name()), "Failed", message);
        return Err(failed("RunContainerError", status.message().to_owned()));
    }
    let message = format!("Started container {}", part.name());
    node.recorder
        .normal(pod, Some(part.name()), "Started", message);
    let hook = part
        .container
        .lifecycle
        .as_ref()
        .and_then(|life| life.post_start.as_ref());
    let Some(hook) = hook else { return Ok(()) };
    let place = Place {
        container: part.container.clone(),
        id: id.to_owned(),
        ip: crate::probes::address(node, pod, seen),
    };
    if let Err(words) = handlers::hook(node, &place, hook, HOOK_LIMIT).await {
        let message = format!("PostStartHook failed: {words}");
        node.recorder.warning(
            pod,
            Some(part.name()),
            "FailedPostStartHook",
            message.clone(),
        );
        let request = v1::StopContainerRequest {
            container_id: id.to_owned(),
            timeout: terminate::grace(pod, Some(part))
                .as_secs()
                .try_into()
                .unwrap_or(30),
        };
        // It is started again anyway.
        let _ = node.cri.stop_container(request).await;
        return Err(failed("PostStartHookError", message));
    }
    Ok(())
}

/// `runAsNonRoot` is kept by looking at whom the image runs as.
async fn refuse_root(node: &Node, pod: &Pod, part: &Part, image: &str) -> Result<(), String> {
    let of_pod = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.security_context.clone());
    let of_pod = of_pod.unwrap_or_default();
    let own = part.container.security_context.clone().unwrap_or_default();
    if own.run_as_non_root.or(of_pod.run_as_non_root) != Some(true) {
        return Ok(());
    }
    match own.run_as_user.or(of_pod.run_as_user) {
        Some(0) => return Err("container's runAsUser breaks non-root policy".to_owned()),
        Some(_) => return Ok(()),
        None => {}
    }
    let request = v1::ImageStatusRequest {
        image: Some(v1::ImageSpec {
            image: image.to_owned(),
            ..Default::default()
        }),
        verbose: false,
    };
    let found = node
        .cri
        .image_status(request)
        .await
        .map_err(|status| status.message().to_owned())?;
    let found = found.image.unwrap_or_default();
    match (found.uid, found.username.as_str()) {
        (Some(uid), _) if uid.value != 0 => Ok(()),
        (None, name) if !name.is_empty() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
        )),
        _ => Err("container has runAsNonRoot and image will run as root".to_owned()),
    }
}

/// Where a run of a container leaves its last words.
pub(crate) fn message_file(node: &Node, pod: &Pod, name: &str, attempt: u32) -> PathBuf {
    let folder = node
        .volumes
        .pod(part::uid(pod))
        .join("containers")
        .join(name);
    folder.join(attempt.to_string())
}

/// `/etc/hosts` and the file of last words.
fn own_files(
    node: &Node,
    pod: &Pod,
    part: &Part,
    attempt: u32,
    ips: &[String],
) -> Result<Vec<v1::Mount>, String> {
    use std::os::unix::fs::PermissionsExt;
    let mut mounts = Vec::new();
    let container = &part.container;
    let mounted = |path: &str| {
        let mut all = container.volume_mounts.iter().flatten();
        all.any(|mount| mount.mount_path == path)
    };
    let mut add = |path: &str, file: PathBuf| {
        mounts.push(v1::Mount {
            container_path: path.to_owned(),
            host_path: file.to_string_lossy().into_owned(),
            ..Default::default()
        });
    };
    let write = |file: &PathBuf, text: &str| {
        let folder = file.parent().map_or(Ok(()), std::fs::create_dir_all);
        folder
            .and_then(|()| std::fs::write(file, text))
            .map_err(|error| format!("write {}: {error}", file.display()))
    };
    if !mounted("/etc/hosts") {
        let file = node.volumes.pod(part::uid(pod)).join("etc-hosts");
        write(&file, &hosts(node, pod, ips))?;
        add("/etc/hosts", file);
    }
    let path = container
        .termination_message_path
        .as_deref()
        .unwrap_or("/dev/termination-log");
    if !path.is_empty() && !mounted(path) {
        let file = message_file(node, pod, part.name(), attempt);
        write(&file, "")?;
        // Whoever the container runs as may write it.
        let mode = std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666));
        mode.map_err(|error| format!("change the mode of {}: {error}", file.display()))?;
        add(path, file);
    }
    Ok(mounts)
}

fn hosts(node: &Node, pod: &Pod, ips: &[String]) -> String {
    let spec = pod.spec.clone().unwrap_or_default();
    let mut text = match spec.host_network {
        Some(true) => std::fs::read_to_string("/etc/hosts").unwrap_or_default(),
        _ => "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
              fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
            .to_owned(),
    };
    if spec.host_network != Some(true) {
        let name = launch::hostname(pod);
        let domain = spec.subdomain.as_ref().map(|subdomain| {
            format!(
                "{name}.{subdomain}.{}.svc.{}",
                part::namespace(pod),
                node.options.cluster_domain
            )
        });
        for ip in ips {
            match &domain {
                Some(domain) => text.push_str(&format!("{ip}\t{domain}\t{name}\n")),
                None => text.push_str(&format!("{ip}\t{name}\n")),
            }
        }
    }
    let aliases = spec.host_aliases.iter().flatten();
    for (at, alias) in aliases.enumerate() {
        if at == 0 {
            text.push_str("\n# Entries added by HostAliases.\n");
        }
        let names = alias.hostnames.clone().unwrap_or_default();
        text.push_str(&format!("{}\t{}\n", alias.ip, names.join("\t")));
    }
    text
}

/// Removes runs that nobody asks for any more.
async fn remove_old(node: &Node, seen: &Seen, part: &Part) {
    let own = seen
        .containers
        .iter()
        .filter(|attempt| attempt.name() == part.name());
    for old in own.filter(|attempt| !attempt.is_running()).skip(KEPT) {
        let request = v1::RemoveContainerRequest {
            container_id: old.id().to_owned(),
        };
        if let Err(status) = node.cri.remove_container(request).await {
            tracing::warn!(
                container = old.id(),
                error = status.message(),
                "remove an old container"
            );
        }
    }
}
