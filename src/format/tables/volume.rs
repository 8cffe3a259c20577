//! Volume table: keys (volume, field). Small fields come first, then the name in pieces, then the tombstones.

use crate::error::{Error, Result};
use crate::format::page::{Key, LEVELS_MAX, VOLUME_IDS_END, Value};
use crate::format::superblock::Root;
use crate::format::tables::{Tombstone, VolumeRecord};
use crate::format::wire::{Check, Reader, Writer, count, ensure};
use crate::limits::{NAME_BYTES_MAX, TOMBSTONE_LAST, VOLUME_BLOCKS_MAX};
use crate::types::{Lba, Number, Pointer, VolumeId};

/// {number, blocks}
const HISTORY: u64 = 0;
/// {scheme, flags, level of the root, length of the name, used}
const SHAPE: u64 = 1;
/// The pointer to the map's top page, if there is one.
const ROOT: u64 = 2;
/// The first piece of the name.
const NAME: u64 = 16;
/// Plus the number of the trim: a tombstone {lba, blocks}.
const TOMBSTONE: u64 = TOMBSTONE_LAST.0 + 1;

const _: () = assert!(TOMBSTONE.is_power_of_two());

const DELETED: u8 = 1;
const ROOTED: u8 = 2;

const PIECE_BYTES: usize = 16;

impl VolumeRecord {
    /// The largest key that the volume's row can have.
    pub fn last_key(id: VolumeId) -> Key {
        Key(id.0.into(), TOMBSTONE | (TOMBSTONE - 1))
    }

    /// The row as entries, in the order of their keys.
    ///
    /// # Panics
    ///
    /// If it breaks a rule that [`VolumeRecord::from_entries`] verifies.
    pub fn entries(&self) -> Vec<(Key, Value)> {
        if let Err(broken) = self.check() {
            panic!("volume {}: {broken}", self.id);
        }
        let mut fields = vec![(HISTORY, pair(self.number.0, self.blocks)), (SHAPE, self.shape())];
        fields.extend(self.root.map(|root| (ROOT, root.pointer.to_value())));
        fields.extend((NAME..).zip(self.name.as_bytes().chunks(PIECE_BYTES).map(piece)));
        let tombstone = |t: &Tombstone| (TOMBSTONE | t.number.0, pair(t.lba.0, t.blocks));
        fields.extend(self.tombstones.iter().map(tombstone));
        fields.into_iter().map(|(field, value)| (Key(self.id.0.into(), field), value)).collect()
    }

    fn shape(&self) -> Value {
        let mut writer = Writer::with_capacity(16);
        writer.scheme(self.scheme);
        let deleted = if self.deleted { DELETED } else { 0 };
        writer.u8(deleted | if self.root.is_some() { ROOTED } else { 0 });
        writer.u8(self.root.map_or(0, |root| root.level));
        writer.u8(count(self.name.len()));
        writer.zeros(3);
        writer.u64(self.used);
        piece(&writer.into_bytes())
    }

    /// The row that these entries are: all whose key begins with the volume, in order.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::Corrupt`] if they are no row.
    pub fn from_entries(entries: &[(Key, Value)]) -> Result<VolumeRecord> {
        let &[(Key(id, _), _), ..] = entries else {
            return Err(Error::corrupt("volume table: a row without entries"));
        };
        let corrupt = |what: &str| Error::corrupt(format!("volume {id}: {what}"));
        if entries.iter().any(|entry| entry.0.0 != id) {
            return Err(corrupt("an entry of another volume"));
        }
        let id = VolumeId(u32::try_from(id).map_err(|_| corrupt("no volume has this number"))?);
        let mut fields = Fields { entries, id };

        let (number, blocks) = halves(&fields.expect(HISTORY)?);
        let shape = fields.expect(SHAPE)?;
        let mut reader = Reader::new("volume", &shape);
        let scheme = reader.scheme("scheme")?;
        let flags = reader.u8("flags")?;
        let level = reader.u8("root level")?;
        let name_bytes = usize::from(reader.u8("name length")?);
        reader.zeros(3)?;
        let used = reader.u64("used blocks")?;
        if flags & !(DELETED | ROOTED) != 0 || flags & ROOTED == 0 && level != 0 {
            return Err(reader.corrupt("flags", format_args!("{flags:#x}, root level {level}")));
        }
        let root = match flags & ROOTED {
            0 => None,
            _ => Some(Root { pointer: Pointer::from_value(&fields.expect(ROOT)?)?, level }),
        };
        let name = fields.name(name_bytes)?;
        let tombstones = fields.tombstones()?;

        let deleted = flags & DELETED != 0;
        let number = Number(number);
        let record = VolumeRecord { id, name, scheme, blocks, number, used, root, deleted, tombstones };
        record.check().map_err(|broken| corrupt(&broken))?;
        Ok(record)
    }

