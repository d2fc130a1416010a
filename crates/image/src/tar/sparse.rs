//! Maps of sparse files: the old GNU form in the header and the PAX forms 0.0, 0.1 and 1.0.

use std::io::Read;

use super::{BLOCK, number};
use crate::error::io;
use crate::{Error, Result};

/// More pieces than this are an attack on memory, not a file.
pub(super) const REGIONS_MAX: usize = 1 << 18;

fn malformed() -> Error {
    Error::Invalid("malformed archive: bad map of a sparse file".to_owned())
}

/// Checks a map: ascending, not overlapping, inside the file, as much data as the archive holds.
pub(super) fn check(map: &[(u64, u64)], size_bytes: u64, stored_bytes: u64) -> Result<()> {
    let mut end = 0u64;
    let mut total = 0u64;
    for (offset, len) in map {
        if *offset < end {
            return Err(malformed());
        }
        end = offset.checked_add(*len).ok_or_else(malformed)?;
        total = total.checked_add(*len).ok_or_else(malformed)?;
    }
    if end > size_bytes || total != stored_bytes {
        Err(malformed())
    } else {
        Ok(())
    }
}

/// Pairs the numbers of the PAX forms 0.0 and 0.1.
pub(super) fn pairs(numbers: &[u64]) -> Result<Vec<(u64, u64)>> {
    if !numbers.len().is_multiple_of(2) {
        return Err(malformed());
    }
    Ok(numbers
        .chunks_exact(2)
        .map(|pair| (pair[0], pair[1]))
        .collect())
}

/// Reads the old GNU form: four pieces in the header, 21 in each block that follows. Returns map and real size.
pub(super) fn read_gnu(
    header: &[u8; BLOCK],
    input: &mut dyn Read,
) -> Result<(Vec<(u64, u64)>, u64)> {
    let real = number::parse(&header[483..495])
        .and_then(|n| u64::try_from(n).ok())
        .ok_or_else(malformed)?;
    let mut map = Vec::new();
    take_gnu(&header[386..482], &mut map)?;
    let mut extended = header[482] != 0;
    while extended {
        let mut block = [0u8; BLOCK];
        input.read_exact(&mut block).map_err(io("read archive"))?;
        take_gnu(&block[..504], &mut map)?;
        extended = block[504] != 0;
        if map.len() > REGIONS_MAX {
            return Err(malformed());
        }
    }
    Ok((map, real))
}

fn take_gnu(table: &[u8], map: &mut Vec<(u64, u64)>) -> Result<()> {
    for pair in table.chunks_exact(24) {
        if pair[0] == 0 && pair[12] == 0 {
            break;
        }
        let field = |bytes| {
            number::parse(bytes)
                .and_then(|n| u64::try_from(n).ok())
                .ok_or_else(malformed)
        };
        map.push((field(&pair[..12])?, field(&pair[12..])?));
    }
    Ok(())
}

/// Reads the map that PAX form 1.0 puts before the data: decimal lines, padded to a block. Returns it and the bytes
/// it took.
pub(super) fn read_pax1(input: &mut dyn Read) -> Result<(Vec<(u64, u64)>, u64)> {
    let mut block = [0u8; BLOCK];
    let mut position = BLOCK;
    let mut taken_bytes = 0u64;
    let mut next = || -> Result<u64> {
        let mut value = 0u64;
        for digits in 0..=20 {
            if position == BLOCK {
                input.read_exact(&mut block).map_err(io("read archive"))?;
                taken_bytes += BLOCK as u64;
                position = 0;
            }
            let byte = block[position];
            position += 1;
            match byte {
                b'\n' if digits > 0 => return Ok(value),
                b'0'..=b'9' => {
                    let digit = u64::from(byte - b'0');
                    value = value
                        .checked_mul(10)
                        .and_then(|v| v.checked_add(digit))
                        .ok_or_else(malformed)?;
                }
                _ => return Err(malformed()),
            }
        }
        Err(malformed())
    };
    let count = next()? as usize;
    if count > REGIONS_MAX {
        return Err(malformed());
    }
    let mut map = Vec::new();
    for _ in 0..count {
        map.push((next()?, next()?));
    }
    Ok((map, taken_bytes))
}
