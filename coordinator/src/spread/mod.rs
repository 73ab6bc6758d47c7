//! A source that lies on the hosts of agents (`thunderhead.source-agents`): nobody sees all of it. Owns what is known of
//! it: the list of its files, which is made once for a job and recorded, and who holds which of them, which is asked
//! again of every agent that comes. Leaves to others what is done with the files.
//!
//! 1. `gather` waits until as many agents hold files as the user said, and makes one list of theirs.
//! 2. Planning reads through [`Spread::open`], from any agent that holds the file.
//! 3. `watch` tells the fleet who holds what as agents come and go: chunks go to holders only. An agent that has other
//!    files than the plan ends the job: its rows would be missing without a word.
//!
//! Agents without a root of their own (`--readable`) show nothing and get no chunk of such a source.

mod client;
mod file;
mod listing;
mod place;
mod unseen;

pub(crate) use listing::Listing;
pub(crate) use place::{Sight, place_of, reads, who_reads};
pub(crate) use unseen::{perhaps_elsewhere, refuse_unseen};

use crate::fleet::FleetHandle;
use crate::fleet::status::{AgentStatus, FleetStatus};
use crate::prepare::reading;
use crate::run::NOT_BEGUN;
use bytes::Bytes;
use client::AgentFiles;
use file::AgentFile;
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use thunderhead_config::{Compression, Job, SourceFile, SourceTree};
use thunderhead_net::Security;
use thunderhead_proto::thunderhead::{FileEntry, ReadFile};
use thunderhead_source::sql::tables_in;
use thunderhead_source::{ByteSource, unpacked};
use thunderhead_types::{Error, ErrorKind, Result};
use tokio::runtime::Handle;
use tonic::{Code, Status};

/// Agents that list at a time.
const LISTS_AT_ONCE: usize = 16;
/// Before an agent that could not be asked is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// An agent and what it holds.
struct Seen {
    session: u64,
    address: String,
    /// By file of the listing.
    holds: Vec<bool>,
}

/// See the module.
pub(crate) struct Spread {
    job: Job,
    listing: Listing,
    client: AgentFiles,
    seen: Mutex<BTreeMap<String, Seen>>,
    /// The first file that nobody could be asked for.
    unread: Mutex<Option<String>>,
}

/// What agents said, or why they could not be asked.
type Lists = BTreeMap<String, (AgentStatus, Result<Vec<FileEntry>, Status>)>;

/// Agents that may hold files of the source.
fn concerned(job: &Job, status: &FleetStatus) -> Vec<AgentStatus> {
    let root = job.source_dir.to_string_lossy();
    let mut agents = status.agents.clone();
    agents.retain(|a| a.is_here() && !a.address.is_empty() && place::concerns(&a.readable, &root));
    agents
}

async fn ask(client: &AgentFiles, job: &Job, agents: Vec<AgentStatus>) -> Lists {
    let root = job.source_dir.to_string_lossy();
    stream::iter(agents)
        .map(|agent| {
            let root = root.clone().into_owned();
            async move {
                let listed = client.list(&agent.address, root).await;
                (agent.agent.clone(), (agent, listed))
            }
        })
        .buffer_unordered(LISTS_AT_ONCE)
        .collect()
        .await
}

/// An agent that cannot list is away, or has something that nobody can import.
fn listed(agent: &AgentStatus, result: Result<Vec<FileEntry>, Status>) -> Result<Vec<FileEntry>> {
    let place = format!("agent {}", agent.agent);
    result.map_err(|status| match status.code() {
        Code::FailedPrecondition | Code::PermissionDenied | Code::InvalidArgument => {
            Error::new(ErrorKind::Precheck, place, status.message())
        }
        _ => {
            let cause = format!("cannot be asked at {}: {}", agent.address, status.message());
            Error::new(ErrorKind::Cluster, place, cause)
        }
    })
}

impl Spread {
    /// Of a job whose listing is recorded.
    pub(crate) fn new(job: &Job, listing: Listing, security: &Security) -> Self {
        Self {
            job: job.clone(),
            listing,
            client: AgentFiles::new(security.clone()),
            seen: Mutex::default(),
            unread: Mutex::default(),
        }
    }

