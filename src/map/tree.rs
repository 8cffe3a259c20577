//! A tree as it lies in the log: its two ports, what a sound page is, and looking up one key.
//!
//! What holds for every page of a tree (rule 10: verified at each load, an error otherwise, never a panic):
//!
//! - tree, level and fences are those that its parent says; the root's fences are `Key(0, 0)` and none, a
//!   child's level is one less than its parent's, and no level is above [`LEVELS_MAX`]: a walk ends;
//! - it has 1 to [`PAGE_ENTRIES`] entries with rising keys between its fences;
//! - the first key of an inner page is its low fence;
//! - in a map no two entries of a leaf have the same LBA, and fences lie between LBAs (their second half is
//!   0): whatever is stored of one LBA is in one leaf.
//!
//! Fill, by [`crate::map::merge`]: a page has at least a quarter of its entries and an inner page at least
//! two children, except the last page of a level, which only must not be empty, and the root.

use crate::error::{Error, Result};
use crate::format::page::{Key, PAGE_ENTRIES, Page, TreeId, Value};
use crate::format::superblock::Root;
use crate::types::{Lba, Number, Pointer};
use std::fmt;
use std::future::Future;
use std::sync::Arc;

/// The highest level of a page. With quarter-full pages, more than 2^60 entries.
pub const LEVELS_MAX: u8 = 12;

/// PORT: where pages come from.
pub trait PageSource: Send + Sync {
    /// The page at `pointer`, its bytes verified against the checksum in it (rule 6). What the page says of
    /// itself is verified by the tree.
    fn load(
        &self,
        tree: TreeId,
        level: u8,
        pointer: Pointer,
    ) -> impl Future<Output = Result<Arc<Page>>> + Send;
    /// These pages will be loaded soon: whoever keeps pages may read them together. What fails shows when they
    /// are loaded.
    fn prefetch(
        &self,
        _tree: TreeId,
        _level: u8,
        _pointers: Vec<Pointer>,
    ) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// PORT: where new pages go.
pub trait PageSink: Send {
    /// Takes a new page, gives it its place and returns its pointer. May wait for room. Durability is up to
    /// the sink: the tree never loads a page in the merge that emitted it.
    fn emit(&mut self, page: Page) -> impl Future<Output = Result<Pointer>> + Send;
    /// A page that the new tree no longer uses. Called once for each. The old tree does use it.
    fn retire(&mut self, pointer: Pointer);
}

/// What a parent says of a child.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) pointer: Pointer,
    pub(super) level: u8,
    pub(super) low: Key,
    pub(super) high: Option<Key>,
}

/// One version of a tree, as its root says, and the source of its pages. `None` is the empty tree.
#[derive(Debug)]
pub struct Tree<'a, S> {
    pub(super) source: &'a S,
    pub(super) id: TreeId,
    pub(super) root: Option<Root>,
    /// Entries of a full page: [`PAGE_ENTRIES`], fewer only in tests of deep trees.
    pub(super) fanout: usize,
}

impl<S> Clone for Tree<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Tree<'_, S> {}

/// A tree in a sentence.
struct Name(TreeId);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            TreeId::Map(volume) => write!(f, "map of volume {volume}"),
            TreeId::Segments => f.write_str("segment table"),
            TreeId::Volumes => f.write_str("volume table"),
            TreeId::Damage => f.write_str("damage list"),
        }
    }
}

impl<'a, S: PageSource> Tree<'a, S> {
    /// The tree under `root`.
    pub fn new(source: &'a S, id: TreeId, root: Option<Root>) -> Tree<'a, S> {
        Tree { source, id, root, fanout: PAGE_ENTRIES }
    }

    /// The same tree with pages of at most so many entries: what makes a few keys a deep tree, for tests.
    ///
    /// # Panics
    ///
    /// If these are fewer than 4, or more than [`PAGE_ENTRIES`].
    pub fn with_fanout(self, fanout: usize) -> Tree<'a, S> {
        assert!((4..=PAGE_ENTRIES).contains(&fanout), "a page has 4 to {PAGE_ENTRIES} entries");
        Tree { fanout, ..self }
    }

    /// The value of `key`. Loads one page per level.
    ///
    /// # Errors
    ///
    /// Those of the source, and [`crate::error::Kind::Corrupt`] for a page that is not what its parent says.
    /// So for every other call.
    pub async fn get(&self, key: Key) -> Result<Option<Value>> {
        let Some(leaf) = self.leaf_of(key).await? else { return Ok(None) };
        let at = leaf.entries.binary_search_by_key(&key, |entry| entry.0);
        Ok(at.ok().map(|at| leaf.entries[at].1))
    }

    /// The entry with the greatest key that is not above `key`. Loads one page per level; up to twice as many
    /// where that entry lies in another leaf than `key` would.
    pub async fn last_at_or_before(&self, key: Key) -> Result<Option<(Key, Value)>> {
        let mut left = None;
        let Some(mut link) = self.root_link()? else { return Ok(None) };
        loop {
            let page = self.load(link).await?;
            let through = page.entries.partition_point(|entry| entry.0 <= key);
            link = match (page.level, through.checked_sub(1)) {
                (0, Some(at)) => return Ok(Some(page.entries[at])),
                (0, None) => match left.take() {
                    Some(left) => left,
                    None => return Ok(None),
                },
                (_, at) => {
                    let at = at.unwrap_or_default();
                    if at > 0 {
                        left = Some(self.child(&page, at - 1)?);
                    }
                    self.child(&page, at)?
                }
            };
        }
    }

