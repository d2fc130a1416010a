//! Bridges, and what happens when a daemon is gone and the next one comes. Dropping a `Net` runs nothing but
//! the closing of descriptors: to the kernel it is the same as a kill.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::BufRead;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use support::*;
use wharf_net::{BridgeConfig, Error, Net};

#[test]
fn a_successor_takes_over_what_lives_and_removes_the_rest() {
    isolated(|| async {
        let outside = neighbour();
        let net = Net::open("t").await.unwrap();
        net.ensure_bridge(&config("br-t", "172.17.0.0/16"))
            .await
            .unwrap();
        net.ensure_bridge(&config("br-gone", "172.18.0.0/16"))
            .await
            .unwrap();
        let (alive, endpoint) = net
            .new_namespace_attached("br-t", &request())
            .await
            .unwrap();
        let (_unknown, stale) = net
            .new_namespace_attached("br-gone", &request())
            .await
            .unwrap();
        let target = IpAddr::V4(endpoint.ipv4.unwrap());
        serve(alive.as_fd(), (target, 80).into());
        let mappings = [
            tcp("0.0.0.0", 8080, target, 80),
            tcp("0.0.0.0", 8081, target, 80),
        ];
        let sockets = net.publish("br-t", &mappings).await.unwrap();
        // A kill would end the preparing of namespaces, too.
        net.settled().await.unwrap();
        drop(net);

        let net = Net::open("t").await.unwrap();
        net.ensure_bridge(&config("br-t", "172.17.0.0/16"))
            .await
            .unwrap();
        net.restore_endpoint("br-t", &endpoint).await.unwrap();
        net.restore_published("br-t", &mappings[..1]).await.unwrap();
        net.remove_unclaimed().await.unwrap();
        let links = sh("ip -o link");
        assert!(
            links.contains(&endpoint.host_link) && links.contains("br-t"),
            "{links}"
        );
        assert!(
            !links.contains(&stale.host_link) && !links.contains("br-gone"),
            "{links}"
        );
        assert_eq!(sh("ip -o link | grep -c veth").trim(), "1");
        let published: SocketAddr = "198.51.100.1:8080".parse().unwrap();
        assert_eq!(reach(outside.as_fd(), published), "198.51.100.2");
        assert!(!sh("nft list map inet wharf-t any4").contains("8081"));
        let (_next, next) = net
            .new_namespace_attached("br-t", &request())
            .await
            .unwrap();
        assert_ne!(next.ipv4, endpoint.ipv4);
        drop(sockets);
    });
}

#[test]
fn a_connection_survives_the_change_of_daemons() {
    isolated(|| async {
        let outside = neighbour();
        let net = Net::open("t").await.unwrap();
        net.ensure_bridge(&config("br-t", "172.17.0.0/16"))
            .await
            .unwrap();
        let (netns, endpoint) = net
            .new_namespace_attached("br-t", &request())
            .await
            .unwrap();
        let target: SocketAddr = (endpoint.ipv4.unwrap(), 80).into();
        let listener = inside(netns.as_fd(), || {
            std::net::TcpListener::bind(target).unwrap()
        });
        let _sockets = net
            .publish("br-t", &[tcp("0.0.0.0", 8080, target.ip(), 80)])
            .await
            .unwrap();
        let mut client = inside(outside.as_fd(), || {
            std::net::TcpStream::connect("198.51.100.1:8080").unwrap()
        });
        let (mut served, _) = listener.accept().unwrap();
        drop(net);
        let net = Net::open("t").await.unwrap();
        use std::io::{Read, Write};
        let mut said = [0; 5];
        client
            .set_read_timeout(Some(std::time::Duration::from_secs(5)))
            .unwrap();
        served.write_all(b"still").unwrap();
        client.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"still");
        net.ensure_bridge(&config("br-t", "172.17.0.0/16"))
            .await
            .unwrap();
        served.write_all(b"there").unwrap();
        client.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"there");
    });
}

