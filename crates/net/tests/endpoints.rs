//! Endpoints: that they reach each other, look the same however they were made, and leave nothing behind.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use support::*;
use wharf_net::{EndpointRequest, Error, Net};

#[test]
fn endpoints_of_a_bridge_reach_each_other_and_the_host() {
    isolated(|| async {
        let net = Net::open("t").await.unwrap();
        net.ensure_bridge(&config("br-t", "172.17.0.0/16"))
            .await
            .unwrap();
        let (a, first) = net
            .new_namespace_attached("br-t", &request())
            .await
            .unwrap();
        let b = net.new_namespace().await.unwrap();
        let second = net.attach("br-t", b.as_fd(), &request()).await.unwrap();
        assert_eq!(first.ipv4, Some([172, 17, 0, 2].into()));
        assert_eq!(first.mac, [0x02, 0x42, 172, 17, 0, 2]);
        assert_eq!(first.gateway, Some([172, 17, 0, 1].into()));
        let (first, second) = (first.ipv4.unwrap(), second.ipv4.unwrap());
        assert_ne!(first, second);
        serve(a.as_fd(), (first, 80).into());
        serve(here().as_fd(), "172.17.0.1:81".parse().unwrap());
        assert_eq!(reach(b.as_fd(), (first, 80)), second.to_string());
        assert_eq!(reach(here().as_fd(), (first, 80)), "172.17.0.1");
        assert_eq!(reach(a.as_fd(), ([172, 17, 0, 1], 81)), first.to_string());
    });
}

/// Everything that a process inside sees of its network, with what names this one endpoint left out.
fn look(netns: &impl AsFd, endpoint: &wharf_net::Endpoint) -> String {
    let line = "ip -o link | sed 's/@if[0-9]*/@if/'; ip -o addr; ip route; ip -6 route; \
                cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6";
    let text = inside(netns.as_fd(), || sh(line));
    let mac = endpoint.mac.map(|byte| format!("{byte:02x}")).join(":");
    text.replace(&mac, "MAC")
        .replace(&endpoint.ipv4.unwrap().to_string(), "ADDRESS")
}

#[test]
fn a_prepared_namespace_is_the_same_as_one_made_step_by_step() {
    isolated(|| async {
        let net = Net::open("t").await.unwrap();
        net.ensure_bridge(&config("br-t", "172.17.0.0/16"))
            .await
            .unwrap();
        let by_steps = net.new_namespace().await.unwrap();
        let of_steps = net
            .attach("br-t", by_steps.as_fd(), &request())
            .await
            .unwrap();
        let (cold, of_cold) = net
            .new_namespace_attached("br-t", &request())
            .await
            .unwrap();
        // The background does one thing after the other: behind this one, the pool is full.
        drop(net.new_namespace().await.unwrap());
        let (pooled, of_pooled) = net
            .new_namespace_attached("br-t", &request())
            .await
            .unwrap();
        let expected = look(&by_steps, &of_steps);
        assert!(expected.contains("state UP"), "{expected}");
        assert_eq!(look(&cold, &of_cold), expected);
        assert_eq!(look(&pooled, &of_pooled), expected);
        assert_eq!(of_pooled.ipv4, Some([172, 17, 0, 4].into()));
        serve(pooled.as_fd(), (of_pooled.ipv4.unwrap(), 80).into());
        assert_eq!(
            reach(cold.as_fd(), (of_pooled.ipv4.unwrap(), 80)),
            of_cold.ipv4.unwrap().to_string()
        );
    });
}

#[test]
fn prepared_namespaces_make_way_for_who_needs_their_addresses() {
    isolated(|| async {
        let net = Net::open("t").await.unwrap();
        net.ensure_bridge(&config("br-t", "10.9.0.0/29"))
            .await
            .unwrap();
        let fixed = EndpointRequest {
            ipv4: Some([10, 9, 0, 3].into()),
            ..request()
        };
        let (_one, first) = net
            .new_namespace_attached("br-t", &request())
            .await
            .unwrap();
        let (_two, second) = net.new_namespace_attached("br-t", &fixed).await.unwrap();
        assert_eq!(second.ipv4, fixed.ipv4);
        let again = net
            .new_namespace_attached("br-t", &fixed)
            .await
            .unwrap_err();
        assert!(matches!(again, Error::AddressUnavailable(_)), "{again}");
        let mut rest = Vec::new();
        for _ in 0..3 {
            rest.push(
                net.new_namespace_attached("br-t", &request())
                    .await
                    .unwrap(),
            );
        }
        let full = net
            .new_namespace_attached("br-t", &request())
            .await
            .unwrap_err();
        assert!(matches!(full, Error::PoolExhausted(_)), "{full}");
        net.detach("br-t", &first).await.unwrap();
        let (_, last) = net
            .new_namespace_attached("br-t", &request())
            .await
            .unwrap();
        assert_eq!(last.ipv4, first.ipv4);
    });
}

