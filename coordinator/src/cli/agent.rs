//! `thunderhead agent`: one agent of a fleet. What it does lies in the agent crate.

use super::{Format, fail};
use std::process::ExitCode;
use thunderhead_agent::{AgentArgs, run_agent};

pub(super) fn run(args: &AgentArgs) -> ExitCode {
    match run_agent(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, Format::Text),
    }
}
