//! The log against a plain model, and what each kind of damage does to it.

mod adopting;
mod damage;
mod fuzz;
mod model;
mod opening;
mod parts;
mod rig;
mod sealing;
mod several;

pub use rig::*;
