//! The other two threads: one prepares namespaces ahead of need, one removes links. Both take the kernel
//! milliseconds that no request should wait for (removing waits for every reader of the link's structures, some
//! 20 ms, which is why the pool has a thread of its own). Results are left for the first thread to collect.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::endpoint::{self, Port};
use crate::netlink::Socket;
use crate::{Endpoint, Result, namespace, route};

/// A namespace with an endpoint in it that nobody has asked for yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) netns: OwnedFd,
    pub(crate) endpoint: Endpoint,
}

/// What the first thread must hear of.
#[derive(Debug)]
pub(crate) enum Done {
    /// Preparing came to an end, for this incarnation of a bridge.
    Prepared {
        bridge: String,
        incarnation: u64,
        endpoint: Endpoint,
        result: Result<Prepared>,
    },
    /// The endpoint's link is gone and its addresses are free.
    Removed {
        bridge: String,
        incarnation: u64,
        endpoint: Endpoint,
    },
}

/// Results, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Results(Arc<Mutex<Vec<Done>>>);

impl Results {
    fn lock(&self) -> MutexGuard<'_, Vec<Done>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn take(&self) -> Vec<Done> {
        std::mem::take(&mut *self.lock())
    }
}

/// State of either thread.
#[derive(Debug)]
pub(crate) struct Background {
    home: OwnedFd,
    route: Socket,
    results: Results,
}

impl Background {
    pub(crate) fn new(results: Results) -> Result<Background> {
        Ok(Background {
            home: namespace::current()?,
            route: Socket::route()?,
            results,
        })
    }

    pub(crate) fn new_namespace(&mut self) -> Result<OwnedFd> {
        namespace::create(self.home.as_fd())
    }

    pub(crate) fn prepare(
        &mut self,
        bridge: String,
        incarnation: u64,
        port: &Port,
        endpoint: Endpoint,
    ) {
        let result = self.new_namespace().and_then(|netns| {
            endpoint::build(
                self.home.as_fd(),
                &mut self.route,
                netns.as_fd(),
                port,
                &endpoint,
            )?;
            Ok(Prepared {
                netns,
                endpoint: endpoint.clone(),
            })
        });
        self.results.lock().push(Done::Prepared {
            bridge,
            incarnation,
            endpoint,
            result,
        });
    }

    pub(crate) fn remove(&mut self, bridge: String, incarnation: u64, endpoint: Endpoint) {
        // Whether it could be removed or not: the caller has no more use for its addresses, and a link that
        // stayed is found by its mark at the next start.
        if let Err(failure) = route::delete_link(&mut self.route, &endpoint.host_link) {
            tracing::warn!(errno = failure.errno, "{}", failure.operation);
        }
        let mut results = self.results.lock();
        results.push(Done::Removed {
            bridge,
            incarnation,
            endpoint,
        });
    }
}
