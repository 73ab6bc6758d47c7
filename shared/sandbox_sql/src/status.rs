//! The status port: liveness and table models as JSON, under TiDB's paths.

use crate::catalog::{Catalog, DbInfo, Table};
use crate::error::SqlError;
use crate::protocol::VERSION;
use crate::session::Shared;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use thunderhead_codec::schema::TableInfo;

type App = State<Arc<Shared>>;

pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/schema", get(schema))
        .route("/schema/{db}", get(tables))
        .route("/schema/{db}/{table}", get(table))
        .route("/db-table/{id}", get(db_table))
        .with_state(shared)
}

/// JSON as TiDB indents it, or the error's text with 400.
fn answer(result: Result<impl Serialize, SqlError>) -> Response {
    let body = result
        .map_err(|e| e.message)
        .and_then(|value| serde_json::to_vec_pretty(&value).map_err(|e| e.to_string()));
    match body {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(text) => (StatusCode::BAD_REQUEST, text).into_response(),
    }
}

/// Runs catalog reads, which block, on a thread that may.
async fn blocking<T: Serialize + Send + 'static>(
    shared: Arc<Shared>,
    read: impl FnOnce(Catalog<'_>) -> Result<T, SqlError> + Send + 'static,
) -> Response {
    let work = tokio::task::spawn_blocking(move || read(Catalog::new(shared.engine.as_ref())));
    match work.await {
        Ok(result) => answer(result),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn status(State(shared): App) -> Response {
    answer(Ok(json!({
        "connections": shared.connections().len(),
        "version": VERSION,
        "git_hash": "0000000000000000000000000000000000000000",
        "status": { "init_stats_percentage": 100 },
    })))
}

#[derive(Deserialize)]
struct SchemaQuery {
    table_id: Option<i64>,
}

async fn schema(State(shared): App, Query(query): Query<SchemaQuery>) -> Response {
    match query.table_id {
        Some(id) => blocking(shared, move |catalog| by_id(catalog, id).map(|t| t.info)).await,
        None => blocking(shared, |catalog| catalog.databases()).await,
    }
}

fn by_id(catalog: Catalog<'_>, id: i64) -> Result<Table, SqlError> {
    catalog.table_by_id(id)?.ok_or_else(|| {
        SqlError::new(
            1146,
            format!("[schema:1146]Table which ID = {id} does not exist."),
        )
    })
}

#[derive(Deserialize)]
struct TablesQuery {
    #[serde(default)]
    id_name_only: bool,
}

async fn tables(
    State(shared): App,
    Path(db): Path<String>,
    Query(query): Query<TablesQuery>,
) -> Response {
    if query.id_name_only {
        return blocking(shared, move |catalog| {
            let tables = catalog.tables(&catalog.database(&db)?)?;
            Ok(tables
                .into_iter()
                .map(|t| json!({ "id": t.id, "name": t.name }))
                .collect::<Vec<_>>())
        })
        .await;
    }
    blocking(shared, move |catalog| {
        catalog.tables(&catalog.database(&db)?)
    })
    .await
}

async fn table(State(shared): App, Path((db, table)): Path<(String, String)>) -> Response {
    blocking(shared, move |catalog| {
        catalog.table(&db, &table).map(|t| t.info)
    })
    .await
}

#[derive(Serialize)]
struct DbTable {
    db_info: DbInfo,
    table_info: TableInfo,
    schema_version: u64,
}

async fn db_table(State(shared): App, Path(id): Path<i64>) -> Response {
    blocking(shared, move |catalog| {
        by_id(catalog, id).map(|t| DbTable {
            db_info: t.db,
            table_info: t.info,
            schema_version: 1,
        })
    })
    .await
}
