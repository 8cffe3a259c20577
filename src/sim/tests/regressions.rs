//! Bugs that the simulator found once, each told in the fewest steps that show it.

use super::scene::{Life, Scene, data};
use crate::format::tables::DamageCause;
use crate::maintain::Pace;
use crate::sim::{Fault, Rot, Script, perform};
use crate::types::{Lba, Scheme, SegmentId, VolumeId};
use crate::volume::Shard;

/// Blocks of one batch that fill a segment of 8 rows and one data column: a header and these.
const SEGMENT: u64 = 7;

/// Writes a segment full, and makes it durable.
fn fill(life: &Life, id: VolumeId, lba: u64, tag: u64) {
    life.write(id, lba, SEGMENT, tag);
    life.flush(id);
}

// A dead segment's chunk still held its old header when a checkpoint put the chunk on the runway. Replay took
// that header, of the same opening, for a segment that the log had entered since, and so claimed chunks that by
// then were another's: the array did not open. Only segments numbered from the checkpoint's cut on count now.
#[test]
fn a_dead_segments_old_header_is_not_taken_for_a_new_segment() {
    for later in 0..8 {
        let scene = Scene::new((1, 1), 8, &[80; 3]);
        let life = scene.open();
        let id = life.volume("mail", 1024);
        for tag in 1..6 {
            fill(&life, id, 0, tag);
        }
        // The first frees what is dead; from the second on, nothing needs the records.
        life.checkpoint();
        life.checkpoint();
        // Of the chunks of a freed segment one is soon reused, and the other keeps its header.
        for tag in 0..later {
            fill(&life, id, 100 + tag * SEGMENT, 10 + tag);
        }
        life.kill();
        let life = scene.open();
        life.expect(id, 0, SEGMENT, 5);
        (0..later).for_each(|tag| life.expect(id, 100 + tag * SEGMENT, SEGMENT, 10 + tag));
    }
}

// While a checkpoint was written, a segment was filled, overwritten and dead. The checkpoint freed it, although
// its numbers came after the checkpoint's cut: when its chunks had been reused, replay found a gap where flushed
// writes were. A dead segment stays now while replay from the checkpoint needs its numbers.
#[test]
fn a_dead_segment_stays_while_replay_needs_its_numbers() {
    let scene = Scene::new((1, 1), 8, &[80; 2]);
    let life = scene.open();
    let id = life.volume("mail", 1024);
    fill(&life, id, 0, 1);
    // The checkpoint's first page takes its time.
    scene.disks[0].inject(Fault::Hang);
    let checkpoint = life.start(async move |shard| shard.checkpoint().await);
    for tag in 2..8 {
        fill(&life, id, 0, tag);
    }
    assert!(checkpoint.take().is_none(), "the overwrites fall into the checkpoint");
    scene.disks[0].unhang();
    life.wait(&checkpoint).expect("written");
    for tag in 8..20 {
        fill(&life, id, tag * SEGMENT, tag);
    }
    life.kill();
    let life = scene.open();
    life.expect(id, 0, SEGMENT, 7);
    (8..20).for_each(|tag| life.expect(id, tag * SEGMENT, SEGMENT, tag));
    assert!(life.shard.damage().is_empty(), "{:?}", life.shard.damage());
}

