//! The program's own image in memory.

use std::fs;

/// Lets go of the pages of the program's code and constants; those needed come back from its file by themselves.
///
/// For a process that waits for most of its life: what it ran once, at its start, costs nothing from then on. Pages
/// that were ever written to (relocations made read-only) have no file to come back from and stay.
pub fn forget() -> std::io::Result<()> {
    for range in unwritten(&fs::read_to_string("/proc/self/smaps")?) {
        let start = std::ptr::without_provenance_mut::<libc::c_void>(range.start);
        // SAFETY: the range is a mapping of this program's file that cannot be written to and that holds no private
        // copy of a page, so that each dropped page reads the same when it is mapped again from the file. The file is
        // never changed while it runs (ETXTBSY, or a sealed memfd).
        unsafe { libc::madvise(start, range.end - range.start, libc::MADV_DONTNEED) };
    }
    Ok(())
}

/// Mappings of the first file listed (the program) without write permission and without private copies.
fn unwritten(smaps: &str) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut current = None;
    let mut program = None;
    for line in smaps.lines() {
        if let Some((range, rest)) = header(line) {
            let mut fields = rest.split_ascii_whitespace();
            let permissions = fields.next().unwrap_or_default();
            let inode = fields.nth(2).unwrap_or("0");
            let first = *program.get_or_insert(inode);
            let fits = inode != "0" && inode == first && !permissions.contains('w');
            current = fits.then_some(range);
        } else if let Some(amount) = line.strip_prefix("Anonymous:")
            && let Some(range) = current.take()
            && amount.trim() == "0 kB"
        {
            found.push(range);
        }
    }
    found
}

/// `start-end rest`, where it is the first line of a mapping.
fn header(line: &str) -> Option<(std::ops::Range<usize>, &str)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    Some((start..usize::from_str_radix(end, 16).ok()?, rest))
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_unwritten_pages_of_the_program_are_found() {
        let smaps = "\
00200000-002e3000 r--p 00000000 00:01 42 /memfd:wharf-shim (deleted)
Anonymous:             0 kB
002e3000-004f0000 r-xp 000e3000 00:01 42 /memfd:wharf-shim (deleted)
Anonymous:             0 kB
004f6000-004fb000 r--p 002f6000 00:01 42 /memfd:wharf-shim (deleted)
Anonymous:            20 kB
004fb000-004fd000 rw-p 002fb000 00:01 42 /memfd:wharf-shim (deleted)
Anonymous:             8 kB
7f0000000000-7f0000001000 r--p 00000000 00:02 7 /usr/share/other
Anonymous:             0 kB
7fff00000000-7fff00002000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
";
        assert_eq!(
            super::unwritten(smaps),
            [0x200000..0x2e3000, 0x2e3000..0x4f0000]
        );
    }

    #[test]
    fn the_program_goes_on_without_its_pages() {
        super::forget().unwrap();
        assert_eq!(format!("{:?}", [1, 2]), "[1, 2]");
    }
}
