//! The image service, and images as volumes.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tonic::Status;
use wharf_image::{ChainId, Credentials, Error, Image, Reference};

use super::record::Pod;
use super::{Local, blocking, events, io, once};
use crate::{Answers, v1};

/// The name in full: `docker.io/library/redis:7`.
pub(super) fn full_name(familiar: &str) -> String {
    match Reference::parse(familiar) {
        Ok(reference) => {
            let reference = reference.or_latest();
            let mark = if reference.selector().contains(':') {
                "@"
            } else {
                ":"
            };
            format!("{}{mark}{}", reference.name(), reference.selector())
        }
        Err(_) => familiar.to_owned(),
    }
}

fn view(image: &Image) -> v1::Image {
    let user = image
        .config
        .config()
        .as_ref()
        .and_then(|config| config.user().clone());
    let user = user.unwrap_or_default();
    let user = user.split(':').next().unwrap_or_default();
    let uid = user.parse().ok().map(|value| v1::Int64Value { value });
    v1::Image {
        id: image.id.clone(),
        repo_tags: image.tags.iter().map(|tag| full_name(tag)).collect(),
        repo_digests: image.digests.iter().map(|name| full_name(name)).collect(),
        size: image.size_bytes,
        username: match uid {
            Some(_) => String::new(),
            None => user.to_owned(),
        },
        uid,
        spec: None,
        pinned: false,
    }
}

fn failed(error: Error) -> Status {
    let mut line = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        line.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    match error {
        Error::NotFound(_) => Status::not_found(line),
        _ => Status::unknown(line),
    }
}

impl Local {
    async fn resolve(&self, name: &str) -> Result<Option<Image>, Status> {
        if name.is_empty() {
            return Ok(None);
        }
        let (images, name) = (self.inner.engine.images().clone(), name.to_owned());
        blocking(move || match images.resolve(&name) {
            Ok(image) => Ok(Some(image)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(failed(error)),
        })
        .await
    }

    /// How the kubelet shows which image runs: by its digest where it came from a registry.
    pub(super) fn image_ref(&self, id: &str) -> String {
        let image = self.inner.engine.images().resolve(id).ok();
        let digest = image.as_ref().and_then(|image| image.digests.first());
        digest.map_or_else(|| id.to_owned(), |name| full_name(name))
    }

    async fn listed_images(
        &self,
        filter: Option<v1::ImageFilter>,
    ) -> Result<Vec<v1::Image>, Status> {
        let wanted = filter
            .and_then(|filter| filter.image)
            .map(|image| image.image);
        if let Some(name) = wanted.filter(|name| !name.is_empty()) {
            return Ok(self.resolve(&name).await?.iter().map(view).collect());
        }
        let images = self.inner.engine.images().clone();
        let all = blocking(move || images.list(false).map_err(failed)).await?;
        Ok(all.iter().map(view).collect())
    }

    pub(super) async fn list_images(
        &self,
        request: v1::ListImagesRequest,
    ) -> Result<v1::ListImagesResponse, Status> {
        Ok(v1::ListImagesResponse {
            images: self.listed_images(request.filter).await?,
        })
    }

    pub(super) async fn stream_images(
        &self,
        request: v1::StreamImagesRequest,
    ) -> Result<Answers<v1::StreamImagesResponse>, Status> {
        let images = self.listed_images(request.filter).await?;
        Ok(once(v1::StreamImagesResponse { images }))
    }

    pub(super) async fn image_status(
        &self,
        request: v1::ImageStatusRequest,
    ) -> Result<v1::ImageStatusResponse, Status> {
        let name = request.image.map(|image| image.image).unwrap_or_default();
        if name.is_empty() {
            return Err(Status::invalid_argument(
                "the request does not name an image",
            ));
        }
        Ok(v1::ImageStatusResponse {
            image: self.resolve(&name).await?.as_ref().map(view),
            info: Default::default(),
        })
    }

    pub(super) async fn pull_image(
        &self,
        request: v1::PullImageRequest,
    ) -> Result<v1::PullImageResponse, Status> {
        let name = request.image.map(|image| image.image).unwrap_or_default();
        let reference =
            Reference::parse(&name).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let credentials = request.auth.map(credentials).transpose()?;
        let images = self.inner.engine.images().clone();
        let pulled = images
            .pull(&reference, None, credentials, Arc::new(|_| {}))
            .await;
        let (image, _) = pulled.map_err(failed)?;
        Ok(v1::PullImageResponse {
            image_ref: image.id,
        })
    }

    pub(super) async fn remove_image(
        &self,
        request: v1::RemoveImageRequest,
    ) -> Result<v1::RemoveImageResponse, Status> {
        let name = request.image.map(|image| image.image).unwrap_or_default();
        if name.is_empty() {
            return Err(Status::invalid_argument(
                "the request does not name an image",
            ));
        }
        let Some(image) = self.resolve(&name).await? else {
            return Ok(v1::RemoveImageResponse {});
        };
        let engine = self.inner.engine.clone();
        // The image goes with all its names.
        blocking(move || {
            let in_use = |id: &str| engine.image_user(id);
            match engine.images().remove(&image.id, true, true, &in_use) {
                Ok(_) | Err(Error::NotFound(_)) => Ok(v1::RemoveImageResponse {}),
                Err(error) => Err(failed(error)),
            }
        })
        .await
    }

    pub(super) async fn image_fs_info(
        &self,
        _request: v1::ImageFsInfoRequest,
    ) -> Result<v1::ImageFsInfoResponse, Status> {
        let images = self.inner.engine.images().clone();
        let root = self.inner.options.data_root.clone();
        let (bytes, _) = blocking(move || images.totals().map_err(failed)).await?;
        let usage = |folder: PathBuf, bytes: u64| v1::FilesystemUsage {
            timestamp: events::now_ns(),
            fs_id: Some(v1::FilesystemIdentifier {
                mountpoint: folder.to_string_lossy().into_owned(),
            }),
            used_bytes: Some(v1::UInt64Value { value: bytes }),
            inodes_used: Some(v1::UInt64Value { value: 0 }),
        };
        Ok(v1::ImageFsInfoResponse {
            image_filesystems: vec![usage(root.join("image"), bytes)],
            container_filesystems: vec![usage(root.join("image"), 0)],
        })
    }

    /// An image's files, read-only, in the sandbox's folder.
    pub(super) async fn image_mount(
        &self,
        pod: &Pod,
        image: &v1::ImageSpec,
        sub_path: &str,
    ) -> Result<PathBuf, Status> {
        let missing = || Status::not_found(format!("image {:?} is not here", image.image));
        let found = self.resolve(&image.image).await?.ok_or_else(missing)?;
        let top = found.top.clone().ok_or_else(|| {
            Status::invalid_argument(format!("image {:?} has no files", image.image))
        })?;
        let folder = self.inner.store.folder(&pod.id).join("images");
        let images = self.inner.engine.images().clone();
        let sub_path = sub_path.to_owned();
        blocking(move || mount(&images, &top, &folder, &sub_path)).await
    }
}

fn mount(
    images: &wharf_image::Images,
    top: &ChainId,
    folder: &std::path::Path,
    sub_path: &str,
) -> Result<PathBuf, Status> {
    let place = folder.join(top.0.trim_start_matches("sha256:"));
    if !place.exists() {
        std::fs::create_dir_all(&place).map_err(io(format!("make {}", place.display())))?;
        let tree = images.mount_read_only(top).map_err(failed)?;
        let flags = rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(tree.as_fd(), "", rustix::fs::CWD, &place, flags)
            .map_err(io(format!("mount {}", place.display())))?;
    }
    if sub_path.is_empty() {
        return Ok(place);
    }
    // Links of the image must not lead out of it; the mount is read-only, so what was looked at stays.
    let resolve = rustix::fs::ResolveFlags::IN_ROOT | rustix::fs::ResolveFlags::NO_MAGICLINKS;
    let open = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let root = rustix::fs::open(&place, open, rustix::fs::Mode::empty())
        .map_err(io(format!("open {}", place.display())))?;
    let inside = rustix::fs::openat2(&root, sub_path, open, rustix::fs::Mode::empty(), resolve)
        .map_err(io(format!("find {sub_path:?} in the image")))?;
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&inside));
    std::fs::read_link(&path).map_err(io(format!("find {sub_path:?} in the image")))
}