// A record was torn: one member never got its block. Replay read all columns, saw that enough were good, and read
// them again to rebuild the missing one; the second read came back wrong, nothing was rebuilt, and the record
// was kept without its redundancy. The next member that was lost took the data along. What was read and
// verified once is now what the rest is rebuilt from.
#[test]
fn a_torn_record_is_mended_from_what_was_read_and_verified_once() {
    let mut kept = 0;
    for event in 0..150 {
        let scene = Scene::new((2, 1), 8, &[40; 3]);
        let life = scene.open();
        let id = life.volume("mail", 64);
        life.write(id, 0, 2, 1);
        life.flush(id);
        let segment = life.segment(id, 0);
        let header = life.headers(segment);
        life.kill();
        // As if the flush had not been asked for, and the power failed before the parity was written.
        let (parity, row) = header[2];
        scene.disks[parity].rot(row + 1..row + 2, Rot::Zero);
        let unstable = header[0].0;
        let life = scene.open_with(event, || scene.disks[unstable].inject(Fault::UnstableRead));
        let found = life.run(async move |shard| shard.read(id, Lba(0), 2).await).expect("read");
        assert!(found == data(0, 2, 1) || found.iter().all(|byte| *byte == 0), "neither there nor cut");
        kept += u32::from(found == data(0, 2, 1));
        scene.disks[unstable].vanish();
        let again = life.run(async move |shard| shard.read(id, Lba(0), 2).await);
        assert!(again == Ok(found), "event {event}: what was kept did not survive the loss of one member");
    }
    assert!(kept > 100, "{kept}");
}

// A torn record was made whole at an opening, and the member that had lacked a block of it failed under the checkpoint
// that ends every opening. It was evicted, and the block was lost there; but the segment table called its column
// complete, because the member had been in use when replay came by. When it was back it was believed, nothing was
// rebuilt, and the next member that was lost took the data along.
#[test]
fn what_recovery_wrote_to_a_member_that_then_fails_is_doubted() {
    let mut evicted = 0;
    for event in 0..150 {
        let scene = Scene::new((2, 1), 8, &[40; 3]);
        let life = scene.open();
        let id = life.volume("mail", 64);
        life.write(id, 0, 2, 1);
        life.flush(id);
        let segment = life.segment(id, 0);
        let header = life.headers(segment);
        life.kill();
        // As if the flush had not been asked for, and the power failed before the parity was written.
        let (parity, row) = header[2];
        scene.disks[parity].rot(row + 1..row + 2, Rot::Zero);
        let life = scene.open_with(event, || scene.disks[parity].inject(Fault::FlushError));
        evicted += life.shard.core().progress().evictions;
        let found = life.run(async move |shard| shard.read(id, Lba(0), 2).await).expect("read");
        life.power_loss();
        let life = scene.open_for_upkeep();
        life.run(async move |shard| shard.rebuild(Pace::default()).await).expect("rebuilt");
        scene.disks[header[0].0].vanish();
        let again = life.run(async move |shard| shard.read(id, Lba(0), 2).await);
        assert!(again == Ok(found), "event {event}: what was kept did not survive the loss of one member");
    }
    assert!(evicted > 10, "{evicted}");
}

// A member failed under a checkpoint, while the writer, who wrote it, had a batch on its way to that member. The
// checkpoint made the eviction durable and went on; nobody started the batch over, and its flush waited for ever.
#[test]
fn a_checkpoint_that_evicts_a_member_starts_the_log_over() {
    for before in 0..8 {
        for after in 0..10 {
            let mut scene = Scene::new((2, 1), 8, &[40; 4]);
            scene.config.overlay = 4;
            let life = scene.open();
            let id = life.volume("mail", 64);
            let write = |lba, tag| {
                life.start(async move |shard| {
                    shard.write(id, Lba(lba), data(lba, 6, tag)).await?;
                    shard.flush(id).await
                })
            };
            // The first, durable, makes the writer write a checkpoint; the second is on its way.
            let first = write(0, 1);
            life.step(before);
            let second = write(8, 2);
            life.step(after);
            scene.disks[0].vanish();
            life.wait(&first).expect("three members are left");
            life.wait(&second).expect("three members are left");
            life.kill();
            let life = scene.open();
            life.expect(id, 0, 6, 1);
            life.expect(id, 8, 6, 2);
        }
    }
}

