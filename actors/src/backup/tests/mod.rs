//! Backups of a server, restores, and the survey of a data folder.

mod broken;
mod crash;
mod format_1;
mod fuzz;
mod rig;
mod starts;
mod survey;
mod whole;
