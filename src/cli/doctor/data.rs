//! A data folder and the settings of its server, without asking the server.

use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use actors::disk::Disk;
use actors::hub::COPY_CURE;
use actors::hub::backup::{self, Finding, SurveyOptions, Verdict};

use super::Report;
use super::server::disk;
use crate::cli::Failure;
use crate::open_files;
use crate::settings::{Engine, Flags, Settings};

/// Permissions of others than the owner.
const OTHERS: u32 = 0o077;
/// Files that only the server's user may read.
const SECRETS: [&str; 2] = ["admin-token", "secret-key"];
/// The environment variable that stands for the file `secret-key`.
const SECRET_KEY: &str = "STENTOR_SECRET_KEY";

/// Runs the checks in their order. `is_deep`: with every byte that is stored. Blocks.
///
/// # Errors
/// The report cannot be printed. What is wrong with the folder is a finding.
pub fn examine(folder: &Path, config: Option<&Path>, is_deep: bool, report: &mut Report) -> Result<(), Failure> {
    let flags = Flags { config: config.map(Into::into), data: Some(folder.into()), ..Flags::default() };
    let settings = match Settings::load(&flags) {
        Ok(settings) => {
            let from = config.map_or_else(|| "the defaults".to_owned(), |path| path.display().to_string());
            report.add(Finding::fine("settings", format!("{from} and the environment can be used")))?;
            settings
        }
        Err(error) => {
            report.add(Finding::bad("settings", error.to_string()))?;
            // what follows is judged by the defaults then
            Settings::defaults().map_err(|error| Failure::Failed(error.to_string()))?
        }
    };
    let shown = folder.display();
    let metadata = match std::fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => return report.add(Finding::bad("folder", format!("{shown} is no folder; choose another one"))),
        Err(error) => {
            let advice = "check --data; the first start of a server makes the folder";
            return report.add(Finding::bad("folder", format!("{shown} cannot be read: {error}; {advice}")));
        }
    };
    report.add(permissions(folder, &metadata))?;
    for name in SECRETS {
        if let Some(finding) = secret(&folder.join(name)) {
            report.add(finding)?;
        }
    }
    if let Some(free) = Disk::real().free_bytes(folder) {
        report.add(disk(free, settings.storage.min_free_bytes))?;
    }
    let max_bytes = settings.retention.max_bytes;
    let options = SurveyOptions { secret_key: std::env::var(SECRET_KEY).ok(), max_bytes, is_deep };
    match backup::survey(folder, &options) {
        Ok(findings) => {
            let is_damaged = findings.iter().any(|finding| finding.verdict == Verdict::Bad);
            findings.into_iter().try_for_each(|finding| report.add(finding))?;
            if is_damaged && settings.engine == Engine::Nats {
                report.add(Finding::doubtful("copy", format!("no backup is needed: {COPY_CURE}")))?;
            }
        }
        Err(error) => {
            let advice = "run this as the user of the server";
            report.add(Finding::bad("folder", format!("{error}; {advice}")))?;
        }
    }
    report.add(files(open_files::most().ok(), settings.server.max_connections as u64))
}

fn permissions(folder: &Path, metadata: &Metadata) -> Finding {
    let (shown, mode) = (folder.display(), metadata.permissions().mode() & 0o7777);
    match mode & 0o022 {
        0 => Finding::fine("folder", format!("{shown} is there, and only its owner may write in it")),
        _ => Finding::bad("folder", format!("others may write in {shown} ({mode:o}); chmod go-w {shown}")),
    }
}

/// A file that holds a secret; none when it is missing.
fn secret(path: &Path) -> Option<Finding> {
    let (shown, mode) = (path.display(), std::fs::metadata(path).ok()?.permissions().mode() & 0o7777);
    Some(match mode & OTHERS {
        0 => Finding::fine("secrets", format!("only its owner may read {shown}")),
        _ => Finding::bad(
            "secrets",
            format!("others may read {shown} ({mode:o}); chmod 600 {shown}, and change what it holds if they did"),
        ),
    })
}

fn files(limit: Option<u64>, connections: u64) -> Finding {
    let wanted = open_files::needed(connections);
    match limit {
        Some(limit) if limit < wanted => Finding::doubtful(
            "open files",
            format!(
                "processes started here may open {limit}, and server.max_connections = {connections} wants {wanted}; raise ulimit -Hn \
                 (systemd: LimitNOFILE), or lower the setting"
            ),
        ),
        Some(limit) => Finding::fine("open files", format!("processes started here may open {limit}")),
        None => Finding::doubtful("open files", "the system does not tell its limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_others_can_read_is_a_failure_and_one_that_is_missing_is_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret-key");
        let verdict = || secret(&path).map(|finding| finding.verdict);
        assert_eq!(verdict(), None);
        std::fs::write(&path, "key").expect("written");
        for (mode, expected) in [(0o600, Verdict::Fine), (0o400, Verdict::Fine), (0o640, Verdict::Bad)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
            assert_eq!(verdict(), Some(expected), "{mode:o}");
        }
    }

    #[test]
    fn too_few_open_files_for_the_connections_are_a_warning() {
        assert_eq!(files(Some(1024), 50_000).verdict, Verdict::Doubtful);
        assert_eq!(files(Some(1_048_576), 50_000).verdict, Verdict::Fine);
        assert_eq!(files(None, 1).verdict, Verdict::Doubtful);
    }
}
