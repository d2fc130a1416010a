//! Header blocks: counted names and values, compressed with one zlib stream in each direction that starts with the
//! dictionary of the specification (SPDY/3, section 2.6.10).

use std::collections::HashMap;
use std::io;
use std::sync::LazyLock;

use flate2::{Decompress, FlushDecompress};

use super::malformed;

/// The longest block, inflated.
const BLOCK_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: u32 = 100;

/// The dictionary's first part: words, each after its length.
const WORDS: &[&str] = &[
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];
/// The second part.
const REST: &str = concat!(
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 No",
    "n-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403",
    " Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Fe",
    "b Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunke",
    "d,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/",
    "javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.",
);

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = Vec::with_capacity(1_423);
    for word in WORDS {
        bytes.extend_from_slice(&(word.len() as u32).to_be_bytes());
        bytes.extend_from_slice(word.as_bytes());
    }
    bytes.extend_from_slice(REST.as_bytes());
    bytes
});

/// The client's direction.
pub(super) struct Inflater(Decompress);

impl Inflater {
    pub fn new() -> Inflater {
        Inflater(Decompress::new(true))
    }

    /// Names, in lower case, and values of a block.
    ///
    /// # Errors
    /// What is not such a block, or is too long.
    pub fn read(&mut self, block: &[u8]) -> io::Result<HashMap<String, String>> {
        parse(&self.inflate(block)?).ok_or_else(|| malformed("a header block that is cut off"))
    }

    fn inflate(&mut self, mut block: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::with_capacity(BLOCK_BYTES_MAX);
        loop {
            let before = self.0.total_in();
            let step = self
                .0
                .decompress_vec(block, &mut plain, FlushDecompress::Sync);
            let used = (self.0.total_in() - before) as usize;
            block = block.get(used..).unwrap_or_default();
            match step {
                Ok(_) if block.is_empty() => return Ok(plain),
                Ok(_) if plain.len() == plain.capacity() || used == 0 => {
                    return Err(malformed("a header block that is too long"));
                }
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    let set = self.0.set_dictionary(&DICTIONARY);
                    set.map_err(|_| malformed("a header block with another dictionary"))?;
                }
                Err(_) => return Err(malformed("a header block that can't be inflated")),
            }
        }
    }
}

fn parse(mut plain: &[u8]) -> Option<HashMap<String, String>> {
    let count = number(&mut plain)?;
    if count > HEADERS_MAX {
        return None;
    }
    let mut headers = HashMap::new();
    for _ in 0..count {
        let name = text(&mut plain)?;
        headers.insert(name.to_ascii_lowercase(), text(&mut plain)?);
    }
    Some(headers)
}

fn number(plain: &mut &[u8]) -> Option<u32> {
    let (bytes, rest) = plain.split_first_chunk::<4>()?;
    *plain = rest;
    Some(u32::from_be_bytes(*bytes))
}

fn text(plain: &mut &[u8]) -> Option<String> {
    let length = number(plain)? as usize;
    let (bytes, rest) = plain.split_at_checked(length)?;
    *plain = rest;
    String::from_utf8(bytes.to_vec()).ok()
}

/// Our direction, which never has a header to say: blocks without any, stored rather than compressed.
#[derive(Debug, Default)]
pub(super) struct Replies {
    begun: bool,
}

impl Replies {
    /// A count of zero in a stored block, then the empty block that flushes it; the stream's head before the first.
    const FIRST: &'static [u8] = &[
        0x78, 0x01, 0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff,
    ];

    pub fn next(&mut self) -> &'static [u8] {
        match std::mem::replace(&mut self.begun, true) {
            false => Self::FIRST,
            true => &Self::FIRST[2..],
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    /// What a client sends.
    fn block(deflater: &mut Compress, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(plain.len() + 4_096);
        deflater
            .compress_vec(plain, &mut out, FlushCompress::Sync)
            .unwrap();
        out
    }

    fn deflater() -> Compress {
        let mut deflater = Compress::new(Compression::default(), true);
        // The identifier that the specification's dictionary has.
        assert_eq!(deflater.set_dictionary(&DICTIONARY).unwrap(), 0xe3c6_a7c2);
        deflater
    }

    fn plain(headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
            plain.extend_from_slice(text.as_bytes());
        }
        plain
    }

    #[test]
    fn blocks_share_one_stream() {
        let (mut deflater, mut inflater) = (deflater(), Inflater::new());
        for (name, value) in [
            ("streamtype", "stdin"),
            ("Port", "80"),
            ("streamtype", "stdout"),
        ] {
            let block = block(&mut deflater, &plain(&[(name, value)]));
            let read = inflater.read(&block).unwrap();
            assert_eq!(read[&name.to_ascii_lowercase()], value);
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut deflater = deflater();
        let block = block(&mut deflater, &vec![b'a'; 10 << 20]);
        assert!(Inflater::new().read(&block).is_err());
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let mut whole = plain(&[("streamtype", "error")]);
        whole.truncate(whole.len() - 1);
        let block = block(&mut deflater(), &whole);
        assert!(Inflater::new().read(&block).is_err());
        assert!(Inflater::new().read(b"no zlib").is_err());
    }

    #[test]
    fn replies_are_empty_blocks() {
        let (mut replies, mut inflater) = (Replies::default(), Inflater::new());
        for _ in 0..3 {
            assert!(inflater.read(replies.next()).unwrap().is_empty());
        }
    }
}
