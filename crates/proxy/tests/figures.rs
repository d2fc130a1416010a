//! What a change costs with few and with many services:
//! `cargo test -p wharf-proxy --test figures -- --ignored --nocapture`.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::api::{service, slice};
use support::*;

const VIP: &str = "10.100.255.1";

fn print(what: &str, mut micros: Vec<u128>) {
    micros.sort_unstable();
    let (median, worst) = (micros[micros.len() / 2], micros[micros.len() - 1]);
    println!("{what:<56} median {median:>7} µs   worst {worst:>7} µs");
}

/// Puts the services in that lack, each with two endpoints.
fn fill(node: &Node, from: usize, to: usize) {
    for n in from..to {
        let name = format!("s{n}");
        let address = format!("10.{}.{}.{}", 97 + n / 62500, n / 250 % 250, n % 250 + 1);
        node.api
            .put("services", service(&name, &address, json!({})));
        let endpoint = |last: usize| format!("10.42.{}.{}", 1 + n % 200, last).parse().unwrap();
        node.api.put(
            "endpointslices",
            slice(&name, &[endpoint(10), endpoint(11)]),
        );
    }
}

#[test]
#[ignore = "a measurement"]
fn figures() {
    isolated(|| async {
        let mut node = Node::new().await;
        let (a, b, client) = (node.server().await, node.server().await, node.pod().await);
        let vip = std::net::SocketAddr::new(VIP.parse().unwrap(), 80);
        node.api.put("services", service("probe", VIP, json!({})));
        node.api.put("endpointslices", slice("probe", &[a.address]));
        let mut there = 0;
        for many in [10, 1_000, 10_000] {
            fill(&node, there, many);
            there = many;
            node.kill().await;
            let start = Instant::now();
            node.start();
            // The last of all by name.
            eventually("everything is in the kernel", || {
                let count = sh(
                    "nft -t list chains inet wharf-proxy 2>/dev/null | grep -c 'chain svc-' || true",
                );
                (count.trim().parse::<usize>().ok()? > many).then_some(())
            });
            println!(
                "{many} services from nothing: at most {} ms",
                start.elapsed().as_millis()
            );
            let mut updates = Vec::new();
            for round in 0..40 {
                let (to, from) = if round % 2 == 0 { (&b, &a) } else { (&a, &b) };
                let start = Instant::now();
                node.api
                    .put("endpointslices", slice("probe", &[to.address]));
                loop {
                    let answer = client.ask(vip).unwrap();
                    if answer.starts_with(&format!("{} ", to.address)) {
                        break;
                    }
                    assert!(answer.starts_with(&format!("{} ", from.address)));
                    assert!(start.elapsed() < Duration::from_secs(5));
                }
                updates.push(start.elapsed().as_micros());
            }
            print(
                &format!("{many} services: slice written to packet led elsewhere"),
                updates,
            );
            let mut connects = Vec::new();
            for _ in 0..200 {
                let start = Instant::now();
                client.ask(vip).unwrap();
                connects.push(start.elapsed().as_micros());
            }
            print(&format!("{many} services: connect, ask, answer"), connects);
            println!(
                "{}",
                sh(&format!("grep VmRSS /proc/{}/status", std::process::id())).trim()
            );
        }
    });
}
