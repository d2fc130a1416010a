//! The Container Runtime Interface, version 1: its messages, its calls as a trait, a client for other runtimes, a gRPC
//! server, and pods as sandboxes on our own engine. Does not know Kubernetes' objects.
#![forbid(unsafe_code)]

pub mod local;
mod remote;
mod rpcs;
mod serve;
mod streaming;
pub mod v1;

use std::pin::Pin;

use futures_util::Stream;
use tonic::Status;

pub use local::{Local, Pods};
pub use remote::Remote;
pub use serve::serve;

/// What a call gives: an answer or a status.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Status>> + Send + 'a>>;

/// What a streaming call gives, until it ends.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What is said of a call that a runtime does not have.
fn unimplemented<'a, T: Send + 'a>(call: &'static str) -> Answer<'a, T> {
    Box::pin(async move { Err(Status::unimplemented(format!("this runtime has no {call}"))) })
}

macro_rules! define_trait {
    (runtime { $($rkind:ident $rname:ident ($rask:ident) -> $rgive:ident;)* }
     image { $($ikind:ident $iname:ident ($iask:ident) -> $igive:ident;)* }) => {
        /// Every call of both services. What an implementation leaves out answers `UNIMPLEMENTED`.
        #[allow(missing_docs)]
        pub trait Cri: Send + Sync + 'static {
            $(define_trait!(@$rkind $rname $rask $rgive);)*
            $(define_trait!(@$ikind $iname $iask $igive);)*
        }
    };
    (@unary $name:ident $ask:ident $give:ident) => {
        fn $name(&self, request: v1::$ask) -> Answer<'_, v1::$give> {
            let _ = request;
            unimplemented(stringify!($name))
        }
    };
    (@stream $name:ident $ask:ident $give:ident) => {
        fn $name(&self, request: v1::$ask) -> Answer<'_, Answers<v1::$give>> {
            let _ = request;
            unimplemented(stringify!($name))
        }
    };
}

rpcs::with_rpcs!(define_trait);
