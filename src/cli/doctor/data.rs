//! A data folder and the settings of its server, without asking the server.

use std::path::Path;

use actors::backup::{Lock, Survey, free_bytes};
use indicatif::HumanBytes;

use super::server::disk;
use super::{Finding, Report};
use crate::cli::Failure;
use crate::settings::{Flags, Settings};

/// Permissions of others than the owner.
const OTHERS: u32 = 0o077;
/// Open files that a server needs beside its connections: segments, webhooks, the log.
const FILES_BESIDE: u64 = 200;
/// The environment variable that stands for the file `secret-key`.
const SECRET_KEY: &str = "STENTOR_SECRET_KEY";

/// Runs the checks in their order.
pub fn examine(folder: &Path, config: Option<&Path>, report: &mut Report) -> Result<(), Failure> {
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
    match std::fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return report.add(Finding::bad("folder", format!("{shown} is no folder; choose another one"))),
        Err(error) => {
            let advice = "check --data; the first start of a server makes the folder";
            return report.add(Finding::bad("folder", format!("{shown} cannot be read: {error}; {advice}")));
        }
    }
    let survey = match Survey::of(folder) {
        Ok(survey) => survey,
        Err(error) => {
            let advice = "run this as the user of the server";
            return report.add(Finding::bad("folder", format!("{error}; {advice}")));
        }
    };
    report.add(permissions(folder, survey.mode))?;
    report.add(match survey.lock {
        Lock::Held => Finding::fine("lock", "a running server holds the folder"),
        Lock::Free => Finding::fine("lock", "no server is running on the folder"),
        Lock::Absent => Finding::doubtful("lock", "no server has ever run on the folder; check --data"),
    })?;
    for finding in secrets(&survey, std::env::var_os(SECRET_KEY).is_some()) {
        report.add(finding)?;
    }
    if let Some(free) = free_bytes(folder) {
        report.add(disk(free, settings.storage.min_free_bytes))?;
    }
    report.add(log(&survey, settings.retention.max_bytes))?;
    report.add(quarantine(&survey))?;
    report.add(files(open_files_limit(), settings.server.max_connections as u64))
}

fn permissions(folder: &Path, mode: u32) -> Finding {
    let shown = folder.display();
    match mode & 0o022 {
        0 => Finding::fine("folder", format!("{shown} is there, and only its owner may write in it")),
        _ => Finding::bad("folder", format!("others may write in {shown} ({mode:o}); chmod go-w {shown}")),
    }
}

/// The files that hold secrets. `own_key`: the operator keeps the key for stored secrets elsewhere.
fn secrets(survey: &Survey, own_key: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, mode) in &survey.secrets {
        let (shown, others) = (path.display(), mode & OTHERS);
        findings.push(match others {
            0 => Finding::fine("secrets", format!("only its owner may read {shown}")),
            _ => Finding::bad(
                "secrets",
                format!("others may read {shown} ({mode:o}); chmod 600 {shown}, and change what it holds if they did"),
            ),
        });
    }
    let has_key = survey.secrets.iter().any(|(path, _)| path.ends_with("secret-key"));
    if survey.state_bytes.is_some() && !has_key && !own_key {
        findings.push(Finding::bad(
            "secrets",
            "the file secret-key is missing: the stored secrets of webhooks and sources cannot be read; bring it back from a backup, or \
             set STENTOR_SECRET_KEY",
        ));
    }
    findings
}

fn log(survey: &Survey, max_bytes: u64) -> Finding {
    let total: u64 = survey.segments.iter().map(|(_, bytes)| bytes).sum();
    let state = survey.state_bytes.map_or_else(String::new, |bytes| format!(", state {}", HumanBytes(bytes)));
    let text = format!("{} segments, {}{state}", survey.segments.len(), HumanBytes(total));
    let each = survey.segments.iter().map(|(seq, bytes)| format!("{seq:010}  {}", HumanBytes(*bytes))).collect();
    let missing = survey.segments.windows(2).find(|pair| pair[0].0 + 1 != pair[1].0);
    let finding = match missing {
        Some(pair) => Finding::doubtful(
            "log",
            format!(
                "{text}; between {:010} and {:010} segments are missing, and with them their events",
                pair[0].0, pair[1].0
            ),
        ),
        None if max_bytes > 0 && total > max_bytes.saturating_mul(2) => Finding::doubtful(
            "log",
            format!("{text}, which is more than twice retention.max_bytes; is the server running?"),
        ),
        None => Finding::fine("log", text),
    };
    finding.with_details(each)
}

fn quarantine(survey: &Survey) -> Finding {
    if survey.quarantine.is_empty() {
        return Finding::fine("quarantine", "no segment was put aside");
    }
    let details = survey.quarantine.iter().map(|(name, reason)| format!("{name}  {reason}")).collect();
    let text = format!(
        "{} segments did not open and were put aside: their events are missing; restore them from a backup, or remove the folders",
        survey.quarantine.len()
    );
    Finding::doubtful("quarantine", text).with_details(details)
}

/// How many files a process that is started like this one may open; none when the system does not say.
fn open_files_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is ours to write to
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0;
    // a server takes as many as the hard limit gives
    known.then_some(limit.rlim_max)
}

fn files(limit: Option<u64>, connections: u64) -> Finding {
    let wanted = connections + FILES_BESIDE;
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
    use crate::cli::doctor::Verdict;

    #[test]
    fn files_that_others_can_read_and_a_key_that_is_gone_are_failures() {
        let survey = |secrets: &[(&str, u32)]| Survey {
            secrets: secrets.iter().map(|(name, mode)| (name.into(), *mode)).collect(),
            state_bytes: Some(1),
            ..Survey::default()
        };
        let verdicts = |survey: &Survey, own| secrets(survey, own).iter().map(|f| f.verdict).collect::<Vec<_>>();
        let safe = survey(&[("d/admin-token", 0o600), ("d/secret-key", 0o400)]);
        assert_eq!(verdicts(&safe, false), [Verdict::Fine, Verdict::Fine]);
        let open = survey(&[("d/admin-token", 0o600), ("d/secret-key", 0o640)]);
        assert_eq!(verdicts(&open, false), [Verdict::Fine, Verdict::Bad]);
        let gone = survey(&[]);
        assert_eq!((verdicts(&gone, false), verdicts(&gone, true)), (vec![Verdict::Bad], vec![]));
    }

    #[test]
    fn a_log_with_a_hole_or_beyond_its_retention_is_a_warning() {
        let survey = |segments: &[(u64, u64)]| Survey { segments: segments.to_vec(), ..Survey::default() };
        assert_eq!(log(&survey(&[(3, 5), (4, 5)]), 10).verdict, Verdict::Fine);
        assert_eq!(log(&survey(&[(3, 5), (5, 5)]), 10).verdict, Verdict::Doubtful);
        assert_eq!(log(&survey(&[(3, 50)]), 10).verdict, Verdict::Doubtful);
        assert_eq!(log(&survey(&[(3, 50)]), 0).verdict, Verdict::Fine, "0 is no limit");
        assert_eq!(log(&survey(&[(3, 2048)]), 0).details, ["0000000003  2.00 KiB"]);
    }

    #[test]
    fn too_few_open_files_for_the_connections_are_a_warning() {
        assert_eq!(files(Some(1024), 50_000).verdict, Verdict::Doubtful);
        assert_eq!(files(Some(1_048_576), 50_000).verdict, Verdict::Fine);
        assert_eq!(files(None, 1).verdict, Verdict::Doubtful);
    }
}
