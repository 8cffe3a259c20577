//! What `inspect` found, for people.

use super::document::{ChunkFacts, Document, Held, Newest, RecordFacts, SlotFacts};
use crate::names::show_size;

pub(super) fn of(document: &Document) -> String {
    let size = show_size(document.size);
    let mut lines = vec![
        format!("{}: {size}, member {} of array {}", document.path, document.slot, document.array),
        format!("  known by its {}, format {}", document.known_by, document.format),
    ];
    superblocks(&document.superblocks, &mut lines);
    if let Some(newest) = &document.newest {
        self::newest(newest, &mut lines);
    }
    chunks(document, &mut lines);
    lines.join("\n")
}

fn superblocks(slots: &[SlotFacts], lines: &mut Vec<String>) {
    let count = |state: &str| slots.iter().filter(|slot| slot.state == state).count();
    lines.push(format!(
        "superblocks: {} good, {} empty, {} damaged",
        count("good"),
        count("empty"),
        count("damaged")
    ));
    for slot in slots {
        let what = match (&slot.copy, &slot.why) {
            (Some(copy), _) => format!(
                "epoch {}, commit {}, nonce {:016x}, '{}', member {}",
                copy.epoch, copy.commit, copy.nonce, copy.name, copy.member
            ),
            (None, Some(why)) => format!("damaged: {why}"),
            (None, None) => continue,
        };
        lines.push(format!("  {}{}  byte {:>14}  {what}", slot.ring, slot.slot, slot.offset));
    }
}

fn newest(newest: &Newest, lines: &mut Vec<String>) {
    lines.push(format!(
        "array '{}', epoch {} (after {} others), commit {}, volumes {}, metadata {}",
        newest.name, newest.epoch, newest.past_epochs, newest.commit, newest.scheme, newest.metadata_scheme
    ));
    lines.push(format!(
        "  checkpoint {}: segments go on at {}, the log at {}; boot segments {:?}; {} chunks here are runway",
        newest.checkpoint, newest.next_segment, newest.next_sequence, newest.boot_segments, newest.runway
    ));
    for member in &newest.members {
        let label = if member.label.is_empty() { String::new() } else { format!(", label {}", member.label) };
        lines.push(format!(
            "  {:>3}  {:<8} since epoch {}, {} chunks  {}  {}{label}",
            member.slot, member.state, member.since, member.chunks, member.uuid, member.path
        ));
    }
}

fn chunks(document: &Document, lines: &mut Vec<String>) {
    let chunks = &document.chunks;
    let schemes: Vec<String> =
        chunks.schemes.iter().map(|(scheme, count)| format!("{count} of {scheme}")).collect();
    lines.push(format!(
        "chunks of {}: {}, of which {} begin with a record ({}), {} with zeros, {} with a damaged header, {} with \
         something else",
        show_size(chunks.size),
        chunks.total,
        chunks.with_records,
        if schemes.is_empty() { "none".into() } else { schemes.join(", ") },
        chunks.zeros,
        chunks.damaged,
        chunks.other
    ));
    chunks.listed.iter().for_each(|facts| chunk(facts, lines));
    if chunks.unlisted > 0 {
        lines.push(format!("  and {} more: --records lists them, --chunk N shows one", chunks.unlisted));
    }
}

fn chunk(facts: &ChunkFacts, lines: &mut Vec<String>) {
    let Some(Held { segment, column, scheme, sequence, epoch, records, end }) = &facts.held else {
        lines.push(format!("  chunk {:>6}  {}", facts.chunk, facts.why.as_deref().unwrap_or_default()));
        return;
    };
    lines.push(format!(
        "  chunk {:>6}  segment {segment}, column {column} of {scheme}, from sequence {sequence}, epoch {epoch}",
        facts.chunk
    ));
    records.iter().flatten().for_each(|facts| lines.push(format!("    {}", record(facts))));
    lines.extend(end.iter().map(|end| format!("    {end}")));
}

fn record(facts: &RecordFacts) -> String {
    let mut parts = vec![format!("row {:>5}, {:>3} rows", facts.row, facts.rows)];
    parts.push(match facts.group {
        (first, last) if first == last => format!("sequence {}", facts.sequence),
        (first, last) => format!("sequence {} of group {first} to {last}", facts.sequence),
    });
    parts.push(format!("epoch {}", facts.epoch));
    parts.extend(facts.volumes.iter().map(|(volume, blocks)| format!("volume {volume}: {blocks} blocks")));
    let counts = [
        (facts.moved, "moved"),
        (facts.pages, "pages"),
        (facts.fill, "fill"),
        (facts.described_elsewhere, "described on other members"),
    ];
    parts
        .extend(counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
    parts.extend(facts.intervals.iter().flatten().map(|interval| {
        let (volume, after, through, durable) =
            (interval.volume, interval.after, interval.through, interval.durable);
        format!("volume {volume} from {after} through {through}, durable {durable}")
    }));
    let changes = [(facts.trims, "trims"), (facts.resizes, "resizes")];
    let changes = changes.iter().filter_map(|(count, what)| Some((count.filter(|count| *count > 0)?, what)));
    parts.extend(changes.map(|(count, what)| format!("{count} {what}")));
    parts.extend(facts.damaged.iter().cloned());
    parts.join(", ")
}
