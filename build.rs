//! Makes of each file under `static/` what the server keeps of it in memory: its bytes, the same by gzip and Brotli where that
//! is smaller, and a hash for its tag. `src/http/pages.rs` includes the table that this writes.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::{env, fs};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// Where it pays: of smaller ones nothing is gained that a packet holds.
const COMPRESSED_FROM_BYTES: usize = 1024;

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=static");
    let variable =
        |name| env::var_os(name).map(PathBuf::from).ok_or_else(|| io::Error::other("cargo sets its variables"));
    let (root, out) = (variable("CARGO_MANIFEST_DIR")?.join("static"), variable("OUT_DIR")?);
    let mut paths = Vec::new();
    collect(&root, &mut paths)?;
    paths.sort();
    let mut table = String::from("&[\n");
    for (n, path) in paths.iter().enumerate() {
        let name = path.strip_prefix(&root).map_err(io::Error::other)?;
        let bytes = fs::read(path)?;
        let hash: String = Sha256::digest(&bytes)[..16].iter().map(|b| format!("{b:02x}")).collect();
        let kept = |kind: &str, compressed: Vec<u8>| -> io::Result<String> {
            if compressed.len() >= bytes.len() || bytes.len() < COMPRESSED_FROM_BYTES {
                return Ok("None".into());
            }
            let at = out.join(format!("{n}.{kind}"));
            fs::write(&at, compressed)?;
            Ok(format!("Some(include_bytes!({at:?}))"))
        };
        let (gzip, brotli) = (kept("gz", by_gzip(&bytes)?)?, kept("br", by_brotli(&bytes)?)?);
        writeln!(
            table,
            "File {{ name: {name:?}, hash: {hash:?}, plain: include_bytes!({path:?}), gzip: {gzip}, brotli: {brotli} }},"
        )
        .map_err(io::Error::other)?;
    }
    table.push(']');
    fs::write(out.join("files.rs"), table)
}

/// Files whose names begin with a dot are nobody's.
fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => collect(&entry.path(), paths)?,
            false => paths.push(entry.path()),
        }
    }
    Ok(())
}

fn by_gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn by_brotli(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut compressed = Vec::new();
    let parameters = brotli::enc::BrotliEncoderParams::default();
    brotli::BrotliCompress(&mut { bytes }, &mut compressed, &parameters)?;
    Ok(compressed)
}
