//! The log's files: the current one, `.1`, `.2` …, compressed piece by piece so that the loop never stands still.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;

const PIECE_BYTES: usize = 64 << 10;

/// The files of one log.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    max_files: u32,
    compress: bool,
    job: Option<Job>,
}

/// A rotated file on its way to its compressed form.
struct Job {
    source: File,
    encoder: GzEncoder<File>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl Files {
    pub(super) fn new(path: PathBuf, max_files: u32, compress: bool) -> Files {
        Files {
            path,
            max_files,
            compress,
            job: None,
        }
    }

    /// Opens the current file for appending; its length as well.
    pub(super) fn open(&self) -> io::Result<(File, u64)> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&self.path)?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }

    fn numbered(&self, number: u32, ending: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}{ending}"));
        name.into()
    }

    /// Moves each file one further; the current name is free afterwards.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        while self.job.is_some() {
            self.compress_piece();
        }
        if self.max_files < 2 {
            return absent_is_fine(std::fs::remove_file(&self.path));
        }
        for ending in ["", ".gz"] {
            absent_is_fine(std::fs::remove_file(
                self.numbered(self.max_files - 1, ending),
            ))?;
            for number in (1..self.max_files - 1).rev() {
                let (from, to) = (
                    self.numbered(number, ending),
                    self.numbered(number + 1, ending),
                );
                absent_is_fine(std::fs::rename(from, to))?;
            }
        }
        std::fs::rename(&self.path, self.numbered(1, ""))?;
        if self.compress {
            self.job = self.begin().ok();
        }
        Ok(())
    }

    fn passing(&self) -> PathBuf {
        self.numbered(1, ".gz.new")
    }

    fn begin(&self) -> io::Result<Job> {
        let source = File::open(self.numbered(1, ""))?;
        let target = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o640)
            .open(self.passing())?;
        Ok(Job {
            source,
            encoder: GzEncoder::new(target, Compression::fast()),
        })
    }

    pub(super) fn is_compressing(&self) -> bool {
        self.job.is_some()
    }

    /// Takes the job one piece further. A failure (a full disk) leaves the plain file in place.
    pub(super) fn compress_piece(&mut self) {
        let Some(mut job) = self.job.take() else {
            return;
        };
        match job.piece() {
            Ok(true) => self.job = Some(job),
            Ok(false) => self.finish(job),
            Err(_) => self.abandon(),
        }
    }

    fn finish(&mut self, job: Job) {
        let done = job
            .encoder
            .finish()
            .and_then(|_| std::fs::rename(self.passing(), self.numbered(1, ".gz")));
        match done {
            Ok(()) => drop(std::fs::remove_file(self.numbered(1, ""))),
            Err(_) => self.abandon(),
        }
    }

    fn abandon(&mut self) {
        let _ = std::fs::remove_file(self.passing());
    }
}

impl Job {
    /// Whether there is more.
    fn piece(&mut self) -> io::Result<bool> {
        let mut buffer = vec![0; PIECE_BYTES];
        let count = self.source.read(&mut buffer)?;
        self.encoder.write_all(&buffer[..count])?;
        Ok(count > 0)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if self.job.take().is_some() {
            self.abandon();
        }
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
