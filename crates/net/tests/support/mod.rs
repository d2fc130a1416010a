//! A machine of its own for each test: a thread in a fresh network namespace, where `Net` is opened; clients
//! and servers in other namespaces.
#![allow(dead_code, clippy::unwrap_used)]

use std::future::Future;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use wharf_net::{BridgeConfig, EndpointRequest, PortMapping, Protocol};

/// How long an answer that must come may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How long an answer that must not come is waited for.
const SILENCE: Duration = Duration::from_millis(400);

/// Runs a test in a network namespace of its own.
pub fn isolated<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let run = move || {
        wharf_sys::netns::unshare_network().expect("tests of networking need root");
        sh("ip link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a shell line in the calling thread's namespace.
pub fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-ec", line]).output().unwrap();
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs something on a thread inside a namespace.
pub fn inside<T: Send>(netns: BorrowedFd<'_>, what: impl FnOnce() -> T + Send) -> T {
    let run = || {
        move_into_link_name_space(netns, Some(LinkNameSpaceType::Network)).unwrap();
        what()
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

pub fn request() -> EndpointRequest {
    EndpointRequest {
        interface: "eth0".into(),
        default_route: true,
        ..EndpointRequest::default()
    }
}

pub fn config(bridge: &str, subnet: &str) -> BridgeConfig {
    let subnet: wharf_net::Subnet = subnet.parse().unwrap();
    let IpAddr::V4(network) = subnet.address else {
        panic!("an IPv4 subnet")
    };
    BridgeConfig {
        bridge: bridge.into(),
        subnet,
        ip_range: None,
        gateway: Ipv4Addr::from_bits(network.to_bits() + 1),
        subnet6: None,
        internal: false,
        inter_container: true,
        masquerade: true,
        mtu: None,
    }
}

pub fn tcp(host: &str, host_port: u16, target: IpAddr, target_port: u16) -> PortMapping {
    PortMapping {
        host_ip: host.parse().unwrap(),
        host_port,
        target_ip: target,
        target_port,
        protocol: Protocol::Tcp,
    }
}

/// A TCP server that tells each client the address it came from.
pub fn serve(netns: BorrowedFd<'_>, address: SocketAddr) {
    let listener = inside(netns, || TcpListener::bind(address).unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let peer = connection.peer_addr().unwrap().ip();
            let _ = connection.write_all(peer.to_string().as_bytes());
        }
    });
}

/// A UDP server that sends every datagram back with a word in front.
pub fn serve_udp(netns: BorrowedFd<'_>, address: SocketAddr, word: &'static str) {
    let socket = inside(netns, || UdpSocket::bind(address).unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&[word.as_bytes(), &buffer[..length]].concat(), peer);
        }
    });
}

fn ask(address: SocketAddr, patience: Duration) -> std::io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&address, patience)?;
    connection.set_read_timeout(Some(patience))?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Connects from a namespace; the address that the server saw.
pub fn reach(netns: BorrowedFd<'_>, address: impl Into<SocketAddr>) -> String {
    let address = address.into();
    inside(netns, || {
        ask(address, ANSWER).unwrap_or_else(|error| panic!("no answer from {address}: {error}"))
    })
}

/// Connects from a namespace, which must not succeed.
pub fn reach_nothing(netns: BorrowedFd<'_>, address: impl Into<SocketAddr>) {
    let address = address.into();
    let answer = inside(netns, || ask(address, SILENCE));
    assert!(
        answer.is_err(),
        "{address} answered, and must not: {answer:?}"
    );
}

/// One datagram there and one back, `None` when none comes.
pub fn exchange(socket: &UdpSocket, to: impl Into<SocketAddr>, must_come: bool) -> Option<String> {
    socket
        .set_read_timeout(Some(if must_come { ANSWER } else { SILENCE }))
        .unwrap();
    socket.send_to(b"ping", to.into()).ok()?;
    let mut buffer = [0; 100];
    let (length, _) = socket.recv_from(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// The calling thread's namespace.
pub fn here() -> OwnedFd {
    std::fs::File::open("/proc/thread-self/ns/net")
        .unwrap()
        .into()
}

/// Another machine, 198.51.100.2 and 2001:db8::2, with this one next to it as 198.51.100.1 and 2001:db8::1.
pub fn neighbour() -> OwnedFd {
    let netns = std::thread::spawn(|| {
        wharf_sys::netns::unshare_network().unwrap();
        sh("ip link set lo up");
        here()
    })
    .join()
    .unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), netns.as_raw_fd());
    sh(&format!(
        "ip link add up0 type veth peer name eth0 netns {path}
         ip addr add 198.51.100.1/24 dev up0
         ip addr add 2001:db8::1/64 dev up0 nodad
         ip link set up0 up"
    ));
    inside(netns.as_fd(), || {
        sh("ip addr add 198.51.100.2/24 dev eth0
            ip addr add 2001:db8::2/64 dev eth0 nodad
            ip link set eth0 up");
    });
    netns
}

/// Lets a call begin.
pub fn poll_once<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}
