//! A program of writes, trims, moves, checkpoints and crashes on an overlay above a map, against a plain `BTreeMap`.
//! After every step lookups agree; after every checkpoint the tree holds exactly what it should, its pages are exactly
//! those that were written and not retired, and every pointer that went was named once.
#![no_main]

use libfuzzer_sys::arbitrary::{Result as Drawn, Unstructured};
use libfuzzer_sys::fuzz_target;
use paritas::error::{Error, Result};
use paritas::format::page::{Key, PAGE_ENTRIES, Page, TreeId, Value};
use paritas::format::superblock::Root;
use paritas::format::tables::Tombstone;
use paritas::map::{MapUpdate, Overlay, PageSink, PageSource, Tree, Update};
use paritas::types::{Column, Lba, Number, Place, Pointer, Row, SegmentId, VolumeId};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

const VOLUME: VolumeId = VolumeId(1);
const MAP: TreeId = TreeId::Map(VOLUME);
/// Steps of a program, and blocks of the volume.
const STEPS_MAX: usize = 100;
const BLOCKS: u64 = 2048;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Unstructured::new(bytes);
    let _ = World::draw(&mut input).and_then(|mut world| world.run(&mut input));
});

type Model = BTreeMap<Lba, (Number, Pointer)>;
type Pages = BTreeMap<Place, Arc<Page>>;

fn pointer(id: u64) -> Pointer {
    let place = Place { segment: SegmentId(id), row: Row(7), column: Column(1) };
    Pointer { place, back: 3, crc: 0 }
}

struct Memory(Pages);

impl PageSource for Memory {
    async fn load(&self, _: TreeId, _: u8, pointer: Pointer) -> Result<Arc<Page>> {
        self.0.get(&pointer.place).cloned().ok_or_else(|| Error::io("no page there"))
    }
}

#[derive(Default)]
struct Written {
    next: u64,
    emitted: Pages,
    retired: Vec<Place>,
}

impl PageSink for Written {
    async fn emit(&mut self, page: Page) -> Result<Pointer> {
        self.next += 1;
        let pointer = pointer(self.next);
        let read = Page::decode(&page.encode()).expect("what is written is read");
        assert_eq!(read, page);
        self.emitted.insert(pointer.place, Arc::new(page));
        Ok(pointer)
    }

    fn retire(&mut self, pointer: Pointer) {
        self.retired.push(pointer.place);
    }
}

struct World {
    fanout: usize,
    /// What the volume holds, and what the newest checkpoint has of it.
    now: Model,
    durable: Model,
    overlay: Overlay,
    tombstones: Vec<Tombstone>,
    memory: Memory,
    root: Option<Root>,
    number: u64,
    /// Where blocks and pages go on.
    next: u64,
    /// Pointers in the tree, and those that left it.
    held: BTreeSet<Place>,
}

impl World {
    fn draw(input: &mut Unstructured) -> Drawn<World> {
        let fanout = *input.choose(&[4, 5, 8, 16, PAGE_ENTRIES])?;
        Ok(World {
            fanout,
            now: Model::new(),
            durable: Model::new(),
            overlay: Overlay::default(),
            tombstones: Vec::new(),
            memory: Memory(Pages::new()),
            root: None,
            number: 0,
            next: 0,
            held: BTreeSet::new(),
        })
    }

    fn run(&mut self, input: &mut Unstructured) -> Drawn<()> {
        for _ in 0..STEPS_MAX {
            let step: u8 = input.arbitrary()?;
            let lba = Lba(u64::from(input.arbitrary::<u16>()?) % BLOCKS);
            let few = 1 + u64::from(input.arbitrary::<u8>()?);
            match step % 8 {
                0..3 => self.write(lba, few),
                3 => self.write(lba, 1),
                4 => self.trim(lba, few),
                5 => self.trim(lba, few * 32),
                6 => self.checkpoint(input, few)?,
                _ => self.crash_or_move(step, lba, few),
            }
            self.compare_around(lba);
        }
        Ok(())
    }

