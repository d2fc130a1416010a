//! A cluster's network in a test: an API in memory, a node with a bridge in a network namespace of its own, and pods.
#![allow(dead_code, clippy::unwrap_used)]

pub mod api;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio_util::sync::CancellationToken;
use wharf_client::Api;
use wharf_net::{BridgeConfig, EndpointRequest, Net};
use wharf_proxy::Options;

/// How long what must happen may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test in a network namespace of its own, with a way to the world.
pub fn isolated<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let run = move || {
        wharf_sys::netns::unshare_network().expect("tests of networking need root");
        sh("ip link set lo up
            ip link add world type veth peer name world2
            ip addr add 192.0.2.1/24 dev world
            ip link set world up && ip link set world2 up
            ip route add default via 192.0.2.254");
        // Its threads are in the namespace, too; the test's own may block.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
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
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {words}");
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

/// Tries until it is so.
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub struct Pod {
    pub netns: OwnedFd,
    pub address: IpAddr,
}

impl Pod {
    /// Tells every client the pod's address, then the client's.
    pub fn serve(&self, port: u16) {
        let address = SocketAddr::new(self.address, port);
        let listener = inside(self.netns.as_fd(), || TcpListener::bind(address).unwrap());
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let peer = connection.peer_addr().unwrap().ip();
                let _ = connection.write_all(format!("{} {peer}", address.ip()).as_bytes());
            }
        });
    }

    /// What answers there.
    pub fn ask(&self, address: impl Into<SocketAddr>) -> std::io::Result<String> {
        let address = address.into();
        inside(self.netns.as_fd(), || ask(address))
    }
}

/// What answers there, asked from this namespace.
pub fn ask(address: SocketAddr) -> std::io::Result<String> {
    let patience = Duration::from_secs(2);
    let mut connection = TcpStream::connect_timeout(&address, patience)?;
    connection.set_read_timeout(Some(patience))?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A node.
pub struct Node {
    pub net: Net,
    pub api: Arc<api::Memory>,
    pub options: Options,
    running: Option<(CancellationToken, tokio::task::JoinHandle<()>)>,
}

impl Node {
    pub async fn new() -> Node {
        let net = Net::open("test").await.unwrap();
        let bridge = BridgeConfig {
            bridge: "pods".into(),
            subnet: "10.42.0.0/24".parse().unwrap(),
            ip_range: None,
            gateway: Ipv4Addr::new(10, 42, 0, 1),
            subnet6: None,
            internal: false,
            inter_container: true,
            masquerade: true,
            mtu: None,
        };
        net.ensure_bridge(&bridge).await.unwrap();
        let mut options = Options::new("one");
        options.node_addresses = vec![[192, 0, 2, 1].into()];
        options.resolv_conf = "/nowhere".into();
        Node {
            net,
            api: Arc::default(),
            options,
            running: None,
        }
    }

    pub fn start(&mut self) {
        let api: Arc<dyn Api> = self.api.clone();
        self.start_with(api);
    }

    pub fn start_with(&mut self, api: Arc<dyn Api>) {
        let stop = CancellationToken::new();
        let (options, token) = (self.options.clone(), stop.clone());
        let task = tokio::spawn(async move {
            wharf_proxy::run(api, options, token).await.unwrap();
        });
        self.running = Some((stop, task));
    }

    /// Ends it as a kill does: nothing is put in order.
    pub async fn kill(&mut self) {
        if let Some((_, task)) = self.running.take() {
            task.abort();
            let _ = task.await;
        }
    }

    pub async fn pod(&self) -> Pod {
        let request = EndpointRequest {
            interface: "eth0".into(),
            default_route: true,
            ..EndpointRequest::default()
        };
        let made = self.net.new_namespace_attached("pods", &request);
        let (netns, endpoint) = made.await.unwrap();
        Pod {
            netns,
            address: endpoint.ipv4.unwrap().into(),
        }
    }

    /// A pod that serves at port 8080.
    pub async fn server(&self) -> Pod {
        let pod = self.pod().await;
        pod.serve(8080);
        pod
    }
}

/// A socket that asks a server by datagrams.
pub fn datagram(netns: BorrowedFd<'_>, server: SocketAddr, question: &[u8]) -> Option<Vec<u8>> {
    inside(netns, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        socket.connect(server).unwrap();
        socket.send(question).ok()?;
        let mut buffer = vec![0; 4096];
        let length = socket.recv(&mut buffer).ok()?;
        buffer.truncate(length);
        Some(buffer)
    })
}
