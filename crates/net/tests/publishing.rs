//! Published ports: from where they are reached, who is seen as the client, and that they come and go whole.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use support::*;
use wharf_net::{BridgeConfig, Endpoint, Error, Net, PortMapping, Protocol, Published};

struct Server {
    netns: OwnedFd,
    endpoint: Endpoint,
}

impl Server {
    fn address(&self) -> Ipv4Addr {
        self.endpoint.ipv4.unwrap()
    }
    fn mapping(&self, host: &str, host_port: u16) -> PortMapping {
        tcp(host, host_port, IpAddr::V4(self.address()), 80)
    }
}

/// A namespace on the bridge with a server at port 80.
async fn server(net: &Net, bridge: &str) -> Server {
    let (netns, endpoint) = net
        .new_namespace_attached(bridge, &request())
        .await
        .unwrap();
    serve(netns.as_fd(), (endpoint.ipv4.unwrap(), 80).into());
    Server { netns, endpoint }
}

/// What the holder of a published socket does with what arrives there.
fn serve_by_socket(published: Vec<Published>) {
    for Published { socket, .. } in published {
        let listener = TcpListener::from(socket);
        listener.set_nonblocking(false).unwrap();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                connection.unwrap().write_all(b"by the socket").unwrap();
            }
        });
    }
}

async fn open() -> Net {
    let net = Net::open("t").await.unwrap();
    net.ensure_bridge(&config("br-t", "172.17.0.0/16"))
        .await
        .unwrap();
    net
}

fn to(address: [u8; 4], port: u16) -> SocketAddr {
    (address, port).into()
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    isolated(|| reached_from_everywhere(true));
}

#[test]
fn a_published_port_is_reached_from_everywhere_without_the_bridge_filter() {
    isolated(|| reached_from_everywhere(false));
}

/// Whether packets between ports of one bridge pass the rules of IP; Docker and Kubernetes turn this on, the
/// kernel's module does when it is loaded.
fn filter_bridged(on: bool) {
    let on = u8::from(on);
    sh(&format!(
        "for f in ip ip6; do echo {on} > /proc/sys/net/bridge/bridge-nf-call-${{f}}tables; done"
    ));
}

async fn reached_from_everywhere(bridge_filter: bool) {
    filter_bridged(bridge_filter);
    let net = open().await;
    let outside = neighbour();
    let a = server(&net, "br-t").await;
    let b = server(&net, "br-t").await;
    let published = net
        .publish("br-t", &[a.mapping("0.0.0.0", 8080)])
        .await
        .unwrap();
    assert_eq!(published[0].mapping.host_port, 8080);
    let here = here();
    assert_eq!(
        reach(outside.as_fd(), to([198, 51, 100, 1], 8080)),
        "198.51.100.2",
        "the client itself"
    );
    assert_eq!(reach(here.as_fd(), to([127, 0, 0, 1], 8080)), "172.17.0.1");
    assert_eq!(reach(here.as_fd(), to([127, 1, 2, 3], 8080)), "172.17.0.1");
    assert_eq!(
        reach(here.as_fd(), to([198, 51, 100, 1], 8080)),
        "198.51.100.1"
    );
    assert_eq!(reach(here.as_fd(), to([172, 17, 0, 1], 8080)), "172.17.0.1");
    assert_eq!(
        reach(a.netns.as_fd(), to([198, 51, 100, 1], 8080)),
        "172.17.0.1",
        "to itself, by way of the host"
    );
    assert_eq!(
        reach(b.netns.as_fd(), to([198, 51, 100, 1], 8080)),
        "172.17.0.1"
    );
    assert_eq!(
        reach(b.netns.as_fd(), to([172, 17, 0, 1], 8080)),
        "172.17.0.1"
    );

    net.unpublish(&[published[0].mapping]).await.unwrap();
    drop(published);
    reach_nothing(outside.as_fd(), to([198, 51, 100, 1], 8080));
    reach_nothing(here.as_fd(), to([127, 0, 0, 1], 8080));
    let again = net
        .publish("br-t", &[b.mapping("0.0.0.0", 8080)])
        .await
        .unwrap();
    assert_eq!(reach(here.as_fd(), to([127, 0, 0, 1], 8080)), "172.17.0.1");
    assert_eq!(
        reach(outside.as_fd(), to([198, 51, 100, 1], 8080)),
        "198.51.100.2"
    );
    drop(again);
}