#[test]
fn a_failed_attach_leaves_no_link_and_no_address() {
    isolated(|| async {
        let net = Net::open("t").await.unwrap();
        net.ensure_bridge(&config("br-t", "172.17.0.0/16"))
            .await
            .unwrap();
        let netns = net.new_namespace().await.unwrap();
        let before = sh("ip -o link | wc -l");
        let taken = EndpointRequest {
            interface: "lo".into(),
            ..request()
        };
        let error = net.attach("br-t", netns.as_fd(), &taken).await.unwrap_err();
        assert!(error.to_string().contains("make the link veth"), "{error}");
        // A second default route: the pair is made, then has to go again.
        net.attach("br-t", netns.as_fd(), &request()).await.unwrap();
        let second = EndpointRequest {
            interface: "eth1".into(),
            ..request()
        };
        let error = net
            .attach("br-t", netns.as_fd(), &second)
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("route everything from eth1"),
            "{error}"
        );
        assert_eq!(
            sh("ip -o link | wc -l").trim().parse::<u32>().unwrap(),
            before.trim().parse::<u32>().unwrap() + 1
        );
        let third = EndpointRequest {
            interface: "eth1".into(),
            default_route: false,
            ..request()
        };
        net.attach("br-t", netns.as_fd(), &third).await.unwrap();
        let unknown = net
            .attach("nowhere", netns.as_fd(), &request())
            .await
            .unwrap_err();
        assert!(matches!(unknown, Error::UnknownBridge(_)));
    });
}

#[test]
fn a_dropped_attach_is_undone() {
    isolated(|| async {
        let net = Net::open("t").await.unwrap();
        net.ensure_bridge(&config("br-t", "10.9.0.0/30"))
            .await
            .unwrap();
        let netns = net.new_namespace().await.unwrap();
        let request = request();
        loop {
            let mut attach = Box::pin(net.attach("br-t", netns.as_fd(), &request));
            match poll_once(&mut attach) {
                std::task::Poll::Pending => break,
                // Done before it could be dropped.
                std::task::Poll::Ready(endpoint) => {
                    net.detach("br-t", &endpoint.unwrap()).await.unwrap()
                }
            }
        }
        // The range has one address: it is free again, or this fails.
        net.attach("br-t", netns.as_fd(), &request).await.unwrap();
    });
}

#[test]
fn detaching_twice_is_no_error_and_the_link_is_gone() {
    isolated(|| async {
        let net = Net::open("t").await.unwrap();
        net.ensure_bridge(&config("br-t", "172.17.0.0/16"))
            .await
            .unwrap();
        let (netns, endpoint) = net
            .new_namespace_attached("br-t", &request())
            .await
            .unwrap();
        net.detach("br-t", &endpoint).await.unwrap();
        net.detach("br-t", &endpoint).await.unwrap();
        // Another of the same name need not wait.
        let again = net.attach("br-t", netns.as_fd(), &request()).await.unwrap();
        net.detach("br-t", &again).await.unwrap();
        net.settled().await.unwrap();
        assert!(!sh("ip -o link").contains(&endpoint.host_link));
        assert!(!inside(netns.as_fd(), || sh("ip -o link")).contains("eth0"));
        net.attach("br-t", netns.as_fd(), &request()).await.unwrap();
    });
}

#[test]
fn many_at_once_get_addresses_of_their_own() {
    isolated(|| async {
        let net = Net::open("t").await.unwrap();
        net.ensure_bridge(&config("br-t", "172.17.0.0/16"))
            .await
            .unwrap();
        net.prepare("br-t").await.unwrap();
        let one = |net: Net, leaves: bool| async move {
            let (netns, endpoint) = net
                .new_namespace_attached("br-t", &request())
                .await
                .unwrap();
            if leaves {
                net.detach("br-t", &endpoint).await.unwrap();
                return None;
            }
            Some((netns, endpoint))
        };
        let tasks: Vec<_> = (0..24)
            .map(|n| tokio::spawn(one(net.clone(), n % 2 == 0)))
            .collect();
        let mut seen = std::collections::HashSet::new();
        let mut kept = Vec::new();
        for task in tasks {
            if let Some((netns, endpoint)) = task.await.unwrap() {
                assert!(seen.insert(endpoint.ipv4));
                kept.push((netns, endpoint));
            }
        }
        assert_eq!(kept.len(), 12);
        net.settled().await.unwrap();
        let (first, last) = (&kept[0], &kept[11]);
        let address = (last.1.ipv4.unwrap(), 80);
        serve(last.0.as_fd(), address.into());
        assert_eq!(
            reach(first.0.as_fd(), address),
            first.1.ipv4.unwrap().to_string()
        );
    });
}

