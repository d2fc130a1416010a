//! Objects to packets: what the API says, the kernel does.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use serde_json::json;
use support::api::{service, slice};
use support::*;

const VIP: &str = "10.96.7.7";

fn vip() -> SocketAddr {
    SocketAddr::new(VIP.parse().unwrap(), 80)
}

fn answered_by(pod: &Pod) -> impl Fn(std::io::Result<String>) -> Option<()> + use<'_> {
    |answer| {
        answer
            .ok()?
            .starts_with(&format!("{} ", pod.address))
            .then_some(())
    }
}

#[test]
fn endpoints_come_and_go() {
    isolated(|| async {
        let mut node = Node::new().await;
        let (a, b, client) = (node.server().await, node.server().await, node.pod().await);
        node.api.put("services", service("web", VIP, json!({})));
        node.start();
        eventually("a service without endpoints refuses", || {
            let error = client.ask(vip()).err()?;
            (error.kind() == std::io::ErrorKind::ConnectionRefused).then_some(())
        });
        node.api.put("endpointslices", slice("web", &[a.address]));
        let answer = eventually("the endpoint answers", || client.ask(vip()).ok());
        assert_eq!(
            answer,
            format!("{} {}", a.address, client.address),
            "its address is kept"
        );
        assert_eq!(
            a.ask(vip()).unwrap(),
            format!("{} 10.42.0.1", a.address),
            "itself"
        );
        node.api.put("endpointslices", slice("web", &[b.address]));
        eventually("the other answers", || answered_by(&b)(client.ask(vip())));
        // Not ready any more, nobody else is, and it still answers: better than nobody.
        let mut ending = slice("web", &[b.address]);
        ending["endpoints"][0]["conditions"] =
            json!({"ready": false, "serving": true, "terminating": true});
        node.api.put("endpointslices", ending.clone());
        let mut more = service("web", VIP, json!({"type": "NodePort"}));
        more["spec"]["ports"][0]["nodePort"] = json!(30080);
        node.api.put("services", more);
        eventually("the node port is there", || {
            answered_by(&b)(ask("127.0.0.1:30080".parse().unwrap()))
        });
        answered_by(&b)(client.ask(vip())).unwrap();
        node.api.remove("services", "default", "web");
        eventually("it is gone", || {
            ask("127.0.0.1:30080".parse().unwrap()).err()
        });
        eventually("nothing is left", || {
            let table = sh("nft list table inet wharf-proxy");
            (!table.contains("svc-") && !table.contains("8080")).then_some(())
        });
    });
}

#[test]
fn a_killed_one_goes_on_serving_and_its_successor_takes_over() {
    isolated(|| async {
        let mut node = Node::new().await;
        let (a, b, client) = (node.server().await, node.server().await, node.pod().await);
        node.api.put(
            "services",
            service("web", VIP, json!({"sessionAffinity": "ClientIP"})),
        );
        node.api.put("endpointslices", slice("web", &[a.address]));
        node.api
            .put("services", service("old", "10.96.7.8", json!({})));
        node.api.put("endpointslices", slice("old", &[a.address]));
        node.start();
        eventually("it serves", || answered_by(&a)(client.ask(vip())));
        for round in 0..20 {
            node.kill().await;
            answered_by(&a)(client.ask(vip())).unwrap_or_else(|| panic!("dead, round {round}"));
            node.start();
            // While it starts no connection fails.
            for _ in 0..5 {
                answered_by(&a)(client.ask(vip()))
                    .unwrap_or_else(|| panic!("a gap, round {round}"));
            }
        }
        node.kill().await;
        node.api.remove("services", "default", "old");
        node.api.put("endpointslices", slice("web", &[b.address]));
        node.start();
        eventually("what was missed is caught up with", || {
            answered_by(&b)(client.ask(vip()))
        });
        let table = sh("nft list table inet wharf-proxy");
        assert!(
            !table.contains("10.96.7.8") && !table.contains(&a.address.to_string()),
            "{table}"
        );
    });
}

#[test]
fn a_load_balancer_hears_whether_this_node_has_endpoints() {
    isolated(|| async {
        let mut node = Node::new().await;
        let a = node.server().await;
        let local = json!({
            "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000,
            "loadBalancerSourceRanges": ["192.0.2.0/24"],
        });
        let mut web = service("web", VIP, local);
        web["status"] =
            json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.5", "ipMode": "VIP"}]}});
        node.api.put("services", web);
        node.api.put("endpointslices", slice("web", &[a.address]));
        node.start();
        let check = || -> Option<String> {
            use std::io::{Read, Write};
            let mut stream = std::net::TcpStream::connect("127.0.0.1:31000").ok()?;
            stream
                .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                .ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            Some(answer)
        };
        let answer = eventually("the health check answers", check);
        assert!(
            answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\"localEndpoints\":1"),
            "{answer}"
        );
        eventually("the balancer's address is served", || {
            ask("203.0.113.5:80".parse().unwrap()).ok()
        });
        let mut elsewhere = slice("web", &[a.address]);
        elsewhere["endpoints"][0]["nodeName"] = json!("two");
        node.api.put("endpointslices", elsewhere);
        eventually("none is here", || {
            check()?.starts_with("HTTP/1.1 503").then_some(())
        });
        node.api.remove("services", "default", "web");
        eventually("nobody listens", || check().is_none().then_some(()));
    });
}

#[test]
fn the_api_server_s_own_service_leads_to_the_node() {
    isolated(|| async {
        let mut node = Node::new().await;
        let client = node.pod().await;
        let listener = std::net::TcpListener::bind("0.0.0.0:6443").unwrap();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                use std::io::Write;
                let _ = connection.unwrap().write_all(b"api");
            }
        });
        let mut kubernetes = slice("web", &[IpAddr::from([192, 0, 2, 1])]);
        kubernetes["endpoints"][0]
            .as_object_mut()
            .unwrap()
            .remove("nodeName");
        kubernetes["ports"][0]["port"] = json!(6443);
        node.api.put("endpointslices", kubernetes);
        node.api.put(
            "services",
            service("web", VIP, json!({"internalTrafficPolicy": "Local"})),
        );
        node.start();
        eventually("from a pod", || client.ask(vip()).ok());
        assert_eq!(ask(vip()).unwrap(), "api", "from the node itself");
        assert_eq!(inside(client.netns.as_fd(), || ask(vip())).unwrap(), "api");
    });
}
