//! SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"): numbers that look random and
//! depend on a seed alone, the same on every machine. For samples, salts and simulations, never for secrets.

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The next number of the sequence whose state this is; a seed is the first state.
pub fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(STEP);
    mixed(*state)
}

/// Number `n` of the sequence of a seed, counted from 1.
pub fn nth(seed: u64, n: u64) -> u64 {
    mixed(seed.wrapping_add(n.wrapping_mul(STEP)))
}

fn mixed(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_the_reference_implementation() {
        // splitmix64.c by Vigna, with the seed 1234567
        let mut state = 1_234_567;
        let first: Vec<u64> = (0..3).map(|_| next(&mut state)).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
        assert_eq!((1..=3).map(|n| nth(1_234_567, n)).collect::<Vec<_>>(), first);
    }
}
