//! The watch cache of one resource: its objects in the order of their keys, and a ring of what happened last.
//!
//! Watchers have no queue of their own: each has a place in the ring and is woken when the ring grows. One whose place
//! has been overwritten has fallen behind and is told so; memory does not grow with slow watchers.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use tokio::sync::watch;
use wharf_kube_types::Resource;
use wharf_store::Revision;

use crate::object::{Object, Selection};

/// Events that the ring of one resource holds.
const RING_EVENTS_MAX: usize = 8192;
/// Bytes that they hold, whatever the objects' sizes are.
const RING_BYTES_MAX: usize = 32 << 20;

/// Something that happened to an object.
#[derive(Debug)]
pub struct Event {
    /// The revision of the write.
    pub revision: Revision,
    /// The object after it; nothing when it was deleted.
    pub now: Option<Arc<Object>>,
    /// The object before it; nothing when it was made.
    pub before: Option<Arc<Object>>,
    /// The deleted object's last state at the revision of its deletion.
    pub last: Option<Arc<Object>>,
    line: OnceLock<Bytes>,
}

/// What a watcher with a selection sees of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// It came into the selection.
    Added,
    /// It changed within the selection.
    Modified,
    /// It left the selection.
    Deleted,
}

impl Sort {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

impl Event {
    /// A new event.
    pub fn new(
        revision: Revision,
        now: Option<Arc<Object>>,
        before: Option<Arc<Object>>,
        last: Option<Arc<Object>>,
    ) -> Self {
        Self {
            revision,
            now,
            before,
            last,
            line: OnceLock::new(),
        }
    }

    /// Bytes that it holds at most: the object, and the line made of it.
    fn size(&self) -> usize {
        let of = |object: &Option<Arc<Object>>| object.as_ref().map_or(0, |o| o.record.size());
        of(&self.now).max(of(&self.last)) * 2 + of(&self.before)
    }

    /// Key of the object.
    pub fn key(&self) -> &str {
        let any = self.now.as_ref().or(self.before.as_ref());
        any.map_or("", |object| &object.key)
    }

    /// What a watcher of a selection sees, and which state of the object.
    pub fn seen(&self, selection: &Selection, fields: &[String]) -> Option<(Sort, &Arc<Object>)> {
        let within = |object: &Option<Arc<Object>>| {
            object.as_ref().is_some_and(|object| {
                selection.is_everything() || selection.matches(object, fields)
            })
        };
        match (within(&self.before), within(&self.now)) {
            (false, true) => Some((Sort::Added, self.now.as_ref()?)),
            (true, true) => Some((Sort::Modified, self.now.as_ref()?)),
            (true, false) => Some((Sort::Deleted, self.last.as_ref()?)),
            (false, false) => None,
        }
    }

