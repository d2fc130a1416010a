//! Namespaces prepared ahead of need: made in the background with veth pair, address and routes in place, so
//! that handing one out costs no system call. A bridge has some from its first use until it goes.

use std::os::fd::OwnedFd;

use crate::background::Prepared;
use crate::state::State;
use crate::{Endpoint, EndpointRequest, Result, namespace};
use std::os::fd::AsFd;

/// Namespaces kept ready for a bridge. Each costs the kernel some hundred kilobytes.
const READY: usize = 2;
/// The interface that prepared namespaces have.
const INTERFACE: &str = "eth0";

/// Whether what is prepared is what is asked for.
fn is_usual(request: &EndpointRequest) -> bool {
    request.interface == INTERFACE
        && request.default_route
        && request.ipv4.is_none()
        && request.ipv6.is_none()
        && request.mac.is_none()
}

impl State {
    /// Hands out a prepared namespace, or makes one.
    pub(crate) fn new_namespace_attached(
        &mut self,
        bridge: &str,
        request: &EndpointRequest,
    ) -> Result<(OwnedFd, Endpoint)> {
        self.collect();
        if is_usual(request)
            && let Some(Prepared { netns, endpoint }) = self.bridge(bridge)?.ready.pop_front()
        {
            self.claim_link(&endpoint.host_link);
            self.refill(bridge)?;
            return Ok((netns, endpoint));
        }
        let netns = namespace::create(self.home.as_fd())?;
        let endpoint = self.attach(bridge, netns.as_fd(), request)?;
        self.refill(bridge)?;
        Ok((netns, endpoint))
    }

    /// Has the pool filled in the background.
    pub(crate) fn refill(&mut self, name: &str) -> Result<()> {
        let request = EndpointRequest {
            interface: INTERFACE.to_owned(),
            default_route: true,
            ..EndpointRequest::default()
        };
        let ahead = self.ahead.clone();
        let bridge = self.bridge(name)?;
        while bridge.ready.len() + bridge.preparing.len() < READY {
            // With the last addresses taken there is nothing to prepare; that is no failure of this request.
            let Ok(endpoint) = bridge.reserve(&request) else {
                return Ok(());
            };
            bridge.preparing.push(endpoint.clone());
            let (port, name, incarnation) =
                (bridge.port.clone(), name.to_owned(), bridge.incarnation);
            ahead.post(move |ahead| ahead.prepare(name, incarnation, &port, endpoint))?;
        }
        Ok(())
    }
}
