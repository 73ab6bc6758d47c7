//! The data plane: takes encode and ingest tasks from a coordinator, turns source bytes into sorted runs
//! and runs into TiKV regions. It never decides who owns what and never talks to the state store.
//!
//! The way of a row: [`encode`] reads it, [`fields`] gives its fields to columns, the pairs go to a sort
//! buffer; [`sort`] spills the buffer to runs and later merges the runs of a range, [`ingest`] hands the merged
//! range to the cluster client. Runs of other agents come in through [`peers`], [`runs`] serves ours to them; [`files`]
//! shows coordinators the source files of this host.

mod allocator;
mod cli;
mod clusters;
mod conflict;
mod encode;
mod existing;
mod fields;
mod files;
mod held;
mod home;
mod ingest;
mod inputs;
mod peers;
mod refused;
mod run_store;
mod runs;
mod sample;
mod session;
mod slots;
pub mod sort;
mod tasks;
mod work;
mod worker;

pub use cli::{AgentArgs, run_agent};
pub use clusters::Clusters;
pub use fields::check_fields;
pub use held::sst_dir;
pub use run_store::RunStore;
pub use sample::{Look, Sample, look, sample};
pub use slots::{SLOT, share_of_slot};
pub use worker::{Agent, AgentConfig, SessionEnd, regions_in_flight};
