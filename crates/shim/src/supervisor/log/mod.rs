//! The container's log in Docker's json-file format: lines cut at 16 KiB, rotation, and what happens when the disk
//! is full or the file has gone: output is dropped and counted, never waited for.

mod json;
mod rotate;

use std::fs::File;
use std::io::{self, Write};

use rustix::time::Timespec;

use super::clock::{self, Stamp};
use crate::protocol::LogConfig;
use rotate::Files;

/// A longer line is cut into records of this length; all but the last lack the newline.
const LINE_BYTES_MAX: usize = 16 << 10;
/// Buffers up to this size are not worth giving back.
const KEPT_BYTES: usize = 16 << 10;
/// How long to leave a log alone that could not be opened.
const REOPEN_MS: u64 = 1000;

/// The container's streams, as the log names them.
const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// A log being written.
#[derive(Debug)]
pub(crate) struct Log {
    files: Files,
    /// The format of the Container Runtime Interface.
    plain: bool,
    file: Option<File>,
    size_bytes: u64,
    max_size_bytes: u64,
    attributes: Vec<u8>,
    lines: [Line; 2],
    /// Records not written yet.
    out: Vec<u8>,
    stamp: Stamp,
    lost_records: u64,
    reopen_after_ms: u64,
}

/// The unfinished line of one stream.
#[derive(Debug, Default)]
struct Line {
    bytes: Vec<u8>,
    /// When the line's first record was cut off: all its records bear that time.
    cut_at: Option<Timespec>,
}

impl Log {
    /// Opens the log for appending; `None`: nothing is kept.
    pub(crate) fn open(config: LogConfig) -> io::Result<Option<Log>> {
        let mut plain = false;
        let (path, max_size_bytes, max_files, compress, attributes) = match config {
            LogConfig::None => return Ok(None),
            LogConfig::JsonFile {
                path,
                max_size_bytes,
                max_files,
                compress,
                attributes,
            } => (path, max_size_bytes, max_files, compress, attributes),
            LogConfig::Cri { path } => {
                plain = true;
                (path, None, 1, false, Default::default())
            }
        };
        let mut log = Log {
            plain,
            files: Files::new(path, max_files.max(1), compress),
            file: None,
            size_bytes: 0,
            max_size_bytes: max_size_bytes.unwrap_or(u64::MAX),
            attributes: json::attributes(&attributes),
            lines: Default::default(),
            out: Vec::new(),
            stamp: Stamp::default(),
            lost_records: 0,
            reopen_after_ms: 0,
        };
        log.reopen()?;
        Ok(Some(log))
    }

