//! What the steps of a build do, one at a time; the solver decides when.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use wharf_image::{Image, Images, Layer};

use crate::args::Args;
use crate::cache::{Cache, Key};
use crate::config::{Document, Entry};
use crate::console::Voice;
use crate::dockerfile::{self, Heredoc, Line};
use crate::instruction::{self, CommandLine, Copy, Instruction, Source};
use crate::meta::{self, Scene};
use crate::plan::{Plan, Step};
use crate::run::{Command, Ran, Runner};
use crate::tree::Tree;
use crate::{BuildRequest, Error, blocking, copy, expand, short};

/// No image is built on more others than this.
const ANCESTORS_MAX: usize = 10_000;

/// Where a stage is after a step.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// `None`: nothing was made yet (`FROM scratch`).
    pub image: Option<Image>,
    pub document: Document,
    pub args: Args,
    /// Layers that the stage began with.
    pub base_layers: usize,
    cmd_set: bool,
}

/// One build.
pub(crate) struct Build {
    pub images: Images,
    pub cache: Cache,
    pub runner: Arc<dyn Runner>,
    pub request: Arc<BuildRequest>,
    pub context: Arc<Tree>,
    pub plan: Plan,
    /// The Dockerfile's name, for messages.
    pub file: String,
}

type Output = Result<Arc<State>, Error>;
type Inputs = BTreeMap<usize, Arc<State>>;

impl Build {
    /// Does one step.
    pub async fn execute(&self, index: usize, inputs: Inputs, voice: &Voice) -> Output {
        let step = &self.plan.steps[index];
        let other = step.stage_end.and_then(|end| inputs.get(&end));
        let state = match step.before {
            None => self.from(step, other, voice).await?,
            Some(before) => {
                let Some(state) = inputs.get(&before) else {
                    return Err(Error::Invalid(
                        "a step began before the one it needs".to_owned(),
                    ));
                };
                let job = Job {
                    build: self,
                    state,
                    index,
                    line: &step.line,
                    other,
                    voice,
                };
                job.dispatch(&step.instruction).await?
            }
        };
        let id = state.image.as_ref().map_or("", |image| short(&image.id));
        voice.line(format_args!(" ---> {id}"));
        Ok(Arc::new(state))
    }

    async fn from(
        &self,
        step: &Step,
        stage: Option<&Arc<State>>,
        voice: &Voice,
    ) -> Result<State, Error> {
        let Instruction::From {
            image, platform, ..
        } = &step.instruction
        else {
            return Err(Error::Invalid("a stage begins with FROM".to_owned()));
        };
        let lookup = |name: &str| self.plan.args.global(name);
        let word =
            |text: &String| expand::word(text, step.line.escape, &lookup).map_err(Error::Invalid);
        let name = word(image)?;
        if name.is_empty() {
            return Err(Error::Invalid(format!(
                "base name ({image}) should not be blank"
            )));
        }
        let platform = platform
            .as_ref()
            .map(word)
            .transpose()?
            .or(self.request.platform.clone());
        let platform = platform.filter(|platform| !platform.is_empty());
        let (image, document) = match stage {
            Some(stage) => (stage.image.clone(), stage.document.clone()),
            None if name == "scratch" => {
                (None, Document::scratch(architecture(platform.as_deref())))
            }
            None => {
                let image = self.base(&name, platform.as_deref(), voice).await?;
                let document = Document::parse(&image.config_bytes)?;
                (Some(image), document)
            }
        };
        let state = State {
            base_layers: document.diff_ids().len(),
            image,
            document,
            args: self.plan.args.fresh(),
            cmd_set: false,
        };
        self.triggers(state, step, voice).await
    }

    /// Instructions that the base image kept for whoever builds on it.
    async fn triggers(&self, mut state: State, step: &Step, voice: &Voice) -> Result<State, Error> {
        let texts = state.document.config.on_build.take().unwrap_or_default();
        if texts.is_empty() {
            return Ok(state);
        }
        let plural = if texts.len() == 1 { "" } else { "s" };
        voice.line(format_args!(
            "# Executing {} build trigger{plural}",
            texts.len()
        ));
        let index = self
            .plan
            .steps
            .iter()
            .position(|other| std::ptr::eq(other, step));
        for text in &texts {
            for line in dockerfile::split(text)? {
                let instruction = instruction::parse(&line, &self.file)?;
                if matches!(line.keyword.as_str(), "FROM" | "ONBUILD" | "MAINTAINER") {
                    return Err(line.error(format!(
                        "{} isn't allowed as an ONBUILD trigger",
                        line.keyword
                    )));
                }
                let job = Job {
                    build: self,
                    state: &state,
                    index: index.unwrap_or_default(),
                    line: &line,
                    other: None,
                    voice,
                };
                state = job.dispatch(&instruction).await?;
            }
        }
        Ok(state)
    }

