//! The store on etcd (v3): writes are transactions there, reads come from a copy in memory that follows etcd's watch.
//!
//! A read asks etcd for its newest revision, which only a member with a quorum knows, and waits until the copy has
//! reached it: what several servers read from one etcd is consistent. The copy follows every key of etcd, those of
//! others too, since each revision then brings an event and no read waits for one that never comes.

mod mirror;
mod rpc;

use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};

use crate::state::State;
use crate::{
    Answer, Entry, Error, Expect, Page, Range, Result, Revision, Seen, Store, Watch, Write,
};
use mirror::Mirror;
use rpc::compare::{CompareResult, CompareTarget, TargetUnion};
use rpc::kv_client::KvClient;
use rpc::request_op::Request;
use rpc::response_op::Response;

/// No call to etcd takes longer, a change of its leader included.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// An answer may be as large as a listing of everything.
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// Keys of one page when the copy is filled.
const PAGE_KEYS: i64 = 2_000;
/// How often etcd is asked to forget what is older than that.
const COMPACT_EVERY: Duration = Duration::from_secs(300);

/// Where an etcd is, and which part of it is ours.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// `http://HOST:PORT` of the members.
    pub endpoints: Vec<String>,
    /// Goes before every key.
    pub prefix: String,
    /// How much history is kept for watchers and for listings of the past.
    pub history: crate::Options,
}

/// A store in an etcd, which several processes may share.
#[derive(Debug)]
pub struct Etcd {
    client: Client,
    state: Arc<RwLock<State>>,
    reached: watch::Receiver<Revision>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// What talks to etcd.
#[derive(Debug, Clone)]
struct Client {
    channel: Channel,
    prefix: Arc<str>,
}

impl Etcd {
    /// Connects and fills the copy. Wants a tokio runtime, on which it stays until it is dropped.
    ///
    /// # Errors
    /// [`Error::Etcd`]: no member answers, or what is there is none of ours.
    pub async fn open(options: EtcdOptions) -> Result<Self> {
        let mut endpoints = Vec::new();
        for text in &options.endpoints {
            let endpoint = Endpoint::from_shared(text.clone()).map_err(|e| Error::Etcd {
                operation: "use the address",
                object: text.clone(),
                why: e.to_string(),
            })?;
            endpoints.push(
                endpoint
                    .connect_timeout(CONNECT_TIMEOUT)
                    .http2_keep_alive_interval(Duration::from_secs(10))
                    .keep_alive_timeout(Duration::from_secs(5))
                    .keep_alive_while_idle(true),
            );
        }
        let client = Client {
            channel: Channel::balance_list(endpoints.into_iter()),
            prefix: options.prefix.as_str().into(),
        };
        let (state, revision) = client.everything().await?;
        let state = Arc::new(RwLock::new(state));
        let (tell, reached) = watch::channel(revision);
        let mirror = Mirror {
            client: client.clone(),
            state: state.clone(),
            reached: tell,
            history: options.history,
        };
        let tasks = vec![
            tokio::spawn(mirror.follow()),
            tokio::spawn(compact_regularly(client.clone(), reached.clone())),
        ];
        Ok(Self {
            client,
            state,
            reached,
            tasks,
        })
    }

    /// Waits until the copy shows what etcd had at this moment.
    async fn catch_up(&self) -> Result<()> {
        let newest = self.client.revision().await?;
        self.wait_for(newest).await
    }

    async fn wait_for(&self, revision: Revision) -> Result<()> {
        let mut reached = self.reached.clone();
        let waiting = reached.wait_for(|reached| *reached >= revision);
        match tokio::time::timeout(CALL_TIMEOUT, waiting).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Closed),
            Err(_) => Err(Error::Etcd {
                operation: "follow",
                object: format!("revision {revision}"),
                why: "etcd does not tell of its changes in time".to_owned(),
            }),
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Store for Etcd {
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Seen> {
        Box::pin(async move {
            let request = rpc::RangeRequest {
                key: self.client.key(key),
                ..Default::default()
            };
            let answer = self.client.range(request).await?;
            Ok(Seen {
                revision: revision_of(answer.header.as_ref()),
                entry: answer
                    .kvs
                    .into_iter()
                    .next()
                    .map(|kv| entry(key.into(), kv)),
            })
        })
    }

    fn list(&self, range: Range) -> Answer<'_, Page> {
        Box::pin(async move {
            match range.at {
                Some(revision) if revision <= *self.reached.borrow() => {}
                _ => self.catch_up().await?,
            }
            read(&self.state).list(&range)
        })
    }

    fn write(&self, write: Write) -> Answer<'_, Revision> {
        Box::pin(async move {
            let revision = self.client.write(write).await?;
            // Who has been told of a write sees it, and so does whoever he tells.
            self.wait_for(revision).await?;
            Ok(revision)
        })
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Revision) -> Answer<'a, Watch> {
        Box::pin(async move {
            if after > *self.reached.borrow() {
                self.catch_up().await?;
            }
            write(&self.state).watch(prefix, after)
        })
    }

    fn request_progress(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            self.catch_up().await?;
            write(&self.state).announce_progress();
            Ok(())
        })
    }

    fn compact(&self, up_to: Revision) -> Answer<'_, ()> {
        Box::pin(async move {
            self.client.compact(up_to).await?;
            self.wait_for(up_to).await?;
            write(&self.state).forget(up_to);
            Ok(())
        })
    }
}

