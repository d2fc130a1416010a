//! What a container has mounted: binds, volumes and tmpfs as people write them, resolved to sources and places.

use std::path::{Path, PathBuf};

use crate::spec::{MountKind, MountSpec};
use crate::{ContainerSpec, Engine, Error, Kind, Labels, MountPoint, Result};

/// A resolved mount, and whether its volume was made for it just now (then the image's files are copied in).
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub point: MountPoint,
    pub new_volume: bool,
    pub copy: bool,
}

/// `SOURCE:TARGET[:OPTIONS]` taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bind {
    pub source: String,
    pub target: String,
    pub mode: String,
}

impl Bind {
    /// Parses the string of a `-v` with a source.
    pub fn parse(text: &str) -> Result<Bind> {
        let invalid = |why: &str| {
            Error::new(
                Kind::InvalidParameter,
                format!("invalid volume specification: '{text}'{why}"),
            )
        };
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, mode) = match parts.as_slice() {
            [source, target] => (*source, *target, ""),
            [source, target, mode] => (*source, *target, *mode),
            _ => return Err(invalid("")),
        };
        if source.is_empty() || target.is_empty() {
            return Err(invalid(""));
        }
        if !target.starts_with('/') {
            let kind = if source.starts_with('/') {
                "bind"
            } else {
                "volume"
            };
            return Err(invalid(&format!(
                ": invalid mount config for type \"{kind}\": invalid mount path: '{target}' mount path must be absolute"
            )));
        }
        if clean(target) == "/" {
            return Err(invalid(": invalid specification: destination can't be '/'"));
        }
        if let Some(wrong) = mode.split(',').find(|word| !known_mode(word)) {
            return Err(invalid(&format!(": invalid mode: {wrong}")));
        }
        Ok(Bind {
            source: source.to_owned(),
            target: clean(target),
            mode: mode.to_owned(),
        })
    }

    fn has(&self, word: &str) -> bool {
        self.mode.split(',').any(|w| w == word)
    }

    fn propagation(&self) -> String {
        let words = [
            "shared", "rshared", "slave", "rslave", "private", "rprivate",
        ];
        self.mode
            .split(',')
            .find(|w| words.contains(w))
            .unwrap_or("rprivate")
            .to_owned()
    }
}

fn known_mode(word: &str) -> bool {
    matches!(
        word,
        "" | "ro"
            | "rw"
            | "z"
            | "Z"
            | "nocopy"
            | "shared"
            | "rshared"
            | "slave"
            | "rslave"
            | "private"
            | "rprivate"
            | "cached"
            | "delegated"
            | "consistent"
    )
}

/// A path without `.`, `..`, double and final slashes.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

impl Engine {
    /// Resolves all mounts of a container; volumes are made where they are missing. What is asked for goes before what
    /// other containers bring, and that before what the image declares.
    pub(crate) fn resolve_mounts(&self, spec: &ContainerSpec) -> Result<Vec<Resolved>> {
        let mut resolved: Vec<Resolved> = Vec::new();
        for bind in &spec.binds {
            add(
                &mut resolved,
                self.resolve_bind(&Bind::parse(bind)?, &spec.volume_driver)?,
            )?;
        }
        for mount in &spec.mounts {
            add(&mut resolved, self.resolve_mount(mount)?)?;
        }
        for other in &spec.volumes_from {
            let points = self
                .mounts_of(other)
                .map_err(|e| Error::new(Kind::InvalidParameter, e.message))?;
            for point in points {
                if !resolved
                    .iter()
                    .any(|r| r.point.destination == point.destination)
                {
                    resolved.push(Resolved {
                        point,
                        new_volume: false,
                        copy: false,
                    });
                }
            }
        }
        for target in &spec.volumes {
            let target = clean(target);
            let taken = resolved.iter().any(|r| r.point.destination == target)
                || spec.tmpfs.keys().any(|t| clean(t) == target)
                || spec
                    .pod
                    .as_ref()
                    .is_some_and(|pod| pod.mounts.iter().any(|m| clean(&m.target) == target));
            if !taken {
                let labels =
                    Labels::from([("com.docker.volume.anonymous".to_owned(), String::new())]);
                resolved.push(self.named_volume(
                    "",
                    &target,
                    &spec.volume_driver,
                    Labels::new(),
                    labels,
                )?);
            }
        }
        Ok(resolved)
    }

