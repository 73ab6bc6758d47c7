//! The sandbox's own HTTP API, on PD's port under `/sandbox`: faults, panics, and a hand on the
//! topology. For tests and for trying out.

use crate::cluster::{Cluster, SandboxPanic};
use crate::error::SandboxError;
use crate::faults::Fault;
use crate::pd_http::failed;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

type App = State<Arc<Cluster>>;

/// | path | does |
/// |---|---|
/// | `GET, POST, DELETE /sandbox/faults`, `DELETE /sandbox/faults/{id}` | lists, adds, removes faults |
/// | `GET /sandbox/panics` | stores that died of a file |
/// | `GET /sandbox/state` | stores, files in import directories, regions |
/// | `POST /sandbox/split`, `merge`, `conf-change` `{"region": 5}` | changes a region |
/// | `POST /sandbox/transfer-leader {"region": 5, "store": 2}` | moves a leader |
/// | `POST /sandbox/learner {"region": 5, "store": 4}` | adds a learner |
/// | `POST /sandbox/stores/{id}/stop`, `/start`, `/remove` | kills, starts, scales in a store |
/// | `POST /sandbox/pd-leader {"member": 1}` | moves PD's leadership |
/// | `POST /sandbox/sql/stop`, `/start` | closes the MySQL port and its sessions; listens there again |
/// | `POST /sandbox/gc {"safe_point": ts, "force": false}` | moves the GC safe point |
pub(crate) fn router(cluster: Arc<Cluster>) -> Router {
    Router::new()
        .route(
            "/sandbox/faults",
            get(list_faults).post(add_fault).delete(clear_faults),
        )
        .route("/sandbox/faults/{id}", delete(remove_fault))
        .route("/sandbox/panics", get(panics))
        .route("/sandbox/state", get(state))
        .route("/sandbox/split", post(split))
        .route("/sandbox/merge", post(merge))
        .route("/sandbox/conf-change", post(change_peer))
        .route("/sandbox/transfer-leader", post(transfer_leader))
        .route("/sandbox/learner", post(add_learner))
        .route("/sandbox/stores/{id}/{action}", post(store_action))
        .route("/sandbox/pd-leader", post(pd_leader))
        .route("/sandbox/sql/{action}", post(sql_action))
        .route("/sandbox/gc", post(gc))
        .with_state(cluster)
}

/// What a store has lying around.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoreState {
    pub id: u64,
    pub alive: bool,
    pub address: String,
    /// Finished SSTs that no ingest has taken.
    pub import_files: u64,
    pub import_mode: bool,
    pub suspended: bool,
    pub force_partition_ranges: usize,
    pub leaders: u64,
}

/// Everything that a test wants to see at the end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterState {
    pub cluster_id: u64,
    pub regions: usize,
    pub pending_regions: usize,
    pub stores: Vec<StoreState>,
    pub panics: Vec<SandboxPanic>,
    /// Names of files that were sent again after an ingest knew them: what no importer may do.
    #[serde(default)]
    pub names_used_again: usize,
    /// Ids of services and barriers that hold back garbage collection.
    pub gc_barriers: Vec<String>,
    pub paused_schedulers: Vec<String>,
}

impl Cluster {
    pub(crate) fn state(&self) -> Result<ClusterState, SandboxError> {
        let now_ms = self.clock.unix_ms();
        let regions = self.regions.read();
        let leaders = |store: u64| {
            regions
                .iter()
                .filter(|region| region.leader == Some(store))
                .count() as u64
        };
        let mut stores = Vec::new();
        for store in self.stores.values() {
            stores.push(StoreState {
                id: store.id,
                alive: store.alive(),
                address: store.address(),
                import_files: store.import.files()?.len() as u64,
                import_mode: store.import_mode(),
                suspended: store.suspended_for().is_some(),
                force_partition_ranges: store.partitions(),
                leaders: leaders(store.id),
            });
        }
        let now = Instant::now();
        Ok(ClusterState {
            cluster_id: self.id,
            regions: regions.len(),
            pending_regions: regions
                .iter()
                .filter(|region| !region.pending_peers(now).is_empty())
                .count(),
            stores,
            panics: self.panics.lock().clone(),
            names_used_again: self.names.lock().used_again(),
            gc_barriers: self
                .pd
                .gc_state(now_ms)
                .1
                .into_iter()
                .map(|(id, ..)| id)
                .collect(),
            paused_schedulers: self.pd.paused(now_ms),
        })
    }
}