    /// The newest block that a map has for `lba`. Loads one page per level.
    pub async fn newest(&self, lba: Lba) -> Result<Option<(Number, Pointer)>> {
        let Some(leaf) = self.leaf_of(Key(lba.0, 0)).await? else { return Ok(None) };
        let through = leaf.entries.partition_point(|entry| entry.0.0 <= lba.0);
        match through.checked_sub(1).map(|at| leaf.entries[at]) {
            Some((key, value)) if key.0 == lba.0 => Ok(Some((Number(key.1), self.decode(key, &value)?))),
            _ => Ok(None),
        }
    }

    /// Where the page of this level is between whose fences `key` lies; `None` when the tree is not so high.
    /// Loads one page per level above it.
    pub async fn page_at(&self, level: u8, key: Key) -> Result<Option<Pointer>> {
        let Some(mut link) = self.root_link()?.filter(|root| root.level >= level) else { return Ok(None) };
        while link.level > level {
            let page = self.load(link).await?;
            link = self.child(&page, child_of(&page, key))?;
        }
        Ok(Some(link.pointer))
    }

    /// The leaf between whose fences `key` lies.
    async fn leaf_of(&self, key: Key) -> Result<Option<Arc<Page>>> {
        let Some(mut link) = self.root_link()? else { return Ok(None) };
        loop {
            let page = self.load(link).await?;
            if page.level == 0 {
                return Ok(Some(page));
            }
            link = self.child(&page, child_of(&page, key))?;
        }
    }

    /// What the superblock or the volume table says of the root page.
    pub(super) fn root_link(&self) -> Result<Option<Link>> {
        let Some(root) = self.root else { return Ok(None) };
        let link = Link { pointer: root.pointer, level: root.level, low: Key::default(), high: None };
        if root.level > LEVELS_MAX {
            return Err(self.corrupt(link.low, format_args!("root of level {}", root.level)));
        }
        Ok(Some(link))
    }

    /// What an inner page says of its `at`-th child.
    pub(super) fn child(&self, page: &Page, at: usize) -> Result<Link> {
        let (low, value) = page.entries[at];
        let high = page.entries.get(at + 1).map(|next| next.0).or(page.high);
        Ok(Link { pointer: self.decode(low, &value)?, level: page.level - 1, low, high })
    }

    /// The page that `link` tells of, verified.
    pub(super) async fn load(&self, link: Link) -> Result<Arc<Page>> {
        let page = self.source.load(self.id, link.level, link.pointer).await?;
        match self.defect(&page, &link) {
            Some(defect) => Err(self.corrupt(
                link.low,
                format_args!("page of level {} at {:?}: {defect}", link.level, link.pointer.place),
            )),
            None => Ok(page),
        }
    }

    /// Why the page is not the one that `link` tells of.
    fn defect(&self, page: &Page, link: &Link) -> Option<&'static str> {
        let entries = &page.entries;
        let in_map = matches!(self.id, TreeId::Map(_));
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Some("is empty") };
        let broken = [
            (page.tree != self.id, "belongs to another tree"),
            (page.level != link.level, "has another level"),
            (page.low != link.low, "has another low fence"),
            (page.high != link.high, "has another high fence"),
            (entries.len() > self.fanout, "has too many entries"),
            (first.0 < page.low, "has a key below its low fence"),
            (page.high.is_some_and(|high| high <= last.0), "has a key at or above its high fence"),
            (!entries.is_sorted_by(|a, b| a.0 < b.0), "has keys out of order"),
            (page.level > 0 && first.0 != page.low, "has a first key that is not its low fence"),
            (
                in_map && page.level > 0 && entries.iter().any(|entry| entry.0.1 != 0),
                "has a fence inside an LBA",
            ),
            (
                in_map && page.level == 0 && !entries.is_sorted_by(|a, b| a.0.0 < b.0.0),
                "has two entries of one LBA",
            ),
        ];
        broken.iter().find(|(broken, _)| *broken).map(|(_, defect)| *defect)
    }

    /// The low fence of a page whose first entry is to have `key`.
    pub(super) fn fence(&self, key: Key) -> Key {
        match self.id {
            TreeId::Map(_) => Key(key.0, 0),
            TreeId::Segments | TreeId::Volumes | TreeId::Damage => key,
        }
    }

    /// Entries that a page must have unless it is the root or the last of its level.
    pub(super) fn fewest(&self, level: usize) -> usize {
        let children = if level == 0 { 1 } else { 2 };
        (self.fanout / 4).max(children)
    }

    /// The pointer that the value of `key` encodes.
    pub(super) fn decode(&self, key: Key, value: &Value) -> Result<Pointer> {
        Pointer::from_value(value).map_err(|error| self.corrupt(key, error))
    }

    /// [`crate::error::Kind::Corrupt`], naming the tree and the key.
    pub(super) fn corrupt(&self, key: Key, what: impl fmt::Display) -> Error {
        Error::corrupt(format!("{}, key {}/{}: {what}", Name(self.id), key.0, key.1))
    }
}

/// Which child of an inner page has `key` between its fences.
pub(super) fn child_of(page: &Page, key: Key) -> usize {
    page.entries.partition_point(|entry| entry.0 <= key).saturating_sub(1)
}
