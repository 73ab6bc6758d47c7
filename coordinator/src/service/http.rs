//! The leader over HTTP, as JSON: what the command line and dashboards use. Everything is below `/v1`.
//!
//! An error is `{"error": {kind, place, cause, advice, exit_code}}`. A coordinator that does not lead answers
//! 421 with `{"leader": ADDRESS}`.

use super::jobs::Submission;
use super::{Shared, Term};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use thunderhead_types::{Error, ErrorKind};

type Answer = Result<Json<Value>, Refusal>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/leader", get(leader))
        .route("/v1/jobs", get(jobs).post(submit))
        .route("/v1/jobs/{job}", get(job))
        .route("/v1/jobs/{job}/pause", post(pause))
        .route("/v1/jobs/{job}/resume", post(resume))
        .route("/v1/jobs/{job}/cancel", post(cancel))
        .route("/v1/jobs/{job}/limit", post(limit))
        .route("/v1/agents", get(agents))
        .route("/v1/agents/{agent}/drain", post(drain))
        .with_state(shared)
}

enum Refusal {
    Elsewhere(String),
    Error(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Elsewhere(leader) => (
                StatusCode::MISDIRECTED_REQUEST,
                Json(json!({"leader": leader})),
            )
                .into_response(),
            Self::Error(error) => {
                let status = match error.kind {
                    ErrorKind::Internal | ErrorKind::Cluster => StatusCode::SERVICE_UNAVAILABLE,
                    ErrorKind::Config
                        if error.place.starts_with("job ") || error.place.starts_with("agent ") =>
                    {
                        StatusCode::NOT_FOUND
                    }
                    _ => StatusCode::CONFLICT,
                };
                (
                    status,
                    Json(json!({"error": {
                        "kind": error.kind.name(), "place": error.place, "cause": error.cause,
                        "advice": error.advice, "exit_code": error.kind.exit_code(),
                    }})),
                )
                    .into_response()
            }
        }
    }
}

async fn term(shared: &Shared) -> Result<Arc<Term>, Refusal> {
    match shared.term() {
        Some(term) => Ok(term),
        None => Err(Refusal::Elsewhere(shared.leader_address().await)),
    }
}

async fn leader(State(shared): State<Arc<Shared>>) -> Answer {
    let term = term(&shared).await?;
    Ok(Json(json!({"leads": true, "epoch": term.fleet.epoch()})))
}

async fn submit(State(shared): State<Arc<Shared>>, Json(submission): Json<Submission>) -> Answer {
    let term = term(&shared).await?;
    let submitted = term.jobs.submit(submission).await?;
    Ok(Json(json!(submitted)))
}

async fn jobs(State(shared): State<Arc<Shared>>) -> Answer {
    let term = term(&shared).await?;
    Ok(Json(json!({"jobs": term.jobs.list().await?})))
}

async fn job(State(shared): State<Arc<Shared>>, Path(job): Path<String>) -> Answer {
    let term = term(&shared).await?;
    let mut view = term.jobs.view(&job).await?;
    let status = term.fleet.status().borrow().clone();
    let progress = status.jobs.iter().find(|j| j.job == view.job);
    if progress.is_some() {
        view.waiting_for.clear();
    }
    Ok(Json(json!({
        "job": view, "progress": progress, "agents": status.agents, "epoch": status.epoch,
    })))
}

async fn pause(State(shared): State<Arc<Shared>>, Path(job): Path<String>) -> Answer {
    term(&shared).await?.jobs.pause(&job, true).await?;
    Ok(Json(json!({})))
}

async fn resume(State(shared): State<Arc<Shared>>, Path(job): Path<String>) -> Answer {
    term(&shared).await?.jobs.pause(&job, false).await?;
    Ok(Json(json!({})))
}

async fn cancel(State(shared): State<Arc<Shared>>, Path(job): Path<String>) -> Answer {
    term(&shared).await?.jobs.cancel(&job).await?;
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
struct LimitBody {
    store_bytes_per_second: u64,
}

async fn limit(
    State(shared): State<Arc<Shared>>,
    Path(job): Path<String>,
    Json(body): Json<LimitBody>,
) -> Answer {
    let term = term(&shared).await?;
    term.jobs.limit(&job, body.store_bytes_per_second).await?;
    Ok(Json(json!({})))
}

async fn agents(State(shared): State<Arc<Shared>>) -> Answer {
    let term = term(&shared).await?;
    let status = term.fleet.status().borrow().clone();
    Ok(Json(json!({"agents": status.agents})))
}

async fn drain(State(shared): State<Arc<Shared>>, Path(agent): Path<String>) -> Answer {
    let term = term(&shared).await?;
    if term.fleet.drain(&agent).await? {
        return Ok(Json(json!({})));
    }
    Err(
        Error::new(ErrorKind::Config, format!("agent {agent}"), "no such agent")
            .advice("`thunderhead agents` lists them")
            .into(),
    )
}
