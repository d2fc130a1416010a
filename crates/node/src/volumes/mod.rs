//! Volumes of pods: folders below the node's root, made before containers start, kept fresh, taken away at the end.
//!
//! Layout: `pods/UID/volumes/kubernetes.io~TYPE/NAME`, as every tool expects it. What comes from the API is written by
//! [`atomic`]; sub paths are resolved by the kernel within the volume and bound ([`subpath`]).

mod atomic;
mod owner;
mod payload;
mod subpath;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, HostPathVolumeSource, Pod, Volume, VolumeMount,
};
use rustix::mount::{MountFlags, UnmountFlags};
use wharf_client::{Resource, Target};
use wharf_cri::v1;

use crate::environment::Facts;
use crate::objects::Used;
use crate::part;

const CLAIMS: Resource = Resource::new("", "v1", "persistentvolumeclaims");
const PERSISTENT: Resource = Resource::new("", "v1", "persistentvolumes");

/// The volumes of a node.
pub(crate) struct Volumes {
    root: PathBuf,
}

/// Where a pod's volumes are.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    sources: HashMap<String, Source>,
    /// When tokens want to be made anew.
    pub refresh_at: Option<Timestamp>,
}

#[derive(Debug, Clone)]
enum Source {
    Path(PathBuf),
    Image(v1::ImageSpec),
}

impl Volumes {
    pub fn new(root: PathBuf) -> Volumes {
        Volumes { root }
    }

