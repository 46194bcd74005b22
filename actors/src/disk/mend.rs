//! Putting right a single flipped bit, from the CRC-32C that was stored with the bytes.
//!
//! The CRC of bytes with one flipped bit differs from that of the right ones by a value that depends only on how far the
//! bit is from the end, and is another one for each place up to 2^31 bits. So the place follows from the difference. Damage
//! of more than one bit has, as good as always, no such place; then nothing is changed.

/// Flips the one bit that makes `bytes` fit `crc`. True: they fit now, or did before. False: they are as they were.
///
/// `crc` is the CRC-32C of the right bytes, continued from any value (as by `crc32c_append`); `of` computes it.
pub fn mend(bytes: &mut [u8], crc: u32, of: impl Fn(&[u8]) -> u32) -> bool {
    let difference = of(bytes) ^ crc;
    if difference == 0 {
        return true;
    }
    // what each bit of the last byte changes; the step is linear, so that each byte further from the end follows
    let mut effects: [u32; 8] = std::array::from_fn(|bit| TABLE[1 << bit]);
    for at in (0..bytes.len()).rev() {
        if let Some(bit) = effects.iter().position(|effect| *effect == difference) {
            bytes[at] ^= 1 << bit;
            // the arithmetic is right; a wrong `of` must not go unnoticed
            if of(bytes) == crc {
                return true;
            }
            bytes[at] ^= 1 << bit;
            return false;
        }
        for effect in &mut effects {
            *effect = (*effect >> 8) ^ TABLE[(*effect & 0xff) as usize];
        }
    }
    false
}

/// The reflected polynomial of CRC-32C (RFC 3720, 12.1).
const POLYNOMIAL: u32 = 0x82f6_3b78;

static TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn one_flipped_bit_is_put_right_wherever_it_is(
            bytes in proptest::collection::vec(any::<u8>(), 1..5_000), place in any::<u32>(), seed in any::<u32>(),
        ) {
            let of = |bytes: &[u8]| crc32c::crc32c_append(seed, bytes);
            let crc = of(&bytes);
            let mut flipped = bytes.clone();
            let bit = place as usize % (bytes.len() * 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(mend(&mut flipped, crc, of));
            prop_assert_eq!(flipped, bytes);
        }

        #[test]
        fn more_damage_than_that_is_left_as_it_is(
            bytes in proptest::collection::vec(any::<u8>(), 4..5_000), places in proptest::collection::vec(any::<u32>(), 2..20),
        ) {
            let of = |bytes: &[u8]| crc32c::crc32c(bytes);
            let crc = of(&bytes);
            let mut damaged = bytes.clone();
            for place in places {
                let bit = place as usize % (bytes.len() * 8);
                damaged[bit / 8] ^= 1 << (bit % 8);
            }
            let before = damaged.clone();
            if mend(&mut damaged, crc, of) {
                prop_assert_eq!(damaged, bytes);
            } else {
                prop_assert_eq!(damaged, before);
            }
        }
    }

    #[test]
    fn a_flipped_bit_of_the_checksum_itself_is_not_taken_for_one_of_the_bytes() {
        let bytes = vec![7; 48 * 1024];
        let crc = crc32c::crc32c(&bytes);
        for bit in 0..32 {
            let mut copy = bytes.clone();
            assert!(!mend(&mut copy, crc ^ (1 << bit), crc32c::crc32c));
            assert_eq!(copy, bytes);
        }
    }
}
