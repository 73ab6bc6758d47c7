//! PD's HTTP API, the part that importers use, and the status port of each store. Paths and shapes are
//! the servers'; settings that nothing reads are stored and given back.

use crate::cluster::Cluster;
use crate::pd_member::disk_space;
use crate::pd_state::SCHEDULERS;
use crate::store::Store;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

type App = State<Arc<Cluster>>;

/// PD's paths.
pub(crate) fn pd_router(cluster: Arc<Cluster>) -> Router {
    Router::new()
        .route("/pd/api/v1/version", get(version))
        .route("/pd/api/v1/config/cluster-version", get(cluster_version))
        .route("/pd/api/v1/config/replicate", get(replicate))
        .route(
            "/pd/api/v1/config/schedule",
            get(schedule).post(set_schedule),
        )
        .route("/pd/api/v1/config", get(config).post(set_schedule))
        .route("/pd/api/v1/schedulers", get(schedulers))
        .route("/pd/api/v1/schedulers/{name}", post(pause_scheduler))
        .route("/pd/api/v1/config/region-label/rule", post(set_rule))
        .route(
            "/pd/api/v1/config/region-label/rules",
            get(rules).patch(patch_rules),
        )
        .route(
            "/pd/api/v1/config/region-label/rule/{id}",
            get(rule).delete(delete_rule),
        )
        .route("/pd/api/v1/stores", get(stores))
        .route("/pd/api/v1/store/{id}", get(store))
        .route("/pd/api/v1/stats/region", get(region_stats))
        .route("/pd/api/v1/health", get(health))
        .with_state(cluster)
}

/// An internal failure as PD shows one.
pub(crate) fn failed(error: impl std::fmt::Display) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, Json(error.to_string())).into_response()
}

fn bad_request(text: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(text)).into_response()
}

async fn version(State(cluster): App) -> Json<Value> {
    let version = format!("v{}", cluster.config.profile.version());
    Json(json!({"branch": "sandbox", "version": version, "build_ts": "", "git_hash": ""}))
}

async fn cluster_version(State(cluster): App) -> Json<&'static str> {
    Json(cluster.config.profile.version())
}

fn replicate_value(cluster: &Cluster) -> Value {
    json!({"max-replicas": cluster.replicas, "location-labels": "", "strictly-match-label": "false",
           "enable-placement-rules": "true", "isolation-level": ""})
}

async fn replicate(State(cluster): App) -> Json<Value> {
    Json(replicate_value(&cluster))
}

async fn schedule(State(cluster): App) -> Json<Map<String, Value>> {
    Json(cluster.pd.schedule(cluster.clock.unix_ms()))
}

async fn config(State(cluster): App) -> Json<Value> {
    let schedule = cluster.pd.schedule(cluster.clock.unix_ms());
    Json(
        json!({"schedule": schedule, "replication": replicate_value(&cluster),
                "cluster-version": cluster.config.profile.version()}),
    )
}

#[derive(Deserialize)]
struct Ttl {
    #[serde(rename = "ttlSecond")]
    seconds: Option<u64>,
}

async fn set_schedule(
    State(cluster): App,
    Query(ttl): Query<Ttl>,
    Json(values): Json<Map<String, Value>>,
) -> Json<&'static str> {
    cluster
        .pd
        .set_schedule(values, ttl.seconds, cluster.clock.unix_ms());
    Json("The config is updated.")
}

async fn schedulers(
    State(cluster): App,
    Query(query): Query<Map<String, Value>>,
) -> Json<Vec<String>> {
    let paused = cluster.pd.paused(cluster.clock.unix_ms());
    match query.get("status").and_then(Value::as_str) {
        Some("paused") => Json(paused),
        _ => Json(SCHEDULERS.map(str::to_owned).to_vec()),
    }
}

#[derive(Deserialize)]
struct Delay {
    delay: u64,
}

async fn pause_scheduler(
    State(cluster): App,
    Path(name): Path<String>,
    Json(delay): Json<Delay>,
) -> Response {
    if name != "all" && !SCHEDULERS.contains(&name.as_str()) {
        return (
            StatusCode::NOT_FOUND,
            Json("[PD:scheduler:ErrSchedulerNotFound]scheduler not found"),
        )
            .into_response();
    }
    match cluster
        .pd
        .pause(&name, delay.delay, cluster.clock.unix_ms())
    {
        Ok(()) => Json("Pause or resume the scheduler successfully.").into_response(),
        Err(error) => failed(error),
    }
}

async fn set_rule(State(cluster): App, Json(rule): Json<Value>) -> Response {
    match cluster.pd.set_rule(rule, cluster.clock.unix_ms()) {
        Ok(Ok(())) => Json("Update region label rule successfully.").into_response(),
        Ok(Err(text)) => bad_request(&text),
        Err(error) => failed(error),
    }
}

