//! One tree for everything that is looked up: the map of each volume (LBA, birth) -> pointer, the segment
//! table, the volume table, the damage list.
//!
//! ```text
//!   root      [ 0/0 .      412/0 .        900/0 . ]      level 2    entry: low key and pointer of a child
//!                |             |              |
//!   inner  [0/0 . 200/0 .] [412/0 . ...]  [900/0 . ...]  level 1    high fence = low key of the next, none
//!             |                                                     at the right edge
//!   leaf   [3/7 12/9 ...]  ...                           level 0    entry: key and value
//! ```
//!
//! A copy-on-write B+tree. Pages are blocks in the log and never change; a batch of updates writes new leaves
//! and new inner pages, bottom-up, to a new root, and names the pages that the new tree no longer uses.
//! Leaves do not link to each other. The parent says of each page its tree, level and fences, and every page
//! is checked against its parent when it is loaded ([`tree`]).
//!
//! | file | idea |
//! | --- | --- |
//! | [`tree`] | the two ports to the log, what a sound page is, looking up one key |
//! | [`scan`] | looking at many keys: a range, or every page |
//! | [`edit`] | what a merge does to the entries of a leaf |
//! | [`merge`] | how new pages come from old ones |
//! | [`cache`] | the pages kept in memory |
//! | `overlay` | what the log has added and the trees do not have yet |
//! | `catalog` | the volumes: overlays above trees |
//! | `damage` | what is lost |

pub mod cache;
mod catalog;
mod damage;
pub mod edit;
pub mod merge;
mod overlay;
pub mod scan;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod tree;

pub use cache::PageCache;
pub use catalog::{Catalog, Known, Overtaken, Volume, check_size};
pub use damage::DamageList;
pub use edit::MapUpdate;
pub use overlay::{Claim, Layer, Overlay, Update};
pub use tree::{PageSink, PageSource, Tree};
