//! What is asked over streams, on our engine: further commands, a container's own streams, connections to its ports.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tonic::Status;
use wharf_engine::{AttachOptions, Attached, ExecSpec};

use super::exec::Frames;
use super::{Inner, Local, blocking, failed, io};
use crate::streaming::{Asked, Channel, Runner, Session, Size, Streaming};
use crate::{Answer, v1};

/// A port of the machine's own that nobody answers at takes no longer.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
const BLOCK_BYTES: usize = 16 << 10;

/// Does not keep the runtime alive: it is the runtime that keeps the server of streams.
struct Runs(Weak<Inner>);

impl Runs {
    fn local(&self) -> Result<Local, Status> {
        let inner = self.0.upgrade();
        let inner = inner.ok_or_else(|| Status::unavailable("the runtime is ending"))?;
        Ok(Local { inner })
    }
}

impl Runner for Runs {
    fn exec(&self, request: v1::ExecRequest, session: Session) -> Answer<'_, i32> {
        Box::pin(async move { self.local()?.run_exec(request, session).await })
    }

    fn attach(&self, request: v1::AttachRequest, session: Session) -> Answer<'_, i32> {
        Box::pin(async move { self.local()?.run_attach(request, session).await })
    }

    fn connect(&self, sandbox: String, port: u16) -> Answer<'_, TcpStream> {
        Box::pin(async move { self.local()?.reach(&sandbox, port).await })
    }
}

impl Local {
    pub(super) async fn exec(&self, request: v1::ExecRequest) -> Result<v1::ExecResponse, Status> {
        self.running(&request.container_id)?;
        check(request.stdin, request.stdout, request.stderr, request.tty)?;
        let url = self.streaming().await?.url(Asked::Exec(request))?;
        Ok(v1::ExecResponse { url })
    }

    pub(super) async fn attach(
        &self,
        request: v1::AttachRequest,
    ) -> Result<v1::AttachResponse, Status> {
        self.running(&request.container_id)?;
        check(request.stdin, request.stdout, request.stderr, request.tty)?;
        let url = self.streaming().await?.url(Asked::Attach(request))?;
        Ok(v1::AttachResponse { url })
    }

    pub(super) async fn port_forward(
        &self,
        request: v1::PortForwardRequest,
    ) -> Result<v1::PortForwardResponse, Status> {
        self.find_pod(&request.pod_sandbox_id)?;
        let url = self.streaming().await?.url(Asked::PortForward(request))?;
        Ok(v1::PortForwardResponse { url })
    }

    /// The server of streams, which begins with the first that wants one.
    async fn streaming(&self) -> Result<&Streaming, Status> {
        let start = || Streaming::start(Arc::new(Runs(Arc::downgrade(&self.inner))));
        let started = self.inner.streaming.get_or_try_init(start).await;
        started.map_err(io("start the server of streams"))
    }

    async fn run_exec(&self, request: v1::ExecRequest, session: Session) -> Result<i32, Status> {
        let container = self.running(&request.container_id)?;
        let engine = &self.inner.engine;
        let spec = ExecSpec {
            cmd: request.cmd,
            tty: request.tty,
            attach_stdin: request.stdin,
            attach_stdout: request.stdout,
            attach_stderr: request.stderr,
            ..ExecSpec::default()
        };
        let exec = engine.exec_create(&container, spec).await.map_err(failed)?;
        let attached = engine
            .exec_start(&exec, false, None)
            .await
            .map_err(failed)?;
        let attached = attached.ok_or_else(|| Status::internal("nothing was attached"))?;
        let resize = |size: Size| engine.exec_resize(&exec, size.height, size.width);
        join(attached, session, request.stdin, resize)
            .await
            .map_err(io("carry the command's streams"))?;
        // The output ends after the program.
        let ended = engine.exec_inspect(&exec).map_err(failed)?;
        Ok(ended.exit_code.unwrap_or(-1))
    }