async fn rules(State(cluster): App) -> Json<Vec<Value>> {
    Json(cluster.pd.rules(cluster.clock.unix_ms()))
}

async fn rule(State(cluster): App, Path(id): Path<String>) -> Response {
    match cluster
        .pd
        .rules(cluster.clock.unix_ms())
        .into_iter()
        .find(|rule| rule["id"] == id.as_str())
    {
        Some(rule) => Json(rule).into_response(),
        None => (
            StatusCode::NOT_FOUND,
            Json("[PD:region:ErrRegionRuleNotFound]region label rule not found"),
        )
            .into_response(),
    }
}

async fn delete_rule(State(cluster): App, Path(id): Path<String>) -> Response {
    match cluster.pd.delete_rule(&id) {
        Ok(true) => Json("Delete region label rule successfully.").into_response(),
        Ok(false) => (StatusCode::NOT_FOUND, Json("region label rule not found")).into_response(),
        Err(error) => failed(error),
    }
}

#[derive(Deserialize)]
struct Patch {
    #[serde(default)]
    sets: Vec<Value>,
    #[serde(default)]
    deletes: Vec<String>,
}

async fn patch_rules(State(cluster): App, Json(patch): Json<Patch>) -> Response {
    for id in &patch.deletes {
        if let Err(error) = cluster.pd.delete_rule(id) {
            return failed(error);
        }
    }
    for rule in patch.sets {
        match cluster.pd.set_rule(rule, cluster.clock.unix_ms()) {
            Ok(Ok(())) => {}
            Ok(Err(text)) => return bad_request(&text),
            Err(error) => return failed(error),
        }
    }
    Json("Update region label rules successfully.").into_response()
}

fn store_json(cluster: &Cluster, store: &Store) -> Value {
    let info = cluster.store_info(store);
    let regions = cluster.regions.read();
    let (mut peers, mut leaders) = (0, 0);
    for region in regions.iter() {
        peers += u64::from(region.peer_on(store.id).is_some());
        leaders += u64::from(region.leader == Some(store.id));
    }
    let (capacity, available) = disk_space();
    json!({
        "store": {
            "id": info.id, "address": info.address, "status_address": info.status_address, "version": info.version,
            "state_name": if store.alive() { "Up" } else { "Down" }, "labels": [],
        },
        "status": {
            "capacity": format!("{}GiB", capacity >> 30), "available": format!("{}GiB", available >> 30),
            "used_size": "0B", "leader_count": leaders, "region_count": peers,
        },
    })
}

async fn stores(State(cluster): App) -> Json<Value> {
    let stores: Vec<_> = cluster
        .stores
        .values()
        .map(|store| store_json(&cluster, store))
        .collect();
    Json(json!({"count": stores.len(), "stores": stores}))
}

async fn store(State(cluster): App, Path(id): Path<u64>) -> Response {
    match cluster.store(id) {
        Some(store) => Json(store_json(&cluster, store)).into_response(),
        None => (StatusCode::NOT_FOUND, Json(format!("store {id} not found"))).into_response(),
    }
}

async fn region_stats(State(cluster): App) -> Json<Value> {
    Json(json!({"count": cluster.regions.read().len()}))
}

async fn health(State(cluster): App) -> Json<Value> {
    let leader = cluster.pd.leader();
    Json(json!([{"name": format!("pd-{leader}"), "member_id": leader + 1, "health": true}]))
}

/// The status port of a store.
pub(crate) fn status_router(cluster: Arc<Cluster>, store: Arc<Store>) -> Router {
    let config = json!({
        "coprocessor": {
            "region-split-size": size_text(cluster.config.region_split_bytes()),
            "region-max-size": size_text(cluster.config.region_split_bytes() / 2 * 3),
            "region-split-keys": cluster.config.profile.region_split_keys(),
            "region-max-keys": cluster.config.profile.region_split_keys() / 2 * 3,
        },
        "storage": {"api-version": 1, "engine": "raft-kv", "flow-control": {"l0-files-threshold": 20}},
        "import": {"num-threads": 8, "stream-channel-window": 128},
        "raft-store": {"raft-entry-max-size": "8MiB"},
    });
    let status = json!({"store_id": store.id, "version": cluster.config.profile.version()});
    Router::new()
        .route("/config", get(|| async move { Json(config) }))
        .route("/status", get(|| async move { Json(status) }))
}

/// Bytes as TiKV prints sizes.
fn size_text(bytes: u64) -> String {
    match bytes {
        b if b % (1 << 20) == 0 => format!("{}MiB", b >> 20),
        b if b % (1 << 10) == 0 => format!("{}KiB", b >> 10),
        b => format!("{b}B"),
    }
}
