//! What is in the kernel, and how it becomes what should be there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use super::base::{self, ITSELF4, ITSELF6, plain};
use super::claims::Claims;
use super::program::{Program, program};
use super::stale::Stale;
use super::{Balancer, Balancers, ServiceOptions};
use crate::netlink::{Batch, Failure, Socket};
use crate::nftables::{Element, Transaction};
use crate::ruleset::octets;
use crate::subnet::Subnet;
use crate::{Result, route, sysctl};

/// State of the thread that changes the table.
pub(super) struct Placed {
    options: ServiceOptions,
    netfilter: Socket,
    balancers: BTreeMap<String, (u32, Balancer)>,
    /// How often an address is an endpoint.
    endpoints: HashMap<IpAddr, u32>,
    claims: Claims,
    /// The kernel refused a change: what it has is not what is known here.
    is_unsure: bool,
    next_number: u32,
    is_seen_on_bridges: bool,
}

/// Balancers with their numbers as they are to be; `None`: none.
type After = BTreeMap<String, Option<(u32, Balancer)>>;

/// What a transaction is to do, in the order in which it can.
#[derive(Default)]
struct Steps {
    added: Vec<(String, Program)>,
    removed: Vec<Program>,
    endpoints_new: Vec<IpAddr>,
    endpoints_gone: Vec<IpAddr>,
}

impl Placed {
    pub(super) fn open(options: ServiceOptions) -> Result<Placed> {
        let is_seen_on_bridges = !options.masquerade_all && see_bridges();
        Ok(Placed {
            options,
            netfilter: Socket::netfilter()?,
            balancers: BTreeMap::new(),
            endpoints: HashMap::new(),
            claims: Claims::default(),
            is_unsure: false,
            next_number: 1,
            is_seen_on_bridges,
        })
    }

    pub(super) fn replace(&mut self, balancers: Balancers) -> Result<()> {
        let mut numbered = BTreeMap::new();
        for (name, balancer) in balancers {
            numbered.insert(name, (self.next_number, balancer));
            self.next_number += 1;
        }
        self.install(&numbered)?;
        self.balancers = numbered;
        let mut stale = Stale::default();
        for (_, balancer) in self.balancers.values() {
            stale.look(None, Some(balancer));
        }
        stale.forget(&mut self.netfilter);
        Ok(())
    }

    /// Writes the whole table.
    fn install(&mut self, balancers: &BTreeMap<String, (u32, Balancer)>) -> Result<()> {
        let mut claims = Claims::default();
        let mut endpoints = HashMap::new();
        let mut transaction = Transaction::inet(&self.options.table);
        transaction.replace_table();
        base::install(&mut transaction, &self.options, self.is_seen_on_bridges);
        for (name, (number, balancer)) in balancers {
            let mut program = program(*number, balancer);
            claims.claim(name, &mut program);
            make(&mut transaction, name, &program);
            fill(&mut transaction, name, &program);
            for address in addresses(balancer) {
                *endpoints.entry(address).or_insert(0) += 1;
            }
        }
        for address in endpoints.keys() {
            transaction.add_element(&itself(*address), format!("name the endpoint {address}"));
        }
        transaction.commit(&mut self.netfilter)?;
        (self.claims, self.endpoints, self.is_unsure) = (claims, endpoints, false);
        Ok(())
    }

    pub(super) fn change(&mut self, changes: Vec<(String, Option<Balancer>)>) -> Result<()> {
        let last: BTreeMap<String, Option<Balancer>> = changes.into_iter().collect();
        let changed: Vec<(String, Option<Balancer>)> = last
            .into_iter()
            .filter(|(name, new)| self.balancers.get(name).map(|(_, old)| old) != new.as_ref())
            .collect();
        let mut after = self.balancers_after(&changed);
        if after.is_empty() && !self.is_unsure {
            return Ok(());
        }
        let mut stale = Stale::default();
        for (name, new) in &changed {
            let old = self.balancers.get(name).map(|(_, old)| old);
            stale.look(old, new.as_ref());
        }
        while !after.is_empty() || self.is_unsure {
            after = self.advance(after)?;
        }
        stale.forget(&mut self.netfilter);
        Ok(())
    }

    /// Makes the changes; returns those that waited for something that is free now.
    fn advance(&mut self, after: After) -> Result<After> {
        let heirs = match self.is_unsure {
            true => None,
            false => match self.attempt(&after) {
                Ok(heirs) => Some(heirs),
                Err(failure) => {
                    tracing::warn!(
                        table = self.options.table,
                        errno = failure.errno,
                        operation = failure.operation,
                        "the nftables table is gone or was changed; it is made again"
                    );
                    self.is_unsure = true;
                    None
                }
            },
        };
        if heirs.is_none() {
            let mut all = self.balancers.clone();
            put(&mut all, after);
            self.install(&all)?;
            self.balancers = all;
            return Ok(After::new());
        }
        put(&mut self.balancers, after);
        let waiting = heirs.into_iter().flatten();
        let known = waiting.filter_map(|name| {
            let numbered = self.balancers.get(&name)?.clone();
            Some((name, Some(numbered)))
        });
        Ok(known.collect())
    }

