//! Progress on stderr, where a terminal shows it.

use indicatif::{ProgressBar, ProgressStyle};
use std::borrow::Cow;
use std::io::{IsTerminal, stderr};

/// A bar over `total` bytes; of unknown length when `None`. Nothing but on a terminal.
pub(crate) fn bar(what: impl Into<Cow<'static, str>>, total: Option<u64>) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} eta {eta}",
        ),
        None => (ProgressBar::no_length(), "{msg} {binary_bytes} {binary_bytes_per_sec} {elapsed}"),
    };
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    bar.with_style(style.progress_chars("=> ")).with_message(what)
}

/// A bar over `total` things; of unknown number when `None`. Nothing but on a terminal.
pub(crate) fn count(what: &'static str, total: Option<u64>) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{msg} [{bar:30}] {pos}/{len} {per_sec} eta {eta}"),
        None => (ProgressBar::no_length(), "{msg} {pos} {per_sec} {elapsed}"),
    };
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    bar.with_style(style.progress_chars("=> ")).with_message(what)
}