    /// A pod's folder.
    pub fn pod(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid)
    }

    fn folder(&self, pod: &Pod, kind: &str, name: &str) -> PathBuf {
        let kind = format!("kubernetes.io~{kind}");
        self.pod(part::uid(pod))
            .join("volumes")
            .join(kind)
            .join(name)
    }

    /// Makes what is missing and brings what is there up to date. The error says which volume and why.
    pub async fn prepare(
        &self,
        facts: &Facts<'_>,
        used: &mut Used,
        pod: &Pod,
    ) -> Result<Prepared, String> {
        let mut prepared = Prepared::default();
        let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
        for volume in volumes.into_iter().flatten() {
            let source = self
                .one(facts, used, pod, volume, &mut prepared.refresh_at)
                .await;
            let source = source.map_err(|words| {
                format!(
                    "MountVolume.SetUp failed for volume {:?} : {words}",
                    volume.name
                )
            })?;
            prepared.sources.insert(volume.name.clone(), source);
        }
        Ok(prepared)
    }

    async fn one(
        &self,
        facts: &Facts<'_>,
        used: &mut Used,
        pod: &Pod,
        volume: &Volume,
        refresh_at: &mut Option<Timestamp>,
    ) -> Result<Source, String> {
        if let Some(empty) = &volume.empty_dir {
            let path = self.folder(pod, "empty-dir", &volume.name);
            empty_dir(&path, empty, pod)?;
            return Ok(Source::Path(path));
        }
        if let Some(host) = &volume.host_path {
            return host_path(host).map(Source::Path);
        }
        if let Some(image) = &volume.image {
            let reference = image.reference.clone().unwrap_or_default();
            return image_volume(facts, &reference, image.pull_policy.as_deref()).await;
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            return self.claimed(facts, pod, &claim.claim_name).await;
        }
        if volume.ephemeral.is_some() {
            let claim = format!("{}-{}", part::name(pod), volume.name);
            return self.claimed(facts, pod, &claim).await;
        }
        let Some((kind, in_memory)) = payload::kind(volume) else {
            return Err("volumes of this type are not offered by this node".to_owned());
        };
        let files = payload::make(facts, used, pod, volume, refresh_at).await?;
        let path = self.folder(pod, kind, &volume.name);
        if in_memory {
            mount_tmpfs(&path, "mode=0755")?;
        }
        let group = fs_group(pod);
        let work = move || {
            atomic::write(&path, &files, group)
                .map(|()| Source::Path(path.clone()))
                .map_err(|error| format!("write {}: {error}", path.display()))
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| error.to_string())?
    }

    async fn claimed(&self, facts: &Facts<'_>, pod: &Pod, claim: &str) -> Result<Source, String> {
        let api = &facts.node.api;
        let found = api
            .get(Target::new(CLAIMS, part::namespace(pod), claim))
            .await;
        let found = found.map_err(|error| error.to_string())?;
        let name = found["spec"]["volumeName"].as_str().unwrap_or_default();
        if found["status"]["phase"] != "Bound" || name.is_empty() {
            return Err(format!("persistentvolumeclaim {claim:?} is not bound"));
        }
        let volume = api.get(Target::new(PERSISTENT, "", name)).await;
        let volume = volume.map_err(|error| error.to_string())?;
        let spec = &volume["spec"];
        let path = spec["hostPath"]["path"]
            .as_str()
            .or(spec["local"]["path"].as_str());
        let Some(path) = path else {
            return Err(format!(
                "persistentvolume {name:?} is of a type that this node does not offer"
            ));
        };
        let host = HostPathVolumeSource {
            path: path.to_owned(),
            type_: spec["hostPath"]["type"].as_str().map(str::to_owned),
        };
        host_path(&host).map(Source::Path)
    }

    /// The mounts of a container; `env` knows the variables for `subPathExpr`.
    pub fn mounts(
        &self,
        pod: &Pod,
        container: &Container,
        prepared: &Prepared,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Vec<v1::Mount>, String> {
        let mut mounts = Vec::new();
        for (at, mount) in container.volume_mounts.iter().flatten().enumerate() {
            let source = prepared.sources.get(&mount.name).ok_or_else(|| {
                format!(
                    "volume {:?} of the mount at {:?} is not defined",
                    mount.name, mount.mount_path
                )
            })?;
            let sub_path = match (&mount.sub_path_expr, &mount.sub_path) {
                (Some(text), _) => expand_all(text, env)?,
                (None, Some(path)) => path.clone(),
                (None, None) => String::new(),
            };
            let mut made = frame(mount);
            match source {
                Source::Image(image) => {
                    made.image = Some(image.clone());
                    made.image_sub_path = sub_path;
                }
                Source::Path(path) if sub_path.is_empty() => {
                    made.host_path = path.to_string_lossy().into_owned();
                }
                Source::Path(path) => {
                    let place = self.pod(part::uid(pod)).join("volume-subpaths");
                    let place = place
                        .join(&mount.name)
                        .join(&container.name)
                        .join(at.to_string());
                    subpath::bind(path, &sub_path, &place).map_err(|error| {
                        format!("failed to prepare subPath for volumeMount {:?} of container {:?}: {error}",
                            mount.name, container.name)
                    })?;
                    made.host_path = place.to_string_lossy().into_owned();
                }
            }
            mounts.push(made);
        }
        Ok(mounts)
    }

    /// Pods that have a folder.
    pub fn known(&self) -> Vec<String> {
        let listing = fs::read_dir(self.root.join("pods"))
            .into_iter()
            .flatten()
            .flatten();
        listing
            .filter_map(|found| found.file_name().into_string().ok())
            .collect()
    }

    /// Takes everything of a pod away; what is not there is fine.
    pub fn remove(&self, uid: &str) -> std::io::Result<()> {
        let folder = self.pod(uid);
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let mut below: Vec<PathBuf> = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .map(|path| PathBuf::from(path.replace("\\040", " ")))
            .filter(|path| path.starts_with(&folder) && *path != folder)
            .collect();
        below.sort();
        for path in below.iter().rev() {
            // Bound files of others' must not be deleted through what is still mounted here.
            rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
        }
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn expand_all(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let missing = std::cell::RefCell::new(None);
    let expanded = crate::expand::expand(text, |name| {
        let value = env(name);
        if value.is_none() {
            missing.replace(Some(name.to_owned()));
        }
        value
    });
    match missing.into_inner() {
        Some(name) => Err(format!("missing value for {name:?}")),
        None => Ok(expanded),
    }
}

fn frame(mount: &VolumeMount) -> v1::Mount {
    let recursive = mount.recursive_read_only.as_deref();
    v1::Mount {
        container_path: mount.mount_path.clone(),
        readonly: mount.read_only == Some(true),
        recursive_read_only: matches!(recursive, Some("Enabled" | "IfPossible")),
        propagation: match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => v1::MountPropagation::PropagationHostToContainer,
            Some("Bidirectional") => v1::MountPropagation::PropagationBidirectional,
            _ => v1::MountPropagation::PropagationPrivate,
        }
        .into(),
        ..Default::default()
    }
}

/// The group that a pod's volumes belong to.
fn fs_group(pod: &Pod) -> Option<u32> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    context.fs_group.and_then(|group| u32::try_from(group).ok())
}

fn empty_dir(path: &Path, empty: &EmptyDirVolumeSource, pod: &Pod) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let is_new = !path.exists();
    if empty.medium.as_deref() == Some("Memory") {
        let limit = empty.size_limit.as_ref();
        let limit = limit.and_then(|limit| wharf_kube_types::Quantity::parse(&limit.0).ok());
        let size = limit
            .map(|limit| format!(",size={}", limit.value()))
            .unwrap_or_default();
        mount_tmpfs(path, &format!("mode=0777{size}"))?;
    } else {
        make(path)?;
    }
    if is_new {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))
            .map_err(|error| format!("change the mode of {}: {error}", path.display()))?;
        if let Some(group) = fs_group(pod) {
            owner::give(path, group)
                .map_err(|error| format!("give {} to its group: {error}", path.display()))?;
        }
    }
    Ok(())
}

