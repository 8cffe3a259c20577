//! Random sound values from a small deterministic generator.

use paritas::format::page::{Key, PAGE_ENTRIES, Page, TreeId};
use paritas::format::record::{Change, Entry, Interval, Owner, Plan, Record};
use paritas::format::superblock::{
    Checkpoint, ChunkAddress, Event, EventKind, EventLog, Features, Job, JobKind, MemberRecord, MemberState,
    PastEpoch, Root, Superblock,
};
use paritas::format::tables::{
    ColumnState, DamageCause, DamageRecord, SegmentRecord, Tombstone, VolumeRecord,
};
use paritas::limits::{TOMBSTONE_LAST, VOLUME_BLOCKS_MAX};
use paritas::types::{
    Chunk, Column, Epoch, Lba, Nonce, Number, Place, Pointer, Row, Scheme, SegmentId, Sequence, Slot, Uuid,
    VolumeId,
};

/// xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Below `end`, which is at least 1.
    pub(crate) fn below<T: TryFrom<u64> + Into<u64>>(&mut self, end: T) -> T {
        T::try_from(self.u64() % end.into()).unwrap_or_else(|_| unreachable!("below a value of the type"))
    }

    pub(crate) fn index(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("a length");
        usize::try_from(self.below(end)).expect("below a length")
    }

    pub(crate) fn bool(&mut self) -> bool {
        self.u64() & 1 == 0
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.below(255) + self.below(2))
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill_with(|| self.bytes::<1>()[0]);
    }

    /// At most `max` of them, few more often than many.
    fn list<T>(&mut self, max: usize, mut make: impl FnMut(&mut Random, u64) -> T) -> Vec<T> {
        let end = if self.bool() { max } else { max.min(3) };
        let len = self.index(end + 1);
        (0..).take(len).map(|i| make(self, i)).collect()
    }

    fn text(&mut self, max: usize) -> String {
        let wide = self.bool();
        let max = if wide { max / 2 } else { max };
        self.list(max, |random, _| if wide { '\u{df}' } else { char::from(b'a' + random.below(26u8)) })
            .iter()
            .collect()
    }

    pub(crate) fn scheme(&mut self) -> Scheme {
        let end = if self.bool() { 255 } else { 12 };
        let k = 1 + self.below::<u8>(end);
        let m = self.below(end.min(255 - k) + 1);
        Scheme::new(k, m).expect("at most 255 columns")
    }

    fn chunk(&mut self) -> Chunk {
        Chunk(self.below(1 << 20))
    }

    fn volume_id(&mut self) -> VolumeId {
        VolumeId(1 + self.below(0x7FFF_FFEF))
    }

    fn lba(&mut self) -> Lba {
        Lba(self.below(VOLUME_BLOCKS_MAX))
    }

    fn number(&mut self) -> Number {
        Number(1 + self.below(TOMBSTONE_LAST.0 - 1))
    }

    fn place(&mut self) -> Place {
        let row = Row(self.below(1 << 15));
        Place { segment: SegmentId(self.u64()), row, column: Column(self.below(255)) }
    }

    pub(crate) fn pointer(&mut self) -> Pointer {
        let mut place = self.place();
        let back = 1 + self.below(255u8);
        place.row.0 = place.row.0.max(back.into());
        Pointer { place, back, crc: self.below(u32::MAX) }
    }

    fn root(&mut self) -> Option<Root> {
        self.bool().then(|| Root { pointer: self.pointer(), level: self.below(16) })
    }

    fn member(&mut self, epoch: Epoch) -> MemberRecord {
        use MemberState::{Active, Failed, Leaving, Out, Removed, Spare};
        MemberRecord {
            uuid: Uuid(self.bytes()),
            state: [Active, Out, Failed, Removed, Spare, Leaving][self.index(6)],
            since: Epoch(self.below(epoch.0 + 1)),
            chunks: self.below(4112),
            errors: [self.below(9), 0, self.below(u32::MAX), 1],
            path: self.text(255),
            label: self.text(32),
        }
    }

    fn jobs(&mut self) -> Vec<Job> {
        let kinds = [JobKind::Rebuild, JobKind::Scrub].into_iter();
        let drawn: Vec<JobKind> = kinds.filter(|_| self.bool()).collect();
        drawn
            .into_iter()
            .map(|kind| Job { kind, done: self.u64(), total: self.u64(), next: SegmentId(self.u64()) })
            .collect()
    }

    fn event(&mut self) -> Event {
        let kinds: Vec<EventKind> = EventKind::all().chain([EventKind::Later(99)]).collect();
        Event {
            kind: kinds[self.index(kinds.len())],
            time: self.u64(),
            lasted: self.below(u32::MAX),
            count: 1 + self.below(u32::MAX),
            amount: self.u64(),
            slot: self.bool().then(|| Slot(self.below(255u8))),
            volume: self.bool().then(|| VolumeId(1 + self.below(u32::MAX))),
            text: self.text(255),
        }
    }

    /// At most 57 events of at most 287 bytes: all fit.
    fn events(&mut self) -> EventLog {
        let events = self.list(57, |random, _| random.event());
        EventLog::of(events.len() as u64 + 1 + self.below(1u64 << 40), events)
    }

    pub(crate) fn superblock(&mut self) -> Superblock {
        let epoch = Epoch(100 + self.below(1u64 << 62));
        let mut members = self.list(254, |random, _| random.member(epoch));
        members.push(self.member(epoch));
        let slots = u8::try_from(members.len()).expect("at most 255");
        let chunk_blocks = 8 + self.below((1u32 << 15) - 7);
        Superblock {
            features: Features { incompat: 0, ro_compat: self.u64(), compat: self.u64() },
            array: Uuid(self.bytes()),
            name: self.text(240),
            slot: Slot(self.below(slots)),
            chunk_blocks,
            default_scheme: self.scheme(),
            meta_scheme: self.scheme(),
            epoch,
            nonce: Nonce(self.u64()),
            commit: self.u64(),
            history: self
                .list(32, |random, i| PastEpoch { epoch: Epoch(99 - i), nonce: Nonce(random.u64()) }),
            members,
            jobs: self.jobs(),
            scrubbed: self.below(1 << 15),
            events: self.events(),
            checkpoint: Checkpoint {
                generation: self.u64(),
                nonce: Nonce(self.u64()),
                next_segment: SegmentId(self.u64()),
                next_sequence: Sequence(self.u64()),
                next_volume: 1 + self.below(0x7FFF_FFF0),
                segments: self.root(),
                volumes: self.root(),
                damage: self.root(),
                boot: self.boot(slots, chunk_blocks),
                runway: self.list(2048, |random, _| random.address(slots)),
            },
        }
    }

    /// At most 64 segments of at most 16 columns: 1024 in all.
    fn boot(&mut self, slots: u8, chunk_blocks: u32) -> Vec<SegmentRecord> {
        let rows = u16::try_from(chunk_blocks).expect("at most 2^15");
        let width = 1 + self.below(slots.min(16));
        let scheme = Scheme::new(1, width - 1).expect("at most 16 columns");
        self.list(64, |random, i| SegmentRecord {
            id: SegmentId((i << 56) + random.below(1u64 << 56)),
            scheme,
            sealed: random.bool(),
            rows: Row(random.below(rows + 1)),
            live: random.below(9),
            columns: random.states(width, slots),
        })
    }

    fn address(&mut self, slots: u8) -> ChunkAddress {
        ChunkAddress { slot: Slot(self.below(slots)), chunk: self.chunk() }
    }

    /// Chunks on `width` different members of `slots`, at most `absent` of them missing.
    fn columns(&mut self, width: u8, absent: u8, slots: u8) -> Vec<Option<ChunkAddress>> {
        let first = self.below(slots);
        let mut left = absent;
        let mut column = |i: u8| {
            let lost = left > 0 && self.below(8u8) == 0;
            left -= u8::from(lost);
            let slot = u8::try_from((u16::from(first) + u16::from(i)) % u16::from(slots)).expect("below 255");
            (!lost).then(|| ChunkAddress { slot: Slot(slot), chunk: self.chunk() })
        };
        (0..width).map(&mut column).collect()
    }

    fn states(&mut self, width: u8, slots: u8) -> Vec<ColumnState> {
        let columns = self.columns(width, 255, slots);
        let mut state = |column: Option<ChunkAddress>| match column {
            Some(at) if self.bool() => ColumnState::Partial(at),
            Some(at) => ColumnState::Complete(at),
            None => ColumnState::Absent,
        };
        columns.into_iter().map(&mut state).collect()
    }

    fn change(&mut self) -> Change {
        let (volume, number, lba) = (self.volume_id(), self.number(), self.lba());
        let blocks = self.below(VOLUME_BLOCKS_MAX - lba.0 + 1);
        match self.bool() {
            true => Change::Trim { volume, number, lba, blocks },
            false => Change::Resize { volume, number, blocks },
        }
    }

    fn entry(&mut self) -> Entry {
        let (volume, lba, birth) = (self.volume_id(), self.lba(), self.number());
        let trees = [TreeId::Map(volume), TreeId::Segments, TreeId::Volumes, TreeId::Damage];
        let owner = match self.below(8u8) {
            0 => return Entry { owner: Owner::Fill, crc: 0 },
            1 => Owner::Page {
                tree: trees[self.index(4)].number(),
                level: self.below(16),
                low: self.u64(),
                generation: self.u64(),
            },
            2 => Owner::Moved { volume, lba, birth, from: self.place() },
            _ => Owner::Data { volume, lba, birth },
        };
        Entry { owner, crc: self.below(u32::MAX) }
    }

    pub(crate) fn record(&mut self) -> Record {
        let scheme = self.scheme();
        let intervals = self.list(40, |random, i| {
            let after = random.below(TOMBSTONE_LAST.0 - 9);
            let through = Number(after + random.below(9u64));
            let volume = VolumeId(1 + u32::try_from(i).expect("few") * 50_000_000);
            Interval {
                volume,
                after: Number(after),
                through,
                durable: Number(random.below((1u64 << 56) - 1)),
            }
        });
        let changes = self.list(20, |random, _| random.change());
        let preamble = Record::preamble_bytes(&intervals, &changes);
        let Some(plan) = Plan::for_room(scheme, 1 + self.below(256u32), preamble) else {
            return self.record();
        };
        let mut entries = vec![Entry { owner: Owner::Description, crc: 0 }; plan.description_blocks];
        entries.extend((0..plan.blocks).map(|_| self.entry()));
        let chunk_blocks = 256 + self.below((1u32 << 15) - 255);
        let last = u16::try_from(chunk_blocks - u32::from(plan.rows)).expect("at most 2^15");
        let sequence = self.u64() / 2;
        let final_record = !intervals.is_empty() || !changes.is_empty() || self.bool();
        let after = if final_record { 0 } else { self.below(9u64) };
        Record {
            array: Uuid(self.bytes()),
            chunk_blocks,
            segment: SegmentId(self.u64()),
            scheme,
            columns: self.columns(scheme.width(), scheme.m(), 255),
            row: Row(self.below(last)),
            rows: plan.rows,
            description_rows: plan.description_rows,
            epoch: Epoch(self.u64()),
            nonce: Nonce(self.u64()),
            sequence: Sequence(sequence),
            group: (Sequence(self.below(sequence + 1)), Sequence(sequence + after)),
            intervals,
            changes,
            entries,
            witnesses: (0..u32::from(plan.rows) * u32::from(scheme.width())).map(|_| self.u64()).collect(),
        }
    }

    pub(crate) fn page(&mut self) -> Page {
        let low = self.u64() / 4;
        let mut key = Key(low, self.u64() / 2);
        let low = key;
        let level = self.below(16);
        let mut entries = self.list(PAGE_ENTRIES, |random, i| {
            if i > 0 || level == 0 {
                key = if random.bool() {
                    Key(key.0, key.1 + 1)
                } else {
                    Key(key.0 + 1 + random.below(9u64), 0)
                };
            }
            (key, random.bytes())
        });
        if level > 0 && entries.is_empty() {
            entries.push((low, self.bytes()));
        }
        let high = self.bool().then(|| Key(key.0, key.1 + 1));
        let trees = [TreeId::Map(self.volume_id()), TreeId::Segments, TreeId::Volumes, TreeId::Damage];
        Page { tree: trees[self.index(4)], level, generation: self.u64(), low, high, entries }
    }

    pub(crate) fn segment(&mut self) -> SegmentRecord {
        let scheme = self.scheme();
        SegmentRecord {
            id: SegmentId(self.u64()),
            scheme,
            sealed: self.bool(),
            rows: Row(self.below((1 << 15) + 1)),
            live: self.below(1 << 15),
            columns: self.states(scheme.width(), 255),
        }
    }

    pub(crate) fn volume(&mut self) -> VolumeRecord {
        let first = self.below(1u64 << 55);
        VolumeRecord {
            id: self.volume_id(),
            name: self.text(240),
            scheme: self.scheme(),
            blocks: self.below(VOLUME_BLOCKS_MAX + 1),
            number: self.number(),
            used: self.u64(),
            root: self.root(),
            deleted: self.bool(),
            tombstones: self.list(50, |random, i| {
                let lba = random.lba();
                let blocks = random.below(VOLUME_BLOCKS_MAX - lba.0 + 1);
                Tombstone { number: Number(first + i * 7), lba, blocks }
            }),
        }
    }

    pub(crate) fn damage(&mut self) -> DamageRecord {
        let cause = [DamageCause::BeyondTolerance, DamageCause::LostRecords][self.index(2)];
        let lba = Lba(self.below(VOLUME_BLOCKS_MAX - (1 << 32)));
        DamageRecord { volume: self.volume_id(), lba, blocks: self.below(u32::MAX), cause, time: self.u64() }
    }
}
