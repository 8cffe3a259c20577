//! How new pages come from old ones: shadow paging.
//!
//! A merge walks the old tree from left to right, down only to the leaves that its edit asks for. What it
//! writes gathers in one *run* per level: the entries of the pages being made there. Pages of the old tree
//! that do not change are *kept*: their entry goes as it is into the run of the level above. Nothing is
//! written before a first entry really changes or a leaf is touched; then every page on the path to it is
//! *opened*: retired, and its entries up to there put into its level's run.
//!
//! Invariants:
//!
//! - Only a leaf that changes, is touched, or feeds a hungry run, is opened, and with it the pages above it.
//! - The run of a level covers the keys from its low fence to where the walk is, less what the runs below it
//!   cover. A run is open only if every run above it, up to the old root's level, is.
//! - A run ends (its pages are emitted) where a kept page of its level or a higher one follows.
//! - A run that ends has entries. One with too few (*hungry*) is fed first: with the next page of its level
//!   where its parent has one; else with the page before it under the same parent, which is always a kept
//!   one: a run that has emitted pages keeps more than a page of entries until it ends.
//! - Two full pages and what one page adds is all that a run ever holds (rule 11).

use crate::error::Result;
use crate::format::page::{Key, Page, TreeId, Value};
use crate::format::superblock::Root;
use crate::map::edit::{Batch, Edit, MapBatch, MapUpdate, Removal, Step, Touching};
use crate::map::tree::{LEVELS_MAX, Link, PageSink, PageSource, Tree};
use crate::types::Pointer;
use crate::zoo::{Bug, planted};
use std::sync::Arc;

impl<S: PageSource> Tree<'_, S> {
    /// Puts (`Some`) and deletes (`None`) keys and returns the root of the new tree. The old one stays as it
    /// is. `replaced` is told every old value that is not in the new tree. Pages of the new tree carry
    /// `generation`. Writes as many pages as there are on the paths to leaves that really change, and those
    /// that splitting and filling up adds. The leaf of each key in `touched`, and with it every page above
    /// it, is written anew even if nothing in it changes.
    ///
    /// # Errors
    ///
    /// Those of source and sink. What was emitted, retired and replaced by then is to be forgotten.
    ///
    /// # Panics
    ///
    /// If keys do not rise, or for a map, which only [`Tree::merge_map`] updates.
    pub async fn merge(
        &self,
        sink: &mut impl PageSink,
        generation: u64,
        updates: &[(Key, Option<Value>)],
        touched: &[Key],
        replaced: &mut (impl FnMut(Key, Value) + Send),
    ) -> Result<Option<Root>> {
        assert!(!matches!(self.id, TreeId::Map(_)), "a map has one entry per LBA");
        let mut edit = Touching::new(Batch::new(updates), touched);
        Merge::new(*self, sink, generation, &mut edit, replaced).run().await
    }

    /// Like [`Tree::merge`], for a map: a write replaces whatever older block its LBA has, a trim removes it.
    /// `replaced` is also told the pointer of an update that does not apply (see [`MapUpdate::from`]):
    /// nothing points to that block either. An update that the map has already is no change and not told.
    ///
    /// # Errors
    ///
    /// As [`Tree::merge`].
    ///
    /// # Panics
    ///
    /// If addresses or keys do not rise, or if the tree is not a map.
    pub async fn merge_map(
        &self,
        sink: &mut impl PageSink,
        generation: u64,
        updates: &[MapUpdate],
        touched: &[Key],
        replaced: &mut (impl FnMut(Key, Value) + Send),
    ) -> Result<Option<Root>> {
        assert!(matches!(self.id, TreeId::Map(_)), "only a map has addresses");
        let mut edit = Touching::new(MapBatch::new(updates), touched);
        Merge::new(*self, sink, generation, &mut edit, replaced).run().await
    }

    /// Deletes every key from `from` on and before `to` whose second half is below `born_before`, in the
    /// first `leaves_max` leaves of that range. Returns also where to go on; `None` when the range is done.
    ///
    /// # Errors
    ///
    /// As [`Tree::merge`].
    pub async fn remove_range(
        &self,
        sink: &mut impl PageSink,
        generation: u64,
        (from, to): (Key, Key),
        born_before: u64,
        leaves_max: usize,
        replaced: &mut (impl FnMut(Key, Value) + Send),
    ) -> Result<(Option<Root>, Option<Key>)> {
        if self.root.is_none() {
            return Ok((None, None));
        }
        let mut edit = Removal::new(from, to, born_before, leaves_max);
        let root = Merge::new(*self, sink, generation, &mut edit, replaced).run().await?;
        Ok((root, edit.rest()))
    }
}