// A long trim came behind a merge of the same tree, in one checkpoint. It went through the pages that the merge had
// just made, which lay in the sink and not yet on the members; where the cache had dropped them, it read what
// had been there before.
#[test]
fn a_long_trim_behind_a_merge_finds_the_pages_of_the_merge() {
    let mut scene = Scene::new((2, 1), 32, &[80; 3]);
    scene.config.map_cache = 0;
    let life = scene.open();
    let id = life.volume("mail", 4000);
    for lba in (0..2000).step_by(200) {
        life.write(id, lba, 200, 1);
    }
    life.flush(id);
    life.checkpoint();
    life.run(async move |shard| shard.trim(id, Lba(200), 1000).await).expect("trimmed");
    life.write(id, 1500, 10, 2);
    life.flush(id);
    life.checkpoint();
    life.expect(id, 0, 200, 1);
    life.expect(id, 1200, 300, 1);
    life.expect(id, 1500, 10, 2);
    let trimmed = life.run(async move |shard| shard.read_blocks(id, Lba(200), 1000).await).expect("read");
    assert!(trimmed.iter().all(Option::is_none));
}

// With members of different sizes the runway, which is shared among them, was shorter than the free space. User
// data left the reserve alone as far as free chunks go, but used the runway up: the next checkpoint had no
// chunk for its pages, and neither had the one of the next opening.
#[test]
fn user_data_leaves_the_runway_its_reserve_for_metadata() {
    let scene = Scene::new((1, 1), 8, &[1200, 2400, 2400]);
    let life = scene.open();
    let id = life.volume("mail", 4000);
    for lba in (0..4000).step_by(200) {
        life.write(id, lba, 200, 1);
    }
    life.flush(id);
    life.checkpoint();
    // Changes all over the map: more pages than what is left of the segment that the last ones went to.
    for lba in (100..4000).step_by(200) {
        life.write(id, lba, 1, 2);
    }
    // The same blocks again and again: the overlay does not grow, so nothing asks for a checkpoint but the runway.
    for tag in 3..1200 {
        fill(&life, id, 0, tag);
    }
    life.checkpoint();
    life.kill();
    let life = scene.open();
    life.expect(id, 0, SEGMENT, 1199);
    life.expect(id, 3900, 1, 2);
}

// On members with more free chunks than the runway has room for, the log entered a new segment while a checkpoint
// was written: the runway was filled up to its limit again, that segment's chunks came on top, and the superblock
// refused them. The array failed. It was enough to make a volume while somebody wrote.
#[test]
fn the_runway_keeps_its_limit_when_the_log_moves_on_under_a_checkpoint() {
    let scene = Scene::new((1, 1), 8, &[1300; 2]);
    let life = scene.open();
    let id = life.volume("mail", 1024);
    fill(&life, id, 0, 1);
    let volume = life.start(async move |shard| shard.create_volume("other", Scheme::MIRROR, 64).await);
    life.write(id, 7, 70, 2);
    life.wait(&volume).expect("created");
    life.flush(id);
    life.expect(id, 7, 70, 2);
}

// A checkpoint failed after its boot segment was written. The attempt that succeeded, with the same cut, freed that
// segment at once; its chunks were reused, one before the other, while its header still passed for a segment
// that the log had entered after the cut. It is now freed by the next checkpoint, whose cut is behind it.
#[test]
fn a_failed_checkpoints_boot_segment_is_not_freed_by_the_one_that_succeeds() {
    // A boot segment is full after a few checkpoints; the attempt that fails must begin a new one. Which of its
    // chunks are reused first depends on the members that stay.
    let cases = (1..4).flat_map(|earlier| (1..5).map(move |later| (earlier, later)));
    for (earlier, later, fails) in
        cases.flat_map(|(earlier, later)| (0..5).map(move |at| (earlier, later, at)))
    {
        let scene = Scene::new((2, 1), 8, &[80; 5]);
        let life = scene.open();
        let id = life.volume("mail", 1024);
        for tag in 0..=earlier {
            fill(&life, id, 0, 1 + tag);
            life.checkpoint();
        }
        fill(&life, id, 0, 10);
        // The flush of the members comes after the last page.
        scene.disks[fails].inject(Fault::FlushError);
        life.checkpoint();
        assert_eq!(life.shard.core().progress().evictions, 1);
        for tag in 0..later {
            life.write(id, 100 + tag * 2 * SEGMENT, 2 * SEGMENT, 20 + tag);
            life.flush(id);
        }
        life.kill();
        let life = scene.open();
        life.expect(id, 0, SEGMENT, 10);
        (0..later).for_each(|tag| life.expect(id, 100 + tag * 2 * SEGMENT, 2 * SEGMENT, 20 + tag));
    }
}