#[test]
fn two_instances_leave_each_other_alone() {
    isolated(|| async {
        let one = Net::open("one").await.unwrap();
        one.ensure_bridge(&config("br-one", "172.17.0.0/16"))
            .await
            .unwrap();
        let (netns, endpoint) = one
            .new_namespace_attached("br-one", &request())
            .await
            .unwrap();
        let target: SocketAddr = (endpoint.ipv4.unwrap(), 80).into();
        serve(netns.as_fd(), target);
        let _sockets = one
            .publish("br-one", &[tcp("0.0.0.0", 8080, target.ip(), 80)])
            .await
            .unwrap();
        let two = Net::open("two").await.unwrap();
        let taken = two
            .ensure_bridge(&config("br-one", "172.18.0.0/16"))
            .await
            .unwrap_err();
        assert!(
            taken
                .to_string()
                .contains("belongs to another daemon (wharf:one)"),
            "{taken}"
        );
        assert_eq!(
            two.free_subnet().await.unwrap().to_string(),
            "172.18.0.0/16",
            "172.17 is a route of the host"
        );
        two.ensure_bridge(&config("br-two", "172.18.0.0/16"))
            .await
            .unwrap();
        two.remove_unclaimed().await.unwrap();
        two.remove_bridge("br-one").await.unwrap();
        two.remove_bridge("br-two").await.unwrap();
        two.remove_bridge("br-two").await.unwrap();
        let links = sh("ip -o link");
        assert!(
            links.contains("br-one")
                && links.contains(&endpoint.host_link)
                && !links.contains("br-two")
        );
        assert_eq!(
            reach(
                here().as_fd(),
                "127.0.0.1:8080".parse::<SocketAddr>().unwrap()
            ),
            "172.17.0.1"
        );
        let table = sh("nft list table inet wharf-two");
        assert!(!table.contains("elements"), "{table}");
    });
}

#[test]
fn bridges_are_adjusted_and_bad_ones_refused() {
    isolated(|| async {
        let net = Net::open("t").await.unwrap();
        let first = config("br-t", "172.17.0.0/16");
        net.ensure_bridge(&first).await.unwrap();
        net.ensure_bridge(&first).await.unwrap();
        let changed = BridgeConfig {
            mtu: Some(1400),
            masquerade: false,
            ..config("br-t", "10.5.0.0/24")
        };
        net.ensure_bridge(&changed).await.unwrap();
        let addresses = sh("ip -o -4 addr show br-t");
        assert!(
            addresses.contains("10.5.0.1/24") && !addresses.contains("172.17"),
            "{addresses}"
        );
        assert!(sh("ip link show br-t").contains("mtu 1400"));
        let sets = sh("nft list set inet wharf-t masqueraded4");
        assert!(!sets.contains("172.17") && !sets.contains("10.5"), "{sets}");
        let (netns, _endpoint) = net
            .new_namespace_attached("br-t", &request())
            .await
            .unwrap();
        assert!(inside(netns.as_fd(), || sh("ip link show eth0")).contains("mtu 1400"));

        let overlap = net
            .ensure_bridge(&config("br-u", "10.5.0.128/25"))
            .await
            .unwrap_err();
        assert!(matches!(overlap, Error::Overlap(_)), "{overlap}");
        assert!(matches!(
            net.check_subnet("10.0.0.0/8".parse().unwrap()).await,
            Err(Error::Overlap(_))
        ));
        net.check_subnet("10.6.0.0/24".parse().unwrap())
            .await
            .unwrap();
        for name in ["", "much-too-long-name", "a/b", "a b", ".."] {
            assert!(
                net.ensure_bridge(&config(name, "10.6.0.0/24"))
                    .await
                    .is_err(),
                "{name}"
            );
        }
        let no_bridge = net
            .ensure_bridge(&config("lo", "10.6.0.0/24"))
            .await
            .unwrap_err();
        assert!(
            no_bridge.to_string().contains("is no bridge"),
            "{no_bridge}"
        );
        let astray = BridgeConfig {
            gateway: [10, 7, 0, 1].into(),
            ..config("br-u", "10.6.0.0/24")
        };
        assert!(matches!(
            net.ensure_bridge(&astray).await,
            Err(Error::AddressUnavailable(_))
        ));
        assert!(!sh("ip -o link").contains("br-u"));
    });
}

