//! Deciding about a question: answer it, follow an alias, forward it, or say what is wrong with it. Pure: bytes in,
//! bytes out.
//!
//! A name that is ours has only the records that the zones say, and that is said (an empty answer, with the zone's
//! authority where it has one) instead of asked elsewhere: upstream would deny the name itself. Everything else goes
//! upstream, names without a dot included, as with Docker.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::cache::CacheKey;
use crate::{Authority, Data, Entry, Found, Kind, Zones};

/// Length of a DNS header.
pub(crate) const HEADER_BYTES: usize = 12;
/// Largest datagram sent or received: what is announced by EDNS, and what fits every resolver's buffer.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 4096;
/// Largest datagram for who announces nothing (RFC 1035, section 2.3.4).
const DATAGRAM_BYTES_PLAIN: usize = 512;

/// What a question came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Datagram,
    Stream,
}

/// What to do with a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Send these bytes back.
    Answer(Vec<u8>),
    /// Ask upstream.
    Forward(Forward),
    /// The name is another's alias: the answer so far, to be completed by that of the other.
    Follow(Box<Alias>),
    /// Say nothing: it is no question, or too broken to have an ID.
    Ignore,
}

/// A question for somebody else.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    /// Longest answer, in bytes. A longer one must be cut.
    pub(crate) limit: usize,
    /// Lower case, no trailing dot.
    pub(crate) name: String,
    /// Under which an answer may be remembered.
    pub(crate) key: CacheKey,
}

/// An answer that lacks what its alias stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Alias {
    reply: Message,
    limit: usize,
    target: Name,
}

