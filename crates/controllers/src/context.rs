//! What every controller has: the caches, the way to write, the recorder of events.

use std::sync::Arc;

use jiff::Timestamp;
use wharf_client::Api;

use crate::Options;
use crate::events::{Recorder, Source};
use crate::expectations::Expectations;
use crate::informers::Informers;
use crate::work::Task;
use crate::writes::Writes;

/// Shared by all controllers.
pub(crate) struct Context {
    /// The server.
    pub(crate) writes: Writes,
    /// The caches; each resource is watched once.
    pub(crate) informers: Informers,
    /// Pods that were written and are not seen yet.
    pub(crate) expectations: Arc<Expectations>,
    /// As the caller wants it.
    pub(crate) options: Options,
    events: Source,
}

impl Context {
    /// Starts the informers. The task writes events and must be run.
    pub(crate) fn new(api: Arc<dyn Api>, options: Options) -> (Arc<Context>, Task) {
        let informers = Informers::start(&api);
        let expectations = Arc::new(Expectations::new(&informers));
        let (events, task) = crate::events::channel(Writes::new(api.clone()));
        let context = Context {
            writes: Writes::new(api),
            informers,
            expectations,
            options,
            events,
        };
        (Arc::new(context), task)
    }

    /// Records events in the name of a component, as `replicaset-controller`.
    pub(crate) fn recorder(&self, component: &'static str) -> Recorder {
        self.events.recorder(component)
    }

    /// The time, exactly.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// The time as objects have it: in whole seconds.
    pub(crate) fn now_seconds(&self) -> Timestamp {
        let now = self.now();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }
}