async fn list_faults(State(cluster): App) -> Json<Vec<Fault>> {
    Json(cluster.faults.list())
}

async fn add_fault(State(cluster): App, Json(fault): Json<Fault>) -> Json<Value> {
    Json(json!({"id": cluster.faults.add(fault)}))
}

async fn clear_faults(State(cluster): App) -> Json<Value> {
    cluster.faults.clear();
    Json(json!({}))
}

async fn remove_fault(State(cluster): App, Path(id): Path<u64>) -> Response {
    match cluster.faults.remove(id) {
        true => Json(json!({})).into_response(),
        false => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn panics(State(cluster): App) -> Json<Vec<SandboxPanic>> {
    Json(cluster.panics.lock().clone())
}

async fn state(State(cluster): App) -> Response {
    answer(move || cluster.state()).await
}

#[derive(Deserialize)]
struct RegionTarget {
    region: u64,
    store: Option<u64>,
}

async fn split(State(cluster): App, Json(target): Json<RegionTarget>) -> Response {
    answer(move || cluster.split_middle(target.region)).await
}

async fn merge(State(cluster): App, Json(target): Json<RegionTarget>) -> Response {
    answer(move || cluster.merge(target.region)).await
}

async fn change_peer(State(cluster): App, Json(target): Json<RegionTarget>) -> Response {
    answer(move || cluster.change_peer(target.region)).await
}

async fn transfer_leader(State(cluster): App, Json(target): Json<RegionTarget>) -> Response {
    answer(move || cluster.transfer_leader(target.region, target.store)).await
}

async fn add_learner(State(cluster): App, Json(target): Json<RegionTarget>) -> Response {
    answer(move || cluster.add_learner(target.region, target.store.unwrap_or(0))).await
}

async fn store_action(State(cluster): App, Path((id, action)): Path<(u64, String)>) -> Response {
    let Some(store) = cluster.store(id).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match action.as_str() {
        "stop" => {
            answer(move || {
                cluster.mark_dead(id);
                cluster.elect()
            })
            .await
        }
        "start" => answer(move || cluster.revive(&store)).await,
        "remove" => answer(move || cluster.remove_store(id)).await,
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

#[derive(Deserialize)]
struct MemberTarget {
    member: u32,
}

async fn pd_leader(State(cluster): App, Json(target): Json<MemberTarget>) -> Json<bool> {
    Json(cluster.pd.set_leader(target.member))
}

async fn sql_action(State(cluster): App, Path(action): Path<String>) -> Response {
    let open = match action.as_str() {
        "stop" => false,
        "start" => true,
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    match cluster.sql_port.get() {
        Some(port) => {
            port.set_open(open);
            Json(json!({})).into_response()
        }
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

#[derive(Deserialize)]
struct GcTarget {
    safe_point: u64,
    #[serde(default)]
    force: bool,
}

async fn gc(State(cluster): App, Json(target): Json<GcTarget>) -> Response {
    answer(move || {
        cluster
            .pd
            .advance_gc(target.safe_point, target.force, cluster.clock.unix_ms())
    })
    .await
}

/// Runs storage work off the I/O threads; its result is the body.
async fn answer<T: Serialize + Send + 'static>(
    work: impl FnOnce() -> Result<T, SandboxError> + Send + 'static,
) -> Response {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Json(value).into_response(),
        Ok(Err(error)) => failed(error),
        Err(error) => failed(error),
    }
}
