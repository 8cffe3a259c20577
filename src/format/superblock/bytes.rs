//! The superblock's bytes, drawn in the format's description.

use crate::checksum::crc64_around;
use crate::error::{Error, Kind, Result};
use crate::format::superblock::checkpoint::{
    BOOT_BYTES, BOOT_COLUMN_BYTES, RUNWAY_BYTES, take_boot, take_runway,
};
use crate::format::superblock::events::{EVENTS_HEAD_BYTES, room};
use crate::format::superblock::jobs::JOB_BYTES;
use crate::format::superblock::members::{MEMBER_BYTES, PAST_EPOCH_BYTES};
use crate::format::superblock::{
    Checkpoint, EventLog, Features, Job, MAJOR, MINOR, MemberRecord, PastEpoch, Superblock,
};
use crate::format::wire::{Reader, Writer, count};
use crate::limits::{
    BOOT_COLUMNS_MAX, BOOT_SEGMENTS_MAX, EVENTS_BYTES_PER_MEMBER, HISTORY_MAX, JOBS_MAX, LABEL_BYTES_MAX,
    MEMBERS_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, RUNWAY_CHUNKS_MAX, SLOT_BYTES,
};
use crate::types::{BLOCK, Epoch, Nonce, Slot, Uuid};

const MAGIC: [u8; 8] = *b"PARITASs";
const CRC_AT: usize = 8;
/// Magic, checksum, version, length, features: this much is the same in every version of the format.
const PREFIX_BYTES: usize = 48;
const FIXED_BYTES: usize = 216;

/// Of an array with all its members: one less takes less than it leaves for events.
const LONGEST: usize = FIXED_BYTES
    + NAME_BYTES_MAX
    + HISTORY_MAX * PAST_EPOCH_BYTES
    + MEMBERS_MAX * (MEMBER_BYTES + PATH_BYTES_MAX + LABEL_BYTES_MAX)
    + BOOT_SEGMENTS_MAX * BOOT_BYTES
    + BOOT_COLUMNS_MAX * BOOT_COLUMN_BYTES
    + RUNWAY_CHUNKS_MAX * RUNWAY_BYTES
    + JOBS_MAX * JOB_BYTES
    + EVENTS_HEAD_BYTES
    + room(MEMBERS_MAX);
const _: () = assert!(LONGEST <= SLOT_BYTES && EVENTS_BYTES_PER_MEMBER <= MEMBER_BYTES + PATH_BYTES_MAX);

impl Superblock {
    /// The superblock as it is written to the start of a slot: whole blocks, at most [`SLOT_BYTES`].
    ///
    /// # Errors
    ///
    /// [`Kind::Invalid`], naming the rule, if it could not be read back: a bound of [`crate::limits`] does
    /// not hold, or it contradicts itself, or it carries incompatible features unknown here.
    pub fn encode(&self) -> Result<Vec<u8>> {
        self.check().map_err(|broken| Error::invalid(format!("superblock: {broken}")))?;
        let unknown = self.features.incompat & !Features::INCOMPAT;
        if unknown != 0 {
            return Err(Error::invalid(format!("superblock: unknown incompatible features {unknown:#x}")));
        }
        let lists = RUNWAY_BYTES * self.checkpoint.runway.len();
        let mut writer = Writer::with_capacity((lists + BLOCK).next_multiple_of(BLOCK));
        self.put_fixed(&mut writer);
        writer.bytes(self.name.as_bytes());
        for past in &self.history {
            past.put(&mut writer);
        }
        for member in &self.members {
            member.put(&mut writer);
        }
        self.checkpoint.put_lists(&mut writer);
        self.jobs.iter().for_each(|job| job.put(&mut writer));
        self.events.put(&mut writer);
        writer.pad(BLOCK);
        let mut bytes = writer.into_bytes();
        let length: u32 = count(bytes.len());
        bytes[20..24].copy_from_slice(&length.to_le_bytes());
        let crc = crc64_around(&bytes, CRC_AT);
        bytes[CRC_AT..CRC_AT + 8].copy_from_slice(&crc.to_le_bytes());
        Ok(bytes)
    }

    fn put_fixed(&self, writer: &mut Writer) {
        writer.bytes(&MAGIC);
        writer.u64(0);
        writer.u16(MAJOR);
        writer.u16(MINOR);
        writer.u32(0);
        writer.u64(self.features.incompat);
        writer.u64(self.features.ro_compat);
        writer.u64(self.features.compat);
        debug_assert_eq!(writer.len(), PREFIX_BYTES);
        writer.bytes(&self.array.0);
        writer.u64(self.epoch.0);
        writer.u64(self.nonce.0);
        writer.u64(self.commit);
        writer.u32(self.chunk_blocks);
        writer.scheme(self.default_scheme);
        writer.scheme(self.meta_scheme);
        writer.u8(self.slot.0);
        writer.u8(count(self.members.len()));
        writer.u8(count(self.history.len()));
        writer.u8(count(self.name.len()));
        writer.u16(count(self.checkpoint.boot.len()));
        writer.u16(self.scrubbed);
        writer.u16(count(self.checkpoint.runway.len()));
        writer.u8(count(self.jobs.len()));
        writer.zeros(1);
        writer.u32(self.checkpoint.next_volume);
        self.checkpoint.put_fixed(writer);
        debug_assert_eq!(writer.len(), FIXED_BYTES);
    }

