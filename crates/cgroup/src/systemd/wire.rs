//! The D-Bus wire format, as much of it as a client of systemd needs (D-Bus specification, "Message Format").

/// A message longer than this is no answer of systemd's.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Fixed part of a header, with the length of the fields.
pub const PREFIX_BYTES: usize = 16;

const LITTLE_ENDIAN: u8 = b'l';
const PROTOCOL: u8 = 1;

/// Kinds of messages.
pub const CALL: u8 = 1;
pub const RETURN: u8 = 2;
pub const ERROR: u8 = 3;
pub const SIGNAL: u8 = 4;

/// Header fields by number.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// What a property can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `s`
    Text(String),
    /// `b`
    Flag(bool),
    /// `i`
    Signed(i32),
    /// `u`
    Number(u32),
    /// `x`
    SignedLong(i64),
    /// `t`
    Long(u64),
    /// `ay`
    Bytes(Vec<u8>),
    /// `au`
    Numbers(Vec<u32>),
    /// `as`
    Texts(Vec<String>),
    /// `a(ss)`
    Pairs(Vec<(String, String)>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Value::Text(_) => "s",
            Value::Flag(_) => "b",
            Value::Signed(_) => "i",
            Value::Number(_) => "u",
            Value::SignedLong(_) => "x",
            Value::Long(_) => "t",
            Value::Bytes(_) => "ay",
            Value::Numbers(_) => "au",
            Value::Texts(_) => "as",
            Value::Pairs(_) => "a(ss)",
        }
    }
}

/// Puts values behind each other, each aligned as its type wants.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub fn byte(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub fn number(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_le_bytes());
    }

    fn long(&mut self, value: u64) {
        self.align(8);
        self.bytes.extend(value.to_le_bytes());
    }

    pub fn text(&mut self, value: &str) {
        self.number(value.len() as u32);
        self.bytes.extend(value.bytes());
        self.byte(0);
    }

    fn signature(&mut self, value: &str) {
        self.byte(value.len() as u8);
        self.bytes.extend(value.bytes());
        self.byte(0);
    }

    /// An array whose items begin at a multiple of `align`: that padding is not part of its length.
    pub fn array(&mut self, align: usize, items: impl FnOnce(&mut Writer)) {
        self.number(0);
        let length_at = self.bytes.len() - 4;
        self.align(align);
        let start = self.bytes.len();
        items(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    pub fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Text(text) => self.text(text),
            Value::Flag(flag) => self.number(u32::from(*flag)),
            Value::Signed(number) => self.number(number.cast_unsigned()),
            Value::Number(number) => self.number(*number),
            Value::SignedLong(number) => self.long(number.cast_unsigned()),
            Value::Long(number) => self.long(*number),
            Value::Bytes(bytes) => self.array(1, |w| w.bytes.extend(bytes)),
            Value::Numbers(list) => self.array(4, |w| list.iter().for_each(|n| w.number(*n))),
            Value::Texts(list) => self.array(4, |w| list.iter().for_each(|t| w.text(t))),
            Value::Pairs(list) => self.array(8, |w| {
                for (first, second) in list {
                    w.align(8);
                    w.text(first);
                    w.text(second);
                }
            }),
        }
    }

    /// `a(sv)`
    pub fn properties(&mut self, list: &[(String, Value)]) {
        self.array(8, |w| {
            for (name, value) in list {
                w.align(8);
                w.text(name);
                w.variant(value);
            }
        });
    }

    fn field(&mut self, number: u8, kind: &str, text: &str) {
        self.align(8);
        self.byte(number);
        self.signature(kind);
        match kind {
            "g" => self.signature(text),
            _ => self.text(text),
        }
    }
}

/// A call of a method.
#[derive(Debug)]
pub struct Call<'a> {
    /// `None` where there is no bus, and only one to talk to.
    pub destination: Option<&'a str>,
    pub path: &'a str,
    pub interface: &'a str,
    pub member: &'a str,
    /// Types of the arguments.
    pub signature: &'a str,
    pub body: Writer,
}

impl Call<'_> {
    /// The message as it is sent.
    pub fn encode(&self, serial: u32) -> Vec<u8> {
        let mut writer = Writer::default();
        for byte in [LITTLE_ENDIAN, CALL, 0, PROTOCOL] {
            writer.byte(byte);
        }
        writer.number(self.body.bytes.len() as u32);
        writer.number(serial);
        writer.array(8, |w| {
            w.field(PATH, "o", self.path);
            w.field(INTERFACE, "s", self.interface);
            w.field(MEMBER, "s", self.member);
            if let Some(destination) = self.destination {
                w.field(DESTINATION, "s", destination);
            }
            if !self.signature.is_empty() {
                w.field(SIGNATURE, "g", self.signature);
            }
        });
        writer.align(8);
        writer.bytes.extend(&self.body.bytes);
        writer.bytes
    }
}

