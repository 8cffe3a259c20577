//! A history of numbered steps that anybody can work out anew: what a volume must hold after a crash.
//!
//! A writer may begin at any number beyond those used before. Numbers that a killed writer used and that left no
//! trace are best not used again: if a record of theirs comes back later, it is seen.

/// Bytes of a sector, the unit of addresses.
pub(crate) const SECTOR: usize = 512;
/// Sectors of a block.
const BLOCK: u64 = 8;
/// Steps behind the newest one seen that may have left no trace: trims, and what they hid.
const UNSEEN_MAX: u64 = 64;

/// What a step does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verb {
    Write,
    /// A write that is durable when it returns.
    WriteDurable,
    Trim,
    WriteZeroes,
}

/// The flush that follows a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flush {
    None,
    /// The next step waits for it.
    Wait,
    /// The next steps go on beside it.
    Beside,
}

/// One call. It is never longer than what the engine takes as one step of its own history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    pub(crate) number: u64,
    /// The first sector, and how many.
    pub(crate) sector: u64,
    pub(crate) sectors: u64,
    pub(crate) verb: Verb,
    pub(crate) flush: Flush,
}

/// The history of one volume.
#[derive(Clone, Copy, Debug)]
pub(crate) struct History {
    seed: u64,
    sectors: u64,
}

impl History {
    /// That of the volume with this name and so many bytes.
    pub(crate) fn new(volume: &str, bytes: u64) -> History {
        let seed = volume.bytes().fold(0, |seed, byte| mix(seed ^ u64::from(byte)));
        History { seed, sectors: bytes / SECTOR as u64 }
    }

    /// The step of that number. Numbers begin at 1.
    pub(crate) fn step(&self, number: u64) -> Step {
        let place = mix(self.seed ^ number);
        let (kind, length, flush) = (mix(place), mix(place + 1), mix(place + 2));
        let blocks = |from: u64, to: u64| ((from + length % (to - from + 1)) * BLOCK, BLOCK);
        let sectors = |most: u64| (1 + length % most, 1);
        let (verb, (sectors, align)) = match kind % 32 {
            0..=15 => (Verb::Write, blocks(1, 24)),
            16..=20 => (Verb::Write, sectors(63)),
            21..=24 => (Verb::Write, sectors(1)),
            25 => (Verb::Write, blocks(64, 256)),
            26 if length.is_multiple_of(4) => (Verb::WriteDurable, sectors(63)),
            26 | 27 => (Verb::Write, blocks(1, 4)),
            28 => (Verb::Trim, blocks(1, 24)),
            29 => (Verb::Trim, sectors(63)),
            30 => (Verb::WriteZeroes, sectors(63)),
            _ if length.is_multiple_of(8) => (Verb::Trim, sectors((self.sectors / 32).max(1))),
            _ => (Verb::WriteZeroes, blocks(1, 24)),
        };
        let sector = place % self.sectors / align * align;
        let flush = match flush % 64 {
            0 => Flush::Wait,
            1 | 2 => Flush::Beside,
            _ => Flush::None,
        };
        Step { number, sector, sectors: sectors.min(self.sectors - sector), verb, flush }
    }

    /// What the step writes.
    pub(crate) fn content(&self, step: Step) -> Vec<u8> {
        (step.sector..step.sector + step.sectors).flat_map(|at| self.written(step.number, at)).collect()
    }

    /// No two sectors of all steps of all volumes are the same.
    fn written(&self, number: u64, sector: u64) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        for (index, word) in (0u64..).zip(bytes.chunks_exact_mut(16)) {
            word[..8].copy_from_slice(&number.to_le_bytes());
            word[8..].copy_from_slice(&mix(self.seed ^ sector << 8 ^ index).to_le_bytes());
        }
        bytes
    }

    /// Adds to `seen`, for each sector from there on, the number of the step that wrote it, 0 for zeros.
    ///
    /// # Errors
    /// When a sector holds what no step wrote there.
    pub(crate) fn recognise(&self, bytes: &[u8], seen: &mut Vec<u64>) -> Result<(), String> {
        for bytes in bytes.chunks_exact(SECTOR) {
            let sector = seen.len() as u64;
            let number = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
            let expected = if number == 0 { [0; SECTOR] } else { self.written(number, sector) };
            if *bytes != expected {
                return Err(format!("sector {sector} holds what no step wrote (number {number})"));
            }
            seen.push(number);
        }
        Ok(())
    }
}

/// What a volume holds: for each sector the number of the step that wrote it, 0 for zeros.
pub(crate) struct Model {
    history: History,
    sectors: Vec<u64>,
}

impl Model {
    /// A new volume.
    pub(crate) fn new(history: History) -> Model {
        let sectors = usize::try_from(history.sectors).expect("a volume that fits into memory");
        Model { history, sectors: vec![0; sectors] }
    }

