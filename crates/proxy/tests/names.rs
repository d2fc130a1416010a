//! Names of the cluster, asked by pods over real sockets.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use serde_json::{Value, json};
use support::api::{namespace, service, slice};
use support::*;

fn server() -> SocketAddr {
    "10.96.0.10:53".parse().unwrap()
}

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_str_relaxed(name).unwrap(), kind));
    message.to_vec().unwrap()
}

/// The code, then the records of the answer in order of their text, then `+` those that come on top.
fn text(reply: &[u8]) -> String {
    let reply = Message::from_vec(reply).unwrap();
    let mut lines: Vec<String> = reply
        .answers
        .iter()
        .map(|r| format!("{} {}", r.record_type(), r.data))
        .collect();
    lines.sort();
    let mut text = format!("{:?} {}", reply.metadata.response_code, lines.join(", "));
    let mut more: Vec<String> = reply
        .additionals
        .iter()
        .map(|r| format!("{} {}", r.name, r.data))
        .collect();
    more.sort();
    if !more.is_empty() {
        text.push_str(&format!(" + {}", more.join(", ")));
    }
    text
}

fn by_stream(pod: &Pod, question: &[u8]) -> Vec<u8> {
    inside(pod.netns.as_fd(), || {
        let mut stream = TcpStream::connect(server()).unwrap();
        stream
            .write_all(&(question.len() as u16).to_be_bytes())
            .unwrap();
        stream.write_all(question).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut reply = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut reply).unwrap();
        reply
    })
}

