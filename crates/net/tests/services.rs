//! Services in nftables, with real packets: clients and endpoints in namespaces on a bridge, on the host and beyond it.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use support::*;
use wharf_net::{
    Balancer, Balancers, Front, FrontAddress, Net, Protocol, ServiceOptions, Services,
};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 3, 4);
const TABLE: &str = "wharf-proxy-test";

struct Machine {
    net: Net,
    services: Services,
}

struct Pod {
    netns: OwnedFd,
    address: IpAddr,
}

impl Machine {
    async fn new() -> Machine {
        // Something to send to the world by, so that addresses of services have a route.
        sh(
            "ip link add world type veth peer name world2 && ip addr add 192.0.2.1/24 dev world && ip link set world up && ip link set world2 up && ip route add default via 192.0.2.254",
        );
        let net = Net::open("test").await.unwrap();
        net.ensure_bridge(&config("pods", "10.42.0.0/24"))
            .await
            .unwrap();
        Machine {
            net,
            services: open().await,
        }
    }

    async fn pod(&self) -> Pod {
        let (netns, endpoint) = self
            .net
            .new_namespace_attached("pods", &request())
            .await
            .unwrap();
        Pod {
            netns,
            address: endpoint.ipv4.unwrap().into(),
        }
    }

    /// A pod that tells every client the address it sees it by.
    async fn server(&self, port: u16) -> Pod {
        let pod = self.pod().await;
        serve(pod.netns.as_fd(), SocketAddr::new(pod.address, port));
        pod
    }
}

fn options() -> ServiceOptions {
    ServiceOptions {
        table: TABLE.to_owned(),
        pods: vec!["10.42.0.0/16".parse().unwrap()],
        masquerade_all: false,
    }
}

async fn open() -> Services {
    Services::open(options()).await.unwrap()
}

fn front(at: FrontAddress, port: u16) -> Front {
    Front {
        at,
        port,
        sources: Vec::new(),
    }
}

fn balancer(fronts: Vec<Front>, backends: &[(IpAddr, u16)]) -> Balancer {
    Balancer {
        protocol: Protocol::Tcp,
        is_ipv6: false,
        fronts,
        everywhere: backends.to_vec(),
        here: Vec::new(),
        internal_local: false,
        external_local: false,
        affinity_s: None,
    }
}

fn cluster(port: u16) -> Front {
    front(FrontAddress::Cluster(VIP.into()), port)
}

fn one(name: &str, balancer: Balancer) -> Balancers {
    Balancers::from([(name.to_owned(), balancer)])
}

#[test]
fn pods_reach_a_service_and_keep_their_address() {
    isolated(|| async {
        let machine = Machine::new().await;
        let (a, b) = (machine.server(8080).await, machine.server(8080).await);
        let client = machine.pod().await;
        let both = [(a.address, 8080), (b.address, 8080)];
        machine
            .services
            .replace(one("default/web:http", balancer(vec![cluster(80)], &both)))
            .await
            .unwrap();
        for _ in 0..8 {
            assert!(reach(client.netns.as_fd(), (VIP, 80)).contains(&client.address.to_string()));
        }
        let host = reach(here().as_fd(), (VIP, 80));
        assert!(
            host.contains("10.42.0.1"),
            "the machine itself is masqueraded: {host}"
        );
        // An endpoint that is led to itself.
        machine
            .services
            .replace(one(
                "default/web:http",
                balancer(vec![cluster(80)], &both[..1]),
            ))
            .await
            .unwrap();
        assert!(reach(a.netns.as_fd(), (VIP, 80)).contains("10.42.0.1"));
    });
}

#[test]
fn a_machine_that_does_not_see_bridged_packets_masquerades_instead() {
    isolated(|| async {
        let machine = Machine::new().await;
        sh("echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables");
        let services = Services::open(ServiceOptions {
            masquerade_all: true,
            ..options()
        });
        let services = services.await.unwrap();
        let server = machine.server(8080).await;
        let client = machine.pod().await;
        let backends = [(server.address, 8080)];
        services
            .replace(one(
                "default/web:http",
                balancer(vec![cluster(80)], &backends),
            ))
            .await
            .unwrap();
        assert!(reach(client.netns.as_fd(), (VIP, 80)).contains("10.42.0.1"));
        for _ in 0..3 {
            assert!(reach(client.netns.as_fd(), (VIP, 80)).contains("10.42.0.1"));
            assert!(reach(server.netns.as_fd(), (VIP, 80)).contains("10.42.0.1"));
        }
    });
}