    /// Opens the current file, whatever is open now.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        let (file, size_bytes) = self.files.open()?;
        self.size_bytes = size_bytes;
        self.file = Some(file);
        Ok(())
    }

    /// Takes what a stream (0 output, 1 errors) has said.
    pub(crate) fn write(&mut self, stream: usize, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let held = self.lines[stream].bytes.len();
            let window = &bytes[..bytes.len().min(LINE_BYTES_MAX - held)];
            if let Some(end) = window.iter().position(|b| *b == b'\n') {
                self.record(stream, &window[..end], true);
                bytes = &bytes[end + 1..];
            } else if held + window.len() == LINE_BYTES_MAX {
                self.record(stream, window, false);
                bytes = &bytes[window.len()..];
            } else {
                self.lines[stream].bytes.extend_from_slice(window);
                bytes = &[];
            }
        }
        self.flush();
    }

    /// A stream has ended: its unfinished line is written as it is.
    pub(crate) fn end(&mut self, stream: usize) {
        if !self.lines[stream].bytes.is_empty() {
            // In the plain format an unfinished last line is whole: nothing follows it.
            self.record(stream, &[], self.plain);
            self.flush();
        }
    }

    /// One record: the held part of the line and `rest`; `whole` gives it its newline.
    fn record(&mut self, stream: usize, rest: &[u8], whole: bool) {
        if self.plain {
            return self.plain_record(stream, rest, whole);
        }
        let line = &mut self.lines[stream];
        let time = line.cut_at.unwrap_or_else(clock::now);
        line.cut_at = (!whole).then_some(time);
        let start = self.out.len();
        json::open(&mut self.out);
        // A character may lie on both sides of the seam.
        if line.bytes.is_empty() {
            json::text(rest, &mut self.out);
        } else {
            line.bytes.extend_from_slice(rest);
            json::text(&line.bytes, &mut self.out);
            line.bytes.clear();
        }
        json::close(whole, STREAMS[stream], &self.attributes, &mut self.out);
        self.stamp.write(time, &mut self.out);
        self.out.extend_from_slice(b"\"}\n");
        let length = (self.out.len() - start) as u64;
        let before = self.size_bytes + start as u64;
        if before > 0 && before + length > self.max_size_bytes {
            let record = self.out.split_off(start);
            self.flush();
            self.rotate();
            self.out = record;
        }
    }

    /// `TIME STREAM P|F TEXT`: `P` says that the line goes on in the next record of the stream.
    fn plain_record(&mut self, stream: usize, rest: &[u8], whole: bool) {
        self.plain_head(stream, if whole { b"F" } else { b"P" });
        self.out.append(&mut self.lines[stream].bytes);
        self.out.extend_from_slice(rest);
        self.out.push(b'\n');
    }

    fn plain_head(&mut self, stream: usize, tag: &[u8]) {
        self.stamp.write(clock::now(), &mut self.out);
        for word in [STREAMS[stream].as_bytes(), tag] {
            self.out.push(b' ');
            self.out.extend_from_slice(word);
        }
        self.out.push(b' ');
    }

    fn rotate(&mut self) {
        if self.file.is_none() {
            return;
        }
        // A name that cannot be changed must not stop the log: it goes on in the file it has.
        if self.files.rotate().is_ok() {
            self.file = None;
            self.reopen_after_ms = 0;
            let _ = self.reopen();
        }
    }

    /// Writes the records gathered so far.
    fn flush(&mut self) {
        if self.out.is_empty() {
            return;
        }
        self.find_again();
        if self.lost_records > 0 && self.file.is_some() {
            let marker = self.marker();
            if self.put(&marker) == marker.len() {
                self.lost_records = 0;
            }
        }
        let out = std::mem::take(&mut self.out);
        let written = if self.lost_records > 0 {
            0
        } else {
            self.put(&out)
        };
        // Inside a record newlines are escaped, so each byte of that value ends one.
        self.lost_records += out[written..].iter().filter(|b| **b == b'\n').count() as u64;
        self.out = out;
        self.out.clear();
    }

    /// Opens the log anew where its file was removed or could not be opened before.
    fn find_again(&mut self) {
        let linked = |file: &File| rustix::fs::fstat(file).is_ok_and(|stat| stat.st_nlink > 0);
        if self.file.as_ref().is_some_and(linked) {
            return;
        }
        self.file = None;
        let now = clock::monotonic_ms();
        if now < self.reopen_after_ms {
            return;
        }
        if self.reopen().is_err() {
            self.reopen_after_ms = now + REOPEN_MS;
        }
    }

    /// Says how much is missing, in the place where it is missing.
    fn marker(&mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(160);
        let words = format!(
            "wharf: {} log records lost here: the log could not be written",
            self.lost_records
        );
        if self.plain {
            let records = std::mem::take(&mut self.out);
            self.plain_head(1, b"F");
            self.out.extend_from_slice(words.as_bytes());
            self.out.push(b'\n');
            return std::mem::replace(&mut self.out, records);
        }
        json::open(&mut out);
        json::text(words.as_bytes(), &mut out);
        json::close(true, STREAMS[1], &self.attributes, &mut out);
        self.stamp.write(clock::now(), &mut out);
        out.extend_from_slice(b"\"}\n");
        out
    }

    /// Appends whole records; returns how many bytes of them are in the file.
    fn put(&mut self, records: &[u8]) -> usize {
        let Some(file) = &mut self.file else {
            return 0;
        };
        let mut written = 0;
        while written < records.len() {
            match file.write(&records[written..]) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let kept = if written == records.len() {
            written
        } else {
            // A torn record would spoil the line after it.
            let kept = records[..written]
                .iter()
                .rposition(|b| *b == b'\n')
                .map_or(0, |at| at + 1);
            let _ = file.set_len(self.size_bytes + kept as u64);
            kept
        };
        self.size_bytes += kept as u64;
        kept
    }

    /// Whether a rotated file waits to be compressed.
    pub(crate) fn is_compressing(&self) -> bool {
        self.files.is_compressing()
    }

    /// Compresses a piece of a rotated file.
    pub(crate) fn compress_piece(&mut self) {
        self.files.compress_piece();
    }

    /// Whether a burst has left large buffers.
    pub(crate) fn is_large(&self) -> bool {
        self.out.capacity() > KEPT_BYTES
    }

    /// Gives the memory of the buffers back.
    pub(crate) fn shrink(&mut self) {
        self.out = Vec::new();
    }
}

#[cfg(test)]
mod tests;
