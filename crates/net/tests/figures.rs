//! What each operation costs: `cargo test -p wharf-net --test figures -- --ignored --nocapture`.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Instant;

use support::*;
use wharf_net::Net;

const ROUNDS: usize = 50;

fn print(what: &str, mut micros: Vec<u128>) {
    micros.sort_unstable();
    let (median, worst) = (micros[micros.len() / 2], micros[micros.len() - 1]);
    println!("{what:<40} median {median:>6} µs   worst {worst:>6} µs");
}

macro_rules! measured {
    ($micros:ident, $call:expr) => {{
        let start = Instant::now();
        let result = $call.await.unwrap();
        $micros.push(start.elapsed().as_micros());
        result
    }};
}

#[test]
#[ignore = "a measurement"]
fn figures() {
    isolated(|| async {
        let mut open = Vec::new();
        let mut bridge = Vec::new();
        let net = measured!(open, Net::open("t"));
        measured!(bridge, net.ensure_bridge(&config("br-t", "172.17.0.0/16")));
        print("open", open);
        print("ensure_bridge", bridge);
        endpoints(&net).await;
        ports(&net).await;
        let mut dns = Vec::new();
        let mut counters = Vec::new();
        for _ in 0..ROUNDS {
            let netns = net.new_namespace().await.unwrap();
            measured!(dns, net.dns_sockets(netns.as_fd()));
            measured!(counters, net.counters(netns.as_fd()));
        }
        print("dns_sockets", dns);
        print("counters", counters);
        let memory = sh(&format!("grep VmRSS /proc/{}/status", std::process::id()));
        println!("this process, {}", memory.trim());
    });
}

async fn endpoints(net: &Net) {
    let [mut namespace, mut attach, mut detach, mut pooled, mut first] = [const { Vec::new() }; 5];
    for _ in 0..ROUNDS {
        let netns = measured!(namespace, net.new_namespace());
        let endpoint = measured!(attach, net.attach("br-t", netns.as_fd(), &request()));
        let address = (endpoint.ipv4.unwrap(), 80);
        serve(netns.as_fd(), address.into());
        let start = Instant::now();
        reach(here().as_fd(), address);
        first.push(start.elapsed().as_micros());
        measured!(detach, net.detach("br-t", &endpoint));
    }
    print("new_namespace", namespace);
    print("attach", attach);
    print("first connection after attach", first);
    print("detach", detach);
    let mut detach = Vec::new();
    for _ in 0..ROUNDS {
        // The background has refilled the pool when it gets to this.
        drop(net.new_namespace().await.unwrap());
        let (_netns, endpoint) = measured!(pooled, net.new_namespace_attached("br-t", &request()));
        measured!(detach, net.detach("br-t", &endpoint));
    }
    print("new_namespace_attached, pooled", pooled);
    print("detach behind a refill", detach);
    let mut cold = Vec::new();
    let other = wharf_net::EndpointRequest {
        interface: "eth7".into(),
        ..request()
    };
    for _ in 0..ROUNDS {
        let (_netns, endpoint) = measured!(cold, net.new_namespace_attached("br-t", &other));
        net.detach("br-t", &endpoint).await.unwrap();
    }
    print("new_namespace_attached, cold", cold);
}

async fn ports(net: &Net) {
    let [mut publish, mut unpublish, mut both] = [const { Vec::new() }; 3];
    let target = IpAddr::from([172, 17, 0, 2]);
    for _ in 0..ROUNDS {
        let published = measured!(
            publish,
            net.publish("br-t", &[tcp("0.0.0.0", 8080, target, 80)])
        );
        measured!(unpublish, net.unpublish(&[published[0].mapping]));
        drop(published);
        let published = measured!(
            both,
            net.publish(
                "br-t",
                &[tcp("0.0.0.0", 0, target, 80), tcp("::", 0, target, 80)]
            )
        );
        net.unpublish(&published.iter().map(|one| one.mapping).collect::<Vec<_>>())
            .await
            .unwrap();
    }
    print("publish", publish);
    print("unpublish", unpublish);
    print("publish, free port, both families", both);
}
