//! The server's side of SPDY/3.1, as much of it as streams need: streams that the client opens, their data, their ends.
//! Header blocks are read with one inflater for the whole connection, as the specification wants it. Windows are not
//! kept: the clients of this interface keep none, and blocks wait in bounded queues.

mod headers;

use std::collections::HashMap;
use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::websocket::Wire;
use headers::{Inflater, Replies};

const CONTROL_BYTES_MAX: usize = 64 << 10;
const BLOCK_BYTES: usize = 32 << 10;
/// The longest frame that is sent.
const DATA_BYTES_MAX: usize = 1 << 20;
const STREAMS_MAX: usize = 1_000;
/// Blocks that wait for a stream's reader, and frames for the wire.
const BLOCKS_MAX: usize = 64;

const VERSION: u16 = 0x8003;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const FIN: u8 = 1;
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 3;
const STREAM_ID: u32 = 0x7fff_ffff;

/// A connection whose client opens streams.
#[derive(Debug)]
pub(in crate::streaming) struct Connection {
    accepted: mpsc::Receiver<Stream>,
    reading: JoinHandle<()>,
    writing: JoinHandle<()>,
}

/// A stream that the client opened.
#[derive(Debug)]
pub(in crate::streaming) struct Stream {
    /// Their names in lower case.
    pub headers: HashMap<String, String>,
    /// What the client sends; ends when it closes its half, resets the stream or is gone.
    pub input: mpsc::Receiver<Bytes>,
    pub output: Output,
}

impl Stream {
    /// A header, empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Its number in the connection: odd.
    pub fn id(&self) -> u32 {
        self.output.id
    }
}

/// Our half of a stream.
#[derive(Debug, Clone)]
pub(in crate::streaming) struct Output {
    id: u32,
    frames: mpsc::Sender<Frame>,
}

impl Output {
    /// # Errors
    /// The client is gone.
    pub async fn write(&self, bytes: Bytes) -> io::Result<()> {
        self.send(Frame::Data(self.id, bytes, 0)).await
    }

    /// Says that nothing more comes.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn close(&self) -> io::Result<()> {
        self.send(Frame::Data(self.id, Bytes::new(), FIN)).await
    }

    /// Waits until the client is gone.
    pub async fn closed(&self) {
        self.frames.closed().await;
    }

    async fn send(&self, frame: Frame) -> io::Result<()> {
        let sent = self.frames.send(frame).await;
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// What is to be written.
#[derive(Debug)]
enum Frame {
    Data(u32, Bytes, u8),
    Reply(u32),
    Reset(u32, u32),
    Ping(u32),
    /// The last one, with the last stream that was taken.
    Away(u32),
}

/// Serves a connection.
pub(in crate::streaming) fn serve<W: Wire>(wire: W) -> Connection {
    let (reader, writer) = tokio::io::split(wire);
    let (frames, waiting) = mpsc::channel(BLOCKS_MAX);
    let (accepted_sender, accepted) = mpsc::channel(BLOCKS_MAX);
    let writing = tokio::spawn(write(writer, waiting));
    let stop = writing.abort_handle();
    let reading = tokio::spawn(async move {
        let mut incoming = Incoming {
            reader,
            frames,
            accepted: accepted_sender,
            open: HashMap::new(),
            inflater: Inflater::new(),
            last: 0,
        };
        let outcome = incoming.read().await;
        if let Err(error) = outcome {
            tracing::debug!(%error, "a SPDY client is gone");
        }
        // Whoever still writes learns that nobody reads.
        stop.abort();
    });
    Connection {
        accepted,
        reading,
        writing,
    }
}

impl Connection {
    /// The next stream that the client opens; none when it is gone.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.accepted.recv().await
    }

    /// Ends the connection when what was written is sent. Outputs must be dropped before.
    pub async fn close(self) {
        self.reading.abort();
        // Joined so that its sender is dropped, which the writer waits for.
        let _ = self.reading.await;
        drop(self.accepted);
        let _ = self.writing.await;
    }
}

struct Incoming<R> {
    reader: R,
    frames: mpsc::Sender<Frame>,
    accepted: mpsc::Sender<Stream>,
    open: HashMap<u32, mpsc::Sender<Bytes>>,
    inflater: Inflater,
    last: u32,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    /// Reads frames until the client says goodbye.
    async fn read(&mut self) -> io::Result<()> {
        loop {
            let first = match self.reader.read_u32().await {
                Ok(first) => first,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            };
            let second = self.reader.read_u32().await?;
            let (flags, length) = ((second >> 24) as u8, (second & 0x00ff_ffff) as usize);
            if first & !STREAM_ID == 0 {
                self.data(first, flags, length).await?;
                continue;
            }
            let kind = (first & 0xffff) as u16;
            if (first >> 16) as u16 != VERSION || length > CONTROL_BYTES_MAX {
                return Err(malformed("a frame of another version, or too long"));
            }
            let mut payload = vec![0; length];
            self.reader.read_exact(&mut payload).await?;
            match kind {
                GOAWAY => return Ok(()),
                _ => self.control(kind, flags, &payload).await?,
            }
        }
    }

