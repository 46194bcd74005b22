//! A file system of a few megabytes that a test can fill and empty: a tmpfs in a mount namespace of its own.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub struct SmallDisk {
    /// Holds the namespace, and with it the disk. Ends with its standard input, so also when the test process is killed.
    holder: Child,
    path: PathBuf,
    _mount_point: tempfile::TempDir,
}

/// What fills the disk. It lies beside the data folder, not in it.
const FILLER: &str = "filler";
const CHUNK_BYTES: usize = 64 * 1024;

impl SmallDisk {
    /// None where the system lets nobody mount anything, which CI must not be.
    pub fn new(bytes: u64) -> Option<SmallDisk> {
        // root needs no user namespace; in a container that forbids the first, the second may be allowed
        let ways: [&[&str]; 2] = [&["--mount"], &["--mount", "--map-root-user"]];
        let made = ways.iter().find_map(|way| SmallDisk::mounted(way, bytes));
        if made.is_none() {
            assert!(std::env::var("CI").is_err(), "CI must allow a test to mount a tmpfs (unshare --mount)");
            eprintln!("NOT CHECKED: neither unshare --mount nor unshare --mount --map-root-user may mount a tmpfs");
        }
        made
    }

    fn mounted(way: &[&str], bytes: u64) -> Option<SmallDisk> {
        let mount_point = tempfile::tempdir().expect("a folder can be made");
        let script = format!("mount -t tmpfs -o size={bytes},mode=0700 tmpfs \"$0\" && echo mounted && exec cat");
        let mut holder = Command::new("unshare")
            .args(way)
            .args(["sh", "-c", &script])
            .arg(mount_point.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let mut said = String::new();
        let mut out = BufReader::new(holder.stdout.take().expect("standard output is ours"));
        out.read_line(&mut said).expect("it can be read");
        if said.trim_end() != "mounted" {
            holder.wait().expect("it ends");
            return None;
        }
        // the way into another mount namespace (proc(5), /proc/pid/root)
        let inner = mount_point.path().strip_prefix("/").expect("an absolute path");
        let path = Path::new("/proc").join(holder.id().to_string()).join("root").join(inner);
        Some(SmallDisk { holder, path, _mount_point: mount_point })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the data go.
    pub fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    pub fn free_bytes(&self) -> u64 {
        let path = CString::new(self.path.as_os_str().as_bytes()).expect("no NUL in it");
        // SAFETY: statvfs is plain data for which all zeroes is a value
        let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: the path ends in NUL and the struct is ours to write
        assert_eq!(unsafe { libc::statvfs(path.as_ptr(), &mut stat) }, 0, "the disk is there");
        stat.f_bavail * stat.f_frsize
    }

    /// Takes everything but so many bytes, which are rounded up to whole pages.
    pub fn fill(&self, leave_bytes: u64) {
        let mut filler =
            OpenOptions::new().create(true).append(true).open(self.path.join(FILLER)).expect("the filler opens");
        loop {
            let wanted = self.free_bytes().saturating_sub(leave_bytes) as usize;
            match filler.write(&vec![0; wanted.min(CHUNK_BYTES)]) {
                Ok(0) => return,
                Ok(_) => {}
                // somebody else took the last page
                Err(e) if e.kind() == ErrorKind::StorageFull => {
                    if leave_bytes == 0 {
                        return;
                    }
                }
                Err(e) => panic!("the filler cannot be written: {e}"),
            }
        }
    }

    /// Gives back what [`SmallDisk::fill`] took.
    pub fn empty(&self) {
        // cut first, so that it is free at once even while somebody looks at the file
        File::create(self.path.join(FILLER)).expect("the filler can be cut");
        fs::remove_file(self.path.join(FILLER)).expect("the filler can be removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // it may have ended
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