fn credentials(auth: v1::AuthConfig) -> Result<Credentials, Status> {
    let mut credentials = Credentials {
        username: auth.username,
        password: auth.password,
        identity_token: Some(auth.identity_token).filter(|token| !token.is_empty()),
        registry_token: Some(auth.registry_token).filter(|token| !token.is_empty()),
    };
    if credentials.username.is_empty() && !auth.auth.is_empty() {
        let wrong = || Status::invalid_argument("the credentials are not base64 of USER:PASSWORD");
        let bytes = STANDARD.decode(auth.auth).map_err(|_| wrong())?;
        let text = String::from_utf8(bytes).map_err(|_| wrong())?;
        let (user, password) = text.split_once(':').ok_or_else(wrong)?;
        credentials.username = user.to_owned();
        credentials.password = password.trim_end_matches('\0').to_owned();
    }
    Ok(credentials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_in_full() {
        assert_eq!(full_name("redis"), "docker.io/library/redis:latest");
        assert_eq!(full_name("you/app:v1"), "docker.io/you/app:v1");
        assert_eq!(full_name("localhost:5000/a:1"), "localhost:5000/a:1");
    }

    #[test]
    fn credentials_come_apart_or_together() {
        let together = v1::AuthConfig {
            auth: STANDARD.encode("jane:a:b"),
            ..Default::default()
        };
        let found = credentials(together).unwrap();
        assert_eq!(
            (found.username.as_str(), found.password.as_str()),
            ("jane", "a:b")
        );
        let wrong = v1::AuthConfig {
            auth: "%".into(),
            ..Default::default()
        };
        assert!(credentials(wrong).is_err());
    }
}
