//! Which of the nodes that take a pod is best: the original's scores with its weights.

use crate::amounts::Requests;
use crate::node::Effect;
use crate::plan::counts_in;
use crate::pod::{PodInfo, Spread};
use crate::tally::{Hold, NOWHERE};
use crate::world::World;

const BEST: i64 = 100;
const IMAGE_LEAST_BYTES: i64 = 23 << 20;
const IMAGE_MOST_BYTES: i64 = 1000 << 20;

/// How much each score counts; 0: not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    /// Nodes without taints that put off.
    pub taints: i64,
    /// Preferred node affinity.
    pub node_affinity: i64,
    /// Much left.
    pub least_allocated: i64,
    /// Processor and memory used alike.
    pub balanced: i64,
    /// Pods of a kind apart.
    pub spread: i64,
    /// Preferred affinity between pods.
    pub pods: i64,
    /// Images already there.
    pub images: i64,
}

impl Default for Weights {
    fn default() -> Weights {
        Weights {
            taints: 3,
            node_affinity: 2,
            least_allocated: 1,
            balanced: 1,
            spread: 2,
            pods: 2,
            images: 1,
        }
    }
}

/// Buffers that are used again for each decision.
#[derive(Debug, Default)]
pub(crate) struct Scores {
    pub(crate) total: Vec<i64>,
    part: Vec<i64>,
}

impl Scores {
    /// Scores nodes that take a pod.
    pub(crate) fn score(
        &mut self,
        world: &mut World,
        pod: &PodInfo,
        nodes: &[usize],
        weights: &Weights,
    ) {
        self.total.clear();
        self.total.resize(nodes.len(), 0);
        if weights.least_allocated != 0 || weights.balanced != 0 {
            for (total, node) in self.total.iter_mut().zip(nodes) {
                *total += room(world, &pod.requests, *node, weights);
            }
        }
        if weights.taints != 0 && nodes.iter().any(|n| world.rooms[*n].has_taints) {
            self.fill(nodes, |node| untolerated(world, pod, node));
            self.add(weights.taints, Scale::Reversed);
        } else {
            self.total
                .iter_mut()
                .for_each(|t| *t += BEST * weights.taints);
        }
        if weights.node_affinity != 0 && !pod.wants.preferred.is_empty() {
            self.fill(nodes, |node| preferred(world, pod, node));
            self.add(weights.node_affinity, Scale::Straight);
        }
        if weights.images != 0 {
            let nodes_total = i64::try_from(world.order().len())
                .unwrap_or(i64::MAX)
                .max(1);
            if pod
                .wants
                .images
                .iter()
                .any(|i| world.image_nodes.contains_key(i))
            {
                for (total, node) in self.total.iter_mut().zip(nodes) {
                    *total += weights.images * images(world, pod, *node, nodes_total);
                }
            }
        }
        if weights.spread != 0 {
            self.spread(world, pod, nodes, weights.spread);
        }
        if weights.pods != 0 {
            self.pods(world, pod, nodes, weights.pods);
        }
    }

    fn fill(&mut self, nodes: &[usize], of: impl Fn(usize) -> i64) {
        self.part.clear();
        self.part.extend(nodes.iter().map(|node| of(*node)));
    }

    /// Adds the part after bringing it to 0..100.
    fn add(&mut self, weight: i64, scale: Scale) {
        let most = self.part.iter().copied().max().unwrap_or_default();
        let least = self.part.iter().copied().min().unwrap_or_default();
        for (total, part) in self.total.iter_mut().zip(&self.part) {
            let score = match scale {
                Scale::Straight if most == 0 => 0,
                Scale::Straight => part * BEST / most,
                Scale::Reversed if most == 0 => BEST,
                Scale::Reversed => BEST - part * BEST / most,
                Scale::Between if most == least => 0,
                Scale::Between => (part - least) * BEST / (most - least),
            };
            *total += weight * score;
        }
    }

