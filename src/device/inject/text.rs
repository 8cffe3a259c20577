//! How faults are spelled, by people and in sidecars.
//!
//! Strict: a word that is not known, or stands twice, makes the whole fault wrong. What is printed is read as the same.

use super::{Fault, FaultKind, MILLION, Span};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Units of bytes, the largest first.
const SIZES: [(&str, u64); 5] = [("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10), ("", 1)];
/// Units of time in nanoseconds, the largest first.
const TIMES: [(&str, u64); 4] = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1000), ("ns", 1)];
/// All kinds but the slow one, which has a delay.
const KINDS: [FaultKind; 8] = [
    FaultKind::ReadError,
    FaultKind::WriteError,
    FaultKind::FlushError,
    FaultKind::Hang,
    FaultKind::LostWrite,
    FaultKind::MisdirectedWrite,
    FaultKind::BitFlip,
    FaultKind::Vanish,
];

impl FaultKind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::ReadError => "read-error",
            FaultKind::WriteError => "write-error",
            FaultKind::FlushError => "flush-error",
            FaultKind::Slow(_) => "slow",
            FaultKind::Hang => "hang",
            FaultKind::LostWrite => "lost-write",
            FaultKind::MisdirectedWrite => "misdirected-write",
            FaultKind::BitFlip => "bit-flip",
            FaultKind::Vanish => "vanish",
        }
    }

    /// The kind of that name. The slow one has a delay, and no other.
    ///
    /// # Errors
    /// A sentence.
    pub fn named(name: &str, delay: Option<Duration>) -> Result<FaultKind, String> {
        match (name, delay) {
            ("slow", Some(delay)) => Ok(FaultKind::Slow(delay)),
            ("slow", None) => Err("slow: by how much? It needs a delay such as 50ms".into()),
            _ => {
                let kind = KINDS.into_iter().find(|kind| kind.name() == name);
                let kind = kind.ok_or_else(|| format!("'{name}' is no kind of fault"))?;
                match delay {
                    None => Ok(kind),
                    Some(_) => Err(format!("{name}: only what is slow has a delay")),
                }
            }
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", shown(self.offset, &SIZES), shown(self.len, &SIZES))
    }
}

impl FromStr for Span {
    type Err = String;

    /// `OFF+LEN` in bytes, each perhaps with K, M, G or T.
    fn from_str(text: &str) -> Result<Span, String> {
        let parts = text.split_once('+').and_then(|(offset, len)| {
            Some(Span { offset: amount(offset, &SIZES)?, len: amount(len, &SIZES)? })
        });
        parts.ok_or_else(|| format!("'{text}' is no range of bytes such as 1M+64K"))
    }
}

/// Reads a chance, in a million: `1/100`, `5%`, `0.25%`. What is no whole number of a million is rounded.
///
/// # Errors
/// A sentence, also for a chance that is none, or more than all.
pub fn parse_chance(text: &str) -> Result<u32, String> {
    let per_million = match (text.strip_suffix('%'), text.split_once('/')) {
        (Some(percent), _) => {
            let (whole, part) = percent.split_once('.').unwrap_or((percent, "0"));
            let digits = (1..=4).contains(&part.len()).then(|| format!("{part:0<4}"));
            let part = digits.and_then(|digits| number(&digits));
            number(whole).zip(part).and_then(|(whole, part)| whole.checked_mul(10_000)?.checked_add(part))
        }
        (None, Some((share, of))) => number(share)
            .zip(number(of))
            .and_then(|(share, of)| share.checked_mul(MILLION.into())?.checked_add(of / 2)?.checked_div(of)),
        (None, None) => None,
    };
    per_million
        .filter(|chance| (1..=u64::from(MILLION)).contains(chance))
        .and_then(|chance| u32::try_from(chance).ok())
        .ok_or_else(|| format!("'{text}' is no chance such as 5% or 1/1000, of 1 in a million at least"))
}