    /// Of a job that begins: what its agents hold now.
    ///
    /// # Errors
    /// `Cluster` with what is waited for while too few agents hold files; else what is wrong with them.
    pub(crate) async fn gather(
        job: &Job,
        security: &Security,
        fleet: &FleetHandle,
    ) -> Result<Self> {
        let agents = concerned(job, &fleet.status().borrow().clone());
        let client = AgentFiles::new(security.clone());
        let (mut lists, mut holders) = (BTreeMap::new(), Vec::new());
        let mut away = String::new();
        for (name, (agent, result)) in ask(&client, job, agents).await {
            match listed(&agent, result) {
                Ok(entries) => {
                    if entries.iter().any(|e| listing::holds_rows(job, &e.name)) {
                        holders.push(name.clone());
                    }
                    lists.insert(name, (agent, entries));
                }
                Err(error) if error.kind == ErrorKind::Cluster => {
                    away += &format!("; {} {}", error.place, error.cause);
                }
                Err(error) => return Err(error),
            }
        }
        if (holders.len() as u64) < job.source_agents {
            let cause = format!(
                "agents that hold rows below {}: {} of {} are here{}{}{away}",
                job.source_dir.display(),
                holders.len(),
                job.source_agents,
                if holders.is_empty() { "" } else { ", " },
                holders.join(", "),
            );
            return Err(Error::new(ErrorKind::Cluster, NOT_BEGUN, cause));
        }
        let spread = Self {
            listing: Listing::of(job, &job.source_dir, &lists)?,
            client,
            job: job.clone(),
            seen: Mutex::default(),
            unread: Mutex::default(),
        };
        for (agent, entries) in lists.into_values() {
            spread.saw(agent, &entries)?;
        }
        Ok(spread)
    }

    /// An agent has shown its list.
    fn saw(&self, agent: AgentStatus, entries: &[FileEntry]) -> Result<()> {
        let (name, root) = (agent.agent, &self.job.source_dir);
        let holds = self.listing.held_by(&self.job, root, &name, entries)?;
        let files = holds.iter().filter(|held| **held).count();
        tracing::info!(name, files, "an agent shows files of the source");
        let seen = Seen {
            session: agent.session,
            address: agent.address,
            holds,
        };
        self.seen.lock().insert(name, seen);
        Ok(())
    }

    /// Asks agents that came since; whether something is different then.
    ///
    /// # Errors
    /// When an agent holds other files than the plan.
    async fn look(&self, status: &FleetStatus) -> Result<Looked> {
        let mut agents = concerned(&self.job, status);
        {
            let seen = self.seen.lock();
            let known =
                |a: &AgentStatus| seen.get(&a.agent).is_some_and(|s| s.session == a.session);
            agents.retain(|agent| !known(agent));
        }
        let mut looked = Looked::default();
        for (agent, result) in ask(&self.client, &self.job, agents).await.into_values() {
            match listed(&agent, result) {
                Ok(entries) => {
                    self.saw(agent, &entries)?;
                    looked.changed = true;
                }
                Err(error) if error.kind == ErrorKind::Cluster => {
                    tracing::warn!(%error, "an agent may hold files of the source");
                    looked.again = true;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(looked)
    }

    /// Asks every agent that is there now.
    pub(crate) async fn look_around(&self, fleet: &FleetHandle) -> Result<()> {
        *self.unread.lock() = None;
        let status = fleet.status().borrow().clone();
        self.look(&status).await.map(drop)
    }

    /// Who holds what, as far as it is known.
    pub(crate) fn sight(&self) -> Arc<Sight> {
        let seen = self.seen.lock();
        let files = self.listing.files.iter().enumerate().map(|(at, known)| {
            let holders = seen.iter().filter(|(_, s)| s.holds[at]);
            let here: BTreeSet<&str> = holders.map(|(name, _)| name.as_str()).collect();
            let path = self.job.source_dir.join(&known.name);
            (path.to_string_lossy().into_owned(), &known.agents[..], here)
        });
        Arc::new(Sight::new(files))
    }

    /// Keeps the fleet informed until it ends or the job must.
    pub(crate) async fn watch(self: Arc<Self>, fleet: FleetHandle, job_id: String) {
        let mut status = fleet.status();
        loop {
            let now = status.borrow_and_update().clone();
            let told = match self.look(&now).await {
                Ok(Looked { changed, again }) => {
                    let told = match changed {
                        true => fleet.sees(&job_id, self.sight()).await,
                        false => Ok(()),
                    };
                    if again {
                        tokio::time::sleep(ASK_AGAIN).await;
                    }
                    told
                }
                Err(error) => {
                    // Again, until it is heard: the job may not be led yet.
                    while fleet.fail(&job_id, error.clone()).await.is_ok() {
                        tokio::time::sleep(ASK_AGAIN).await;
                    }
                    return;
                }
            };
            if told.is_err() || status.changed().await.is_err() {
                return;
            }
        }
    }

    /// The tables of the source. Reads dumps of several tables, once for each job.
    pub(crate) async fn tree(self: &Arc<Self>) -> Result<SourceTree> {
        let (this, runtime) = (Arc::clone(self), Handle::current());
        let tree = reading(move || {
            let tables_of = |file: &SourceFile| match this.listing.dumps.get(&file.name) {
                Some(tables) => Ok(tables.clone()),
                None => this.tables_in(file, &runtime),
            };
            let root = this.job.source_dir.clone();
            let files = this.listing.listed(&root);
            SourceTree::of(&this.job, root, files, &tables_of)
        });
        let tree = tree.await;
        self.was_read()?;
        tree
    }

    fn tables_in(
        self: &Arc<Self>,
        file: &SourceFile,
        runtime: &Handle,
    ) -> Result<Vec<String>, String> {
        let stored = self.open(&file.path, runtime).map_err(|e| e.to_string())?;
        let source = unpacked(stored, file.compression);
        let found = tables_in(&*source, &self.job.format_of(file));
        found.map_err(|e| Error::from(e).to_string())
    }

    /// What is recorded of it, with what the dumps of `tree` hold.
    pub(crate) fn listing(&self, tree: &SourceTree) -> Listing {
        let mut listing = self.listing.clone();
        for file in tree.tables.iter().flat_map(|table| &table.data_files) {
            if file.only_table.is_some() {
                let tables = listing.dumps.entry(file.name.clone()).or_default();
                tables.push(file.source_table.clone());
            }
        }
        listing
    }

    /// A file as it is stored, from whoever holds it.
    pub(crate) fn open(
        self: &Arc<Self>,
        path: &Path,
        runtime: &Handle,
    ) -> io::Result<Arc<dyn ByteSource>> {
        let root = &self.job.source_dir;
        let name = path.strip_prefix(root).ok().and_then(Path::to_str);
        let at = name.and_then(|name| self.listing.position(name));
        let at = at.ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(AgentFile {
            spread: Arc::clone(self),
            at,
            name: path.display().to_string(),
            runtime: runtime.clone(),
        }))
    }

    /// A part of a file of the listing.
    async fn read(&self, file: usize, offset: u64, length: u32) -> io::Result<Bytes> {
        let known = &self.listing.files[file];
        let path = self.job.source_dir.join(&known.name);
        let holders: Vec<String> = {
            let seen = self.seen.lock();
            let holding = seen.values().filter(|s| s.holds[file]);
            holding.map(|s| s.address.clone()).collect()
        };
        for address in holders {
            let part = ReadFile {
                path: path.to_string_lossy().into_owned(),
                offset,
                length,
                size: known.size,
                modified_ns: known.modified_ns,
            };
            match self.client.read(&address, part).await {
                Ok(bytes) => return Ok(bytes),
                Err(status) if status.code() == Code::Aborted => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, status.message()));
                }
                Err(status) => tracing::warn!(address, %status, "an agent does not show a file"),
            }
        }
        let missing = format!("{}: {}", known.agents.join(", "), path.display());
        let mut unread = self.unread.lock();
        unread.get_or_insert(missing);
        Err(io::Error::other(
            "no agent that holds the file can be reached",
        ))
    }

    /// What planning read must be known: an agent that went away meanwhile is waited for.
    ///
    /// # Errors
    /// `Cluster`, when a file could not be read for want of an agent.
    fn was_read(&self) -> Result<()> {
        match self.unread.lock().take() {
            None => Ok(()),
            Some(missing) => {
                let cause = format!("agents that hold files of the source, {missing}");
                Err(Error::new(ErrorKind::Cluster, NOT_BEGUN, cause))
            }
        }
    }
}