// A record was torn so that a header of it was left and its description was not. It was counted among the rows of
// its segment all the same, although no map could ever point there: every scrub from then on said that something
// lacked redundancy, until the segment happened to be cleaned. And the members that had been torn from were
// charged with checksum errors, as if they were rotten.
#[test]
fn what_a_kill_tears_is_no_fault_of_members_and_lacks_no_redundancy() {
    let (mut torn, mut whole) = (0, 0);
    for (event, blocks) in (0..3).flat_map(|event| (110..122).map(move |blocks| (event, blocks))) {
        let scene = Scene::new((2, 1), 128, &[40; 3]);
        let life = scene.open();
        let id = life.volume("mail", 1024);
        life.write(id, 0, 8, 1);
        life.flush(id);
        // So many blocks that their description does not fit into the header.
        life.write(id, 100, blocks, 2);
        let flush = life.start(async move |shard| shard.flush(id).await);
        life.step(event);
        let flushed = flush.take().is_some();
        life.kill();
        let life = scene.open();
        life.expect(id, 0, 8, 1);
        let read = life.run(async move |shard| shard.read(id, Lba(100), blocks).await).expect("read");
        let is_there = read == data(100, blocks, 2);
        assert!(is_there || !flushed && read.iter().all(|byte| *byte == 0), "{event} {blocks}: no prefix");
        *(if is_there { &mut whole } else { &mut torn }) += 1;
        let scrubbed = life.run(async move |shard| shard.scrub().await).expect("scrubbed");
        assert_eq!((scrubbed.reduced, scrubbed.lost), (0, 0), "{event} {blocks}");
        let errors = life.shard.core().stripes().pool.superblock().members;
        let errors: Vec<[u32; 4]> = errors.iter().map(|member| member.errors).collect();
        assert_eq!(errors, [[0; 4]; 3], "{event} {blocks}");
    }
    assert!(torn > 5 && whole > 5, "{torn} {whole}");
}

/// What of a volume is listed as lost, block by block.
fn listed(life: &Life, id: VolumeId) -> Vec<u64> {
    let damage = life.shard.damage().into_iter().filter(|record| record.volume == id);
    damage.flat_map(|record| record.lba.0..record.lba.0 + u64::from(record.blocks)).collect()
}

/// Two blocks of four that are beyond repair are written anew, or trimmed, so many events after somebody has begun to
/// find them. Returns whether they were listed by then. Without `events`, counts those until they are.
fn anew_while_found(scrubs: bool, trims: bool, events: Option<u64>) -> (bool, u64) {
    let mut scene = Scene::new((2, 1), 32, &[80; 3]);
    scene.config.map_cache = 0;
    let life = scene.open();
    let id = life.volume("mail", 64);
    life.write(id, 0, 4, 1);
    life.flush(id);
    // A scrub looks at what is sealed.
    life.kill();
    let life = scene.open();
    let segment = life.segment(id, 0);
    let headers = life.headers(segment);
    for at in life.blocks(segment).into_iter().filter(|at| !headers.contains(at)) {
        scene.disks[at.0].rot(at.1..at.1 + 1, Rot::Garbage);
    }
    let finds = life.start(async move |shard| match scrubs {
        true => shard.scrub().await.map(drop),
        false => shard.read(id, Lba(0), 4).await.map(drop),
    });
    let Some(events) = events else {
        let steps = (0..10_000).take_while(|_| listed(&life, id).is_empty()).inspect(|_| life.step(1));
        return (false, steps.count() as u64);
    };
    life.step(events);
    let were_listed = !listed(&life, id).is_empty();
    let anew = async move |shard: Shard| {
        match trims {
            true => shard.trim(id, Lba(1), 2).await?,
            false => shard.write(id, Lba(1), data(1, 2, 2)).await?,
        };
        shard.flush(id).await
    };
    life.run(anew).expect("two blocks anew");
    // Who was finding them may find the other two.
    let _found = life.wait(&finds);
    assert!(!listed(&life, id).iter().any(|lba| [1, 2].contains(lba)), "after {events} events");
    life.run(async move |shard| shard.read(id, Lba(0), 4).await).expect_err("two blocks are lost");
    life.run(async move |shard| shard.scrub().await).expect("scrubbed");
    assert_eq!(listed(&life, id), [0, 3], "after {events} events");
    (were_listed, events)
}

