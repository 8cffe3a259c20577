//! `paritas inspect`: sound members, destroyed superblocks, garbage.

mod common;

use common::{BLOCK, Bench, MIB, expect, fingerprint, holey, noise, paritas};
use serde_json::Value;
use std::path::Path;

const RING: usize = MIB;

fn member(bench: &Bench, i: usize) -> String {
    bench.member(i).to_str().expect("UTF-8").into()
}

fn inspect(bench: &Bench, i: usize, more: &[&str]) -> Value {
    let path = member(bench, i);
    let args: Vec<&str> = ["inspect", &path, "--json"].iter().chain(more).copied().collect();
    expect(0, &args).json()
}

fn count<'a>(list: &'a Value, field: &str, value: &str) -> usize {
    list.as_array().expect("a list").iter().filter(|entry: &&'a Value| entry[field] == value).count()
}

#[test]
fn a_member_tells_its_superblocks_its_chunks_and_its_records_and_nothing_is_written() {
    let bench = Bench::new(6, "4+2");
    bench.import("v", &holey(1, 5 * MIB));
    let before = fingerprint(Path::new(&bench.array()));
    let status = expect(0, &["status", &bench.array(), "--json"]).json();
    let mut data = 0;
    for i in 0..6 {
        let facts = inspect(&bench, i, &["--records"]);
        assert_eq!((&facts["array"], &facts["slot"]), (&status["uuid"], &Value::from(i)));
        assert_eq!(
            (facts["known_by"].as_str(), facts["size"].as_u64()),
            (Some("superblocks"), Some(64 << 20))
        );
        assert_eq!(facts["superblocks"].as_array().expect("a list").len(), 16);
        assert_eq!(count(&facts["superblocks"], "state", "damaged"), 0);
        assert!(count(&facts["superblocks"], "state", "good") >= 4);
        let newest = &facts["newest"];
        assert_eq!((newest["name"].as_str(), newest["scheme"].as_str()), (Some("array"), Some("4+2")));
        assert_eq!(newest["members"][i]["uuid"], status["members"][i]["uuid"]);
        assert_eq!(count(&newest["members"], "state", "active"), 6);
        let chunks = &facts["chunks"];
        let kinds = ["with_records", "zeros", "damaged", "other"]
            .map(|kind| chunks[kind].as_u64().expect("a number"));
        assert_eq!(kinds.iter().sum::<u64>(), chunks["total"].as_u64().expect("a number"));
        assert!(kinds[0] > 0 && kinds[2] == 0, "{kinds:?}");
        assert_eq!(chunks["unlisted"], 0);
        for chunk in chunks["listed"].as_array().expect("a list") {
            let records = chunk["records"].as_array().expect("a list");
            assert!(!records.is_empty() && chunk["segment"].is_u64() && chunk["end"].is_string(), "{chunk}");
            for record in records {
                data += record["volumes"]["1"].as_u64().unwrap_or(0);
                for interval in record["intervals"].as_array().into_iter().flatten() {
                    assert_eq!(interval["volume"], 1);
                }
            }
        }
    }
    assert!(data > 0, "some column describes data of the volume");
    let text = expect(0, &["inspect", &member(&bench, 0)]).out;
    for word in ["superblocks: ", "'array'", "4+2", "chunks of ", "begin with a record"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert_eq!(fingerprint(Path::new(&bench.array())), before);
}

#[test]
fn every_copy_of_a_mirror_tells_every_block() {
    let bench = Bench::new(3, "mirror3");
    bench.import("v", &noise(2, 3 * MIB));
    for i in 0..3 {
        let facts = inspect(&bench, i, &["--records"]);
        let records = facts["chunks"]["listed"].as_array().expect("a list").iter();
        let records: Vec<&Value> =
            records.flat_map(|chunk| chunk["records"].as_array().expect("a list")).collect();
        assert!(
            records.iter().all(|record| record["described_elsewhere"] == 0 && record["intervals"].is_array())
        );
        let sum =
            |field: &str| records.iter().filter_map(|record| record["volumes"][field].as_u64()).sum::<u64>();
        assert_eq!(sum("1"), 3 * 256, "{facts:#}");
        assert!(records.iter().any(|record| record["pages"].as_u64() > Some(0)));
    }
}

#[test]
fn a_member_without_any_superblock_is_known_by_its_records() {
    let bench = Bench::new(6, "4+2");
    bench.import("v", &noise(3, 5 * MIB));
    let whole = inspect(&bench, 2, &["--records"]);
    bench.garbage(2, 0, RING);
    bench.garbage(2, 63 * MIB, RING);
    let facts = inspect(&bench, 2, &["--records"]);
    assert_eq!(facts["known_by"], "records");
    assert_eq!(count(&facts["superblocks"], "state", "damaged"), 16);
    assert_eq!((&facts["array"], &facts["slot"]), (&whole["array"], &whole["slot"]));
    assert_eq!((&facts["newest"], &facts["chunks"]), (&Value::Null, &whole["chunks"]));
    // And with the first chunk gone as well.
    let chunk = whole["chunks"]["size"].as_u64().and_then(|size| usize::try_from(size).ok());
    bench.garbage(2, RING, chunk.expect("a size") + BLOCK);
    let facts = inspect(&bench, 2, &["--records"]);
    assert_eq!((&facts["array"], &facts["slot"]), (&whole["array"], &whole["slot"]));
    assert_eq!(facts["chunks"]["size"], whole["chunks"]["size"]);
}

#[test]
fn another_arrays_records_that_someone_stored_as_data_are_no_records() {
    let (bench, other) = (Bench::new(2, "mirror"), Bench::new(2, "mirror"));
    other.import("v", &noise(8, 3 * MIB));
    let stored = std::fs::read(other.member(0)).expect("read");
    bench.import("w", &stored[MIB..4 * MIB]);
    let whole = inspect(&bench, 0, &["--records"]);
    bench.garbage(0, 0, RING);
    bench.garbage(0, 63 * MIB, RING);
    // All up to the header before the data, so that the search meets what was stored first.
    let chunks = whole["chunks"]["listed"].as_array().expect("a list");
    let holds_data = |chunk: &&Value| chunk["records"][0]["volumes"]["1"].is_u64();
    let data = chunks.iter().find(holds_data).expect("a chunk with data");
    let number =
        |value: &Value| value.as_u64().and_then(|value| usize::try_from(value).ok()).expect("a number");
    let before = number(&data["chunk"]) * number(&whole["chunks"]["size"]);
    bench.garbage(0, RING, before + BLOCK);
    let facts = inspect(&bench, 0, &["--records"]);
    assert_eq!((&facts["array"], &facts["slot"]), (&whole["array"], &whole["slot"]));
    assert_eq!(facts["chunks"]["size"], whole["chunks"]["size"]);
}

#[test]
fn one_chunk_is_shown_alone_and_one_that_is_none_is_wrong_use() {
    let bench = Bench::new(2, "mirror");
    bench.import("v", &noise(4, MIB));
    let all = inspect(&bench, 0, &["--records"]);
    let total = all["chunks"]["total"].as_u64().expect("a number");
    let first = &all["chunks"]["listed"][0];
    let chunk = first["chunk"].to_string();
    assert_eq!(inspect(&bench, 0, &["--chunk", &chunk])["chunks"]["listed"], serde_json::json!([first]));
    let listed = all["chunks"]["listed"].as_array().expect("a list");
    let unused = (0..total).find(|chunk| listed.iter().all(|facts| facts["chunk"] != *chunk)).expect("room");
    let unused = inspect(&bench, 0, &["--chunk", &unused.to_string()]);
    assert_eq!(unused["chunks"]["listed"][0]["why"], "begins with zeros");
    expect(64, &["inspect", &member(&bench, 0), "--chunk", &total.to_string()]);
}

#[test]
fn garbage_is_refused_or_told_and_never_a_panic() {
    let bench = Bench::new(3, "2+1");
    bench.import("v", &noise(5, 4 * MIB));
    let none = bench.file("none", &noise(6, 3 * MIB));
    expect(65, &["inspect", &none]);
    for (name, len) in [("empty", 0), ("tiny", 100), ("short", MIB + 5), ("odd", 2 * MIB + 777)] {
        expect(65, &["inspect", &bench.file(name, &noise(7, len))]);
    }
    expect(74, &["inspect", bench.beside("nowhere").to_str().expect("UTF-8")]);
    expect(74, &["inspect", &bench.array()]);
    // Damage of every size, also to what checksums cannot see to be damage: old content in new places.
    let sound = std::fs::read(bench.member(0)).expect("read");
    for seed in 0..40u64 {
        let mut bytes = sound.clone();
        let random = noise(seed + 100, 64);
        let number = |i: usize| {
            let bytes = random[i * 4..i * 4 + 4].try_into().expect("4 bytes");
            usize::try_from(u32::from_le_bytes(bytes)).expect("32 bits")
        };
        for i in 0..3 {
            let len = number(i) % (1 << (number(i + 3) % 22)) + 1;
            let (to, from) = (number(i + 1) % (8 * MIB), number(i + 2) % (8 * MIB) / BLOCK * BLOCK);
            match seed % 2 {
                0 => bytes[to..to + len].copy_from_slice(&noise(seed, len)),
                _ => bytes.copy_within(from..from + len, to / BLOCK * BLOCK),
            }
        }
        if seed % 3 == 0 {
            bytes.truncate(number(7) % (16 * MIB));
        }
        let path = bench.file("damaged", &bytes);
        let ended = paritas(&["inspect", &path, "--records", "--json"]);
        assert!([0, 65].contains(&ended.code), "seed {seed}: {ended:?}");
        ended.json();
    }
}
