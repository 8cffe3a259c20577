//! Fixed values, the files that hold their bytes, and random values.

pub(crate) mod random;
pub(crate) mod samples;

use paritas::checksum::{crc64_around, witness};
use paritas::error::Result;
use paritas::format::page::{Key, Value};
use paritas::format::record::{Headers, Record};
use std::fs;
use std::path::Path;

/// Compares with the checked-in file; with PARITAS_BLESS=1 in the environment, writes it instead.
pub(crate) fn compare(name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("PARITAS_BLESS").is_some() {
        fs::write(&path, bytes).expect("the golden file can be written");
    }
    let golden = fs::read(&path).expect("the golden file is there; PARITAS_BLESS=1 writes it");
    let differs = golden.iter().zip(bytes).position(|(a, b)| a != b);
    assert_eq!(differs, None, "{name} differs from this byte on");
    assert_eq!(golden.len(), bytes.len(), "{name} has another length");
}

/// Writes a record as the log does: description first, then the witnesses of its rows, then the headers.
pub(crate) fn write(record: &mut Record) -> Result<(Vec<Vec<u8>>, Headers)> {
    let draft = record.draft()?;
    let blocks: Vec<Vec<u8>> = draft.blocks().map(<[u8]>::to_vec).collect();
    let (k, width) = (usize::from(record.scheme.k()), usize::from(record.scheme.width()));
    for (i, block) in blocks.iter().enumerate() {
        record.witnesses[i / k * width + i % k] = witness(block);
    }
    let headers = draft.seal(&record.witnesses[..usize::from(record.description_rows) * width])?;
    Ok((blocks, headers))
}

/// Puts the right checksum into a superblock or a header.
pub(crate) fn seal(bytes: &mut [u8]) {
    let crc = crc64_around(bytes, 8);
    bytes[8..16].copy_from_slice(&crc.to_le_bytes());
}

/// Entries as they lie in a page.
pub(crate) fn flatten(entries: &[(Key, Value)]) -> Vec<u8> {
    let bytes =
        |(key, value): &(Key, Value)| [&key.0.to_le_bytes()[..], &key.1.to_le_bytes(), value].concat();
    entries.iter().flat_map(bytes).collect()
}