fn make(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|error| format!("make {}: {error}", path.display()))
}

/// Mounts memory, once.
fn mount_tmpfs(path: &Path, options: &str) -> Result<(), String> {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    make(path)?;
    let here =
        rustix::fs::statfs(path).map_err(|error| format!("look at {}: {error}", path.display()))?;
    let above = path.parent().and_then(|above| rustix::fs::stat(above).ok());
    let own = rustix::fs::stat(path).ok();
    let is_mount = own
        .zip(above)
        .is_some_and(|(own, above)| own.st_dev != above.st_dev);
    if here.f_type == TMPFS_MAGIC && is_mount {
        return Ok(());
    }
    let options = std::ffi::CString::new(options).map_err(|error| error.to_string())?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", path, "tmpfs", flags, options.as_c_str())
        .map_err(|error| format!("mount {}: {error}", path.display()))
}

/// Checks what is at a path of the host against the type that was asked for.
fn host_path(host: &HostPathVolumeSource) -> Result<PathBuf, String> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    let path = PathBuf::from(&host.path);
    let wanted = host.type_.as_deref().unwrap_or_default();
    if wanted == "DirectoryOrCreate" && !path.exists() {
        make(&path)?;
        // As the original's: everybody may look into it.
        let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o755));
    }
    if wanted == "FileOrCreate" && !path.exists() {
        let made = fs::File::options().create(true).append(true).open(&path);
        made.map_err(|error| format!("make {}: {error}", path.display()))?;
    }
    let found = fs::metadata(&path).map(|found| found.file_type());
    let (fits, what) = match (wanted, found) {
        ("", _) => return Ok(path),
        (_, Err(_)) => (false, "a file or folder"),
        ("Directory" | "DirectoryOrCreate", Ok(kind)) => (kind.is_dir(), "a directory"),
        ("File" | "FileOrCreate", Ok(kind)) => (kind.is_file(), "a file"),
        ("Socket", Ok(kind)) => (kind.is_socket(), "a socket file"),
        ("CharDevice", Ok(kind)) => (kind.is_char_device(), "a character device"),
        ("BlockDevice", Ok(kind)) => (kind.is_block_device(), "a block device"),
        _ => (false, "of a known type"),
    };
    match fits {
        true => Ok(path),
        false => Err(format!(
            "hostPath type check failed: {} is not {what}",
            path.display()
        )),
    }
}

async fn image_volume(
    facts: &Facts<'_>,
    reference: &str,
    policy: Option<&str>,
) -> Result<Source, String> {
    let cri = &facts.node.cri;
    let spec = v1::ImageSpec {
        image: reference.to_owned(),
        ..Default::default()
    };
    let asked = v1::ImageStatusRequest {
        image: Some(spec.clone()),
        verbose: false,
    };
    let found = cri
        .image_status(asked)
        .await
        .map_err(|status| status.message().to_owned())?;
    let is_here = found.image.is_some();
    let pulls = match policy {
        Some("Never") => false,
        Some("IfNotPresent") => !is_here,
        _ => !is_here || policy == Some("Always"),
    };
    if pulls {
        let pull = v1::PullImageRequest {
            image: Some(spec.clone()),
            ..Default::default()
        };
        cri.pull_image(pull)
            .await
            .map_err(|status| status.message().to_owned())?;
    }
    Ok(Source::Image(spec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_the_host_s_paths_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let host = |name: &str, kind: &str| {
            host_path(&HostPathVolumeSource {
                path: folder.path().join(name).to_string_lossy().into_owned(),
                type_: Some(kind.to_owned()),
            })
        };
        assert!(
            host("a", "Directory")
                .unwrap_err()
                .contains("hostPath type check failed")
        );
        assert!(host("a", "DirectoryOrCreate").unwrap().is_dir());
        assert!(host("a", "File").is_err());
        assert!(host("f", "FileOrCreate").unwrap().is_file());
        assert!(host("f", "Socket").is_err());
        assert!(host("nothing", "").is_ok());
    }

    #[test]
    fn unknown_variables_of_a_path_are_told() {
        let env = |name: &str| (name == "A").then(|| "x".to_owned());
        assert_eq!(expand_all("$(A)/y", &env).unwrap(), "x/y");
        assert!(expand_all("$(B)/y", &env).unwrap_err().contains("\"B\""));
    }
}
