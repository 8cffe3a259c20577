//! How to test a program of one's own on simulated members (`paritas::sim::trial`): a key-value store, what it
//! promises, and bugs that break the promise.

#[path = "harness_kv/store.rs"]
mod store;

use paritas::sim::trial::{Ending, Failure, Life, Setup, Summary, Trial, Verdict};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::{Contents, Planted, Store};

/// A bug that shows at most crashes is found within so many seeds.
const SEEDS: u64 = 10;
/// One that shows when a crash strikes between two calls that are rarely made, within so many.
const SEEDS_FOR_RARE: u64 = 500;

/// What a client of the store was told, over all lives.
#[derive(Clone, Default)]
struct Client {
    /// What every acknowledged commit adds up to.
    acknowledged: Contents,
    /// The same with the commit whose answer did not come.
    asked: Option<Contents>,
}

impl Client {
    /// After a crash every acknowledged commit is there, whole; the last one that was asked for is there or not.
    fn settle(&mut self, found: &Contents) -> Verdict {
        if found != &self.acknowledged && Some(found) != self.asked.as_ref() {
            let lost = self.acknowledged.iter().find(|(key, value)| found.get(*key) != Some(value));
            let lost = lost.map(|(key, _)| String::from_utf8_lossy(key));
            let text = format!("the store broke its promise; a key that is not as acknowledged: {lost:?}");
            return Err(text.into());
        }
        self.acknowledged.clone_from(found);
        self.asked = None;
        Ok(())
    }
}

/// One life: opens the store, compares, and commits until the process dies or it has had enough.
async fn live(life: Life, client: Arc<Mutex<Client>>, planted: Planted) -> Verdict {
    let mut store = Store::open(life.array(), "store", planted).await?;
    client.lock().expect("one thread").settle(store.contents())?;
    let mut rng = life.rng("load");
    for _ in 0..10 + rng.below(60) {
        let mut wanted = store.contents().clone();
        for _ in 0..1 + rng.below(5) {
            let key = format!("key{}", rng.below(24)).into_bytes();
            if rng.chance(1, 4) {
                store.delete(&key);
                wanted.remove(&key);
            } else {
                let mut value = vec![0; rng.index(3000)];
                rng.fill_bytes(&mut value);
                store.put(&key, &value);
                wanted.insert(key, value);
            }
        }
        client.lock().expect("one thread").asked = Some(wanted.clone());
        store.commit().await?;
        life.tell(|| format!("commit of {} keys is acknowledged", wanted.len()));
        let key = format!("key{}", rng.below(24)).into_bytes();
        assert_eq!(store.get(&key), wanted.get(&key).map(Vec::as_slice));
        *client.lock().expect("one thread") = Client { acknowledged: wanted, asked: None };
        life.sleep(Duration::from_millis(rng.below(20))).await;
    }
    Ok(())
}

/// The course of one seed: lives under faults and crashes, then one more without.
fn course(trial: &mut Trial, planted: Planted) -> Verdict {
    let client = Arc::new(Mutex::new(Client::default()));
    let lives = 2 + trial.rng("lives").below(3);
    for life in 0..=lives {
        if life == lives {
            trial.calm();
        }
        let ending = trial.run(|life| live(life, client.clone(), planted))?;
        if let Ending::Returned(outcome) = ending {
            outcome?;
        }
    }
    Ok(())
}

fn run(seeds: Range<u64>, planted: Planted) -> Result<Summary, Failure> {
    Setup::default().run(seeds, |trial| course(trial, planted))
}

#[test]
fn the_store_keeps_its_promise() {
    let summary = run(0..70, Planted::Nothing).expect("no seed fails");
    assert!(summary.crashes > 40, "{summary:?}");
    for fault in
        ["power loss", "kill", "torn", "unflushed", "rot", "vanish", "slow", "lost write", "read error"]
    {
        assert!(summary.counts.contains_key(fault), "no {fault}: {summary:?}");
    }
}

#[test]
fn a_commit_that_is_acknowledged_before_it_is_flushed_is_found_and_found_again() {
    let failure = run(0..SEEDS, Planted::LateFlush).expect_err("the bug is found");
    assert!(failure.message.contains("broke its promise") && failure.repeats, "{failure:?}");
    assert!(failure.story.iter().any(|line| line.contains("is acknowledged")), "{failure:?}");
    let again = run(failure.seed..failure.seed + 1, Planted::LateFlush).expect_err("it fails again");
    assert_eq!(again, failure);
}

#[test]
fn a_header_that_is_durable_before_what_it_leads_to_is_found() {
    let failure = run(0..SEEDS_FOR_RARE, Planted::HeaderFirst).expect_err("the bug is found");
    assert!(failure.message.contains("broke its promise") && failure.repeats, "{failure:?}");
}
