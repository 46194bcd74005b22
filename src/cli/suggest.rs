//! "Did you mean": the nearest of the names that there are.

/// How alike two names must be (Jaro-Winkler, 0 to 1) before one is proposed for the other.
const LIKENESS_FLOOR: f64 = 0.8;
/// How alike two names are that one slip of the fingers tells apart, which Jaro-Winkler thinks little of in short words.
const ONE_SLIP: f64 = 0.9;
/// In shorter words one slip makes another word.
const SLIP_CHARS_MIN: usize = 3;

/// The candidate that is most like `word`, if one is like enough.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |candidate: &&str| {
        let one_slip = word.len() >= SLIP_CHARS_MIN && strsim::osa_distance(word, candidate) == 1;
        strsim::jaro_winkler(word, candidate).max(if one_slip { ONE_SLIP } else { 0.0 })
    };
    let nearest = candidates.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&nearest) >= LIKENESS_FLOOR).then_some(nearest)
}

/// `; did you mean X?`, or nothing.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_corrected_and_another_word_is_not() {
        let names = ["map_kill", "add_system", "deleted_system"];
        assert_eq!(nearest("map_kil", names), Some("map_kill"));
        assert_eq!(nearest("mpa", ["map", "organization"]), Some("map"));
        assert_eq!(nearest("addsystem", names), Some("add_system"));
        assert_eq!(nearest("poll.vote", names), None);
        assert_eq!(nearest("x", []), None);
    }
}