    fn check(&self) -> Check {
        ensure((1..VOLUME_IDS_END).contains(&self.id.0), "volume numbers are between 1 and 2^31 - 16")?;
        ensure(self.name.len() <= NAME_BYTES_MAX, "a volume's name is at most 240 bytes long")?;
        ensure(self.number < TOMBSTONE_LAST, "histories end before number 2^56 - 1")?;
        ensure(self.blocks <= VOLUME_BLOCKS_MAX, "a volume has at most 2^51 blocks")?;
        ensure(self.root.is_none_or(|root| root.level < LEVELS_MAX), "a tree has at most 16 levels")?;
        ensure(
            self.tombstones.is_sorted_by(|a, b| a.number < b.number),
            "tombstones are in the order of their numbers",
        )?;
        for tombstone in &self.tombstones {
            ensure(tombstone.number <= TOMBSTONE_LAST, "the numbers of tombstones are below 2^56")?;
            let end = tombstone.lba.0.checked_add(tombstone.blocks);
            ensure(end.is_some_and(|end| end <= VOLUME_BLOCKS_MAX), "a tombstone ends below 2^51 blocks")?;
        }
        Ok(())
    }
}

/// The entries of a row that are not read yet.
struct Fields<'a> {
    entries: &'a [(Key, Value)],
    id: VolumeId,
}

impl Fields<'_> {
    fn expect(&mut self, field: u64) -> Result<Value> {
        match self.entries.split_first() {
            Some(((key, value), rest)) if key.1 == field => {
                self.entries = rest;
                Ok(*value)
            }
            _ => Err(Error::corrupt(format!("volume {}: no entry for field {field}", self.id))),
        }
    }

    fn name(&mut self, len: usize) -> Result<String> {
        let mut bytes = Vec::with_capacity(len.next_multiple_of(PIECE_BYTES));
        for field in (NAME..).take(len.div_ceil(PIECE_BYTES)) {
            bytes.extend_from_slice(&self.expect(field)?);
        }
        let mut reader = Reader::new("volume", &bytes);
        let name = reader.text("name", len, NAME_BYTES_MAX)?;
        reader.zeros_to_end()?;
        Ok(name)
    }

    fn tombstones(&self) -> Result<Vec<Tombstone>> {
        let tombstone = |(key, value): &(Key, Value)| {
            let number = Number(key.1.checked_sub(TOMBSTONE).ok_or_else(|| {
                Error::corrupt(format!("volume {}: no field has the number {}", self.id, key.1))
            })?);
            let (lba, blocks) = halves(value);
            Ok(Tombstone { number, lba: Lba(lba), blocks })
        };
        self.entries.iter().map(tombstone).collect()
    }
}

fn pair(first: u64, second: u64) -> Value {
    (u128::from(first) | u128::from(second) << 64).to_le_bytes()
}

fn halves(value: &Value) -> (u64, u64) {
    let (first, second) = value.split_at(8);
    let number = |half: &[u8]| u64::from_le_bytes(half.try_into().expect("half of sixteen bytes"));
    (number(first), number(second))
}

