//! What the two sides of a creation say to each other: one packet a message over a socket pair that the exec closes.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};

const MESSAGE_BYTES_MAX: usize = 16 * 1024;
const DESCRIPTORS_MAX: usize = 4;

/// A message.
#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// To the child: mappings are written, the control group is joined.
    Prepared,
    /// From the child: namespaces are there and mounts are not final; the hooks of that moment may run.
    AtHooks,
    /// To the child: they ran.
    HooksDone,
    /// From the child: the filter is in force and asks a listener. The child does nothing until the agent has it: nobody
    /// would answer.
    Listener {
        /// The child's descriptor for it.
        number: i32,
    },
    /// To the child: the agent has it.
    ListenerTaken,
    /// From the child: all is done but the exec. With the terminal's master, where asked for.
    Ready {
        /// Whether the descriptor of the terminal's master comes with this.
        pty: bool,
    },
    /// From a helper: the container's process, whose descriptor comes with this.
    Cloned {
        /// Its number.
        pid: i32,
    },
    /// From the child: it is in its network namespace, to which devices may be moved.
    AtDevices,
    /// To the child: they are there.
    DevicesMoved,
    /// From the child: it has a time namespace, whose offsets only the creator may set.
    AtClocks,
    /// To the child: they are set.
    ClocksSet,
    /// To the child: exec.
    Start,
    /// From the child: it failed and is gone.
    Failed {
        /// For a person.
        message: String,
        /// Docker's exit code for it.
        exit_code: i32,
    },
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// One end of the conversation.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Channel {
        Channel(socket)
    }
}

impl Channel {
    /// Two connected ends, closed by exec.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let (a, b) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Channel(a), Channel(b)))
    }

    /// Sends a message with descriptors.
    pub fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(message)?;
        // A packet cut off would not parse at the other side: only an error's text can be long.
        if bytes.len() > MESSAGE_BYTES_MAX {
            let short = Message::Failed {
                message: "the error message is too long to be told".into(),
                exit_code: 125,
            };
            bytes = serde_json::to_vec(&short)?;
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        rustix::net::sendmsg(
            &self.0,
            &[IoSlice::new(&bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }

    /// Sends a message to a side that may be gone: what it said before it went is then the next to be received.
    pub fn tell(&self, message: &Message) -> io::Result<()> {
        match self.send(message, &[]) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// Sends a message by the one system call that a filter may not ask an agent about.
    pub fn write(&self, message: &Message) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        rustix::io::write(&self.0, &bytes)?;
        Ok(())
    }

    /// Waits for a message; `None`: the other side is gone (an exec, if all went well).
    pub fn receive(&self) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; MESSAGE_BYTES_MAX + 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut was_reset = false;
        let received = loop {
            let slices = &mut [IoSliceMut::new(&mut bytes)];
            match rustix::net::recvmsg(&self.0, slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                // The other side went without reading all that it was sent. That is told first; what it said itself
                // before it went is still there.
                Err(rustix::io::Errno::CONNRESET) if !was_reset => was_reset = true,
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                other => break other?,
            }
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        Ok(Some((
            serde_json::from_slice(&bytes[..received.bytes])?,
            descriptors,
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_heard_whatever_was_sent_meanwhile() {
        let failed = Message::Failed {
            message: "no such file".into(),
            exit_code: 127,
        };
        for told_before in [true, false] {
            let (parent, child) = Channel::pair().unwrap();
            child.send(&failed, &[]).unwrap();
            if told_before {
                parent.tell(&Message::Prepared).unwrap();
            }
            drop(child);
            parent.tell(&Message::Prepared).unwrap();
            let (heard, _) = parent.receive().unwrap().unwrap();
            assert!(
                matches!(heard, Message::Failed { exit_code: 127, .. }),
                "{heard:?}"
            );
            assert!(parent.receive().unwrap().is_none());
        }
    }

    #[test]
    fn messages_carry_descriptors_and_an_end_is_seen() {
        let (a, b) = Channel::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        a.send(&Message::Ready { pty: true }, &[file.as_fd()])
            .unwrap();
        a.send(
            &Message::Failed {
                message: "x".repeat(40_000),
                exit_code: 1,
            },
            &[],
        )
        .unwrap();
        drop(a);
        let (message, descriptors) = b.receive().unwrap().unwrap();
        assert!(matches!(message, Message::Ready { pty: true }));
        assert_eq!(descriptors.len(), 1);
        assert!(matches!(
            b.receive().unwrap().unwrap().0,
            Message::Failed { exit_code: 125, .. }
        ));
        assert!(b.receive().unwrap().is_none());
    }
}
