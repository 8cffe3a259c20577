//! One segment, record by record: blocks that the map still has there are verified by both witnesses and go to
//! another place; pages that a tree still has there are written anew by the next checkpoint.
//!
//! What cannot be verified or described stays where it is, and so does its segment: nothing is freed here, only
//! a checkpoint that counts no live block frees a segment.

use crate::checksum::witness;
use crate::commit::{Candidate, Core, Moved, Moving, blocks_per_segment};
use crate::error::Result;
use crate::format::page::{Key, TreeId};
use crate::format::record::{Owner, Record};
use crate::log::places;
use crate::map::{PageSource, Tree};
use crate::space::Purpose;
use crate::stripe::{Found, View, Wanted};
use crate::types::{Place, Pointer, Row, Scheme, SegmentId, VolumeId};
use std::collections::BTreeMap;

/// Blocks that wait to be written at most, for each data column: bounds the memory.
const WINDOW_ROWS: u64 = 128;

/// What becomes of live blocks between their old place and their new one.
pub(super) struct Emptier<'a> {
    core: &'a Core,
    era: u64,
    /// Verified and claimed, by the scheme of their volumes.
    window: BTreeMap<Scheme, Vec<Moving>>,
}

impl Drop for Emptier<'_> {
    /// What still waits is not moved after all.
    fn drop(&mut self) {
        for block in self.window.values().flatten() {
            self.core.cancel_move(&block.wanted);
        }
    }
}

