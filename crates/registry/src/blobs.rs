//! Reading and deleting blobs.

use std::io::{Seek, SeekFrom};
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;
use wharf_blob::Digest;

use crate::Registry;
use crate::error::{Outcome, Refusal};
use crate::request::{empty, header_value, with_body};

const READ_BYTES: usize = 128 * 1024;

/// `GET` and `HEAD …/blobs/DIGEST`, whole or one range of it.
pub async fn get(
    registry: Arc<Registry>,
    name: String,
    digest: Digest,
    headers: HeaderMap,
    head: bool,
) -> Outcome {
    if !registry.storage.has_blob(&name, &digest) {
        return Err(Refusal::blob_unknown(digest.as_str()));
    }
    let mut file = registry.storage.blobs.reader(&digest)?;
    let size_bytes = file.metadata()?.len();
    let range = headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    let (status, start, length) = match range.map(|range| parse_range(range, size_bytes)) {
        None | Some(Wanted::Whole) => (StatusCode::OK, 0, size_bytes),
        Some(Wanted::Part { start, length }) => (StatusCode::PARTIAL_CONTENT, start, length),
        Some(Wanted::Nothing) => {
            let mut refusal = Refusal::range_invalid(format!("the blob has {size_bytes} bytes"));
            refusal
                .headers
                .push((header::CONTENT_RANGE, format!("bytes */{size_bytes}")));
            return Err(refusal);
        }
    };
    let mut facts = vec![
        (header::CONTENT_LENGTH, length.to_string()),
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::ETAG, format!("\"{digest}\"")),
        (header::CACHE_CONTROL, "max-age=31536000".to_owned()),
    ];
    if status == StatusCode::PARTIAL_CONTENT {
        facts.push((
            header::CONTENT_RANGE,
            format!("bytes {start}-{}/{size_bytes}", start + length - 1),
        ));
    }
    let body = if head {
        Body::empty()
    } else {
        file.seek(SeekFrom::Start(start))?;
        let reader = tokio::fs::File::from_std(file).take(length);
        Body::from_stream(ReaderStream::with_capacity(reader, READ_BYTES))
    };
    let mut response = with_body(status, &facts, body)?;
    response
        .headers_mut()
        .insert("docker-content-digest", header_value(digest.as_str())?);
    Ok(response)
}

/// `DELETE …/blobs/DIGEST`: takes it from the repository; the bytes go when no repository has them.
pub fn delete(registry: &Registry, name: &str, digest: &Digest) -> Outcome {
    if registry.storage.unlink_blob(name, digest)? {
        empty(
            StatusCode::ACCEPTED,
            &[(header::CONTENT_LENGTH, "0".to_owned())],
        )
    } else {
        Err(Refusal::blob_unknown(digest.as_str()))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Whole,
    Part { start: u64, length: u64 },
    Nothing,
}

/// One range of RFC 9110, section 14; several at once get the whole, as it allows.
fn parse_range(range: &str, size_bytes: u64) -> Wanted {
    let Some(spec) = range.strip_prefix("bytes=") else {
        return Wanted::Whole;
    };
    let Some((first, last)) = spec.split_once('-') else {
        return Wanted::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    if spec.contains(',') {
        return Wanted::Whole;
    }
    let (start, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(start), Ok(end)) if end < start => return Wanted::Whole,
        (Ok(start), Ok(end)) => (start, end.min(size_bytes.saturating_sub(1))),
        (Ok(start), Err(_)) if last.is_empty() => (start, size_bytes.saturating_sub(1)),
        (Err(_), Ok(suffix)) if first.is_empty() && suffix > 0 => (
            size_bytes.saturating_sub(suffix),
            size_bytes.saturating_sub(1),
        ),
        (Err(_), Ok(_)) if first.is_empty() => return Wanted::Nothing,
        _ => return Wanted::Whole,
    };
    if start >= size_bytes {
        Wanted::Nothing
    } else {
        Wanted::Part {
            start,
            length: end - start + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(
            parse_range("bytes=0-9", 100),
            Wanted::Part {
                start: 0,
                length: 10
            }
        );
        assert_eq!(
            parse_range("bytes=90-", 100),
            Wanted::Part {
                start: 90,
                length: 10
            }
        );
        assert_eq!(
            parse_range("bytes=-10", 100),
            Wanted::Part {
                start: 90,
                length: 10
            }
        );
        assert_eq!(
            parse_range("bytes=50-999", 100),
            Wanted::Part {
                start: 50,
                length: 50
            }
        );
        assert_eq!(parse_range("bytes=100-", 100), Wanted::Nothing);
        assert_eq!(parse_range("bytes=0-", 0), Wanted::Nothing);
        assert_eq!(parse_range("bytes=-0", 100), Wanted::Nothing);
        assert_eq!(parse_range("bytes=9-1", 100), Wanted::Whole);
        assert_eq!(parse_range("bytes=0-1,5-6", 100), Wanted::Whole);
        assert_eq!(parse_range("lines=1-2", 100), Wanted::Whole);
    }
}
