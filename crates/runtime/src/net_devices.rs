//! Network devices of the host that become the container's (runtime-spec 1.3, "Network Devices"): looked up before the
//! clone, moved by the parent, given their addresses back and brought up by the child.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use oci_spec::runtime::Spec;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::error::{Error, Result};
use crate::namespaces::Plan;
use wharf_sys::process::namespace;

const GET_LINK: u16 = 18;
const SET_LINK: u16 = 19;
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const ERROR: u16 = 2;
const DONE: u16 = 3;

const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const DUMP: u16 = 0x300;
const CREATE_NEW: u16 = 0x600;

const NAME: u16 = 3;
const NAMESPACE: u16 = 28;
const ADDRESS_LABEL: u16 = 3;
const ADDRESS_FLAGS: u16 = 8;
const PERMANENT: u32 = 0x80;
const UP: u32 = 1;

const HEAD_BYTES: usize = 16;
const ADDRESS_HEAD_BYTES: usize = 8;
const NAME_BYTES_MAX: usize = 15;
/// The kernel's own bound of one block of a dump.
const BLOCK_BYTES: usize = 32 * 1024;
/// Addresses of one machine, at most.
const ADDRESSES_MAX: usize = 4096;

/// The devices of one configuration.
#[derive(Debug, Default)]
pub(crate) struct Devices(Vec<Device>);

#[derive(Debug)]
struct Device {
    host_name: String,
    name: String,
    index: u32,
    /// The kernel's own messages about its addresses, without their heads: written back as they were read.
    addresses: Vec<Vec<u8>>,
}