    fn resolve_bind(&self, bind: &Bind, driver: &str) -> Result<Resolved> {
        if !bind.source.starts_with('/') {
            let mut volume = self.named_volume(
                &bind.source,
                &bind.target,
                driver,
                Labels::new(),
                Labels::new(),
            )?;
            volume.point.mode = if bind.mode.is_empty() {
                "z".into()
            } else {
                bind.mode.clone()
            };
            volume.point.read_write = !bind.has("ro");
            volume.copy = !bind.has("nocopy");
            return Ok(volume);
        }
        // A missing source becomes a folder: what `-v` promises (and `--mount` does not).
        let source = PathBuf::from(&bind.source);
        if !source.exists() {
            std::fs::create_dir_all(&source).map_err(|e| {
                Error::new(
                    Kind::Internal,
                    format!(
                        "error while creating mount source path '{}': {e}",
                        bind.source
                    ),
                )
            })?;
        }
        Ok(bind_point(
            &source,
            &bind.target,
            !bind.has("ro"),
            &bind.mode,
            bind.propagation(),
        ))
    }

    fn resolve_mount(&self, mount: &MountSpec) -> Result<Resolved> {
        if mount.target.is_empty() {
            return Err(invalid_mount(mount, "field Target must not be empty"));
        }
        if !mount.target.starts_with('/') {
            let why = format!(
                "invalid mount path: '{}' mount path must be absolute",
                mount.target
            );
            return Err(invalid_mount(mount, &why));
        }
        let target = clean(&mount.target);
        match mount.kind {
            MountKind::Bind => resolve_bind_mount(mount, &target),
            MountKind::Volume => self.resolve_volume_mount(mount, &target),
            MountKind::Tmpfs => Ok(Resolved {
                point: tmpfs_point(&target, !mount.read_only),
                new_volume: false,
                copy: false,
            }),
            MountKind::Image => Err(invalid_mount(
                mount,
                "images can't be mounted by this engine yet; copy what you need with COPY --from",
            )),
        }
    }

    fn resolve_volume_mount(&self, mount: &MountSpec, target: &str) -> Result<Resolved> {
        let mut labels = mount.labels.clone();
        if mount.source.is_empty() {
            labels.insert("com.docker.volume.anonymous".into(), String::new());
        }
        let options = mount.driver_options.clone();
        let mut volume =
            self.named_volume(&mount.source, target, &mount.driver, options, labels)?;
        volume.point.mode = "z".into();
        volume.point.read_write = !mount.read_only;
        volume.copy = !mount.no_copy;
        if !mount.subpath.is_empty() {
            volume.point.source = subpath(&volume.point.source, &mount.subpath)?;
            volume.copy = false;
        }
        Ok(volume)
    }

    fn named_volume(
        &self,
        name: &str,
        target: &str,
        driver: &str,
        options: Labels,
        labels: Labels,
    ) -> Result<Resolved> {
        let (volume, new) = self.inner.volumes.ensure(name, driver, options, labels)?;
        if new {
            self.emit(
                "volume",
                "create",
                &volume.name,
                [("driver".to_owned(), "local".to_owned())].into(),
            );
        }
        let point = MountPoint {
            kind: MountKind::Volume,
            name: volume.name.clone(),
            source: volume.mountpoint.clone(),
            destination: target.to_owned(),
            driver: "local".into(),
            mode: String::new(),
            read_write: true,
            propagation: String::new(),
            anonymous: volume.anonymous,
        };
        Ok(Resolved {
            point,
            new_volume: new,
            copy: true,
        })
    }

    /// `CONTAINER[:ro|rw]`.
    fn mounts_of(&self, text: &str) -> Result<Vec<MountPoint>> {
        let (container, mode) = text.split_once(':').unwrap_or((text, "rw"));
        if !matches!(mode, "ro" | "rw" | "z" | "Z") {
            return Err(Error::new(
                Kind::InvalidParameter,
                format!("invalid mode: {mode}"),
            ));
        }
        let entry = self.inner.containers.find(container)?;
        let mut points = entry.record().mounts.clone();
        for point in &mut points {
            point.read_write &= mode != "ro";
        }
        Ok(points)
    }
}