#[test]
fn an_administrators_bridge_is_used_and_stays() {
    isolated(|| async {
        sh(
            "ip link add br-admin type bridge; ip addr add 10.8.0.1/24 dev br-admin; ip link set br-admin up",
        );
        let net = Net::open("t").await.unwrap();
        net.ensure_bridge(&config("br-admin", "10.8.0.0/24"))
            .await
            .unwrap();
        let (netns, endpoint) = net
            .new_namespace_attached("br-admin", &request())
            .await
            .unwrap();
        let address: SocketAddr = (endpoint.ipv4.unwrap(), 80).into();
        serve(netns.as_fd(), address);
        assert_eq!(reach(here().as_fd(), address), "10.8.0.1");
        net.remove_bridge("br-admin").await.unwrap();
        assert!(sh("ip -o addr show br-admin").contains("10.8.0.1/24"));
    });
}

#[test]
fn kept_addresses_are_not_given_out() {
    isolated(|| async {
        let net = Net::open("t").await.unwrap();
        let range = Some("10.9.0.64/26".parse().unwrap());
        net.ensure_bridge(&BridgeConfig {
            ip_range: range,
            ..config("br-t", "10.9.0.0/24")
        })
        .await
        .unwrap();
        net.keep_addresses(
            "br-t",
            &["10.9.0.64".parse().unwrap(), "10.9.0.1".parse().unwrap()],
        )
        .await
        .unwrap();
        assert!(
            net.keep_addresses("br-t", &["10.1.0.1".parse().unwrap()])
                .await
                .is_err()
        );
        let (_netns, endpoint) = net
            .new_namespace_attached("br-t", &request())
            .await
            .unwrap();
        assert_eq!(endpoint.ipv4, Some([10, 9, 0, 65].into()));
    });
}

/// Set for the process that is to be a daemon: in any other, the test `daemon` does nothing.
const AS_DAEMON: &str = "WHARF_TEST_AS_DAEMON";

/// A daemon of its own process, for [`a_killed_daemon_leaves_only_what_others_hold`]: one endpoint that is used,
/// one that is not, two prepared ones.
#[test]
#[ignore = "run by another test"]
fn daemon() {
    if std::env::var_os(AS_DAEMON).is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let net = Net::open("t").await.unwrap();
        net.ensure_bridge(&config("br-t", "172.17.0.0/16"))
            .await
            .unwrap();
        let (alive, used) = net
            .new_namespace_attached("br-t", &request())
            .await
            .unwrap();
        let (_unused, other) = net
            .new_namespace_attached("br-t", &request())
            .await
            .unwrap();
        let target = IpAddr::V4(used.ipv4.unwrap());
        let _sockets = net
            .publish("br-t", &[tcp("0.0.0.0", 8080, target, 80)])
            .await
            .unwrap();
        net.settled().await.unwrap();
        println!(
            "\nREADY {} {target} {} {}",
            alive.as_raw_fd(),
            used.host_link,
            other.host_link
        );
        std::future::pending::<()>().await;
    });
}

#[test]
fn a_killed_daemon_leaves_only_what_others_hold() {
    isolated(|| async {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "daemon", "--ignored", "--nocapture"])
            .env(AS_DAEMON, "1")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines
            .map(Result::unwrap)
            .find(|line| line.starts_with("READY"))
            .unwrap();
        let words: Vec<&str> = ready.split(' ').collect();
        let [_, descriptor, target, used, unused] = words[..] else {
            panic!("{ready}")
        };
        // What a container's process does.
        let alive = std::fs::File::open(format!("/proc/{}/fd/{descriptor}", child.id())).unwrap();
        serve(alive.as_fd(), format!("{target}:80").parse().unwrap());
        assert_eq!(sh("ip -o link | grep -c veth").trim(), "4");
        child.kill().unwrap();
        child.wait().unwrap();

        let published: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        assert_eq!(
            reach(here().as_fd(), published),
            "172.17.0.1",
            "served on while nobody is there"
        );
        // The kernel removes namespaces in its own time.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while sh("ip -o link | grep -c veth").trim() != "1" {
            assert!(std::time::Instant::now() < deadline, "{}", sh("ip -o link"));
        }
        let net = Net::open("t").await.unwrap();
        assert!(sh("ip -o link").contains(used) && !sh("ip -o link").contains(unused));
        net.ensure_bridge(&config("br-t", "172.17.0.0/16"))
            .await
            .unwrap();
        net.remove_unclaimed().await.unwrap();
        assert!(!sh("ip -o link").contains("veth"), "nobody has named it");
    });
}