impl Client {
    fn key(&self, key: &str) -> Bytes {
        Bytes::from([self.prefix.as_bytes(), key.as_bytes()].concat())
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    async fn range(&self, request: rpc::RangeRequest) -> Result<rpc::RangeResponse> {
        let object = String::from_utf8_lossy(&request.key).into_owned();
        call("read", &object, self.kv().range(request)).await
    }

    /// The newest revision that a quorum knows.
    async fn revision(&self) -> Result<Revision> {
        let request = rpc::RangeRequest {
            key: Bytes::from_static(b"\0"),
            count_only: true,
            ..Default::default()
        };
        let answer = self.range(request).await?;
        Ok(revision_of(answer.header.as_ref()))
    }

    /// All of our entries at one revision.
    async fn everything(&self) -> Result<(State, Revision)> {
        let mut entries = std::collections::BTreeMap::new();
        let end = after_prefix(self.prefix.as_bytes());
        let (mut start, mut revision) = (self.key(""), 0);
        loop {
            let request = rpc::RangeRequest {
                key: start,
                range_end: end.clone(),
                limit: PAGE_KEYS,
                revision: i64::try_from(revision).unwrap_or(i64::MAX),
                ..Default::default()
            };
            let page = self.range(request).await?;
            if revision == 0 {
                revision = revision_of(page.header.as_ref());
            }
            let last = page.kvs.last().map(|kv| kv.key.clone());
            for kv in page.kvs {
                if let Some(key) = self.own_key(&kv.key) {
                    entries.insert(key.clone(), entry(key, kv));
                }
            }
            match last {
                Some(last) if page.more => start = Bytes::from([&last[..], b"\0"].concat()),
                _ => break,
            }
        }
        let state = State::restore(entries, Vec::new(), revision, revision);
        Ok((state, revision))
    }

    /// A key of etcd without our prefix; nothing for keys of others.
    fn own_key(&self, key: &[u8]) -> Option<Arc<str>> {
        let rest = key.strip_prefix(self.prefix.as_bytes())?;
        std::str::from_utf8(rest).ok().map(Arc::from)
    }

    async fn write(&self, write: Write) -> Result<Revision> {
        let key = self.key(&write.key);
        let (target, union) = match write.expect {
            Expect::Absent => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
            Expect::Revision(revision) => {
                let revision = i64::try_from(revision).unwrap_or(i64::MAX);
                (CompareTarget::Mod, TargetUnion::ModRevision(revision))
            }
        };
        let change = match write.value {
            Some(value) => Request::RequestPut(rpc::PutRequest {
                key: key.clone(),
                value,
            }),
            None => Request::RequestDeleteRange(rpc::DeleteRangeRequest { key: key.clone() }),
        };
        let look = Request::RequestRange(rpc::RangeRequest {
            key: key.clone(),
            ..Default::default()
        });
        let operation = |request| rpc::RequestOp {
            request: Some(request),
        };
        let transaction = rpc::TxnRequest {
            compare: vec![rpc::Compare {
                result: CompareResult::Equal.into(),
                target: target.into(),
                key,
                target_union: Some(union),
            }],
            success: vec![operation(change)],
            failure: vec![operation(look)],
        };
        let answer = call("write", &write.key, self.kv().txn(transaction)).await?;
        if answer.succeeded {
            return Ok(revision_of(answer.header.as_ref()));
        }
        let current = answer
            .responses
            .into_iter()
            .find_map(|op| match op.response {
                Some(Response::ResponseRange(range)) => range.kvs.into_iter().next(),
                _ => None,
            });
        Err(Error::Conflict {
            current: current.map(|kv| entry(write.key.as_str().into(), kv)),
            key: write.key,
        })
    }

    async fn compact(&self, up_to: Revision) -> Result<()> {
        let request = rpc::CompactionRequest {
            revision: i64::try_from(up_to).unwrap_or(i64::MAX),
        };
        let object = format!("revision {up_to}");
        match call("compact", &object, self.kv().compact(request)).await {
            // Somebody else was quicker.
            Err(Error::Etcd { why, .. }) if why.contains("has been compacted") => Ok(()),
            outcome => outcome.map(drop),
        }
    }
}

/// Has etcd forget what nobody needs: each round what was there at the round before.
async fn compact_regularly(client: Client, reached: watch::Receiver<Revision>) {
    let mut old = *reached.borrow();
    loop {
        tokio::time::sleep(COMPACT_EVERY).await;
        if let Err(error) = client.compact(old).await {
            tracing::warn!(%error, "etcd keeps its old revisions for now");
        }
        old = *reached.borrow();
    }
}

async fn call<T>(
    operation: &'static str,
    object: &str,
    answer: impl Future<Output = std::result::Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T> {
    let failed = |why: String| Error::Etcd {
        operation,
        object: object.to_owned(),
        why,
    };
    match tokio::time::timeout(CALL_TIMEOUT, answer).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(failed(format!("{}: {}", status.code(), status.message()))),
        Err(_) => Err(failed(format!("no answer in {} s", CALL_TIMEOUT.as_secs()))),
    }
}

fn entry(key: Arc<str>, kv: rpc::KeyValue) -> Entry {
    Entry {
        key,
        value: kv.value,
        created: positive(kv.create_revision),
        revision: positive(kv.mod_revision),
    }
}

fn revision_of(header: Option<&rpc::ResponseHeader>) -> Revision {
    header.map_or(0, |header| positive(header.revision))
}

fn positive(number: i64) -> Revision {
    u64::try_from(number).unwrap_or(0)
}

/// The first key after all that start with a prefix; `\0` stands for the end of all keys.
fn after_prefix(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Bytes::from(end);
        }
    }
    Bytes::from_static(b"\0")
}

fn read(state: &RwLock<State>) -> RwLockReadGuard<'_, State> {
    state
        .read()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn write(state: &RwLock<State>) -> RwLockWriteGuard<'_, State> {
    state
        .write()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
