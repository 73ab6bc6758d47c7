//! For jobs whose source the coordinators see, by their configuration: what agents hold of it beside that would be left
//! out without a word.

use super::client::AgentFiles;
use super::{ask, concerned, listed, listing};
use crate::fleet::FleetHandle;
use std::collections::HashSet;
use thunderhead_config::uri::is_store;
use thunderhead_config::{Job, SourceTree};
use thunderhead_net::Security;
use thunderhead_types::{Error, ErrorKind, Result};

/// Refuses a source of which agents hold rows that are not in `tree`. One that cannot be asked is passed over.
pub(crate) async fn refuse_unseen(
    job: &Job,
    security: &Security,
    fleet: &FleetHandle,
    tree: &SourceTree,
) -> Result<()> {
    if is_store(&job.source_dir.to_string_lossy()) {
        return Ok(());
    }
    let agents = concerned(job, &fleet.status().borrow().clone());
    let files = tree.tables.iter().flat_map(|table| &table.data_files);
    let seen: HashSet<&str> = files.map(|file| file.name.as_str()).collect();
    let client = AgentFiles::new(security.clone());
    for (name, (agent, result)) in ask(&client, job, agents).await {
        let entries = match listed(&agent, result) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(%error, "what an agent holds of the source is not known");
                continue;
            }
        };
        let unseen = |entry: &str| listing::holds_rows(job, entry) && !seen.contains(entry);
        if let Some(entry) = entries.iter().find(|entry| unseen(&entry.name)) {
            let place = job.source_dir.join(&entry.name);
            let cause =
                format!("agent {name} holds this file, and this coordinator does not see it");
            return Err(Error::new(ErrorKind::Precheck, place.display(), cause).advice(
                "set thunderhead.source-agents to the number of agents that hold files of the source, or move it away",
            ));
        }
    }
    Ok(())
}

/// Says of a source that is not here which agents may have it.
pub(crate) fn perhaps_elsewhere(job: &Job, fleet: &FleetHandle, error: Error) -> Error {
    if job.source_dir.exists() || is_store(&job.source_dir.to_string_lossy()) {
        return error;
    }
    let agents = concerned(job, &fleet.status().borrow().clone());
    let names: Vec<&str> = agents.iter().map(|agent| agent.agent.as_str()).collect();
    match names.as_slice() {
        [] => error,
        names => error.advice(format!(
            "agents announce it ({}): set thunderhead.source-agents to the number of those that hold files",
            names.join(", ")
        )),
    }
}
