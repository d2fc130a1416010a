//! RUN: a command in a container of its own, on the engine.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use wharf_engine::{AttachOptions, ContainerSpec, Engine, RemoveOptions, WaitCondition};
use wharf_image::{Images, Layer};

use crate::console::Voice;
use crate::{BuildEvent, BuildRequest, Error};

/// Header of a frame: stream, three zero bytes, length (Docker Engine API, "Attach", stream format).
const HEADER_BYTES: usize = 8;
/// A larger frame than the supervisor ever sends.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// A command to run on an image.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    /// ID of the image it runs on.
    pub image: String,
    pub words: Vec<String>,
    /// Added to the image's.
    pub env: Vec<String>,
    pub request: Arc<BuildRequest>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum Ran {
    /// With code 0: what it changed.
    Layer(Layer),
    /// With another code.
    Failed(i32),
}

pub(crate) type Running<'a> = Pin<Box<dyn Future<Output = Result<Ran, Error>> + Send + 'a>>;

/// Runs commands of RUN. Dropping the future stops the command and removes what it ran in.
pub(crate) trait Runner: Send + Sync + Debug {
    fn run(&self, command: Command, voice: Voice) -> Running<'_>;
}

impl Runner for Engine {
    fn run(&self, command: Command, voice: Voice) -> Running<'_> {
        Box::pin(run(self, command, voice))
    }
}

/// Removes the container, also when the build is dropped.
struct Removal {
    engine: Engine,
    id: Option<String>,
}

const REMOVAL: RemoveOptions = RemoveOptions {
    force: true,
    volumes: true,
    link: false,
};

impl Removal {
    async fn now(mut self) -> Result<(), Error> {
        if let Some(id) = self.id.take() {
            self.engine.remove(&id, REMOVAL).await?;
        }
        Ok(())
    }
}

/// Marks a build's containers, so that those of an interrupted one can be told.
const MARK: &str = "wharf.build";

/// Removes containers of builds that ended with the daemon.
pub(crate) fn remove_left_over(engine: &Engine) {
    for container in engine.containers() {
        if container.spec.extra.contains_key(MARK) {
            drop(Removal {
                engine: engine.clone(),
                id: Some(container.id),
            });
        }
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let engine = self.engine.clone();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            if let Err(error) = engine.remove(&id, REMOVAL).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    id,
                    "a build's container could not be removed"
                );
            }
        });
    }
}

fn spec(command: &Command) -> ContainerSpec {
    let request = &command.request;
    ContainerSpec {
        image: command.image.clone(),
        entrypoint: Some(Vec::new()),
        cmd: Some(command.words.clone()),
        env: command.env.clone(),
        attach_stdout: true,
        attach_stderr: true,
        // A step is no service: what the image says of probes does not count for it.
        healthcheck: Some(wharf_engine::Healthcheck {
            test: vec!["NONE".to_owned()],
            ..Default::default()
        }),
        network_mode: match request.network_mode.as_str() {
            "" => "default".to_owned(),
            mode => mode.to_owned(),
        },
        extra_hosts: request.extra_hosts.clone(),
        resources: request.resources.clone(),
        shm_size_bytes: request.shm_size_bytes,
        ulimits: request.ulimits.clone(),
        cgroup_parent: request.cgroup_parent.clone(),
        extra: [(MARK.to_owned(), true.into())].into(),
        // Its output goes to whoever builds.
        log: wharf_engine::LogDriver {
            driver: "none".to_owned(),
            options: Default::default(),
        },
        ..Default::default()
    }
}

async fn run(engine: &Engine, command: Command, voice: Voice) -> Result<Ran, Error> {
    let created = engine.create(None, spec(&command)).await?;
    let id = created.id;
    let removal = Removal {
        engine: engine.clone(),
        id: Some(id.clone()),
    };
    voice.line(format_args!(" ---> Running in {}", crate::short(&id)));
    let options = AttachOptions {
        stream: true,
        stdout: true,
        stderr: true,
        ..Default::default()
    };
    let attached = engine.attach(&id, options).await?;
    let exit = engine.wait(&id, WaitCondition::NextExit).await?;
    engine.start(&id).await?;
    let (output, exit) = futures_util::join!(stream(attached.output, &voice), exit);
    output.map_err(crate::io(format!(
        "read the output of container {}",
        crate::short(&id)
    )))?;
    let exit = exit?;
    if exit.exit_code != 0 {
        removal.now().await?;
        return Ok(Ran::Failed(exit.exit_code));
    }
    let layer = layer_of(engine, &id).await?;
    removal.now().await?;
    voice.line(format_args!(
        "Removing intermediate container {}",
        crate::short(&id)
    ));
    Ok(Ran::Layer(layer))
}

async fn layer_of(engine: &Engine, id: &str) -> Result<Layer, Error> {
    let snapshot = engine.container(id)?.snapshot.ok_or_else(|| {
        Error::Invalid(format!(
            "container {} has no snapshot to make a layer of",
            crate::short(id)
        ))
    })?;
    let images: Images = engine.images().clone();
    crate::blocking(move || {
        crate::mountpoints::clear(&snapshot)?;
        Ok(images.commit_layer(&snapshot.key, &[])?)
    })
    .await
}

/// Output frame by frame; what goes to stderr is red, as the classic builder has it.
async fn stream(mut output: impl AsyncRead + Unpin, voice: &Voice) -> std::io::Result<()> {
    let mut header = [0u8; HEADER_BYTES];
    loop {
        match output.read_exact(&mut header).await {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        };
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(std::io::Error::other("an output frame is too long"));
        }
        let mut payload = BytesMut::zeroed(length);
        output.read_exact(&mut payload).await?;
        voice.send(BuildEvent::Output(match header[0] {
            2 => Bytes::from([b"\x1b[91m", &payload[..], b"\x1b[0m"].concat()),
            _ => payload.freeze(),
        }));
    }
}