impl Devices {
    /// Finds the configured devices and their addresses.
    ///
    /// # Errors
    /// A device that is not there, a name that is none, or no network namespace that it could go to.
    pub fn find(spec: &Spec, plan: &Plan) -> Result<Devices> {
        let linux = spec.linux().as_ref();
        let Some(listed) = linux.and_then(|linux| linux.net_devices().as_ref()) else {
            return Ok(Devices::default());
        };
        if listed.is_empty() {
            return Ok(Devices::default());
        }
        if !plan.is_private(namespace::NETWORK) {
            return Err(Error::Config(
                "unable to move network devices without a private NET namespace".into(),
            ));
        }
        let mut talk = Talk::new().map_err(Error::system("ask the kernel for network devices"))?;
        let addresses = talk
            .addresses()
            .map_err(Error::system("list the addresses of network devices"))?;
        let mut found = Vec::new();
        for (host_name, device) in listed {
            let name = device.name().as_ref().filter(|name| !name.is_empty());
            let name = name.unwrap_or(host_name).clone();
            for one in [host_name, &name] {
                check_name(one)?;
            }
            let index = talk.index(host_name).map_err(Error::system(format!(
                "find the network device {host_name}"
            )))?;
            let own = addresses
                .iter()
                .filter(|message| index_in(message) == index);
            found.push(Device {
                host_name: host_name.clone(),
                name,
                index,
                addresses: own.cloned().collect(),
            });
        }
        Ok(Devices(found))
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Moves them into the network namespace of a process, under their names there.
    ///
    /// # Errors
    /// The device can't be moved, or the name is taken there.
    pub fn hand_over(&self, pid: i32) -> Result<()> {
        let mut talk = Talk::new().map_err(Error::system("move network devices"))?;
        let path = format!("/proc/{pid}/ns/net");
        let namespace =
            std::fs::File::open(&path).map_err(Error::system(format!("open {path}")))?;
        for device in &self.0 {
            let mut message = link(device.index, 0);
            let descriptor = namespace.as_raw_fd().to_ne_bytes();
            attribute(&mut message, NAMESPACE, &descriptor);
            attribute(&mut message, NAME, &terminated(&device.name));
            talk.command(SET_LINK, 0, &message)
                .map_err(Error::system(format!(
                    "move the network device {} into the container as {}",
                    device.host_name, device.name
                )))?;
        }
        Ok(())
    }

    /// Gives them their addresses back and brings them up; called in their new namespace.
    ///
    /// # Errors
    /// What the kernel gives.
    pub fn set_up(&self) -> io::Result<()> {
        let mut talk = Talk::new()?;
        for device in &self.0 {
            // It may have got another number.
            let index = talk.index(&device.name)?;
            for address in &device.addresses {
                let mut message = address.clone();
                message[4..8].copy_from_slice(&index.to_ne_bytes());
                talk.command(NEW_ADDRESS, CREATE_NEW, &message)?;
            }
            talk.command(NEW_LINK, 0, &link(index, UP))?;
        }
        Ok(())
    }
}

/// A name that the kernel would take.
fn check_name(name: &str) -> Result<()> {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if name.is_empty()
        || name.len() > NAME_BYTES_MAX
        || name == "."
        || name == ".."
        || name.contains(bad)
    {
        return Err(Error::Config(format!(
            "{name:?} can't be the name of a network device"
        )));
    }
    Ok(())
}

/// `struct ifinfomsg` with these flags set.
fn link(index: u32, flags: u32) -> Vec<u8> {
    let mut out = vec![0; 4];
    out.extend(index.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out
}

fn terminated(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    out.extend(length.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn index_in(address: &[u8]) -> u32 {
    u32_at(address, 4)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    four.map_or(0, u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let two = bytes.get(at..at + 2).and_then(|two| two.try_into().ok());
    two.map_or(0, u16::from_ne_bytes)
}

/// The attributes behind the head of an address; what is torn is left out.
fn attributes(address: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    let mut rest = address.get(ADDRESS_HEAD_BYTES..).unwrap_or_default();
    while rest.len() >= 4 {
        let length = usize::from(u16_at(rest, 0));
        if length < 4 || length > rest.len() {
            break;
        }
        found.push((u16_at(rest, 2), &rest[4..length]));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// Whether an address lasts and is valid everywhere: others come by themselves.
fn is_kept(address: &[u8]) -> bool {
    let global = address.get(3) == Some(&0);
    let short = u32::from(*address.get(2).unwrap_or(&0));
    let mut all = attributes(address).into_iter();
    let flags = all.find(|(kind, _)| *kind == ADDRESS_FLAGS);
    let flags = flags.map_or(short, |(_, value)| u32_at(value, 0));
    global && flags & PERMANENT != 0
}

/// An address without its label, which is the device's old name.
fn without_label(address: &[u8]) -> Vec<u8> {
    let mut out = address[..ADDRESS_HEAD_BYTES].to_vec();
    for (kind, value) in attributes(address) {
        if kind != ADDRESS_LABEL {
            attribute(&mut out, kind, value);
        }
    }
    out
}

/// A conversation with the kernel, in the network namespace of the calling process.
struct Talk {
    socket: OwnedFd,
    number: u32,
}

impl Talk {
    fn new() -> io::Result<Talk> {
        let socket = rustix::net::socket_with(
            rustix::net::AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // The protocol of links and addresses is number 0.
            None,
        )?;
        Ok(Talk { socket, number: 0 })
    }

    fn send(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.number += 1;
        let length = u32::try_from(HEAD_BYTES + body.len()).map_err(io::Error::other)?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((REQUEST | flags).to_ne_bytes());
        message.extend(self.number.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(body);
        rustix::net::send(&self.socket, &message, SendFlags::empty())?;
        Ok(())
    }

    /// Takes answers to the last request until `take` or the kernel says that it was the last.
    fn receive(&mut self, mut take: impl FnMut(u16, &[u8]) -> bool) -> io::Result<()> {
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            let (count, _) =
                rustix::net::recv(&self.socket, block.as_mut_slice(), RecvFlags::empty())?;
            let mut rest = &block[..count];
            while rest.len() >= HEAD_BYTES {
                let length = (u32_at(rest, 0) as usize).clamp(HEAD_BYTES, rest.len());
                let (kind, number) = (u16_at(rest, 4), u32_at(rest, 8));
                let body = &rest[HEAD_BYTES..length];
                if number == self.number {
                    match kind {
                        DONE => return Ok(()),
                        ERROR => return code(u32_at(body, 0)),
                        kind if take(kind, body) => return Ok(()),
                        _ => {}
                    }
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }

    fn command(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.send(kind, ACKNOWLEDGE | flags, body)?;
        self.receive(|_, _| false)
    }

    /// The number of a device.
    fn index(&mut self, name: &str) -> io::Result<u32> {
        let mut message = link(0, 0);
        attribute(&mut message, NAME, &terminated(name));
        self.send(GET_LINK, 0, &message)?;
        let mut index = 0;
        self.receive(|kind, body| {
            index = u32_at(body, 4);
            kind == NEW_LINK
        })?;
        Ok(index)
    }

    /// Every address that a device keeps when it moves.
    fn addresses(&mut self) -> io::Result<Vec<Vec<u8>>> {
        self.send(GET_ADDRESS, DUMP, &[0; ADDRESS_HEAD_BYTES])?;
        let mut found = Vec::new();
        self.receive(|kind, body| {
            if kind == NEW_ADDRESS && body.len() >= ADDRESS_HEAD_BYTES && is_kept(body) {
                found.push(without_label(body));
            }
            found.len() >= ADDRESSES_MAX
        })?;
        Ok(found)
    }
}

fn code(negative: u32) -> io::Result<()> {
    match negative.cast_signed() {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(-code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_kernels() {
        for good in ["eth0", "a", "veth-1.2_x", "123456789012345"] {
            check_name(good).unwrap();
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "a:1",
            "1234567890123456",
            "a\n",
        ] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn torn_messages_are_read_without_harm() {
        let mut address = vec![2, 24, 0x80, 0, 1, 0, 0, 0];
        assert!(is_kept(&address));
        attribute(&mut address, ADDRESS_FLAGS, &PERMANENT.to_ne_bytes());
        assert!(is_kept(&address));
        for length in 0..address.len() {
            is_kept(&address[..length]);
        }
        // A length of zero must not be read for ever.
        assert!(is_kept(&[2, 24, 0x80, 0, 1, 0, 0, 0, 0, 0, 8, 0]));
        // One that is not everywhere valid comes by itself.
        assert!(!is_kept(&[10, 64, 0x80, 253, 1, 0, 0, 0]));
    }
}