fn objects() -> Vec<(&'static str, Value)> {
    let mut headless = service(
        "db",
        "None",
        json!({"ports": [{"name": "sql", "port": 5432, "targetPort": 5433, "protocol": "TCP"}]}),
    );
    headless["spec"]["clusterIPs"] = json!(["None"]);
    let mut members = slice(
        "db",
        &[
            "10.42.0.21".parse().unwrap(),
            "10.42.0.22".parse().unwrap(),
            "10.42.0.23".parse().unwrap(),
        ],
    );
    members["endpoints"][0]["hostname"] = json!("db-0");
    members["endpoints"][1]["conditions"]["ready"] = json!(false);
    members["endpoints"][1]["hostname"] = json!("db-1");
    members["ports"] = json!([{"name": "sql", "port": 5433, "protocol": "TCP"}]);
    let mut eager = headless.clone();
    eager["metadata"]["name"] = json!("eager");
    eager["spec"]["publishNotReadyAddresses"] = json!(true);
    let mut eager_members = members.clone();
    eager_members["metadata"]["name"] = json!("eager-x");
    eager_members["metadata"]["labels"]["kubernetes.io/service-name"] = json!("eager");
    let external = |name: &str, target: &str| json!({"metadata": {"namespace": "default", "name": name}, "spec": {"type": "ExternalName", "externalName": target}});
    let both = json!({"clusterIPs": ["10.96.1.1", "fd00:96::1"], "ports": [
        {"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]});
    vec![
        ("namespaces", namespace("default")),
        ("services", service("web", "10.96.1.1", both)),
        ("services", headless),
        ("endpointslices", members),
        ("services", eager),
        ("endpointslices", eager_members),
        (
            "services",
            external("inner", "web.default.svc.cluster.local"),
        ),
        ("services", external("outer", "WWW.acme.test.")),
        (
            "services",
            external("ring", "ring.default.svc.cluster.local"),
        ),
    ]
}

/// Names, kinds of record, and what is answered.
const ANSWERS: &[(&str, RecordType, &str)] = &[
    (
        "web.default.svc.cluster.local.",
        RecordType::A,
        "NoError A 10.96.1.1",
    ),
    (
        "WEB.Default.svc.cluster.local.",
        RecordType::AAAA,
        "NoError AAAA fd00:96::1",
    ),
    ("web.default.svc.cluster.local.", RecordType::MX, "NoError "),
    (
        "db.default.svc.cluster.local.",
        RecordType::A,
        "NoError A 10.42.0.21, A 10.42.0.23",
    ),
    (
        "db.default.svc.cluster.local.",
        RecordType::AAAA,
        "NoError ",
    ),
    (
        "eager.default.svc.cluster.local.",
        RecordType::A,
        "NoError A 10.42.0.21, A 10.42.0.22, A 10.42.0.23",
    ),
    (
        "db-0.db.default.svc.cluster.local.",
        RecordType::A,
        "NoError A 10.42.0.21",
    ),
    (
        "db-1.db.default.svc.cluster.local.",
        RecordType::A,
        "NXDomain ",
    ),
    (
        "db-1.eager.default.svc.cluster.local.",
        RecordType::A,
        "NoError A 10.42.0.22",
    ),
    (
        "10-42-0-23.db.default.svc.cluster.local.",
        RecordType::A,
        "NoError A 10.42.0.23",
    ),
    (
        "10-42-0-5.default.pod.cluster.local.",
        RecordType::A,
        "NoError A 10.42.0.5",
    ),
    (
        "10-42-0-5.nowhere.pod.cluster.local.",
        RecordType::A,
        "NXDomain ",
    ),
    (
        "nonsense.default.pod.cluster.local.",
        RecordType::A,
        "NXDomain ",
    ),
    (
        "nobody.default.svc.cluster.local.",
        RecordType::A,
        "NXDomain ",
    ),
    ("web.nowhere.svc.cluster.local.", RecordType::A, "NXDomain "),
    ("default.svc.cluster.local.", RecordType::A, "NoError "),
    ("nowhere.svc.cluster.local.", RecordType::A, "NXDomain "),
    ("svc.cluster.local.", RecordType::A, "NoError "),
    ("a.b.c.d.e.f.svc.cluster.local.", RecordType::A, "NXDomain "),
    (
        "web.default.svc.cluster.local.default.svc.cluster.local.",
        RecordType::A,
        "NXDomain ",
    ),
    (
        "example.org.default.svc.cluster.local.",
        RecordType::A,
        "NXDomain ",
    ),
    (
        "_http._tcp.web.default.svc.cluster.local.",
        RecordType::SRV,
        "NoError SRV 0 100 80 web.default.svc.cluster.local. + web.default.svc.cluster.local. 10.96.1.1, web.default.svc.cluster.local. fd00:96::1",
    ),
    (
        "_dns._udp.web.default.svc.cluster.local.",
        RecordType::A,
        "NoError ",
    ),
    (
        "_dns._tcp.web.default.svc.cluster.local.",
        RecordType::SRV,
        "NXDomain ",
    ),
    (
        "_tcp.web.default.svc.cluster.local.",
        RecordType::SRV,
        "NoError ",
    ),
    (
        "_sql._tcp.db.default.svc.cluster.local.",
        RecordType::SRV,
        "NoError SRV 0 50 5433 10-42-0-23.db.default.svc.cluster.local., SRV 0 50 5433 db-0.db.default.svc.cluster.local. + 10-42-0-23.db.default.svc.cluster.local. 10.42.0.23, db-0.db.default.svc.cluster.local. 10.42.0.21",
    ),
    (
        "1.1.96.10.in-addr.arpa.",
        RecordType::PTR,
        "NoError PTR web.default.svc.cluster.local.",
    ),
    (
        "21.0.42.10.in-addr.arpa.",
        RecordType::PTR,
        "NoError PTR db-0.db.default.svc.cluster.local., PTR db-0.eager.default.svc.cluster.local.",
    ),
    ("99.0.42.10.in-addr.arpa.", RecordType::PTR, "NXDomain "),
    (
        "inner.default.svc.cluster.local.",
        RecordType::A,
        "NoError A 10.96.1.1, CNAME web.default.svc.cluster.local.",
    ),
    (
        "inner.default.svc.cluster.local.",
        RecordType::CNAME,
        "NoError CNAME web.default.svc.cluster.local.",
    ),
    (
        "outer.default.svc.cluster.local.",
        RecordType::A,
        "NXDomain CNAME www.acme.test.",
    ),
    (
        "dns-version.cluster.local.",
        RecordType::TXT,
        "NoError TXT 1.1.0",
    ),
    (
        "cluster.local.",
        RecordType::NS,
        "NoError NS ns.dns.cluster.local.",
    ),
    (
        "ns.dns.cluster.local.",
        RecordType::A,
        "NoError A 10.96.0.10",
    ),
    ("kubernetes.example.", RecordType::A, "NXDomain "),
    ("notcluster.local.", RecordType::A, "NXDomain "),
];

#[test]
fn every_kind_of_name_has_its_records() {
    isolated(|| async {
        let mut node = Node::new().await;
        let client = node.pod().await;
        for (plural, object) in objects() {
            node.api.put(plural, object);
        }
        node.start();
        eventually("the service of the names is there", || {
            node.api.find("services", "kube-system", "kube-dns")
        });
        eventually("names are served", || {
            datagram(
                client.netns.as_fd(),
                server(),
                &question("cluster.local", RecordType::NS),
            )
        });
        let soa = "SOA ns.dns.cluster.local. hostmaster.cluster.local.";
        for &(name, kind, expected) in ANSWERS {
            let asked = question(name, kind);
            let reply = datagram(client.netns.as_fd(), server(), &asked)
                .unwrap_or_else(|| panic!("no answer: {name}"));
            assert_eq!(text(&reply), expected, "{name} {kind}");
            assert_eq!(
                text(&by_stream(&client, &asked)),
                expected,
                "{name} {kind} by a stream"
            );
            let reply = Message::from_vec(&reply).unwrap();
            assert!(reply.answers.iter().all(|record| record.ttl <= 5));
            if !name.starts_with("notcluster")
                && name.ends_with("cluster.local.")
                && reply.answers.is_empty()
            {
                let who = reply
                    .authorities
                    .iter()
                    .map(|r| format!("{} {}", r.record_type(), r.data))
                    .collect::<String>();
                assert!(who.starts_with(soa) && who.ends_with(" 5"), "{name}: {who}");
            }
        }
        // A name that stands for itself ends.
        by_stream(
            &client,
            &question("ring.default.svc.cluster.local.", RecordType::A),
        );
    });
}

#[test]
fn names_follow_their_objects_and_the_rest_goes_upstream() {
    isolated(|| async {
        let mut node = Node::new().await;
        let client = node.pod().await;
        node.api.put("namespaces", namespace("default"));
        node.api
            .put("services", service("web", "10.96.1.1", json!({})));
        let upstream = upstream("127.0.0.53:53", [203, 0, 113, 1]);
        let stub = self::upstream("127.0.0.54:5353", [203, 0, 113, 2]);
        let folder = tempfile::tempdir().unwrap();
        node.options.resolv_conf = folder.path().join("resolv.conf");
        std::fs::write(
            &node.options.resolv_conf,
            "nameserver 10.96.0.10\nnameserver 127.0.0.53\n",
        )
        .unwrap();
        node.start();
        let ask = |name: &str| {
            datagram(
                client.netns.as_fd(),
                server(),
                &question(name, RecordType::A),
            )
            .map(|reply| text(&reply))
        };
        let becomes = |name: &str, expected: &str| {
            eventually(expected, || (ask(name)? == expected).then_some(()))
        };
        becomes("web.default.svc.cluster.local.", "NoError A 10.96.1.1");
        node.api.remove("services", "default", "web");
        becomes("web.default.svc.cluster.local.", "NXDomain ");
        becomes("example.org.", "NoError A 203.0.113.1");
        let asked = upstream.load(std::sync::atomic::Ordering::SeqCst);
        for _ in 0..10 {
            assert_eq!(ask("Example.ORG.").unwrap(), "NoError A 203.0.113.1");
        }
        assert_eq!(
            upstream.load(std::sync::atomic::Ordering::SeqCst),
            asked,
            "remembered"
        );
        node.api.put(
            "configmaps",
            json!({"metadata": {"namespace": "kube-system", "name": "kube-dns"},
            "data": {"stubDomains": "{\"acme.test\": [\"127.0.0.54:5353\"]}"}}),
        );
        becomes("www.acme.test.", "NoError A 203.0.113.2");
        assert!(stub.load(std::sync::atomic::Ordering::SeqCst) > 0);
        let outer = json!({"metadata": {"namespace": "default", "name": "outer"}, "spec": {"type": "ExternalName", "externalName": "www.acme.test"}});
        node.api.put("services", outer);
        becomes(
            "outer.default.svc.cluster.local.",
            "NoError A 203.0.113.2, CNAME www.acme.test.",
        );
        // A restart takes over the address.
        node.kill().await;
        node.start();
        becomes("ns.dns.cluster.local.", "NoError A 10.96.0.10");
    });
}

/// A server that knows one address for every name, and counts.
fn upstream(at: &str, address: [u8; 4]) -> std::sync::Arc<std::sync::atomic::AtomicUsize> {
    use hickory_proto::rr::{RData, Record, rdata::A};
    let socket = std::net::UdpSocket::bind(at).unwrap();
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let asked = Message::from_vec(&buffer[..length]).unwrap();
            let mut reply = Message::response(asked.metadata.id, asked.metadata.op_code);
            let query = asked.queries[0].clone();
            let name = query.name().clone();
            reply.add_query(query);
            reply.add_answer(Record::from_rdata(name, 5, RData::A(A(address.into()))));
            let _ = socket.send_to(&reply.to_vec().unwrap(), client);
        }
    });
    count
}
