//! The life of a read: buffer, then overlays, then tree, then one I/O per contiguous run.

use super::Shard;
use crate::commit::Seen;
use crate::error::{Error, Kind, Result};
use crate::format::page::{Key, TreeId};
use crate::format::superblock::Root;
use crate::map::{Known, Tree};
use crate::stripe::Wanted;
use crate::types::{BLOCK, BLOCK_U64, Identity, Lba, Number, Pointer, VolumeId};
use crate::zoo::{Bug, planted};
use bytes::{Bytes, BytesMut};

/// How often a read looks again because the map changed under it before it reports what it finds.
const ATTEMPTS: usize = 8;
/// Blocks that one call resolves at a time.
const STEP: u64 = 1024;

/// A block that nobody has written.
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// What a block is, before its bytes are read.
#[derive(Clone, Debug)]
enum Source {
    Bytes(Bytes),
    Zeros,
    At(Wanted),
}

/// A block's bytes; `None` for zeros.
type Block = Option<Bytes>;

/// What came from the members.
struct Fetched {
    blocks: Vec<Block>,
    /// Blocks that redundancy could not bring back, in order.
    lost: Vec<Wanted>,
}

/// Parts of one range as one: copied, unless it is one already.
pub(super) fn joined(mut parts: Vec<Bytes>) -> Bytes {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    parts.iter().for_each(|part| whole.extend_from_slice(part));
    whole.freeze()
}

impl Shard {
    /// Reads whole blocks.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a range outside the volume; [`Kind::DataLoss`], naming the first block that more
    /// damage has hit than the scheme tolerates; [`Kind::Corrupt`] when the map itself is damaged so.
    pub async fn read(&self, id: VolumeId, lba: Lba, blocks: u64) -> Result<Bytes> {
        self.read_parts(id, lba, blocks).await.map(joined)
    }

    /// Reads whole blocks, each as it lies in memory.
    ///
    /// # Errors
    /// As [`Shard::read`].
    pub async fn read_parts(&self, id: VolumeId, lba: Lba, blocks: u64) -> Result<Vec<Bytes>> {
        let count = usize::try_from(blocks).map_err(|_| Error::invalid("a read longer than memory"))?;
        self.check(id, lba, blocks)?;
        let mut parts = Vec::with_capacity(count);
        let mut done = 0;
        while done < blocks {
            let step = STEP.min(blocks - done);
            let found = self.read_blocks(id, lba.plus(done), step).await?;
            parts.extend(found.into_iter().map(|block| block.unwrap_or(Bytes::from_static(&ZEROS))));
            done += step;
        }
        Ok(parts)
    }

