//! The little-endian reader and writer that every structure goes through.

use crate::error::{Error, Result};
use crate::types::Scheme;
use std::fmt;

/// What a rule of the format says when it is broken. Encoding turns it into [`crate::error::Kind::Invalid`],
/// decoding into [`crate::error::Kind::Corrupt`]: nothing is written that could not be read back.
pub(crate) type Check = std::result::Result<(), String>;

/// `Err(rule)` unless it holds. The rule is a sentence that is true of a sound structure.
pub(crate) fn ensure(holds: bool, rule: &str) -> Check {
    if holds { Ok(()) } else { Err(format!("broken rule: {rule}")) }
}

/// The length of something, as a number in the format.
///
/// # Panics
///
/// If it does not fit; a [`Check`] comes before.
pub(crate) fn count<T: TryFrom<usize>>(len: usize) -> T {
    T::try_from(len).unwrap_or_else(|_| panic!("no check has bounded the length {len}"))
}

/// Reads a structure from front to back; every read is checked and every error names structure and field.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    structure: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`, which are to be a `structure`.
    pub fn new(structure: &'static str, bytes: &'a [u8]) -> Reader<'a> {
        Reader { structure, bytes, at: 0 }
    }

    /// Bytes not yet read.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// [`crate::error::Kind::Corrupt`], naming the structure, the field just read and what is wrong with it.
    pub fn corrupt(&self, field: &str, what: impl fmt::Display) -> Error {
        Error::corrupt(format!("{}: {field} (before byte {}): {what}", self.structure, self.at))
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::Corrupt`] if there are fewer; so for every other read.
    pub fn bytes(&mut self, field: &str, len: usize) -> Result<&'a [u8]> {
        let Some((taken, _)) = self.bytes[self.at..].split_at_checked(len) else {
            return Err(self.corrupt(field, format_args!("{len} bytes wanted, {} left", self.left())));
        };
        self.at += len;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self, field: &str) -> Result<[u8; N]> {
        let taken = self.bytes(field, N)?;
        Ok(taken.try_into().expect("as many bytes as were asked for"))
    }

    /// An 8-bit number.
    pub fn u8(&mut self, field: &str) -> Result<u8> {
        self.array(field).map(u8::from_le_bytes)
    }

    /// A 16-bit number.
    pub fn u16(&mut self, field: &str) -> Result<u16> {
        self.array(field).map(u16::from_le_bytes)
    }

    /// A 32-bit number.
    pub fn u32(&mut self, field: &str) -> Result<u32> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// A 64-bit number.
    pub fn u64(&mut self, field: &str) -> Result<u64> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// A 32-bit length.
    pub fn length(&mut self, field: &str) -> Result<usize> {
        let length = self.u32(field)?;
        usize::try_from(length).map_err(|_| self.corrupt(field, format_args!("{length} is too long")))
    }

    /// UTF-8 text of `len` bytes, at most `max`.
    pub fn text(&mut self, field: &str, len: usize, max: usize) -> Result<String> {
        if len > max {
            return Err(self.corrupt(field, format_args!("{len} bytes long, at most {max} allowed")));
        }
        let text = self.bytes(field, len)?;
        match std::str::from_utf8(text) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.corrupt(field, "not UTF-8")),
        }
    }

    /// A scheme: k, then m.
    pub fn scheme(&mut self, field: &str) -> Result<Scheme> {
        let (k, m) = (self.u8(field)?, self.u8(field)?);
        Scheme::new(k, m).ok_or_else(|| self.corrupt(field, format_args!("{k}+{m} is no scheme")))
    }

    /// `len` reserved bytes, which are zeros.
    pub fn zeros(&mut self, len: usize) -> Result<()> {
        // Many at a time: what pads a structure to a block is most of many structures.
        let (words, rest) = self.bytes("reserved", len)?.as_chunks();
        match words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0) {
            true => Ok(()),
            false => Err(self.corrupt("reserved", "not zero")),
        }
    }

    /// All that is left, which is zeros.
    pub fn zeros_to_end(&mut self) -> Result<()> {
        self.zeros(self.left())
    }
}

/// Writes a structure from front to back.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty writer with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Writer {
        Writer { bytes: Vec::with_capacity(bytes) }
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// An 8-bit number.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// A 16-bit number.
    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    /// A 32-bit number.
    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    /// A 64-bit number.
    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    /// A scheme: k, then m.
    pub fn scheme(&mut self, scheme: Scheme) {
        self.bytes(&[scheme.k(), scheme.m()]);
    }

    /// `len` reserved bytes.
    pub fn zeros(&mut self, len: usize) {
        self.bytes.resize(self.bytes.len() + len, 0);
    }

    /// Zeros up to the next multiple of `unit` bytes.
    pub fn pad(&mut self, unit: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(unit), 0);
    }

    /// Bytes written.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn what_is_written_is_read_back() {
        let mut writer = Writer::default();
        writer.u8(1);
        writer.u16(0x0302);
        writer.u32(0x0706_0504);
        writer.u64(0x0F0E_0D0C_0B0A_0908);
        writer.bytes("\u{e9}".as_bytes());
        writer.pad(8);
        let bytes = writer.into_bytes();
        assert_eq!(bytes[..15], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        let mut reader = Reader::new("sample", &bytes);
        assert_eq!(reader.u8("a").expect("there"), 1);
        assert_eq!(reader.u16("b").expect("there"), 0x0302);
        assert_eq!(reader.u32("c").expect("there"), 0x0706_0504);
        assert_eq!(reader.u64("d").expect("there"), 0x0F0E_0D0C_0B0A_0908);
        assert_eq!(reader.text("e", 2, 2).expect("there"), "\u{e9}");
        assert_eq!(reader.left(), 7);
        reader.zeros_to_end().expect("zeros");
    }

    #[test]
    fn a_read_behind_the_end_names_structure_and_field() {
        let mut reader = Reader::new("sample", &[1, 2, 3]);
        let error = reader.u32("count").expect_err("too short");
        assert_eq!(error.kind(), Kind::Corrupt);
        assert_eq!(error.to_string(), "sample: count (before byte 0): 4 bytes wanted, 3 left");
        assert_eq!(reader.u16("count").expect("still there"), 0x0201);
        assert!(reader.bytes("rest", usize::MAX).is_err());
    }

    #[test]
    fn reserved_bytes_must_be_zero() {
        for bytes in [[1, 0, 0], [0, 1, 0], [0, 0, 1]] {
            assert!(Reader::new("sample", &bytes).zeros_to_end().is_err());
            assert!(Reader::new("sample", &bytes).zeros(3).is_err());
        }
        assert!(Reader::new("sample", &[0, 0, 1]).zeros(2).is_ok());
    }

    #[test]
    fn a_scheme_has_a_data_column_and_at_most_255_columns() {
        assert_eq!(
            Reader::new("sample", &[8, 2]).scheme("scheme").expect("sound"),
            Scheme::new(8, 2).expect("8+2")
        );
        assert!(Reader::new("sample", &[0, 2]).scheme("scheme").is_err());
        assert!(Reader::new("sample", &[128, 128]).scheme("scheme").is_err());
    }

    #[test]
    fn text_is_bounded_and_utf_8() {
        assert!(Reader::new("sample", b"abcd").text("name", 4, 3).is_err());
        assert!(Reader::new("sample", b"abcd").text("name", 5, 9).is_err());
        assert!(Reader::new("sample", &[0xC3]).text("name", 1, 9).is_err());
        assert_eq!(Reader::new("sample", b"abcd").text("name", 4, 4).expect("text"), "abcd");
    }
}
