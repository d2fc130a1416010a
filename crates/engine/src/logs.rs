//! Reading what a container wrote: the json-file log, its rotated parts included, and what comes.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use rustix::fs::inotify;
use serde::Deserialize;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use crate::error_from::blocking;
use crate::index::Entry;
use crate::{
    AttachOptions, Engine, Error, Kind, Labels, LogLine, LogOptions, Reader, Result, Status,
};

/// Lines that may wait for a slow client.
const LINES_WAITING_MAX: usize = 256;
const BLOCK_BYTES: u64 = 64 * 1024;
/// A line longer than this is no line of ours.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Deserialize)]
struct JsonLine {
    log: String,
    #[serde(default)]
    stream: String,
    time: String,
    #[serde(default)]
    attrs: Labels,
}

impl Engine {
    /// Log lines, old and (with `follow`) new, oldest first.
    pub async fn logs(
        &self,
        container: &str,
        options: LogOptions,
    ) -> Result<Pin<Box<dyn Stream<Item = Result<LogLine>> + Send>>> {
        let entry = self.inner.containers.find(container)?;
        if entry.record().spec.log.driver == "none" {
            return Err(Error::new(
                Kind::Internal,
                "configured logging driver does not support reading",
            ));
        }
        let path = self.log_path(&entry.id);
        let (sender, receiver) = mpsc::channel(LINES_WAITING_MAX);
        tokio::spawn(async move {
            if let Err(error) = send_all(path, options, &entry, &sender).await {
                // The client is gone, or told.
                let _ = sender.send(Err(error)).await;
            }
        });
        Ok(Box::pin(futures_util::stream::unfold(
            receiver,
            |mut receiver| async move { receiver.recv().await.map(|line| (line, receiver)) },
        )))
    }

    /// The log so far in the attach framing, then what `live` brings.
    pub(crate) async fn log_frames(
        &self,
        entry: &Entry,
        options: &AttachOptions,
        live: Reader,
    ) -> Result<Reader> {
        let tty = entry.record().spec.tty;
        let wanted = LogOptions {
            stdout: options.stdout,
            stderr: options.stderr,
            ..LogOptions::default()
        };
        let past = self.logs(&entry.id, wanted).await?.map(move |line| {
            let line = line.map_err(io::Error::other)?;
            let mut bytes = Vec::with_capacity(line.text.len() + 8);
            if !tty {
                bytes.extend([if line.stderr { 2 } else { 1 }, 0, 0, 0]);
                bytes.extend((line.text.len() as u32).to_be_bytes());
            }
            bytes.extend_from_slice(&line.text);
            Ok::<_, io::Error>(Bytes::from(bytes))
        });
        let past = tokio_util::io::StreamReader::new(past);
        Ok(Box::pin(tokio::io::AsyncReadExt::chain(past, live)))
    }
}

async fn send_all(
    path: PathBuf,
    options: LogOptions,
    entry: &Arc<Entry>,
    sender: &mpsc::Sender<Result<LogLine>>,
) -> Result<()> {
    // Watched before it is read: what is written in between is seen.
    let watch = if options.follow {
        Some(Watch::new(&path)?)
    } else {
        None
    };
    let mut progress = entry.progress.subscribe();
    progress.mark_unchanged();
    let mut position = {
        let (path, options, sender) = (path.clone(), options.clone(), sender.clone());
        blocking(move || send_past(&path, &options, &sender)).await?
    };
    let Some(watch) = watch else { return Ok(()) };
    loop {
        let running = {
            let record = entry.record();
            record.is_live() || record.state.status == Status::Restarting
        };
        let (next, options, sender) = (position.take(), options.clone(), sender.clone());
        let log = path.clone();
        position = blocking(move || send_new(&log, next, &options, &sender)).await?;
        if !running || position.is_none() {
            return Ok(());
        }
        tokio::select! {
            event = watch.changed() => event.map_err(crate::error_from::io("watch the log"))?,
            _ = progress.changed() => {}
        }
    }
}

/// How far a log was read: which file (rotation makes a new one under the same name) and where.
struct Position {
    file: File,
    offset: u64,
}

/// Sends what is there; `None`: nobody listens any more.
fn send_past(
    path: &Path,
    options: &LogOptions,
    sender: &mpsc::Sender<Result<LogLine>>,
) -> Result<Option<Position>> {
    let read = crate::error_from::io(format!("read {}", path.display()));
    let current = match File::options().read(true).create(false).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Nothing written yet.
            return Ok(Some(Position {
                file: File::open("/dev/null").map_err(read)?,
                offset: 0,
            }));
        }
        Err(error) => return Err(read(error)),
    };
    let mut lines = Vec::new();
    match options.tail {
        Some(0) => {}
        Some(count) => {
            lines = tail(
                path,
                &current,
                usize::try_from(count).unwrap_or(usize::MAX),
                options,
            )
            .map_err(read)?
        }
        None => {
            for rotated in rotated_files(path) {
                let reader: Box<dyn Read> = open_rotated(&rotated)
                    .map_err(crate::error_from::io(format!("read {}", rotated.display())))?;
                if !send_reader(reader, options, sender) {
                    return Ok(None);
                }
            }
        }
    }
    let length = current
        .metadata()
        .map_err(crate::error_from::io("read the log's size"))?
        .len();
    if options.tail.is_none() {
        return send_new(
            path,
            Some(Position {
                file: current,
                offset: 0,
            }),
            options,
            sender,
        );
    }
    for line in lines {
        if sender.blocking_send(Ok(line)).is_err() {
            return Ok(None);
        }
    }
    Ok(Some(Position {
        file: current,
        offset: length,
    }))
}