    fn spread(&mut self, world: &mut World, pod: &PodInfo, nodes: &[usize], weight: i64) {
        let own: Vec<Spread> = pod.wants.spread.to_vec();
        let (soft, is_default) = if own.is_empty() {
            (default_spread(world, pod), true)
        } else {
            (own.into_iter().filter(|one| !one.is_hard).collect(), false)
        };
        if soft.is_empty() {
            return;
        }
        let hostname = world.symbols.known("kubernetes.io/hostname");
        let columns: Vec<usize> = soft.iter().map(|one| world.column(one.key)).collect();
        let counters: Vec<usize> = soft
            .iter()
            .zip(&columns)
            .map(|(one, column)| world.count(vec![one.selector.clone()], true, Some(*column)))
            .collect();
        let is_ignored = |world: &World, node: usize| {
            !is_default
                && columns
                    .iter()
                    .any(|c| world.tally.columns[*c].of(node) == NOWHERE)
        };
        let ignored: Vec<bool> = nodes.iter().map(|n| is_ignored(world, *n)).collect();
        let seen = ignored.iter().filter(|ignored| !**ignored).count();
        let mut score = vec![0.0_f64; nodes.len()];
        let nodes_total = world.order().len();
        for ((one, column), counter) in soft.iter().zip(&columns).zip(&counters) {
            let is_hostname = Some(one.key) == hostname;
            let sums = SoftSums::new(
                world,
                pod,
                one,
                (*column, *counter),
                &columns,
                (is_default, nodes_total),
            );
            let size = if is_hostname {
                seen
            } else {
                domains_of(world, *column, nodes, &ignored)
            };
            #[allow(clippy::cast_precision_loss)]
            let factor = (size as f64 + 2.0).ln();
            for (at, node) in nodes.iter().enumerate() {
                let domain = world.tally.columns[*column].of(*node);
                if ignored[at] || domain == NOWHERE {
                    continue;
                }
                let count = sums.of(world, domain, *node, is_hostname);
                #[allow(clippy::cast_precision_loss)]
                let skew = (one.max_skew - 1) as f64;
                score[at] += f64::from(count) * factor + skew;
            }
        }
        self.add_spread(&score, &ignored, weight);
    }

    fn add_spread(&mut self, score: &[f64], ignored: &[bool], weight: i64) {
        #[allow(clippy::cast_possible_truncation)]
        let rounded: Vec<i64> = score.iter().map(|s| s.round() as i64).collect();
        let kept = || {
            rounded
                .iter()
                .zip(ignored)
                .filter(|(_, ignored)| !**ignored)
        };
        let most = kept().map(|(s, _)| *s).max().unwrap_or_default();
        let least = kept().map(|(s, _)| *s).min().unwrap_or_default();
        for (at, total) in self.total.iter_mut().enumerate() {
            let score = match (ignored[at], most) {
                (true, _) => 0,
                (false, 0) => BEST,
                (false, _) => BEST * (most + least - rounded[at]) / most,
            };
            *total += weight * score;
        }
    }

    fn pods(&mut self, world: &mut World, pod: &PodInfo, nodes: &[usize], weight: i64) {
        let mut terms = Vec::new();
        for (likes, term) in &pod.preferred {
            let column = world.column(term.key);
            let counter = world.count(vec![term.selector.clone()], false, Some(column));
            terms.push((*likes, column, counter));
        }
        let held: Vec<(i64, usize)> = world
            .tally
            .held_about(pod)
            .filter_map(|(at, held)| match held.hold {
                Hold::Likes(likes) => Some((likes, at)),
                Hold::With => Some((1, at)),
                Hold::Against => None,
            })
            .collect();
        if terms.is_empty() && held.is_empty() {
            return;
        }
        let world = &*world;
        let sum = |node: usize| {
            let mut sum = 0;
            for (likes, column, counter) in &terms {
                let counts = world.tally.counter(*counter).map(|c| c.domains(*column));
                sum += likes * in_domain(world, *column, counts.unwrap_or_default(), node);
            }
            for (likes, at) in &held {
                let held = world.tally.held(*at);
                sum += likes * in_domain(world, held.column, &held.by_domain, node);
            }
            sum
        };
        self.fill(nodes, sum);
        self.add(weight, Scale::Between);
    }
}

/// How a part is brought to 0..100.
#[derive(Clone, Copy)]
enum Scale {
    Straight,
    Reversed,
    Between,
}

fn in_domain(world: &World, column: usize, counts: &[u32], node: usize) -> i64 {
    let domain = world.tally.columns[column].of(node);
    if domain == NOWHERE {
        return 0;
    }
    counts.get(domain as usize).copied().map_or(0, i64::from)
}

/// What is left, and how evenly.
fn room(world: &World, asked: &Requests, node: usize, weights: &Weights) -> i64 {
    let room = &world.rooms[node];
    let (has, used) = (&room.has, &room.used);
    let left = |has: i64, wanted: i64| match has {
        0 => 0,
        has if wanted > has => 0,
        has => (has - wanted).saturating_mul(BEST) / has,
    };
    let cpu = room.guessed_cpu_millis + asked.guessed_cpu_millis;
    let memory = room.guessed_memory_bytes + asked.guessed_memory_bytes;
    let least = (left(has.cpu_millis, cpu) + left(has.memory_bytes, memory)) / 2;
    #[allow(clippy::cast_precision_loss)]
    let share = |has: i64, wanted: i64| match has {
        0 => 0.0,
        has => (wanted as f64 / has as f64).min(1.0),
    };
    let cpu = share(has.cpu_millis, used.cpu_millis + asked.amounts.cpu_millis);
    let memory = share(
        has.memory_bytes,
        used.memory_bytes + asked.amounts.memory_bytes,
    );
    #[allow(clippy::cast_possible_truncation)]
    let balanced = ((1.0 - (cpu - memory).abs() / 2.0) * 100.0) as i64;
    weights.least_allocated * least + weights.balanced * balanced
}