impl<'a> Emptier<'a> {
    pub(super) fn new(core: &'a Core) -> Emptier<'a> {
        Emptier { core, era: core.era(), window: BTreeMap::new() }
    }

    /// Takes what is live out of a segment. Some of it may wait until [`Emptier::finish`].
    ///
    /// # Errors
    /// When a tree cannot be read, or the array takes no more writes.
    pub(super) async fn empty(&mut self, id: SegmentId) -> Result<Moved> {
        let core = self.core;
        let Ok(view) = core.stripes().view(id) else { return Ok(Moved::All) };
        let Some(_pin) = core.stripes().pin(id) else { return Ok(Moved::All) };
        let end = core.stripes().space.with(|space| space.get(id).map_or(0, |segment| segment.applied));
        let mut row = Row(0);
        while row.0 < end {
            let rows = match core.stripes().find_record(&view, row, None).await {
                Found::Record(record) => {
                    self.take_pages(id, &record).await?;
                    let moved = self.take_blocks(&view, &record).await?;
                    if moved != Moved::All {
                        return Ok(moved);
                    }
                    record.rows
                }
                Found::Broken { rows, .. } => rows,
                Found::Nothing { .. } => break,
            };
            row = row.plus(u16::from(rows) + 1);
        }
        Ok(Moved::All)
    }

    /// Moves what still waits.
    ///
    /// # Errors
    /// As [`Emptier::empty`].
    pub(super) async fn finish(&mut self) -> Result<Moved> {
        while let Some((scheme, mut blocks)) = self.window.pop_first() {
            let moved = self.write(scheme, &mut blocks).await?;
            if moved != Moved::All {
                return Ok(moved);
            }
        }
        Ok(Moved::All)
    }

    async fn take_blocks(&mut self, view: &View, record: &Record) -> Result<Moved> {
        let candidates: Vec<Candidate> = places(view.segment, record)
            .filter_map(|(owner, pointer)| match owner {
                Owner::Data { volume, lba, .. } | Owner::Moved { volume, lba, .. } => {
                    Some(Candidate { volume, lba, place: pointer.place })
                }
                _ => None,
            })
            .collect();
        if candidates.is_empty() {
            return Ok(Moved::All);
        }
        let mut live = self.core.claim_live(&candidates).await?;
        live.sort_by_key(|wanted| (wanted.pointer.place.column, wanted.pointer.place.row));
        let runs: Vec<&[Wanted]> = live.chunk_by(|a, b| a.precedes(b)).collect();
        let blocks = self.core.stripes().read_all(&runs).await;
        self.core.wake_for_suspects();
        for (run, blocks) in runs.iter().zip(blocks) {
            let blocks = blocks.unwrap_or_else(|_| vec![None; run.len()]);
            for (wanted, bytes) in run.iter().zip(blocks) {
                let bytes = bytes.filter(|bytes| {
                    witness(bytes) == record.witness(wanted.pointer.back - 1, wanted.pointer.place.column)
                });
                match (bytes, self.scheme(wanted)) {
                    (Some(bytes), Some(scheme)) => {
                        self.window.entry(scheme).or_default().push(Moving { wanted: *wanted, bytes });
                    }
                    (Some(_), None) => {
                        self.core.cancel_move(wanted);
                    }
                    (None, _) => self.lose(wanted).await?,
                }
            }
        }
        self.relieve().await
    }

    /// A block that cannot be verified stays where it is. If it is still wanted, it is lost.
    async fn lose(&self, wanted: &Wanted) -> Result<()> {
        if self.core.cancel_move(wanted) && self.core.era() == self.era {
            self.core.note_loss(wanted).await?;
        }
        Ok(())
    }

    fn scheme(&self, wanted: &Wanted) -> Option<Scheme> {
        self.core.scheme(VolumeId(wanted.identity.owner)).ok()
    }

    /// Writes what fills a record.
    async fn relieve(&mut self) -> Result<Moved> {
        let full: Vec<Scheme> = self
            .window
            .iter()
            .filter(|(scheme, blocks)| blocks.len() as u64 >= self.fill(**scheme))
            .map(|(scheme, _)| *scheme)
            .collect();
        for scheme in full {
            let Some(mut blocks) = self.window.remove(&scheme) else { continue };
            let moved = self.write(scheme, &mut blocks).await?;
            if moved != Moved::All {
                return Ok(moved);
            }
        }
        Ok(Moved::All)
    }

    /// Blocks worth a record: as many as a segment takes, or as memory allows.
    fn fill(&self, scheme: Scheme) -> u64 {
        let (rows, fit) = self.core.stripes().space.with(|space| (space.chunk_rows(), space.fit(scheme)));
        blocks_per_segment(rows, fit).min(WINDOW_ROWS * u64::from(fit.k()))
    }

    async fn write(&self, scheme: Scheme, blocks: &mut [Moving]) -> Result<Moved> {
        // Neighbours come to lie together again.
        blocks.sort_by_key(|block| (block.wanted.identity.owner, block.wanted.identity.lba));
        self.core.move_blocks(scheme, blocks, self.era).await
    }

    /// Pages of a record that their trees have there are to be written anew. The segment table does not say
    /// what a segment was written for, its records do.
    async fn take_pages(&self, id: SegmentId, record: &Record) -> Result<()> {
        let mut is_known = false;
        for (owner, pointer) in places(id, record) {
            let Owner::Page { tree, level, low, .. } = owner else { continue };
            let Some(tree) = TreeId::from_number(tree) else { continue };
            if !is_known {
                is_known = true;
                self.core.stripes().space.with(|space| {
                    if space.get(id).is_some_and(|segment| segment.purpose != Purpose::Meta) {
                        space.reclassify(id, Purpose::Meta);
                    }
                });
            }
            let (touched, most) = self.core.touched();
            if touched < most
                && let Some(key) = self.live_page(tree, level, low, pointer).await?
            {
                self.core.touch(tree, key);
            }
        }
        Ok(())
    }

    /// The low key of a page, if its tree has it there.
    async fn live_page(&self, tree: TreeId, level: u8, low: u64, pointer: Pointer) -> Result<Option<Key>> {
        let root = self.core.root(tree);
        let key = match tree {
            TreeId::Map(_) => Key(low, 0),
            // Fences of tables have a second half, which only the page knows.
            TreeId::Volumes | TreeId::Damage => match self.core.load(tree, level, pointer).await {
                Ok(page) => page.low,
                Err(_) => return Ok(None),
            },
            TreeId::Segments => return Ok(None),
        };
        let here: Option<Place> = match Tree::new(self.core, tree, root).page_at(level, key).await {
            Ok(here) => here.map(|pointer| pointer.place),
            // The tree has a younger root by now, and perhaps this page no more.
            Err(_) if self.core.root(tree) != root => None,
            Err(error) => return Err(error),
        };
        Ok((here == Some(pointer.place)).then_some(key))
    }
}
