//! The handshake, word by word as the document has it.

use super::*;

/// Two exports; one, where only one is served.
struct Shelf(Vec<&'static str>);

impl Exports for Shelf {
    fn names(&self) -> Vec<String> {
        self.0.iter().map(|name| (*name).to_owned()).collect()
    }

    fn find(&self, name: &str) -> Option<Export> {
        let found = self.0.iter().find(|known| **known == name || name.is_empty() && self.0.len() == 1)?;
        Some(Export {
            name: (*found).into(),
            description: "for people".into(),
            size: 1 << 40,
            read_only: *found == "old",
        })
    }
}

fn shelf() -> Shelf {
    Shelf(vec!["new", "old"])
}

const GREETED: usize = 18;

fn flags(bits: u32) -> Vec<u8> {
    bits.to_be_bytes().into()
}

fn option(option: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = OPTION.to_be_bytes().to_vec();
    bytes.extend(option.to_be_bytes());
    bytes.extend(u32::try_from(data.len()).expect("short").to_be_bytes());
    bytes.extend(data);
    bytes
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len()).expect("short").to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

fn go(kind: u32, name: &str, infos: &[u16]) -> Vec<u8> {
    let mut data = string(name);
    data.extend(u16::try_from(infos.len()).expect("few").to_be_bytes());
    infos.iter().for_each(|info| data.extend(info.to_be_bytes()));
    option(kind, &data)
}

fn contexts(kind: u32, name: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = string(name);
    data.extend(u32::try_from(queries.len()).expect("few").to_be_bytes());
    queries.iter().for_each(|query| data.extend(string(query)));
    option(kind, &data)
}

/// What a handshake came to.
#[derive(Debug, PartialEq, Eq)]
struct Came {
    ready: Vec<u8>,
    last: Result<Step, Violation>,
}

/// Feeds bytes, in pieces of so many, until they are all taken or it ends.
fn feed(negotiation: &mut Negotiation, bytes: &[u8], piece: usize, exports: &dyn Exports) -> Came {
    let mut ready = Vec::new();
    let mut held = Vec::new();
    for part in bytes.chunks(piece) {
        held.extend_from_slice(part);
        loop {
            let advanced = negotiation.advance(&held, exports);
            ready.extend(negotiation.take_ready());
            match advanced {
                Ok((taken, Step::More)) => {
                    assert_eq!(taken, 0);
                    break;
                }
                Ok((taken, Step::Taken)) => drop(held.drain(..taken)),
                Ok((_, last)) => return Came { ready, last: Ok(last) },
                Err(violation) => return Came { ready, last: Err(violation) },
            }
        }
    }
    Came { ready, last: Ok(Step::More) }
}

fn handshake(tls: Tls, messages: &[Vec<u8>], exports: &dyn Exports) -> Came {
    let bytes: Vec<u8> = [vec![flags(3)], messages.to_vec()].concat().concat();
    let whole = feed(&mut Negotiation::new(tls), &bytes, usize::MAX, exports);
    for piece in [1, 3, 17] {
        assert_eq!(feed(&mut Negotiation::new(tls), &bytes, piece, exports), whole, "in pieces of {piece}");
    }
    whole
}

/// The answers behind the greeting: option, type, data.
fn answers(came: &Came) -> Vec<(u32, u32, Vec<u8>)> {
    let mut fields = Fields(&came.ready[GREETED..]);
    let mut found = Vec::new();
    while !fields.0.is_empty() {
        assert_eq!(fields.u64(), Some(OPTION_REPLY));
        let (option, kind) = (fields.u32().expect("an option"), fields.u32().expect("a type"));
        let length = fields.u32().expect("a length") as usize;
        found.push((option, kind, fields.bytes(length).expect("data").to_vec()));
    }
    found
}

fn kinds(came: &Came) -> Vec<u32> {
    answers(came).into_iter().map(|(_, kind, _)| kind).collect()
}

#[test]
fn the_greeting_is_that_of_fixed_newstyle() {
    let ready = Negotiation::new(Tls::Off).take_ready();
    assert_eq!(ready, *b"NBDMAGICIHAVEOPT\0\x03");
    assert_eq!(ready.len(), GREETED);
}

#[test]
fn unknown_flags_old_clients_and_what_is_no_option_end_it() {
    for bits in [4, 1 << 31, 0, 2] {
        let came = feed(&mut Negotiation::new(Tls::Off), &flags(bits), 4, &shelf());
        assert!(came.last.is_err(), "{bits}");
    }
    let mut bytes = option(option::LIST, &[]);
    bytes[0] ^= 1;
    assert!(handshake(Tls::Off, &[bytes], &shelf()).last.is_err());
}

#[test]
fn an_export_is_named_the_old_way_with_zeros_or_without() {
    let name = option(option::EXPORT_NAME, b"new");
    let came = feed(&mut Negotiation::new(Tls::Off), &[flags(1), name.clone()].concat(), 99, &shelf());
    assert_eq!(came.ready.len(), GREETED + 8 + 2 + 124);
    assert_eq!(came.ready[GREETED..GREETED + 8], (1u64 << 40).to_be_bytes());
    let came = handshake(Tls::Off, &[name], &shelf());
    assert_eq!(came.ready.len(), GREETED + 8 + 2);
    let Ok(Step::Transmit(agreed)) = came.last else { panic!("{:?}", came.last) };
    assert_eq!((agreed.mode, agreed.allocation, agreed.export.size), (Mode::Simple, false, 1 << 40));
    // There is no way to refuse but to end it.
    for name in [&b"none"[..], b"", b"\xff", b"n\0", &[b'x'; 5000]] {
        assert!(handshake(Tls::Off, &[option(option::EXPORT_NAME, name)], &shelf()).last.is_err());
    }
    let only = Shelf(vec!["new"]);
    assert!(handshake(Tls::Off, &[option(option::EXPORT_NAME, b"")], &only).last.is_ok());
}

#[test]
fn exports_are_listed_and_data_is_refused() {
    let came = handshake(Tls::Off, &[option(option::LIST, &[]), option(option::LIST, b"x")], &shelf());
    assert_eq!(kinds(&came), [answer::SERVER, answer::SERVER, answer::ACK, answer::ERR_INVALID]);
    assert_eq!(answers(&came)[1].2, string("old"));
}

#[test]
fn info_tells_what_is_asked_for_and_go_begins() {
    let all = [info::NAME, info::DESCRIPTION, info::BLOCK_SIZE, 77];
    let came = handshake(Tls::Off, &[go(option::INFO, "new", &all), go(option::GO, "old", &[])], &shelf());
    let told = answers(&came);
    let info = answer::INFO;
    assert_eq!(kinds(&came), [info, info, info, info, answer::ACK, info, info, answer::ACK]);
    assert_eq!(told[0].2[..2], info::EXPORT.to_be_bytes());
    assert_eq!(told[0].2[2..10], (1u64 << 40).to_be_bytes());
    let writable = 0b1101_0110_1101u16;
    assert_eq!(told[0].2[10..], writable.to_be_bytes());
    assert_eq!(told[1].2, [&info::NAME.to_be_bytes()[..], b"new"].concat());
    assert_eq!(told[2].2, [&info::DESCRIPTION.to_be_bytes()[..], b"for people"].concat());
    assert_eq!(told[3].2, [0, 3, 0, 0, 2, 0, 0, 0, 16, 0, 2, 0, 0, 0]);
    let read_only = 0b101_0000_0011u16;
    assert_eq!(told[5].2[10..], read_only.to_be_bytes());
    assert!(matches!(came.last, Ok(Step::Transmit(agreed)) if agreed.export.name == "old"));
}

#[test]
fn the_name_without_letters_is_the_only_export() {
    let ask = go(option::GO, "", &[info::NAME]);
    assert_eq!(kinds(&handshake(Tls::Off, std::slice::from_ref(&ask), &shelf())), [answer::ERR_UNKNOWN]);
    let came = handshake(Tls::Off, &[ask], &Shelf(vec!["v"]));
    assert_eq!(answers(&came)[1].2, [&info::NAME.to_be_bytes()[..], b"v"].concat());
}

#[test]
fn malformed_and_unknown_options_are_refused_and_the_next_one_is_heard() {
    let mut short = go(option::GO, "new", &[info::NAME]);
    short.truncate(short.len() - 1);
    short[15] -= 1;
    let long = [string("new"), vec![0, 0, 1]].concat();
    let bad_name = [vec![0, 0, 0, 1, 0xff], vec![0, 0]].concat();
    let lies = [string("new"), vec![0xff; 4]].concat();
    let messages = [
        short,
        option(option::INFO, &long),
        option(option::GO, &bad_name),
        option(option::GO, &[]),
        go(option::GO, "none", &[]),
        option(4, b"peek"),
        option(12345, &[]),
        option(option::STRUCTURED_REPLY, b"x"),
        option(option::STRUCTURED_REPLY, &[]),
        option(option::SET_META_CONTEXT, &lies),
        contexts(option::SET_META_CONTEXT, "new", &["nonsense"]),
        contexts(option::SET_META_CONTEXT, "none", &["base:allocation"]),
        option(option::LIST, &vec![0; OPTION_BYTES_MAX + 1]),
        option(option::ABORT, &[]),
    ];
    let came = handshake(Tls::Off, &messages, &shelf());
    use answer::{ACK, ERR_INVALID, ERR_TOO_BIG, ERR_UNKNOWN, ERR_UNSUP};
    let expected = [
        ERR_INVALID,
        ERR_INVALID,
        ERR_INVALID,
        ERR_INVALID,
        ERR_UNKNOWN,
        ERR_UNSUP,
        ERR_UNSUP,
        ERR_INVALID,
        ACK,
        ERR_INVALID,
        ERR_INVALID,
        ERR_UNKNOWN,
        ERR_TOO_BIG,
        ACK,
    ];
    assert_eq!(kinds(&came), expected);
    assert_eq!(came.last, Ok(Step::Close));
}

#[test]
fn contexts_need_structured_replies_and_hold_for_the_export_that_they_were_selected_for() {
    let select = |name| contexts(option::SET_META_CONTEXT, name, &["base:allocation"]);
    let early = handshake(Tls::Off, &[select("new")], &shelf());
    assert_eq!(kinds(&early), [answer::ERR_INVALID]);

    let structured = option(option::STRUCTURED_REPLY, &[]);
    let agreed = |messages: &[Vec<u8>]| {
        let messages = [std::slice::from_ref(&structured), messages].concat();
        match handshake(Tls::Off, &messages, &shelf()).last {
            Ok(Step::Transmit(agreed)) => agreed.allocation,
            other => panic!("{other:?}"),
        }
    };
    assert!(agreed(&[select("new"), go(option::GO, "new", &[])]));
    assert!(agreed(&[select("new"), option(option::EXPORT_NAME, b"new")]));
    assert!(!agreed(&[select("old"), go(option::GO, "new", &[])]));
    assert!(!agreed(&[go(option::GO, "new", &[])]));
    // The newest selection counts, also when it selects nothing or fails.
    for last in [
        contexts(option::SET_META_CONTEXT, "new", &[]),
        contexts(option::SET_META_CONTEXT, "new", &["base:", "x-other:thing"]),
        contexts(option::SET_META_CONTEXT, "none", &["base:allocation"]),
        option(option::SET_META_CONTEXT, b"x"),
    ] {
        assert!(!agreed(&[select("new"), last, go(option::GO, "new", &[])]));
    }

    let list = |queries: &[&str]| contexts(option::LIST_META_CONTEXT, "new", queries);
    for (queries, found) in [
        (&[][..], true),
        (&["base:"], true),
        (&["base:allocation"], true),
        (&["base:x"], false),
        (&["q:"], false),
    ] {
        let came = handshake(Tls::Off, &[structured.clone(), list(queries)], &shelf());
        assert_eq!(kinds(&came).contains(&answer::META_CONTEXT), found, "{queries:?}");
        assert_eq!(kinds(&came).last(), Some(&answer::ACK));
    }
    let came = handshake(Tls::Off, &[structured.clone(), select("new")], &shelf());
    assert_eq!(answers(&came)[1].2, [&[0, 0, 0, 1][..], b"base:allocation"].concat());
}

#[test]
fn extended_headers_rank_above_structured_replies() {
    let (structured, extended) =
        (option(option::STRUCTURED_REPLY, &[]), option(option::EXTENDED_HEADERS, &[]));
    let came = handshake(
        Tls::Off,
        &[
            structured.clone(),
            structured.clone(),
            option(option::EXTENDED_HEADERS, b"x"),
            extended.clone(),
            extended.clone(),
            structured,
            contexts(option::SET_META_CONTEXT, "new", &["base:allocation"]),
            go(option::GO, "new", &[]),
        ],
        &shelf(),
    );
    use answer::{ACK, ERR_EXT_HEADER_REQD, ERR_INVALID, INFO, META_CONTEXT};
    let first = [ACK, ERR_INVALID, ERR_INVALID, ACK, ERR_INVALID, ERR_EXT_HEADER_REQD];
    assert_eq!(kinds(&came), [&first[..], &[META_CONTEXT, ACK, INFO, INFO, ACK]].concat());
    let Ok(Step::Transmit(agreed)) = came.last else { panic!("{:?}", came.last) };
    assert_eq!((agreed.mode, agreed.allocation), (Mode::Extended, true));
    assert_eq!(
        agreed.export.flags(Mode::Extended, true) & flag::BLOCK_STATUS_PAYLOAD,
        flag::BLOCK_STATUS_PAYLOAD
    );
    assert_eq!(agreed.export.flags(Mode::Structured, true) & flag::BLOCK_STATUS_PAYLOAD, 0);
    let old_way = handshake(Tls::Off, &[extended, option(option::EXPORT_NAME, b"new")], &shelf());
    assert!(old_way.last.is_err());
}

#[test]
fn tls_comes_first_where_it_must_and_forgets_what_was_said_in_the_clear() {
    let start = option(option::STARTTLS, &[]);
    let refused = |tls, message: &[u8]| kinds(&handshake(tls, &[message.to_vec()], &shelf()));
    assert_eq!(refused(Tls::Off, &start), [answer::ERR_POLICY]);
    assert_eq!(refused(Tls::Optional, &option(option::STARTTLS, b"x")), [answer::ERR_INVALID]);
    for message in [
        option(option::LIST, &[]),
        go(option::GO, "new", &[]),
        go(option::INFO, "none", &[]),
        option(99, b"x"),
    ] {
        assert_eq!(refused(Tls::Required, &message), [answer::ERR_TLS_REQD]);
    }
    assert!(handshake(Tls::Required, &[option(option::EXPORT_NAME, b"new")], &shelf()).last.is_err());
    assert_eq!(handshake(Tls::Required, &[option(option::ABORT, &[])], &shelf()).last, Ok(Step::Close));

    for tls in [Tls::Optional, Tls::Required] {
        let mut negotiation = Negotiation::new(tls);
        let mut before = vec![flags(3)];
        if tls == Tls::Optional {
            before.push(option(option::STRUCTURED_REPLY, &[]));
            before.push(contexts(option::SET_META_CONTEXT, "new", &["base:allocation"]));
        }
        before.push(start.clone());
        assert_eq!(feed(&mut negotiation, &before.concat(), 7, &shelf()).last, Ok(Step::StartTls));
        negotiation.encrypted();
        let again = feed(&mut negotiation, &start, 5, &shelf());
        assert_eq!(again.ready[12..16], answer::ERR_INVALID.to_be_bytes());
        let came = feed(&mut negotiation, &go(option::GO, "new", &[]), 5, &shelf());
        let Ok(Step::Transmit(agreed)) = came.last else { panic!("{:?}", came.last) };
        assert_eq!((agreed.mode, agreed.allocation), (Mode::Simple, false));
    }
}

#[test]
fn whoever_negotiates_for_ever_is_cut_off() {
    let mut negotiation = Negotiation::new(Tls::Off);
    feed(&mut negotiation, &flags(3), 4, &shelf());
    let many = option(99, &[]).repeat(OPTIONS_MAX as usize);
    assert_eq!(feed(&mut negotiation, &many, 4096, &shelf()).last, Ok(Step::More));
    assert!(feed(&mut negotiation, &option(99, &[]), 4096, &shelf()).last.is_err());
    let mut negotiation = Negotiation::new(Tls::Off);
    let endless = option(99, &vec![0; BYTES_MAX]);
    assert!(feed(&mut negotiation, &[flags(3), endless].concat(), 4096, &shelf()).last.is_err());
}