    async fn run_attach(
        &self,
        request: v1::AttachRequest,
        session: Session,
    ) -> Result<i32, Status> {
        let container = self.running(&request.container_id)?;
        let engine = &self.inner.engine;
        let options = AttachOptions {
            logs: false,
            stream: true,
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
        };
        let attached = engine.attach(&container, options).await.map_err(failed)?;
        let resize = |size: Size| engine.resize(&container, size.height, size.width);
        join(attached, session, request.stdin, resize)
            .await
            .map_err(io("carry the container's streams"))?;
        // How the container ended is told by its own status.
        Ok(0)
    }

    /// Connects from within the sandbox, so that what listens on its loopback address alone is reached too.
    async fn reach(&self, sandbox: &str, port: u16) -> Result<TcpStream, Status> {
        let pod = self.find_pod(sandbox)?;
        let network = self.inner.store.folder(&pod.id).join("net");
        let stream = blocking(move || {
            // A thread of its own: it ends in the namespace it enters.
            let thread = std::thread::Builder::new().name("forward".into());
            let thread = thread
                .spawn(move || connect_within(network, port))
                .map_err(io("start a thread"))?;
            thread
                .join()
                .map_err(|_| Status::internal("the thread that connects ended"))?
        })
        .await?;
        stream
            .set_nonblocking(true)
            .map_err(io("prepare a connection"))?;
        TcpStream::from_std(stream).map_err(io("prepare a connection"))
    }
}

/// A sandbox without a namespace of its own has the host's.
fn connect_within(network: PathBuf, port: u16) -> Result<std::net::TcpStream, Status> {
    if network.exists() {
        super::namespaces::enter_network(&network)?;
    }
    let connect = |address: SocketAddr| {
        std::net::TcpStream::connect_timeout(&address, CONNECT_PATIENCE)
            .map_err(|error| (address, error))
    };
    let connected = connect((Ipv4Addr::LOCALHOST, port).into());
    connected
        .or_else(|first| connect((Ipv6Addr::LOCALHOST, port).into()).map_err(|_| first))
        .map_err(|(address, error)| {
            Status::unavailable(format!("connect to {address} inside the pod: {error}"))
        })
}

/// The words of a server of streams for what makes no sense.
fn check(stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Result<(), Status> {
    if tty && stderr {
        return Err(Status::invalid_argument(
            "tty and stderr cannot both be true",
        ));
    }
    if !stdin && !stdout && !stderr {
        return Err(Status::invalid_argument(
            "one of stdin, stdout, or stderr must be set",
        ));
    }
    Ok(())
}

/// Joins both sides until the output ends.
async fn join<F>(
    attached: Attached,
    session: Session,
    has_stdin: bool,
    resize: impl Fn(Size) -> F,
) -> std::io::Result<()>
where
    F: Future<Output = wharf_engine::Result<()>>,
{
    let Attached {
        tty,
        output,
        input: mut typed,
    } = attached;
    let Session {
        mut input,
        mut sizes,
        output: shown,
    } = session;
    let typing = async {
        while let Some(bytes) = input.recv().await {
            if typed.write_all(&bytes).await.is_err() {
                break;
            }
        }
        if has_stdin {
            let _ = typed.shutdown().await;
        }
    };
    let sizing = async {
        while let Some(size) = sizes.recv().await {
            // One that comes too late is none.
            let _ = resize(size).await;
        }
    };
    let both = async {
        tokio::join!(typing, sizing);
        std::future::pending().await
    };
    tokio::select! {
        shown = show(output, tty, &shown) => shown,
        never = both => never,
    }
}

async fn show(
    mut output: wharf_engine::Reader,
    tty: bool,
    to: &mpsc::Sender<(Channel, Bytes)>,
) -> std::io::Result<()> {
    let mut frames = Frames::default();
    let mut block = BytesMut::new();
    loop {
        let (channel, bytes) = if tty {
            block.reserve(BLOCK_BYTES);
            if output.read_buf(&mut block).await? == 0 {
                return Ok(());
            }
            (Channel::Stdout, block.split().freeze())
        } else {
            match frames.next(&mut output).await? {
                None => return Ok(()),
                Some((2, bytes)) => (Channel::Stderr, bytes),
                Some((_, bytes)) => (Channel::Stdout, bytes),
            }
        };
        if to.send((channel, bytes)).await.is_err() {
            // The client is gone.
            return Ok(());
        }
    }
}