fn untolerated(world: &World, pod: &PodInfo, node: usize) -> i64 {
    let taints = world.nodes[node].taints.iter();
    let soft = taints.filter(|taint| taint.effect == Effect::PreferNoSchedule);
    let count = soft.filter(|taint| !pod.wants.tolerates(taint)).count();
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn preferred(world: &World, pod: &PodInfo, node: usize) -> i64 {
    let node = &world.nodes[node];
    let terms = pod.wants.preferred.iter();
    terms
        .filter(|(_, term)| term.matches(&node.labels, node.name, &world.symbols))
        .map(|(weight, _)| weight)
        .sum()
}

fn images(world: &World, pod: &PodInfo, node: usize, nodes_total: i64) -> i64 {
    let there = &world.nodes[node].images;
    let mut sum = 0;
    for image in &pod.wants.images {
        if let Some(bytes) = there.get(image) {
            // An image that is on few nodes does not draw everything there.
            let on = world.image_nodes.get(image).copied().unwrap_or_default();
            sum += bytes.saturating_mul(on) / nodes_total;
        }
    }
    let containers = i64::try_from(pod.wants.containers).unwrap_or(1).max(1);
    let most = IMAGE_MOST_BYTES.saturating_mul(containers);
    let sum = sum.clamp(IMAGE_LEAST_BYTES, most);
    BEST * (sum - IMAGE_LEAST_BYTES) / (most - IMAGE_LEAST_BYTES)
}

fn domains_of(world: &World, column: usize, nodes: &[usize], ignored: &[bool]) -> usize {
    let column = &world.tally.columns[column];
    let mut seen = vec![false; column.nodes.len()];
    let mut count = 0;
    for (node, ignored) in nodes.iter().zip(ignored) {
        let domain = column.of(*node);
        if !ignored && domain != NOWHERE && !seen[domain as usize] {
            seen[domain as usize] = true;
            count += 1;
        }
    }
    count
}

/// What is asked of pods that ask nothing: not too many of a kind on a node, or in a zone.
fn default_spread(world: &mut World, pod: &PodInfo) -> Vec<Spread> {
    let Some(mates) = world.workloads.mates(pod) else {
        return Vec::new();
    };
    [
        ("kubernetes.io/hostname", 3),
        ("topology.kubernetes.io/zone", 5),
    ]
    .into_iter()
    .map(|(key, max_skew)| Spread {
        key: world.symbols.intern(key),
        max_skew,
        min_domains: 1,
        is_hard: false,
        selector: mates.clone(),
        honors_affinity: true,
        honors_taints: false,
        selects_itself: true,
    })
    .collect()
}

/// Pods by domain for a soft constraint.
enum SoftSums {
    Shared { column: usize, counter: usize },
    Own(Vec<u32>),
}

impl SoftSums {
    fn new(
        world: &World,
        pod: &PodInfo,
        one: &Spread,
        (column, counter): (usize, usize),
        columns: &[usize],
        (is_default, live): (bool, usize),
    ) -> SoftSums {
        let everywhere = is_default
            || columns
                .iter()
                .all(|c| world.tally.columns[*c].nodes_total == live);
        let is_any = !(one.honors_taints || one.honors_affinity && pod.wants.has_node_affinity());
        if everywhere && is_any {
            return SoftSums::Shared { column, counter };
        }
        let mut counts = vec![0; world.tally.columns[column].nodes.len()];
        let by_node = world.tally.counter(counter).map(|c| &c.by_node[..]);
        for (node, count) in by_node.unwrap_or_default().iter().enumerate() {
            let domain = world.tally.columns[column].of(node);
            let has_labels = is_default
                || columns
                    .iter()
                    .all(|c| world.tally.columns[*c].of(node) != NOWHERE);
            if *count > 0 && domain != NOWHERE && has_labels && counts_in(world, pod, one, node) {
                counts[domain as usize] += count;
            }
        }
        SoftSums::Own(counts)
    }

    fn of(&self, world: &World, domain: u32, node: usize, is_hostname: bool) -> u32 {
        let counts = match self {
            SoftSums::Own(counts) => &counts[..],
            SoftSums::Shared { counter, column } => {
                let Some(counter) = world.tally.counter(*counter) else {
                    return 0;
                };
                if is_hostname {
                    return counter.by_node.get(node).copied().unwrap_or_default();
                }
                counter.domains(*column)
            }
        };
        counts.get(domain as usize).copied().unwrap_or_default()
    }
}
