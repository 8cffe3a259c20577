//! `paritas inspect`: what one member holds, read-only. It tells what the member alone can tell: which segments
//! live, which volumes have which names, is in trees that lie on all members together.

mod chunks;
mod document;
mod rings;
mod text;

use crate::cli;
use crate::names::{SchemeName, show_size};
use crate::outcome::{Failure, Report, say};
use chunks::{Head, Layout, SEARCH_BYTES};
use document::{ChunkFacts, Chunks, Document, Held, Newest, RecordFacts, SlotFacts};
use paritas::device::Image;
use paritas::device::inject::sidecar;
use paritas::format::record::HeaderPart;
use paritas::format::superblock::MemberState;
use paritas::types::Chunk;
use std::collections::BTreeMap;

/// Chunks listed unless more is asked for.
const LISTED: usize = 16;
/// Chunks listed at most.
const LISTED_MAX: usize = 1024;

/// The name of the array that a file or device is a member of, and whether it left that one. `None` where no superblock
/// says so.
pub(crate) fn owner(image: &Image) -> Option<(String, bool)> {
    let slots = rings::slots(image);
    let newest = rings::newest(&slots)?;
    let record = newest.members.get(usize::from(newest.slot.0));
    Some((newest.name.clone(), record.is_some_and(|record| record.state == MemberState::Removed)))
}

pub(crate) fn run(args: &cli::Inspect) -> Result<Report, Failure> {
    let path = args.member.display().to_string();
    let image = Image::open(&args.member).map_err(|error| Failure::io(format!("{path}: {error}")))?;
    let faults = sidecar::path_of(&args.member);
    if faults.exists() {
        say(&format!("{} keeps faults that strike it on purpose, but not who inspects it", faults.display()));
    }
    let slots = rings::slots(&image);
    let Some(layout) = Layout::of(&image, &slots) else {
        let (damaged, search) =
            (slots.iter().filter(|slot| slot.is_damaged()).count(), show_size(SEARCH_BYTES));
        return Err(Failure::refused(format!(
            "{path} is no member of an array: no good superblock ({damaged} of {} slots hold something else), no \
             record header in the first {search}",
            slots.len()
        )));
    };
    if args.chunk.is_some_and(|chunk| chunk >= layout.chunks) {
        return Err(Failure::usage(format!("{path} has {} chunks, counted from 0", layout.chunks)));
    }
    let document = Document {
        path,
        size: image.len(),
        array: layout.array.to_string(),
        slot: layout.slot.0,
        known_by: if layout.by_superblock { "superblocks" } else { "records" },
        format: document::format(),
        superblocks: slots.iter().map(SlotFacts::of).collect(),
        newest: rings::newest(&slots).map(|copy| Newest::of(copy, &layout)),
        chunks: look(&image, &layout, args),
    };
    let text = text::of(&document);
    let json = serde_json::to_value(document).map_err(|error| Failure::io(error.to_string()))?;
    Ok(Report::done(json, text))
}

/// Counts the chunks by what they begin with, and lists those that are asked for.
fn look(image: &Image, layout: &Layout, args: &cli::Inspect) -> Chunks {
    let limit = if args.records { LISTED_MAX } else { LISTED };
    let mut found = Chunks {
        size: layout.geometry.chunk_bytes(),
        total: layout.chunks,
        with_records: 0,
        zeros: 0,
        damaged: 0,
        other: 0,
        schemes: BTreeMap::new(),
        listed: Vec::new(),
        unlisted: 0,
    };
    chunks::each_head(image, layout, |chunk, head| {
        let of_interest = matches!(head, Head::Record(_) | Head::Damaged(_));
        let is_chosen = match args.chunk {
            Some(chosen) => chosen == chunk.0,
            None => of_interest && found.listed.len() < limit,
        };
        let unread = |why: &str| ChunkFacts { chunk: chunk.0, why: Some(why.into()), held: None };
        let facts = match head {
            Head::Record(part) => {
                found.with_records += 1;
                *found.schemes.entry(SchemeName::spell(part.record.scheme)).or_default() += 1;
                is_chosen.then(|| held(image, layout, chunk, *part, args.records || args.chunk.is_some()))
            }
            Head::Damaged(why) => {
                found.damaged += 1;
                is_chosen.then(|| unread(&why))
            }
            Head::Zeros => {
                found.zeros += 1;
                is_chosen.then(|| unread("begins with zeros"))
            }
            Head::Other => {
                found.other += 1;
                is_chosen.then(|| unread("begins with no header of this member"))
            }
        };
        found.unlisted += u32::from(of_interest && !is_chosen);
        found.listed.extend(facts);
    });
    found
}

fn held(image: &Image, layout: &Layout, chunk: Chunk, first: HeaderPart, detailed: bool) -> ChunkFacts {
    let record = &first.record;
    let mut held = Held {
        segment: record.segment.0,
        column: first.column.0,
        scheme: SchemeName::spell(record.scheme),
        sequence: record.sequence.0,
        epoch: record.epoch.0,
        records: None,
        end: None,
    };
    if detailed {
        let (seen, end) = chunks::records(image, layout, chunk, first);
        held.records = Some(seen.iter().map(RecordFacts::of).collect());
        held.end = Some(end);
    }
    ChunkFacts { chunk: chunk.0, why: None, held: Some(held) }
}
