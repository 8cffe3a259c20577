//! Files, whatever their names.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Whether two names lead to one file or device.
pub(crate) fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino()) || one.rdev() != 0 && one.rdev() == other.rdev()
}
