//! How sizes, schemes and volumes are spelled.

use paritas::types::Scheme;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Sizes end here: 2^63 bytes.
const SIZE_MAX: u64 = 1 << 63;

/// Bytes, with one of the binary suffixes K, M, G, T, P, E.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is no size such as 512M, 10G or 1T");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        "P" => 50,
        "E" => 60,
        _ => return Err(wrong()),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|bytes| *bytes <= SIZE_MAX)
        .ok_or_else(|| format!("'{text}' is more than 2^63 bytes"))
}

/// Bytes per second at most; no limit when `None`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limit(pub(crate) Option<u64>);

/// A size that is not zero, as nothing goes at no speed; or none.
pub(crate) fn parse_limit(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit(None)),
        _ => match parse_size(text)? {
            0 => Err("a limit of nothing would never end".into()),
            limit => Ok(Limit(Some(limit))),
        },
    }
}

/// Days after which something is due again; never when `None`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Every(pub(crate) Option<u16>);

/// A number of days, or never.
pub(crate) fn parse_every(text: &str) -> Result<Every, String> {
    let days: Option<u16> = text.parse().ok().filter(|days| *days > 0);
    match (text, days) {
        ("never", _) => Ok(Every(None)),
        (_, Some(days)) => Ok(Every(Some(days))),
        _ => Err(format!("'{text}' is neither a number of days such as 14 nor never")),
    }
}

/// A time in seconds, with a fraction perhaps.
pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.parse().ok();
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.ok_or_else(|| format!("'{text}' is no time in seconds such as 2 or 0.5"))
}

/// A time between two looks: some of it passes.
pub(crate) fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_seconds(text)? {
        Duration::ZERO => Err("looks need some time between them".into()),
        time => Ok(time),
    }
}

/// Bytes for people.
pub(crate) fn show_size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// A scheme as it is spelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SchemeName {
    /// One that says how many columns it has.
    Fixed(Scheme),
    /// As many data columns as there are members.
    Stripe,
}

impl SchemeName {
    /// The scheme on an array of so many members.
    pub(crate) fn on(self, members: usize) -> Scheme {
        match self {
            SchemeName::Fixed(scheme) => scheme,
            SchemeName::Stripe => {
                let columns = u8::try_from(members.max(1)).unwrap_or(u8::MAX);
                Scheme::new(columns, 0).expect("1 to 255 data columns and no parity")
            }
        }
    }

    /// The spelling of a scheme.
    pub(crate) fn spell(scheme: Scheme) -> String {
        match (scheme.k(), scheme.m()) {
            (_, 0) => "stripe".into(),
            (1, 1) => "mirror".into(),
            (1, m) => format!("mirror{}", u16::from(m) + 1),
            (k, m) => format!("{k}+{m}"),
        }
    }
}

impl FromStr for SchemeName {
    type Err = String;

    fn from_str(text: &str) -> Result<SchemeName, String> {
        let scheme = match text {
            "stripe" => return Ok(SchemeName::Stripe),
            "mirror" => Some(Scheme::MIRROR),
            _ => match (text.strip_prefix("mirror"), text.split_once('+')) {
                (Some(copies), _) => {
                    number(copies).filter(|copies| *copies >= 2).and_then(|copies| Scheme::new(1, copies - 1))
                }
                (None, Some((k, m))) => number(k).zip(number(m)).and_then(|(k, m)| Scheme::new(k, m)),
                (None, None) => None,
            },
        };
        let wrong =
            || format!("'{text}' is no scheme such as 4+2, mirror, mirror3 or stripe (255 columns at most)");
        scheme.map(SchemeName::Fixed).ok_or_else(wrong)
    }
}

fn number(text: &str) -> Option<u8> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A volume of an array: `ARRAY:VOL`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct VolumeName {
    pub(crate) array: PathBuf,
    pub(crate) volume: String,
}

impl VolumeName {
    /// Splits at the last colon.
    pub(crate) fn parse(text: OsString) -> Result<VolumeName, String> {
        let bytes = text.as_bytes();
        let shown = text.to_string_lossy();
        let colon = bytes
            .iter()
            .rposition(|byte| *byte == b':')
            .filter(|colon| *colon > 0 && *colon + 1 < bytes.len())
            .ok_or_else(|| format!("'{shown}' is not an array, a colon and the name of a volume"))?;
        let volume = std::str::from_utf8(&bytes[colon + 1..])
            .map_err(|_| format!("the volume's name in '{shown}' is not UTF-8"))?;
        Ok(VolumeName { array: OsStr::from_bytes(&bytes[..colon]).into(), volume: volume.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_and_end_at_two_to_the_63() {
        let good = [("0", 0), ("4096", 4096), ("512M", 512 << 20), ("10g", 10 << 30), ("8E", 1 << 63)];
        for (text, bytes) in good {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in
            ["", "M", "-1", "+1", "1.5G", "1X", "1MB", "9E", "9223372036854775809", "99999999999999999999"]
        {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn schemes_are_spelled_as_they_are_read() {
        for text in ["4+2", "8+3", "mirror", "mirror3", "1+0", "254+1"] {
            let SchemeName::Fixed(scheme) = text.parse().expect("a scheme") else { panic!("{text}") };
            let spelled = if text == "1+0" { "stripe" } else { text };
            assert_eq!(SchemeName::spell(scheme), spelled);
        }
        assert_eq!("stripe".parse::<SchemeName>().expect("a scheme").on(4), Scheme::new(4, 0).expect("4+0"));
        for text in
            ["", "4", "+", "4+", "+2", "0+2", "255+1", "mirror1", "mirror0", "mirror256", "4+2+1", "-1+2"]
        {
            assert!(text.parse::<SchemeName>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_volume_stands_behind_the_last_colon() {
        let name = VolumeName::parse("a:b/c:d".into()).expect("a name");
        assert_eq!((name.array.to_str(), name.volume.as_str()), (Some("a:b/c"), "d"));
        for text in ["", "a", "a:", ":b"] {
            assert!(VolumeName::parse(text.into()).is_err(), "{text}");
        }
    }
}
