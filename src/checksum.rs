//! PURE: the two independent witnesses of a block.
//!
//! The pointer carries a CRC-32 (the polynomial of zlib and Ethernet) mixed with the identity of the block:
//! intact bytes of another block, or of an older version of this one, do not pass. The record header carries
//! a CRC-64/NVME of the bytes alone, parity included. The polynomials share no factor, so an accident that
//! one of them overlooks is no likelier to be overlooked by the other.

use crate::types::Identity;

/// CRC-32 of a block and then of its identity: owner (32 bits), LBA and birth (64 bits each), little-endian.
pub fn pointer_crc(block: &[u8], identity: &Identity) -> u32 {
    let mut tail = [0; 20];
    tail[..4].copy_from_slice(&identity.owner.to_le_bytes());
    tail[4..12].copy_from_slice(&identity.lba.0.to_le_bytes());
    tail[12..].copy_from_slice(&identity.birth.0.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(block);
    crc.update(&tail);
    crc.finalize()
}

/// CRC-64/NVME of a block: what a record header says of it.
pub fn witness(block: &[u8]) -> u64 {
    crc64(block)
}

/// CRC-64/NVME of any bytes.
pub fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes)
}

/// CRC-64/NVME of a structure that carries its own checksum: the eight bytes at `field` count as zeros.
///
/// # Panics
///
/// If `bytes` ends before the field does.
pub fn crc64_around(bytes: &[u8], field: usize) -> u64 {
    let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    crc.update(&bytes[..field]);
    crc.update(&[0; 8]);
    crc.update(&bytes[field + 8..]);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{BLOCK, Lba, Number};

    fn pattern() -> Vec<u8> {
        (0..251u8).cycle().take(BLOCK).collect()
    }

    const SOMEONE: Identity = Identity { owner: 7, lba: Lba(0x11_2233_4455), birth: Number(42) };

    // The expected values of these tests come from zlib and from a bitwise CRC-64/NVME.

    #[test]
    fn the_pointer_checksum_is_the_crc_32_of_block_and_identity() {
        assert_eq!(pointer_crc(&pattern(), &SOMEONE), 0xBAF2_8D9F);
        let nobody = Identity { owner: 0, lba: Lba(0), birth: Number(0) };
        assert_eq!(pointer_crc(&[0; BLOCK], &nobody), 0x7F76_FCAB);
    }

    #[test]
    fn the_pointer_checksum_tells_identities_apart() {
        let ours = pointer_crc(&pattern(), &SOMEONE);
        for other in [
            Identity { owner: 8, ..SOMEONE },
            Identity { lba: SOMEONE.lba.plus(1), ..SOMEONE },
            Identity { birth: SOMEONE.birth.next(), ..SOMEONE },
        ] {
            assert_ne!(pointer_crc(&pattern(), &other), ours);
        }
    }

    #[test]
    fn the_witness_is_crc_64_nvme() {
        assert_eq!(crc64(b"123456789"), 0xAE8B_1486_0A79_9888);
        assert_eq!(crc64(b""), 0);
        assert_eq!(witness(&pattern()), 0x9D4C_DD5E_9B06_1186);
        assert_eq!(witness(&[0; BLOCK]), 0x6482_D367_EB22_B64E);
    }

    #[test]
    fn a_checksum_around_its_own_field_counts_it_as_zeros() {
        let mut bytes = pattern();
        for field in [0, 8, 17, BLOCK - 8] {
            let around = crc64_around(&bytes, field);
            bytes[field..field + 8].fill(0);
            assert_eq!(around, crc64(&bytes));
        }
    }
}
