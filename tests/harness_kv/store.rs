//! A small key-value store on a volume: the example of a program that is tested under failures. Nothing in it knows
//! of simulation.
//!
//! ```text
//! | header | half 0: frame, frame, ... | half 1: frame, frame, ... |
//! ```
//!
//! The header says which half counts and its generation. Each commit adds a frame, in blocks of its own: checksum,
//! length, generation, changes. The first frame that does not fit its checksum and generation ends the log. When a half
//! is full, one frame with everything begins the other one, and then the header says so. No flush comes between them:
//! a volume is a prefix of its history, so whoever sees the header sees the frame.

use paritas::error::{Error, Kind, Result};
use paritas::volume::{Array, Volume};
use std::collections::BTreeMap;

/// Bytes of a block.
const BLOCK: usize = 4096;
/// Bytes of a half.
const HALF: usize = 64 * BLOCK;
/// Checksum, length, generation.
const HEAD: usize = 16;

/// Everything that a store holds.
pub(crate) type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// A key, and its value if it is to have one.
type Change = (Vec<u8>, Option<Vec<u8>>);

/// A bug to build in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Planted {
    /// None.
    Nothing,
    /// A commit is acknowledged when it is written; only the next one flushes it.
    LateFlush,
    /// The header leads to a half whose first frame is yet to be written.
    HeaderFirst,
}

/// An open store.
pub(crate) struct Store {
    volume: Volume,
    contents: Contents,
    /// Changes that no commit covers yet.
    staged: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    generation: u64,
    /// Bytes of the half that frames take.
    tail: usize,
    planted: Planted,
}

impl Store {
    /// Opens the store in the volume of that name; makes both if they are not there.
    pub(crate) async fn open(array: &Array, name: &str, planted: Planted) -> Result<Store> {
        let volume = match array.volume_async(name).await {
            Err(error) if error.kind() == Kind::NotFound => {
                array.create_volume_async(name, (BLOCK + 2 * HALF) as u64, None).await?
            }
            found => found?,
        };
        let header = volume.read_async(0, BLOCK).await?;
        let generation = number(&header);
        let mut store = Store {
            volume,
            contents: Contents::new(),
            staged: BTreeMap::new(),
            generation,
            tail: 0,
            planted,
        };
        let log = store.volume.read_async(store.half(), HALF).await?;
        while let Some((frame, changes)) = parse(&log[store.tail..], generation) {
            changes.into_iter().for_each(|(key, value)| apply(&mut store.contents, key, value));
            store.tail += frame;
        }
        Ok(store)
    }

    /// Where the half begins that counts.
    fn half(&self) -> u64 {
        (BLOCK + HALF * usize::from(!self.generation.is_multiple_of(2))) as u64
    }

    /// Sets a key, with the next commit.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.staged.insert(key.to_vec(), Some(value.to_vec()));
    }

    /// Removes a key, with the next commit.
    pub(crate) fn delete(&mut self, key: &[u8]) {
        self.staged.insert(key.to_vec(), None);
    }

    /// The value of a key, as of the last commit.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.contents.get(key).map(Vec::as_slice)
    }

    /// Everything, as of the last commit.
    pub(crate) fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Makes all changes since the last commit at once, durably.
    pub(crate) async fn commit(&mut self) -> Result<()> {
        if self.planted == Planted::LateFlush {
            self.volume.flush_async().await?;
        }
        let staged = std::mem::take(&mut self.staged);
        let frame = encode(self.generation, staged.iter().map(|(key, value)| (key, value.as_ref())));
        staged.into_iter().for_each(|(key, value)| apply(&mut self.contents, key, value));
        if self.tail + frame.len() <= HALF {
            let at = self.half() + self.tail as u64;
            self.tail += frame.len();
            self.volume.write_async(at, frame).await?;
        } else {
            self.turn_over().await?;
        }
        if self.planted != Planted::LateFlush {
            self.volume.flush_async().await?;
        }
        Ok(())
    }

    /// Begins the other half with everything that is there.
    async fn turn_over(&mut self) -> Result<()> {
        self.generation += 1;
        let frame = encode(self.generation, self.contents.iter().map(|(key, value)| (key, Some(value))));
        if frame.len() > HALF {
            return Err(Error::new(Kind::NoSpace, "the store is full"));
        }
        self.tail = frame.len();
        let mut header = vec![0; BLOCK];
        header[..8].copy_from_slice(&self.generation.to_le_bytes());
        if self.planted == Planted::HeaderFirst {
            self.volume.write_durable_async(0, header).await?;
            return self.volume.write_async(self.half(), frame).await;
        }
        self.volume.write_async(self.half(), frame).await?;
        self.volume.write_async(0, header).await
    }
}

fn apply(contents: &mut Contents, key: Vec<u8>, value: Option<Vec<u8>>) {
    match value {
        Some(value) => contents.insert(key, value),
        None => contents.remove(&key),
    };
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
}

/// A frame, in whole blocks.
fn encode<'a>(generation: u64, changes: impl Iterator<Item = (&'a Vec<u8>, Option<&'a Vec<u8>>)>) -> Vec<u8> {
    let mut frame = vec![0; HEAD];
    for (key, value) in changes {
        frame.push(1 + u8::from(value.is_some()));
        for part in [Some(key), value].into_iter().flatten() {
            frame.extend(u32::try_from(part.len()).expect("a small part").to_le_bytes());
            frame.extend(part);
        }
    }
    let len = u32::try_from(frame.len()).expect("a small frame");
    frame[4..8].copy_from_slice(&len.to_le_bytes());
    frame[8..HEAD].copy_from_slice(&generation.to_le_bytes());
    let checksum = crc32fast::hash(&frame[4..]);
    frame[..4].copy_from_slice(&checksum.to_le_bytes());
    frame.resize(frame.len().next_multiple_of(BLOCK), 0);
    frame
}

/// The frame at the beginning of `log`: its bytes in whole blocks, and its changes.
fn parse(log: &[u8], generation: u64) -> Option<(usize, Vec<Change>)> {
    let word = |at: usize| Some(u32::from_le_bytes(log.get(at..at + 4)?.try_into().expect("four bytes")));
    let len = usize::try_from(word(4)?).ok()?;
    let frame = log.get(..len).filter(|frame| frame.len() >= HEAD)?;
    if crc32fast::hash(&frame[4..]) != word(0)? || number(&frame[8..]) != generation {
        return None;
    }
    let mut rest = &frame[HEAD..];
    let mut changes = Vec::new();
    while let Some((tag, parts)) = rest.split_first() {
        rest = parts;
        let key = take(&mut rest);
        changes.push((key, (*tag == 2).then(|| take(&mut rest))));
    }
    Some((len.next_multiple_of(BLOCK), changes))
}

/// A part of a frame whose checksum is right.
fn take(rest: &mut &[u8]) -> Vec<u8> {
    let (len, parts) = rest.split_at(4);
    let len = u32::from_le_bytes(len.try_into().expect("four bytes"));
    let (part, after) = parts.split_at(usize::try_from(len).expect("a small part"));
    *rest = after;
    part.to_vec()
}