#[test]
fn a_port_of_one_address_is_not_one_of_the_others() {
    isolated(|| async {
        let net = open().await;
        let outside = neighbour();
        let (a, b) = (server(&net, "br-t").await, server(&net, "br-t").await);
        let mappings = [
            a.mapping("127.0.0.1", 8080),
            b.mapping("198.51.100.1", 8081),
        ];
        let _published = net.publish("br-t", &mappings).await.unwrap();
        let here = here();
        assert_eq!(reach(here.as_fd(), to([127, 0, 0, 1], 8080)), "172.17.0.1");
        reach_nothing(outside.as_fd(), to([198, 51, 100, 1], 8080));
        reach_nothing(here.as_fd(), to([127, 0, 0, 2], 8080));
        assert_eq!(
            reach(outside.as_fd(), to([198, 51, 100, 1], 8081)),
            "198.51.100.2"
        );
        reach_nothing(here.as_fd(), to([127, 0, 0, 1], 8081));
    });
}

#[test]
fn what_rules_cannot_translate_arrives_at_the_socket() {
    isolated(|| async {
        let net = open().await;
        let outside = neighbour();
        let a = server(&net, "br-t").await;
        let published = net.publish("br-t", &[a.mapping("::", 8080)]).await.unwrap();
        assert_eq!(
            published[0].mapping.host_ip,
            "::".parse::<IpAddr>().unwrap()
        );
        serve_by_socket(published);
        let own: SocketAddr = "[::1]:8080".parse().unwrap();
        assert_eq!(reach(here().as_fd(), own), "by the socket");
        let global: SocketAddr = "[2001:db8::1]:8080".parse().unwrap();
        assert_eq!(reach(outside.as_fd(), global), "by the socket");
    });
}

#[test]
fn ipv6_to_an_ipv6_endpoint_is_translated() {
    isolated(|| async {
        let net = Net::open("t").await.unwrap();
        let subnet6 = Some(("fd00:9::/64".parse().unwrap(), "fd00:9::1".parse().unwrap()));
        net.ensure_bridge(&BridgeConfig {
            subnet6,
            ..config("br-t", "172.17.0.0/16")
        })
        .await
        .unwrap();
        let outside = neighbour();
        inside(outside.as_fd(), || {
            sh("ip -6 route add default via 2001:db8::1")
        });
        let a = server(&net, "br-t").await;
        let target = a.endpoint.ipv6.unwrap();
        serve(a.netns.as_fd(), (target, 80).into());
        let _published = net
            .publish("br-t", &[tcp("::", 8080, IpAddr::V6(target), 80)])
            .await
            .unwrap();
        let address: SocketAddr = "[2001:db8::1]:8080".parse().unwrap();
        assert_eq!(reach(outside.as_fd(), address), "2001:db8::2");
        assert_eq!(reach(here().as_fd(), address), "2001:db8::1");
        assert_eq!(reach(a.netns.as_fd(), address), "fd00:9::1");
        reach_nothing(outside.as_fd(), (target, 80));
    });
}

#[test]
fn networks_are_kept_apart() {
    isolated(|| kept_apart(true));
}

#[test]
fn networks_are_kept_apart_without_the_bridge_filter() {
    isolated(|| kept_apart(false));
}

async fn kept_apart(bridge_filter: bool) {
    filter_bridged(bridge_filter);
    let net = open().await;
    let outside = neighbour();
    inside(outside.as_fd(), || {
        sh("ip route add default via 198.51.100.1")
    });
    net.ensure_bridge(&config("br-u", "172.18.0.0/16"))
        .await
        .unwrap();
    let closed = BridgeConfig {
        internal: true,
        ..config("br-i", "172.19.0.0/16")
    };
    net.ensure_bridge(&closed).await.unwrap();
    let strangers = BridgeConfig {
        inter_container: false,
        ..config("br-s", "172.20.0.0/16")
    };
    net.ensure_bridge(&strangers).await.unwrap();
    let (a, b) = (server(&net, "br-t").await, server(&net, "br-u").await);
    let (i, j) = (server(&net, "br-i").await, server(&net, "br-i").await);
    let (s, t) = (server(&net, "br-s").await, server(&net, "br-s").await);
    serve(outside.as_fd(), "198.51.100.2:80".parse().unwrap());

    reach_nothing(a.netns.as_fd(), (b.address(), 80));
    reach_nothing(outside.as_fd(), (a.address(), 80));
    internal_is_closed(&net, &i, &j, &a).await;
    strangers_are_apart(&s, &t);
    assert_eq!(
        reach(a.netns.as_fd(), to([198, 51, 100, 2], 80)),
        "198.51.100.1",
        "masqueraded"
    );

    // What is published is reached from every network, as over the host's own address it must be.
    let _published = net
        .publish("br-u", &[b.mapping("0.0.0.0", 8080)])
        .await
        .unwrap();
    let more = net
        .publish("br-s", &[t.mapping("0.0.0.0", 8081)])
        .await
        .unwrap();
    serve_by_socket(more);
    assert_eq!(
        reach(a.netns.as_fd(), to([198, 51, 100, 1], 8080)),
        "172.18.0.1"
    );
    assert_eq!(
        reach(s.netns.as_fd(), to([198, 51, 100, 1], 8081)),
        "by the socket"
    );
}