    /// A base image: the one that is here, or pulled.
    async fn base(
        &self,
        name: &str,
        platform: Option<&str>,
        voice: &Voice,
    ) -> Result<Image, Error> {
        let local = match self.images.resolve(name) {
            Ok(image) => Some(image),
            Err(wharf_image::Error::NotFound(_)) => None,
            Err(e) => return Err(e.into()),
        };
        let fits = |image: &Image| {
            platform.is_none_or(|wanted| {
                let config = Document::parse(&image.config_bytes).ok();
                let here = config
                    .as_ref()
                    .and_then(|config| config.text("architecture"));
                here == Some(architecture(Some(wanted)))
            })
        };
        if let Some(image) = &local
            && !self.request.pull
            && fits(image)
        {
            return Ok(image.clone());
        }
        let Ok(reference) = wharf_image::Reference::parse(name) else {
            return local
                .ok_or_else(|| Error::Invalid(format!("invalid reference format: {name}")));
        };
        let progress: wharf_image::ProgressSink = {
            let voice = voice.clone();
            Arc::new(move |progress| voice.send(crate::BuildEvent::Pull(progress)))
        };
        let known = &self.request.credentials;
        let hub = || {
            let names = ["https://index.docker.io/v1/", "index.docker.io"];
            names
                .iter()
                .filter(|_| reference.registry == "docker.io")
                .find_map(|name| known.get(*name))
        };
        let credentials = known.get(&reference.registry).or_else(hub).cloned();
        let pulled = self
            .images
            .pull(&reference, platform, credentials, progress)
            .await;
        match (pulled, local) {
            (Ok((image, _)), _) => Ok(image),
            // Of another platform, but what is here is all there is.
            (Err(error), Some(image)) if !self.request.pull => {
                tracing::info!(
                    error = &error as &dyn std::error::Error,
                    name,
                    "building on an image of another platform"
                );
                Ok(image)
            }
            (Err(error), _) => Err(error.into()),
        }
    }
}