fn piece(bytes: &[u8]) -> Value {
    let mut value = Value::default();
    value[..bytes.len()].copy_from_slice(bytes);
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Column, Place, Row, Scheme, SegmentId};

    fn volume() -> VolumeRecord {
        let place = Place { segment: SegmentId(5), row: Row(6), column: Column(7) };
        let tombstone = |number| Tombstone { number: Number(number), lba: Lba(3), blocks: 4 };
        VolumeRecord {
            id: VolumeId(9),
            name: "a name of 18 bytes".to_owned(),
            scheme: Scheme::new(8, 2).expect("sound"),
            blocks: 0x0201,
            number: Number(0x0403),
            used: 0x0605,
            root: Some(Root { pointer: Pointer { place, back: 1, crc: 8 }, level: 2 }),
            deleted: true,
            tombstones: vec![tombstone(1), tombstone((1 << 56) - 1)],
        }
    }

    #[test]
    fn a_row_is_one_entry_per_field() {
        let entries = volume().entries();
        assert_eq!(entries[0], (Key(9, 0), [3, 4, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0]));
        assert_eq!(entries[1], (Key(9, 1), [8, 2, 3, 2, 18, 0, 0, 0, 5, 6, 0, 0, 0, 0, 0, 0]));
        assert_eq!(entries[2].0, Key(9, 2));
        assert_eq!(entries[3], (Key(9, 16), *b"a name of 18 byt"));
        assert_eq!(entries[4], (Key(9, 17), *b"es\0\0\0\0\0\0\0\0\0\0\0\0\0\0"));
        assert_eq!(entries[5], (Key(9, (1 << 56) + 1), [3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(entries[6].0, VolumeRecord::last_key(VolumeId(9)));
        assert_eq!(entries.len(), 7);
        assert!(entries.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let longest = VolumeRecord { name: "x".repeat(240), ..volume() };
        let plain =
            VolumeRecord { name: String::new(), root: None, deleted: false, tombstones: vec![], ..volume() };
        assert_eq!(plain.entries().len(), 2);
        for record in [volume(), longest, plain] {
            assert_eq!(VolumeRecord::from_entries(&record.entries()).expect("sound"), record);
        }
    }

    #[test]
    fn a_row_with_missing_or_foreign_entries_is_corrupt() {
        let entries = volume().entries();
        for missing in 0..5 {
            let mut broken = entries.clone();
            broken.remove(missing);
            assert!(VolumeRecord::from_entries(&broken).is_err(), "{missing}");
            let mut broken = entries.clone();
            broken[missing].0.0 = 8;
            assert!(VolumeRecord::from_entries(&broken).is_err(), "{missing}");
        }
        for field in [3, 15, 18, (1 << 56) - 1] {
            let mut broken = entries.clone();
            broken.insert(5, (Key(9, field), [0; 16]));
            assert!(VolumeRecord::from_entries(&broken).is_err(), "{field}");
        }
        assert!(VolumeRecord::from_entries(&[]).is_err());
    }

    #[test]
    fn values_out_of_bounds_are_corrupt() {
        let entries = volume().entries();
        let bytes = [
            (0, 7, 1),
            (0, 14, 9),
            (1, 0, 0),
            (1, 2, 7),
            (1, 2, 1),
            (1, 3, 16),
            (1, 4, 16),
            (1, 4, 255),
            (1, 5, 1),
        ];
        for (entry, at, value) in bytes.into_iter().chain([(2, 11, 0), (4, 2, 1), (4, 0, 0xFF), (5, 7, 1)]) {
            let mut broken = entries.clone();
            assert_ne!(broken[entry].1[at], value);
            broken[entry].1[at] = value;
            assert!(VolumeRecord::from_entries(&broken).is_err(), "entry {entry} byte {at}");
        }
        let mut swapped = entries;
        swapped.swap(5, 6);
        assert!(VolumeRecord::from_entries(&swapped).is_err());
    }

    #[test]
    fn volumes_and_tombstones_with_impossible_numbers_are_corrupt() {
        let with = |change: fn(&mut Key)| {
            let mut entries = volume().entries();
            entries.iter_mut().for_each(|(key, _)| change(key));
            VolumeRecord::from_entries(&entries).is_ok()
        };
        assert!(with(|key| key.0 = 1) && with(|key| key.0 = u64::from(VOLUME_IDS_END) - 1));
        assert!(!with(|key| key.0 = 0));
        assert!(!with(|key| key.0 = VOLUME_IDS_END.into()));
        assert!(!with(|key| key.0 = (1 << 32) + 1));
        assert!(!with(|key| key.1 += if key.1 == 2 * TOMBSTONE - 1 { 1 } else { 0 }));
    }

    #[test]
    #[should_panic(expected = "at most 240 bytes")]
    fn a_name_too_long_is_not_written() {
        VolumeRecord { name: "x".repeat(241), ..volume() }.entries();
    }

    #[test]
    #[should_panic(expected = "in the order of their numbers")]
    fn tombstones_out_of_order_are_not_written() {
        let mut record = volume();
        record.tombstones.reverse();
        record.entries();
    }
}
