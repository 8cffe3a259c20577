//! Questions to a part of the kernel by generic netlink: numbered attributes there, and an answer, or none, back.

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;

/// Bytes of a message's header, of the part behind it that says what is meant, and of an attribute's header.
const HEADER: usize = 16;
const MEANT: usize = 4;
const ATTRIBUTE: usize = 4;
/// A message that wants an answer, and to be told when it was carried out.
const REQUEST_AND_ACK: u16 = 1 | 4;
/// A message that says how it went.
const OUTCOME: u16 = 2;
/// Marks an attribute that consists of attributes.
const NESTED: u16 = 1 << 15;
/// The family that knows all others.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const FAMILY_MAX: u16 = 5;
/// Bytes that an answer has at most.
const ANSWER: usize = 16 << 10;

/// Numbered values, one behind the other, each at a multiple of four bytes.
#[derive(Clone, Default)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    /// With one more.
    pub(crate) fn with(mut self, number: u16, value: &[u8]) -> Attributes {
        let length = u16::try_from(ATTRIBUTE + value.len()).expect("values are short");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(number.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// With one more that consists of these.
    pub(crate) fn with_nested(self, number: u16, inner: &Attributes) -> Attributes {
        self.with(number | NESTED, &inner.0)
    }

    /// The value with this number, if it is there and has so many bytes.
    pub(crate) fn find<const BYTES: usize>(&self, number: u16) -> Option<[u8; BYTES]> {
        let mut rest = self.0.as_slice();
        while rest.len() >= ATTRIBUTE {
            let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
            let value = rest.get(ATTRIBUTE..length)?;
            if u16::from_ne_bytes([rest[2], rest[3]]) == number {
                return value.try_into().ok();
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        None
    }
}

/// A part of the kernel that is asked.
pub(crate) struct Family {
    socket: OwnedFd,
    id: u16,
    /// The highest attribute that it knows.
    pub(crate) highest: u32,
}

impl Family {
    /// The one of this name.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when the kernel has none.
    pub(crate) fn named(name: &str) -> io::Result<Family> {
        let kind = Some(netlink::GENERIC);
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, kind)?;
        let mut family = Family { socket, id: CONTROL, highest: 0 };
        let mut name = name.as_bytes().to_vec();
        name.push(0);
        let found = family.ask(GET_FAMILY, &Attributes::default().with(FAMILY_NAME, &name))?;
        let lacks = || io::Error::new(ErrorKind::InvalidData, "the kernel does not say which family that is");
        family.id = found.find(FAMILY_ID).map(u16::from_ne_bytes).ok_or_else(lacks)?;
        family.highest = found.find(FAMILY_MAX).map(u32::from_ne_bytes).ok_or_else(lacks)?;
        Ok(family)
    }

    /// Asks for something, and waits until it is done. Returns the answer's attributes; none where there is no answer.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn ask(&self, command: u8, attributes: &Attributes) -> io::Result<Attributes> {
        let question = message(self.id, command, attributes);
        if send(&self.socket, &question, SendFlags::empty())? < question.len() {
            return Err(ErrorKind::WriteZero.into());
        }
        let mut answer = Attributes::default();
        loop {
            let mut bytes = vec![0; ANSWER];
            let (length, _) = recv(&self.socket, bytes.as_mut_slice(), RecvFlags::empty())?;
            bytes.truncate(length);
            if let Some(outcome) = read(&bytes, self.id, &mut answer) {
                return outcome.map(|()| answer);
            }
        }
    }
}

fn message(family: u16, command: u8, attributes: &Attributes) -> Vec<u8> {
    let length = u32::try_from(HEADER + MEANT + attributes.0.len()).expect("questions are short");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(family.to_ne_bytes());
    bytes.extend(REQUEST_AND_ACK.to_ne_bytes());
    // Its number and ours: nobody else asks over this socket.
    bytes.extend([0; 8]);
    // Both families are of version 1.
    bytes.extend([command, 1, 0, 0]);
    bytes.extend(&attributes.0);
    bytes
}

/// Takes messages, one behind the other: answers of a family, and at last how it went.
fn read(mut bytes: &[u8], family: u16, answer: &mut Attributes) -> Option<io::Result<()>> {
    while bytes.len() >= HEADER {
        let length = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let length = usize::try_from(length).unwrap_or(usize::MAX).clamp(HEADER, bytes.len());
        let (kind, body) = (u16::from_ne_bytes([bytes[4], bytes[5]]), &bytes[HEADER..length]);
        if kind == OUTCOME {
            let number = body.first_chunk().map_or(0, |number| i32::from_ne_bytes(*number));
            return Some(if number == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-number)) });
        }
        if kind == family {
            answer.0 = body.get(MEANT..).unwrap_or_default().to_vec();
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_whatever_is_before_them_and_however_they_are_cut_off() {
        let inner = Attributes::default().with(1, &7u32.to_ne_bytes());
        let all = Attributes::default().with(3, b"odd").with_nested(4, &inner).with(5, &[9; 8]);
        assert_eq!((all.0.len(), all.find(5), all.find(3)), (8 + 12 + 12, Some([9; 8]), Some(*b"odd")));
        assert_eq!((all.find::<4>(5), all.find::<8>(6)), (None, None));
        assert!(all.find::<8>(4).is_none() && all.find::<8>(4 | NESTED).is_some());
        for cut in 0..all.0.len() {
            assert_eq!(Attributes(all.0[..cut].to_vec()).find::<8>(5), None);
        }
    }

    #[test]
    fn answers_come_before_the_outcome_in_one_message_or_several() {
        let told = message(30, 1, &Attributes::default().with(1, &[5; 4]));
        let outcome = |number: i32| {
            let mut bytes = message(OUTCOME, 0, &Attributes::default());
            bytes[HEADER..].copy_from_slice(&number.to_ne_bytes());
            bytes
        };
        let mut answer = Attributes::default();
        assert!(read(&told, 30, &mut answer).is_none());
        assert_eq!(answer.find(1), Some([5; 4]));
        let mut answer = Attributes::default();
        assert!(matches!(read(&[told.clone(), outcome(0)].concat(), 30, &mut answer), Some(Ok(()))));
        assert_eq!(answer.find(1), Some([5; 4]));
        let mut none = Attributes::default();
        assert!(read(&told, 31, &mut none).is_none() && none.0.is_empty());
        let error = read(&outcome(-16), 30, &mut none).expect("an outcome").expect_err("an error");
        assert_eq!(error.kind(), ErrorKind::ResourceBusy);
        assert!(read(&[0xff; 40], 30, &mut none).is_none());
    }

    #[test]
    fn the_kernel_knows_the_family_of_families_and_no_other_of_any_name() {
        // Where there is no such socket at all, there is nothing to ask.
        let Ok(control) = Family::named("nlctrl") else { return };
        assert_eq!(control.id, CONTROL);
        let none = Family::named("no-such-family").map(|_| ()).expect_err("none");
        assert_eq!(none.kind(), ErrorKind::NotFound);
    }
}