#[test]
fn node_ports_are_on_every_address_and_policies_hold() {
    isolated(|| async {
        let machine = Machine::new().await;
        let world = neighbour();
        let server = machine.server(8080).await;
        let client = machine.pod().await;
        let fronts = vec![
            cluster(80),
            front(FrontAddress::Node, 30080),
            front(FrontAddress::External([203, 0, 113, 9].into()), 80),
        ];
        let mut web = balancer(fronts, &[(server.address, 8080)]);
        let set = |web: &Balancer| {
            let change = vec![("default/web:http".to_owned(), Some(web.clone()))];
            machine.services.change(change)
        };
        // The table is not there yet: it is made.
        set(&web).await.unwrap();
        for address in ["127.0.0.1", "192.0.2.1", "198.51.100.1", "10.42.0.1"] {
            let address: SocketAddr = format!("{address}:30080").parse().unwrap();
            reach(here().as_fd(), address);
        }
        let node: SocketAddr = "198.51.100.1:30080".parse().unwrap();
        assert!(reach(client.netns.as_fd(), node).contains("10.42.0.1"));
        assert!(
            reach(world.as_fd(), node).contains("10.42.0.1"),
            "masqueraded"
        );
        inside(world.as_fd(), || {
            sh("ip route add default via 198.51.100.1")
        });
        let external: SocketAddr = "203.0.113.9:80".parse().unwrap();
        assert!(reach(world.as_fd(), external).contains("10.42.0.1"));
        reach(here().as_fd(), external);

        web.external_local = true;
        set(&web).await.unwrap();
        reach_nothing(world.as_fd(), node);
        assert!(reach(client.netns.as_fd(), node).contains(&client.address.to_string()));
        reach(here().as_fd(), node);
        web.here = web.everywhere.clone();
        set(&web).await.unwrap();
        assert!(
            reach(world.as_fd(), node).contains("198.51.100.2"),
            "the source stays"
        );

        web.internal_local = true;
        set(&web).await.unwrap();
        reach(client.netns.as_fd(), (VIP, 80));
        web.here.clear();
        set(&web).await.unwrap();
        reach_nothing(client.netns.as_fd(), (VIP, 80));
    });
}

#[test]
fn only_clients_from_the_named_ranges_come_in() {
    isolated(|| async {
        let machine = Machine::new().await;
        let world = neighbour();
        inside(world.as_fd(), || {
            sh("ip route add default via 198.51.100.1")
        });
        let server = machine.server(8080).await;
        let at = FrontAddress::External([203, 0, 113, 9].into());
        let mut web = balancer(vec![front(at, 80)], &[(server.address, 8080)]);
        for (range, comes_in) in [
            ("198.51.100.0/24", true),
            ("198.51.101.0/24", false),
            ("0.0.0.0/0", true),
        ] {
            web.fronts[0].sources = vec![range.parse().unwrap(), "2001:db8::/32".parse().unwrap()];
            machine
                .services
                .replace(one("a/b:", web.clone()))
                .await
                .unwrap();
            let address: SocketAddr = "203.0.113.9:80".parse().unwrap();
            if comes_in {
                reach(world.as_fd(), address);
            } else {
                reach_nothing(world.as_fd(), address);
            }
        }
    });
}

