//! A history of numbered steps that anybody can work out anew: what a volume must hold after a crash.

/// Bytes of a block.
pub(crate) const BLOCK: usize = 4096;
/// Blocks of one step at most.
const STEP_MAX: u64 = 24;
/// Steps behind the newest one seen that may have left no trace: trims, and what they hid.
const UNSEEN_MAX: u64 = 64;

/// One write or trim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    pub(crate) number: u64,
    pub(crate) lba: u64,
    pub(crate) blocks: u64,
    pub(crate) is_trim: bool,
    /// Whether a flush follows.
    pub(crate) is_flushed: bool,
}

/// The step of that number on a volume of so many blocks. Numbers begin at 1.
pub(crate) fn step(number: u64, volume_blocks: u64) -> Step {
    let bits = mix(number);
    let lba = bits % volume_blocks;
    let blocks = (1 + (bits >> 20) % STEP_MAX).min(volume_blocks - lba);
    Step {
        number,
        lba,
        blocks,
        is_trim: (bits >> 32).is_multiple_of(8),
        is_flushed: (bits >> 40).is_multiple_of(6),
    }
}

/// What the step writes.
pub(crate) fn content(step: Step) -> Vec<u8> {
    (step.lba..step.lba + step.blocks).flat_map(|lba| block(step.number, lba)).collect()
}

/// No two blocks of all steps are the same.
fn block(number: u64, lba: u64) -> [u8; BLOCK] {
    let mut bytes = [0; BLOCK];
    for (index, word) in (0u64..).zip(bytes.chunks_exact_mut(16)) {
        word[..8].copy_from_slice(&number.to_le_bytes());
        word[8..].copy_from_slice(&mix(lba ^ index << 32).to_le_bytes());
    }
    bytes
}

/// The finalizer of SplitMix64: every bit of the result depends on every bit of the number.
fn mix(number: u64) -> u64 {
    let mut bits = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ bits >> 31
}

/// Checks that a volume's bytes are what the first n steps leave, for an n that is not below `flushed`.
/// Returns n.
pub(crate) fn verify(volume: &[u8], flushed: u64) -> Result<u64, String> {
    let mut seen = Vec::with_capacity(volume.len() / BLOCK);
    for (lba, bytes) in (0u64..).zip(volume.chunks_exact(BLOCK)) {
        let number = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
        let expected = if number == 0 { [0; BLOCK] } else { block(number, lba) };
        if *bytes != expected {
            return Err(format!("block {lba} holds what no step wrote"));
        }
        seen.push(number);
    }
    let first = seen.iter().copied().max().unwrap_or(0).max(flushed);
    let mut model = vec![0; seen.len()];
    for number in 0..=first + UNSEEN_MAX {
        if number > 0 {
            apply(&mut model, step(number, seen.len() as u64));
        }
        if number >= first && model == seen {
            return Ok(number);
        }
    }
    Err(format!("the volume is no prefix of its history that contains step {first} (flushed: {flushed})"))
}

/// What the step leaves: for each block the number of the step that wrote it, 0 for zeros.
fn apply(model: &mut [u64], step: Step) {
    for (lba, block) in (0u64..).zip(model) {
        if (step.lba..step.lba + step.blocks).contains(&lba) {
            *block = if step.is_trim { 0 } else { step.number };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: u64 = 64;

    fn after(numbers: impl Iterator<Item = u64>) -> Vec<u8> {
        let mut volume = vec![0; 64 * BLOCK];
        for number in numbers {
            let step = step(number, BLOCKS);
            let start = usize::try_from(step.lba).expect("small") * BLOCK;
            let content = if step.is_trim { vec![0; content(step).len()] } else { content(step) };
            volume[start..start + content.len()].copy_from_slice(&content);
        }
        volume
    }

    #[test]
    fn prefixes_are_known_and_everything_else_is_not() {
        assert_eq!(verify(&after(std::iter::empty()), 0), Ok(0));
        for last in 1..200 {
            let volume = after(1..=last);
            let found = verify(&volume, 0).expect("a prefix");
            assert_eq!(after(1..=found), volume, "{last}");
            assert!(verify(&volume, last).is_ok_and(|found| found >= last));
        }
        let newest = (1..200).rev().find(|number| !step(*number, BLOCKS).is_trim).expect("a write");
        assert!(verify(&after(1..newest), newest).is_err(), "a flushed step is missing");
        assert!(verify(&after((1..newest - 1).chain(newest..=newest)), 0).is_err(), "a step is left out");
        let mut torn = after(1..=newest);
        let at = usize::try_from(step(newest, BLOCKS).lba).expect("small") * BLOCK;
        torn[at + 4000] ^= 1;
        assert!(verify(&torn, 0).is_err(), "a block is torn");
    }
}