    fn tree(&self) -> Tree<'_, Memory> {
        Tree::new(&self.memory, MAP, self.root).with_fanout(self.fanout)
    }

    fn fresh(&mut self) -> Pointer {
        self.next += 1;
        pointer(self.next)
    }

    fn write(&mut self, lba: Lba, blocks: u64) {
        for at in lba.0..(lba.0 + blocks).min(BLOCKS) {
            self.number += 1;
            let (birth, pointer) = (Number(self.number), self.fresh());
            let in_overlay = self.in_overlay(Lba(at), 1)[0].and_then(|update| update.pointer);
            assert_eq!(self.overlay.insert(VOLUME, Lba(at), birth, pointer), in_overlay);
            self.now.insert(Lba(at), (birth, pointer));
        }
    }

    fn trim(&mut self, lba: Lba, blocks: u64) {
        self.number += 1;
        let blocks = blocks.min(BLOCKS - lba.0);
        let covered = |at: Lba| lba <= at && at.0 - lba.0 < blocks;
        let in_overlay = self.in_overlay(lba, blocks).into_iter().flatten();
        let expected: Vec<Pointer> = in_overlay.filter_map(|update| update.pointer).collect();
        assert_eq!(self.overlay.trim(VOLUME, Number(self.number), lba, blocks), expected);
        self.now.retain(|at, _| !covered(*at));
    }

    fn in_overlay(&self, lba: Lba, blocks: u64) -> Vec<Option<Update>> {
        let mut seen = vec![None; usize::try_from(blocks).expect("few")];
        self.overlay.look(VOLUME, lba, &mut seen);
        seen
    }

    /// What the layers above the tree and then the tree say.
    fn lookup(&self, lba: Lba) -> Option<(Number, Pointer)> {
        if let Some(update) = self.in_overlay(lba, 1)[0] {
            return update.pointer.map(|pointer| (update.birth, pointer));
        }
        let stored = block_on(self.tree().newest(lba)).expect("a sound tree");
        stored.filter(|(birth, _)| !self.is_trimmed(lba, *birth))
    }

    /// Whether a trim that the tree still has to follow took the block.
    fn is_trimmed(&self, lba: Lba, birth: Number) -> bool {
        let takes =
            |trim: &Tombstone| lba >= trim.lba && lba.0 - trim.lba.0 < trim.blocks && birth < trim.number;
        self.tombstones.iter().any(takes)
    }

    fn compare_around(&self, lba: Lba) {
        for at in [lba.0.saturating_sub(1), lba.0, lba.0 + 1, lba.0 ^ 64].map(Lba) {
            assert_eq!(self.lookup(at), self.now.get(&at).copied(), "block {at}");
        }
    }

    /// All blocks at once, while nothing is in the overlay.
    fn compare_all(&self) {
        let all = (Key::default(), Key(BLOCKS, 0));
        let stored = block_on(self.tree().scan(all.0, all.1, usize::MAX)).expect("a sound tree");
        let stored = stored.entries.into_iter().map(|(key, value)| {
            (Lba(key.0), (Number(key.1), Pointer::from_value(&value).expect("a pointer")))
        });
        let seen: Model = stored.filter(|(lba, (birth, _))| !self.is_trimmed(*lba, *birth)).collect();
        assert_eq!(seen, self.now);
    }

    /// Merges the overlay into the tree; follows some of the trims.
    fn checkpoint(&mut self, input: &mut Unstructured, leaves: u64) -> Drawn<()> {
        let touched: u16 = input.arbitrary()?;
        let layer = self.overlay.layer(VOLUME).cloned().unwrap_or_default();
        self.tombstones.extend_from_slice(layer.trims());
        let update = |(lba, update): (Lba, paritas::map::Update)| MapUpdate {
            lba,
            birth: update.birth,
            pointer: update.pointer,
            from: None,
        };
        let updates: Vec<MapUpdate> = layer.entries().map(update).collect();
        self.overlay = Overlay::default();
        let touched = if leaves % 4 == 0 { vec![Key(u64::from(touched) % BLOCKS, 0)] } else { Vec::new() };
        self.merge(&updates, &touched);
        if leaves % 2 == 0 {
            self.follow(usize::try_from(1 + leaves / 16).expect("few"));
        }
        self.durable.clone_from(&self.now);
        self.compare_all();
        Ok(())
    }

    fn merge(&mut self, updates: &[MapUpdate], touched: &[Key]) {
        let mut dropped = Vec::new();
        let mut written = Written { next: self.next, ..Written::default() };
        let mut replaced = |_, value| dropped.push(value);
        let tree = self.tree();
        let merged = tree.merge_map(&mut written, self.number, updates, touched, &mut replaced);
        let root = block_on(merged).expect("a sound tree");
        self.held.extend(updates.iter().filter_map(|update| Some(update.pointer?.place)));
        self.adopt(root, written, &dropped);
    }

    /// Follows the oldest trims, a few leaves at a time.
    fn follow(&mut self, leaves: usize) {
        while let Some(trim) = self.tombstones.first().copied() {
            let range = (Key(trim.lba.0, 0), Key(trim.lba.0 + trim.blocks, 0));
            let mut dropped = Vec::new();
            let mut written = Written { next: self.next, ..Written::default() };
            let mut replaced = |_, value| dropped.push(value);
            let (tree, born) = (self.tree(), trim.number.0);
            let removed = tree.remove_range(&mut written, self.number, range, born, leaves, &mut replaced);
            let (root, rest) = block_on(removed).expect("a sound tree");
            self.adopt(root, written, &dropped);
            let Some(rest) = rest else {
                self.tombstones.remove(0);
                continue;
            };
            assert!(range.0 < rest && rest < range.1, "the cursor moves on");
            let first = &mut self.tombstones[0];
            first.blocks = trim.lba.0 + trim.blocks - rest.0;
            first.lba = Lba(rest.0);
            return;
        }
    }

    fn adopt(&mut self, root: Option<Root>, written: Written, dropped: &[Value]) {
        for place in &written.retired {
            assert!(self.memory.0.remove(place).is_some(), "a page is retired once and was in use");
        }
        self.next = self.next.max(written.next);
        self.memory.0.extend(written.emitted);
        self.root = root;
        for value in dropped {
            let place = Pointer::from_value(value).expect("a pointer").place;
            assert!(self.held.remove(&place), "a block is dropped once and was held");
        }
        let mut reachable = BTreeSet::new();
        let mut held = BTreeSet::new();
        let checked = block_on(self.tree().check(&mut |page, pointer| {
            assert!(reachable.insert(pointer.place), "a page has one parent");
            if page.level == 0 {
                let values = page.entries.iter().map(|(_, value)| Pointer::from_value(value));
                held.extend(values.map(|pointer| pointer.expect("a pointer").place));
            }
        }));
        checked.expect("a sound tree");
        assert!(self.memory.0.keys().eq(&reachable), "in use are exactly the pages that were not retired");
        assert_eq!(held, self.held, "the tree holds exactly what was not dropped");
    }

    /// A crash forgets the overlay. The cleaner moves blocks, some of them from where they no longer are.
    fn crash_or_move(&mut self, step: u8, lba: Lba, blocks: u64) {
        if step < 64 {
            self.overlay = Overlay::default();
            self.now.clone_from(&self.durable);
            return;
        }
        let mut updates = Vec::new();
        for at in (lba.0..(lba.0 + blocks).min(BLOCKS)).map(Lba) {
            let Some((birth, stored)) = block_on(self.tree().newest(at)).expect("a sound tree") else {
                continue;
            };
            let is_there = at.0 % 5 != 0;
            let from = if is_there { stored.place } else { pointer(0).place };
            let to = self.fresh();
            updates.push(MapUpdate { lba: at, birth, pointer: Some(to), from: Some(from) });
            for model in [&mut self.now, &mut self.durable] {
                let entry = model.get_mut(&at).filter(|entry| is_there && **entry == (birth, stored));
                if let Some(entry) = entry {
                    entry.1 = to;
                }
            }
        }
        self.merge(&updates, &[]);
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("pages in memory are never waited for"),
    }
}