/// Reads a time such as `50ms`, in `ns`, `us`, `ms` or `s`.
///
/// # Errors
/// A sentence.
pub fn parse_delay(text: &str) -> Result<Duration, String> {
    let time = amount(text, &TIMES).map(Duration::from_nanos);
    time.ok_or_else(|| format!("'{text}' is no time such as 50ms or 2s"))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if let FaultKind::Slow(delay) = self.kind {
            // Delays are parsed from 64 bits of nanoseconds; what is longer is as good as that.
            let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
            write!(f, " delay={}", shown(nanos, &TIMES))?;
        }
        if let Some(range) = self.range {
            write!(f, " range={range}")?;
        }
        if self.per_million != MILLION {
            write!(f, " chance={}/{MILLION}", self.per_million)?;
        }
        if let Some(count) = self.count {
            write!(f, " count={count}")?;
        }
        Ok(())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let mut words = text.split_ascii_whitespace();
        let name = words.next().ok_or("no kind of fault")?;
        let (mut late, mut range, mut per_million, mut count) = (None, None, None, None);
        for word in words {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("'{word}' is no KEY=VALUE"))?;
            let twice = match key {
                "delay" => late.replace(parse_delay(value)?).is_some(),
                "range" => range.replace(value.parse()?).is_some(),
                "chance" => per_million.replace(parse_chance(value)?).is_some(),
                "count" => {
                    let parsed = number(value).ok_or_else(|| format!("'{value}' is no count"))?;
                    count.replace(parsed).is_some()
                }
                _ => return Err(format!("'{key}' is not known")),
            };
            if twice {
                return Err(format!("'{key}' stands twice"));
            }
        }
        let kind = FaultKind::named(name, late)?;
        Ok(Fault { kind, range, per_million: per_million.unwrap_or(MILLION), count })
    }
}

/// In the largest unit that leaves a whole number.
fn shown(amount: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, unit): &&(&str, u64)| amount > 0 && amount.is_multiple_of(*unit);
    let (name, unit) = units.iter().find(fits).or(units.last()).expect("there are units");
    format!("{}{name}", amount / unit)
}

/// Digits and the name of a unit.
fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (_, unit) = units.iter().find(|(name, _)| *name == &text[digits.len()..])?;
    number(digits)?.checked_mul(*unit)
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_as_the_same() {
        let all = KINDS.into_iter().chain([FaultKind::Slow(Duration::from_millis(1500))]);
        for kind in all {
            let plain = Fault::new(kind);
            let full = plain.within(1 << 20, (64 << 10) + 1).per_million(2500).times(7);
            for fault in [plain, full, plain.within(0, 1), plain.times(u64::MAX), plain.per_million(1)] {
                assert_eq!(fault.to_string().parse(), Ok(fault), "{fault}");
            }
        }
        let fault = Fault::new(FaultKind::Slow(Duration::from_millis(50))).within(1 << 20, 64 << 10).times(3);
        assert_eq!(fault.to_string(), "slow delay=50ms range=1M+64K count=3");
    }

    #[test]
    fn chances_are_percent_or_a_fraction() {
        let good = [("100%", MILLION), ("5%", 50_000), ("0.25%", 2500), ("0.0001%", 1), ("1/3", 333_333)];
        for (text, per_million) in good.into_iter().chain([("1/1", MILLION), ("2/1000000", 2)]) {
            assert_eq!(parse_chance(text), Ok(per_million), "{text}");
        }
        for text in
            ["", "5", "%", "0%", "101%", ".5%", "1.%", "0.00001%", "1/0", "0/1", "2/1", "1/9999999", "-1%"]
        {
            assert!(parse_chance(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_and_ranges_have_units() {
        assert_eq!(parse_delay("50ms"), Ok(Duration::from_millis(50)));
        assert_eq!(parse_delay("2s"), Ok(Duration::from_secs(2)));
        assert_eq!("4096+1G".parse(), Ok(Span { offset: 4096, len: 1 << 30 }));
        for text in ["", "50", "ms", "1m", "1.5s", "99999999999s"] {
            assert!(parse_delay(text).is_err(), "{text}");
        }
        for text in ["", "1", "+", "1+", "1-2", "1X+1", "1+1+1", "99999999T+1"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_fault_is_refused() {
        for text in [
            "",
            "fall",
            "slow",
            "hang delay=1s",
            "hang twice",
            "hang range",
            "hang count=-1",
            "hang count=1 count=1",
            "hang range=1+1 range=1+1",
            "hang size=1",
            "hang chance=2",
            "Hang",
        ] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
        let hang = Fault::new(FaultKind::Hang);
        let flush = Fault::new(FaultKind::FlushError);
        let slow = Fault::new(FaultKind::Slow(Duration::ZERO));
        for wrong in [
            hang.within(0, 0),
            hang.within(4096, 1),
            hang.within(1, u64::MAX),
            hang.per_million(0),
            hang.per_million(MILLION + 1),
            hang.times(0),
            flush.within(0, 1),
            slow,
        ] {
            assert!(wrong.check(4096).is_err(), "{wrong:?}");
        }
        assert_eq!(hang.within(4095, u64::MAX - 4095).per_million(1).times(1).check(4096), Ok(()));
    }
}
