//! Builds from start to end on real images and mounts; only what RUN executes is a stand-in.
#![allow(clippy::unwrap_used)]

mod attacks;
mod copies;
mod steps;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use wharf_image::{Images, Reference, RegistryConfig};

use crate::console::Voice;
use crate::run::{Command, Ran, Runner, Running};
use crate::{BuildEvent, BuildRequest, Builder, Error, EventSink};

/// Writes down what it is asked to run. `exit N` fails, `hang` never ends, anything else makes a file `/ran`.
#[derive(Debug)]
pub struct Recorder {
    images: Images,
    pub ran: Mutex<Vec<Command>>,
    /// Told when a `hang` is dropped.
    pub dropped: Arc<tokio::sync::Notify>,
    pub hanging: Arc<tokio::sync::Notify>,
}

struct Telling(Arc<tokio::sync::Notify>);

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Runner for Recorder {
    fn run(&self, command: Command, voice: Voice) -> Running<'_> {
        let script = command.words.last().cloned().unwrap_or_default();
        self.ran.lock().unwrap().push(command.clone());
        Box::pin(async move {
            voice.line(" ---> Running in 0123456789ab");
            if script == "hang" {
                let _telling = Telling(self.dropped.clone());
                self.hanging.notify_one();
                std::future::pending::<()>().await;
            }
            if let Some(code) = script.strip_prefix("exit ") {
                return Ok(Ran::Failed(code.parse().unwrap()));
            }
            let text = format!("{} {}", command.env.join(" "), command.words.join(" "));
            let images = self.images.clone();
            let layer = crate::blocking(move || {
                let image = images.resolve(&command.image)?;
                crate::step::make_layer(&images, image.top.as_ref(), |root| {
                    let path = proc_path(root, "ran");
                    fs::write(path, text).map_err(crate::io("write"))
                })
            });
            let layer = layer.await?;
            voice.line("Removing intermediate container 0123456789ab");
            Ok(Ran::Layer(layer))
        })
    }
}

fn proc_path(root: std::os::fd::BorrowedFd<'_>, name: &str) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}/{name}", root.as_raw_fd()))
}

pub struct Kit {
    _folder: tempfile::TempDir,
    pub images: Images,
    pub builder: Builder,
    pub recorder: Arc<Recorder>,
    pub context: PathBuf,
    root: PathBuf,
}

impl Kit {
    /// A store with an image `base`, and an empty context.
    pub fn new() -> Kit {
        Kit::with_base(|_| {})
    }

    pub fn with_base(fill: impl FnOnce(&Path)) -> Kit {
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("base");
        for name in ["etc", "tmp", "bin"] {
            fs::create_dir_all(files.join(name)).unwrap();
        }
        fs::write(
            files.join("etc/passwd"),
            "root:x:0:0::/:/bin/sh\nwww:x:33:33::/:\n",
        )
        .unwrap();
        fs::write(files.join("etc/group"), "root:x:0:\nwww:x:34:\n").unwrap();
        fs::set_permissions(files.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        fill(&files);
        let images =
            Images::open(&folder.path().join("images"), RegistryConfig::default()).unwrap();
        let kit = Kit::on(images, folder);
        kit.add_image("base", &files, r#"{"Cmd":["sh"],"Env":["PATH=/bin"]}"#);
        kit
    }

    fn on(images: Images, folder: tempfile::TempDir) -> Kit {
        let recorder = Arc::new(Recorder {
            images: images.clone(),
            ran: Mutex::default(),
            dropped: Arc::default(),
            hanging: Arc::default(),
        });
        let root = folder.path().join("build");
        let context = folder.path().join("context");
        fs::create_dir(&context).unwrap();
        Kit {
            builder: Builder::with(&root, images.clone(), recorder.clone()).unwrap(),
            images,
            recorder,
            context,
            root,
            _folder: folder,
        }
    }

    /// A builder on the same folders, as after a restart.
    pub fn reopened(&self) -> Builder {
        Builder::with(&self.root, self.images.clone(), self.recorder.clone()).unwrap()
    }

    pub fn add_image(&self, name: &str, files: &Path, config: &str) {
        let mut tar = Vec::new();
        wharf_image::pack(fs::File::open(files).unwrap().as_fd(), &mut tar).unwrap();
        let layer = self.images.add_layer(None, &mut &tar[..]).unwrap();
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{config},"history":[{{"created_by":"base"}}],"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            layer.diff_id
        );
        let reference = Reference::parse(name).unwrap();
        self.images
            .create(config.as_bytes(), None, Some(&reference))
            .unwrap();
    }

    pub fn file(&self, path: &str, text: &str) {
        let path = self.context.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn request(&self, dockerfile: &str) -> BuildRequest {
        BuildRequest {
            context: self.context.clone(),
            dockerfile_text: Some(dockerfile.to_owned()),
            ..BuildRequest::default()
        }
    }

    pub async fn build(&self, dockerfile: &str) -> (Result<String, Error>, String) {
        self.build_with(self.request(dockerfile)).await
    }

    pub async fn build_with(&self, request: BuildRequest) -> (Result<String, Error>, String) {
        let said = Arc::new(Mutex::new(String::new()));
        let result = self.builder.build(request, sink(&said)).await;
        let said = said.lock().unwrap().clone();
        (result, said)
    }

    pub async fn fails(&self, dockerfile: &str) -> String {
        let (result, _) = self.build(dockerfile).await;
        let error = result.expect_err(dockerfile);
        assert_eq!(
            self.images.snapshots(),
            Vec::<String>::new(),
            "{dockerfile}"
        );
        error.to_string()
    }

    /// Every file of an image: kind, mode, owner and content or target.
    pub fn files(&self, image: &str) -> BTreeMap<String, String> {
        let image = self.images.resolve(image).unwrap();
        let mut found = BTreeMap::new();
        let Some(top) = &image.top else { return found };
        let mounted = self.images.mount_read_only(top).unwrap();
        let top = proc_path(mounted.as_fd(), "");
        list(&top, &top, &mut found);
        found
    }
}

fn list(top: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let what = if meta.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if meta.is_dir() {
            list(top, &path, found);
            "dir".to_owned()
        } else if meta.is_file() {
            fs::read_to_string(&path).unwrap()
        } else {
            "special".to_owned()
        };
        let name = format!("/{}", path.strip_prefix(top).unwrap().display());
        let mode = meta.mode() & 0o7777;
        found.insert(
            name,
            format!("{mode:o} {}:{} {what}", meta.uid(), meta.gid()),
        );
    }
}

pub fn sink(said: &Arc<Mutex<String>>) -> EventSink {
    let said = said.clone();
    Arc::new(move |event| {
        if let BuildEvent::Output(bytes) = event {
            said.lock()
                .unwrap()
                .push_str(std::str::from_utf8(&bytes).unwrap());
        }
    })
}

/// IDs differ between runs: twelve hexadecimal digits become `ID`.
pub fn without_ids(text: &str) -> String {
    let mut shown = String::new();
    for line in text.split_inclusive('\n') {
        let words: Vec<String> = line
            .split(' ')
            .map(|word| {
                let digits = word.trim_end();
                let is_id = digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_hexdigit());
                if is_id {
                    word.replace(digits, "ID")
                } else {
                    word.to_owned()
                }
            })
            .collect();
        shown.push_str(&words.join(" "));
    }
    shown
}
