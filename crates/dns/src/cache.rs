//! Upstream's answers, remembered for as long as they say, and no longer than a fixed time.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use tokio::time::Instant;

/// Most answers remembered.
const ANSWERS_MAX: usize = 8192;
/// Most bytes of answers remembered.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest time that an answer is remembered.
const POSITIVE_MAX: Duration = Duration::from_secs(300);
/// Longest time that "there is none" is remembered.
const NEGATIVE_MAX: Duration = Duration::from_secs(30);

/// What an answer depends on: the question, and what else the client said.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey {
    name: String,
    kind: u16,
    class: u16,
    /// Recursion desired, checking disabled, EDNS there, DNSSEC wanted.
    flags: [bool; 4],
}

impl CacheKey {
    /// Of a message with one question at least; `name` is that of the first.
    pub(crate) fn of(message: &Message, name: &str) -> CacheKey {
        let query = message.queries.first();
        let edns = message.edns.as_ref();
        CacheKey {
            name: name.to_owned(),
            kind: query.map_or(0, |query| query.query_type().into()),
            class: query.map_or(0, |query| query.query_class().into()),
            flags: [
                message.metadata.recursion_desired,
                message.metadata.checking_disabled,
                edns.is_some(),
                edns.is_some_and(|edns| edns.flags().dnssec_ok),
            ],
        }
    }
}

struct Remembered {
    reply: Vec<u8>,
    since: Instant,
    until: Instant,
}

#[derive(Default)]
struct Inner {
    answers: HashMap<CacheKey, Remembered>,
    /// In the order in which they came.
    order: VecDeque<(CacheKey, Instant)>,
    bytes: usize,
}

/// Shared by all questions of a server.
#[derive(Default)]
pub(crate) struct Cache(Mutex<Inner>);

impl Cache {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer, as old as it is by now, with this question's ID and spelling.
    pub(crate) fn get(&self, key: &CacheKey, question: &[u8]) -> Option<Message> {
        let now = Instant::now();
        let (reply, age) = {
            let inner = self.lock();
            let known = inner.answers.get(key).filter(|known| now < known.until)?;
            (known.reply.clone(), now - known.since)
        };
        let (mut reply, asked) = (
            Message::from_vec(&reply).ok()?,
            Message::from_vec(question).ok()?,
        );
        let age_s = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        for record in reply.answers.iter_mut().chain(&mut reply.authorities) {
            record.ttl = record.ttl.saturating_sub(age_s);
        }
        for record in &mut reply.additionals {
            // There the field means something else.
            if record.record_type() != RecordType::OPT {
                record.ttl = record.ttl.saturating_sub(age_s);
            }
        }
        reply.metadata.id = asked.metadata.id;
        reply.queries = asked.queries;
        Some(reply)
    }

    /// Remembers an answer that may be.
    pub(crate) fn put(&self, key: &CacheKey, reply: &[u8]) {
        let Some(lasts) = Message::from_vec(reply).ok().and_then(|m| lifetime(&m)) else {
            return;
        };
        let now = Instant::now();
        let known = Remembered {
            reply: reply.to_vec(),
            since: now,
            until: now + lasts,
        };
        let mut inner = self.lock();
        inner.bytes += known.reply.len();
        if let Some(old) = inner.answers.insert(key.clone(), known) {
            inner.bytes -= old.reply.len();
        }
        inner.order.push_back((key.clone(), now));
        inner.shrink();
    }
}

impl Inner {
    /// Forgets the oldest until what is left fits.
    fn shrink(&mut self) {
        while self.answers.len() > ANSWERS_MAX
            || self.bytes > BYTES_MAX
            || self.order.len() > 2 * ANSWERS_MAX
        {
            let Some((key, since)) = self.order.pop_front() else {
                return;
            };
            // One that was renewed has a later place.
            if self.answers.get(&key).is_some_and(|one| one.since == since)
                && let Some(old) = self.answers.remove(&key)
            {
                self.bytes -= old.reply.len();
            }
        }
    }
}

/// How long an answer holds; `None` for one that must not be remembered.
fn lifetime(reply: &Message) -> Option<Duration> {
    if reply.metadata.truncation {
        return None;
    }
    let seconds = |ttl: u32| Duration::from_secs(ttl.into());
    let code = reply.metadata.response_code;
    let lasts = if code == ResponseCode::NoError && !reply.answers.is_empty() {
        let ttl = reply.answers.iter().map(|record| record.ttl).min()?;
        seconds(ttl).min(POSITIVE_MAX)
    } else if matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        // RFC 2308, section 5: without the zone's authority nobody says for how long.
        let ttl = reply
            .authorities
            .iter()
            .find_map(|record| match &record.data {
                RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
                _ => None,
            })?;
        seconds(ttl).min(NEGATIVE_MAX)
    } else {
        return None;
    };
    (!lasts.is_zero()).then_some(lasts)
}
