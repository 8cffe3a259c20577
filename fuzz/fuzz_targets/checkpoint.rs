//! What a superblock's roots lead to: pages, rows of the segment and volume tables, damage, pointers. Hostile bytes
//! are refused, or read as something that is written as it was read; whole hostile trees give an error or one answer,
//! however one asks.
#![no_main]

use libfuzzer_sys::arbitrary::{Result as Drawn, Unstructured};
use libfuzzer_sys::fuzz_target;
use paritas::error::{Error, Result};
use paritas::format::page::{Key, Page, TreeId, Value};
use paritas::format::superblock::Root;
use paritas::format::tables::{DamageRecord, SegmentRecord, VolumeRecord};
use paritas::map::{PageSource, Tree};
use paritas::types::{BLOCK, Column, Lba, Place, Pointer, Row, SegmentId, VolumeId};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let mut input = Unstructured::new(bytes);
    match kind % 6 {
        0 => page(bytes),
        1 => rows(entries(&mut input), SegmentRecord::from_entries, SegmentRecord::entries),
        2 => rows(entries(&mut input), VolumeRecord::from_entries, VolumeRecord::entries),
        3 => rows(entries(&mut input), |all| DamageRecord::from_entry(&all[0]), |one| vec![one.entry()]),
        4 => {
            let value = input.arbitrary().unwrap_or_default();
            if let Ok(pointer) = Pointer::from_value(&value) {
                assert_eq!(pointer.to_value(), value);
            }
        }
        _ => {
            if let Ok(forest) = Forest::draw(&mut input) {
                forest.walk();
            }
        }
    }
});

fn page(bytes: &[u8]) {
    let _ = Page::decode(bytes);
    // Behind length and magic begins what is worth fuzzing.
    let mut block = bytes.to_vec();
    block.resize(BLOCK, 0);
    block[..4].copy_from_slice(b"PTpg");
    if let Ok(page) = Page::decode(&block) {
        assert_eq!(page.encode(), block, "what was accepted is what would be written");
    }
}

/// Entries of one row, or nearly so.
fn entries(input: &mut Unstructured) -> Vec<(Key, Value)> {
    let first = Key(input.arbitrary().unwrap_or_default(), input.arbitrary().unwrap_or_default());
    let mut entries = vec![(first, input.arbitrary().unwrap_or_default())];
    while !input.is_empty() && entries.len() < 300 {
        let step: u8 = input.arbitrary().unwrap_or_default();
        let Key(id, field) = entries.last().expect("there is one").0;
        let key = match step {
            0 => Key(id, input.arbitrary().unwrap_or_default()),
            255 => Key(id.wrapping_add(1), field),
            _ => Key(id, field.wrapping_add(step.into())),
        };
        entries.push((key, input.arbitrary().unwrap_or_default()));
    }
    entries
}

fn rows<T>(
    entries: Vec<(Key, Value)>,
    from: impl Fn(&[(Key, Value)]) -> Result<T>,
    to: impl Fn(&T) -> Vec<(Key, Value)>,
) {
    if let Ok(row) = from(&entries) {
        let again = to(&row);
        assert_eq!(again, entries[..again.len()], "what was accepted is what would be written");
    }
}

/// Pages that point to each other somehow.
struct Forest {
    pages: Vec<Arc<Page>>,
    id: TreeId,
    root: Root,
    fanout: usize,
}

impl PageSource for Forest {
    async fn load(&self, _: TreeId, _: u8, pointer: Pointer) -> Result<Arc<Page>> {
        let at = usize::try_from(pointer.place.segment.0).ok();
        at.and_then(|at| self.pages.get(at)).cloned().ok_or_else(|| Error::io("no page"))
    }
}

fn pointer(page: u8) -> Pointer {
    let place = Place { segment: SegmentId(page.into()), row: Row(1), column: Column(0) };
    Pointer { place, back: 1, crc: 0 }
}

impl Forest {
    fn draw(input: &mut Unstructured) -> Drawn<Forest> {
        let map = TreeId::Map(VolumeId(1));
        let id = if input.ratio(3, 4)? { map } else { TreeId::Damage };
        let fanout = input.int_in_range(4..=8)?;
        let root = Root { pointer: pointer(0), level: input.int_in_range(0..=4)? };
        let mut pages = Vec::new();
        while !input.is_empty() && pages.len() < 32 {
            let level = input.arbitrary::<u8>()? % 4;
            let low = Key(input.arbitrary::<u8>()?.into(), 0);
            let high = input.arbitrary::<Option<u8>>()?.map(|high| Key(high.into(), 0));
            let mut entries = Vec::new();
            let mut key = low;
            for _ in 0..input.int_in_range(0..=9)? {
                let step: u8 = input.arbitrary()?;
                entries.push((key, pointer(input.arbitrary()?).to_value()));
                key = Key(key.0.wrapping_add((step & 31).into()), u64::from(step >> 5));
            }
            let tree = if input.ratio(1, 64)? { TreeId::Volumes } else { id };
            pages.push(Arc::new(Page { tree, level, generation: 1, low, high, entries }));
        }
        Ok(Forest { pages, id, root, fanout })
    }

    fn walk(&self) {
        let tree = Tree::new(self, self.id, Some(self.root)).with_fanout(self.fanout);
        let mut leaves = BTreeMap::new();
        let checked = block_on(tree.check(&mut |page, _| {
            if page.level == 0 {
                leaves.extend(page.entries.iter().copied());
            }
        }));
        let everything = (Key::default(), Key(u64::MAX, u64::MAX));
        let scanned = block_on(tree.scan(everything.0, everything.1, usize::MAX));
        let seen = leaves.len();
        let Ok(()) = checked else {
            // A scan does not mind pages that are not full enough.
            if let Ok(scanned) = scanned {
                let begins = leaves.into_iter().eq(scanned.entries.iter().copied().take(seen));
                assert!(begins, "a scan sees what a check saw before it gave up");
            }
            return;
        };
        let scanned = scanned.expect("a sound tree");
        assert!(scanned.entries.iter().copied().eq(leaves.clone()) && scanned.next.is_none());
        for (key, value) in leaves.clone() {
            assert_eq!(block_on(tree.get(key)).expect("sound"), Some(value));
            assert_eq!(block_on(tree.last_at_or_before(key)).expect("sound"), Some((key, value)));
            let beside = Key(key.0, key.1 + 1);
            assert_eq!(block_on(tree.get(beside)).expect("sound"), leaves.get(&beside).copied());
            if let TreeId::Map(_) = self.id {
                let newest = block_on(tree.newest(Lba(key.0))).expect("sound").expect("there");
                assert_eq!((newest.0.0, newest.1.to_value()), (key.1, value));
            }
        }
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("pages in memory are never waited for"),
    }
}
