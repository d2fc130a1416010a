//! A build from request to named image.

use std::sync::Arc;

use crate::args::Args;
use crate::console::Console;
use crate::pattern::Ignore;
use crate::step::{Build, State};
use crate::tree::Tree;
use crate::{BuildEvent, BuildRequest, Builder, Error, EventSink, blocking, plan, short, solve};

/// Larger `.dockerignore` files and Dockerfiles are refused.
const TEXT_BYTES_MAX: u64 = 4 << 20;

impl Builder {
    /// Runs a build to its end; dropping the future cancels it and removes what it began. Returns the image's ID.
    pub async fn build(&self, request: BuildRequest, events: EventSink) -> Result<String, Error> {
        let tags = names(&request)?;
        let request = Arc::new(request);
        let (builder, asked) = (self.clone(), request.clone());
        let build = blocking(move || builder.prepare(asked)).await?;
        let state = solve_steps(&build, &events).await?;
        let Some(image) = state.image.clone() else {
            return Err(Error::Invalid(
                "No image was generated. Is your Dockerfile empty?".to_owned(),
            ));
        };
        let id = if request.squash {
            let images = self.images.clone();
            let base = state.base_layers;
            blocking(move || crate::squash::squash(&images, &image, base)).await?
        } else {
            image.id
        };
        let say = |text: String| events(BuildEvent::Output(text.into()));
        let unused = build.plan.args.unused();
        if !unused.is_empty() {
            say(format!(
                "[Warning] One or more build-args [{}] were not consumed\n",
                unused.join(" ")
            ));
        }
        events(BuildEvent::Built(id.clone()));
        say(format!("Successfully built {}\n", short(&id)));
        for tag in tags {
            let (images, source, name) = (self.images.clone(), id.clone(), tag.clone());
            blocking(move || Ok(images.tag(&source, &name)?)).await?;
            say(format!("Successfully tagged {tag}\n"));
        }
        Ok(id)
    }

    /// Reads what the client sent. Blocks.
    fn prepare(&self, request: Arc<BuildRequest>) -> Result<Build, Error> {
        let bare = Tree::context(&request.context, Ignore::default())?;
        let file = match request.dockerfile.as_str() {
            "" => "Dockerfile".to_owned(),
            file => file.to_owned(),
        };
        let text = match &request.dockerfile_text {
            Some(text) => text.clone(),
            None => bare.read_text(&file, TEXT_BYTES_MAX)?.ok_or_else(|| {
                Error::Invalid(format!("Cannot locate specified Dockerfile: {file}"))
            })?,
        };
        let ignore = bare
            .read_text(".dockerignore", TEXT_BYTES_MAX)?
            .unwrap_or_default();
        let ignore = Ignore::parse(&ignore)
            .map_err(|e| Error::Invalid(format!("error reading .dockerignore: {e}")))?;
        let args = Args::new(request.build_args.clone());
        let plan = plan::make(
            &text,
            &file,
            args,
            request.target.as_deref(),
            &request.labels,
        )?;
        Ok(Build {
            images: self.images.clone(),
            cache: self.cache.clone(),
            runner: self.runner.clone(),
            context: Arc::new(Tree::context(&request.context, ignore)?),
            request,
            plan,
            file,
        })
    }
}

/// Names for the result, in full; a malformed one fails the build before it begins.
fn names(request: &BuildRequest) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = Vec::new();
    for tag in request.tags.iter().filter(|tag| !tag.is_empty()) {
        let reference = wharf_image::Reference::parse(tag)?;
        if reference.digest.is_some() {
            return Err(Error::Invalid(
                "build tag cannot contain a digest".to_owned(),
            ));
        }
        let name = reference.or_latest().familiar();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

async fn solve_steps(build: &Build, events: &EventSink) -> Result<Arc<State>, Error> {
    let plan = &build.plan;
    let needs: Vec<Vec<usize>> = plan.steps.iter().map(|step| step.needs.clone()).collect();
    let order = solve::needed(&needs, plan.target);
    let (globals, total) = (plan.globals.len(), plan.globals.len() + order.len());
    let console = Console::new(events.clone(), total);
    for (lane, line) in plan.globals.iter().enumerate() {
        let voice = console.voice(lane);
        voice.line(format_args!(
            "Step {}/{total} : {}",
            lane + 1,
            line.original
        ));
        voice.finish();
    }
    let run = |step: usize, inputs| {
        // The order has every step that the solver runs.
        let lane = globals + order.binary_search(&step).unwrap_or_default();
        let voice = console.voice(lane);
        async move {
            let original = &plan.steps[step].line.original;
            voice.line(format_args!("Step {}/{total} : {original}", lane + 1));
            let state = build.execute(step, inputs, &voice).await?;
            voice.finish();
            Ok(state)
        }
    };
    solve::solve(&needs, plan.target, run).await
}