/// Sends the whole lines behind a position; goes on in the new file when the log was rotated.
fn send_new(
    path: &Path,
    position: Option<Position>,
    options: &LogOptions,
    sender: &mpsc::Sender<Result<LogLine>>,
) -> Result<Option<Position>> {
    let Some(mut position) = position else {
        return Ok(None);
    };
    let fail = || crate::error_from::io(format!("read {}", path.display()));
    loop {
        position
            .file
            .seek(SeekFrom::Start(position.offset))
            .map_err(fail())?;
        let mut reader = BufReader::new(&position.file);
        let mut text = Vec::new();
        loop {
            text.clear();
            let length = reader
                .by_ref()
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut text)
                .map_err(fail())?;
            // A line half written is read again when it is whole.
            if length == 0 || text.last() != Some(&b'\n') {
                break;
            }
            position.offset += length as u64;
            match parse(&text, options) {
                Parsed::Line(line) => {
                    if sender.blocking_send(Ok(line)).is_err() {
                        return Ok(None);
                    }
                }
                Parsed::Beyond => return Ok(None),
                Parsed::Skip => {}
            }
        }
        match newer_file(path, &position.file) {
            Some(file) => position = Position { file, offset: 0 },
            None => return Ok(Some(position)),
        }
    }
}

/// The file that took the name of the one being read.
fn newer_file(path: &Path, current: &File) -> Option<File> {
    use std::os::unix::fs::MetadataExt;
    let file = File::open(path).ok()?;
    let (new, old) = (file.metadata().ok()?, current.metadata().ok()?);
    ((new.dev(), new.ino()) != (old.dev(), old.ino())).then_some(file)
}

fn send_reader(
    reader: impl Read,
    options: &LogOptions,
    sender: &mpsc::Sender<Result<LogLine>>,
) -> bool {
    let mut reader = BufReader::new(reader);
    let mut text = Vec::new();
    loop {
        text.clear();
        match reader
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut text)
        {
            Ok(0) | Err(_) => return true,
            Ok(_) => match parse(&text, options) {
                Parsed::Line(line) => {
                    if sender.blocking_send(Ok(line)).is_err() {
                        return false;
                    }
                }
                Parsed::Beyond => return false,
                Parsed::Skip => {}
            },
        }
    }
}

/// The last lines, found from the end: a large log is not read whole. Rotated files are asked where the current one
/// has too few.
fn tail(
    path: &Path,
    current: &File,
    count: usize,
    options: &LogOptions,
) -> io::Result<Vec<LogLine>> {
    let mut lines = tail_of(current, count, options)?;
    for rotated in rotated_files(path).iter().rev() {
        if lines.len() >= count {
            break;
        }
        let mut older = Vec::new();
        for text in BufReader::new(open_rotated(rotated)?).split(b'\n') {
            if let Parsed::Line(line) = parse(&text?, options) {
                older.push(line);
            }
        }
        let missing = count - lines.len();
        let from = older.len().saturating_sub(missing);
        lines.splice(0..0, older.drain(from..));
    }
    Ok(lines)
}

fn tail_of(file: &File, count: usize, options: &LogOptions) -> io::Result<Vec<LogLine>> {
    use std::os::unix::fs::FileExt;
    let mut start = file.metadata()?.len();
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        let whole: Vec<LogLine> = {
            // The first piece is cut off unless it begins the file.
            let from = if start == 0 {
                0
            } else {
                bytes
                    .iter()
                    .position(|b| *b == b'\n')
                    .map_or(bytes.len(), |p| p + 1)
            };
            let parsed = bytes[from..]
                .split_inclusive(|b| *b == b'\n')
                .map(|text| parse(text, options));
            parsed
                .filter_map(|p| {
                    if let Parsed::Line(line) = p {
                        Some(line)
                    } else {
                        None
                    }
                })
                .collect()
        };
        if whole.len() >= count || start == 0 {
            let from = whole.len().saturating_sub(count);
            return Ok(whole.into_iter().skip(from).collect());
        }
        let step = BLOCK_BYTES.max(bytes.len() as u64).min(start);
        start -= step;
        let mut block = vec![0; step as usize];
        file.read_exact_at(&mut block, start)?;
        block.extend_from_slice(&bytes);
        bytes = block;
    }
}