/// The second part of a platform; this machine's by default.
fn architecture(platform: Option<&str>) -> &str {
    let named = platform.map(|platform| platform.split('/').nth(1).unwrap_or(platform));
    match named.unwrap_or(std::env::consts::ARCH) {
        "x86_64" | "linux" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// One instruction in its place.
struct Job<'a> {
    build: &'a Build,
    state: &'a State,
    index: usize,
    line: &'a Line,
    /// The stage that `--from` names.
    other: Option<&'a Arc<State>>,
    voice: &'a Voice,
}

impl Job<'_> {
    async fn dispatch(&self, instruction: &Instruction) -> Result<State, Error> {
        match instruction {
            Instruction::Run { command, heredocs } => self.run(command, heredocs).await,
            Instruction::Copy(copy) => self.copy(copy).await,
            Instruction::Workdir(path) => self.workdir(path).await,
            other => self.metadata(other).await,
        }
    }

    /// What the step is built on, for its key.
    fn parent(&self) -> String {
        match &self.state.image {
            Some(image) => image.id.clone(),
            None => format!(
                "scratch/{}",
                self.state.document.text("architecture").unwrap_or_default()
            ),
        }
    }

    fn scene<'s>(&self, next: &'s mut State, author: &'s mut Option<String>) -> Scene<'s> {
        Scene {
            config: &mut next.document.config,
            args: &mut next.args,
            cmd_set: &mut next.cmd_set,
            author,
            escape: self.line.escape,
        }
    }

    /// Expands with what the stage has so far.
    fn word(&self, text: &str) -> Result<String, Error> {
        let mut state = self.state.clone();
        self.scene(&mut state, &mut None).word(text)
    }

    fn nop(&self, next: &State, comment: &str) -> String {
        format!(
            "{} #(nop) {comment}",
            next.document.config.shell().join(" ")
        )
    }

    /// The image of an earlier build, if it is still here.
    fn cached(&self, key: &Key) -> Option<Image> {
        if self.build.request.no_cache {
            return None;
        }
        let image = self
            .build
            .images
            .resolve(&self.build.cache.find(key)?)
            .ok()?;
        let sources = &self.build.request.cache_from;
        if !sources.is_empty() && !sources.iter().any(|source| self.led_to(&image, source)) {
            return None;
        }
        self.voice.line(" ---> Using cache");
        Some(image)
    }

    /// Whether an image is one of those that another was built on, or that other itself.
    fn led_to(&self, image: &Image, source: &str) -> bool {
        let find = |name: &str| self.build.images.resolve(name).ok();
        std::iter::successors(find(source), |later| find(later.parent.as_deref()?))
            .take(ANCESTORS_MAX)
            .any(|later| later.id == image.id)
    }

    /// The state after a step whose image is known.
    fn after(&self, mut next: State, image: Image) -> Result<State, Error> {
        next.document = Document::parse(&image.config_bytes)?;
        next.image = Some(image);
        Ok(next)
    }

    async fn metadata(&self, instruction: &Instruction) -> Result<State, Error> {
        let mut next = self.state.clone();
        let mut author = None;
        let comment = meta::apply(
            &mut self.scene(&mut next, &mut author),
            instruction,
            self.line,
        )?;
        let created_by = self.nop(&next, &format!(" {}", comment.unwrap_or_default()));
        let config = serde_json::to_string(&next.document.config)
            .map_err(|e| Error::Invalid(format!("can't write a configuration: {e}")))?;
        let key = Key::of(&["metadata", &self.parent(), &created_by, &config]);
        let _working = self.build.cache.work_on(&key).await;
        if let Some(image) = self.cached(&key) {
            return self.after(next, image);
        }
        self.announce(&key);
        let entry = Entry {
            created_by,
            author,
            ..now()
        };
        self.finish(next, entry, &[key]).await
    }

    /// Docker makes a container for every such step; clients look for its lines.
    fn announce(&self, key: &Key) {
        let id = short(key.as_str());
        self.voice.line(format_args!(" ---> Running in {id}"));
        self.voice
            .line(format_args!("Removing intermediate container {id}"));
    }

    async fn workdir(&self, path: &str) -> Result<State, Error> {
        let mut next = self.state.clone();
        let path = self.word(path)?;
        if path.is_empty() {
            return Err(Error::Invalid("cannot normalize nothing".to_owned()));
        }
        let above = if path.starts_with('/') {
            ""
        } else {
            &next.document.config.working_dir
        };
        let path = format!("/{}", crate::pattern::clean(&format!("{above}/{path}")));
        next.document.config.working_dir.clone_from(&path);
        let created_by = self.nop(&next, &format!("WORKDIR {path}"));
        let key = Key::of(&["workdir", &self.parent(), &created_by]);
        let _working = self.build.cache.work_on(&key).await;
        if let Some(image) = self.cached(&key) {
            return self.after(next, image);
        }
        self.announce(&key);
        let layer = self.layer(move |root| {
            let made =
                crate::place::Root::new(root).make_folders(path.as_ref(), Default::default());
            match made {
                Ok(_) => Ok(()),
                Err(Error::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::NotADirectory =>
                {
                    Err(Error::Invalid(format!(
                        "Cannot mkdir: {path} is not a directory"
                    )))
                }
                Err(e) => Err(e),
            }
        });
        let entry = with_layer(created_by, &layer.await?);
        self.finish(next, entry, &[key]).await
    }

    async fn copy(&self, copy: &Copy) -> Result<State, Error> {
        let copy = self.expanded(copy)?;
        if let Some(url) = remote(&copy) {
            return Err(Error::Invalid(format!(
                "ADD failed: {url} is a remote source, which this builder does not fetch; fetch it in a RUN instruction, or before the build"
            )));
        }
        let (tree, source) = self.source(&copy).await?;
        // An image as a whole is known by its ID: if that was copied from before, nothing needs to be read.
        let text = format!("{copy:?}");
        let working_dir = self.state.document.config.working_dir.clone();
        let quick =
            source.map(|id| Key::of(&["copy-from", &self.parent(), &id, &text, &working_dir]));
        if let Some(image) = quick.as_ref().and_then(|key| self.cached(key)) {
            return self.after(self.state.clone(), image);
        }
        let request = copy::Request {
            keeps_owners: copy.from.is_some() && copy.chown.is_none(),
            copy,
            working_dir,
            tree,
        };
        let found = blocking(move || copy::find(request)).await?;
        let created_by = self.nop(self.state, &found.comment());
        let key = Key::of(&[
            "copy",
            &self.parent(),
            &created_by,
            &self.state.document.config.working_dir,
        ]);
        let _working = self.build.cache.work_on(&key).await;
        if let Some(image) = self.cached(&key) {
            if let Some(quick) = &quick {
                self.build.cache.remember(quick, &image.id)?;
            }
            return self.after(self.state.clone(), image);
        }
        let layer = self.layer(move |root| found.write(root)).await?;
        let keys: Vec<Key> = quick.into_iter().chain([key]).collect();
        self.finish(self.state.clone(), with_layer(created_by, &layer), &keys)
            .await
    }

    fn expanded(&self, copy: &Copy) -> Result<Copy, Error> {
        let scene = self.state.clone();
        let value = |name: &str| {
            let env = scene.document.config.env(name).map(str::to_owned);
            env.or_else(|| scene.args.value(name))
        };
        let source = |source: &Source| match source {
            Source::Path(path) => Ok(Source::Path(self.word(path)?)),
            Source::Heredoc(heredoc) if heredoc.expand => {
                let text = expand::text(&heredoc.text, self.line.escape, &value)
                    .map_err(Error::Invalid)?;
                Ok(Source::Heredoc(Heredoc {
                    text,
                    ..heredoc.clone()
                }))
            }
            literal => Ok(literal.clone()),
        };
        let option = |text: &Option<String>| text.as_ref().map(|text| self.word(text)).transpose();
        Ok(Copy {
            is_add: copy.is_add,
            sources: copy
                .sources
                .iter()
                .map(source)
                .collect::<Result<_, Error>>()?,
            target: self.word(&copy.target)?,
            from: copy.from.clone(),
            chown: option(&copy.chown)?,
            chmod: option(&copy.chmod)?,
        })
    }

    /// Where files come from, and the image's ID if it is one.
    async fn source(&self, copy: &Copy) -> Result<(Arc<Tree>, Option<String>), Error> {
        let Some(from) = &copy.from else {
            return Ok((self.build.context.clone(), None));
        };
        if let Some(wrong) = self.build.plan.wrong_from(self.index, from) {
            return Err(Error::Invalid(wrong));
        }
        // The graph was made before the base image, and with it the trigger, was known.
        if self.other.is_none() && self.build.plan.names_stage(self.index, from) {
            return Err(Error::Invalid(format!(
                "invalid from flag value {from}: an ONBUILD trigger can't copy from a stage here; copy in the Dockerfile itself, or name an image"
            )));
        }
        let image = match self.other {
            Some(state) => state.image.clone(),
            None => Some(
                self.build
                    .base(from, self.build.request.platform.as_deref(), self.voice)
                    .await?,
            ),
        };
        let Some(image) = image else {
            return Err(Error::Invalid(format!(
                "invalid from flag value {from}: the stage has no files"
            )));
        };
        let images = self.build.images.clone();
        let top = image.top.clone();
        let tree = blocking(move || {
            let key = top
                .ok_or_else(|| Error::Invalid("the image has no layers to copy from".to_owned()))?;
            Tree::image(images.mount_read_only(&key)?)
        });
        Ok((Arc::new(tree.await?), Some(image.id)))
    }

    async fn run(&self, command: &CommandLine, heredocs: &[Heredoc]) -> Result<State, Error> {
        let config = &self.state.document.config;
        let words = match command {
            CommandLine::Exec(words) => words.clone(),
            CommandLine::Shell(text) => {
                let script = script(text, heredocs);
                [
                    config.shell(),
                    vec![script]
                        .into_iter()
                        .filter(|text| !text.is_empty())
                        .collect(),
                ]
                .concat()
            }
        };
        let arguments = self.state.args.in_effect(config);
        let mut shown = words.clone();
        if !arguments.is_empty() {
            let head = [vec![format!("|{}", arguments.len())], arguments.clone()].concat();
            shown.splice(0..0, head);
        }
        let mut parts: Vec<&str> = vec!["run"];
        let parent = self.parent();
        parts.push(&parent);
        parts.extend(shown.iter().map(String::as_str));
        let key = Key::of(&parts);
        let _working = self.build.cache.work_on(&key).await;
        if let Some(image) = self.cached(&key) {
            return self.after(self.state.clone(), image);
        }
        let command = Command {
            image: self.parent_image().await?,
            env: self.state.args.environment(config),
            words: words.clone(),
            request: self.build.request.clone(),
        };
        match self.build.runner.run(command, self.voice.clone()).await? {
            Ran::Failed(exit_code) => Err(Error::Run {
                command: words.join(" "),
                exit_code,
            }),
            Ran::Layer(layer) => {
                let entry = with_layer(shown.join(" "), &layer);
                self.finish(self.state.clone(), entry, &[key]).await
            }
        }
    }

    /// Containers need an image, even one of nothing.
    async fn parent_image(&self) -> Result<String, Error> {
        if let Some(image) = &self.state.image {
            return Ok(image.id.clone());
        }
        let (images, bytes) = (self.build.images.clone(), self.state.document.bytes()?);
        blocking(move || Ok(images.create(&bytes, None, None)?.id)).await
    }

    /// A layer on the stage's image, of what `write` does to its mounted files.
    async fn layer<F>(&self, write: F) -> Result<Layer, Error>
    where
        F: FnOnce(BorrowedFd<'_>) -> Result<(), Error> + Send + 'static,
    {
        let images = self.build.images.clone();
        let parent = self
            .state
            .image
            .as_ref()
            .and_then(|image| image.top.clone());
        blocking(move || make_layer(&images, parent.as_ref(), write)).await
    }

    /// Makes the step's image and remembers it.
    async fn finish(&self, mut next: State, entry: Entry, keys: &[Key]) -> Result<State, Error> {
        let parent = self.state.image.as_ref().map(|image| image.id.clone());
        next.document.config.image = parent.clone().unwrap_or_default();
        next.document.add(&entry, "");
        let bytes = next.document.bytes()?;
        let (images, cache, keys) = (
            self.build.images.clone(),
            self.build.cache.clone(),
            keys.to_vec(),
        );
        let image = blocking(move || {
            let image = images.create(&bytes, parent.as_deref(), None)?;
            keys.iter()
                .try_for_each(|key| cache.remember(key, &image.id))?;
            Ok(image)
        });
        next.image = Some(image.await?);
        Ok(next)
    }
}

/// Snapshots of builds are named so that those of an interrupted one can be told.
pub(crate) const SNAPSHOT_PREFIX: &str = "build-";

/// Removes the snapshot unless it became a layer.
struct Snapshot<'a> {
    images: &'a Images,
    key: String,
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.images.remove_snapshot(&self.key) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a build's snapshot could not be removed"
            );
        }
    }
}