    async fn data(&mut self, id: u32, flags: u8, mut length: usize) -> io::Result<()> {
        while length > 0 {
            let mut block = BytesMut::with_capacity(length.min(BLOCK_BYTES));
            let mut limited = (&mut self.reader).take(length.min(BLOCK_BYTES) as u64);
            let count = limited.read_buf(&mut block).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            length -= count;
            if let Some(stream) = self.open.get(&id)
                && stream.send(block.freeze()).await.is_err()
            {
                self.open.remove(&id);
            }
        }
        if flags & FIN != 0 {
            self.open.remove(&id);
        }
        Ok(())
    }

    async fn control(&mut self, kind: u16, flags: u8, payload: &[u8]) -> io::Result<()> {
        let word = |at: usize| {
            let bytes = payload
                .get(at..at + 4)
                .and_then(|bytes| bytes.try_into().ok());
            bytes
                .map(u32::from_be_bytes)
                .ok_or_else(|| malformed("a frame that is too short"))
        };
        match kind {
            SYN_STREAM => {
                let id = word(0)? & STREAM_ID;
                let block = payload.get(10..);
                let block = block.ok_or_else(|| malformed("a frame that is too short"))?;
                // Read even if the stream is refused: the inflater's state is the connection's.
                let headers = self.inflater.read(block)?;
                self.open(id, flags, headers).await
            }
            RST_STREAM => {
                self.open.remove(&(word(0)? & STREAM_ID));
                Ok(())
            }
            HEADERS => {
                let block = payload.get(4..);
                let block = block.ok_or_else(|| malformed("a frame that is too short"))?;
                self.inflater.read(block).map(drop)
            }
            PING => self.send(Frame::Ping(word(0)?)).await,
            // Settings, windows, credentials: nothing here depends on them.
            _ => Ok(()),
        }
    }

    async fn open(
        &mut self,
        id: u32,
        flags: u8,
        headers: HashMap<String, String>,
    ) -> io::Result<()> {
        if id.is_multiple_of(2) || id <= self.last {
            return self.send(Frame::Reset(id, PROTOCOL_ERROR)).await;
        }
        self.open.retain(|_, stream| !stream.is_closed());
        if self.open.len() >= STREAMS_MAX {
            return self.send(Frame::Reset(id, REFUSED_STREAM)).await;
        }
        self.last = id;
        let (sender, input) = mpsc::channel(BLOCKS_MAX);
        if flags & FIN == 0 {
            self.open.insert(id, sender);
        }
        let frames = self.frames.clone();
        let output = Output { id, frames };
        self.send(Frame::Reply(id)).await?;
        let stream = Stream {
            headers,
            input,
            output,
        };
        // One that comes when nobody waits for more: refused.
        match self.accepted.send(stream).await {
            Ok(()) => Ok(()),
            Err(_) => self.send(Frame::Reset(id, REFUSED_STREAM)).await,
        }
    }

    async fn send(&mut self, frame: Frame) -> io::Result<()> {
        let sent = self.frames.send(frame).await;
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Writes frames as they come, then says goodbye.
async fn write<W: AsyncWrite + Unpin>(mut writer: W, mut frames: mpsc::Receiver<Frame>) {
    let mut replies = Replies::default();
    let mut last = 0;
    let mut buffer = BytesMut::new();
    while let Some(frame) = frames.recv().await {
        if let Frame::Reply(id) = frame {
            last = id;
        }
        put(&mut buffer, frame, &mut replies);
        if writer.write_all_buf(&mut buffer).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
    put(&mut buffer, Frame::Away(last), &mut replies);
    let _ = writer.write_all_buf(&mut buffer).await;
    let _ = writer.shutdown().await;
}

fn put(buffer: &mut BytesMut, frame: Frame, replies: &mut Replies) {
    match frame {
        Frame::Data(id, mut bytes, flags) => loop {
            let part = bytes.split_to(bytes.len().min(DATA_BYTES_MAX));
            let is_last = bytes.is_empty();
            let flags = if is_last { flags } else { 0 };
            buffer.put_u32(id);
            buffer.put_u32(u32::from(flags) << 24 | part.len() as u32);
            buffer.put_slice(&part);
            if is_last {
                break;
            }
        },
        Frame::Reply(id) => control(buffer, SYN_REPLY, &[id], replies.next()),
        Frame::Reset(id, status) => control(buffer, RST_STREAM, &[id, status], &[]),
        Frame::Ping(id) => control(buffer, PING, &[id], &[]),
        Frame::Away(last) => control(buffer, GOAWAY, &[last, 0], &[]),
    }
}

fn control(buffer: &mut BytesMut, kind: u16, words: &[u32], block: &[u8]) {
    buffer.put_u16(VERSION);
    buffer.put_u16(kind);
    buffer.put_u32((words.len() * 4 + block.len()) as u32);
    for word in words {
        buffer.put_u32(*word);
    }
    buffer.put_slice(block);
}