#[test]
fn ipv6_endpoints() {
    isolated(|| async {
        let net = Net::open("t").await.unwrap();
        let subnet6 = Some(("fd00:9::/64".parse().unwrap(), "fd00:9::1".parse().unwrap()));
        let config = wharf_net::BridgeConfig {
            subnet6,
            ..config("br-t", "172.17.0.0/16")
        };
        net.ensure_bridge(&config).await.unwrap();
        let (a, first) = net
            .new_namespace_attached("br-t", &request())
            .await
            .unwrap();
        let (b, second) = net
            .new_namespace_attached("br-t", &request())
            .await
            .unwrap();
        assert_eq!(first.ipv6, Some("fd00:9::2".parse().unwrap()));
        let address: SocketAddr = (first.ipv6.unwrap(), 80).into();
        serve(a.as_fd(), address);
        assert_eq!(reach(b.as_fd(), address), second.ipv6.unwrap().to_string());
        assert_eq!(reach(here().as_fd(), address), "fd00:9::1");
        let accepts =
            sh("cat /proc/sys/net/ipv6/conf/lo/accept_ra /proc/sys/net/ipv6/conf/all/forwarding");
        assert_eq!(accepts, "2\n1\n", "a router that still listens to routers");
        let outside = neighbour();
        serve(outside.as_fd(), "[2001:db8::2]:80".parse().unwrap());
        let seen = reach(a.as_fd(), "[2001:db8::2]:80".parse::<SocketAddr>().unwrap());
        assert_eq!(seen, "2001:db8::1", "masqueraded");
    });
}

#[test]
fn counters_count() {
    isolated(|| async {
        let net = Net::open("t").await.unwrap();
        net.ensure_bridge(&config("br-t", "172.17.0.0/16"))
            .await
            .unwrap();
        let (netns, endpoint) = net
            .new_namespace_attached("br-t", &request())
            .await
            .unwrap();
        let address = SocketAddr::new(IpAddr::V4(endpoint.ipv4.unwrap()), 80);
        serve(netns.as_fd(), address);
        reach(here().as_fd(), address);
        let counters = net.counters(netns.as_fd()).await.unwrap();
        assert_eq!(counters.len(), 1);
        assert_eq!(counters[0].interface, "eth0");
        assert!(
            counters[0].rx_packets >= 3 && counters[0].rx_bytes > 100,
            "{counters:?}"
        );
        assert!(
            counters[0].tx_packets >= 3 && counters[0].rx_errors == 0,
            "{counters:?}"
        );
    });
}

#[test]
fn questions_to_port_53_of_127_0_0_11_arrive_at_the_sockets() {
    isolated(|| async {
        let net = Net::open("t").await.unwrap();
        let netns = net.new_namespace().await.unwrap();
        net.dns_sockets(netns.as_fd()).await.unwrap();
        let (udp, tcp) = net.dns_sockets(netns.as_fd()).await.unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 100];
            let (_, peer) = udp.recv_from(&mut buffer).unwrap();
            udp.send_to(b"answer", peer).unwrap();
        });
        std::thread::spawn(move || {
            use std::io::Write;
            tcp.accept().unwrap().0.write_all(b"stream").unwrap();
        });
        let dns: SocketAddr = "127.0.0.11:53".parse().unwrap();
        let (answer, from) = inside(netns.as_fd(), || {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            socket
                .set_read_timeout(Some(std::time::Duration::from_secs(5)))
                .unwrap();
            socket.send_to(b"question", dns).unwrap();
            let mut buffer = [0; 100];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            (buffer[..length].to_vec(), from)
        });
        assert_eq!((answer.as_slice(), from), (b"answer".as_slice(), dns));
        assert_eq!(reach(netns.as_fd(), dns), "stream");
    });
}
