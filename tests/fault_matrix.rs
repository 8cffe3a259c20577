//! The faults that the promise speaks of, and for each the tests and the events of the simulator that prove it. The
//! README's table is this one: `PARITAS_BLESS=1 cargo test --test fault_matrix` writes it anew.

use paritas::sim::EVENTS;
use std::fmt::Write;
use std::fs;

/// What proves that a fault is survived.
enum Proof {
    /// A test, by its file and its name.
    Test(&'static str, &'static str),
    /// An event that the 2,000 seeds of `tools/check` must meet while the oracle watches.
    Seeds(&'static str),
    /// A planted bug: the harness sees it when this goes wrong.
    Planted(&'static str),
    /// A command of its own.
    Run(&'static str),
}

use Proof::{Planted, Run, Seeds, Test};

/// A fault.
struct Fault {
    id: &'static str,
    what: &'static str,
    /// What a user sees while no row has lost more than its m.
    seen: &'static str,
    proofs: &'static [Proof],
    /// What is not proven.
    gap: &'static str,
}

const MATRIX: &[Fault] = &[
    Fault {
        id: "F01",
        what: "power loss; any of the writes in flight are kept, in any order",
        seen: "what was flushed is exact, the rest is a prefix",
        proofs: &[
            Seeds("power loss"),
            Seeds("unflushed"),
            Planted("SkipFlush"),
            Run("paritas sim --crash-enumeration"),
        ],
        gap: "",
    },
    Fault {
        id: "F02",
        what: "a torn sector run in data, headers or pages",
        seen: "as F01",
        proofs: &[
            Seeds("torn"),
            Planted("HeaderUnchecked"),
            Test(
                "src/sim/tests/regressions.rs",
                "a_torn_record_is_mended_from_what_was_read_and_verified_once",
            ),
        ],
        gap: "",
    },
    Fault {
        id: "F03",
        what: "a torn or partial commit of the superblock",
        seen: "the commit before or the new one, never a mix",
        proofs: &[
            Test(
                "src/sim/tests/strength.rs",
                "after_a_crash_at_any_moment_of_its_creation_a_strong_volume_is_there_with_strong_metadata_or_is_not",
            ),
            Run("paritas sim --crash-enumeration"),
            Run("paritas sim --every-assembly"),
        ],
        gap: "",
    },
    Fault {
        id: "F04",
        what: "a crash during recovery, again and again",
        seen: "as one recovery",
        proofs: &[Seeds("crash in recovery"), Run("paritas sim --crash-enumeration")],
        gap: "",
    },
    Fault {
        id: "F05",
        what: "power loss that strikes some members earlier than others",
        seen: "as F01",
        proofs: &[Seeds("freeze"), Seeds("unflushed")],
        gap: "",
    },
    Fault {
        id: "F06",
        what: "flipped bits in data",
        seen: "exact data; healed",
        proofs: &[
            Seeds("rot"),
            Seeds("healed"),
            Run("paritas sim --every-block"),
            Test(
                "tests/format_golden.rs",
                "every_flipped_bit_of_superblock_header_and_description_is_noticed",
            ),
            Test("tools/tests/kernel/faults.rs", "what_rots_is_reconstructed_charged_and_healed"),
        ],
        gap: "",
    },
    Fault {
        id: "F07",
        what: "garbage or zeros in place of blocks",
        seen: "exact data; healed",
        proofs: &[
            Seeds("rot"),
            Test("tools/tests/loss.rs", "garbage_over_much_of_two_members_loses_nothing"),
        ],
        gap: "",
    },
    Fault {
        id: "F08",
        what: "rot in parity",
        seen: "nothing; a scrub or rebuild heals it",
        proofs: &[
            Seeds("healed by scrub"),
            Seeds("audited row"),
            Planted("ParityUnverified"),
            Test(
                "tools/tests/members.rs",
                "a_scrub_heals_whatever_lies_on_two_members_so_that_two_others_may_be_lost",
            ),
        ],
        gap: "",
    },
    Fault {
        id: "F09",
        what: "rot in headers, pages, checkpoints, superblocks",
        seen: "nothing, or a slower opening; healed",
        proofs: &[
            Seeds("rot"),
            Run("paritas sim --every-block"),
            Test(
                "tools/tests/salvage.rs",
                "members_without_superblocks_are_known_by_their_chunks_and_rebuilt",
            ),
            Test("tests/format_golden.rs", "every_flipped_bit_of_a_page_is_noticed_or_meant"),
        ],
        gap: "",
    },
    Fault {
        id: "F10",
        what: "ranges that cannot be read",
        seen: "exact data; rewritten",
        proofs: &[
            Seeds("latent error"),
            Seeds("read error"),
            Planted("UnreadTaken"),
            Planted("OlderElected"),
            Test(
                "src/sim/exhaust/operations.rs",
                "what_cannot_be_read_or_written_at_an_opening_or_a_replacement_changes_nothing_for_good",
            ),
            Test(
                "tools/tests/kernel/faults.rs",
                "what_cannot_be_read_is_reconstructed_charged_and_rewritten",
            ),
        ],
        gap: "a last record whose only header left is in a bad sector is taken for a free chunk",
    },
    Fault {
        id: "F11",
        what: "a read that is wrong once",
        seen: "exact data",
        proofs: &[Seeds("unstable read")],
        gap: "",
    },
    Fault {
        id: "F12",
        what: "a write that lands elsewhere",
        seen: "exact data at both places; healed",
        proofs: &[
            Seeds("misdirected write"),
            Run("paritas sim --every-block"),
            Test(
                "tools/tests/kernel/faults.rs",
                "writes_that_are_lost_or_land_elsewhere_are_noticed_and_healed",
            ),
        ],
        gap: "",
    },
    Fault {
        id: "F13",
        what: "a read of another place, or of an older content",
        seen: "exact data",
        proofs: &[Seeds("misdirected read"), Seeds("stale read")],
        gap: "",
    },
    Fault {
        id: "F14",
        what: "a write or a flush that only says it was done",
        seen: "exact data",
        proofs: &[
            Seeds("lost write"),
            Seeds("lying flush"),
            Test(
                "tools/tests/kernel/faults.rs",
                "writes_that_are_lost_or_land_elsewhere_are_noticed_and_healed",
            ),
            Test("tools/tests/kernel/faults.rs", "what_lies_about_its_flushes_and_loses_power_loses_nothing"),
        ],
        gap: "",
    },
    Fault {
        id: "F15",
        what: "short and interrupted I/O",
        seen: "nothing",
        proofs: &[
            Seeds("short read"),
            Seeds("short write"),
            Test("src/device/io.rs", "short_writes_are_continued_at_whole_blocks"),
            Test("src/device/blocking.rs", "an_interrupted_call_is_made_again"),
        ],
        gap: "",
    },
    Fault {
        id: "F16",
        what: "a flush that fails, and then succeeds",
        seen: "nothing where the others suffice; else errors until the loss is acknowledged",
        proofs: &[
            Seeds("flush error"),
            Run("paritas sim --nth-operation"),
            Test(
                "src/sim/tests/losses.rs",
                "a_flush_that_could_not_write_keeps_failing_and_says_what_is_not_durable",
            ),
            Test("src/sim/tests/losses.rs", "a_flush_fails_until_the_loss_is_acknowledged_across_restarts"),
            Test(
                "tools/tests/kernel/faults.rs",
                "a_flush_that_fails_and_then_succeeds_has_kept_nothing_and_loses_nothing",
            ),
        ],
        gap: "",
    },
    Fault {
        id: "F17",
        what: "a member that takes no writes",
        seen: "the member is evicted; the row is written on the others",
        proofs: &[
            Seeds("write error"),
            Run("paritas sim --nth-operation"),
            Seeds("member evicted"),
            Test("src/sim/tests/regressions.rs", "a_checkpoint_that_evicts_a_member_starts_the_log_over"),
            Test("tools/tests/kernel/faults.rs", "a_member_that_takes_no_writes_is_evicted_and_comes_back"),
            Test("tools/tests/kernel/devices.rs", "a_device_that_fails_loses_nothing_and_is_replaced"),
            Test(
                "tools/tests/kernel/room.rs",
                "members_whose_file_system_is_full_are_evicted_and_come_back_when_there_is_room",
            ),
            Test(
                "tools/tests/ceilings.rs",
                "a_file_that_may_grow_no_further_is_a_member_that_takes_no_writes",
            ),
        ],
        gap: "one failed write evicts: there is no error budget",
    },
    Fault {
        id: "F18",
        what: "a full array",
        seen: "new blocks are refused; reads, overwrites, trims, deletes and scrubs go on",
        proofs: &[
            Seeds("array full"),
            Seeds("overwrite when full"),
            Test("src/sim/tests/mod.rs", "an_array_85_percent_full_takes_overwrites_for_ever"),
            Test(
                "tools/tests/kernel/room.rs",
                "an_array_whose_file_system_is_full_says_so_and_goes_on_when_there_is_room",
            ),
        ],
        gap: "",
    },
    Fault {
        id: "F19",
        what: "a slow member",
        seen: "reads are answered from the others after 200 ms",
        proofs: &[
            Seeds("slow"),
            Seeds("hedged"),
            Test("src/sim/tests/slow.rs", "a_read_does_not_wait_for_a_member_that_does_not_answer"),
            Test("tools/tests/kernel/faults.rs", "a_slow_member_is_not_waited_for"),
        ],
        gap: "the limit is a constant: members are not compared with each other",
    },
    Fault {
        id: "F20",
        what: "a member that hangs",
        seen: "as F19; after 30 s it is evicted",
        proofs: &[
            Seeds("hang"),
            Seeds("late"),
            Test(
                "src/sim/tests/slow.rs",
                "a_member_that_nobody_waited_for_is_evicted_all_the_same_if_it_never_answers",
            ),
            Test("src/device/uring/tests.rs", "a_member_that_hangs_keeps_no_other_waiting"),
            Test("tools/tests/kernel/faults.rs", "a_member_that_hangs_is_evicted_and_nobody_waits_for_it"),
            Test(
                "tools/tests/kernel/faults.rs",
                "readers_do_not_wait_for_a_member_that_hangs_however_many_they_are",
            ),
            Test("tools/tests/kernel/faults.rs", "commands_do_not_wait_for_ever_for_a_member_that_hangs"),
        ],
        gap: "no process ends while the kernel keeps its blocking read: without direct I/O, or when it looks",
    },
    Fault {
        id: "F21",
        what: "a member that vanishes",
        seen: "the array is degraded, everything goes on",
        proofs: &[
            Seeds("vanish"),
            Test("tools/tests/loss.rs", "any_two_of_six_members_may_be_lost_at_4_2"),
            Test("tools/tests/loss.rs", "three_of_twelve_members_may_be_lost_at_8_3"),
            Test(
                "tools/tests/kernel/faults.rs",
                "a_member_that_vanishes_comes_back_and_vanishes_loses_nothing",
            ),
            Test(
                "tools/tests/kernel/devices.rs",
                "a_device_that_is_detached_serves_to_the_end_and_is_missing_then",
            ),
        ],
        gap: "",
    },
    Fault {
        id: "F22",
        what: "a member that returns with what it held",
        seen: "nothing; it gets what it missed",
        proofs: &[
            Seeds("member returned"),
            Seeds("member returned while open"),
            Test("tools/tests/members.rs", "a_member_that_comes_back_gets_only_what_it_missed"),
            Test(
                "tools/tests/control.rs",
                "a_member_that_is_there_again_is_taken_back_while_the_array_is_served",
            ),
        ],
        gap: "by itself only at an opening; at once by `paritas online`",
    },
    Fault {
        id: "F23",
        what: "a member that comes and goes",
        seen: "a stable degraded array",
        proofs: &[Seeds("flap"), Seeds("member returned"), Run("paritas sim --scenario members")],
        gap: "",
    },
    Fault {
        id: "F24",
        what: "a replacement, and further losses while it is rebuilt",
        seen: "all goes on, up to m at any moment; resumed after a crash",
        proofs: &[
            Seeds("replacement"),
            Seeds("rebuild finished"),
            Test(
                "tools/tests/members.rs",
                "two_lost_members_are_replaced_and_then_any_other_two_may_be_lost",
            ),
            Run("paritas sim --nth-operation"),
            Run("paritas sim --scenario members"),
            Planted("NotIntroduced"),
        ],
        gap: "",
    },
    Fault {
        id: "F25",
        what: "members in any order, renamed, copied, foreign",
        seen: "order does not matter; copies and strangers are named and left alone",
        proofs: &[
            Test("src/sim/exhaust/assembly.rs", "arrays_are_put_together_in_some_of_all_ways"),
            Run("paritas sim --every-assembly"),
            Test("tools/tests/contract.rs", "strangers_copies_and_links_are_left_alone_and_named"),
            Test(
                "tools/tests/contract.rs",
                "an_array_is_found_by_directory_and_by_any_member_and_after_it_moved",
            ),
        ],
        gap: "",
    },
    Fault {
        id: "F26",
        what: "a member that became shorter or longer, or whose start moved",
        seen: "a member that is too short is left alone and named; exact data",
        proofs: &[
            Test("src/sim/exhaust/sizes.rs", "a_member_of_another_size_or_shifted_does_no_harm"),
            Run("paritas sim --every-assembly"),
            Test(
                "src/device/file/tests.rs",
                "a_file_that_became_shorter_gives_fewer_bytes_and_then_an_error",
            ),
        ],
        gap: "",
    },
    Fault {
        id: "F27",
        what: "two halves that were used apart and meet",
        seen: "refused, both histories are named",
        proofs: &[
            Test("src/sim/exhaust/assembly.rs", "arrays_are_put_together_in_some_of_all_ways"),
            Run("paritas sim --every-assembly"),
        ],
        gap: "",
    },
    Fault {
        id: "F28",
        what: "two openers",
        seen: "the second one is told that the array is busy",
        proofs: &[
            Test("tools/tests/contract.rs", "a_second_writer_is_refused_and_a_reader_is_not"),
            Test("src/device/file/tests.rs", "another_process_is_refused_too"),
            Test("tools/tests/kernel/devices.rs", "a_device_in_use_is_refused_to_everybody_else"),
        ],
        gap: "openers on two hosts see only what their file system or device locks",
    },
    Fault {
        id: "F29",
        what: "a clock that jumps or stands still",
        seen: "nothing: no decision is made by time of day",
        proofs: &[
            Seeds("clock jump"),
            Test("tests/tidy.rs", "machinery_is_found_outside_its_rooms_and_outside_tests"),
        ],
        gap: "",
    },
    Fault {
        id: "F30",
        what: "no memory, descriptors, rings or threads",
        seen: "a clear error at opening",
        proofs: &[
            Test("tools/tests/ceilings.rs", "whichever_request_for_memory_fails_nothing_flushed_is_lost"),
            Test("tools/tests/ceilings.rs", "with_too_few_open_files_it_says_so"),
            Test("tools/tests/ceilings.rs", "with_too_little_address_space_for_its_threads_it_says_so"),
            Test("src/device/open.rs", "a_file_without_a_block_or_without_direct_io_is_of_the_blocking_kind"),
        ],
        gap: "memory that runs out ends the process, as kill -9 does",
    },
    Fault {
        id: "F31",
        what: "memory or processor that changes bytes between caller and member",
        seen: "nothing is promised",
        proofs: &[],
        gap: "not detected before the checksum is made; ECC memory is for that",
    },
    Fault {
        id: "F32",
        what: "an image that somebody forged",
        seen: "an error; no panic, bounded memory",
        proofs: &[
            Test("tests/format_golden.rs", "forged_records_are_refused_or_sound"),
            Test("tests/format_golden.rs", "forged_superblocks_are_refused_or_sound"),
            Test("src/map/tests/hostile.rs", "whatever_is_in_the_pages_no_walk_panics_or_goes_on_for_ever"),
            Run("tools/check --all"),
        ],
        gap: "",
    },
    Fault {
        id: "F33",
        what: "a hostile client on the network",
        seen: "it is cut off; whoever else is connected notices nothing",
        proofs: &[
            Test("tests/nbd.rs", "clients_that_vanish_are_no_event"),
            Test("tests/nbd.rs", "hostile_bytes_end_their_connection_and_no_other"),
            Test("tests/nbd.rs", "slow_clients_are_cut_off_and_idle_ones_are_not"),
            Test("tests/nbd.rs", "who_does_not_take_its_replies_is_cut_off_and_blocks_nobody"),
            Run("tools/check --all"),
        ],
        gap: "",
    },
    Fault {
        id: "F34",
        what: "kill -9 at any moment",
        seen: "what was flushed is exact, each volume is a prefix",
        proofs: &[
            Seeds("kill"),
            Test("tools/tests/crash.rs", "rounds_of_kill_lose_nothing_flushed"),
            Run("tests/kill9"),
        ],
        gap: "",
    },
    Fault {
        id: "F35",
        what: "an image of another version",
        seen: "opened, opened to read, or refused with the name of what is unknown",
        proofs: &[
            Test("tests/format_golden.rs", "the_superblock_is_as_it_always_was"),
            Test("src/format/superblock/tests.rs", "a_refusal_names_the_unknown_feature_bit"),
        ],
        gap: "",
    },
    Fault {
        id: "F36",
        what: "damage on more than m members, but on m of any row at most",
        seen: "exact data; healed",
        proofs: &[
            Seeds("sound member damaged"),
            Seeds("audited row"),
            Test("src/sim/exhaust/damage.rs", "every_kind_of_damage_to_some_blocks_of_every_array_is_healed"),
        ],
        gap: "",
    },
];

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Whether a file has a test of this name.
fn has_test(path: &str, name: &str) -> bool {
    let text = read(path);
    let declaration = format!("fn {name}(");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines
        .windows(3)
        .any(|window| window[0] == "#[test]" && window[1..].iter().any(|line| line.starts_with(&declaration)))
}

#[test]
fn every_proof_that_is_named_exists() {
    let zoo = read("src/zoo.rs");
    for fault in MATRIX {
        for proof in fault.proofs {
            let exists = match proof {
                Test(path, name) => has_test(path, name),
                Seeds(event) => EVENTS.contains(event),
                Planted(bug) => zoo.lines().any(|line| line.trim() == format!("{bug},")),
                Run(command) => {
                    let program = command.split(' ').next().expect("a command has a word");
                    program == "paritas" || fs::metadata(program).is_ok()
                }
            };
            assert!(exists, "{}: {} does not exist", fault.id, shown(proof));
        }
        assert!(
            !fault.proofs.is_empty() || !fault.gap.is_empty(),
            "{} has neither a proof nor a gap",
            fault.id
        );
    }
}

#[test]
fn every_fault_of_the_model_has_its_row() {
    let ids: Vec<String> = (1..=36).map(|number| format!("F{number:02}")).collect();
    assert_eq!(MATRIX.iter().map(|fault| fault.id).collect::<Vec<_>>(), ids);
}

fn shown(proof: &Proof) -> String {
    match proof {
        Test(path, name) => format!("`{name}` ({path})"),
        Seeds(event) => format!("\"{event}\" in seeds"),
        Planted(bug) => format!("planted bug `{bug}`"),
        Run(command) => format!("`{command}`"),
    }
}

/// The table of the README: the faults in short; the proofs are here.
fn table() -> String {
    let mut table = String::from(
        "| | fault | what you see, up to m in a row | proof | not proven |\n| --- | --- | --- | --- | --- |\n",
    );
    for fault in MATRIX {
        let mut kinds = Vec::new();
        let seeds = fault.proofs.iter().any(|proof| matches!(proof, Seeds(_)));
        let tests = fault.proofs.iter().filter(|proof| matches!(proof, Test(..))).count();
        let planted = fault.proofs.iter().filter(|proof| matches!(proof, Planted(_))).count();
        if seeds {
            kinds.push("seeds".to_owned());
        }
        if tests > 0 {
            kinds.push(format!("{tests} test{}", if tests == 1 { "" } else { "s" }));
        }
        if planted > 0 {
            kinds.push("planted bugs".to_owned());
        }
        for proof in fault.proofs {
            if let Run(command) = proof {
                kinds.push(format!("`{command}`"));
            }
        }
        writeln!(
            table,
            "| {} | {} | {} | {} | {} |",
            fault.id,
            fault.what,
            fault.seen,
            kinds.join(", "),
            fault.gap
        )
        .expect("a string takes everything");
    }
    table
}

#[test]
fn the_readme_has_this_table() {
    const BEGIN: &str = "<!-- faults -->\n";
    const END: &str = "<!-- end of faults -->\n";
    let readme = read("README.md");
    let begin = readme.find(BEGIN).expect("marked") + BEGIN.len();
    let end = readme.find(END).expect("marked");
    if std::env::var_os("PARITAS_BLESS").is_some() {
        fs::write("README.md", format!("{}{}{}", &readme[..begin], table(), &readme[end..]))
            .expect("written");
    } else {
        assert!(readme[begin..end] == table(), "the README's table is not that of tests/fault_matrix.rs");
    }
}

#[test]
fn a_proof_that_does_not_exist_is_noticed() {
    assert!(has_test("tests/fault_matrix.rs", "a_proof_that_does_not_exist_is_noticed"));
    assert!(!has_test("tests/fault_matrix.rs", "a_proof_that_does_not_exist"));
    assert!(!has_test("tests/fault_matrix.rs", "has_test"), "a function that is no test proves nothing");
}
