//! The control plane: state store, plan, schedule and leader loop of a job, and the `thunderhead`
//! command line. It never holds a row; the agents do, and never decide who owns what.

pub mod cli;
pub mod conflicts;
mod done;
mod existing;
pub mod fleet;
pub mod inspect;
pub mod job;
pub mod leader;
pub mod plan;
mod prepare;
pub mod progress;
pub mod report;
pub mod run;
pub mod scheduler;
pub mod service;
mod spread;
pub mod store;
mod target;
pub mod usage;
