use super::*;
use crate::error::Kind;
use crate::runtime::Owned;
use crate::types::BLOCK;
use crate::volume::inject::{Fault, FaultKind};
use crate::volume::{Array, State, Volume};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a program was told, and whether it breaks its promise.
#[derive(Clone, Default)]
struct Counter {
    acknowledged: Arc<AtomicU64>,
    is_early: bool,
}

fn open(array: &Array) -> Volume {
    array.volume("v").unwrap_or_else(|_| array.create_volume("v", 1 << 20, None).expect("created"))
}

impl Counter {
    /// Blocks all the time, as a program with threads would.
    fn count(&self, life: &Life) {
        let volume = open(life.array());
        let found = volume.read(0, BLOCK).expect("read");
        let found = u64::from_le_bytes(found[..8].try_into().expect("eight bytes"));
        let promised = self.acknowledged.load(Ordering::Relaxed);
        assert!(found == promised || found == promised + 1, "found {found}, promised {promised}");
        // What one life was shown, no later one may miss.
        self.acknowledged.store(found, Ordering::Relaxed);
        for number in found + 1..found + 30 {
            life.tell(|| format!("counts {number}"));
            let mut block = vec![0; BLOCK];
            block[..8].copy_from_slice(&number.to_le_bytes());
            volume.write(0, block).expect("written");
            if self.is_early {
                self.acknowledged.store(number, Ordering::Relaxed);
            }
            volume.flush().expect("flushed");
            self.acknowledged.store(number, Ordering::Relaxed);
        }
    }

    fn lives(self, trial: &mut Trial) -> Verdict {
        for _ in 0..4 {
            let counter = self.clone();
            trial.run(|life| async move { counter.count(&life) })?;
        }
        trial.calm();
        assert_eq!(trial.run(|life| async move { self.count(&life) })?, Ending::Returned(()));
        Ok(())
    }
}

#[test]
fn one_seed_takes_one_course_and_another_seed_another() {
    let trace = |seed| {
        let summary =
            Setup::default().run([seed], |trial| Counter::default().lives(trial)).expect("no failure");
        assert_eq!((summary.seeds, summary.lives), (1, 5));
        summary.trace
    };
    let traces: BTreeSet<u64> = (0..6).map(trace).collect();
    assert_eq!(traces.len(), 6);
    assert!((0..6).all(|seed| traces.contains(&trace(seed))));
}

#[test]
fn a_program_that_blocks_dies_in_its_calls_and_keeps_its_promise() {
    for scenario in Scenario::ALL {
        let setup = Setup { scenario, events: 300, ..Setup::default() };
        let summary = setup.run(0..8, |trial| Counter::default().lives(trial)).expect("no failure");
        assert!(summary.crashes >= 10, "{scenario}: {summary:?}");
    }
}

#[test]
fn a_promise_that_is_made_too_early_is_broken_in_the_same_way_twice() {
    let run = |seeds| {
        let counter = || Counter { is_early: true, ..Counter::default() };
        Setup::default().run(seeds, |trial| counter().lives(trial)).expect_err("the bug is found")
    };
    let failure = run(0..20);
    assert!(failure.message.starts_with("found ") && failure.repeats, "{failure}");
    assert!(failure.story.iter().any(|line| line.starts_with("counts ")));
    assert_eq!(run(failure.seed..failure.seed + 1), failure);
}

#[test]
fn a_program_that_is_not_deterministic_is_told_so() {
    let runs = AtomicU64::new(0);
    let failure = Setup::default().run([7], |_| {
        let run = runs.fetch_add(1, Ordering::Relaxed);
        Err(format!("run {run}").into())
    });
    let failure = failure.expect_err("it fails");
    assert_eq!((failure.message.as_str(), failure.repeats), ("run 0", false));
    assert!(failure.to_string().ends_with("the program is not deterministic)"), "{failure}");
}

#[test]
fn a_panic_of_a_task_and_a_wait_without_end_are_failures() {
    let fails = |program: fn(Life) -> Box<dyn Future<Output = ()> + Send + Unpin>| {
        let failed = Setup::default().run([0], |trial| {
            trial.calm();
            trial.run(program)?;
            Ok(())
        });
        failed.expect_err("it fails").message
    };
    let panics = fails(|life| {
        life.spawner().spawn(async { panic!("a task fails") });
        Box::new(std::future::pending())
    });
    assert_eq!(panics, "a task fails");
    let waits = fails(|_| Box::new(std::future::pending()));
    assert_eq!(waits, "the program waits for nothing that can happen");
}

