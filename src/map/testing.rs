//! What the tests of this folder share: pages in memory, a way to run futures, small random numbers.

use crate::error::{Error, Result};
use crate::format::page::{Key, Page, TreeId, Value};
use crate::format::superblock::Root;
use crate::map::edit::MapUpdate;
use crate::map::tree::{PageSink, PageSource, Tree};
use crate::types::{Column, Place, Pointer, Row, SegmentId};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Runs a future that never waits for anything but its next turn.
pub(super) fn block_on<F: Future + Send>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
}

/// Gives up its turn once.
async fn yield_once() {
    let mut yielded = false;
    poll_fn(|_| if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Xorshift64*.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % bound
    }
}

/// A pointer that differs for each number.
pub(super) fn pointer_at(number: u64) -> Pointer {
    let place = Place { segment: SegmentId(number), row: Row(7), column: Column(1) };
    Pointer { place, back: 3, crc: u32::try_from(number & 0xFFFF).expect("16 bits") }
}

pub(super) type Pages = BTreeMap<Place, Arc<Page>>;

/// The pages that a merge may load: never those of the same merge.
#[derive(Clone, Default)]
pub(super) struct Memory(pub(super) Pages);

impl PageSource for Memory {
    async fn load(&self, _: TreeId, _: u8, pointer: Pointer) -> Result<Arc<Page>> {
        yield_once().await;
        self.0
            .get(&pointer.place)
            .cloned()
            .ok_or_else(|| Error::io(format!("no page at {:?}", pointer.place)))
    }
}

/// What a merge wrote and retired.
#[derive(Default)]
pub(super) struct Written {
    next: u64,
    pub(super) emitted: Pages,
    pub(super) retired: Vec<Place>,
}

impl Written {
    /// Pages get places behind that number.
    pub(super) fn starting(next: u64) -> Written {
        Written { next, ..Written::default() }
    }
}

impl PageSink for Written {
    async fn emit(&mut self, page: Page) -> Result<Pointer> {
        yield_once().await;
        self.next += 1;
        let pointer = pointer_at(self.next);
        self.emitted.insert(pointer.place, Arc::new(page));
        Ok(pointer)
    }

    fn retire(&mut self, pointer: Pointer) {
        self.retired.push(pointer.place);
    }
}

/// A tree and its pages, which checks after every change what must hold after each.
pub(super) struct Forest {
    pub(super) id: TreeId,
    pub(super) fanout: usize,
    pub(super) memory: Memory,
    pub(super) root: Option<Root>,
    generation: u64,
    next: u64,
    /// Pages emitted by the last change.
    pub(super) emitted: usize,
}

/// What a change dropped, as told.
pub(super) type Dropped = Vec<(Key, Value)>;

impl Forest {
    pub(super) fn new(id: TreeId, fanout: usize) -> Forest {
        let memory = Memory::default();
        Forest { id, fanout, memory, root: None, generation: 0, next: 0, emitted: 0 }
    }

    pub(super) fn tree(&self) -> Tree<'_, Memory> {
        Tree::new(&self.memory, self.id, self.root).with_fanout(self.fanout)
    }

    /// Every page under the root, sound.
    pub(super) fn reachable(&self) -> Pages {
        let mut pages = Pages::new();
        let mut visit = |page: &Page, pointer: Pointer| {
            let again = pages.insert(pointer.place, Arc::new(page.clone()));
            assert!(again.is_none(), "a page has one parent");
        };
        block_on(self.tree().check(&mut visit)).expect("a sound tree");
        pages
    }

    pub(super) fn contents(&self) -> Vec<(Key, Value)> {
        let all = block_on(self.tree().scan(Key::default(), Key(u64::MAX, u64::MAX), usize::MAX));
        all.expect("a sound tree").entries
    }

    /// Levels of the tree.
    pub(super) fn height(&self) -> usize {
        self.root.map_or(0, |root| usize::from(root.level) + 1)
    }

    /// Entries per page that could have been.
    pub(super) fn fill(&self) -> f64 {
        let pages = self.reachable();
        let entries: usize = pages.values().map(|page| page.entries.len()).sum();
        f64::from(u32::try_from(entries).expect("few"))
            / f64::from(u32::try_from(pages.len() * self.fanout).expect("few"))
    }

    fn written(&mut self) -> Written {
        self.generation += 1;
        Written::starting(self.next)
    }

    /// Takes over the outcome of a merge, after comparing it with what it must be.
    fn adopt(&mut self, root: Option<Root>, written: Written) {
        let before = self.memory.0.clone();
        for place in &written.retired {
            let retired = self.memory.0.remove(place);
            assert!(retired.is_some(), "a page is retired once and was in use");
        }
        assert!(written.emitted.values().all(|page| page.generation == self.generation));
        self.emitted = written.emitted.len();
        self.next = written.next;
        self.memory.0.extend(written.emitted);
        self.root = root;
        let reachable = self.reachable();
        assert_eq!(reachable, self.memory.0, "in use are exactly the old pages not retired and the new ones");
        let same = reachable.iter().filter(|(place, _)| before.contains_key(place)).count();
        assert_eq!(same + written.retired.len(), before.len());
    }

    pub(super) fn merge(&mut self, updates: &[(Key, Option<Value>)]) -> Dropped {
        let mut written = self.written();
        let mut dropped = Dropped::new();
        let mut replaced = |key, value| dropped.push((key, value));
        let root = block_on(self.tree().merge(&mut written, self.generation, updates, &[], &mut replaced));
        self.adopt(root.expect("a sound tree"), written);
        dropped
    }

    pub(super) fn merge_map(&mut self, updates: &[MapUpdate]) -> Dropped {
        let mut written = self.written();
        let mut dropped = Dropped::new();
        let mut replaced = |key, value| dropped.push((key, value));
        let root =
            block_on(self.tree().merge_map(&mut written, self.generation, updates, &[], &mut replaced));
        self.adopt(root.expect("a sound tree"), written);
        dropped
    }

    pub(super) fn touch(&mut self, updates: &[MapUpdate], keys: &[Key]) -> Dropped {
        let mut written = self.written();
        let mut dropped = Dropped::new();
        let mut replaced = |key, value| dropped.push((key, value));
        let root =
            block_on(self.tree().merge_map(&mut written, self.generation, updates, keys, &mut replaced));
        self.adopt(root.expect("a sound tree"), written);
        dropped
    }

    pub(super) fn remove_range(
        &mut self,
        range: (Key, Key),
        born_before: u64,
        leaves_max: usize,
    ) -> (Dropped, Option<Key>) {
        let mut written = self.written();
        let mut dropped = Dropped::new();
        let mut replaced = |key, value| dropped.push((key, value));
        let tree = self.tree();
        let generation = self.generation;
        let (root, rest) = block_on(tree.remove_range(
            &mut written,
            generation,
            range,
            born_before,
            leaves_max,
            &mut replaced,
        ))
        .expect("a sound tree");
        self.adopt(root, written);
        (dropped, rest)
    }
}
