//! Archives that ADD unpacks: told by their content, never by their name.

use std::fs::File;
use std::io::{Read, Seek};

use crate::{Error, io};

const HEADER_BYTES: usize = 512;

/// Whether a file is a tar, plain or compressed.
pub(crate) fn is_archive(file: &mut File, name: &str) -> Result<bool, Error> {
    let mut header = [0u8; HEADER_BYTES];
    let count = match wharf_image::decompressed(&mut *file) {
        // What begins like an archive and is none is a file like others.
        Ok(mut stream) => fill(&mut stream, &mut header).unwrap_or(0),
        Err(_) => 0,
    };
    file.rewind().map_err(io(format!("read {name}")))?;
    Ok(count == HEADER_BYTES && is_tar_header(&header))
}

fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match from.read(&mut buffer[count..])? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}

/// The sum of a header's bytes, its own field counted as spaces, stands in it in octal.
fn is_tar_header(header: &[u8; HEADER_BYTES]) -> bool {
    let field = &header[148..156];
    let text: String = field.iter().map(|b| char::from(*b)).collect();
    let stated = u32::from_str_radix(text.trim_matches([' ', '\0']), 8);
    let spaces = 8 * u32::from(b' ');
    let sum = header[..148]
        .iter()
        .chain(&header[156..])
        .map(|b| u32::from(*b))
        .sum::<u32>()
        + spaces;
    stated == Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn check(bytes: &[u8]) -> Result<bool, Error> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        let result = is_archive(&mut file, "x");
        assert_eq!(file.stream_position().unwrap(), 0);
        result
    }

    /// As the system's own program packs it.
    fn packed(program: &str, bytes: &[u8]) -> Vec<u8> {
        use std::process::{Command, Stdio};
        let mut child = Command::new(program)
            .arg("-c")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("apt-get install {program}-utils or {program}: {error}")
            });
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        child.wait_with_output().unwrap().stdout
    }

    #[test]
    fn tells_archives() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_cksum();
        builder.append_data(&mut header, "a", &b"x"[..]).unwrap();
        let tar = builder.into_inner().unwrap();
        let gzip = |bytes: &[u8]| {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        assert!(check(&tar).unwrap());
        assert!(check(&gzip(&tar)).unwrap());
        assert!(check(&zstd::encode_all(&tar[..], 1).unwrap()).unwrap());
        assert!(!check(&gzip(b"just text")).unwrap());
        assert!(!check(&[0x1f, 0x8b, 1, 2]).unwrap());
        assert!(!check(b"").unwrap());
        assert!(!check(&[0; 1024]).unwrap());
        assert!(!check(b"BZh9xx").unwrap());
        assert!(check(&packed("bzip2", &tar)).unwrap());
        assert!(check(&packed("xz", &tar)).unwrap());
    }
}
