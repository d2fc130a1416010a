//! Writing a tar stream: ustar headers, PAX records only where ustar can't say it. The same tree gives the same bytes.

use std::io::Write;

use super::{BLOCK, Entry, Kind, number};
use crate::Result;
use crate::error::io;

/// Largest value of the 7 octal digits of mode, uid, gid and device numbers.
const SEVEN_DIGITS_MAX: u64 = 0o7777777;
/// Largest value of the 11 octal digits of size and mtime.
const ELEVEN_DIGITS_MAX: u64 = 0o77777777777;

/// Writes entries one after the other.
pub(crate) struct TarWriter<W> {
    output: W,
    /// Padding that the current entry's data needs once it is complete.
    padding_bytes: usize,
    left_bytes: u64,
}

impl<W: Write> TarWriter<W> {
    pub(crate) fn new(output: W) -> TarWriter<W> {
        TarWriter {
            output,
            padding_bytes: 0,
            left_bytes: 0,
        }
    }

    /// Begins an entry. Exactly `size_bytes` of data follow for a file, none for the others.
    pub(crate) fn begin(&mut self, entry: &Entry) -> Result<()> {
        self.end_entry()?;
        let records = extended(entry);
        if !records.is_empty() {
            let mut header = Entry::new(Kind::File, b"PaxHeaders.0/entry".to_vec());
            header.mode = 0o644;
            header.size_bytes = records.len() as u64;
            self.write(&ustar(&header, b'x'))?;
            self.write(&records)?;
            self.write(&[0; BLOCK][..records.len().next_multiple_of(BLOCK) - records.len()])?;
        }
        self.write(&ustar(entry, flag_of(entry.kind)))?;
        self.left_bytes = if entry.kind == Kind::File {
            entry.size_bytes
        } else {
            0
        };
        self.padding_bytes =
            (self.left_bytes.next_multiple_of(BLOCK as u64) - self.left_bytes) as usize;
        Ok(())
    }

    /// Data of the current entry. More than announced is cut off (the file grew meanwhile).
    pub(crate) fn data(&mut self, bytes: &[u8]) -> Result<()> {
        let take = bytes
            .len()
            .min(usize::try_from(self.left_bytes).unwrap_or(usize::MAX));
        self.left_bytes -= take as u64;
        self.write(&bytes[..take])
    }

    /// Writes the end of the archive and gives the output back.
    pub(crate) fn finish(mut self) -> Result<W> {
        self.end_entry()?;
        self.write(&[0; 2 * BLOCK])?;
        self.output.flush().map_err(io("write archive"))?;
        Ok(self.output)
    }

    /// A file that shrank meanwhile is filled up with zeros, so that the archive stays readable.
    fn end_entry(&mut self) -> Result<()> {
        let zeros = [0u8; 4096];
        while self.left_bytes > 0 {
            let count = zeros
                .len()
                .min(usize::try_from(self.left_bytes).unwrap_or(usize::MAX));
            self.write(&zeros[..count])?;
            self.left_bytes -= count as u64;
        }
        let padding = std::mem::take(&mut self.padding_bytes);
        self.write(&zeros[..padding])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.output.write_all(bytes).map_err(io("write archive"))
    }
}

fn flag_of(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::Char => b'3',
        Kind::Block => b'4',
        Kind::Folder => b'5',
        Kind::Fifo => b'6',
    }
}

/// The header; what does not fit is cut or zero here and complete in the PAX records.
fn ustar(entry: &Entry, flag: u8) -> [u8; BLOCK] {
    let mut header = [0u8; BLOCK];
    let size_bytes = if entry.kind == Kind::File {
        entry.size_bytes
    } else {
        0
    };
    let fit = |value: u64, max: u64| if value > max { 0 } else { value };
    copy_cut(&mut header[..100], &entry.path);
    number::write_octal(&mut header[100..108], u64::from(entry.mode));
    number::write_octal(
        &mut header[108..116],
        fit(u64::from(entry.uid), SEVEN_DIGITS_MAX),
    );
    number::write_octal(
        &mut header[116..124],
        fit(u64::from(entry.gid), SEVEN_DIGITS_MAX),
    );
    number::write_octal(&mut header[124..136], fit(size_bytes, ELEVEN_DIGITS_MAX));
    let mtime_s = u64::try_from(entry.mtime_s).unwrap_or(0);
    number::write_octal(&mut header[136..148], fit(mtime_s, ELEVEN_DIGITS_MAX));
    header[156] = flag;
    copy_cut(&mut header[157..257], &entry.link);
    header[257..265].copy_from_slice(b"ustar\x0000");
    if matches!(entry.kind, Kind::Char | Kind::Block) {
        number::write_octal(&mut header[329..337], u64::from(entry.device.0));
        number::write_octal(&mut header[337..345], u64::from(entry.device.1));
    }
    header[148..156].fill(b' ');
    let sum: u64 = header.iter().map(|b| u64::from(*b)).sum();
    number::write_octal(&mut header[148..155], sum);
    header
}