impl Alias {
    /// What the client would have to ask next.
    pub(crate) fn question(&self) -> Option<Vec<u8>> {
        let kind = self.reply.queries.first()?.query_type();
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(self.target.clone(), kind));
        message.to_vec().ok()
    }

    /// The whole answer, of the answer to that; as it is where that is none.
    pub(crate) fn complete(self, answer: Option<&[u8]>) -> Option<Vec<u8>> {
        let mut reply = self.reply;
        if let Some(Ok(answer)) = answer.map(Message::from_vec) {
            reply.add_answers(answer.answers);
            reply.add_authorities(answer.authorities);
            reply.metadata.response_code = answer.metadata.response_code;
        }
        match encode(reply, self.limit) {
            Decision::Answer(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// Decides. `turn` counts questions: several addresses of a name take turns in being first.
pub(crate) fn decide(
    question: &[u8],
    zones: &dyn Zones,
    turn: usize,
    transport: Transport,
) -> Decision {
    let Some(header) = question.get(..HEADER_BYTES) else {
        return Decision::Ignore;
    };
    let is_response = header[2] & 0x80 != 0;
    if is_response {
        return Decision::Ignore;
    }
    let Ok(message) = Message::from_vec(question) else {
        return Decision::Answer(failure(question, ResponseCode::FormErr));
    };
    let limit = limit(&message, transport);
    if message.metadata.op_code != OpCode::Query {
        return Decision::Answer(failure(question, ResponseCode::NotImp));
    }
    let [query] = message.queries.as_slice() else {
        return Decision::Answer(failure(question, ResponseCode::FormErr));
    };
    if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return encode(reply(&message, ResponseCode::BADVERS), limit);
    }
    let name = query.name().to_ascii().to_ascii_lowercase();
    let name = name.trim_end_matches('.');
    let found = match query.query_class() {
        DNSClass::IN => zones.find(name, kind(query.query_type())),
        _ => Found::Elsewhere,
    };
    match found {
        Found::Elsewhere => Decision::Forward(Forward {
            limit,
            name: name.to_owned(),
            key: CacheKey::of(&message, name),
        }),
        Found::Nothing { exists, authority } => {
            let reply = nothing(&message, query, name, exists, authority);
            encode(reply, limit)
        }
        Found::Entries {
            answers,
            additional,
        } => entries(&message, query, (answers, additional), turn, limit),
    }
}

fn kind(of: RecordType) -> Kind {
    match of {
        RecordType::A => Kind::A,
        RecordType::AAAA => Kind::Aaaa,
        RecordType::CNAME => Kind::Cname,
        RecordType::PTR => Kind::Ptr,
        RecordType::SRV => Kind::Srv,
        RecordType::TXT => Kind::Txt,
        RecordType::NS => Kind::Ns,
        RecordType::ANY => Kind::Any,
        _ => Kind::Other,
    }
}

/// An answer that the name, or what was asked of it, is not there.
fn nothing(
    message: &Message,
    query: &Query,
    name: &str,
    exists: bool,
    authority: Option<Authority>,
) -> Message {
    let code = match exists {
        true => ResponseCode::NoError,
        false => ResponseCode::NXDomain,
    };
    let mut reply = reply(message, code);
    let Some(authority) = authority else {
        return reply;
    };
    reply.metadata.authoritative = true;
    let is_apex = name == authority.zone;
    if let Some(record) = start_of_authority(&authority) {
        let asked = matches!(query.query_type(), RecordType::SOA | RecordType::ANY);
        match is_apex && asked {
            true => reply.add_answer(record),
            false => reply.add_authority(record),
        };
    }
    reply
}

/// RFC 1035, section 3.3.13.
fn start_of_authority(authority: &Authority) -> Option<Record> {
    let named = |prefix: &str| fully(&format!("{prefix}{}", authority.zone));
    let ttl = authority.negative_ttl_s;
    let data = SOA::new(
        named("ns.dns.")?,
        named("hostmaster.")?,
        authority.serial,
        7200,
        1800,
        86400,
        ttl,
    );
    Some(Record::from_rdata(named("")?, ttl, RData::SOA(data)))
}

fn entries(
    message: &Message,
    query: &Query,
    (mut answers, additional): (Vec<Entry>, Vec<Entry>),
    turn: usize,
    limit: usize,
) -> Decision {
    let mut reply = reply(message, ResponseCode::NoError);
    reply.metadata.authoritative = answers.iter().all(|entry| entry.is_authoritative);
    if !answers.is_empty() {
        let first = turn % answers.len();
        answers.rotate_left(first);
    }
    let alias = match answers.as_slice() {
        [entry] => match &entry.data {
            Data::Alias(target) if query.query_type() != RecordType::CNAME => fully(target),
            _ => None,
        },
        _ => None,
    };
    reply.add_answers(answers.iter().filter_map(|entry| record(query, entry)));
    reply.add_additionals(additional.iter().filter_map(|entry| record(query, entry)));
    match alias {
        Some(target) => Decision::Follow(Box::new(Alias {
            reply,
            limit,
            target,
        })),
        None => encode(reply, limit),
    }
}

fn fully(name: &str) -> Option<Name> {
    let mut name = Name::from_str_relaxed(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// `None` where a name in it is none.
fn record(query: &Query, entry: &Entry) -> Option<Record> {
    let name = match &entry.name {
        Some(name) => fully(name)?,
        None => query.name().clone(),
    };
    let data = match &entry.data {
        Data::Address(IpAddr::V4(v4)) => RData::A(A(*v4)),
        Data::Address(IpAddr::V6(v6)) => RData::AAAA(AAAA(*v6)),
        Data::Alias(target) => RData::CNAME(CNAME(fully(target)?)),
        Data::Pointer(target) => RData::PTR(PTR(fully(target)?)),
        Data::NameServer(target) => RData::NS(NS(fully(target)?)),
        Data::Text(text) => RData::TXT(TXT::new(vec![text.clone()])),
        Data::Service {
            priority,
            weight,
            port,
            target,
        } => RData::SRV(SRV::new(*priority, *weight, *port, fully(target)?)),
    };
    Some(Record::from_rdata(name, entry.ttl_s, data))
}

fn limit(message: &Message, transport: Transport) -> usize {
    match transport {
        Transport::Stream => usize::from(u16::MAX),
        Transport::Datagram => {
            let announced = message
                .edns
                .as_ref()
                .map_or(0, |edns| usize::from(edns.max_payload()));
            announced.clamp(DATAGRAM_BYTES_PLAIN, DATAGRAM_BYTES_MAX)
        }
    }
}

fn reply(message: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::response(message.metadata.id, OpCode::Query);
    reply.metadata = Metadata::response_from_request(&message.metadata);
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = code;
    reply.add_queries(message.queries.iter().cloned());
    if message.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(DATAGRAM_BYTES_MAX as u16);
        reply.set_edns(edns);
    }
    reply
}

/// Leaves out answers until it fits, and says so in the header.
pub(crate) fn encode(mut reply: Message, limit: usize) -> Decision {
    debug_assert_eq!(reply.metadata.message_type, MessageType::Response);
    loop {
        match reply.to_vec() {
            Ok(bytes) if bytes.len() <= limit => return Decision::Answer(bytes),
            // What nobody asked for goes first.
            _ if !reply.additionals.is_empty() => reply.additionals.clear(),
            // Too long for the limit, or for any message.
            _ if !reply.answers.is_empty() => {
                reply.metadata.truncation = true;
                let half = reply.answers.len() / 2;
                reply.answers.truncate(half);
            }
            _ => return Decision::Ignore,
        }
    }
}

/// An answer without content to a question that may be unreadable beyond its header: same ID, nothing else.
pub(crate) fn failure(question: &[u8], code: ResponseCode) -> Vec<u8> {
    const RESPONSE: u8 = 0x80;
    const KEPT: u8 = 0x79; // operation and "recursion desired"
    const RECURSION_AVAILABLE: u8 = 0x80;
    let mut bytes = vec![0; HEADER_BYTES];
    let known = question.len().min(3);
    bytes[..known].copy_from_slice(&question[..known]);
    bytes[2] = RESPONSE | (bytes[2] & KEPT);
    bytes[3] = RECURSION_AVAILABLE | code.low();
    // The question is repeated where it can be told apart from what follows.
    if let Some(end) = question_end(question) {
        bytes[5] = 1;
        bytes.extend_from_slice(&question[HEADER_BYTES..end]);
    }
    bytes
}

/// The same with "truncated" set: the client asks again over a stream.
pub(crate) fn truncated(question: &[u8]) -> Vec<u8> {
    const TRUNCATED: u8 = 0x02;
    let mut bytes = failure(question, ResponseCode::NoError);
    bytes[2] |= TRUNCATED;
    bytes
}

/// Where the first and only question ends: labels, a zero, type and class. `None` where it is compressed,
/// malformed or not the only one.
pub(crate) fn question_end(message: &[u8]) -> Option<usize> {
    const LABEL_BYTES_MAX: u8 = 63;
    const NAME_BYTES_MAX: usize = 255;
    if message.get(4..6)? != [0, 1] {
        return None;
    }
    let mut at = HEADER_BYTES;
    loop {
        match *message.get(at)? {
            0 => break,
            length if length <= LABEL_BYTES_MAX => at += usize::from(length) + 1,
            _ => return None,
        }
        if at - HEADER_BYTES >= NAME_BYTES_MAX {
            return None;
        }
    }
    let end = at + 5;
    (end <= message.len()).then_some(end)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::Records;
    use crate::plain::Plain;

    struct Book;

    fn zones() -> Plain {
        Plain::new(std::sync::Arc::new(Book), Vec::new())
    }

    impl Records for Book {
        fn lookup(&self, name: &str) -> Option<Vec<IpAddr>> {
            match name {
                "db" => Some(vec![IpAddr::from([172, 18, 0, 2])]),
                "web.example" => Some((1..=3).map(|n| IpAddr::from([10, 0, 0, n])).collect()),
                "six" => Some(vec![
                    IpAddr::V6(Ipv6Addr::LOCALHOST),
                    IpAddr::V4(Ipv4Addr::LOCALHOST),
                ]),
                "many" => Some((0..200).map(|n| IpAddr::from([10, 1, 0, n])).collect()),
                "countless" => Some(
                    (0..60000u32)
                        .map(|n| IpAddr::V4(Ipv4Addr::from_bits(n)))
                        .collect(),
                ),
                _ => None,
            }
        }
        fn reverse(&self, address: IpAddr) -> Option<String> {
            (address == IpAddr::from([172, 18, 0, 2])).then(|| "db.net_1".to_owned())
        }
    }

    fn question(name: &str, kind: RecordType) -> Message {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message.metadata.recursion_desired = true;
        message
    }

    fn asked(message: &Message, turn: usize, transport: Transport) -> Option<Message> {
        match decide(&message.to_vec().unwrap(), &zones(), turn, transport) {
            Decision::Answer(bytes) => Some(Message::from_vec(&bytes).unwrap()),
            Decision::Forward(_) => None,
            Decision::Ignore | Decision::Follow(_) => panic!("not answered"),
        }
    }

    /// `name kind` to the code and the data of the answer, `forwarded` where it is not ours.
    fn check(name: &str, kind: RecordType, expected: &str) {
        let message = question(name, kind);
        let Some(reply) = asked(&message, 0, Transport::Datagram) else {
            assert_eq!(expected, "forwarded", "{name} {kind}");
            return;
        };
        assert_eq!(reply.metadata.id, message.metadata.id);
        let (asked, repeated) = (message.queries[0].name(), reply.queries[0].name());
        assert!(repeated.eq_ignore_root(asked));
        assert_eq!(
            repeated.to_ascii().trim_end_matches('.'),
            name.trim_end_matches('.'),
            "its case is kept"
        );
        assert!(reply.metadata.recursion_available && reply.metadata.recursion_desired);
        assert!(reply.answers.iter().all(|record| record.ttl == 600));
        let data: Vec<String> = reply
            .answers
            .iter()
            .map(|record| record.data.to_string())
            .collect();
        assert_eq!(
            format!("{:?} {}", reply.metadata.response_code, data.join(",")),
            expected,
            "{name} {kind}"
        );
    }

    #[test]
    fn what_is_ours_is_answered_and_the_rest_forwarded() {
        check("db", RecordType::A, "NoError 172.18.0.2");
        check("DB.", RecordType::A, "NoError 172.18.0.2");
        check("db", RecordType::AAAA, "NoError ");
        check("db", RecordType::MX, "NoError ");
        check("six", RecordType::AAAA, "NoError ::1");
        check("six", RecordType::A, "NoError 127.0.0.1");
        check(
            "web.example",
            RecordType::A,
            "NoError 10.0.0.1,10.0.0.2,10.0.0.3",
        );
        check("nobody", RecordType::A, "forwarded");
        check("example.org", RecordType::AAAA, "forwarded");
        check(
            "2.0.18.172.in-addr.arpa",
            RecordType::PTR,
            "NoError db.net_1.",
        );
        check("3.0.18.172.in-addr.arpa", RecordType::PTR, "forwarded");
        check("18.172.in-addr.arpa", RecordType::PTR, "forwarded");
        check("db", RecordType::PTR, "forwarded");
    }

    #[test]
    fn addresses_take_turns() {
        let firsts: Vec<String> = (0..4)
            .map(|turn| {
                asked(
                    &question("web.example", RecordType::A),
                    turn,
                    Transport::Datagram,
                )
                .unwrap()
            })
            .map(|reply| reply.answers[0].data.to_string())
            .collect();
        assert_eq!(firsts, ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.1"]);
    }

    #[test]
    fn answers_fit_what_the_client_can_take() {
        let plain = question("many", RecordType::A);
        let short = asked(&plain, 0, Transport::Datagram).unwrap();
        assert!(short.metadata.truncation && short.to_vec().unwrap().len() <= 512);
        let long = asked(&plain, 0, Transport::Stream).unwrap();
        assert!(!long.metadata.truncation && long.answers.len() == 200);
        let mut extended = plain.clone();
        let mut edns = Edns::new();
        edns.set_max_payload(4000);
        extended.set_edns(edns);
        let whole = asked(&extended, 0, Transport::Datagram).unwrap();
        assert!(!whole.metadata.truncation && whole.answers.len() == 200 && whole.edns.is_some());
        let cut = asked(&question("countless", RecordType::A), 0, Transport::Stream).unwrap();
        assert!(cut.metadata.truncation && cut.answers.len() > 1000);
    }

    #[test]
    fn bad_questions_get_the_code_that_says_so() {
        let bytes = question("db", RecordType::A).to_vec().unwrap();
        let code = |bytes: &[u8]| match decide(bytes, &zones(), 0, Transport::Datagram) {
            Decision::Answer(reply) => {
                assert_eq!(reply[..2], bytes[..2]);
                assert!(reply[2] & 0x80 != 0);
                Some(reply[3] & 0x0f)
            }
            _ => None,
        };
        assert_eq!(code(&bytes), Some(0));
        assert_eq!(code(&bytes[..bytes.len() - 1]), Some(1), "cut off");
        assert_eq!(code(&bytes[..11]), None, "no header");
        let with = |at: usize, value: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            bytes
        };
        assert_eq!(code(&with(2, 0x81)), None, "an answer");
        assert_eq!(code(&with(2, 0x11)), Some(4), "another operation");
        assert_eq!(code(&with(5, 0)), Some(1), "no question");
        assert_eq!(code(&with(5, 2)), Some(1), "more questions than there are");
        assert_eq!(
            code(&with(12, 0xc0)),
            Some(1),
            "a name that points to itself"
        );
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            decide(&bytes, &zones(), 1, Transport::Datagram);
            failure(&bytes, ResponseCode::ServFail);
            question_end(&bytes);
        }

        #[test]
        fn nor_does_a_question_with_some_bytes_changed(
            changes in proptest::collection::vec((0usize..60, proptest::num::u8::ANY), 0..6),
            cut in 0usize..60,
        ) {
            let mut message = question("web.example", RecordType::A);
            message.set_edns(Edns::new());
            let mut bytes = message.to_vec().unwrap();
            bytes.truncate(bytes.len().saturating_sub(cut / 2));
            for (at, value) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            if let Decision::Answer(reply) = decide(&bytes, &zones(), 1, Transport::Datagram) {
                assert!(reply.len() <= DATAGRAM_BYTES_MAX);
                assert_eq!(reply[..2], bytes[..2]);
            }
        }
    }
}