/// A message that came in.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub kind: u8,
    pub reply_serial: u32,
    pub member: String,
    pub error_name: String,
    /// The texts and paths of the body up to the first value of another type, numbers left out.
    pub texts: Vec<String>,
}

/// Bytes that follow the prefix; `None`: this is no message.
pub fn rest_length(prefix: &[u8; PREFIX_BYTES]) -> Option<usize> {
    if prefix[0] != LITTLE_ENDIAN || prefix[3] != PROTOCOL {
        return None;
    }
    let word = |at: usize| {
        let bytes = [prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]];
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let (body, fields) = (word(4)?, word(12)?);
    let whole = fields.checked_next_multiple_of(8)?.checked_add(body)?;
    (whole <= MESSAGE_BYTES_MAX).then_some(whole)
}

/// Reads a message; `None`: it breaks the format.
pub fn decode(bytes: &[u8]) -> Option<Message> {
    let mut reader = Reader { bytes, at: 12 };
    let mut message = Message {
        kind: *bytes.get(1)?,
        ..Message::default()
    };
    let end = reader.number()? as usize;
    let end = end.checked_add(reader.at)?;
    let mut signature = String::new();
    while reader.at < end {
        reader.align(8);
        let number = reader.byte()?;
        let kind = reader.signature()?;
        match (number, kind.as_str()) {
            (REPLY_SERIAL, "u") => message.reply_serial = reader.number()?,
            (MEMBER, "s") => message.member = reader.text()?,
            (ERROR_NAME, "s") => message.error_name = reader.text()?,
            (SIGNATURE, "g") => signature = reader.signature()?,
            (_, "s" | "o") => drop(reader.text()?),
            (_, "u") => drop(reader.number()?),
            (_, "g") => drop(reader.signature()?),
            _ => return None,
        }
    }
    reader.align(8);
    for kind in signature.chars() {
        match kind {
            's' | 'o' => message.texts.push(reader.text()?),
            'u' | 'i' | 'b' => drop(reader.number()?),
            'v' if reader.signature()? == "s" => message.texts.push(reader.text()?),
            _ => break,
        }
    }
    Some(message)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn number(&mut self) -> Option<u32> {
        self.align(4);
        let bytes = self.take(4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        self.terminated(length)
    }

    fn signature(&mut self) -> Option<String> {
        let length = self.byte()? as usize;
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Option<String> {
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, signature: &str, body: Writer) -> Vec<u8> {
        let call = Call {
            destination: Some("org.example"),
            path: "/org/example",
            interface: "org.example.Thing",
            member: "Happened",
            signature,
            body,
        };
        let mut bytes = call.encode(7);
        bytes[1] = kind;
        bytes
    }

    #[test]
    fn what_is_written_can_be_read() {
        let mut body = Writer::default();
        body.number(5);
        body.text("/job/5");
        body.text("done");
        let bytes = message(SIGNAL, "uos", body);
        let prefix = bytes[..PREFIX_BYTES].try_into().unwrap();
        assert_eq!(rest_length(prefix), Some(bytes.len() - PREFIX_BYTES));
        let read = decode(&bytes).unwrap();
        assert_eq!((read.kind, read.member.as_str()), (SIGNAL, "Happened"));
        assert_eq!(read.texts, ["/job/5", "done"]);
    }

    /// Bytes as the specification's rules of alignment give them.
    #[test]
    fn properties_are_aligned() {
        let mut writer = Writer::default();
        writer.properties(&[
            ("A".into(), Value::Long(1)),
            ("B".into(), Value::Flag(true)),
        ]);
        let expected: &[u8] = &[
            34 + 6,
            0,
            0,
            0,
            0,
            0,
            0,
            0, // length, padding
            1,
            0,
            0,
            0,
            b'A',
            0,
            1,
            b't',
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0, // name, type, padding
            1,
            0,
            0,
            0,
            0,
            0,
            0,
            0, // value
            1,
            0,
            0,
            0,
            b'B',
            0,
            1,
            b'b',
            0,
            0,
            0,
            0,
            1,
            0,
            0,
            0,
        ];
        assert_eq!(writer.bytes, expected);
    }

    /// Whatever arrives: an answer or a refusal, never a panic or endless memory.
    #[test]
    fn broken_messages_are_refused() {
        let mut body = Writer::default();
        body.text("text");
        let whole = message(RETURN, "s", body);
        for end in 0..whole.len() {
            let _ = decode(&whole[..end]);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = decode(&bytes);
                if let Some(prefix) = bytes.first_chunk() {
                    assert!(rest_length(prefix).is_none_or(|length| length <= MESSAGE_BYTES_MAX));
                }
            }
        }
    }
}
