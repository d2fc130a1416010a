//! RUN on the real engine, in namespaces of its own. Needs the supervisor's program: `WHARF_SHIM=PATH`.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use wharf_build::{BuildEvent, BuildRequest, Builder};
use wharf_engine::Engine;
use wharf_image::{Images, RegistryConfig};

const INSIDE: &str = "WHARF_BUILD_TEST_INSIDE";

/// The test runs itself again, in its own mount and network namespaces.
#[test]
#[ignore = "needs the supervisor's program in WHARF_SHIM, and the test images"]
fn commands_run_on_the_engine() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(run());
    }
    let status = Command::new("unshare")
        .args(["--mount", "--net"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "commands_run_on_the_engine",
            "--nocapture",
        ])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success());
}

struct Kit {
    builder: Builder,
    engine: Engine,
    context: PathBuf,
}

impl Kit {
    async fn open(folder: &Path) -> Kit {
        wharf_shim::client::install_path(std::env::var_os("WHARF_SHIM").unwrap().into());
        let images = Images::open(&folder.join("image"), RegistryConfig::default()).unwrap();
        let mut archive = std::fs::File::open(wharf_testkit::images::path("alpine")).unwrap();
        images.load(&mut archive, Arc::new(|_| {})).unwrap();
        let net = wharf_net::Net::open("bld").await.unwrap();
        let config = wharf_engine::Config {
            data_root: folder.join("data"),
            run_root: folder.join("run"),
            cgroup_parent: cgroup(),
            default_subnet: wharf_net::Subnet {
                address: [172, 29, 0, 0].into(),
                prefix: 16,
            },
            default_bridge: "wharf-bld".to_owned(),
            dns: Vec::new(),
        };
        for path in [&config.data_root, &config.run_root] {
            std::fs::create_dir_all(path).unwrap();
        }
        let engine = Engine::open(config, images, net).await.unwrap();
        let context = folder.join("context");
        std::fs::create_dir(&context).unwrap();
        Kit {
            builder: Builder::open(folder.join("build"), engine.clone()).unwrap(),
            engine,
            context,
        }
    }

    fn request(&self, text: &str) -> BuildRequest {
        BuildRequest {
            context: self.context.clone(),
            dockerfile_text: Some(text.to_owned()),
            ..BuildRequest::default()
        }
    }

    async fn build(&self, text: &str) -> (Result<String, wharf_build::Error>, String) {
        let said = Arc::new(Mutex::new(String::new()));
        let sink = said.clone();
        let events: wharf_build::EventSink = Arc::new(move |event| {
            if let BuildEvent::Output(bytes) = event {
                sink.lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&bytes));
            }
        });
        let result = self.builder.build(self.request(text), events).await;
        let said = said.lock().unwrap().clone();
        (result, said)
    }
}

async fn run() {
    let folder = tempfile::tempdir().unwrap();
    let kit = Kit::open(folder.path()).await;
    streams_and_commits(&kit).await;
    fails_with_the_code(&kit).await;
    is_cancelled(&kit).await;
    cleans_up_after_a_crash(&kit, folder.path()).await;
    assert!(kit.engine.containers().is_empty());
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap() {
        // Nothing runs in them any more.
        let _ = std::fs::remove_dir(hierarchy.unwrap().path().join(cgroup()));
    }
}

fn cgroup() -> String {
    format!("wharf-build-test-{}", std::process::id())
}

async fn streams_and_commits(kit: &Kit) {
    let text = "FROM alpine:3.10\nARG X=7\nENV E=env\nENTRYPOINT [\"false\"]\nHEALTHCHECK CMD x\nRUN echo out $X $E; echo err >&2; mkdir -p /new/d; echo data >/new/f; rm /etc/motd 2>/dev/null; true\nWORKDIR /new\nUSER 7:8\nRUN [\"/bin/sh\", \"-c\", \"pwd; id -u; id -g; cat f\"]\n";
    let (result, said) = kit.build(text).await;
    let id = result.unwrap_or_else(|e| panic!("{e}: {:?}\n{said}", std::error::Error::source(&e)));
    assert!(said.contains("out 7 env\n"), "{said}");
    assert!(said.contains("\u{1b}[91merr\n\u{1b}[0m"), "{said}");
    assert!(said.contains("/new\n7\n8\ndata\n"), "{said}");
    let image = kit.engine.images().resolve(&id).unwrap();
    assert_eq!(changed(&kit.engine, &image), ["new", "new/d", "new/f"]);
    let (again, said) = kit.build(text).await;
    assert_eq!(again.unwrap(), id);
    assert!(!said.contains("Running in"), "{said}");
}

/// Names in the layers above the base.
fn changed(engine: &Engine, image: &wharf_image::Image) -> Vec<String> {
    let layers = engine.images().lower(image.top.as_ref().unwrap()).unwrap();
    let mut names = Vec::new();
    for layer in &layers[..layers.len() - 1] {
        let mut open = vec![layer.clone()];
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                names.push(path.strip_prefix(layer).unwrap().display().to_string());
                if path.is_dir() && !path.is_symlink() {
                    open.push(path);
                }
            }
        }
    }
    names.sort();
    names
}

async fn fails_with_the_code(kit: &Kit) {
    let (result, said) = kit
        .build("FROM alpine:3.10\nRUN echo before; exit 3\n")
        .await;
    assert_eq!(
        result.unwrap_err().to_string(),
        "The command '/bin/sh -c echo before; exit 3' returned a non-zero code: 3"
    );
    assert!(said.ends_with("before\n"), "{said}");
    let (result, _) = kit.build("FROM alpine:3.10\nRUN [\"/nope\"]\n").await;
    let error = result.unwrap_err().to_string();
    assert!(
        error.contains("exec: \"/nope\": stat /nope: no such file or directory"),
        "{error}"
    );
}

async fn is_cancelled(kit: &Kit) {
    let (started, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let events: wharf_build::EventSink = Arc::new(move |event| {
        if let BuildEvent::Output(bytes) = event
            && bytes.starts_with(b"begun")
        {
            started.send(()).unwrap();
        }
    });
    let request = kit.request("FROM alpine:3.10\nRUN echo begun; sleep 1000\n");
    let builder = kit.builder.clone();
    let build = tokio::spawn(async move { builder.build(request, events).await });
    seen.recv().await.unwrap();
    let container = kit.engine.containers().first().unwrap().id.clone();
    let removed = kit
        .engine
        .wait(&container, wharf_engine::WaitCondition::Removed)
        .await
        .unwrap();
    build.abort();
    removed.await.unwrap();
}

async fn cleans_up_after_a_crash(kit: &Kit, folder: &Path) {
    let spec = wharf_engine::ContainerSpec {
        image: "alpine:3.10".to_owned(),
        extra: [("wharf.build".to_owned(), true.into())].into(),
        ..Default::default()
    };
    let id = kit.engine.create(None, spec).await.unwrap().id;
    kit.engine.images().prepare("build-left", None).unwrap();
    let removed = kit
        .engine
        .wait(&id, wharf_engine::WaitCondition::Removed)
        .await
        .unwrap();
    Builder::open(folder.join("build"), kit.engine.clone()).unwrap();
    removed.await.unwrap();
    assert!(kit.engine.images().snapshots().is_empty());
}
