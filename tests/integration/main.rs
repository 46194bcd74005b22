//! The real server, started on port 0 with a data folder of its own, judged by what goes over the wire.
//!
//! - [`support`]: the server as a child process, and clients that read strictly
//! - [`wire`]: what the API promises to those who use it rightly
//! - [`hostile`]: what it says to those who do not
//! - [`sources`]: events that come in from outside
//! - [`cluster`]: several servers on NATS
//! - [`cli`]: the commands of the command line
//! - [`bad_days`]: damage, full disks, clocks that jump, starts that must fail, folders of older versions
//! - [`bounds`]: what one tenant may cost the others
//! - [`backup`]: backups under load, and servers on what was restored
//! - [`crash`]: kill -9 at random moments
//! - [`deliveries`]: what the delivery engine promises whatever happens
//! - [`takeover`]: another process in the place of the running server, and what goes wrong on the way
//! - [`system`]: the process itself, slow readers and long backlogs

mod backup;
mod bad_days;
mod bounds;
mod cli;
mod cluster;
mod crash;
mod deliveries;
mod hostile;
mod sources;
mod strangers;
mod support;
mod system;
mod takeover;
mod wire;