    /// The line of a watch in JSON for one who selects everything: built once for all.
    pub fn line(&self, sort: Sort, object: &Object) -> Bytes {
        let build = || line(sort.word(), object);
        let natural = match (&self.before, &self.now) {
            (None, _) => Sort::Added,
            (_, Some(_)) => Sort::Modified,
            (_, None) => Sort::Deleted,
        };
        if sort == natural {
            self.line.get_or_init(build).clone()
        } else {
            build()
        }
    }
}

/// A line of a watch in JSON.
pub fn line(word: &str, object: &Object) -> Bytes {
    let mut out = Vec::with_capacity(object.record.size() + 32);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(word.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    object.record.write(&mut out);
    out.extend_from_slice(b"}\n");
    out.into()
}

/// A part of the objects.
#[derive(Debug)]
pub struct Listing {
    /// The revision that it shows.
    pub revision: Revision,
    /// The objects in the order of their keys.
    pub objects: Vec<Arc<Object>>,
    /// Objects of the range after these, selected or not.
    pub remaining: usize,
}

/// Why a watcher gets nothing any more: its place is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The revision that it stood at.
    pub asked: Revision,
    /// The oldest revision to watch from.
    pub oldest: Revision,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<Arc<str>, Arc<Object>>,
    ring: VecDeque<Arc<Event>>,
    ring_bytes: usize,
    /// Number of the ring's first event since the start.
    first: u64,
    /// Events after this revision are in the ring.
    floor: Revision,
    newest: Revision,
    resource: Option<Arc<Resource>>,
    fields: Arc<[String]>,
}

/// A whole list as bytes, kept while the same one is asked for again and again.
#[derive(Debug, Default)]
struct Whole {
    prefix: String,
    revision: Revision,
    bytes: Option<Bytes>,
}

/// The objects and recent events of one resource.
#[derive(Debug)]
pub struct Cache {
    inner: RwLock<Inner>,
    whole: Mutex<Whole>,
    wake: watch::Sender<u64>,
}

/// A watcher's place in the ring.
#[derive(Debug)]
pub struct Cursor {
    next: u64,
    wake: watch::Receiver<u64>,
    /// Where the watcher began; may be in the future.
    after: Revision,
    at: Revision,
}

impl Cache {
    fn new(floor: Revision) -> Self {
        let inner = Inner {
            floor,
            ..Inner::default()
        };
        Self {
            inner: RwLock::new(inner),
            whole: Mutex::default(),
            wake: watch::Sender::new(0),
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says which resource this is; objects are read again if selectors may name other fields of them than before.
    pub fn describe(&self, resource: Arc<Resource>) {
        let all = wharf_kube_types::selector::supported_fields(&resource);
        let own = |field: &String| field != "metadata.name" && field != "metadata.namespace";
        let fields: Arc<[String]> = all.into_iter().filter(own).collect();
        let mut inner = self.write();
        let changed = inner.fields != fields;
        inner.resource = Some(resource);
        inner.fields = fields;
        if changed {
            let inner = &mut *inner;
            for object in inner.objects.values_mut() {
                let (key, record) = (object.key.clone(), object.record.clone());
                let resource = inner.resource.as_deref();
                *object = Arc::new(Object::read(key, record, resource, &inner.fields));
            }
        }
    }

    /// Names of the extra fields that selectors may name.
    pub fn fields(&self) -> Arc<[String]> {
        self.read().fields.clone()
    }

    /// How many objects there are.
    pub fn count(&self) -> usize {
        self.read().objects.len()
    }

    /// Revision of the newest change.
    pub fn newest(&self) -> Revision {
        self.read().newest
    }

    /// The object of a key.
    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.read().objects.get(key).cloned()
    }

    /// All objects under a prefix of the key.
    pub fn all(&self, prefix: &str) -> Vec<Arc<Object>> {
        let inner = self.read();
        let range = (Bound::Included(prefix), Bound::Unbounded);
        let objects = inner.objects.range::<str, _>(range);
        objects
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// All objects, and the revision to follow from.
    pub fn snapshot(&self) -> (Revision, Vec<Arc<Object>>) {
        let inner = self.read();
        let objects = inner.objects.values().cloned().collect();
        (inner.newest.max(inner.floor), objects)
    }

    /// Selected objects under a prefix, after a key, at most `limit` (0 for all), and the revision they show;
    /// `applied` reads the revision that all caches show.
    pub fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        selection: &Selection,
        applied: impl Fn() -> Revision,
    ) -> Listing {
        let inner = self.read();
        let from = match after {
            Some(key) => Bound::Excluded(key),
            None => Bound::Included(prefix),
        };
        let everything = selection.is_everything();
        let mut range = inner
            .objects
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix));
        let mut objects = Vec::new();
        for (_, object) in range.by_ref() {
            if everything || selection.matches(object, &inner.fields) {
                objects.push(object.clone());
                if objects.len() == limit {
                    break;
                }
            }
        }
        let remaining = if limit == 0 { 0 } else { range.count() };
        Listing {
            // Read under the lock: a change that is in here already counts.
            revision: applied().max(inner.newest),
            objects,
            remaining,
        }
    }