/// `NAME.2.gz`, `NAME.1` …, the oldest first.
fn rotated_files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for number in 1.. {
        let plain = PathBuf::from(format!("{}.{number}", path.display()));
        let packed = PathBuf::from(format!("{}.{number}.gz", path.display()));
        match [plain, packed]
            .into_iter()
            .find(|p| fs::metadata(p).is_ok())
        {
            Some(file) => found.push(file),
            None => break,
        }
    }
    found.reverse();
    found
}

fn open_rotated(path: &Path) -> io::Result<Box<dyn Read>> {
    let file = File::open(path)?;
    Ok(match path.extension().is_some_and(|e| e == "gz") {
        true => Box::new(flate2::read::MultiGzDecoder::new(file)),
        false => Box::new(file),
    })
}

enum Parsed {
    Line(LogLine),
    /// Not asked for, or not a line of ours.
    Skip,
    /// Later than asked for.
    Beyond,
}

fn parse(text: &[u8], options: &LogOptions) -> Parsed {
    let Ok(line) = serde_json::from_slice::<JsonLine>(text) else {
        return Parsed::Skip;
    };
    let stderr = line.stream == "stderr";
    if !(if stderr {
        options.stderr
    } else {
        options.stdout
    }) {
        return Parsed::Skip;
    }
    if options.since_ns.is_some() || options.until_ns.is_some() {
        let time = line
            .time
            .parse::<jiff::Timestamp>()
            .map(|t| i64::try_from(t.as_nanosecond()).unwrap_or(i64::MAX));
        let Ok(time) = time else { return Parsed::Skip };
        if options.since_ns.is_some_and(|since| time < since) {
            return Parsed::Skip;
        }
        if options.until_ns.is_some_and(|until| time > until) {
            return Parsed::Beyond;
        }
    }
    Parsed::Line(LogLine {
        stderr,
        time: line.time,
        text: Bytes::from(line.log),
        attributes: line.attrs,
    })
}

/// Told when the log's folder changes: a write to the log, or a rotation. To the runtime an inotify descriptor is like
/// the reading end of a pipe: it becomes readable, and is read.
struct Watch(pipe::Receiver);

impl Watch {
    fn new(path: &Path) -> Result<Watch> {
        let folder = path.parent().unwrap_or(path);
        let what = format!("watch {}", folder.display());
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let notifier = inotify::init(flags).map_err(crate::error_from::io(&what))?;
        let wanted = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&notifier, folder, wanted).map_err(crate::error_from::io(&what))?;
        pipe::Receiver::from_owned_fd_unchecked(notifier)
            .map(Watch)
            .map_err(crate::error_from::io(what))
    }

    async fn changed(&self) -> io::Result<()> {
        self.0.readable().await?;
        let mut buffer = [0; 4096];
        // All at once: what is read from the log next covers them.
        while self.0.try_read(&mut buffer).is_ok_and(|read| read > 0) {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u32) -> String {
        let stream = if number.is_multiple_of(2) {
            "stdout"
        } else {
            "stderr"
        };
        format!(
            "{{\"log\":\"line {number}\\n\",\"stream\":\"{stream}\",\"time\":\"2026-01-01T00:00:{:02}.5Z\"}}\n",
            number % 60
        )
    }

    fn all() -> LogOptions {
        LogOptions {
            stdout: true,
            stderr: true,
            ..LogOptions::default()
        }
    }

    #[test]
    fn the_tail_is_found_across_rotated_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        fs::write(
            folder.path().join("x.log.2"),
            (0..10).map(line).collect::<String>(),
        )
        .unwrap();
        fs::write(
            folder.path().join("x.log.1"),
            (10..20).map(line).collect::<String>(),
        )
        .unwrap();
        fs::write(&path, (20..5000).map(line).collect::<String>()).unwrap();
        let file = File::open(&path).unwrap();
        let texts = |count| -> Vec<String> {
            tail(&path, &file, count, &all())
                .unwrap()
                .iter()
                .map(|l| String::from_utf8_lossy(&l.text).into_owned())
                .collect()
        };
        assert_eq!(texts(2), ["line 4998\n", "line 4999\n"]);
        assert_eq!(texts(4985).first().unwrap(), "line 15\n");
        assert_eq!(texts(99_999).len(), 5000);
        let errors = tail(
            &path,
            &file,
            3,
            &LogOptions {
                stdout: false,
                ..all()
            },
        )
        .unwrap();
        assert_eq!(errors[2].text, "line 4999\n");
    }

    #[test]
    fn times_bound_what_is_shown() {
        let at = |text: &str| {
            i64::try_from(text.parse::<jiff::Timestamp>().unwrap().as_nanosecond()).unwrap()
        };
        let options = LogOptions {
            since_ns: Some(at("2026-01-01T00:00:02Z")),
            until_ns: Some(at("2026-01-01T00:00:04Z")),
            ..all()
        };
        let kinds: Vec<char> = (0..6)
            .map(|n| match parse(line(n).as_bytes(), &options) {
                Parsed::Line(_) => 'l',
                Parsed::Skip => 's',
                Parsed::Beyond => 'b',
            })
            .collect();
        assert_eq!(kinds, ['s', 's', 'l', 'l', 'b', 'b']);
    }
}