    /// The superblock at the start of a slot; what follows it in the slot is of no account.
    ///
    /// # Errors
    ///
    /// [`Kind::NotFound`] if no superblock begins here. [`Kind::Corrupt`] if one does but is damaged, torn or
    /// cut short. [`Kind::Refused`] if it is sound but of a format that this version does not understand.
    pub fn decode(slot_bytes: &[u8]) -> Result<Superblock> {
        let bytes = verified(slot_bytes)?;
        let features = understood(bytes)?;
        let mut reader = Reader::new("superblock", bytes);
        reader.bytes("prefix", PREFIX_BYTES)?;
        let superblock = Superblock::take(&mut reader, features)?;
        reader.zeros_to_end()?;
        superblock.check().map_err(|broken| reader.corrupt("superblock", broken))?;
        Ok(superblock)
    }

    /// How many bytes of the slot the superblock takes that begins with this block.
    ///
    /// # Errors
    ///
    /// [`Kind::NotFound`] if no superblock begins here, [`Kind::Corrupt`] if its length is impossible.
    pub fn encoded_len(first_block: &[u8]) -> Result<usize> {
        if !first_block.starts_with(&MAGIC) {
            return Err(Error::new(Kind::NotFound, "no superblock here"));
        }
        let mut reader = Reader::new("superblock", first_block);
        reader.array::<20>("magic, checksum and version")?;
        let length = reader.length("length")?;
        if !(BLOCK..=SLOT_BYTES).contains(&length) || !length.is_multiple_of(BLOCK) {
            return Err(reader.corrupt("length", format_args!("{length} bytes")));
        }
        Ok(length)
    }

    fn take(reader: &mut Reader<'_>, features: Features) -> Result<Superblock> {
        let array = Uuid(reader.array("array")?);
        let epoch = Epoch(reader.u64("epoch")?);
        let nonce = Nonce(reader.u64("nonce")?);
        let commit = reader.u64("commit")?;
        let chunk_blocks = reader.u32("chunk blocks")?;
        let default_scheme = reader.scheme("default scheme")?;
        let meta_scheme = reader.scheme("metadata scheme")?;
        let slot = Slot(reader.u8("slot")?);
        let members = reader.u8("members")?;
        let history = reader.u8("history")?;
        let name_bytes = usize::from(reader.u8("name length")?);
        let boot = reader.u16("boot segments")?;
        let scrubbed = reader.u16("day of the last scrub")?;
        let runway = reader.u16("runway chunks")?;
        let jobs = reader.u8("jobs")?;
        reader.zeros(1)?;
        let mut checkpoint = Checkpoint::take_fixed(reader)?;
        let name = reader.text("name", name_bytes, NAME_BYTES_MAX)?;
        let history = list(reader, "history", history.into(), HISTORY_MAX, PastEpoch::take)?;
        let members = list(reader, "members", members.into(), MEMBERS_MAX, MemberRecord::take)?;
        checkpoint.boot = list(reader, "boot segments", boot, BOOT_SEGMENTS_MAX, take_boot)?;
        checkpoint.runway = take_runway(reader, runway)?;
        let jobs = list(reader, "jobs", jobs.into(), JOBS_MAX, Job::take)?;
        let events = EventLog::take(reader)?;
        Ok(Superblock {
            features,
            array,
            name,
            slot,
            chunk_blocks,
            default_scheme,
            meta_scheme,
            epoch,
            nonce,
            commit,
            history,
            members,
            jobs,
            scrubbed,
            events,
            checkpoint,
        })
    }
}

/// The bytes that the superblock's length names, once they match its checksum.
fn verified(slot_bytes: &[u8]) -> Result<&[u8]> {
    let length = Superblock::encoded_len(slot_bytes)?;
    let bytes = Reader::new("superblock", slot_bytes).bytes("length", length)?;
    let mut reader = Reader::new("superblock", bytes);
    reader.array::<8>("magic")?;
    let crc = reader.u64("checksum")?;
    match crc64_around(bytes, CRC_AT) == crc {
        true => Ok(bytes),
        false => Err(reader.corrupt("checksum", "the superblock is damaged or torn")),
    }
}

/// The features of a superblock whose format is understood here.
fn understood(bytes: &[u8]) -> Result<Features> {
    let mut reader = Reader::new("superblock", bytes);
    reader.array::<16>("magic and checksum")?;
    let (major, minor) = (reader.u16("major version")?, reader.u16("minor version")?);
    reader.array::<4>("length")?;
    let features = Features {
        incompat: reader.u64("incompatible features")?,
        ro_compat: reader.u64("read-only compatible features")?,
        compat: reader.u64("compatible features")?,
    };
    if major != MAJOR {
        let text = format!("format {major}.{minor}: this version of paritas reads format {MAJOR} only");
        return Err(Error::new(Kind::Refused, text));
    }
    let unknown = features.incompat & !Features::INCOMPAT;
    if unknown != 0 {
        let bits: Vec<String> =
            (0..64).filter(|bit| unknown >> bit & 1 == 1).map(|bit| bit.to_string()).collect();
        let text =
            format!("the array needs feature bit {}, which this version does not know", bits.join(", "));
        return Err(Error::new(Kind::Refused, text));
    }
    Ok(features)
}

/// A counted list. Nothing is allocated before the count is in bounds.
fn list<T>(
    reader: &mut Reader<'_>,
    field: &str,
    len: u16,
    max: usize,
    take: fn(&mut Reader<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    match usize::from(len) {
        len if len <= max => (0..len).map(|_| take(reader)).collect(),
        len => Err(reader.corrupt(field, format_args!("{len}, at most {max} allowed"))),
    }
}