    /// Finds out how far a writer came that began behind `base` and said that its steps up to `flushed` are
    /// durable: its steps up to some number, not below `flushed`, and nothing else, leave what is `seen`. Returns
    /// that number, and is a model of what is seen then.
    ///
    /// # Errors
    /// When no number is right, and what the nearest one leaves elsewhere.
    pub(crate) fn advance(&mut self, seen: &[u64], base: u64, flushed: u64) -> Result<u64, String> {
        let first = seen.iter().copied().max().unwrap_or(0).max(flushed).max(base);
        let mut fewest = (usize::MAX, String::new());
        for number in base..=first + UNSEEN_MAX {
            if number > base {
                self.apply(self.history.step(number));
            }
            if number < first {
                continue;
            }
            if self.sectors == seen {
                return Ok(number);
            }
            fewest = fewest.min(self.difference(number, seen));
        }
        Err(format!(
            "the volume is no prefix of its history that contains step {first} (flushed: {flushed}, begun behind \
             {base}); {}",
            fewest.1
        ))
    }

    fn apply(&mut self, step: Step) {
        let place = |sector| usize::try_from(sector).expect("inside the volume");
        let written = &mut self.sectors[place(step.sector)..place(step.sector + step.sectors)];
        written.fill(match step.verb {
            Verb::Write | Verb::WriteDurable => step.number,
            Verb::Trim | Verb::WriteZeroes => 0,
        });
    }

    /// How many sectors differ, and in words which is the first.
    fn difference(&self, number: u64, seen: &[u64]) -> (usize, String) {
        let differ = || self.sectors.iter().zip(seen).enumerate().filter(|(_, (model, seen))| model != seen);
        let (count, first) = (differ().count(), differ().next());
        let first = first.map_or(String::new(), |(sector, (model, seen))| {
            format!("sector {sector} is of step {seen} instead of {model}")
        });
        (count, format!("{count} sectors are not as step {number} left them, {first}"))
    }
}

/// The finalizer of SplitMix64: every bit of the result depends on every bit of the number.
pub(crate) fn mix(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ bits >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: u64 = 256 << 10;

    fn history() -> History {
        History::new("v", BYTES)
    }

    /// What a volume holds after these steps.
    fn after(numbers: impl Iterator<Item = u64>) -> Vec<u8> {
        let mut volume = vec![0; usize::try_from(BYTES).expect("small")];
        for number in numbers {
            let step = history().step(number);
            let is_write = matches!(step.verb, Verb::Write | Verb::WriteDurable);
            let mut content = history().content(step);
            if !is_write {
                content.fill(0);
            }
            let start = usize::try_from(step.sector).expect("small") * SECTOR;
            volume[start..start + content.len()].copy_from_slice(&content);
        }
        volume
    }

    fn verify(volume: &[u8], base: u64, flushed: u64) -> Result<u64, String> {
        let (mut seen, mut model) = (Vec::new(), Model::new(history()));
        history().recognise(volume, &mut seen)?;
        model.advance(&seen, base, flushed)
    }

    #[test]
    fn prefixes_are_known_and_everything_else_is_not() {
        assert_eq!(verify(&after(std::iter::empty()), 0, 0), Ok(0));
        for last in 1..200 {
            let volume = after(1..=last);
            let found = verify(&volume, 0, 0).expect("a prefix");
            assert_eq!(after(1..=found), volume, "{last}");
            assert!(verify(&volume, 0, last).is_ok_and(|found| found >= last));
        }
        let writes = |number: &u64| matches!(history().step(*number).verb, Verb::Write);
        let newest = (1..200).rev().find(writes).expect("a write");
        assert!(verify(&after(1..newest), 0, newest).is_err(), "a flushed step is missing");
        let before = (1..newest).rev().find(writes).expect("a write");
        let without = after((1..=newest).filter(|number| *number != before));
        assert!(verify(&without, 0, 0).is_err(), "a step is left out");
        let mut torn = after(1..=newest);
        let at = usize::try_from(history().step(newest).sector).expect("small") * SECTOR;
        torn[at + 500] ^= 1;
        assert!(verify(&torn, 0, 0).is_err(), "a sector is torn");
    }

    #[test]
    fn a_step_of_a_killed_writer_that_comes_back_later_is_seen() {
        let seen = |numbers: Vec<u64>| {
            let mut seen = Vec::new();
            history().recognise(&after(numbers.into_iter()), &mut seen).expect("steps");
            seen
        };
        let mut model = Model::new(history());
        assert_eq!(model.advance(&seen((1..=50).collect()), 0, 20), Ok(50));
        let later: Vec<u64> = (1..=50).chain(1001..=1003).collect();
        let returned: Vec<u64> = (1..=51).chain(1001..=1003).collect();
        assert_ne!(seen(later.clone()), seen(returned.clone()));
        assert!(model.advance(&seen(returned), 1000, 1000).is_err());
        let mut model = Model::new(history());
        model.advance(&seen((1..=50).collect()), 0, 20).expect("as before");
        assert_eq!(model.advance(&seen(later), 1000, 1003), Ok(1003));
    }

    #[test]
    fn steps_of_every_kind_stay_inside_the_volume() {
        let (mut verbs, mut single, mut long) = (Vec::new(), 0, 0);
        for step in (1..5000).map(|number| history().step(number)) {
            assert!(step.sectors > 0 && step.sector + step.sectors <= BYTES / SECTOR as u64);
            if !verbs.contains(&step.verb) {
                verbs.push(step.verb);
            }
            single += u64::from(step.sectors == 1);
            long += u64::from(step.sectors > 200);
        }
        assert!(verbs.len() == 4 && single > 100 && long > 10, "{verbs:?} {single} {long}");
    }
}
