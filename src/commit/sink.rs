//! Where the pages of a checkpoint go: records of their own streams.
//!
//! A page's pointer is known when it is emitted, before its record is complete, because a parent needs it: so
//! the pages of a record fill its rows one by one behind the description of the largest record that may
//! become of it.

use super::core::Core;
use super::pages::identity;
use crate::checksum::pointer_crc;
use crate::device::Aligned;
use crate::error::{Error, Kind, Result};
use crate::format::page::Page;
use crate::format::record::{Owner, Plan};
use crate::map::PageSink;
use crate::space::Purpose;
use crate::stripe::{Head, Payload, pack};
use crate::types::{Column, Place, Pointer, Row, Scheme, SegmentId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows of a record of pages at most, its header included.
const ROWS_MAX: u16 = 33;

/// Changes of live counts.
pub(super) type Counts = BTreeMap<SegmentId, i64>;

/// A record being filled.
struct Open {
    segment: SegmentId,
    scheme: Scheme,
    row: Row,
    plan: Plan,
    payload: Vec<Payload>,
}

impl Open {
    fn place(&self, index: usize) -> (u8, Column) {
        let k = usize::from(self.scheme.k());
        let at = usize::from(self.plan.description_rows) * k + index;
        let row = u8::try_from(at / k).expect("a record has at most 255 rows");
        (row, Column(u8::try_from(at % k).expect("k fits u8")))
    }

    fn capacity(&self) -> usize {
        usize::from(self.plan.rows - self.plan.description_rows) * usize::from(self.scheme.k())
    }
}

/// The sink of one checkpoint for one purpose.
pub(super) struct Sink<'a> {
    core: &'a Core,
    purpose: Purpose,
    open: Option<Open>,
    /// What the pages emitted and retired change.
    pub(super) counts: Counts,
}

impl<'a> Sink<'a> {
    pub(super) fn new(core: &'a Core, purpose: Purpose) -> Sink<'a> {
        Sink { core, purpose, open: None, counts: Counts::new() }
    }

    fn stream(&self) -> usize {
        usize::from(self.purpose == Purpose::Boot)
    }

    /// Writes what is open.
    pub(super) async fn finish(&mut self) -> Result<()> {
        match self.open.take() {
            Some(open) => self.write(open).await,
            None => Ok(()),
        }
    }

    fn begin(&self) -> Result<Open> {
        let stream = self.stream();
        loop {
            let segment = match self.core.meta.with(|meta| meta[stream].segment) {
                Some(segment) => segment,
                None => self.next_segment()?,
            };
            let (scheme, rows, left) = self.core.stripes.space.with(|space| {
                let found = space.get(segment).expect("a stream's segment is in the table");
                (found.scheme, found.rows, space.chunk_rows() - found.rows)
            });
            let plan = Plan::for_room(scheme, u32::from(left.min(ROWS_MAX)), 0)
                .filter(|plan| plan.rows > plan.description_rows)
                .filter(|_| scheme.m() >= self.core.meta_scheme().m());
            if let Some(plan) = plan {
                return Ok(Open { segment, scheme, row: Row(rows), plan, payload: Vec::new() });
            }
            self.core.stripes.space.with(|space| space.seal(segment));
            self.core.meta.with(|meta| meta[stream].segment = None);
        }
    }

    fn next_segment(&self) -> Result<SegmentId> {
        let scheme = self.core.meta_scheme();
        let segment = self
            .core
            .stripes
            .space
            .with(|space| space.open(scheme, self.purpose, self.core.reserves()))
            .ok_or_else(|| {
                Error::new(Kind::NoSpace, "no free chunks are left for the metadata of a checkpoint")
            })?;
        let stream = self.stream();
        self.core.meta.with(|meta| meta[stream].segment = Some(segment));
        Ok(segment)
    }

    async fn write(&self, open: Open) -> Result<()> {
        let k = usize::from(open.scheme.k());
        let rows = usize::from(open.plan.description_rows) + open.payload.len().div_ceil(k);
        let rows = u8::try_from(rows).expect("at most the planned rows");
        let plan = Plan::of_rows(open.scheme, rows, 0).expect("fewer rows than planned need less");
        let columns = self.core.stripes.view(open.segment)?.columns;
        let row = self.core.stripes.space.with(|space| space.extend(open.segment, u16::from(rows) + 1));
        assert_eq!(row, open.row, "nobody else writes to a stream of pages");
        let sequence = self.core.log.with(|log| log.take_sequences(1));
        let head = Head {
            identity: self.core.stripes.pool.identity(),
            segment: open.segment,
            scheme: open.scheme,
            columns,
            row,
            plan,
            sequence,
            group: (sequence, sequence),
            intervals: Vec::new(),
            changes: Vec::new(),
        };
        let places: Vec<(u8, Column)> = (0..open.payload.len()).map(|index| open.place(index)).collect();
        let packed = pack(head, &open.payload, &places, &self.core.stripes.codec(open.scheme))?;
        if !self.core.stripes.write(packed, self.purpose).await {
            return Err(Error::io("a member failed under a checkpoint"));
        }
        self.core.stripes.space.with(|space| space.apply(open.segment, row.0 + u16::from(rows) + 1));
        Ok(())
    }
}

impl PageSink for Sink<'_> {
    async fn emit(&mut self, page: Page) -> Result<Pointer> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        let bytes = Aligned::copy_of(&page.encode()).freeze();
        let owner = Owner::Page {
            tree: page.tree.number(),
            level: page.level,
            low: page.low.0,
            generation: page.generation,
        };
        let (row, column) = open.place(open.payload.len());
        let back = row + 1;
        let place = Place { segment: open.segment, row: open.row.plus(u16::from(back)), column };
        let crc = pointer_crc(&bytes, &identity(page.tree, page.level));
        open.payload.push(Payload { owner, bytes });
        *self.counts.entry(open.segment).or_default() += 1;
        self.core.cache.with(|cache| cache.insert(place, Arc::new(page)));
        if open.payload.len() == open.capacity() {
            self.write(open).await?;
        } else {
            self.open = Some(open);
        }
        Ok(Pointer { place, back, crc })
    }

    fn retire(&mut self, pointer: Pointer) {
        *self.counts.entry(pointer.place.segment).or_default() -= 1;
    }
}