    /// The changed ones with their numbers: a balancer that stays keeps its own.
    fn balancers_after(&mut self, changed: &[(String, Option<Balancer>)]) -> After {
        let mut after = After::new();
        for (name, new) in changed {
            let numbered = new.as_ref().map(|new| {
                let number = match self.balancers.get(name) {
                    Some((number, _)) => *number,
                    None => {
                        self.next_number += 1;
                        self.next_number - 1
                    }
                };
                (number, new.clone())
            });
            after.insert(name.clone(), numbered);
        }
        after
    }

    /// Returns who waits for what is given up. After a failure nothing is certain.
    fn attempt(&mut self, after: &After) -> std::result::Result<BTreeSet<String>, Failure> {
        let mut steps = Steps::default();
        let mut delta: BTreeMap<IpAddr, i64> = BTreeMap::new();
        let mut heirs = BTreeSet::new();
        for name in after.keys() {
            if let Some((number, old)) = self.balancers.get(name) {
                let mut old_program = program(*number, old);
                heirs.extend(self.claims.release(name, &mut old_program));
                steps.removed.push(old_program);
                for address in addresses(old) {
                    *delta.entry(address).or_default() -= 1;
                }
            }
        }
        for (name, new) in after {
            if let Some((number, new)) = new {
                let mut new_program = program(*number, new);
                self.claims.claim(name, &mut new_program);
                steps.added.push((name.clone(), new_program));
                for address in addresses(new) {
                    *delta.entry(address).or_default() += 1;
                }
            }
        }
        count(&mut self.endpoints, &delta, &mut steps);
        let mut transaction = Transaction::inet(&self.options.table);
        steps.write(&mut transaction);
        transaction.commit(&mut self.netfilter)?;
        heirs.retain(|name| !after.contains_key(name));
        Ok(heirs)
    }

    pub(super) fn remove(&mut self) -> Result<()> {
        let mut transaction = Transaction::inet(&self.options.table);
        transaction.remove_table();
        match transaction.commit(&mut self.netfilter) {
            Err(failure) if failure.is(rustix::io::Errno::NOENT) => {}
            result => result?,
        }
        self.balancers.clear();
        self.claims = Claims::default();
        self.endpoints.clear();
        Ok(())
    }

    /// A way to the range out of which no packet ever goes: programs of this machine may send to services though
    /// nothing else leads there (no default route). What leads there already is left alone.
    pub(super) fn keep_route(&mut self, range: Subnet) -> Result<()> {
        let mut socket = Socket::route()?;
        let leads = |route: &route::Route| {
            route
                .destination
                .is_none_or(|to| to.overlaps(&range) && to.prefix <= range.prefix)
        };
        if route::routes(&mut socket)?.iter().any(leads) {
            return Ok(());
        }
        let mut batch = Batch::new();
        route::add_loop_route(&mut batch, range);
        socket.send(&batch)?;
        Ok(())
    }

    pub(super) fn keep_address(&mut self, address: IpAddr) -> Result<()> {
        let mut batch = Batch::new();
        route::add_host_address(&mut batch, route::LOOPBACK, "lo", address);
        Socket::route()?.send(&batch)?;
        Ok(())
    }
}

/// Has packets between ports of a bridge pass the rules, where the kernel can; says whether they do.
fn see_bridges() -> bool {
    let key = "net/bridge/bridge-nf-call-iptables";
    let is_seen = sysctl::set(key, "1").is_ok();
    let _ = sysctl::set_if_present("net/bridge/bridge-nf-call-ip6tables", "1");
    is_seen
}

fn addresses(balancer: &Balancer) -> BTreeSet<IpAddr> {
    let backends = balancer.everywhere.iter().chain(&balancer.here);
    backends.map(|(address, _)| *address).collect()
}

fn itself(address: IpAddr) -> Element {
    let set = if address.is_ipv4() { ITSELF4 } else { ITSELF6 };
    plain(set, [octets(address), octets(address)].concat())
}

fn put(balancers: &mut BTreeMap<String, (u32, Balancer)>, after: After) {
    for (name, new) in after {
        match new {
            Some(new) => balancers.insert(name, new),
            None => balancers.remove(&name),
        };
    }
}