/// What came of a look at the agents.
#[derive(Default)]
struct Looked {
    changed: bool,
    /// Somebody could not be asked.
    again: bool,
}

/// How the files of a source are opened, wherever they lie.
#[derive(Clone)]
pub(crate) struct Opener {
    access: String,
    spread: Option<(Arc<Spread>, Handle)>,
}

impl Opener {
    /// Of a source that this process sees, or of one that agents hold.
    pub(crate) fn new(job: &Job, spread: Option<Arc<Spread>>) -> Self {
        Self {
            access: job.source_access.reveal().to_owned(),
            spread: spread.map(|spread| (spread, Handle::current())),
        }
    }

    /// See [`Spread`].
    ///
    /// # Errors
    /// `Cluster`, when a file could not be read for want of an agent.
    pub(crate) fn was_read(&self) -> Result<()> {
        let spread = self.spread.as_ref();
        spread.map_or(Ok(()), |(spread, _)| spread.was_read())
    }

    /// Whether agents hold it.
    pub(crate) fn is_spread(&self) -> bool {
        self.spread.is_some()
    }

    /// Which of them hold what, as far as it is known.
    pub(crate) fn sight(&self) -> Option<Arc<Sight>> {
        self.spread.as_ref().map(|(spread, _)| spread.sight())
    }

    /// A file as it is stored.
    pub(crate) fn stored(&self, path: &Path) -> Result<Arc<dyn ByteSource>> {
        let Some((spread, runtime)) = &self.spread else {
            let location =
                thunderhead_source::store::with_access(&path.to_string_lossy(), &self.access);
            return Ok(thunderhead_source::stored_at(&location)?);
        };
        let opened = spread.open(path, runtime);
        opened.map_err(|e| Error::new(ErrorKind::Data, path.display(), e))
    }

    /// A file unpacked.
    pub(crate) fn open(
        &self,
        path: &Path,
        compression: Compression,
    ) -> Result<Arc<dyn ByteSource>> {
        Ok(unpacked(self.stored(path)?, compression))
    }
}