/// A layer of what `write` does on top of `parent`. Blocks.
pub(crate) fn make_layer(
    images: &Images,
    parent: Option<&wharf_image::ChainId>,
    write: impl FnOnce(BorrowedFd<'_>) -> Result<(), Error>,
) -> Result<Layer, Error> {
    let mut random = [0u8; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(crate::io("read random numbers"))?;
    let key = format!("{SNAPSHOT_PREFIX}{}", hex::encode(random));
    images.prepare(&key, parent)?;
    let snapshot = Snapshot { images, key };
    let mounted = images.mount(&snapshot.key)?;
    write(mounted.as_fd())?;
    // Unmounted before its folder becomes the layer.
    drop(mounted);
    Ok(images.take_layer(&snapshot.key)?)
}

fn now() -> Entry {
    Entry {
        created: jiff::Timestamp::now().to_string(),
        created_by: String::new(),
        diff_id: None,
        author: None,
    }
}

fn with_layer(created_by: String, layer: &Layer) -> Entry {
    Entry {
        created_by,
        diff_id: (!layer.empty).then(|| layer.diff_id.clone()),
        ..now()
    }
}

fn remote(copy: &Copy) -> Option<&str> {
    copy.sources.iter().find_map(|source| match source {
        Source::Path(path) if copy.is_add => ["http://", "https://", "ftp://", "git@", "git://"]
            .iter()
            .any(|scheme| path.starts_with(scheme))
            .then_some(path.as_str()),
        _ => None,
    })
}

/// A here-document alone is the script; beside a command it goes to the shell as it was written.
fn script(text: &str, heredocs: &[Heredoc]) -> String {
    match heredocs {
        [] => text.to_owned(),
        [only] if text.starts_with("<<") && text.split_whitespace().count() == 1 => {
            only.text.clone()
        }
        several => {
            let mut script = text.to_owned();
            for heredoc in several {
                script.push_str(&format!("\n{}{}", heredoc.text, heredoc.name));
            }
            script
        }
    }
}
