//! Writing and reading netlink attributes: length, type, value, padding to four bytes.

/// `NLA_F_NESTED`
const NESTED: u16 = 0x8000;
/// Everything of a type but `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const TYPE_MASK: u16 = 0x3fff;

/// Appends one message's payload to a batch.
pub(crate) struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(bytes: &'a mut Vec<u8>) -> Self {
        Writer { bytes }
    }

    /// The family's fixed header, before any attribute.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    /// Values are short (a rule is some hundred bytes); the length always fits.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.bytes
            .extend_from_slice(&(value.len() as u16 + 4).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value);
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// Network byte order: nftables and conntrack.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// With the terminating zero.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        self.bytes
            .extend_from_slice(&(value.len() as u16 + 5).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    pub(crate) fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Writer<'_>)) {
        self.nest_exact(kind | NESTED, inside);
    }

    /// A nest whose kernel side predates `NLA_F_NESTED` and, in places, still refuses it.
    pub(crate) fn nest_exact(&mut self, kind: u16, inside: impl FnOnce(&mut Writer<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        inside(&mut Writer { bytes: self.bytes });
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

/// Walks over attributes; stops at the first malformed one.
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Attributes<'a> {
    /// The first attribute of this type.
    pub(crate) fn find(bytes: &'a [u8], kind: u16) -> Option<&'a [u8]> {
        Attributes(bytes).find_map(|(k, value)| (k == kind).then_some(value))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(self.0.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// Text up to the first zero.
pub(crate) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes);
        writer.text(3, "eth0");
        writer.u32(4, 1500);
        writer.nest(18, |w| w.bytes(1, b"veth"));
        assert!(bytes.len().is_multiple_of(4));
        assert_eq!(
            Attributes::find(&bytes, 3).map(text).as_deref(),
            Some("eth0")
        );
        assert_eq!(
            Attributes::find(&bytes, 4),
            Some(1500u32.to_ne_bytes().as_slice())
        );
        let nest = Attributes::find(&bytes, 18).unwrap();
        assert_eq!(Attributes::find(nest, 1), Some(b"veth".as_slice()));
    }

    #[test]
    fn a_length_that_lies_ends_the_walk() {
        assert_eq!(Attributes(&[200, 0, 1, 0, 1]).count(), 0);
        assert_eq!(Attributes(&[2, 0, 1, 0]).count(), 0);
        assert_eq!(Attributes(&[]).count(), 0);
    }
}
