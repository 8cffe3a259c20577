//! What a client sends: a handshake, and then requests. However its bytes are cut, the answers are the same, and each
//! is well-formed; what a request asks for lies in the export.
#![no_main]

use libfuzzer_sys::fuzz_target;
use paritas::frontend::nbd::negotiate::{Agreed, Export, Exports, Negotiation, Step, Tls};
use paritas::frontend::nbd::reply;
use paritas::frontend::nbd::request::{Command, Header, parse};
use paritas::frontend::nbd::wire::{BLOCK_MIN, Errno, Fields, OPTION_REPLY, PAYLOAD_MAX};

const SIZE: u64 = 1 << 40;

/// One volume that may be written, and one that may not.
struct Shelf;

impl Exports for Shelf {
    fn names(&self) -> Vec<String> {
        vec!["v".into(), "old".into()]
    }

    fn find(&self, name: &str) -> Option<Export> {
        let name = ["v", "old"].into_iter().find(|known| *known == name)?;
        Some(Export {
            name: name.into(),
            description: "a volume".into(),
            size: SIZE,
            read_only: name == "old",
        })
    }
}

/// What a handshake came to: all that was sent, what was agreed on, and the bytes behind it.
#[derive(PartialEq, Eq, Debug)]
struct Came<'a> {
    sent: Vec<u8>,
    agreed: Option<Agreed>,
    rest: &'a [u8],
}

/// The handshake of a client whose bytes come in pieces.
fn negotiate(tls: Tls, bytes: &[u8], piece: usize) -> Came<'_> {
    let mut negotiation = Negotiation::new(tls);
    let mut came = Came { sent: negotiation.take_ready(), agreed: None, rest: &[] };
    let (mut at, mut end) = (0, 0);
    loop {
        let Ok((taken, step)) = negotiation.advance(&bytes[at..end], &Shelf) else { return came };
        came.sent.extend(negotiation.take_ready());
        at += taken;
        match step {
            Step::More if end == bytes.len() => return came,
            Step::More => end = (end + piece).min(bytes.len()),
            Step::Taken => {}
            Step::StartTls => negotiation.encrypted(),
            Step::Close => return came,
            Step::Transmit(agreed) => {
                came.agreed = Some(agreed);
                came.rest = &bytes[at..];
                return came;
            }
        }
    }
}

/// Every answer says how long it is, and the export that was named the old way ends them.
fn check_answers(sent: &[u8]) {
    let mut fields = Fields(&sent[18..]);
    while !fields.0.is_empty() {
        if fields.u64() != Some(OPTION_REPLY) {
            return;
        }
        fields.u32().zip(fields.u32()).expect("an option and a type");
        let length = fields.u32().expect("a length");
        fields.bytes(usize::try_from(length).expect("small")).expect("as long as it says");
    }
}

fn check_request(agreed: &Agreed, header: &Header, payload: &[u8]) {
    let mut out = Vec::new();
    let inside = |offset: u64, length: u64| {
        assert!(offset + length <= SIZE && (offset | length).is_multiple_of(BLOCK_MIN.into()));
    };
    match header.command(agreed, payload) {
        Err(refusal) => reply::error(&mut out, agreed.mode, header, refusal.error, refusal.text, None),
        Ok(Command::Read { offset, length }) => {
            inside(offset, length as u64);
            assert!(length <= PAYLOAD_MAX as usize);
        }
        Ok(Command::Write { offset, .. }) => {
            inside(offset, header.length);
            assert!(!agreed.export.read_only && header.payload as u64 == header.length);
        }
        Ok(Command::Trim { offset, length, .. } | Command::WriteZeroes { offset, length, .. }) => {
            inside(offset, length);
            assert!(!agreed.export.read_only);
        }
        Ok(Command::Cache { offset, length }) => inside(offset, length),
        Ok(Command::BlockStatus { offset, length, .. }) => {
            inside(offset, length);
            assert!(agreed.allocation && length > 0);
            // As long as the longest extent.
            reply::status(&mut out, agreed.mode, header, &[(length, true)]);
        }
        Ok(Command::Flush | Command::Disconnect) => {}
    }
    reply::done(&mut out, agreed.mode, header);
    reply::error(&mut out, agreed.mode, header, Errno::Io, "it failed", Some(header.offset));
}

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let tls = [Tls::Off, Tls::Optional, Tls::Required][usize::from(choice % 3)];
    let came = negotiate(tls, bytes, bytes.len().max(1));
    assert_eq!(negotiate(tls, bytes, usize::from(choice / 3) + 1), came);
    check_answers(&came.sent);
    let Some(agreed) = came.agreed else { return };
    let mut rest = came.rest;
    while let Ok(Some((length, header))) = parse(agreed.mode, rest) {
        for short in 0..length {
            assert!(!matches!(parse(agreed.mode, &rest[..short]), Ok(Some(_))), "a header that is not whole");
        }
        let Some(payload) = rest.get(length..length + header.payload) else { return };
        check_request(&agreed, &header, payload);
        rest = &rest[length + header.payload..];
    }
});