/// Counts endpoints, and notes which are new and which are none any more.
fn count(endpoints: &mut HashMap<IpAddr, u32>, delta: &BTreeMap<IpAddr, i64>, steps: &mut Steps) {
    for (address, by) in delta {
        let before = i64::from(endpoints.get(address).copied().unwrap_or(0));
        let after = (before + by).max(0);
        match (before > 0, after > 0) {
            (false, true) => steps.endpoints_new.push(*address),
            (true, false) => steps.endpoints_gone.push(*address),
            _ => {}
        }
        if after == 0 {
            endpoints.remove(address);
        } else {
            endpoints.insert(*address, after as u32);
        }
    }
}

fn make(transaction: &mut Transaction<'_>, name: &str, program: &Program) {
    for chain in program.chains.keys() {
        transaction.add_plain_chain(chain, name);
    }
    for set in program.sets.values() {
        transaction.add_client_set(set);
    }
}

fn fill(transaction: &mut Transaction<'_>, name: &str, program: &Program) {
    for (chain, rules) in &program.chains {
        for rule in rules {
            transaction.add_rule(chain, rule);
        }
    }
    for element in &program.elements {
        transaction.add_element(
            element,
            format!("add an address or endpoint of the service {name}"),
        );
    }
}

impl Steps {
    /// Chains and maps come before what leads to them and go after it. What is the same before and after is not
    /// touched.
    fn write(mut self, transaction: &mut Transaction<'_>) {
        let old_chains: HashMap<String, Vec<Vec<u8>>> = take_chains(&mut self.removed);
        let old_sets: HashSet<String> = self
            .removed
            .iter()
            .flat_map(|program| program.sets.keys().cloned())
            .collect();
        let new_chains: HashSet<String> = self
            .added
            .iter()
            .flat_map(|(_, program)| program.chains.keys().cloned())
            .collect();
        let new_sets: HashSet<String> = self
            .added
            .iter()
            .flat_map(|(_, program)| program.sets.keys().cloned())
            .collect();
        for (name, program) in &self.added {
            for chain in program
                .chains
                .keys()
                .filter(|c| !old_chains.contains_key(*c))
            {
                transaction.add_plain_chain(chain, name);
            }
            for (name, set) in &program.sets {
                if !old_sets.contains(name) {
                    transaction.add_client_set(set);
                }
            }
        }
        self.delete_elements(transaction);
        let is_same = |chain: &String, rules: &[crate::nftables::Rule]| {
            old_chains
                .get(chain)
                .is_some_and(|old| old.iter().eq(rules.iter().map(|rule| rule.bytes())))
        };
        for (_, program) in &self.added {
            for (chain, rules) in &program.chains {
                if old_chains.contains_key(chain) && !is_same(chain, rules) {
                    transaction.clear_chain(chain);
                }
            }
        }
        let gone: Vec<&String> = old_chains
            .keys()
            .filter(|c| !new_chains.contains(*c))
            .collect();
        for chain in &gone {
            transaction.clear_chain(chain);
        }
        for (_, program) in &mut self.added {
            program.chains.retain(|chain, rules| !is_same(chain, rules));
        }
        for (name, program) in &self.added {
            fill(transaction, name, program);
        }
        for address in &self.endpoints_new {
            transaction.add_element(&itself(*address), format!("name the endpoint {address}"));
        }
        for chain in gone {
            transaction.delete_chain(chain);
        }
        for set in old_sets.difference(&new_sets) {
            transaction.delete_set(set);
        }
    }

    /// Elements that go or change go first; those that stay are neither deleted nor added.
    fn delete_elements(&mut self, transaction: &mut Transaction<'_>) {
        let new: HashSet<&Element> = self
            .added
            .iter()
            .flat_map(|(_, program)| &program.elements)
            .collect();
        let mut kept: HashSet<Element> = HashSet::new();
        for element in self.removed.iter().flat_map(|program| &program.elements) {
            if new.contains(element) {
                kept.insert(element.clone());
            } else {
                transaction.delete_element(element, "take out an address or endpoint of a service");
            }
        }
        for (_, program) in &mut self.added {
            program.elements.retain(|element| !kept.contains(element));
        }
        for address in &self.endpoints_gone {
            transaction.delete_element(&itself(*address), format!("forget the endpoint {address}"));
        }
    }
}

fn take_chains(programs: &mut [Program]) -> HashMap<String, Vec<Vec<u8>>> {
    programs
        .iter_mut()
        .flat_map(|program| std::mem::take(&mut program.chains))
        .map(|(chain, rules)| {
            (
                chain,
                rules.iter().map(|rule| rule.bytes().to_vec()).collect(),
            )
        })
        .collect()
}
