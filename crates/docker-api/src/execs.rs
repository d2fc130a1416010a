//! Further processes in a container.

use axum::http::{Method, StatusCode};
use bytes::Bytes;
use serde_json::json;
use wharf_engine::{Attached, ExecSpec};

use crate::answer::{Outcome, created, empty, json_answer};
use crate::containers::size;
use crate::hijack::{Wish, detach_keys, frame, framed, hijack};
use crate::request::json_body;
use crate::route::{Call, page_not_found};

pub async fn create(call: Call, container: &str) -> Outcome {
    let body = json_body(call.body).await?;
    let list = |key: &str| {
        body[key]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect()
    };
    let flag = |key: &str| body[key].as_bool().unwrap_or(false);
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    let spec = ExecSpec {
        cmd: list("Cmd"),
        env: list("Env"),
        user: text("User"),
        working_dir: text("WorkingDir"),
        tty: flag("Tty"),
        privileged: flag("Privileged"),
        attach_stdin: flag("AttachStdin"),
        attach_stdout: flag("AttachStdout"),
        attach_stderr: flag("AttachStderr"),
        // Go reads names without regard to case, and docker-py counts on it here.
        detach_keys: ["DetachKeys", "detachKeys"]
            .map(text)
            .into_iter()
            .find(|keys| !keys.is_empty()),
        console_size: console_size(&body),
    };
    let id = call.api.engine.exec_create(container, spec).await?;
    Ok(created(&json!({"Id": id})))
}

fn console_size(body: &serde_json::Value) -> Option<(u16, u16)> {
    serde_json::from_value::<(u16, u16)>(body["ConsoleSize"].clone())
        .ok()
        .filter(|(h, w)| *h > 0 && *w > 0)
}

pub async fn route(method: &Method, words: &[&str], call: Call) -> Outcome {
    match (method, words) {
        (&Method::POST, [id, "start"]) => start(call, id).await,
        (&Method::GET, [id, "json"]) => inspect(call, id),
        (&Method::POST, [id, "resize"]) => {
            let (height, width) = size(&call)?;
            call.api.engine.exec_resize(id, height, width).await?;
            Ok(empty(StatusCode::OK))
        }
        _ => Err(page_not_found()),
    }
}

async fn start(mut call: Call, id: &str) -> Outcome {
    let body = json_body(std::mem::take(&mut call.body)).await?;
    let detach = body["Detach"].as_bool().unwrap_or(false);
    let engine = call.api.engine.clone();
    let exec = engine.exec_ready(id)?;
    let size = console_size(&body);
    if detach {
        engine.exec_start(&exec.id, true, size).await?;
        return Ok(empty(StatusCode::OK));
    }
    let has_terminal = exec.spec.tty;
    // Who does not say so here gets frames, whatever was said when the exec was made.
    let tty = has_terminal && body["Tty"].as_bool().unwrap_or(false);
    let wish = Wish {
        tty,
        detach: has_terminal
            .then(|| detach_keys(exec.spec.detach_keys.as_deref().unwrap_or_default()))
            .transpose()?,
    };
    let streams = async move {
        match engine.exec_start(&exec.id, false, size).await {
            Ok(Some(mut attached)) => {
                if has_terminal && !tty {
                    attached.output = framed(attached.output);
                }
                attached
            }
            Ok(None) => last_words("", tty),
            // What can't be run is told where its output would be, and by its exit code.
            Err(error) => last_words(&format!("{}\r\n", error.message), tty),
        }
    };
    Ok(hijack(&mut call, wish, streams))
}

/// A stream with nothing but a message in it.
fn last_words(message: &str, tty: bool) -> Attached {
    let bytes = if tty {
        Bytes::copy_from_slice(message.as_bytes())
    } else {
        frame(1, message.as_bytes())
    };
    Attached {
        tty,
        output: Box::pin(std::io::Cursor::new(bytes)),
        input: Box::pin(tokio::io::sink()),
    }
}

fn inspect(call: Call, id: &str) -> Outcome {
    let exec = call.api.engine.exec_inspect(id)?;
    let (entrypoint, arguments) = exec
        .spec
        .cmd
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    Ok(json_answer(&json!({
        "ID": exec.id, "Running": exec.running, "ExitCode": exec.exit_code, "Pid": exec.pid, "ContainerID": exec.container_id,
        "ProcessConfig": {"tty": exec.spec.tty, "entrypoint": entrypoint, "arguments": arguments, "privileged": exec.spec.privileged, "user": exec.spec.user},
        "OpenStdin": exec.spec.attach_stdin, "OpenStdout": exec.spec.attach_stdout, "OpenStderr": exec.spec.attach_stderr,
        "CanRemove": false, "DetachKeys": exec.spec.detach_keys.unwrap_or_default(),
    })))
}
