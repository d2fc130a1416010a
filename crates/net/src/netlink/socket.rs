//! A netlink socket of one network namespace, and batches of requests sent through it in one system call.

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink,
};

use super::{Attributes, REQUEST, Writer, text};
use crate::Error;

/// `NLMSG_ERROR`: an acknowledgement where the code is zero.
const ERROR: u16 = 2;
/// `NLMSG_DONE`
const DONE: u16 = 3;
/// `NLM_F_ACK_TLVS`: attributes follow the error.
const EXPLAINED: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`
const EXPLANATION: u16 = 1;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Longest batch: some 500,000 elements of a map, or the rules of 30,000 services.
const TRANSACTION_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Room for one answer. The kernel fills dumps up to 32 KiB.
const ANSWER_BYTES: usize = 64 * 1024;

/// What the kernel refused and how it put it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What was asked, in words.
    pub(crate) operation: String,
    /// The kernel's code.
    pub(crate) errno: i32,
    /// Its place in the batch.
    pub(crate) position: u32,
}

impl Failure {
    fn from_io(operation: &str, error: rustix::io::Errno) -> Self {
        Failure {
            operation: operation.to_owned(),
            errno: error.raw_os_error(),
            position: 0,
        }
    }

    pub(crate) fn is(&self, errno: rustix::io::Errno) -> bool {
        self.errno == errno.raw_os_error()
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        let source = io::Error::from_raw_os_error(failure.errno);
        Error::Kernel {
            operation: failure.operation,
            source,
        }
    }
}

/// Requests that are sent together. Each carries what it does in words, for the error.
#[derive(Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    operations: Vec<Cow<'static, str>>,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Batch::default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.operations.len()
    }

    /// Adds a request; its place in the batch is its sequence number. Returns nothing to hold on to.
    pub(crate) fn push(
        &mut self,
        kind: u16,
        flags: u16,
        operation: impl Into<Cow<'static, str>>,
        payload: impl FnOnce(&mut Writer<'_>),
    ) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes
            .extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes
            .extend_from_slice(&(self.operations.len() as u32).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        payload(&mut Writer::new(&mut self.bytes));
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.operations.push(operation.into());
    }

    fn operation(&self, sequence: u32) -> &str {
        self.operations
            .get(sequence as usize)
            .map_or("netlink request", |text| text.as_ref())
    }
}

/// One netlink socket. It belongs to the namespace of the thread that opened it, wherever it is used.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Socket {
    /// For links, addresses and routes.
    pub(crate) fn route() -> crate::Result<Self> {
        Socket::open(None, "open a netlink socket for routes")
    }

    /// For nftables and connection tracking.
    pub(crate) fn netfilter() -> crate::Result<Self> {
        Socket::open(
            Some(netlink::NETFILTER),
            "open a netlink socket for nftables",
        )
    }

    /// One that becomes readable when a link changes. For nothing else.
    pub(crate) fn link_changes() -> crate::Result<Self> {
        const LINKS: u32 = 1; // RTMGRP_LINK
        Socket::open_with(None, LINKS, "open a netlink socket for changes of links")
    }

    /// Waits until something has come, and throws it away.
    pub(crate) fn wait(&mut self, at_most: Duration) -> Result<(), Failure> {
        let operation = "wait for a change of links";
        let limit = Timespec {
            tv_sec: at_most.as_secs() as i64,
            tv_nsec: i64::from(at_most.subsec_nanos()),
        };
        let mut descriptors = [PollFd::new(&self.fd, PollFlags::IN)];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut descriptors, Some(&limit)))
            .map_err(|errno| Failure::from_io(operation, errno))?;
        while self.receive(operation)?.is_some() {}
        Ok(())
    }

    fn open(protocol: Option<Protocol>, operation: &str) -> crate::Result<Self> {
        Socket::open_with(protocol, 0, operation)
    }

    fn open_with(protocol: Option<Protocol>, groups: u32, operation: &str) -> crate::Result<Self> {
        let open = || {
            let fd = rustix::net::socket_with(
                AddressFamily::NETLINK,
                SocketType::RAW,
                SocketFlags::CLOEXEC,
                protocol,
            )?;
            wharf_sys::netlink::explain_errors(fd.as_fd())?;
            // A limit, not a cost: transactions are sent whole.
            rustix::net::sockopt::set_socket_send_buffer_size_force(&fd, TRANSACTION_BYTES_MAX)?;
            rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups))?;
            Ok(fd)
        };
        let fd = open().map_err(|errno: rustix::io::Errno| Failure::from_io(operation, errno))?;
        Ok(Socket {
            fd,
            buffer: Vec::new(),
        })
    }

    /// Sends every request and returns the first that failed. The kernel goes on after a failure, except
    /// where the batch is one transaction (nftables).
    pub(crate) fn send(&mut self, batch: &Batch) -> Result<(), Failure> {
        if batch.is_empty() {
            return Ok(());
        }
        self.transmit(&batch.bytes, batch.operation(0))?;
        let mut first: Option<Failure> = None;
        while let Some(length) = self.receive(batch.operation(0))? {
            for message in Messages(&self.buffer[..length]) {
                if let Some(failure) =
                    message.failure(|sequence| batch.operation(sequence).to_owned())
                {
                    first.get_or_insert(failure);
                }
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Sends one request and hands every answer's type and payload to `each`. With `DUMP` in `flags`, until
    /// the kernel says that it was all.
    pub(crate) fn query(
        &mut self,
        kind: u16,
        flags: u16,
        operation: &str,
        payload: impl FnOnce(&mut Writer<'_>),
        mut each: impl FnMut(u16, &[u8]),
    ) -> Result<(), Failure> {
        let mut batch = Batch::new();
        batch.push(kind, flags, operation.to_owned(), payload);
        self.transmit(&batch.bytes, operation)?;
        while let Some(length) = self.receive(operation)? {
            for message in Messages(&self.buffer[..length]) {
                if let Some(failure) = message.failure(|_| operation.to_owned()) {
                    // What is left of the answer must not be taken for that of the next request.
                    while self.receive(operation)?.is_some() {}
                    return Err(failure);
                }
                if message.kind != ERROR && message.kind != DONE {
                    each(message.kind, message.payload);
                }
            }
        }
        Ok(())
    }

    fn transmit(&mut self, bytes: &[u8], operation: &str) -> Result<(), Failure> {
        // Bound to no destination: netlink without one goes to the kernel.
        rustix::io::retry_on_intr(|| rustix::net::send(&self.fd, bytes, SendFlags::empty()))
            .map(drop)
            .map_err(|errno| Failure::from_io(operation, errno))
    }

    /// The next answer, `None` when no more are waiting.
    fn receive(&mut self, operation: &str) -> Result<Option<usize>, Failure> {
        self.buffer.resize(ANSWER_BYTES, 0);
        let flags = RecvFlags::DONTWAIT;
        match rustix::io::retry_on_intr(|| rustix::net::recv(&self.fd, &mut self.buffer[..], flags))
        {
            Ok((_, length)) => Ok(Some(length)),
            Err(rustix::io::Errno::AGAIN) => {
                self.buffer = Vec::new();
                Ok(None)
            }
            Err(errno) => Err(Failure::from_io(operation, errno)),
        }
    }
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl Message<'_> {
    fn failure(&self, operation: impl FnOnce(u32) -> String) -> Option<Failure> {
        if self.kind != ERROR && self.kind != DONE {
            return None;
        }
        let code = i32::from_ne_bytes(self.payload.get(0..4)?.try_into().ok()?);
        if code >= 0 {
            return None;
        }
        let mut operation = operation(self.sequence);
        if self.flags & EXPLAINED != 0 {
            let attributes = self.payload.get(4 + HEADER..).unwrap_or_default();
            if let Some(words) = Attributes::find(attributes, EXPLANATION) {
                operation.push_str(&format!(" (the kernel says: {})", text(words)));
            }
        }
        Some(Failure {
            operation,
            errno: -code,
            position: self.sequence,
        })
    }
}

struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header = self.0.get(..HEADER)?;
        let length = u32::from_ne_bytes(header[0..4].try_into().ok()?) as usize;
        let message = Message {
            kind: u16::from_ne_bytes(header[4..6].try_into().ok()?),
            flags: u16::from_ne_bytes(header[6..8].try_into().ok()?),
            sequence: u32::from_ne_bytes(header[8..12].try_into().ok()?),
            payload: self.0.get(HEADER..length)?,
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}
