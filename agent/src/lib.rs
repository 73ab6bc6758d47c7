//! The data plane: takes encode and ingest tasks from a coordinator, turns source bytes into sorted runs
//! and runs into TiKV regions. It never decides who owns what and never talks to the state store.
//!
//! The way of a row: [`encode`] reads and encodes it into a sort buffer, [`sort`] spills the buffer to
//! runs and later merges the runs of a range, [`ingest`] hands the merged range to the cluster client.

mod encode;
mod held;
mod ingest;
mod sample;
pub mod sort;
mod worker;

pub use sample::{Sample, sample};
pub use worker::{Agent, AgentConfig};
