//! Reading containers' logs: lines of time, stream, `F` for the end of a line or `P` for a part of one, and text.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;

/// Longest line of a log that is believed.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// How much of a file is read from its end at once.
const BLOCK_BYTES: u64 = 64 << 10;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub follow: bool,
    pub timestamps: bool,
    pub tail: Option<u64>,
    pub since: Option<Timestamp>,
    pub limit_bytes: Option<u64>,
    /// `Stdout`, `Stderr`; both when absent.
    pub stream: Option<String>,
}

/// One line of a file.
#[derive(Debug, PartialEq)]
struct Line<'a> {
    time: &'a str,
    stream: &'a str,
    is_whole: bool,
    text: &'a [u8],
}

fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?;
    let is_whole = parts.next()? != b"P";
    Some(Line {
        time,
        stream,
        is_whole,
        text: parts.next().unwrap_or_default(),
    })
}

/// The end of a log, as plain text.
pub(crate) fn tail(path: &str, bytes_max: usize) -> String {
    let wanted = Wanted {
        tail: Some(80),
        ..Wanted::default()
    };
    let mut text = Vec::new();
    if let Ok(mut reader) = Reader::open(Path::new(path), wanted) {
        while let Ok(Some(block)) = reader.next() {
            text.extend_from_slice(&block);
        }
    }
    let from = text.len().saturating_sub(bytes_max);
    String::from_utf8_lossy(&text[from..]).into_owned()
}

struct Reader {
    file: BufReader<File>,
    wanted: Wanted,
    left: u64,
    begins: bool,
}

impl Reader {
    fn open(path: &Path, wanted: Wanted) -> std::io::Result<Reader> {
        let mut file = File::open(path)?;
        let from = match wanted.tail {
            Some(lines) => start_of_tail(&mut file, lines)?,
            None => 0,
        };
        file.seek(SeekFrom::Start(from))?;
        Ok(Reader {
            file: BufReader::new(file),
            left: wanted.limit_bytes.unwrap_or(u64::MAX),
            wanted,
            begins: true,
        })
    }

    /// The next piece to send; `None`: there is no whole line more, now.
    fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        loop {
            let mut raw = Vec::new();
            let read = self
                .file
                .by_ref()
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut raw)?;
            if read == 0 || self.left == 0 {
                return Ok(None);
            }
            if raw.last() != Some(&b'\n') {
                // It is still being written.
                self.file.seek_relative(-i64::try_from(read).unwrap_or(0))?;
                return Ok(None);
            }
            raw.pop();
            if let Some(line) = parse(&raw).filter(|line| self.is_wanted(line)) {
                let mut out = Vec::with_capacity(line.text.len() + 40);
                if self.wanted.timestamps && self.begins {
                    out.extend_from_slice(line.time.as_bytes());
                    out.push(b' ');
                }
                out.extend_from_slice(line.text);
                if line.is_whole {
                    out.push(b'\n');
                }
                self.begins = line.is_whole;
                out.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= out.len() as u64;
                return Ok(Some(out.into()));
            }
        }
    }

    fn is_wanted(&self, line: &Line<'_>) -> bool {
        let of_stream = self
            .wanted
            .stream
            .as_deref()
            .is_none_or(|wanted| wanted == "All" || wanted.eq_ignore_ascii_case(line.stream));
        let since = self.wanted.since;
        of_stream
            && since.is_none_or(|since| line.time.parse::<Timestamp>().is_ok_and(|at| at >= since))
    }
}

/// Where the last so many lines begin.
fn start_of_tail(file: &mut File, lines: u64) -> std::io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut found = 0;
    let mut block = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(BLOCK_BYTES);
        file.seek(SeekFrom::Start(begin))?;
        block.clear();
        file.by_ref().take(end - begin).read_to_end(&mut block)?;
        for (at, byte) in block.iter().enumerate().rev() {
            if *byte == b'\n' {
                found += 1;
                if found > lines {
                    return Ok(begin + at as u64 + 1);
                }
            }
        }
        end = begin;
    }
    Ok(0)
}

/// Sends a log's lines; with `follow` until `ended` says that nothing more will come. The receiver's end ends it.
pub(crate) async fn send(
    path: PathBuf,
    wanted: Wanted,
    to: mpsc::Sender<std::io::Result<Bytes>>,
    mut ended: impl AsyncFnMut() -> bool,
) {
    /// How long new lines may stay unnoticed.
    const GLANCE: Duration = Duration::from_millis(50);
    let follow = wanted.follow;
    let mut reader = match Reader::open(&path, wanted) {
        Ok(reader) => reader,
        Err(error) => {
            let _ = to.send(Err(error)).await;
            return;
        }
    };
    let mut is_last = false;
    loop {
        loop {
            match reader.next() {
                Ok(Some(bytes)) => {
                    if to.send(Ok(bytes)).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    let _ = to.send(Err(error)).await;
                    return;
                }
            }
        }
        if !follow || is_last || reader.left == 0 {
            return;
        }
        is_last = ended().await;
        if !is_last {
            tokio::select! {
                () = tokio::time::sleep(GLANCE) => {}
                () = to.closed() => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(wanted: Wanted) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        std::fs::write(
            &path,
            "2026-01-01T00:00:00.1Z stdout F one\n2026-01-01T00:00:01.1Z stderr P tw\n2026-01-01T00:00:01.2Z stderr F o\n\
             2026-01-01T00:00:02.1Z stdout F three\n2026-01-01T00:00:03Z stdout F not whole",
        )
        .unwrap();
        let mut reader = Reader::open(&path, wanted).unwrap();
        let mut text = Vec::new();
        while let Some(block) = reader.next().unwrap() {
            text.extend_from_slice(&block);
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn lines_are_put_together_and_chosen() {
        assert_eq!(read(Wanted::default()), "one\ntwo\nthree\n");
        let errors = Wanted {
            stream: Some("Stderr".into()),
            ..Wanted::default()
        };
        assert_eq!(read(errors), "two\n");
        let since = Wanted {
            since: Some("2026-01-01T00:00:02Z".parse().unwrap()),
            timestamps: true,
            ..Wanted::default()
        };
        assert_eq!(read(since), "2026-01-01T00:00:02.1Z three\n");
        let limit = Wanted {
            limit_bytes: Some(5),
            ..Wanted::default()
        };
        assert_eq!(read(limit), "one\nt");
        let tail = Wanted {
            tail: Some(1),
            ..Wanted::default()
        };
        assert_eq!(read(tail), "three\n");
    }
}