    /// Reads whole blocks, zeros as `None`.
    ///
    /// # Errors
    /// As [`Shard::read`].
    pub async fn read_blocks(&self, id: VolumeId, lba: Lba, blocks: u64) -> Result<Vec<Block>> {
        self.check(id, lba, blocks)?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let before = self.root(id);
            let (sources, root) = match self.resolve(id, lba, blocks).await {
                Ok(resolved) => resolved,
                // A checkpoint may have freed the pages of the tree meanwhile.
                Err(_) if self.root(id) != before => continue,
                // Of the blocks that a lost page of the map has, and of no others, nothing is known.
                Err(error) if error.kind() == Kind::Corrupt => {
                    if blocks > 1 {
                        return self.read_halves(id, lba, blocks).await;
                    }
                    if self.core.note_unmapped(id, lba, before) {
                        return Err(self.unmapped(id, lba, &error));
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            let fetched = self.fetch(&sources).await;
            self.core.wake_for_suspects();
            match fetched {
                Ok(Fetched { blocks, lost }) if lost.is_empty() || planted(Bug::LossReadsZeros) => {
                    return Ok(blocks);
                }
                // The map may have changed since it was asked: what it said then may be gone by now.
                _ if attempt < ATTEMPTS && !self.is_current(id, lba, &sources, root).await => {}
                // The cleaner may be faster than so long a read.
                _ if blocks > 1 && !self.is_current(id, lba, &sources, root).await => {
                    return self.read_halves(id, lba, blocks).await;
                }
                Ok(Fetched { lost, .. }) => {
                    for block in &lost {
                        self.core.note_loss(block).await?;
                    }
                    return Err(self.lost(id, &lost));
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn read_halves(&self, id: VolumeId, lba: Lba, blocks: u64) -> Result<Vec<Block>> {
        let half = blocks / 2;
        let mut found = Box::pin(self.read_blocks(id, lba, half)).await?;
        found.extend(Box::pin(self.read_blocks(id, lba.plus(half), blocks - half)).await?);
        Ok(found)
    }

    /// Where a block is, as far as the log has it durable; `None` for zeros and for what is still in memory.
    ///
    /// # Errors
    /// As [`Shard::read`].
    pub async fn locate(&self, id: VolumeId, lba: Lba) -> Result<Option<Pointer>> {
        let (sources, _) = self.resolve(id, lba, 1).await?;
        Ok(match sources.as_slice() {
            [Source::At(wanted)] => Some(wanted.pointer),
            _ => None,
        })
    }

    /// Of each of these blocks, whether nothing is stored for it, so that it reads as zeros.
    ///
    /// # Errors
    /// As [`Shard::read`], but for the blocks themselves, which are not read.
    pub(super) async fn stored_nowhere(&self, id: VolumeId, lba: Lba, blocks: u64) -> Result<Vec<bool>> {
        loop {
            let before = self.root(id);
            match self.resolve(id, lba, blocks).await {
                Ok((sources, _)) => {
                    return Ok(sources.iter().map(|source| matches!(source, Source::Zeros)).collect());
                }
                // A checkpoint may have freed the pages of the tree meanwhile.
                Err(_) if self.root(id) != before => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn is_current(&self, id: VolumeId, lba: Lba, before: &[Source], root: Option<Root>) -> bool {
        match self.resolve(id, lba, before.len() as u64).await {
            Ok((now, _)) => before.iter().zip(&now).all(|pair| match pair {
                (Source::At(a), Source::At(b)) => a == b,
                (Source::Bytes(_), Source::Bytes(_)) | (Source::Zeros, Source::Zeros) => true,
                _ => false,
            }),
            Err(_) => self.root(id) == root,
        }
    }

    fn root(&self, id: VolumeId) -> Option<Root> {
        self.core.catalog().with(|catalog| catalog.get(id).ok().and_then(|volume| volume.root))
    }

    /// What each block is. Buffer, overlays and root are looked at in one moment; then the tree of that root.
    async fn resolve(&self, id: VolumeId, lba: Lba, blocks: u64) -> Result<(Vec<Source>, Option<Root>)> {
        let (mut sources, ask, root) = self.core.snapshot(id, lba, blocks)?;
        if ask.is_empty() {
            return Ok((sources, root));
        }
        let tree = Tree::new(self.core.as_ref(), TreeId::Map(id), root);
        let mut found: Vec<Option<(Number, Pointer)>> = vec![None; sources.len()];
        let mut from = Key(lba.0, 0);
        let to = Key(lba.0 + blocks, 0);
        loop {
            let scan = tree.scan(from, to, 1024).await?;
            for (key, value) in scan.entries {
                let at = lba.which(found.len(), Lba(key.0), 1);
                found[at].fill(Some((Number(key.1), Pointer::from_value(&value)?)));
            }
            match scan.next {
                Some(next) => from = next,
                None => break,
            }
        }
        for (index, hidden) in ask {
            if let Some((birth, pointer)) = found[index].filter(|(birth, _)| *birth >= hidden) {
                let identity = Identity { owner: id.0, lba: lba.plus(index as u64), birth };
                sources[index] = Source::At(Wanted { pointer, identity });
            }
        }
        Ok((sources, root))
    }

    /// Reads what is on the members, all runs at once.
    async fn fetch(&self, sources: &[Source]) -> Result<Fetched> {
        let mut out: Vec<Block> = vec![None; sources.len()];
        let mut lost = Vec::new();
        let mut runs: Vec<(usize, Vec<Wanted>)> = Vec::new();
        for (at, source) in sources.iter().enumerate() {
            match source {
                Source::Zeros => {}
                Source::Bytes(bytes) => out[at] = Some(bytes.clone()),
                Source::At(wanted) => match runs.last_mut() {
                    Some((start, run)) if *start + run.len() == at && run[run.len() - 1].precedes(wanted) => {
                        run.push(*wanted);
                    }
                    _ => runs.push((at, vec![*wanted])),
                },
            }
        }
        let wanted: Vec<&[Wanted]> = runs.iter().map(|(_, run)| run.as_slice()).collect();
        for ((start, run), blocks) in runs.iter().zip(self.core.stripes().read_all(&wanted).await) {
            for (index, block) in blocks?.into_iter().enumerate() {
                if block.is_none() {
                    lost.push(run[index]);
                }
                out[start + index] = block;
            }
        }
        Ok(Fetched { blocks: out, lost })
    }

    /// What a read says of a block whose place nobody knows any more.
    fn unmapped(&self, volume: VolumeId, lba: Lba, error: &Error) -> Error {
        let text = format!(
            "bytes {} to {} of volume {} cannot be found: {error}; bring back the members that are missing, or salvage \
             the array",
            lba.0 * BLOCK_U64,
            lba.plus(1).0 * BLOCK_U64,
            self.named(volume)
        );
        Error::new(Kind::DataLoss { volume, lba }, text)
    }

    fn named(&self, volume: VolumeId) -> String {
        self.core.catalog().with(|catalog| match catalog.get(volume) {
            Ok(volume) => format!("'{}'", volume.name),
            Err(_) => format!("number {volume}"),
        })
    }

    /// What a read says of lost blocks, which are in order: the first of them, and those that follow on it.
    fn lost(&self, volume: VolumeId, lost: &[Wanted]) -> Error {
        let lba = lost[0].identity.lba;
        let follows = |(index, block): &(u64, &Wanted)| lba.plus(*index) == block.identity.lba;
        let count = (0..).zip(lost).take_while(follows).count() as u64;
        let name = self.named(volume);
        let (from, to) = (lba.0 * BLOCK_U64, lba.plus(count).0 * BLOCK_U64);
        let text = format!(
            "bytes {from} to {to} of volume {name} are lost: more is damaged there than the volume's scheme \
             tolerates; write them anew to clear this"
        );
        Error::new(Kind::DataLoss { volume, lba }, text)
    }
}

impl crate::commit::Core {
    /// What buffer and overlays say of a range, the indexes (and trim numbers) that the tree must be asked
    /// for, and the tree's root, all at one moment.
    #[allow(clippy::type_complexity)] // One snapshot of three things that belong together.
    fn snapshot(
        &self,
        id: VolumeId,
        lba: Lba,
        blocks: u64,
    ) -> Result<(Vec<Source>, Vec<(usize, Number)>, Option<Root>)> {
        let (scheme, root) =
            self.catalog().with(|catalog| catalog.get(id).map(|volume| (volume.scheme, volume.root)))?;
        let count = usize::try_from(blocks).map_err(|_| Error::invalid("a read longer than memory"))?;
        let mut sources = Vec::with_capacity(count);
        let mut ask = Vec::new();
        for (index, seen) in (0..).zip(self.look(scheme, id, lba, count)) {
            sources.push(match seen {
                Seen::Bytes(bytes) => Source::Bytes(bytes),
                Seen::Known(Known::Hole) => Source::Zeros,
                Seen::Known(Known::At(pointer, birth)) => {
                    let identity = Identity { owner: id.0, lba: lba.plus(index), birth };
                    Source::At(Wanted { pointer, identity })
                }
                Seen::Known(Known::AskTree(hidden)) => {
                    ask.push((sources.len(), hidden));
                    Source::Zeros
                }
            });
        }
        Ok((sources, ask, root))
    }
}
