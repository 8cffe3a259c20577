//! A small, fast, deterministic generator: xoshiro256++.
//!
//! A fuzzer would rather choose itself: while there are choices left, each takes the place of the highest bits of a
//! number, which decide in [`Rng::below`]; what lies below them, and everything later, is the seed's.

use crate::runtime::Owned;
use crate::runtime::executor::split_mix;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Bytes that somebody else has chosen, taken from both ends until none is left. Clones share them.
#[derive(Clone)]
pub(super) struct Choices {
    bytes: Arc<Owned<VecDeque<u8>>>,
    from_back: bool,
}

impl Choices {
    /// These bytes, from the front; and the same ones, from the back.
    pub(super) fn both_ends(bytes: &[u8]) -> [Choices; 2] {
        let bytes = Arc::new(Owned::new(VecDeque::from(bytes.to_vec())));
        [false, true].map(|from_back| Choices { bytes: bytes.clone(), from_back })
    }

    fn next(&self) -> Option<u8> {
        self.bytes.with(|bytes| if self.from_back { bytes.pop_back() } else { bytes.pop_front() })
    }

    fn is_empty(&self) -> bool {
        self.bytes.with(|bytes| bytes.is_empty())
    }
}

/// A stream of numbers that its seed determines. Not for secrets.
#[derive(Clone)]
pub struct Rng {
    state: [u64; 4],
    choices: Option<Choices>,
}

impl Rng {
    /// The stream of this seed. Similar seeds give unrelated streams.
    pub fn new(mut seed: u64) -> Rng {
        Rng { state: std::array::from_fn(|_| split_mix(&mut seed)), choices: None }
    }

    /// The same stream, and all that is forked off it, after these choices.
    pub(super) fn led_by(self, choices: Choices) -> Rng {
        Rng { choices: Some(choices).filter(|choices| !choices.is_empty()), ..self }
    }

    /// 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let drawn = self.draw();
        match self.choices.as_ref().and_then(Choices::next) {
            None => drawn,
            // The ends are for what happens once in a thousand times.
            Some(0) => 0,
            Some(u8::MAX) => u64::MAX,
            Some(chosen) => u64::from(chosen) << 56 | drawn >> 8,
        }
    }

    /// What the seed says.
    fn draw(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// A number below `n`.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "no number is below 0");
        let scaled = u128::from(self.next_u64()) * u128::from(n);
        u64::try_from(scaled >> 64).expect("less than n")
    }

    /// An index below `n`.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn index(&mut self, n: usize) -> usize {
        let n = u64::try_from(n).expect("usize has at most 64 bits");
        usize::try_from(self.below(n)).expect("less than n")
    }

    /// `true` in `numerator` of `denominator` cases.
    ///
    /// # Panics
    /// If `denominator` is 0.
    pub fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }

    /// A number of the range.
    ///
    /// # Panics
    /// If the range is empty.
    pub fn range(&mut self, range: Range<u64>) -> u64 {
        assert!(range.start < range.end, "no number is in {range:?}");
        range.start + self.below(range.end - range.start)
    }

    /// Fills `bytes`.
    pub fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.draw().to_le_bytes()[..chunk.len()]);
        }
    }

    /// An independent stream for `label`. Equal states and labels give equal streams; what one stream draws
    /// does not change what the other yields.
    pub fn fork(&mut self, label: &str) -> Rng {
        let seed = label.bytes().fold(self.draw(), |seed, byte| {
            let mut mixed = seed ^ u64::from(byte);
            split_mix(&mut mixed)
        });
        Rng { choices: self.choices.clone(), ..Rng::new(seed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_xoshiro256_plus_plus() {
        let mut rng = Rng { state: [1, 2, 3, 4], choices: None };
        let drawn: Vec<u64> = (0..4).map(|_| rng.next_u64()).collect();
        assert_eq!(drawn, [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]);
    }

    #[test]
    fn numbers_below_n_are_all_reached_and_none_beyond() {
        let mut rng = Rng::new(1);
        let mut seen = [0; 7];
        (0..7000).for_each(|_| seen[rng.index(7)] += 1);
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
        assert!((0..100).all(|_| (5..8).contains(&rng.range(5..8))));
        assert_eq!((0..10_000).filter(|_| rng.chance(0, 3)).count(), 0);
        assert!((3000..3700).contains(&(0..10_000).filter(|_| rng.chance(1, 3)).count()));
    }

    #[test]
    fn forks_depend_on_the_label_and_not_on_each_other() {
        let (mut a, mut b) = (Rng::new(9), Rng::new(9));
        let (mut left, mut right) = (a.fork("disk"), b.fork("disk"));
        assert_eq!(left.state, right.state);
        left.next_u64();
        assert_eq!(a.next_u64(), b.next_u64());
        assert_ne!(Rng::new(9).fork("load").state, Rng::new(9).fork("disk").state);
        assert_ne!(right.next_u64(), Rng::new(9).next_u64());
    }

    #[test]
    fn choices_come_first_from_either_end_and_leave_the_rest_to_the_seed() {
        let [front, back] = Choices::both_ends(&[0, 3, 255, 7]);
        let mut front = Rng::new(5).fork("a").led_by(front);
        let mut back = Rng::new(6).led_by(back).fork("b");
        assert_eq!(front.below(u64::MAX), 0);
        assert_eq!(back.below(256), 7);
        assert_eq!(front.fork("call").below(256), 3);
        assert_eq!(back.next_u64(), u64::MAX);
        let mut plain = Rng::new(5).fork("a");
        let later: Vec<u64> = (0..3).map(|_| plain.next_u64()).collect();
        assert_eq!(front.next_u64(), later[2]);
    }

    #[test]
    fn bytes_are_filled_to_the_last() {
        let mut bytes = [0; 4099];
        Rng::new(3).fill_bytes(&mut bytes);
        assert!(bytes.iter().filter(|byte| **byte == 0).count() < 60);
        assert_ne!(bytes[4096..], [0; 3]);
    }
}
