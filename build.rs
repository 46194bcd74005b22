//! Makes of each file under `static/` what the server keeps of it in memory: its bytes, the same by gzip and Brotli where that
//! is smaller, and a hash for its tag. The documentation becomes such files too. `src/http/pages.rs` includes the table that this
//! writes, `src/docs` the index of the documentation.

#[path = "build/docs.rs"]
mod docs;
// the build takes texts apart and asks nothing
#[allow(dead_code)]
#[path = "src/docs/words.rs"]
mod words;

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
    let (top, out) = (variable("CARGO_MANIFEST_DIR")?, variable("OUT_DIR")?);
    let root = top.join("static");
    let mut paths = Vec::new();
    collect(&root, &mut paths)?;
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    for path in paths {
        let name = path.strip_prefix(&root).map_err(io::Error::other)?;
        files.push((name.to_string_lossy().into_owned(), path));
    }
    let module = out.join("stentor.js");
    fs::write(&module, joined(&root.join("stentor"))?)?;
    files.push(("stentor.js".into(), module));
    for source in ["build", "src/docs/words.rs"] {
        println!("cargo::rerun-if-changed={source}");
    }
    let made = docs::make(&top)?;
    fs::write(out.join("docs.rs"), made.index)?;
    fs::write(out.join("postings"), made.postings)?;
    for (n, (name, bytes)) in made.files.into_iter().enumerate() {
        let path = out.join(format!("page-{n}"));
        fs::write(&path, bytes)?;
        files.push((name, path));
    }
    files.sort();
    let mut table = String::from("&[\n");
    for (n, (name, path)) in files.iter().enumerate() {
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
        let gzip = kept("gz", by_gzip(&bytes)?)?;
        // a page of text gains little by it, and there are many of them, which change often
        let brotli = if name.starts_with("docs") { "None".into() } else { kept("br", by_brotli(&bytes)?)? };
        writeln!(
            table,
            "File {{ name: {name:?}, hash: {hash:?}, plain: include_bytes!({path:?}), gzip: {gzip}, brotli: {brotli} }},"
        )
        .map_err(io::Error::other)?;
    }
    table.push(']');
    fs::write(out.join("files.rs"), table)
}

/// The parts of the module for other people's pages, each after those that it needs.
const PARTS: [&str; 8] = ["error", "follower", "sse", "websocket", "address", "channel", "loop", "source"];

/// That module in one file, so that it is loaded at once and can be copied. The parts have no name twice, else browsers refuse it.
fn joined(folder: &Path) -> io::Result<String> {
    let read = |name: &str| {
        let path = folder.join(name).with_extension("js");
        fs::read_to_string(&path).map_err(|e| io::Error::other(format!("{}: {e}", path.display())))
    };
    if fs::read_dir(folder)?.count() != PARTS.len() + 1 {
        return Err(io::Error::other(format!("{} has other files than build.rs knows", folder.display())));
    }
    let index = read("index")?;
    let mut text: String =
        index.lines().filter(|line| line.starts_with("//")).map(|line| format!("{line}\n")).collect();
    for part in PARTS {
        let source = read(part)?;
        let is_own =
            |line: &&str| !["import ", "/** @import ", "// @ts-check"].iter().any(|other| line.starts_with(other));
        for line in source.lines().filter(is_own) {
            text.push_str(line.strip_prefix("export ").unwrap_or(line));
            text.push('\n');
        }
    }
    for line in index.lines().filter(|line| line.starts_with("export ")) {
        let names = line.split_once(" from ").map_or(line, |(names, _)| names);
        writeln!(text, "{names};").map_err(io::Error::other)?;
    }
    Ok(text)
}

/// Files whose names begin with a dot are nobody's, and the parts of the module are joined.
fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true if entry.file_name() == "stentor" => {}
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
