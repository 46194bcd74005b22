//! What the folder `state` holds, for people: the documents as the next start would have them, before it reads the
//! write-ahead log. No database is opened, because opening one writes; the flat copy has the same documents.

use std::path::Path;

use super::files::{self, Folder};
use super::{GenerationError, Generations, LogId, Manifest, damage, reading};
use crate::disk::Disk;
use crate::documents::Documents;

/// The newest usable generation.
pub struct GenerationSurvey {
    pub number: u64,
    /// The last commit that is in it.
    pub sequence: u64,
    pub documents: Documents,
    /// What is damaged and can be made good, in words; empty when nothing is.
    pub damage: String,
}

/// Why no generation can be used.
pub struct LostGeneration {
    pub why: String,
    /// What can be read of the newest one all the same: enough to name some channels, and nothing to start on.
    pub rest: Documents,
}

impl Generations {
    /// Looks at the generations of a data folder. `log_id` and `log_begins_at` are as for [`Generations::open`]; without
    /// them the newest one that can be read counts. `is_deep`: what stands in the file of the database is compared as well. The inner
    /// error says why there is none that can be used. Blocks.
    ///
    /// # Errors
    /// What the disk says.
    pub fn survey(
        disk: &Disk,
        data_dir: &Path,
        log_id: Option<&LogId>,
        log_begins_at: u64,
        is_deep: bool,
    ) -> Result<Result<GenerationSurvey, LostGeneration>, GenerationError> {
        let generations = Generations::new(disk, data_dir, log_id.unwrap_or(&[0; 16]));
        let (mut passed_over, mut rest) = (Vec::new(), None);
        let mut numbers = files::numbers(disk, &generations.dir)?;
        while let Some(number) = numbers.pop() {
            let folder = Folder::new(disk, &generations.dir, number);
            let mut pass_over = |why: String| passed_over.push(format!("generation {number}: {why}"));
            let (manifest, fault) = match folder.manifest()? {
                Ok(found) => found,
                Err(why) => {
                    pass_over(why);
                    salvage(&mut rest, &folder, None)?;
                    continue;
                }
            };
            if log_id.is_some() && manifest.log_id != generations.log_id {
                pass_over("it belongs to another log".into());
                continue;
            }
            if manifest.sequence + 1 < log_begins_at {
                pass_over(format!("it goes only up to commit {}", manifest.sequence));
                continue;
            }
            match reading::read_without_database(&folder, &manifest)? {
                Err(why) => {
                    pass_over(why);
                    salvage(&mut rest, &folder, Some(&manifest))?;
                }
                Ok((documents, mut faults)) => {
                    faults.extend(fault);
                    if is_deep && let Some(why) = reading::database_fault(&folder, &manifest)? {
                        faults.push(why);
                    }
                    let damage = damage(&passed_over, &faults);
                    return Ok(Ok(GenerationSurvey { number, sequence: manifest.sequence, documents, damage }));
                }
            }
        }
        if passed_over.is_empty() {
            passed_over.push("there is no generation".into());
        }
        Ok(Err(LostGeneration { why: passed_over.join("; "), rest: rest.unwrap_or_default() }))
    }
}

/// Reads what is left of a generation, unless a newer one was read.
fn salvage(rest: &mut Option<Documents>, folder: &Folder, manifest: Option<&Manifest>) -> Result<(), GenerationError> {
    if rest.is_none() {
        let found = reading::salvage(folder, manifest)?;
        *rest = Some(Documents::of(found, manifest.map_or(0, |manifest| manifest.sequence)));
    }
    Ok(())
}
