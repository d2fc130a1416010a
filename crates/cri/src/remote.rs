//! A runtime behind a unix socket: containerd, CRI-O, or ours in another process.

use std::path::PathBuf;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::rpcs::with_rpcs;
use crate::v1::image_service_client::ImageServiceClient;
use crate::v1::runtime_service_client::RuntimeServiceClient;
use crate::{Answer, Answers, Cri, v1};

/// A listing of everything must fit, as other clients of the interface hold it.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Why a runtime's socket can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Only unix sockets are spoken to.
    #[error(
        "{0:?} is not the address of a unix socket such as unix:///run/containerd/containerd.sock"
    )]
    Address(String),
    /// The client could not be set up.
    #[error("set up a gRPC client for {endpoint}")]
    Client {
        /// The socket's address.
        endpoint: String,
        /// Why.
        source: tonic::transport::Error,
    },
}

/// Speaks to a runtime over gRPC. Connects with the first call, and again after the runtime was restarted.
#[derive(Debug, Clone)]
pub struct Remote {
    runtime: RuntimeServiceClient<Channel>,
    image: ImageServiceClient<Channel>,
}

impl Remote {
    /// A client for `unix:///path` (or the bare path). Must be called within an async runtime.
    pub fn new(endpoint: &str) -> Result<Remote, ConnectError> {
        let path = match endpoint.strip_prefix("unix://") {
            Some(path) => path,
            None => endpoint,
        };
        if !path.starts_with('/') {
            return Err(ConnectError::Address(endpoint.to_owned()));
        }
        let path = PathBuf::from(path);
        // The authority is never resolved; runtimes expect this one.
        let channel = Endpoint::from_shared("http://localhost")
            .map_err(|source| ConnectError::Client {
                endpoint: endpoint.to_owned(),
                source,
            })?
            .connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }));
        Ok(Remote {
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
            image: ImageServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX),
        })
    }
}

/// The items of a stream, without gRPC's type around them.
fn boxed<T: Send + 'static>(answer: tonic::Response<tonic::Streaming<T>>) -> Answers<T> {
    Box::pin(answer.into_inner())
}

macro_rules! implement {
    (runtime { $($rkind:ident $rname:ident ($rask:ident) -> $rgive:ident;)* }
     image { $($ikind:ident $iname:ident ($iask:ident) -> $igive:ident;)* }) => {
        impl Cri for Remote {
            $(implement!(@$rkind runtime $rname $rask $rgive);)*
            $(implement!(@$ikind image $iname $iask $igive);)*
        }
    };
    (@unary $service:ident $name:ident $ask:ident $give:ident) => {
        fn $name(&self, request: v1::$ask) -> Answer<'_, v1::$give> {
            let mut client = self.$service.clone();
            Box::pin(async move {
                let answer: Result<_, Status> = client.$name(request).await;
                answer.map(tonic::Response::into_inner)
            })
        }
    };
    (@stream $service:ident $name:ident $ask:ident $give:ident) => {
        fn $name(&self, request: v1::$ask) -> Answer<'_, Answers<v1::$give>> {
            let mut client = self.$service.clone();
            Box::pin(async move { client.$name(request).await.map(boxed) })
        }
    };
}

with_rpcs!(implement);
