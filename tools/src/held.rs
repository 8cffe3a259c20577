//! What files and devices hold that something else is about to be written over.

use crate::inspect::owner;
use paritas::device::Image;
use paritas::limits::RING_BYTES;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What would be lost if these became members: a line for each that holds something; `None` where none does. What
/// cannot be looked at is left to who writes it, and says why it cannot.
pub(crate) fn held<'a>(paths: impl Iterator<Item = &'a Path>) -> Option<String> {
    let line = |path: &Path| {
        let what = content(path).ok()??;
        Some(format!("\n  {}: {what}", path.display()))
    };
    let lines: String = paths.filter_map(line).collect();
    (!lines.is_empty()).then_some(lines)
}

fn content(path: &Path) -> io::Result<Option<String>> {
    let image = Image::open(path)?;
    if let Some((array, has_left)) = owner(&image) {
        return Ok((!has_left).then(|| format!("a member of array '{array}'")));
    }
    let blank = is_blank(&File::open(path)?, image.len())?;
    Ok((!blank).then(|| "it is not blank".into()))
}

/// As the engine sees it: the first and the last MiB are zeros.
fn is_blank(file: &File, len: u64) -> io::Result<bool> {
    let span = RING_BYTES.min(len);
    let mut bytes = vec![0; usize::try_from(span).unwrap_or(usize::MAX)];
    for start in [0, len - span] {
        file.read_exact_at(&mut bytes, start)?;
        if bytes.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}
