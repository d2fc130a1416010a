//! How many pods there may be at each moment of a rollout: pure numbers.

use k8s_openapi::api::apps::v1::Deployment;

use crate::percent;

/// What a Deployment allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// The pods wanted.
    pub(super) replicas: i32,
    /// Pods above that.
    pub(super) surge: i32,
    /// Pods below that.
    pub(super) unavailable: i32,
}

/// What a set has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Size {
    /// Wanted of it.
    pub(super) replicas: i32,
    /// Available, as it says.
    pub(super) available: i32,
}

/// Whether all old pods end before the first new one begins.
pub(super) fn recreates(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.strategy.as_ref();
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

/// The wanted number of pods.
pub(super) fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.replicas.unwrap_or(1)
}

impl Bounds {
    pub(super) fn of(deployment: &Deployment) -> Bounds {
        let replicas = replicas(deployment);
        let strategy = deployment.spec.strategy.as_ref();
        let Some(rolling) = strategy.and_then(|strategy| strategy.rolling_update.as_ref()) else {
            return Bounds {
                replicas,
                surge: 0,
                unavailable: 0,
            };
        };
        let part = |value: &Option<_>, up| {
            let value = value.as_ref();
            value.map_or(0, |value| percent::of(value, replicas, up))
        };
        let surge = part(&rolling.max_surge, true);
        let mut unavailable = part(&rolling.max_unavailable, false);
        // Rounding may leave no way at all.
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        Bounds {
            replicas,
            surge,
            unavailable: unavailable.min(replicas),
        }
    }

    /// Most pods at any moment.
    pub(super) fn most(&self) -> i32 {
        self.replicas.saturating_add(self.surge)
    }

    /// Fewest available pods at any moment.
    pub(super) fn fewest(&self) -> i32 {
        self.replicas - self.unavailable
    }

    /// How large the new set may be now, of `total` pods wanted of all sets.
    pub(super) fn new_size(&self, new: i32, total: i32) -> i32 {
        if new >= self.replicas {
            return self.replicas;
        }
        let room = (self.most() - total).max(0);
        new + room.min(self.replicas - new)
    }

    /// How large the old sets, oldest first, need to be now.
    pub(super) fn old_sizes(&self, new: Size, old: &[Size]) -> Vec<i32> {
        let mut sizes: Vec<i32> = old.iter().map(|set| set.replicas).collect();
        let total: i32 = new.replicas + sizes.iter().sum::<i32>();
        // A set that was made smaller a moment ago still tells of pods that it gives up.
        let useful = |set: &Size| set.available.min(set.replicas);
        // New pods that are not available yet count as if they were lost.
        let mut room = total - self.fewest() - (new.replicas - useful(&new));
        if room <= 0 {
            return sizes;
        }
        // Pods that are of no use go first; nobody loses by them.
        for (size, set) in sizes.iter_mut().zip(old) {
            let useless = (set.replicas - useful(set)).clamp(0, room);
            *size -= useless;
            room -= useless;
        }
        let available = useful(&new) + old.iter().map(useful).sum::<i32>();
        let mut surplus = available - self.fewest();
        for size in &mut sizes {
            let goes = (*size).min(surplus).max(0);
            *size -= goes;
            surplus -= goes;
        }
        sizes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn bounds(replicas: i32, surge: &str, unavailable: &str) -> Bounds {
        let deployment = json!({"metadata": {}, "spec": {"replicas": replicas, "selector": {}, "template": {},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}});
        Bounds::of(&serde_json::from_value(deployment).unwrap())
    }

    #[test]
    fn parts_of_the_whole() {
        let quarter = bounds(10, "25%", "25%");
        assert_eq!((quarter.most(), quarter.fewest()), (13, 8));
        assert_eq!(bounds(1, "0%", "25%").unavailable, 1, "a way is left");
        assert_eq!(bounds(0, "25%", "25%").unavailable, 0);
    }

    #[test]
    fn one_at_a_time() {
        let bounds = Bounds {
            replicas: 3,
            surge: 1,
            unavailable: 0,
        };
        let set = |replicas, available| Size {
            replicas,
            available,
        };
        assert_eq!(bounds.new_size(0, 3), 1);
        assert_eq!(bounds.old_sizes(set(1, 0), &[set(3, 3)]), [3]);
        assert_eq!(bounds.old_sizes(set(1, 1), &[set(3, 3)]), [2]);
        assert_eq!(bounds.new_size(1, 3), 2);
        assert_eq!(bounds.new_size(5, 5), 3, "too large");
        assert_eq!(
            bounds.old_sizes(set(1, 0), &[set(1, 0), set(3, 3)]),
            [0, 3],
            "useless ones go at once"
        );
    }

    /// A set and its pods as a rollout plays.
    #[derive(Debug, Clone, Copy, Default)]
    struct Played {
        wanted: i32,
        pods: i32,
        available: i32,
    }

    impl Played {
        fn size(&self) -> Size {
            Size {
                replicas: self.wanted,
                available: self.available,
            }
        }

        /// What its controller does: pods that are not available go first.
        fn follow(&mut self) {
            let (pods, available) = (self.wanted, self.available.min(self.wanted));
            (self.pods, self.available) = (pods, available);
        }
    }

    proptest! {
        /// Whatever the order in which pods become ready, sets act and the controller looks, the bounds hold at each
        /// step, and the rollout arrives.
        #[test]
        fn bounds_hold_at_every_step(
            replicas in 1..30i32, surge in 0..8i32, unavailable in 0..8i32,
            split in prop::collection::vec(0..10i32, 1..4),
            acts in prop::collection::vec(0..6u8, 0..200),
        ) {
            let unavailable = unavailable.min(replicas);
            let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
            let bounds = Bounds { replicas, surge, unavailable };
            let mut left = replicas;
            let mut sets: Vec<Played> = split.iter().map(|part| {
                let wanted = (*part).min(left);
                left -= wanted;
                Played { wanted, pods: wanted, available: wanted }
            }).collect();
            sets.push(Played { wanted: left, pods: left, available: left });
            sets.push(Played::default());
            let new = sets.len() - 1;
            let tail = (0..2000).map(|n| (n % 6) as u8);
            for act in acts.into_iter().chain(tail) {
                match act {
                    0 | 1 => {
                        let total = sets.iter().map(|set| set.wanted).sum();
                        let size = bounds.new_size(sets[new].wanted, total);
                        if size != sets[new].wanted {
                            sets[new].wanted = size;
                        } else {
                            let old: Vec<Size> = sets[..new].iter().map(Played::size).collect();
                            let sizes = bounds.old_sizes(sets[new].size(), &old);
                            for (set, size) in sets.iter_mut().zip(sizes) {
                                set.wanted = size;
                            }
                        }
                    }
                    2 => sets[new].follow(),
                    3 => sets[..new].iter_mut().for_each(Played::follow),
                    _ => if sets[new].available < sets[new].pods { sets[new].available += 1 },
                }
                let pods: i32 = sets.iter().map(|set| set.wanted).sum();
                let available: i32 = sets.iter().map(|set| set.available.min(set.wanted)).sum();
                prop_assert!(pods <= bounds.most(), "{pods} pods: {sets:?}");
                prop_assert!(available >= bounds.fewest(), "{available} available: {sets:?}");
            }
            prop_assert_eq!(sets[new].available, replicas);
            prop_assert!(sets[..new].iter().all(|set| set.pods == 0));
        }
    }
}
