//! The gRPC server: both services on one unix socket.

use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{UnixListener, UnixStream};
use tonic::{Request, Response, Status};
use tower::ServiceExt;

use crate::rpcs::with_rpcs;
use crate::v1::image_service_server::{ImageService, ImageServiceServer};
use crate::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use crate::{Answers, Cri, v1};

/// Requests carry a pod's annotations and a container's environment, no more.
const REQUEST_BYTES_MAX: usize = 16 << 20;

/// Serves until the future is dropped or the socket fails. Who may connect is decided by the socket's mode.
pub async fn serve(cri: Arc<dyn Cri>, listener: UnixListener) -> std::io::Result<()> {
    let server = Server(cri);
    let runtime =
        RuntimeServiceServer::new(server.clone()).max_decoding_message_size(REQUEST_BYTES_MAX);
    let image = ImageServiceServer::new(server).max_decoding_message_size(REQUEST_BYTES_MAX);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                connections.spawn(connection(stream, runtime.clone(), image.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One client, until it hangs up.
async fn connection(
    stream: UnixStream,
    runtime: RuntimeServiceServer<Server>,
    image: ImageServiceServer<Server>,
) {
    let service =
        hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let (runtime, image) = (runtime.clone(), image.clone());
            async move {
                match request
                    .uri()
                    .path()
                    .starts_with("/runtime.v1.ImageService/")
                {
                    true => image.oneshot(request).await,
                    // Answers UNIMPLEMENTED for whatever it does not know.
                    false => runtime.oneshot(request).await,
                }
            }
        });
    let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a CRI client's connection ended");
    }
}

/// What gRPC calls end in.
#[derive(Clone)]
struct Server(Arc<dyn Cri>);

macro_rules! implement {
    (runtime { $($rkind:ident $rname:ident ($rask:ident) -> $rgive:ident;)* }
     image { $($ikind:ident $iname:ident ($iask:ident) -> $igive:ident;)* }) => {
        #[tonic::async_trait]
        impl RuntimeService for Server {
            type StreamPodSandboxesStream = Answers<v1::StreamPodSandboxesResponse>;
            type StreamContainersStream = Answers<v1::StreamContainersResponse>;
            type StreamContainerStatsStream = Answers<v1::StreamContainerStatsResponse>;
            type StreamPodSandboxStatsStream = Answers<v1::StreamPodSandboxStatsResponse>;
            type GetContainerEventsStream = Answers<v1::ContainerEventResponse>;
            type StreamPodSandboxMetricsStream = Answers<v1::StreamPodSandboxMetricsResponse>;
            $(
                async fn $rname(
                    &self,
                    request: Request<v1::$rask>,
                ) -> Result<Response<implement!(@$rkind $rgive)>, Status> {
                    self.0.$rname(request.into_inner()).await.map(Response::new)
                }
            )*
        }
        #[tonic::async_trait]
        impl ImageService for Server {
            type StreamImagesStream = Answers<v1::StreamImagesResponse>;
            $(
                async fn $iname(
                    &self,
                    request: Request<v1::$iask>,
                ) -> Result<Response<implement!(@$ikind $igive)>, Status> {
                    self.0.$iname(request.into_inner()).await.map(Response::new)
                }
            )*
        }
    };
    (@unary $give:ident) => { v1::$give };
    (@stream $give:ident) => { Answers<v1::$give> };
}

with_rpcs!(implement);
