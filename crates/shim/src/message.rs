//! One message on the wire: a header of three big-endian u32 (length of the JSON head, length of the blob behind
//! it, number of descriptors), the head, the blob; descriptors ride on the bytes in batches.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

const HEADER_BYTES: usize = 12;
/// The kernel takes 253 descriptors at a time.
const BATCH: usize = 128;
/// A specification with every seccomp rule there is stays below a tenth of this.
const BYTES_MAX: usize = 8 << 20;
const DESCRIPTORS_MAX: usize = 8192;
const READ_BYTES: usize = 16 << 10;

/// A message as received.
#[derive(Debug)]
pub(crate) struct Message {
    pub head: Vec<u8>,
    pub blob: Vec<u8>,
    pub fds: VecDeque<OwnedFd>,
}

/// A message's bytes, without its descriptors.
pub(crate) fn encode(head: &[u8], blob: &[u8], descriptors: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + head.len() + blob.len());
    for number in [head.len(), blob.len(), descriptors] {
        bytes.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
    }
    bytes.extend_from_slice(head);
    bytes.extend_from_slice(blob);
    bytes
}

/// Sends a whole message on a blocking socket.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    head: &[u8],
    blob: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = encode(head, blob, fds.len());
    if bytes.len() > BYTES_MAX || fds.len() > DESCRIPTORS_MAX {
        return Err(io::Error::other("message too large"));
    }
    let mut sent = 0;
    for batch in fds.chunks(BATCH) {
        // Each batch rides on one byte of its own: the kernel hands out one batch with each read.
        let Some(byte) = bytes.get(sent..sent + 1) else {
            return Err(io::Error::other("more descriptors than the message names"));
        };
        sent += send_batch(socket, byte, batch)?;
    }
    while sent < bytes.len() {
        sent += send_batch(socket, &bytes[sent..], &[])?;
    }
    Ok(())
}

fn send_batch(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors in one batch"));
    }
    loop {
        match rustix::net::sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Collects bytes and descriptors until messages are complete.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Decoder {
    /// One read from the socket; 0: the other side has closed.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let start = self.bytes.len();
        self.bytes.resize(start + self.wanted(), 0);
        let received = rustix::net::recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut self.bytes[start..])],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        );
        let count = received.as_ref().map_or(0, |r| r.bytes);
        self.bytes.truncate(start + count);
        let received = received?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        // Descriptors that did not fit (or could not be made: EMFILE) are lost without an error otherwise.
        if received.flags.contains(ReturnFlags::CTRUNC) || self.fds.len() > DESCRIPTORS_MAX {
            return Err(io::Error::other("descriptors of a message were cut off"));
        }
        Ok(count)
    }

    /// Bytes to read next: the rest of a message whose header is known.
    fn wanted(&self) -> usize {
        match self.lengths() {
            Some((head, blob, _)) => (HEADER_BYTES + head + blob)
                .saturating_sub(self.bytes.len())
                .clamp(1, READ_BYTES.max(64 << 10)),
            None => READ_BYTES,
        }
    }

    fn lengths(&self) -> Option<(usize, usize, usize)> {
        let number = |at: usize| -> Option<usize> {
            let bytes: [u8; 4] = self.bytes.get(at..at + 4)?.try_into().ok()?;
            Some((u32::from_be_bytes(bytes) as usize).min(BYTES_MAX + 1))
        };
        Some((number(0)?, number(4)?, number(8)?))
    }

    /// The next complete message.
    pub(crate) fn next(&mut self) -> io::Result<Option<Message>> {
        let Some((head, blob, count)) = self.lengths() else {
            return Ok(None);
        };
        let total = HEADER_BYTES + head + blob;
        if total > BYTES_MAX || count > DESCRIPTORS_MAX {
            return Err(io::Error::other("message too large"));
        }
        if self.bytes.len() < total {
            return Ok(None);
        }
        if self.fds.len() < count {
            return Err(io::Error::other("message without its descriptors"));
        }
        let rest = self.bytes.split_off(total);
        let mut message = std::mem::replace(&mut self.bytes, rest);
        let blob = message.split_off(HEADER_BYTES + head);
        message.drain(..HEADER_BYTES);
        let later = self.fds.split_off(count);
        let fds = std::mem::replace(&mut self.fds, later);
        Ok(Some(Message {
            head: message,
            blob,
            fds,
        }))
    }

    /// Waits on a blocking socket for one message; `None`: the other side has closed.
    pub(crate) fn wait(&mut self, socket: BorrowedFd<'_>) -> io::Result<Option<Message>> {
        loop {
            if let Some(message) = self.next()? {
                return Ok(Some(message));
            }
            match self.receive(socket) {
                Ok(0) if self.bytes.is_empty() => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_and_bytes_arrive_together() {
        let (near, far) = UnixStream::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let many = vec![file.as_fd(); 300];
        let blob = vec![7u8; 100_000];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                send(near.as_fd(), b"{}", &blob, &many).unwrap();
                send(near.as_fd(), b"second", b"", &[file.as_fd()]).unwrap();
                drop(near.try_clone());
            });
            let mut decoder = Decoder::default();
            let first = decoder.wait(far.as_fd()).unwrap().unwrap();
            assert_eq!(
                (first.head.as_slice(), first.blob.len()),
                (b"{}".as_slice(), 100_000)
            );
            assert_eq!(first.fds.len(), 300);
            let second = decoder.wait(far.as_fd()).unwrap().unwrap();
            assert_eq!(
                (second.head.as_slice(), second.fds.len()),
                (b"second".as_slice(), 1)
            );
        });
        drop(near);
        assert!(Decoder::default().wait(far.as_fd()).unwrap().is_none());
    }

    #[test]
    fn lengths_beyond_the_bound_are_refused() {
        let mut decoder = Decoder {
            bytes: vec![0xff; 12],
            fds: VecDeque::new(),
        };
        assert!(decoder.next().is_err());
    }
}
