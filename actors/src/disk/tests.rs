use super::*;

const POINT: Point = Point::WalWrite;

fn file(disk: &Disk, path: &str) -> DiskFile {
    disk.open(POINT, Path::new(path), Open::CreateOrOpen).expect("a file")
}

#[test]
fn a_replaced_file_holds_the_new_bytes_and_leaves_nothing_beside_it() {
    let folder = tempfile::tempdir().expect("a folder");
    for (disk, dir) in [(Disk::real(), folder.path()), (Disk::simulated(1), Path::new("/"))] {
        let path = dir.join("manifest");
        disk.replace(POINT, &path, b"a longer text").expect("written");
        disk.replace(POINT, &path, b"short").expect("written again");
        assert_eq!(disk.read(POINT, &path).expect("read"), b"short");
        assert_eq!(disk.list(dir).expect("listed"), [Entry { name: "manifest".into(), is_dir: false }]);
    }
}

/// The text of a file, read with a handle of its own.
fn text(disk: &Disk, path: &str) -> Option<String> {
    match disk.read(POINT, Path::new(path)) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) => {
            assert!(e.is_missing(), "{e}");
            None
        }
    }
}

/// What a crash may leave, over many seeds.
fn outcomes<T: Ord>(disk: &Disk, of: impl Fn(&Disk) -> T) -> std::collections::BTreeSet<T> {
    (0..200).map(|seed| of(&disk.after_crash(seed).expect("a simulated disk"))).collect()
}