    /// The bytes of a whole list, made once for all who ask at the same revision. The first to ask pays with nothing
    /// that stays: only what is asked for twice is kept, and only until something changes.
    pub fn whole(&self, prefix: &str, revision: Revision, make: impl FnOnce() -> Bytes) -> Bytes {
        let lock = || self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = lock();
        let same = known.prefix == prefix && known.revision == revision;
        if let Some(bytes) = known.bytes.as_ref().filter(|_| same) {
            return bytes.clone();
        }
        if !same {
            *known = Whole {
                prefix: prefix.to_owned(),
                revision,
                bytes: None,
            };
        }
        drop(known);
        let bytes = make();
        let mut known = lock();
        if same && known.prefix == prefix && known.revision == revision {
            known.bytes = Some(bytes.clone());
        }
        bytes
    }

    /// A place after a revision.
    ///
    /// # Errors
    /// Events after that revision are gone.
    pub fn cursor(&self, after: Revision) -> Result<Cursor, Behind> {
        let inner = self.read();
        if after < inner.floor {
            return Err(Behind {
                asked: after,
                oldest: inner.floor,
            });
        }
        let place = inner.ring.partition_point(|event| event.revision <= after);
        Ok(Cursor {
            next: inner.first + place as u64,
            wake: self.wake.subscribe(),
            after,
            at: after,
        })
    }

    /// Up to `max` events at a place; none if there are none yet.
    ///
    /// # Errors
    /// The place has been overwritten.
    pub fn take(&self, cursor: &mut Cursor, max: usize) -> Result<Vec<Arc<Event>>, Behind> {
        // Marked before the look, so that what comes after it wakes again.
        cursor.wake.borrow_and_update();
        let inner = self.read();
        if cursor.next < inner.first {
            return Err(Behind {
                asked: cursor.at,
                oldest: inner.floor,
            });
        }
        let place = (cursor.next - inner.first) as usize;
        // A cursor may stand in the future: what happens until then isn't for it.
        let early = |event: &&Arc<Event>| event.revision <= cursor.after;
        let passed = inner.ring.iter().skip(place).take_while(early).count();
        let events: Vec<Arc<Event>> = inner
            .ring
            .iter()
            .skip(place + passed)
            .take(max)
            .cloned()
            .collect();
        cursor.next += (passed + events.len()) as u64;
        if let Some(last) = events.last() {
            cursor.at = last.revision;
        }
        Ok(events)
    }

    /// Puts an object in without an event, at the start.
    fn load(&self, object: Arc<Object>) {
        let mut inner = self.write();
        inner.newest = inner.newest.max(object.record.revision);
        inner.objects.insert(object.key.clone(), object);
    }

    fn push(inner: &mut Inner, event: Event) {
        inner.ring_bytes += event.size();
        inner.ring.push_back(Arc::new(event));
        // The newest stays, however large it is: those who wait have yet to see it.
        while inner.ring.len() > 1
            && (inner.ring.len() > RING_EVENTS_MAX || inner.ring_bytes > RING_BYTES_MAX)
            && let Some(old) = inner.ring.pop_front()
        {
            inner.ring_bytes -= old.size();
            inner.first += 1;
            inner.floor = old.revision;
        }
    }

    fn forget(&self, floor: Revision) {
        let mut inner = self.write();
        // Every place becomes one that was overwritten.
        inner.first += inner.ring.len() as u64 + 1;
        inner.ring.clear();
        inner.ring_bytes = 0;
        inner.objects.clear();
        inner.floor = floor;
    }
}

impl Cursor {
    /// The revision up to which everything was taken; `applied` if nothing waits.
    pub fn seen_until(&self, applied: Revision) -> Revision {
        // What came since the last look may be older than `applied`: then only the last taken event is sure.
        match self.wake.has_changed() {
            Ok(false) => applied.max(self.at),
            _ => self.at,
        }
    }

    /// Waits until there may be more. False when the server ends.
    pub async fn wait(&mut self) -> bool {
        self.wake.changed().await.is_ok()
    }
}

