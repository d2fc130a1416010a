//! The copy in memory follows etcd: every change in the order of revisions, each once, through broken connections too.

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::rpc::event::EventType;
use super::rpc::watch_client::WatchClient;
use super::rpc::watch_request::RequestUnion;
use super::{ANSWER_BYTES_MAX, Client, entry, positive, read, rpc, write};
use crate::state::{Keep, State};
use crate::{Change, Revision};

/// Between attempts to reach an etcd that is away.
const RETRY: Duration = Duration::from_millis(200);

pub(super) struct Mirror {
    pub client: Client,
    pub state: Arc<RwLock<State>>,
    pub reached: watch::Sender<Revision>,
    pub history: crate::Options,
}

/// Why a stream of changes ended.
enum End {
    /// The connection broke: the next one goes on where this one ended.
    Broken(String),
    /// The changes that come next were compacted.
    Compacted,
}

impl Mirror {
    /// Follows for ever.
    pub async fn follow(self) {
        loop {
            match self.stream().await {
                End::Broken(why) => {
                    tracing::warn!(why, "the stream of etcd's changes broke off, it is resumed");
                }
                End::Compacted => self.start_over().await,
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Fills the copy anew. Watchers have missed changes: their streams end, and they list again.
    async fn start_over(&self) {
        match self.client.everything().await {
            Ok((state, revision)) => {
                *write(&self.state) = state;
                self.reached.send_replace(revision);
            }
            Err(error) => tracing::warn!(%error, "etcd can't be read from the start yet"),
        }
    }

    async fn stream(&self) -> End {
        let next = *self.reached.borrow() + 1;
        let every_key = Bytes::from_static(b"\0");
        let create = rpc::WatchCreateRequest {
            key: every_key.clone(),
            range_end: every_key,
            start_revision: i64::try_from(next).unwrap_or(i64::MAX),
        };
        // The stream of requests stays open as long as its sender.
        let (requests, waiting) = mpsc::channel(1);
        let request = rpc::WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        if requests.send(request).await.is_err() {
            return End::Broken("the request could not be sent".to_owned());
        }
        let mut client = WatchClient::new(self.client.channel.clone())
            .max_decoding_message_size(ANSWER_BYTES_MAX);
        let mut answers = match client.watch(ReceiverStream::new(waiting)).await {
            Ok(answers) => answers.into_inner(),
            Err(status) => return End::Broken(status.to_string()),
        };
        loop {
            match answers.message().await {
                Ok(Some(answer)) if answer.compact_revision != 0 => return End::Compacted,
                Ok(Some(answer)) if answer.canceled => return End::Broken(answer.cancel_reason),
                Ok(Some(answer)) => self.take(answer.events),
                Ok(None) => return End::Broken("etcd ended it".to_owned()),
                Err(status) => return End::Broken(status.to_string()),
            }
        }
    }

    fn take(&self, events: Vec<rpc::Event>) {
        let Some(last) = events.iter().rev().find_map(|event| event.kv.as_ref()) else {
            return;
        };
        let last = positive(last.mod_revision);
        {
            let mut state = write(&self.state);
            for event in events {
                if let Some(change) = self.change(&state, event) {
                    state.publish(Arc::new(change));
                }
            }
            state.advance(last);
            let keep = Keep {
                changes_max: self.history.history_changes_max,
                bytes_max: self.history.history_bytes_max,
            };
            let oldest = Instant::now().checked_sub(self.history.history_age_max);
            let floor = state.excess(keep, oldest);
            state.forget(floor);
        }
        self.reached.send_replace(last);
        debug_assert!(read(&self.state).revision() >= last);
    }

    /// What an event changes in the copy; nothing for keys of others.
    fn change(&self, state: &State, event: rpc::Event) -> Option<Change> {
        let is_delete = event.r#type() == EventType::Delete;
        let kv = event.kv?;
        let key = self.client.own_key(&kv.key)?;
        Some(Change {
            revision: positive(kv.mod_revision),
            before: state.get(&key).cloned(),
            now: (!is_delete).then(|| entry(key.clone(), kv)),
            key,
        })
    }
}
