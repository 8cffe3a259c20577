//! Damage list: one entry per range, key (volume, address). An address is an LBA, or 2^63 plus the number of
//! the first lost write: the two kinds of damage cannot take each other's key.

use crate::error::{Error, Result};
use crate::format::page::{Key, VOLUME_IDS_END, Value};
use crate::format::tables::{DamageCause, DamageRecord};
use crate::format::wire::{Check, Reader, Writer, ensure};
use crate::limits::VOLUME_BLOCKS_MAX;
use crate::types::{Lba, VolumeId};

const NUMBERS: u64 = 1 << 63;

impl DamageRecord {
    /// The smallest key of the volume's damage.
    pub fn first_key(volume: VolumeId) -> Key {
        Key(volume.0.into(), 0)
    }

    /// The largest key that the volume's damage can have.
    pub fn last_key(volume: VolumeId) -> Key {
        Key(volume.0.into(), u64::MAX)
    }

    /// The key of the damage that begins here.
    pub fn key(&self) -> Key {
        let kind = match self.cause {
            DamageCause::BeyondTolerance => 0,
            DamageCause::LostRecords => NUMBERS,
        };
        Key(self.volume.0.into(), kind | self.lba.0)
    }

    /// The range as an entry.
    ///
    /// # Panics
    ///
    /// If it breaks a rule that [`DamageRecord::from_entry`] verifies.
    pub fn entry(&self) -> (Key, Value) {
        if let Err(broken) = self.check() {
            panic!("damage of volume {}: {broken}", self.volume);
        }
        let mut writer = Writer::with_capacity(16);
        writer.u32(self.blocks);
        writer.zeros(4);
        writer.u64(self.time);
        let mut value = Value::default();
        value.copy_from_slice(&writer.into_bytes());
        (self.key(), value)
    }

    /// The range that an entry is.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::Corrupt`] if it is none.
    pub fn from_entry(entry: &(Key, Value)) -> Result<DamageRecord> {
        let (Key(volume, address), value) = entry;
        let volume = u32::try_from(*volume)
            .map_err(|_| Error::corrupt(format!("damage list: no volume has the number {volume}")))?;
        let cause = match address & NUMBERS {
            0 => DamageCause::BeyondTolerance,
            _ => DamageCause::LostRecords,
        };
        let mut reader = Reader::new("damage", value);
        let blocks = reader.u32("blocks")?;
        reader.zeros(4)?;
        let time = reader.u64("time")?;
        let lba = Lba(address & !NUMBERS);
        let record = DamageRecord { volume: VolumeId(volume), lba, blocks, cause, time };
        record.check().map_err(|broken| reader.corrupt("damage", broken))?;
        Ok(record)
    }

    fn check(&self) -> Check {
        ensure((1..VOLUME_IDS_END).contains(&self.volume.0), "volume numbers are between 1 and 2^31 - 16")?;
        let end = self.lba.0.checked_add(self.blocks.into());
        match self.cause {
            DamageCause::BeyondTolerance => {
                ensure(end.is_some_and(|end| end <= VOLUME_BLOCKS_MAX), "damage ends below 2^51 blocks")
            }
            DamageCause::LostRecords => {
                ensure(end.is_some_and(|end| end <= NUMBERS), "the numbers of a history are below 2^63")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage(cause: DamageCause) -> DamageRecord {
        DamageRecord { volume: VolumeId(9), lba: Lba(0x0102), blocks: 0x0304, cause, time: 0x0506 }
    }

    #[test]
    fn ranges_come_back_as_they_were() {
        let (key, value) = damage(DamageCause::BeyondTolerance).entry();
        assert_eq!((key, value), (Key(9, 0x0102), [4, 3, 0, 0, 0, 0, 0, 0, 6, 5, 0, 0, 0, 0, 0, 0]));
        for record in [damage(DamageCause::BeyondTolerance), damage(DamageCause::LostRecords)] {
            assert_eq!(DamageRecord::from_entry(&record.entry()).expect("sound"), record);
            assert!(
                (DamageRecord::first_key(record.volume)..=DamageRecord::last_key(record.volume))
                    .contains(&record.key())
            );
        }
    }

    #[test]
    fn lost_records_do_not_take_the_key_of_lost_blocks() {
        assert_ne!(damage(DamageCause::LostRecords).key(), damage(DamageCause::BeyondTolerance).key());
    }

    #[test]
    fn values_out_of_bounds_are_corrupt() {
        let (key, value) = damage(DamageCause::BeyondTolerance).entry();
        let mut reserved = value;
        reserved[4] = 1;
        for entry in [
            (key, reserved),
            (Key(0, key.1), value),
            (Key(1 << 32, key.1), value),
            (Key(VOLUME_IDS_END.into(), key.1), value),
            (Key(9, VOLUME_BLOCKS_MAX - 1), value),
            (Key(9, u64::MAX), value),
        ] {
            assert!(DamageRecord::from_entry(&entry).is_err(), "{entry:?}");
        }
    }
}
