//! Which of the faults and calls that a run draws take place, and what happened in it, for those who want to know.

use super::fault::Fault;
use super::script::{CallId, FaultId, Script};
use std::collections::{BTreeMap, BTreeSet};

/// The faults and calls of a run, and its story.
#[derive(Default)]
pub(super) struct Cast {
    /// What of that takes place.
    script: Script,
    /// Faults that were drawn so far, by disk and kind.
    drawn: BTreeMap<(usize, Fault), u64>,
    /// Those that took place.
    struck: BTreeSet<FaultId>,
    /// Calls that were made.
    made: BTreeSet<CallId>,
    /// What happened, line by line.
    story: Option<Vec<String>>,
}

impl Cast {
    /// A cast that follows `script`, and remembers the story if it is to be `told`.
    pub(super) fn new(script: Script, told: bool) -> Cast {
        Cast { script, story: told.then(Vec::new), ..Cast::default() }
    }

    /// Whether a fault that was drawn takes place.
    pub(super) fn lets(&mut self, disk: usize, fault: Fault) -> bool {
        let drawn = self.drawn.entry((disk, fault)).or_default();
        let id = FaultId { disk, fault, nth: *drawn };
        *drawn += 1;
        let takes_place = self.script.faults.as_ref().is_none_or(|only| only.contains(&id));
        if takes_place {
            self.struck.insert(id);
        }
        takes_place
    }

    /// Whether a call is made.
    pub(super) fn makes(&mut self, call: CallId) -> bool {
        let makes = self.script.makes(call);
        if makes {
            self.made.insert(call);
        }
        makes
    }

    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(line());
        }
    }

    /// The faults and calls that took place, and the story.
    pub(super) fn take(&mut self) -> (BTreeSet<FaultId>, BTreeSet<CallId>, Vec<String>) {
        let story = self.story.take().unwrap_or_default();
        (std::mem::take(&mut self.struck), std::mem::take(&mut self.made), story)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_does_not_rename_the_others() {
        let drawn = [(0, Fault::Rot), (1, Fault::Rot), (0, Fault::Rot), (0, Fault::Slow), (0, Fault::Rot)];
        let mut all = Cast::new(Script::of(0), false);
        assert!(drawn.into_iter().all(|(disk, fault)| all.lets(disk, fault)));
        let (struck, ..) = all.take();
        assert_eq!(struck.len(), drawn.len());
        for left_out in &struck {
            let only: BTreeSet<FaultId> = struck.iter().copied().filter(|id| id != left_out).collect();
            let mut cast = Cast::new(Script { faults: Some(only.clone()), ..Script::of(0) }, false);
            let let_through = drawn.into_iter().filter(|(disk, fault)| cast.lets(*disk, *fault)).count();
            assert_eq!(let_through, drawn.len() - 1);
            assert_eq!(cast.take().0, only);
        }
    }

    #[test]
    fn a_story_is_remembered_only_when_it_is_to_be_told() {
        for told in [false, true] {
            let mut cast = Cast::new(Script::of(0), told);
            cast.tell(|| "once".into());
            assert_eq!(cast.take().2.len(), usize::from(told));
        }
    }
}
