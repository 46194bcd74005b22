//! What visitors of JSON (`serde::de::Visitor`) have in common.

/// For a visitor without a result that looks at texts, lists and objects only: numbers, booleans and null are passed over.
macro_rules! pass_over_scalars {
    () => {
        fn visit_unit<E>(self) -> Result<(), E> {
            Ok(())
        }

        fn visit_bool<E>(self, _: bool) -> Result<(), E> {
            Ok(())
        }

        fn visit_i64<E>(self, _: i64) -> Result<(), E> {
            Ok(())
        }

        fn visit_u64<E>(self, _: u64) -> Result<(), E> {
            Ok(())
        }

        fn visit_f64<E>(self, _: f64) -> Result<(), E> {
            Ok(())
        }
    };
}
pub(in crate::model) use pass_over_scalars;

/// Whether an object may have a name twice, told without keeping its names: one bit for each kind of name seen, by length
/// and both ends. While no kind comes twice, no name came twice.
#[derive(Default)]
pub(in crate::model) struct SeenNames {
    kinds: u64,
    may_repeat: bool,
}

impl SeenNames {
    pub fn note(&mut self, name: &[u8]) {
        let (first, last) = (name.first().map_or(0, |b| *b), name.last().map_or(0, |b| *b));
        let kind = 1 << ((name.len() * 7 + usize::from(first) * 5 + usize::from(last) * 11) % 64);
        self.may_repeat |= self.kinds & kind != 0;
        self.kinds |= kind;
    }

    /// Whether the names have to be compared.
    pub fn may_repeat(&self) -> bool {
        self.may_repeat
    }
}