/// The caches of all resources, by the first two steps of their keys.
#[derive(Debug)]
pub struct Caches {
    all: RwLock<HashMap<String, Arc<Cache>>>,
    floor: Revision,
    applied: watch::Sender<Revision>,
}

impl Caches {
    /// No caches; events after `floor` will be in them.
    pub fn new(floor: Revision) -> Self {
        Self {
            all: RwLock::default(),
            floor,
            applied: watch::Sender::new(floor),
        }
    }

    /// The cache of a prefix as `apps/deployments`.
    pub fn of(&self, prefix: &str) -> Arc<Cache> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(cache) = all.get(prefix) {
            return cache.clone();
        }
        drop(all);
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        let cache = all.entry(prefix.to_owned());
        cache
            .or_insert_with(|| Arc::new(Cache::new(self.floor)))
            .clone()
    }

    /// All of them with their prefixes.
    pub fn each(&self) -> Vec<(String, Arc<Cache>)> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// The revision that all caches show.
    pub fn applied(&self) -> Revision {
        *self.applied.borrow()
    }

    /// Tells when the caches show more.
    pub fn changes(&self) -> watch::Receiver<Revision> {
        self.applied.subscribe()
    }

    /// Waits until the caches show a revision.
    pub async fn reach(&self, revision: Revision) {
        if self.applied() >= revision {
            return;
        }
        let mut applied = self.applied.subscribe();
        // Fails only when the server ends.
        let _ = applied.wait_for(|now| *now >= revision).await;
    }

    fn home(&self, key: &str) -> Option<Arc<Cache>> {
        let second = key.match_indices('/').nth(1)?.0;
        Some(self.of(&key[..second]))
    }

    fn object(
        inner: &Inner,
        entry: &wharf_store::Entry,
        revision: Revision,
    ) -> Option<Arc<Object>> {
        let record = crate::object::Record::open(&entry.key, entry.value.clone(), revision)?;
        let object = Object::read(
            entry.key.clone(),
            record,
            inner.resource.as_deref(),
            &inner.fields,
        );
        Some(Arc::new(object))
    }

    /// Takes an entry in that was there before the server started.
    pub fn load(&self, entry: &wharf_store::Entry) {
        let Some(cache) = self.home(&entry.key) else {
            return;
        };
        let object = Self::object(&cache.read(), entry, entry.revision);
        if let Some(object) = object {
            cache.load(object);
        }
    }

    /// Notes a change; `old` for one from before the load, which only watchers of the past need.
    pub fn apply(&self, change: &wharf_store::Change, old: bool) -> Option<Arc<Cache>> {
        let cache = self.home(&change.key)?;
        let mut guard = cache.write();
        let inner = &mut *guard;
        let before = change.before.as_ref().and_then(|entry| {
            let known = inner.objects.get(&change.key);
            let same = known.filter(|object| object.record.revision == entry.revision);
            match same {
                Some(object) => Some(object.clone()),
                None => Self::object(inner, entry, entry.revision),
            }
        });
        let now = change
            .now
            .as_ref()
            .and_then(|entry| Self::object(inner, entry, entry.revision));
        let last = before
            .as_ref()
            .map(|before| Arc::new(before.moved_to(change.revision)));
        if !old {
            match &now {
                Some(object) => inner.objects.insert(change.key.clone(), object.clone()),
                None => inner.objects.remove(&change.key),
            };
            inner.newest = change.revision;
        }
        Cache::push(inner, Event::new(change.revision, now, before, last));
        drop(guard);
        cache
            .whole
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .bytes = None;
        Some(cache)
    }

    /// Wakes those who wait for a revision, and the watchers of these caches.
    pub fn announce(&self, touched: &[Arc<Cache>], revision: Revision) {
        self.applied
            .send_modify(|applied| *applied = revision.max(*applied));
        for cache in touched {
            cache.wake.send_modify(|count| *count += 1);
        }
    }

    /// Starts again from these entries: every watcher has to list again.
    pub fn reload(&self, entries: &[wharf_store::Entry], revision: Revision) {
        for (_, cache) in self.each() {
            cache.forget(revision);
        }
        entries.iter().for_each(|entry| self.load(entry));
        let all: Vec<Arc<Cache>> = self.each().into_iter().map(|(_, cache)| cache).collect();
        self.announce(&all, revision);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::object::Record;
    use serde_json::json;
    use wharf_store::{Change, Entry};

    fn entry(name: &str, label: &str, revision: u64, bytes: usize) -> Entry {
        let value = json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"x": "x".repeat(bytes)},
            "metadata": {"name": name, "uid": name, "labels": {"l": label}}});
        Entry {
            key: format!("core/configmaps/n/{name}").into(),
            value: Record::encode(&value, 0).stored(""),
            created: revision,
            revision,
        }
    }

    fn change(now: Option<Entry>, before: Option<Entry>, revision: u64) -> Change {
        let key = now.as_ref().or(before.as_ref()).unwrap().key.clone();
        Change {
            revision,
            key,
            now,
            before,
        }
    }

    fn labelled(text: &str) -> Selection {
        Selection {
            labels: wharf_kube_types::selector::LabelSelector::parse(text).unwrap(),
            ..Selection::default()
        }
    }

    #[test]
    fn objects_come_into_selections_and_leave_them() {
        let caches = Caches::new(0);
        let (a, b) = (entry("m", "a", 1, 0), entry("m", "b", 2, 0));
        caches.apply(&change(Some(a.clone()), None, 1), false);
        caches.apply(&change(Some(b.clone()), Some(a), 2), false);
        caches.apply(&change(None, Some(b), 3), false);
        let cache = caches.of("core/configmaps");
        let mut cursor = cache.cursor(0).unwrap();
        let events = cache.take(&mut cursor, 10).unwrap();
        let seen = |selection: &Selection| -> Vec<(Sort, u64)> {
            let seen = events.iter().filter_map(|e| e.seen(selection, &[]));
            seen.map(|(sort, object)| (sort, object.record.revision))
                .collect()
        };
        let all = [(Sort::Added, 1), (Sort::Modified, 2), (Sort::Deleted, 3)];
        assert_eq!(seen(&Selection::default()), all);
        assert_eq!(
            seen(&labelled("l=a")),
            [(Sort::Added, 1), (Sort::Deleted, 2)]
        );
        assert_eq!(
            seen(&labelled("l=b")),
            [(Sort::Added, 2), (Sort::Deleted, 3)]
        );
        assert_eq!(seen(&labelled("l=c")), []);
        assert_eq!(cache.count(), 0);
    }

    #[test]
    fn a_watcher_that_falls_behind_is_told_so() {
        let caches = Caches::new(0);
        let cache = caches.of("core/configmaps");
        let mut cursor = cache.cursor(0).unwrap();
        for revision in 1..=40 {
            let large = entry(&format!("m{revision}"), "a", revision, 1 << 20);
            caches.apply(&change(Some(large), None, revision), false);
        }
        let behind = cache.take(&mut cursor, 10).unwrap_err();
        assert_eq!(behind.asked, 0);
        assert!(behind.oldest > 20, "{behind:?}");
        assert!(cache.cursor(behind.oldest - 1).is_err());
        assert!(cache.cursor(behind.oldest).is_ok());
    }

    #[test]
    fn a_list_shows_what_was_applied() {
        let caches = Caches::new(5);
        for name in ["a", "b", "c"] {
            caches.load(&entry(name, "x", 3, 0));
        }
        let cache = caches.of("core/configmaps");
        let list = |after, limit| {
            cache.list(
                "core/configmaps/n/",
                after,
                limit,
                &Selection::default(),
                || caches.applied(),
            )
        };
        let page = list(None, 2);
        assert_eq!(
            (page.revision, page.objects.len(), page.remaining),
            (5, 2, 1)
        );
        let rest = list(Some("core/configmaps/n/b"), 2);
        assert_eq!((rest.objects.len(), rest.remaining), (1, 0));
    }
}
