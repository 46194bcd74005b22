//! Which seeds a simulation runs. `STENTOR_SEEDS=1000` runs more than usual, from `STENTOR_SEEDS_FROM` on; `STENTOR_SEED=7` runs
//! that one alone.

/// A number of the environment.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// The only seed that was asked for.
pub fn alone() -> Option<u64> {
    number("STENTOR_SEED")
}

/// As many as are usual, or as were asked for.
pub fn chosen(usual: u64) -> Vec<u64> {
    let from = number("STENTOR_SEEDS_FROM").unwrap_or(1);
    alone().map_or_else(|| (from..from + number("STENTOR_SEEDS").unwrap_or(usual)).collect(), |seed| vec![seed])
}

/// What to say of a seed that fails.
pub fn say(failed: u64) {
    eprintln!("seed {failed} fails; run it alone by STENTOR_SEED={failed}");
}
