//! Multiplication with each of the 256 coefficients, in the forms that vector instructions take. Computed
//! by the compiler, so that a kernel has nothing to prepare.

/// The products of one coefficient with the low nibbles 0x00..=0x0F, then with the high ones 0x00..=0xF0:
/// multiplication distributes over XOR, so any product is the XOR of one of each.
#[derive(Clone, Copy)]
#[repr(align(32))]
pub(super) struct Nibbles {
    pub(super) low: [u8; 16],
    pub(super) high: [u8; 16],
}

/// 8 KiB.
pub(super) static NIBBLES: [Nibbles; 256] = {
    let mut tables = [Nibbles { low: [0; 16], high: [0; 16] }; 256];
    let mut coefficient = 0;
    loop {
        let table = &mut tables[coefficient as usize];
        let mut nibble = 0;
        while nibble < 16 {
            table.low[nibble as usize] = times(coefficient, nibble);
            table.high[nibble as usize] = times(coefficient, nibble << 4);
            nibble += 1;
        }
        if coefficient == u8::MAX {
            break tables;
        }
        coefficient += 1;
    }
};

/// Multiplication with one coefficient as the bit matrix that GF2P8AFFINEQB takes: bit i of the product is the
/// parity of the other factor under the mask in byte 7-i of the quadword. 2 KiB.
///
/// The instruction's own multiplication, GF2P8MULB, is of no use: its field has the polynomial 0x11B.
pub(super) static AFFINE: [u64; 256] = {
    let mut matrices = [0; 256];
    let mut coefficient = 0;
    loop {
        let mut matrix = 0;
        let mut column = 0;
        while column < 8 {
            let product = times(coefficient, 1 << column);
            let mut bit = 0;
            while bit < 8 {
                let cell = (product >> bit & 1) as u64;
                matrix |= cell << (8 * (7 - bit) + column);
                bit += 1;
            }
            column += 1;
        }
        matrices[coefficient as usize] = matrix;
        if coefficient == u8::MAX {
            break matrices;
        }
        coefficient += 1;
    }
};

/// The product in GF(2^8) with the polynomial 0x11D, bit by bit.
pub(super) const fn times(a: u8, b: u8) -> u8 {
    let mut product = 0;
    let mut bit = 8;
    while bit > 0 {
        bit -= 1;
        let carry = product >> 7;
        product = (product << 1) ^ (carry * 0x1D);
        if b >> bit & 1 != 0 {
            product ^= a;
        }
    }
    product
}
