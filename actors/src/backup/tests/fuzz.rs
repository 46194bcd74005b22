//! Archives that nobody took.

use crate::backup::archive::{Files, Parts, Writer};

#[test]
fn archives_that_nobody_took_are_refused_or_read_to_their_end() {
    let mut good = Vec::new();
    let mut archive = Writer::new(&mut good, 1_700_000_000_000);
    archive.file("about", b"{}").expect("a file");
    let mut parts = Parts::new(&mut archive, "documents");
    for n in 0..20u8 {
        parts.entry(&[n], &[n; 40]).expect("an entry");
    }
    parts.end().expect("a part");
    archive.finish().expect("an archive");
    crate::fuzz::run("archives", [good], &["documents/0", "complete", "../", "log/1/0"], |bytes| {
        let mut archive = tar::Archive::new(bytes);
        let Ok(mut files) = Files::new(&mut archive) else { return };
        while let Ok(Some(name)) = files.next() {
            if name == "about" {
                let _ = files.whole();
                continue;
            }
            while let Ok(Some((key, value))) = files.entry() {
                assert!(key.len() + value.len() <= bytes.len());
            }
        }
    });
}