/// The entries of the pages being made on one level.
#[derive(Debug, Default)]
struct Run {
    /// The low fence of the first of them; `None` while the run is not open.
    low: Option<Key>,
    entries: Vec<(Key, Value)>,
    /// Whether the last entry is a page of the old tree.
    kept_last: bool,
}

/// An inner page on the path from the root to where the walk is.
struct Frame {
    page: Arc<Page>,
    pointer: Pointer,
    /// The child that the walk is at.
    at: usize,
    opened: bool,
}

struct Merge<'a, S, K, E, R> {
    tree: Tree<'a, S>,
    sink: &'a mut K,
    generation: u64,
    edit: &'a mut E,
    replaced: &'a mut R,
    path: Vec<Frame>,
    /// One per level.
    runs: Vec<Run>,
    changed: bool,
}

impl<'a, S, K, E, R> Merge<'a, S, K, E, R>
where
    S: PageSource,
    K: PageSink,
    E: Edit,
    R: FnMut(Key, Value) + Send,
{
    fn new(
        tree: Tree<'a, S>,
        sink: &'a mut K,
        generation: u64,
        edit: &'a mut E,
        replaced: &'a mut R,
    ) -> Merge<'a, S, K, E, R> {
        // The run above the highest level takes the pages that a root of that level splits into.
        let runs = (0..=LEVELS_MAX + 1).map(|_| Run::default()).collect();
        Merge { tree, sink, generation, edit, replaced, path: Vec::new(), runs, changed: false }
    }

    async fn run(mut self) -> Result<Option<Root>> {
        let Some(link) = self.tree.root_link()? else {
            let empty = Page {
                tree: self.tree.id,
                level: 0,
                generation: self.generation,
                low: Key::default(),
                high: None,
                entries: Vec::new(),
            };
            self.visit_leaf(&empty, None).await?;
            return self.finish().await;
        };
        if self.edit.target().is_none() {
            return Ok(self.tree.root);
        }
        self.visit(link).await?;
        while let Some(frame) = self.path.last() {
            match frame.at < frame.page.entries.len() {
                true => self.advance().await?,
                false => self.leave().await?,
            }
        }
        self.finish().await
    }

    /// Deals with the child that the walk is at: keeps it, or goes down.
    async fn advance(&mut self) -> Result<()> {
        let frame = self.path.last().expect("the walk is in an inner page");
        let link = self.tree.child(&frame.page, frame.at)?;
        let wanted = self.edit.target().is_some_and(|target| link.high.is_none_or(|high| target < high));
        if wanted || (0..=link.level).any(|level| self.hungry(level, false)) {
            self.visit(link).await
        } else {
            self.pass(false).await
        }
    }

    /// Goes down to a page.
    async fn visit(&mut self, link: Link) -> Result<()> {
        let page = self.tree.load(link).await?;
        if link.level == 0 {
            let opened = self.visit_leaf(&page, Some(link.pointer)).await?;
            return self.pass(opened).await;
        }
        if link.level == 1 {
            self.prefetch(&page).await;
        }
        self.path.push(Frame { page, pointer: link.pointer, at: 0, opened: false });
        if self.hungry(link.level, false) {
            self.open_path().await?;
        }
        Ok(())
    }

    /// Has those leaves below an inner page read together that the edit wants: one after the other, they would
    /// take most of the time of a checkpoint whose updates lie far apart.
    async fn prefetch(&mut self, page: &Page) {
        let links = (0..page.entries.len()).filter_map(|at| self.tree.child(page, at).ok());
        let wanted = links.filter(|link| self.edit.wants(link.low, link.high));
        let pointers: Vec<Pointer> = wanted.map(|link| link.pointer).collect();
        if pointers.len() > 1 {
            self.tree.source.prefetch(self.tree.id, 0, pointers).await;
        }
    }

    /// Goes up from an inner page whose last child is dealt with.
    async fn leave(&mut self) -> Result<()> {
        let frame = self.path.pop().expect("the walk is in an inner page");
        if frame.opened {
            self.feed_from_left(frame.page.level, frame.page.high.is_none()).await?;
        }
        self.pass(frame.opened).await
    }

    /// Goes on behind the child that the walk is at.
    async fn pass(&mut self, opened: bool) -> Result<()> {
        let Some(frame) = self.path.last_mut() else { return Ok(()) };
        let kept = frame.page.entries[frame.at];
        let level = frame.page.level;
        frame.at += 1;
        if frame.opened && !opened {
            self.keep(level, kept.0, &[kept]).await?;
        }
        Ok(())
    }

    /// Does to a leaf what the edit says. Returns whether it was opened.
    async fn visit_leaf(&mut self, leaf: &Page, pointer: Option<Pointer>) -> Result<bool> {
        let mut opened = self.hungry(0, false);
        if opened {
            self.open_path().await?;
            self.open(leaf, pointer, 0).await?;
        }
        let mut at = 0;
        loop {
            let old = leaf.entries.get(at).copied();
            let step = self.edit.step(old, leaf.high)?;
            let changes = matches!(step, Step::Remove | Step::Replace(..) | Step::Insert(..) | Step::Open);
            if changes && !opened {
                opened = true;
                self.open_path().await?;
                self.open(leaf, pointer, at).await?;
            }
            let new = match step {
                Step::Done => return Ok(opened),
                Step::Skip | Step::Remove | Step::Open => None,
                Step::Keep => old,
                Step::Replace(key, value) | Step::Insert(key, value) => Some((key, value)),
                Step::Refuse(key, value) => {
                    (self.replaced)(key, value);
                    None
                }
            };
            if let (Step::Remove | Step::Replace(..), Some((key, value))) = (step, old) {
                (self.replaced)(key, value);
            }
            if matches!(step, Step::Keep | Step::Remove | Step::Replace(..)) {
                at += 1;
            }
            let drops = planted(Bug::MergeDropsLast) && old.is_none() && at > 0;
            if let (true, Some(entry)) = (opened && !drops, new) {
                self.runs[0].entries.push(entry);
                self.relieve(0).await?;
            }
        }
    }

    /// Opens the pages on the path that are not, the root first.
    async fn open_path(&mut self) -> Result<()> {
        for depth in 0..self.path.len() {
            let frame = &mut self.path[depth];
            if !frame.opened {
                frame.opened = true;
                let (page, pointer, at) = (frame.page.clone(), frame.pointer, frame.at);
                self.open(&page, Some(pointer), at).await?;
            }
        }
        Ok(())
    }

    /// Retires a page and puts its first `kept` entries, which stay, into the run of its level.
    async fn open(&mut self, page: &Page, pointer: Option<Pointer>, kept: usize) -> Result<()> {
        self.changed = true;
        if let Some(pointer) = pointer {
            self.sink.retire(pointer);
        }
        self.runs[usize::from(page.level)].low.get_or_insert(page.low);
        self.keep(page.level, page.low, &page.entries[..kept]).await
    }

    /// Puts entries of old pages, from the fence `low` on, into the run of a level. The runs below end there.
    async fn keep(&mut self, level: u8, low: Key, entries: &[(Key, Value)]) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        for below in 0..level {
            self.end(below, Some(low)).await?;
        }
        let run = &mut self.runs[usize::from(level)];
        run.entries.extend_from_slice(entries);
        run.kept_last = true;
        self.relieve(usize::from(level)).await
    }

    /// Feeds the runs below a page that is done from the left, where they are hungry. `edge`: it is the last
    /// page of its level.
    async fn feed_from_left(&mut self, level: u8, edge: bool) -> Result<()> {
        for below in (0..level).rev() {
            let above = &mut self.runs[usize::from(below) + 1];
            if !above.kept_last || !self.hungry(below, edge) {
                continue;
            }
            let above = &mut self.runs[usize::from(below) + 1];
            above.kept_last = false;
            let (low, value) = above.entries.pop().expect("a run whose last entry is kept has one");
            let pointer = self.tree.decode(low, &value)?;
            let high = self.runs[usize::from(below)].low;
            let page = self.tree.load(Link { pointer, level: below, low, high }).await?;
            self.sink.retire(pointer);
            let run = &mut self.runs[usize::from(below)];
            run.low = Some(low);
            run.entries.splice(0..0, page.entries.iter().copied());
            run.kept_last |= run.entries.len() == page.entries.len();
        }
        Ok(())
    }

    /// Whether an open run could not end here: too few entries, what the runs below will add included.
    fn hungry(&self, level: u8, edge: bool) -> bool {
        let level = usize::from(level);
        if self.runs[level].low.is_none() {
            return false;
        }
        let below = self.runs[..level]
            .iter()
            .fold(0, |pages, run| (run.entries.len() + pages).div_ceil(self.tree.fanout));
        let fewest = if edge { 1 } else { self.tree.fewest(level) };
        self.runs[level].entries.len() + below < fewest
    }

    /// Emits full pages from runs that have grown beyond two, from a level upwards.
    async fn relieve(&mut self, level: usize) -> Result<()> {
        let fanout = self.tree.fanout;
        for level in level..self.runs.len() {
            if self.runs[level].entries.len() <= 2 * fanout {
                break;
            }
            debug_assert!(self.runs[level].entries.len() <= 3 * fanout, "a run is bounded");
            while self.runs[level].entries.len() > 2 * fanout {
                self.emit_front(level, fanout).await?;
            }
        }
        Ok(())
    }

    /// Ends the run of a level, if it is open, before the fence `high`. The last page of a level is what is
    /// left behind full ones: keys that come in rising order leave full pages behind.
    async fn end(&mut self, level: u8, high: Option<Key>) -> Result<()> {
        let level = usize::from(level);
        let fanout = self.tree.fanout;
        if self.runs[level].low.is_none() {
            return Ok(());
        }
        while self.runs[level].entries.len() > fanout {
            let count = if high.is_none() { fanout } else { self.runs[level].entries.len().div_ceil(2) };
            self.emit_front(level, count).await?;
        }
        let count = self.runs[level].entries.len();
        assert!(count > 0, "a run that ends has entries");
        self.emit(level, count, high).await?;
        self.runs[level] = Run::default();
        self.relieve(level + 1).await
    }

    /// Emits the first `count` entries of a longer run as a page.
    async fn emit_front(&mut self, level: usize, count: usize) -> Result<()> {
        let high = self.tree.fence(self.runs[level].entries[count].0);
        self.emit(level, count, Some(high)).await
    }

    /// Emits the first `count` entries of a run as a page that ends before `high`.
    async fn emit(&mut self, level: usize, count: usize, high: Option<Key>) -> Result<()> {
        let run = &mut self.runs[level];
        let low = run.low.expect("a run that emits is open");
        let level = u8::try_from(level).expect("there are few levels");
        if level > LEVELS_MAX {
            return Err(self.tree.corrupt(low, "the tree is too deep"));
        }
        let entries = run.entries.drain(..count).collect();
        run.low = high;
        let (tree, generation) = (self.tree.id, self.generation);
        let pointer = self.sink.emit(Page { tree, level, generation, low, high, entries }).await?;
        let above = &mut self.runs[usize::from(level) + 1];
        above.low.get_or_insert(low);
        above.entries.push((low, pointer.to_value()));
        above.kept_last = false;
        Ok(())
    }

    /// Ends all runs at the right edge and returns the root: the only page of the highest level that has one.
    async fn finish(mut self) -> Result<Option<Root>> {
        if !self.changed {
            return Ok(self.tree.root);
        }
        let mut level = 0u8;
        loop {
            let at = usize::from(level);
            let is_top = self.runs[at + 1..].iter().all(|run| run.entries.is_empty());
            match (is_top, level.checked_sub(1), self.runs[at].entries.as_slice()) {
                (true, Some(level), [(low, value)]) => {
                    let pointer = self.tree.decode(*low, value)?;
                    return Ok(Some(Root { pointer, level }));
                }
                (true, _, []) => return Ok(None),
                _ => self.end(level, None).await?,
            }
            level += 1;
        }
    }
}