// A block was found beyond repair by a rebuild, a scrub or a read; while that was being found, somebody wrote it anew,
// or trimmed it; and then it was listed as damage. Nothing would have taken it off the list again, though it was good
// (seeds 1001879, 1009776, 1015119, 1019163, 1019846).
#[test]
fn what_is_written_anew_while_somebody_finds_it_lost_is_not_listed() {
    for (scrubs, trims) in [(true, false), (true, true), (false, false), (false, true)] {
        let (_, until) = anew_while_found(scrubs, trims, None);
        let before = until.saturating_sub(30)..until;
        assert!(before.into_iter().all(|events| !anew_while_found(scrubs, trims, Some(events)).0));
        assert!(anew_while_found(scrubs, trims, Some(until)).0, "{until} events");
    }
}

// A member came back that had been away while replay found one of its segments, and so the column there was doubted. A
// read of it began, and did not read it, because it was doubted; then the rebuild had verified it, and it was doubted
// no more; and the read took it for one that it had read in vain. A good block was answered as lost (seed 1010748).
#[test]
fn a_column_that_a_rebuild_verifies_under_a_read_is_read() {
    let mut doubted = 0;
    for events in 0..60 {
        let scene = Scene::new((1, 0), 32, &[80; 2]);
        let life = scene.open();
        let id = life.volume("mail", 64);
        life.write(id, 0, 4, 1);
        life.flush(id);
        life.checkpoint();
        let own = life.blocks(life.segment(id, 0))[0].0;
        life.kill();
        scene.disks[own].vanish();
        scene.open().kill();
        scene.disks[own].come_back();
        let life = scene.open_for_upkeep();
        let lacking =
            life.shard.core().stripes().space.with(|space| space.lacking(SegmentId(u64::MAX)).len());
        doubted += u32::from(lacking > 0);
        let rebuild = life.start(async move |shard| shard.rebuild(Pace::default()).await);
        life.step(events);
        let read = life.start(async move |shard| shard.read(id, Lba(0), 4).await);
        assert!(life.wait(&read) == Ok(data(0, 4, 1)), "after {events} events");
        // That a write may have been lost is listed since it was away.
        assert!(life.shard.damage().iter().all(|record| record.cause == DamageCause::LostRecords));
        life.wait(&rebuild).expect("rebuilt");
    }
    assert_eq!(doubted, 60);
}

/// Runs that once failed and that nobody has told in fewer steps, made small, each with what was wrong. Whoever changes
/// what the engine does in which order changes their course.
const RUNS: [&str; 1] = [
    // As long as the cleaner found blocks to move, open segments in which nothing lived were left as they were; when
    // moving had gained nothing often enough, a trim was refused for want of room.
    include_str!("runs/200083507.run"),
];

#[test]
fn runs_that_failed_once_are_clean() {
    for text in RUNS {
        let script: Script = text.parse().expect("a script");
        assert_eq!(perform(&script, false).outcome.failure, None, "{text}");
    }
}
