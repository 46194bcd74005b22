//! The documentation that the binary holds: which sections it has, and how they are found. `build/docs.rs` makes it of the
//! Markdown; the pages themselves are files as those of the dashboard are.

mod search;
pub mod words;

pub use search::{Found, search};

/// A heading of a page and what stands below it.
struct Section {
    /// Its page's place in [`Index::pages`].
    page: usize,
    /// Empty at the top of a page.
    anchor: &'static str,
    heading: &'static str,
    /// A line for each paragraph, row of a table or line of code.
    text: &'static str,
}

struct Index {
    /// The address below `/docs/` and the title of each page.
    pages: &'static [(&'static str, &'static str)],
    sections: &'static [Section],
    /// Sorted: the term, where its postings begin, and how many there are.
    terms: &'static [(&'static str, usize, usize)],
    /// Three bytes each: the number of a section, little endian, and how much it says about the term.
    postings: &'static [u8],
}

const POSTING_BYTES: usize = 3;

static INDEX: Index = include!(concat!(env!("OUT_DIR"), "/docs.rs"));