async fn internal_is_closed(net: &Net, i: &Server, j: &Server, a: &Server) {
    assert_eq!(
        reach(i.netns.as_fd(), (j.address(), 80)),
        i.address().to_string()
    );
    assert_eq!(i.endpoint.gateway, None);
    inside(i.netns.as_fd(), || {
        sh("ip route add default via 172.19.0.1")
    });
    reach_nothing(i.netns.as_fd(), to([198, 51, 100, 2], 80));
    reach_nothing(i.netns.as_fd(), (a.address(), 80));
    reach_nothing(a.netns.as_fd(), (i.address(), 80));
    assert!(
        net.publish("br-i", &[i.mapping("0.0.0.0", 8085)])
            .await
            .unwrap()
            .is_empty()
    );
}

fn strangers_are_apart(s: &Server, t: &Server) {
    reach_nothing(s.netns.as_fd(), (t.address(), 80));
    assert_eq!(
        reach(s.netns.as_fd(), to([198, 51, 100, 2], 80)),
        "198.51.100.1"
    );
    assert_eq!(reach(here().as_fd(), (s.address(), 80)), "172.20.0.1");
    // By a detour over the gateway, too.
    inside(s.netns.as_fd(), || {
        sh(&format!("ip route add {}/32 via 172.20.0.1", t.address()))
    });
    reach_nothing(s.netns.as_fd(), (t.address(), 80));
}

