//! The loop on x86-64. Unsafe code: see the proofs.
#![allow(unsafe_code)] // Instructions that a machine may lack have no safe form outside functions that need them.

use super::super::matrix::Matrix;
use super::simd::{self, Vector};
use super::tables::{AFFINE, NIBBLES};
use std::arch::x86_64::{
    __m128i, __m256i, __m512i, _mm_load_si128, _mm256_and_si256, _mm256_broadcastsi128_si256,
    _mm256_gf2p8affine_epi64_epi8, _mm256_loadu_si256, _mm256_set1_epi8, _mm256_set1_epi64x,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi64, _mm256_storeu_si256, _mm256_xor_si256,
    _mm512_gf2p8affine_epi64_epi8, _mm512_loadu_si512, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_storeu_si512, _mm512_xor_si512,
};

/// A kernel: a vector and the features that its instructions need. The type is the proof that the machine has
/// them: `detect` alone makes values.
macro_rules! kernel {
    ($(#[$doc:meta])* $name:ident, $vector:ty, $($feature:tt),+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(super) struct $name(());

        impl $name {
            /// The kernel, if machine and operating system have all that it needs.
            pub(super) fn detect() -> Option<$name> {
                ($(is_x86_feature_detected!($feature))&&+).then_some($name(()))
            }

            /// As [`super::Kernel::multiply`].
            pub(super) fn multiply(self, rows: &Matrix, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
                $(#[target_feature(enable = $feature)])+
                fn run(rows: &Matrix, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
                    // SAFETY: who runs this has the features, and they are those of the vector's instructions.
                    unsafe { simd::multiply::<$vector>(rows, inputs, outputs) }
                }
                // SAFETY: a value of this type exists, so `detect` has found every feature that `run` needs.
                unsafe { run(rows, inputs, outputs) }
            }
        }
    };
}

kernel! {
    /// Products looked up by nibble, 32 at a time.
    Avx2, Shuffled, "avx2"
}

kernel! {
    /// Products by bit matrix, 32 at a time.
    GfniAvx2, Affine256, "avx2", "gfni"
}

kernel! {
    /// Products by bit matrix, 64 at a time.
    GfniAvx512, Affine512, "avx512f", "avx512bw", "gfni"
}

#[derive(Clone, Copy)]
struct Shuffled(__m256i);

// SAFETY: VMOVDQU reads and writes 32 bytes at any alignment.
unsafe impl Vector for Shuffled {
    const BYTES: usize = 32;

    /// Both tables, each in both halves of a register: the shuffle looks up within halves.
    type Factor = [__m256i; 2];

    #[inline(always)]
    unsafe fn zero() -> Shuffled {
        // SAFETY: the caller has AVX2.
        Shuffled(unsafe { _mm256_setzero_si256() })
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Shuffled {
        // SAFETY: the caller has AVX2 and 32 bytes at `from`.
        Shuffled(unsafe { _mm256_loadu_si256(from.cast()) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: the caller has AVX2 and 32 bytes at `to`.
        unsafe { _mm256_storeu_si256(to.cast(), self.0) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Shuffled) -> Shuffled {
        // SAFETY: the caller has AVX2.
        Shuffled(unsafe { _mm256_xor_si256(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn factor(coefficient: u8) -> [__m256i; 2] {
        let table = &NIBBLES[usize::from(coefficient)];
        // SAFETY: the caller has AVX2. Each half is an array of 16 bytes; the table is aligned to 32 bytes and
        // the halves lie 16 apart, so both are aligned to 16, which `_mm_load_si128` needs.
        unsafe {
            let low = _mm_load_si128(table.low.as_ptr().cast::<__m128i>());
            let high = _mm_load_si128(table.high.as_ptr().cast::<__m128i>());
            [_mm256_broadcastsi128_si256(low), _mm256_broadcastsi128_si256(high)]
        }
    }

    #[inline(always)]
    unsafe fn times(self, [low, high]: [__m256i; 2]) -> Shuffled {
        // SAFETY: the caller has AVX2.
        unsafe {
            let mask = _mm256_set1_epi8(0x0F);
            let low = _mm256_shuffle_epi8(low, _mm256_and_si256(self.0, mask));
            let high = _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi64::<4>(self.0), mask));
            Shuffled(_mm256_xor_si256(low, high))
        }
    }
}

#[derive(Clone, Copy)]
struct Affine256(__m256i);

// SAFETY: VMOVDQU reads and writes 32 bytes at any alignment.
unsafe impl Vector for Affine256 {
    const BYTES: usize = 32;

    /// The bit matrix, once for every eight bytes.
    type Factor = __m256i;

    #[inline(always)]
    unsafe fn zero() -> Affine256 {
        // SAFETY: the caller has AVX2.
        Affine256(unsafe { _mm256_setzero_si256() })
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Affine256 {
        // SAFETY: the caller has AVX2 and 32 bytes at `from`.
        Affine256(unsafe { _mm256_loadu_si256(from.cast()) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: the caller has AVX2 and 32 bytes at `to`.
        unsafe { _mm256_storeu_si256(to.cast(), self.0) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Affine256) -> Affine256 {
        // SAFETY: the caller has AVX2.
        Affine256(unsafe { _mm256_xor_si256(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn factor(coefficient: u8) -> __m256i {
        // SAFETY: the caller has AVX2.
        unsafe { _mm256_set1_epi64x(AFFINE[usize::from(coefficient)].cast_signed()) }
    }

    #[inline(always)]
    unsafe fn times(self, factor: __m256i) -> Affine256 {
        // SAFETY: the caller has GFNI and AVX2.
        Affine256(unsafe { _mm256_gf2p8affine_epi64_epi8::<0>(self.0, factor) })
    }
}

#[derive(Clone, Copy)]
struct Affine512(__m512i);

// SAFETY: VMOVDQU64 reads and writes 64 bytes at any alignment.
unsafe impl Vector for Affine512 {
    const BYTES: usize = 64;

    /// The bit matrix, once for every eight bytes.
    type Factor = __m512i;

    #[inline(always)]
    unsafe fn zero() -> Affine512 {
        // SAFETY: the caller has AVX-512F.
        Affine512(unsafe { _mm512_setzero_si512() })
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Affine512 {
        // SAFETY: the caller has AVX-512F and 64 bytes at `from`.
        Affine512(unsafe { _mm512_loadu_si512(from.cast()) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: the caller has AVX-512F and 64 bytes at `to`.
        unsafe { _mm512_storeu_si512(to.cast(), self.0) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Affine512) -> Affine512 {
        // SAFETY: the caller has AVX-512F.
        Affine512(unsafe { _mm512_xor_si512(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn factor(coefficient: u8) -> __m512i {
        // SAFETY: the caller has AVX-512F.
        unsafe { _mm512_set1_epi64(AFFINE[usize::from(coefficient)].cast_signed()) }
    }

    #[inline(always)]
    unsafe fn times(self, factor: __m512i) -> Affine512 {
        // SAFETY: the caller has GFNI and AVX-512F.
        Affine512(unsafe { _mm512_gf2p8affine_epi64_epi8::<0>(self.0, factor) })
    }
}
