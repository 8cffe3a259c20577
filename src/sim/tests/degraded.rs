//! Reads of what is missing: from what the call has anyway, and from no more than that.

use super::scene::{Life, Scene, data};
use crate::sim::{Fault, Rot};
use crate::types::{BLOCK, BLOCK_U64, Lba, Place, VolumeId};
use std::collections::BTreeSet;

/// Where the blocks of a volume are.
fn places(life: &Life, id: VolumeId, blocks: u64) -> Vec<Place> {
    let place = |lba| {
        let found = life.run(async move |shard| shard.locate(id, Lba(lba)).await).expect("mapped");
        found.expect("on the members").place
    };
    (0..blocks).map(place).collect()
}

/// The disk of each column of the segment that the volume's first block lies in.
fn disks(life: &Life, id: VolumeId) -> Vec<usize> {
    let view = life.shard.core().stripes().view(life.segment(id, 0)).expect("in the table");
    view.columns.iter().map(|at| usize::from(at.expect("there").slot.0)).collect()
}

/// The block on its disk in which a record of the segment begins.
fn header(life: &Life, id: VolumeId, disk: usize) -> u64 {
    let headers = life.headers(life.segment(id, 0));
    headers.into_iter().find(|(at, _)| *at == disk).expect("a header").1
}

#[test]
fn a_call_reads_each_column_of_its_rows_once_whatever_is_missing() {
    for (from, blocks) in [(0, 128), (5, 100), (16, 16), (3, 1)] {
        let scene = Scene::new((4, 2), 64, &[80; 6]);
        let life = scene.open();
        let id = life.volume("mail", 128);
        life.write(id, 0, 128, 1);
        life.flush(id);
        let (disks, places) = (disks(&life, id), places(&life, id, 128));
        let wanted = &places[from..from + blocks];
        let segments: BTreeSet<_> = wanted.iter().map(|place| place.segment).collect();
        assert_eq!(segments.len(), 1, "one record has it all");
        // Its first column and its second.
        let lost: Vec<u8> = vec![wanted[0].column.0, (wanted[0].column.0 + 1) % 4];
        life.power_loss();
        lost.iter().for_each(|column| scene.disks[disks[usize::from(*column)]].vanish());
        let life = scene.open();
        let read = |life: &Life| {
            let (lba, count) = (u64::try_from(from).expect("small"), u64::try_from(blocks).expect("small"));
            life.expect(id, lba, count, 1);
            scene.disks.iter().map(|disk| disk.bytes_read() / BLOCK_U64).sum::<u64>()
        };
        // The first also reads what describes the record.
        let before = read(&life);
        let cost = read(&life) - before;
        let degraded: BTreeSet<_> =
            wanted.iter().filter(|place| lost.contains(&place.column.0)).map(|place| place.row).collect();
        let healthy = wanted
            .iter()
            .filter(|place| !lost.contains(&place.column.0) && !degraded.contains(&place.row))
            .count();
        assert_eq!(cost, 4 * degraded.len() as u64 + healthy as u64, "{blocks} blocks from {from}");
    }
}

// A block that matches its pointer's short checksum is what the reader gets. Nothing is computed from it, though:
// there it would only have been guessed.
#[test]
fn what_only_matches_its_pointer_is_no_source_for_what_is_missing() {
    let scene = Scene::new((2, 2), 8, &[80; 4]);
    let life = scene.open();
    let id = life.volume("mail", 64);
    life.write(id, 0, 2, 1);
    life.flush(id);
    let (disks, places) = (disks(&life, id), places(&life, id, 2));
    assert_eq!(places[0].row, places[1].row);
    let row = places[0].row.0;
    let begin = header(&life, id, disks[1]) + u64::from(row);
    let lost = &scene.disks[disks[usize::from(places[0].column.0)]];
    lost.rot(begin..begin + 1, Rot::Zero);
    // The generator polynomial of CRC-32, the bit of the highest power first: adding it changes no checksum.
    let polynomial: u64 = 0x1_04C1_1DB7;
    let other = &scene.disks[disks[usize::from(places[1].column.0)]];
    let mut bytes = other.peek(begin * BLOCK_U64 + 100, 5);
    for power in 0..=32 {
        let bit = usize::from(polynomial >> (32 - power) & 1 == 1);
        bytes[power / 8] ^= u8::try_from(bit << (power % 8)).expect("a bit");
    }
    other.poke(begin * BLOCK_U64 + 100, &bytes);
    let read = life.run(async move |shard| shard.read(id, Lba(0), 2).await).expect("read");
    assert!(read[..BLOCK] == data(0, 1, 1), "it was computed from the parity");
    assert!(read[BLOCK..] != data(1, 1, 1), "the checksum is the same");
}

#[test]
fn what_needs_a_late_run_of_its_call_is_reconstructed_once_that_is_there() {
    let scene = Scene::new((2, 1), 8, &[80; 3]);
    let life = scene.open();
    let id = life.volume("mail", 64);
    life.write(id, 0, 2, 1);
    life.flush(id);
    let (disks, places) = (disks(&life, id), places(&life, id, 2));
    let [slow, rotten] = [0, 1].map(|lba: usize| disks[usize::from(places[lba].column.0)]);
    let begin = header(&life, id, rotten) + u64::from(places[1].row.0);
    scene.disks[rotten].rot(begin..begin + 1, Rot::Zero);
    scene.disks[slow].inject(Fault::Slow);
    life.expect(id, 0, 2, 1);
    let counters = life.shard.core().stripes().counters();
    assert_eq!((counters.hedged, counters.reconstructed, counters.healed, counters.lost), (0, 1, 1, 0));
}