#[test]
fn loopback_of_the_host_is_out_of_a_containers_reach() {
    isolated(|| async {
        let net = open().await;
        let a = server(&net, "br-t").await;
        let secret = UdpSocket::bind("127.0.0.1:99").unwrap();
        secret
            .set_read_timeout(Some(std::time::Duration::from_millis(300)))
            .unwrap();
        let intruder = inside(a.netns.as_fd(), || {
            sh("echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet
                ip route del local 127.0.0.1 dev lo table local
                ip route del local 127.0.0.0/8 dev lo table local
                ip route add 127.0.0.1 via 172.17.0.1 dev eth0 src 172.17.0.2");
            UdpSocket::bind("172.17.0.2:0").unwrap()
        });
        let mut buffer = [0; 10];
        intruder.send_to(b"in?", "127.0.0.1:99").unwrap();
        assert!(secret.recv_from(&mut buffer).is_err());
        // It is the guard that keeps it out.
        sh("nft flush chain inet wharf-t guard");
        intruder.send_to(b"in!", "127.0.0.1:99").unwrap();
        assert_eq!(secret.recv_from(&mut buffer).unwrap().0, 3);
    });
}

#[test]
fn a_port_in_use_names_its_holder_and_all_stay_free() {
    isolated(|| async {
        let net = open().await;
        let a = server(&net, "br-t").await;
        let first = net
            .publish("br-t", &[a.mapping("0.0.0.0", 8081)])
            .await
            .unwrap();
        let error = net
            .publish(
                "br-t",
                &[a.mapping("0.0.0.0", 8080), a.mapping("0.0.0.0", 8081)],
            )
            .await
            .unwrap_err();
        let Error::PortInUse {
            port: 8081,
            holder: Some(holder),
            protocol: Protocol::Tcp,
            ..
        } = &error
        else {
            panic!("{error}")
        };
        assert!(
            holder.ends_with(&format!("(pid {})", std::process::id())),
            "{holder}"
        );
        TcpListener::bind("0.0.0.0:8080").unwrap();
        reach_nothing(here().as_fd(), to([127, 0, 0, 1], 8080));
        drop(first);
        // The holder is gone without having unpublished: its rules make way.
        net.publish("br-t", &[a.mapping("0.0.0.0", 8081)])
            .await
            .unwrap();
        assert_eq!(
            reach(here().as_fd(), to([127, 0, 0, 1], 8081)),
            "172.17.0.1"
        );
    });
}

#[test]
fn both_families_get_the_same_free_port() {
    isolated(|| async {
        let net = open().await;
        sh("echo 40000 40003 > /proc/sys/net/ipv4/ip_local_port_range");
        let _taken = TcpListener::bind("[::]:40000").unwrap();
        let a = server(&net, "br-t").await;
        let both = [a.mapping("0.0.0.0", 0), a.mapping("::", 0)];
        let ports = |published: &[Published]| {
            published
                .iter()
                .map(|one| one.mapping.host_port)
                .collect::<Vec<_>>()
        };
        let first = net.publish("br-t", &both).await.unwrap();
        let second = net.publish("br-t", &both).await.unwrap();
        assert_eq!(
            (ports(&first), ports(&second)),
            (vec![40001; 2], vec![40002; 2])
        );
        drop(first);
        let third = net.publish("br-t", &both).await.unwrap();
        let fourth = net.publish("br-t", &both).await.unwrap();
        assert_eq!(
            (ports(&third), ports(&fourth)),
            (vec![40003; 2], vec![40001; 2])
        );
        let error = net.publish("br-t", &both).await.unwrap_err();
        assert!(matches!(error, Error::PoolExhausted(_)), "{error}");
    });
}

#[test]
fn datagrams_follow_when_the_port_moves() {
    isolated(|| async {
        let net = open().await;
        let outside = neighbour();
        let (a, b) = (server(&net, "br-t").await, server(&net, "br-t").await);
        serve_udp(a.netns.as_fd(), (a.address(), 53).into(), "a:");
        serve_udp(b.netns.as_fd(), (b.address(), 53).into(), "b:");
        let mapping = |server: &Server| PortMapping {
            protocol: Protocol::Udp,
            target_port: 53,
            ..server.mapping("0.0.0.0", 5353)
        };
        let clients = [
            (
                inside(outside.as_fd(), || UdpSocket::bind("0.0.0.0:0").unwrap()),
                to([198, 51, 100, 1], 5353),
            ),
            (
                UdpSocket::bind("127.0.0.1:0").unwrap(),
                to([127, 0, 0, 1], 5353),
            ),
        ];
        for (client, address) in &clients {
            assert_eq!(exchange(client, *address, false), None);
        }
        let published = net.publish("br-t", &[mapping(&a)]).await.unwrap();
        for (client, address) in &clients {
            assert_eq!(exchange(client, *address, true).as_deref(), Some("a:ping"));
        }
        net.unpublish(&[published[0].mapping]).await.unwrap();
        drop(published);
        let _published = net.publish("br-t", &[mapping(&b)]).await.unwrap();
        for (client, address) in &clients {
            assert_eq!(exchange(client, *address, true).as_deref(), Some("b:ping"));
        }
    });
}

#[test]
fn sctp_is_translated_where_the_kernel_cannot_speak_it() {
    isolated(|| async {
        let net = open().await;
        let a = server(&net, "br-t").await;
        let mapping = PortMapping {
            protocol: Protocol::Sctp,
            ..a.mapping("0.0.0.0", 8080)
        };
        let published = net.publish("br-t", &[mapping]).await.unwrap();
        assert_eq!(published[0].mapping, mapping);
        let rules = sh("nft list map inet wharf-t any4");
        assert!(rules.contains("sctp . 8080 : 172.17.0.2 . 80"), "{rules}");
        net.unpublish(&[mapping]).await.unwrap();
        assert!(!sh("nft list map inet wharf-t any4").contains("sctp"));
    });
}

#[test]
fn a_late_unpublish_does_not_hit_the_next_owner() {
    isolated(|| async {
        let net = open().await;
        let (a, b) = (server(&net, "br-t").await, server(&net, "br-t").await);
        let old = net
            .publish("br-t", &[a.mapping("0.0.0.0", 8080)])
            .await
            .unwrap();
        drop(old);
        let _new = net
            .publish("br-t", &[b.mapping("0.0.0.0", 8080)])
            .await
            .unwrap();
        net.unpublish(&[a.mapping("0.0.0.0", 8080)]).await.unwrap();
        assert_eq!(
            reach(here().as_fd(), to([127, 0, 0, 1], 8080)),
            "172.17.0.1"
        );
        let both = [b.mapping("0.0.0.0", 8080), b.mapping("0.0.0.0", 8080)];
        net.unpublish(&both).await.unwrap();
        net.unpublish(&both).await.unwrap();
    });
}

#[test]
fn a_dropped_publish_leaves_neither_rule_nor_socket() {
    isolated(|| async {
        let net = open().await;
        let a = server(&net, "br-t").await;
        let mapping = [a.mapping("0.0.0.0", 8080)];
        loop {
            let mut publish = Box::pin(net.publish("br-t", &mapping));
            match poll_once(&mut publish) {
                std::task::Poll::Pending => break,
                // Done before it could be dropped.
                std::task::Poll::Ready(published) => {
                    drop(published.unwrap());
                    net.unpublish(&mapping).await.unwrap();
                }
            }
        }
        // Behind the call itself, and behind its undoing.
        for _ in 0..2 {
            net.check_subnet("10.0.0.0/24".parse().unwrap())
                .await
                .unwrap();
        }
        TcpListener::bind("0.0.0.0:8080").unwrap();
        assert!(!sh("nft list map inet wharf-t any4").contains("8080"));
    });
}

#[test]
fn the_thousandth_port_costs_what_the_first_did() {
    isolated(|| async {
        let net = open().await;
        let a = server(&net, "br-t").await;
        let mut published = Vec::new();
        let mut micros = Vec::new();
        for port in 20000..21000 {
            let start = Instant::now();
            published.extend(
                net.publish("br-t", &[a.mapping("0.0.0.0", port)])
                    .await
                    .unwrap(),
            );
            micros.push(start.elapsed().as_micros());
        }
        let median = |part: &[u128]| {
            let mut part = part.to_vec();
            part.sort_unstable();
            part[part.len() / 2]
        };
        let (first, last) = (median(&micros[..100]), median(&micros[900..]));
        println!("publish: median of the first hundred {first} µs, of the last {last} µs");
        assert!(
            last < 3 * first + 100,
            "{first} µs at first, {last} µs at last"
        );
        assert_eq!(
            reach(here().as_fd(), to([127, 0, 0, 1], 20999)),
            "172.17.0.1"
        );
        let all: Vec<PortMapping> = published.iter().map(|one| one.mapping).collect();
        net.unpublish(&all).await.unwrap();
        assert!(!sh("nft list map inet wharf-t any4").contains("elements"));
        drop(published);
        net.publish("br-t", &all).await.unwrap();
        assert_eq!(
            sh("nft list map inet wharf-t any4 | grep -o 'tcp \\.' | wc -l").trim(),
            "1000"
        );
    });
}

#[test]
fn rules_that_a_firewall_has_flushed_come_back() {
    isolated(|| async {
        let net = open().await;
        let (a, b) = (server(&net, "br-t").await, server(&net, "br-t").await);
        let first = net
            .publish("br-t", &[a.mapping("0.0.0.0", 8080)])
            .await
            .unwrap();
        sh("nft flush ruleset");
        let second = net
            .publish("br-t", &[b.mapping("0.0.0.0", 8081)])
            .await
            .unwrap();
        for port in [8080, 8081] {
            assert_eq!(
                reach(here().as_fd(), to([127, 0, 0, 1], port)),
                "172.17.0.1"
            );
        }
        sh("nft flush ruleset");
        net.unpublish(&[first[0].mapping]).await.unwrap();
        assert_eq!(
            reach(here().as_fd(), to([127, 0, 0, 1], 8081)),
            "172.17.0.1"
        );
        sh("nft flush ruleset");
        net.ensure_bridge(&config("br-u", "172.18.0.0/16"))
            .await
            .unwrap();
        sh("nft flush ruleset");
        net.remove_bridge("br-u").await.unwrap();
        assert_eq!(
            reach(here().as_fd(), to([127, 0, 0, 1], 8081)),
            "172.17.0.1"
        );
        drop((first, second));
    });
}