/// `--mount type=bind`: unlike `-v`, it takes only what is there.
fn resolve_bind_mount(mount: &MountSpec, target: &str) -> Result<Resolved> {
    if mount.source.is_empty() {
        return Err(invalid_mount(mount, "field Source must not be empty"));
    }
    let source = PathBuf::from(&mount.source);
    if !source.exists() {
        if !mount.create_mountpoint {
            let why = format!("bind source path does not exist: {}", mount.source);
            return Err(invalid_mount(mount, &why));
        }
        std::fs::create_dir_all(&source)
            .map_err(crate::error_from::io(format!("make {}", mount.source)))?;
    }
    let propagation = mount
        .propagation
        .clone()
        .unwrap_or_else(|| "rprivate".into());
    Ok(bind_point(
        &source,
        target,
        !mount.read_only,
        "",
        propagation,
    ))
}

fn invalid_mount(mount: &MountSpec, why: &str) -> Error {
    let kind = word(mount.kind);
    let message = format!("invalid mount config for type \"{kind}\": {why}");
    Error::new(Kind::InvalidParameter, message)
}

/// A folder inside a volume; a link of the volume's content may not lead out of it.
fn subpath(volume: &Path, inside: &str) -> Result<PathBuf> {
    use rustix::fs::{Mode, OFlags, ResolveFlags};
    let fail = |e: rustix::io::Errno| {
        Error::new(
            Kind::InvalidParameter,
            format!("cannot access path {}/{inside}: {e}", volume.display()),
        )
    };
    let root = rustix::fs::open(
        volume,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(fail)?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(
        &root,
        inside,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )
    .map_err(fail)?;
    Ok(volume.join(inside))
}

fn add(resolved: &mut Vec<Resolved>, next: Resolved) -> Result<()> {
    if resolved
        .iter()
        .any(|r| r.point.destination == next.point.destination)
    {
        return Err(Error::new(
            Kind::InvalidParameter,
            format!("Duplicate mount point: {}", next.point.destination),
        ));
    }
    resolved.push(next);
    Ok(())
}

fn bind_point(
    source: &Path,
    target: &str,
    read_write: bool,
    mode: &str,
    propagation: String,
) -> Resolved {
    let point = MountPoint {
        kind: MountKind::Bind,
        name: String::new(),
        source: source.to_owned(),
        destination: target.to_owned(),
        driver: String::new(),
        mode: mode.to_owned(),
        read_write,
        propagation,
        anonymous: false,
    };
    Resolved {
        point,
        new_volume: false,
        copy: false,
    }
}

fn tmpfs_point(target: &str, read_write: bool) -> MountPoint {
    MountPoint {
        kind: MountKind::Tmpfs,
        name: String::new(),
        source: PathBuf::new(),
        destination: target.to_owned(),
        driver: String::new(),
        mode: String::new(),
        read_write,
        propagation: String::new(),
        anonymous: false,
    }
}

fn word(kind: MountKind) -> &'static str {
    match kind {
        MountKind::Bind => "bind",
        MountKind::Volume => "volume",
        MountKind::Tmpfs => "tmpfs",
        MountKind::Image => "image",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_are_taken_apart() {
        let bind = Bind::parse("/a:/b/../c/:ro,rslave").unwrap();
        assert_eq!((bind.source.as_str(), bind.target.as_str()), ("/a", "/c"));
        assert!(bind.has("ro"));
        assert_eq!(bind.propagation(), "rslave");
        assert_eq!(Bind::parse("vol:/data").unwrap().propagation(), "rprivate");
        for wrong in [
            "/a",
            "/a:",
            ":/b",
            "/a:b",
            "/a:/b:c:d",
            "/a:/b:nonsense",
            "/a:/",
            "/a:/../",
        ] {
            assert!(Bind::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths_are_cleaned() {
        for (path, expected) in [
            ("/a//b/", "/a/b"),
            ("/../a/./b/..", "/a"),
            ("/", "/"),
            ("", "/"),
        ] {
            assert_eq!(clean(path), expected);
        }
    }
}