#[test]
fn time_passes_in_sleeps_and_tasks_go_on_beside_one_that_only_yields() {
    let tried = Setup::default().run([3], |trial| {
        trial.calm();
        let slept = trial.run(async |life: Life| {
            life.spawner().spawn(std::future::poll_fn(|context| {
                context.waker().wake_by_ref();
                std::task::Poll::Pending
            }));
            let before = life.now();
            life.sleep(Duration::from_secs(3600)).await;
            life.array().volumes_async().await.expect("listed");
            life.now() - before
        })?;
        let Ending::Returned(slept) = slept else { return Err("it crashed".into()) };
        assert!(slept >= Duration::from_secs(3600) && slept < Duration::from_secs(3700), "{slept:?}");
        Ok(())
    });
    tried.expect("no failure");
}

/// Asks for something when it is dropped.
struct Farewell(Volume, Arc<Owned<Vec<Option<Kind>>>>);

impl Drop for Farewell {
    fn drop(&mut self) {
        let answer = self.0.write_durable(0, vec![1; BLOCK]).err().map(|error| error.kind());
        self.1.with(|answers| answers.push(answer));
    }
}

#[test]
fn who_has_died_reaches_no_member_any_more() {
    let setup = Setup { scenario: Scenario::Power, events: 40, ..Setup::default() };
    let tried = setup.run(0..20, |trial| {
        let answers = Arc::new(Owned::new(Vec::new()));
        for blocks in [false, true] {
            let shared = answers.clone();
            let ending = trial.run(async move |life: Life| {
                let volume = open(life.array());
                let _farewell = Farewell(volume.clone(), shared);
                loop {
                    let catches = || (0..100).for_each(|_| volume.flush().expect("flushed"));
                    match blocks {
                        true => drop(catch_unwind(AssertUnwindSafe(catches))),
                        false => life.sleep(Duration::from_secs(1)).await,
                    }
                    if volume.size().is_err() {
                        return;
                    }
                }
            })?;
            assert_eq!(ending, Ending::Crashed);
        }
        answers.with(|answers| {
            assert!(answers.iter().all(|answer| *answer == Some(Kind::Closed)), "{answers:?}")
        });
        Ok(())
    });
    tried.expect("no failure");
}

#[test]
fn members_are_the_worlds_and_a_handle_that_is_kept_is_closed() {
    let tried = Setup::default().run([1], |trial| {
        trial.calm();
        let kept = Arc::new(Owned::new(None));
        let keeps = kept.clone();
        trial.run(async move |life: Life| {
            let array = life.array();
            let volume = open(array);
            keeps.with(|kept| *kept = Some(volume));
            assert!(!life.is_read_only());
            let kind = |error: crate::error::Error| error.kind();
            let refused = array.inject(0, Fault::new(FaultKind::ReadError)).map_err(kind);
            assert_eq!(refused, Err(Kind::Refused));
            let refused = array.replace_member_async(0, "elsewhere", false).await.map_err(kind);
            assert_eq!(refused, Err(Kind::Refused));
            assert_eq!(array.member_async("disk2").await, Ok(2));
            let status = array.status_async().await.expect("told");
            assert_eq!((status.state, status.members.len()), (State::Healthy, 4));
        })?;
        let volume = kept.with(Option::take).expect("kept");
        assert_eq!(volume.read(0, BLOCK).map_err(|error| error.kind()), Err(Kind::Closed));
        Ok(())
    });
    tried.expect("no failure");
}

#[test]
fn beyond_the_tolerance_blocks_are_lost_and_never_wrong_and_return_with_their_members() {
    let lost = AtomicU64::new(0);
    let tried = Setup::default().run(0..12, |trial| {
        let blocks = 64;
        let content = move |at: usize| vec![u8::try_from(at).expect("small") + 1; BLOCK];
        trial.calm();
        trial.run(async move |life: Life| {
            let volume = open(life.array());
            (0..blocks).for_each(|at| volume.write((at * BLOCK) as u64, content(at)).expect("written"));
            life.array().close().expect("closed");
        })?;
        let look = async move |life: Life| {
            let Ok(volume) = life.array().volume_async("v").await else { return blocks };
            let mut missing = 0;
            for at in 0..blocks {
                match volume.read_async((at * BLOCK) as u64, BLOCK).await {
                    Ok(read) => assert_eq!(read, content(at)),
                    Err(error) => {
                        assert!(matches!(error.kind(), Kind::DataLoss { .. } | Kind::Corrupt), "{error}");
                        missing += 1;
                    }
                }
            }
            missing
        };
        trial.lose(2);
        if let Ok(Ending::Returned(missing)) = trial.run(look) {
            lost.fetch_add(missing as u64, Ordering::Relaxed);
        }
        trial.restore();
        assert_eq!(trial.run(look)?, Ending::Returned(0));
        Ok(())
    });
    tried.expect("no failure");
    assert!(lost.load(Ordering::Relaxed) > 0, "nothing was lost");
}
