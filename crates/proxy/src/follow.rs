//! The kernel's table follows the cluster: what changed is computed anew, and written in one transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use wharf_client::{Event, Key, Object, Queue};
use wharf_net::{Balancer, Balancers, Services};

use crate::Options;
use crate::balance;
use crate::endpoints::Place;
use crate::health::Health;
use crate::picture::{Picture, service_of};

/// Most services of one transaction.
const BATCH_SERVICES: usize = 1000;

struct Follower<'a> {
    options: &'a Options,
    kernel: &'a Services,
    picture: &'a Picture,
    /// Names of each service's balancers in the kernel.
    written: HashMap<Key, BTreeSet<String>>,
    health: Health,
}

/// Follows until it is dropped.
pub(crate) async fn run(options: &Options, kernel: &Services, picture: &Picture) {
    picture.synced().await;
    let queue: Queue<Key> = Queue::default();
    let mut follower = Follower {
        options,
        kernel,
        picture,
        written: HashMap::new(),
        health: Health::default(),
    };
    // Told from now on; what was there already comes again, and is found unchanged.
    listen(picture, &queue);
    while let Err(error) = follower.write_all().await {
        tracing::warn!(
            error = chain(&error),
            "the table of services can't be written for now"
        );
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    while let Some(first) = queue.next().await {
        let mut taken = vec![first];
        while taken.len() < BATCH_SERVICES && !queue.is_empty() {
            match queue.next().await {
                Some(next) => taken.push(next),
                None => break,
            }
        }
        let keys: Vec<Key> = taken.iter().map(|taken| taken.key().clone()).collect();
        match follower.write(&keys).await {
            Ok(()) => keys.iter().for_each(|key| queue.forget(key)),
            Err(error) => {
                let services = keys.len();
                tracing::warn!(
                    error = chain(&error),
                    services,
                    "services can't be written for now"
                );
                keys.into_iter().for_each(|key| queue.retry(key));
            }
        }
    }
}

fn listen(picture: &Picture, queue: &Queue<Key>) {
    let services = queue.clone();
    picture.services.listen(move |event| match event {
        Event::Applied { new, .. } => services.add(new.key()),
        Event::Deleted(old) => services.add(old.key()),
    });
    let slices = queue.clone();
    picture.slices.listen(move |event| {
        let (old, new) = match event {
            Event::Applied { old, new } => (old.as_ref(), Some(new)),
            Event::Deleted(old) => (Some(old), None),
        };
        for slice in old.into_iter().chain(new) {
            if let Some(key) = service_of(slice) {
                slices.add(key);
            }
        }
    });
    let (nodes, services) = (queue.clone(), picture.services.cache());
    picture.node.listen(move |event| {
        const ZONE: &str = "topology.kubernetes.io/zone";
        let zone = |node: &k8s_openapi::api::core::v1::Node| {
            let labels = node.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get(ZONE).cloned())
        };
        if let Event::Applied { old, new } = event
            && old.as_ref().and_then(|old| zone(old)) != zone(new)
        {
            services
                .all()
                .iter()
                .for_each(|service| nodes.add(service.key()));
        }
    });
}

impl Follower<'_> {
    fn place(&self) -> Place {
        Place {
            node_name: self.options.node_name.clone(),
            zone: self.picture.zone(),
            addresses: self.options.node_addresses.clone(),
        }
    }

    fn balancers(&self, key: &Key, place: &Place) -> Balancers {
        let Some(service) = self.picture.services.cache().get(key) else {
            return Balancers::new();
        };
        let slices = self.picture.slices_of(key);
        balance::balancers(&service, &slices, place, self.options.cluster_dns)
    }

    async fn write_all(&mut self) -> Result<(), wharf_net::Error> {
        let place = self.place();
        let (mut all, mut written) = (Balancers::new(), HashMap::new());
        for service in self.picture.services.cache().all() {
            let key = service.key();
            let balancers = self.balancers(&key, &place);
            written.insert(key.clone(), balancers.keys().cloned().collect());
            all.extend(balancers);
            self.look_after_health(&key, &place);
        }
        self.kernel.replace(all).await?;
        self.written = written;
        Ok(())
    }

    async fn write(&mut self, keys: &[Key]) -> Result<(), wharf_net::Error> {
        let place = self.place();
        let mut changes: BTreeMap<String, Option<Balancer>> = BTreeMap::new();
        let mut written = Vec::new();
        for key in keys {
            let balancers = self.balancers(key, &place);
            let old = self.written.get(key);
            for gone in old
                .into_iter()
                .flatten()
                .filter(|name| !balancers.contains_key(*name))
            {
                changes.insert(gone.clone(), None);
            }
            written.push((
                key.clone(),
                balancers.keys().cloned().collect::<BTreeSet<_>>(),
            ));
            changes.extend(balancers.into_iter().map(|(name, one)| (name, Some(one))));
            self.look_after_health(key, &place);
        }
        self.kernel.change(changes.into_iter().collect()).await?;
        for (key, names) in written {
            match names.is_empty() {
                true => self.written.remove(&key),
                false => self.written.insert(key, names),
            };
        }
        Ok(())
    }

    fn look_after_health(&mut self, key: &Key, place: &Place) {
        let service = self.picture.services.cache().get(key);
        let asked = service.as_ref().and_then(|service| {
            let port = balance::health_port(service)?;
            let slices = self.picture.slices_of(key);
            Some((port, balance::endpoints_here(service, &slices, place)))
        });
        self.health.set(key, asked);
    }
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
