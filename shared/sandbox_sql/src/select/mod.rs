//! SELECT: translated to SQLite's dialect with known types, run by an embedded SQLite over virtual tables
//! that decode the cluster's records, printed as MySQL prints.

mod aggregates;
mod calls;
mod convert;
mod date_functions;
mod dates;
mod decimal;
mod exprs;
mod functions;
mod run;
mod scope;
mod translate;
mod types;
mod vtab;

pub use functions::like;
pub use run::{Sqlite, describe, evaluate, for_each_row, run_query};
pub use scope::ScopeColumn;
pub use translate::OutColumn;
pub use types::{Kind, Ty, column_meta};
pub use vtab::KEY_COLUMN;
