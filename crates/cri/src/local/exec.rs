//! Further processes in containers, run to their end.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tonic::Status;
use wharf_engine::ExecSpec;

use super::{Local, failed};
use crate::v1;

/// Output that is kept of one run; the rest is read and dropped, so that the program goes on.
const OUTPUT_BYTES_MAX: usize = 16 << 20;

/// What stands before the data of a frame.
const HEAD_BYTES: usize = 8;

/// The two streams of what ran.
#[derive(Debug, Default)]
struct Output {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Local {
    pub(super) async fn exec_sync(
        &self,
        request: v1::ExecSyncRequest,
    ) -> Result<v1::ExecSyncResponse, Status> {
        let container = self.running(&request.container_id)?;
        let engine = &self.inner.engine;
        let spec = ExecSpec {
            cmd: request.cmd,
            attach_stdout: true,
            attach_stderr: true,
            ..ExecSpec::default()
        };
        let exec = engine.exec_create(&container, spec).await.map_err(failed)?;
        let attached = engine
            .exec_start(&exec, false, None)
            .await
            .map_err(failed)?;
        let attached = attached.ok_or_else(|| Status::internal("nothing was attached"))?;
        let mut output = Output::default();
        let reading = read(attached.output, &mut output);
        let limit = u64::try_from(request.timeout)
            .ok()
            .filter(|limit| *limit > 0);
        let read = match limit {
            None => reading.await,
            Some(limit) => match tokio::time::timeout(Duration::from_secs(limit), reading).await {
                Ok(read) => read,
                Err(_) => {
                    engine.exec_signal(&exec, 9).await.map_err(failed)?;
                    return Err(Status::deadline_exceeded(format!(
                        "command did not end within {limit} s"
                    )));
                }
            },
        };
        read.map_err(super::io("read the command's output"))?;
        // The output ends after the program.
        let ended = engine.exec_inspect(&exec).map_err(failed)?;
        let exit_code = ended.exit_code.unwrap_or(-1);
        Ok(v1::ExecSyncResponse {
            stdout: output.stdout,
            stderr: output.stderr,
            exit_code,
        })
    }

    /// The ID of a container that runs.
    pub(super) fn running(&self, id: &str) -> Result<String, Status> {
        let container = self.find_container(id)?;
        match super::container_status::state(&container) {
            v1::ContainerState::ContainerRunning => Ok(container.id),
            other => Err(Status::failed_precondition(format!(
                "container {} is in state {}",
                container.id,
                other.as_str_name()
            ))),
        }
    }
}

/// Takes the engine's frames apart: one byte of stream, three of nothing, four of length.
#[derive(Debug, Default)]
pub(super) struct Frames {
    buffer: BytesMut,
}

impl Frames {
    /// The next frame's stream (1: output, 2: errors) and data; none at the end.
    pub async fn next(
        &mut self,
        from: &mut wharf_engine::Reader,
    ) -> std::io::Result<Option<(u8, Bytes)>> {
        loop {
            if let Some(length) = length(&self.buffer) {
                let stream = self.buffer[0];
                self.buffer.advance(HEAD_BYTES);
                return Ok(Some((stream, self.buffer.split_to(length).freeze())));
            }
            if from.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// The length of the frame that the buffer begins with, if all of it is there.
fn length(buffer: &[u8]) -> Option<usize> {
    let length = buffer.get(4..HEAD_BYTES)?.try_into().ok();
    let length = usize::try_from(length.map(u32::from_be_bytes)?).ok()?;
    (buffer.len() >= HEAD_BYTES + length).then_some(length)
}

async fn read(mut from: wharf_engine::Reader, into: &mut Output) -> std::io::Result<()> {
    let mut frames = Frames::default();
    while let Some((stream, bytes)) = frames.next(&mut from).await? {
        let stream = match stream {
            2 => &mut into.stderr,
            _ => &mut into.stdout,
        };
        let room = OUTPUT_BYTES_MAX.saturating_sub(stream.len());
        stream.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
    Ok(())
}