fn copy_cut(field: &mut [u8], value: &[u8]) {
    let len = value.len().min(field.len());
    field[..len].copy_from_slice(&value[..len]);
}

fn extended(entry: &Entry) -> Vec<u8> {
    let mut records = Vec::new();
    let mut push = |key: &str, value: &[u8]| {
        push_record(&mut records, &[key.as_bytes(), b"=", value].concat())
    };
    if entry.path.len() > 100 {
        push("path", &entry.path);
    }
    if entry.link.len() > 100 {
        push("linkpath", &entry.link);
    }
    if entry.kind == Kind::File && entry.size_bytes > ELEVEN_DIGITS_MAX {
        push("size", entry.size_bytes.to_string().as_bytes());
    }
    if u64::from(entry.uid) > SEVEN_DIGITS_MAX {
        push("uid", entry.uid.to_string().as_bytes());
    }
    if u64::from(entry.gid) > SEVEN_DIGITS_MAX {
        push("gid", entry.gid.to_string().as_bytes());
    }
    if entry.mtime_s < 0 || entry.mtime_s as u64 > ELEVEN_DIGITS_MAX {
        push("mtime", entry.mtime_s.to_string().as_bytes());
    }
    let mut xattrs = entry.xattrs.clone();
    xattrs.sort();
    for (name, value) in &xattrs {
        push_record(
            &mut records,
            &[b"SCHILY.xattr.", name.as_slice(), b"=", value].concat(),
        );
    }
    records
}

/// Adds `LENGTH KEY=VALUE\n`; the length counts its own digits.
pub(super) fn push_record(out: &mut Vec<u8>, key_value: &[u8]) {
    let rest = key_value.len() + 2;
    let mut len = rest + 1;
    while rest + len.to_string().len() > len {
        len = rest + len.to_string().len();
    }
    out.extend_from_slice(len.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key_value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::super::TarReader;
    use super::*;

    fn round_trip(entry: &Entry, data: &[u8]) -> (Entry, Vec<u8>) {
        let mut writer = TarWriter::new(Vec::new());
        writer.begin(entry).unwrap();
        writer.data(data).unwrap();
        let bytes = writer.finish().unwrap();
        assert!(bytes.len().is_multiple_of(BLOCK));
        let mut reader = TarReader::new(bytes.as_slice());
        let read = reader.next_entry().unwrap().unwrap();
        let mut out = vec![0; data.len() + 1];
        let mut filled = 0;
        loop {
            match reader.read_data(&mut out[filled..]).unwrap() {
                0 => break,
                n => filled += n,
            }
        }
        out.truncate(filled);
        assert!(reader.next_entry().unwrap().is_none());
        (read, out)
    }

    #[test]
    fn everything_survives() {
        let mut entry = Entry::new(
            Kind::File,
            [b"long/".repeat(60), b"name \xff".to_vec()].concat(),
        );
        (entry.mode, entry.uid, entry.gid) = (0o4755, u32::MAX - 1, 3_000_000);
        (entry.mtime_s, entry.size_bytes) = (-5, 700);
        entry.xattrs = vec![
            (b"security.capability".to_vec(), vec![0, 1, b'\n', b'=']),
            (b"user.a".to_vec(), vec![]),
        ];
        let data = vec![9; 700];
        assert_eq!(round_trip(&entry, &data), (entry, data));
        let mut device = Entry::new(Kind::Char, b"dev/null".to_vec());
        device.device = (1, 3);
        assert_eq!(round_trip(&device, &[]).0, device);
        let mut link = Entry::new(Kind::Symlink, b"a".to_vec());
        link.link = b"../".repeat(80);
        assert_eq!(round_trip(&link, &[]).0, link);
    }

    #[test]
    fn records_count_their_own_length() {
        for len in [1, 5, 6, 7, 90, 94, 95, 96, 97, 990, 995, 996] {
            let mut out = Vec::new();
            push_record(&mut out, &[b"k=".to_vec(), vec![b'v'; len]].concat());
            let text = String::from_utf8(out.clone()).unwrap();
            assert_eq!(
                text.split(' ').next().unwrap().parse::<usize>().unwrap(),
                out.len()
            );
        }
    }
}