#[test]
fn a_service_without_endpoints_refuses_at_once() {
    isolated(|| async {
        let machine = Machine::new().await;
        let client = machine.pod().await;
        let mut udp = balancer(vec![cluster(53)], &[]);
        udp.protocol = Protocol::Udp;
        let fronts = vec![cluster(80), front(FrontAddress::Node, 30080)];
        let mut both = one("a/tcp:", balancer(fronts, &[]));
        both.insert("a/udp:".into(), udp);
        machine.services.replace(both).await.unwrap();
        let refused = |to: SocketAddr| {
            let error =
                std::net::TcpStream::connect_timeout(&to, std::time::Duration::from_secs(5));
            assert_eq!(
                error.unwrap_err().kind(),
                std::io::ErrorKind::ConnectionRefused,
                "{to}"
            );
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect((VIP, 53)).unwrap();
            // Who asks from the machine itself is told by the system call already.
            if socket.send(b"ping").is_err() {
                return;
            }
            socket
                .set_read_timeout(Some(std::time::Duration::from_secs(5)))
                .unwrap();
            let error = socket.recv(&mut [0; 10]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        };
        let vip = SocketAddr::new(VIP.into(), 80);
        inside(client.netns.as_fd(), || refused(vip));
        refused(vip);
        refused("127.0.0.1:30080".parse().unwrap());
        inside(client.netns.as_fd(), || {
            refused("10.42.0.1:30080".parse().unwrap())
        });
    });
}

#[test]
fn a_client_stays_with_its_endpoint() {
    isolated(|| async {
        let machine = Machine::new().await;
        let client = machine.pod().await;
        let mut pods = Vec::new();
        for _ in 0..3 {
            pods.push(machine.pod().await);
        }
        // Each tells its own address.
        for pod in &pods {
            let listener = inside(pod.netns.as_fd(), || {
                std::net::TcpListener::bind((pod.address, 8080)).unwrap()
            });
            let name = pod.address.to_string();
            std::thread::spawn(move || {
                for connection in listener.incoming() {
                    use std::io::Write;
                    let _ = connection.unwrap().write_all(name.as_bytes());
                }
            });
        }
        let backends: Vec<_> = pods.iter().map(|pod| (pod.address, 8080)).collect();
        let mut web = balancer(vec![cluster(80)], &backends);
        machine
            .services
            .replace(one("a/web:", web.clone()))
            .await
            .unwrap();
        let ask = || reach(client.netns.as_fd(), (VIP, 80));
        let all: std::collections::BTreeSet<String> = (0..60).map(|_| ask()).collect();
        assert_eq!(all.len(), 3, "without affinity it meets all");
        web.affinity_s = Some(10800);
        let set = |web: &Balancer| {
            machine
                .services
                .change(vec![("a/web:".to_owned(), Some(web.clone()))])
        };
        set(&web).await.unwrap();
        let mine = ask();
        assert!((0..20).all(|_| ask() == mine));
        // Another endpoint goes: nothing changes for this client.
        let other = backends
            .iter()
            .position(|(address, _)| address.to_string() != mine)
            .unwrap();
        web.everywhere.remove(other);
        set(&web).await.unwrap();
        assert!((0..20).all(|_| ask() == mine));
        // Its own goes: it is led to another, and stays there.
        web.everywhere
            .retain(|(address, _)| address.to_string() != mine);
        set(&web).await.unwrap();
        let next = ask();
        assert_ne!(next, mine);
        web.everywhere = backends.clone();
        set(&web).await.unwrap();
        assert!((0..20).all(|_| ask() == next));
        web.affinity_s = Some(1);
        set(&web).await.unwrap();
        ask();
        web.affinity_s = None;
        set(&web).await.unwrap();
        let all: std::collections::BTreeSet<String> = (0..60).map(|_| ask()).collect();
        assert_eq!(all.len(), 3);
        assert!(!sh(&format!("nft list table inet {TABLE}")).contains("clients-"));
    });
}

#[test]
fn a_udp_client_that_keeps_sending_is_led_to_the_new_endpoint() {
    isolated(|| async {
        let machine = Machine::new().await;
        let (a, b, client) = (
            machine.pod().await,
            machine.pod().await,
            machine.pod().await,
        );
        serve_udp(a.netns.as_fd(), SocketAddr::new(a.address, 53), "a ");
        serve_udp(b.netns.as_fd(), SocketAddr::new(b.address, 53), "b ");
        let mut dns = balancer(vec![cluster(53)], &[(a.address, 53)]);
        dns.protocol = Protocol::Udp;
        machine
            .services
            .replace(one("a/dns:", dns.clone()))
            .await
            .unwrap();
        let socket = inside(client.netns.as_fd(), || {
            UdpSocket::bind("0.0.0.0:5000").unwrap()
        });
        assert_eq!(exchange(&socket, (VIP, 53), true).unwrap(), "a ping");
        dns.everywhere = vec![(b.address, 53)];
        machine
            .services
            .change(vec![("a/dns:".to_owned(), Some(dns.clone()))])
            .await
            .unwrap();
        assert_eq!(exchange(&socket, (VIP, 53), true).unwrap(), "b ping");
        // The same after a restart that missed the change.
        dns.everywhere = vec![(a.address, 53)];
        open().await.replace(one("a/dns:", dns)).await.unwrap();
        assert_eq!(exchange(&socket, (VIP, 53), true).unwrap(), "a ping");
    });
}

#[test]
fn both_families_side_by_side() {
    isolated(|| async {
        sh("ip link set lo up");
        let net = Net::open("test").await.unwrap();
        let mut bridge = config("pods", "10.42.0.0/24");
        bridge.subnet6 = Some((
            "fd00:42::/64".parse().unwrap(),
            "fd00:42::1".parse().unwrap(),
        ));
        net.ensure_bridge(&bridge).await.unwrap();
        let pods = vec![
            "10.42.0.0/16".parse().unwrap(),
            "fd00:42::/56".parse().unwrap(),
        ];
        let services = Services::open(ServiceOptions { pods, ..options() })
            .await
            .unwrap();
        let (server, endpoint) = net
            .new_namespace_attached("pods", &request())
            .await
            .unwrap();
        let (client, client_endpoint) = net
            .new_namespace_attached("pods", &request())
            .await
            .unwrap();
        let address = IpAddr::from(endpoint.ipv6.unwrap());
        serve(server.as_fd(), SocketAddr::new(address, 8080));
        let vip: IpAddr = "fd00:96::5".parse().unwrap();
        let mut web = balancer(
            vec![
                front(FrontAddress::Cluster(vip), 80),
                front(FrontAddress::Node, 30080),
            ],
            &[(address, 8080), (address, 8080)],
        );
        web.is_ipv6 = true;
        web.everywhere.dedup();
        services.replace(one("a/web:", web.clone())).await.unwrap();
        let seen = reach(client.as_fd(), (vip, 80));
        assert!(
            seen.contains(&client_endpoint.ipv6.unwrap().to_string()),
            "{seen}"
        );
        assert!(reach(server.as_fd(), (vip, 80)).contains("fd00:42::1"));
        web.affinity_s = Some(60);
        services
            .change(vec![("a/web:".to_owned(), Some(web.clone()))])
            .await
            .unwrap();
        for _ in 0..3 {
            reach(client.as_fd(), (vip, 80));
        }
        let node: IpAddr = "fd00:42::1".parse().unwrap();
        reach(client.as_fd(), (node, 30080));
        services
            .change(vec![("a/web:".to_owned(), None)])
            .await
            .unwrap();
        reach_nothing(client.as_fd(), (node, 30080));
    });
}

#[test]
fn nothing_is_left_and_nothing_is_lost() {
    isolated(|| async {
        let machine = Machine::new().await;
        let server = machine.server(8080).await;
        let empty = {
            machine.services.replace(Balancers::new()).await.unwrap();
            sh(&format!("nft list table inet {TABLE}"))
        };
        let fronts = vec![
            cluster(80),
            front(FrontAddress::Node, 30080),
            Front {
                sources: vec!["10.0.0.0/8".parse().unwrap()],
                ..front(FrontAddress::External([203, 0, 113, 9].into()), 80)
            },
        ];
        let mut web = balancer(fronts, &[(server.address, 8080), (server.address, 8081)]);
        web.affinity_s = Some(60);
        (web.external_local, web.internal_local) = (true, true);
        web.here = web.everywhere.clone();
        let mut steps = vec![web.clone()];
        web.everywhere.pop();
        steps.push(web.clone());
        web.internal_local = false;
        steps.push(web.clone());
        (web.affinity_s, web.here) = (None, Vec::new());
        steps.push(web.clone());
        web.fronts.truncate(1);
        steps.push(web.clone());
        let change = |name: &str, to: Option<&Balancer>| {
            machine
                .services
                .change(vec![(name.to_owned(), to.cloned())])
        };
        for step in steps.iter().chain(steps.iter().rev()) {
            change("a/web:", Some(step)).await.unwrap();
            // What an administrator looks at it with can read it.
            sh(&format!("nft list table inet {TABLE}"));
            // Another that claims the same front does no harm.
            change("b/thief:", Some(step)).await.unwrap();
            reach_port(&machine, step).await;
            // The first goes: the other inherits.
            change("a/web:", None).await.unwrap();
            reach_port(&machine, step).await;
            change("b/thief:", None).await.unwrap();
            change("a/web:", Some(step)).await.unwrap();
        }
        change("a/web:", Some(&web)).await.unwrap();
        reach(here().as_fd(), (VIP, 80));
        // A firewall that starts flushes everything.
        sh("nft flush ruleset");
        change(
            "c/other:",
            Some(&balancer(vec![cluster(81)], &[(server.address, 8080)])),
        )
        .await
        .unwrap();
        reach(here().as_fd(), (VIP, 80));
        reach(here().as_fd(), (VIP, 81));
        change("c/other:", None).await.unwrap();
        change("a/web:", None).await.unwrap();
        assert_eq!(sh(&format!("nft list table inet {TABLE}")), empty);
        machine.services.remove().await.unwrap();
        machine.services.remove().await.unwrap();
        assert!(!sh("nft list tables").contains(TABLE));
    });
}

/// The service answers a client that is in its range.
async fn reach_port(machine: &Machine, balancer: &Balancer) {
    let mut all = balancer.everywhere.iter().chain(&balancer.here);
    if all.all(|(_, port)| *port == 8080) {
        reach(machine.pod().await.netns.as_fd(), (VIP, 80));
    }
}

#[test]
fn a_machine_without_a_default_route_reaches_services() {
    isolated(|| async {
        let machine = Machine::new().await;
        sh("ip route del default");
        let server = machine.server(8080).await;
        let range = "10.96.0.0/12".parse().unwrap();
        machine.services.keep_route(range).await.unwrap();
        machine.services.keep_route(range).await.unwrap();
        let web = balancer(vec![cluster(80)], &[(server.address, 8080)]);
        machine.services.replace(one("a/web:", web)).await.unwrap();
        assert!(reach(here().as_fd(), (VIP, 80)).contains("10.42.0.1"));
        reach_nothing(here().as_fd(), (Ipv4Addr::new(10, 96, 9, 9), 80));
    });
}
