//! Looking at many keys: a range of a tree, or every page of it.

use crate::error::Result;
use crate::format::page::{Key, Page, Value};
use crate::map::tree::{PageSource, Tree, child_of};
use crate::types::Pointer;
use crate::zoo::{Bug, planted};
use std::sync::Arc;

/// What a scan found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scan {
    /// The entries, in the order of their keys.
    pub entries: Vec<(Key, Value)>,
    /// Where to go on if the limit ended the scan. Perhaps nothing is left there.
    pub next: Option<Key>,
}

impl<S: PageSource> Tree<'_, S> {
    /// The first `limit` entries from `from` on and before `to`. Loads no page that has none of them, except
    /// one that could have had some by its fences.
    pub async fn scan(&self, from: Key, to: Key, limit: usize) -> Result<Scan> {
        let mut found = Scan::default();
        let Some(root) = self.root_link()? else { return Ok(found) };
        if from >= to {
            return Ok(found);
        }
        if limit == 0 {
            return Ok(Scan { next: Some(from), ..found });
        }
        let mut path = vec![entered(self.load(root).await?, from)];
        while let Some((page, at)) = path.last_mut() {
            let Some(&(key, value)) = page.entries.get(*at) else {
                path.pop();
                continue;
            };
            if key >= to {
                break;
            }
            if found.entries.len() == limit {
                found.next = Some(key);
                break;
            }
            *at += 1;
            if page.level == 0 {
                found.entries.push((key, value));
            } else {
                let link = self.child(page, *at - 1)?;
                *at += usize::from(planted(Bug::ScanSkips));
                path.push(entered(self.load(link).await?, from));
            }
        }
        Ok(found)
    }

    /// Leaves, from that of `from` on and at most `limit` of them, that together lie below or are every page that
    /// `is_weak`; each by its low fence. Returns also where to go on if the limit ended it. Loads inner pages alone.
    ///
    /// # Panics
    ///
    /// If the limit is 0.
    pub async fn weak_leaves(
        &self,
        from: Key,
        limit: usize,
        is_weak: impl Fn(Pointer) -> bool + Send,
    ) -> Result<(Vec<Key>, Option<Key>)> {
        assert!(limit > 0, "something may be found");
        let mut found = Vec::new();
        // A weak inner page is told of by the next leaf, whichever it is.
        let mut owed = false;
        let mut path: Vec<(Arc<Page>, usize)> = Vec::new();
        let mut next = self.root_link()?;
        while let Some(link) = next {
            owed |= is_weak(link.pointer);
            if link.level > 0 {
                path.push(entered(self.load(link).await?, from));
            } else if std::mem::take(&mut owed) {
                found.push(link.low);
            }
            while path.last().is_some_and(|(page, at)| *at == page.entries.len()) {
                path.pop();
            }
            let Some((page, at)) = path.last_mut() else { break };
            let link = self.child(page, *at)?;
            if found.len() == limit {
                return Ok((found, Some(link.low)));
            }
            *at += 1;
            next = Some(link);
        }
        Ok((found, None))
    }

    /// Visits every page, parents first, and verifies what [`crate::map::tree`] says of pages, fill included.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::Corrupt`] for the first page that breaks a rule, those of the source for one
    /// that cannot be loaded.
    pub async fn check(&self, visit: &mut (impl FnMut(&Page, Pointer) + Send)) -> Result<()> {
        let Some(root) = self.root_link()? else { return Ok(()) };
        let top = self.load(root).await?;
        if top.level > 0 && top.entries.len() < 2 {
            return Err(self.corrupt(root.low, "the root has only one child"));
        }
        visit(&top, root.pointer);
        let mut path = vec![(top, 0)];
        while let Some((page, at)) = path.last_mut() {
            if page.level == 0 || *at == page.entries.len() {
                path.pop();
                continue;
            }
            let link = self.child(page, *at)?;
            *at += 1;
            let child = self.load(link).await?;
            if link.high.is_some() && child.entries.len() < self.fewest(usize::from(link.level)) {
                let few = child.entries.len();
                return Err(self.corrupt(link.low, format_args!("a page of only {few} entries")));
            }
            visit(&child, link.pointer);
            path.push((child, 0));
        }
        Ok(())
    }
}

/// A page and which of its entries a scan from `from` begins with.
fn entered(page: Arc<Page>, from: Key) -> (Arc<Page>, usize) {
    let at = match page.level {
        0 => page.entries.partition_point(|entry| entry.0 < from),
        _ => child_of(&page, from),
    };
    (page, at)
}
