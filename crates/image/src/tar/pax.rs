//! PAX extended headers (POSIX pax interchange format): records `LENGTH KEY=VALUE\n`.

use super::sparse;
use crate::{Error, Result};

/// What the records of one entry say. Later records win over earlier ones.
#[derive(Debug, Clone, Default)]
pub(super) struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse_major: Option<u64>,
    pub sparse_size: Option<u64>,
    pub sparse_name: Option<Vec<u8>>,
    pub sparse_numbers: Vec<u64>,
    pub sparse_map: bool,
}

const XATTR: &[u8] = b"SCHILY.xattr.";

impl Pax {
    /// Takes the records of one extended header in.
    pub(super) fn take(&mut self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let (record, rest) = split_record(data).ok_or_else(|| malformed("record"))?;
            data = rest;
            let equals = record
                .iter()
                .position(|b| *b == b'=')
                .ok_or_else(|| malformed("record"))?;
            self.take_record(&record[..equals], &record[equals + 1..])?;
        }
        Ok(())
    }

    fn take_record(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number(value, "size")?),
            b"uid" => self.uid = Some(id(value, "uid")?),
            b"gid" => self.gid = Some(id(value, "gid")?),
            b"mtime" => self.mtime = Some(time(value).ok_or_else(|| malformed("mtime"))?),
            b"GNU.sparse.major" => self.sparse_major = Some(number(value, "sparse version")?),
            b"GNU.sparse.name" => self.sparse_name = Some(value.to_vec()),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                self.sparse_size = Some(number(value, "sparse size")?)
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                self.sparse_map = true;
                self.push_sparse(number(value, "sparse map")?)?;
            }
            b"GNU.sparse.map" => {
                self.sparse_map = true;
                for part in value.split(|b| *b == b',').filter(|part| !part.is_empty()) {
                    self.push_sparse(number(part, "sparse map")?)?;
                }
            }
            _ if key.starts_with(XATTR) => self
                .xattrs
                .push((key[XATTR.len()..].to_vec(), value.to_vec())),
            _ => {}
        }
        Ok(())
    }

    fn push_sparse(&mut self, value: u64) -> Result<()> {
        if self.sparse_numbers.len() >= 2 * sparse::REGIONS_MAX {
            return Err(malformed("sparse map"));
        }
        self.sparse_numbers.push(value);
        Ok(())
    }
}

/// The length counts itself, the space and the line's end.
fn split_record(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = data.iter().take(20).position(|b| *b == b' ')?;
    let len: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
    if len <= space + 2 || len > data.len() || data[len - 1] != b'\n' {
        return None;
    }
    Some((&data[space + 1..len - 1], &data[len..]))
}

fn malformed(what: &str) -> Error {
    Error::Invalid(format!(
        "malformed archive: bad {what} in an extended header"
    ))
}

fn number(value: &[u8], what: &str) -> Result<u64> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| malformed(what))
}

fn id(value: &[u8], what: &str) -> Result<u32> {
    u32::try_from(number(value, what)?).map_err(|_| malformed(what))
}

/// Seconds with a fraction, the sign before both.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction
        .chars()
        .chain(std::iter::repeat('0'))
        .take(9)
        .collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    if whole.starts_with('-') && nanoseconds > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_records() {
        let mut pax = Pax::default();
        pax.take(
            b"11 path=ab\n21 mtime=1700000000.5\n"
                .replace_len()
                .as_slice(),
        )
        .unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"ab"[..]));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"7"), Some((7, 0)));
        for bad in [
            &b"5 a=b"[..],
            b"99 a=b\n",
            b"x a=b\n",
            b"4 ab\n",
            b"2 \n",
            b"18446744073709551616 a=b\n",
            b"7 uid=-\n",
            b"8 uid=-1\n",
        ] {
            assert!(
                Pax::default().take(bad).is_err(),
                "{:?}",
                String::from_utf8_lossy(bad)
            );
        }
    }

    trait ReplaceLen {
        fn replace_len(&self) -> Vec<u8>;
    }
    impl ReplaceLen for [u8] {
        /// Puts the right lengths in front of hand-written records.
        fn replace_len(&self) -> Vec<u8> {
            let mut out = Vec::new();
            for line in self.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                let space = line.iter().position(|b| *b == b' ').unwrap();
                super::super::write::push_record(&mut out, &line[space + 1..]);
            }
            out
        }
    }
}
