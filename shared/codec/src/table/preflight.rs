//! What a physical import must refuse before it writes anything.

use crate::collation::Collation;
use crate::mysql::state;
use crate::schema::{ColumnInfo, IndexInfo, TableInfo};
use crate::session::Session;

/// Reasons why rows of this table must not be encoded; empty when there are none. Expressions that are not
/// supported are found when the encoder is compiled.
pub fn refusals(info: &TableInfo, session: &Session) -> Vec<String> {
    let mut found = Vec::new();
    let mut refuse = |condition: bool, reason: &str| {
        if condition {
            found.push(reason.to_owned());
        }
    };
    refuse(
        info.state != state::PUBLIC,
        "the table is not public: a DDL job is running",
    );
    refuse(info.view.is_some(), "it is a view");
    refuse(info.sequence.is_some(), "it is a sequence");
    refuse(info.temp_table_type != 0, "it is a temporary table");
    refuse(info.cache_table_status != 0, "it is a cached table");
    refuse(info.mode != 0, "another import or restore holds the table");
    refuse(info.is_active_active, "it is an active-active table");
    refuse(info.softdelete_info.is_some(), "it has soft delete");
    refuse(
        info.exchange_partition_info.is_some(),
        "a partition exchange is running",
    );
    refuse(info.lock.is_some(), "the table is locked");
    refuse(
        !matches!(session.row_format, 1 | 2),
        "the row format version is neither 1 nor 2",
    );
    if let Some(partition) = info.partitioning() {
        let changing = partition.ddl_state != 0
            || partition
                .adding_definitions
                .as_ref()
                .is_some_and(|list| !list.is_empty())
            || partition
                .dropping_definitions
                .as_ref()
                .is_some_and(|list| !list.is_empty());
        refuse(changing, "its partitions are being changed");
    }
    info.columns()
        .iter()
        .for_each(|column| refuse_column(column, &mut found));
    info.indexes()
        .iter()
        .for_each(|index| refuse_index(info, index, session, &mut found));
    found
}

fn refuse_column(column: &ColumnInfo, found: &mut Vec<String>) {
    let name = &column.name.original;
    if column.state != state::PUBLIC {
        found.push(format!(
            "column `{name}` is not public: a DDL job is running"
        ));
    }
    if column.changing_type.is_some() || column.change_state_info.is_some() {
        found.push(format!("the type of column `{name}` is being changed"));
    }
}

fn refuse_index(info: &TableInfo, index: &IndexInfo, session: &Session, found: &mut Vec<String>) {
    let name = &index.idx_name.original;
    if index.state != state::PUBLIC || index.backfill_state != 0 {
        found.push(format!(
            "index `{name}` is not public: a DDL job is running"
        ));
    }
    if index.global_index_version != 0 {
        found.push(format!(
            "index `{name}` has a global index version this release does not know"
        ));
    }
    if index.columns().iter().any(|part| part.using_changing_type) {
        found.push(format!("a column of index `{name}` is being changed"));
    }
    for part in index.columns() {
        let Some(column) = info.columns().get(part.offset) else {
            found.push(format!("index `{name}` names a column that does not exist"));
            continue;
        };
        let weights = Collation::from_name(&column.field_type.collate);
        let unkeyed = weights
            .filter(|_| session.new_collation)
            .is_some_and(|c| c.require_keys("").is_err());
        if column.field_type.is_string() && unkeyed {
            let collation = &column.field_type.collate;
            found.push(format!(
                "index `{name}` needs the weights of collation {collation}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{FieldType, IndexColumn, Name, PartitionInfo};

    fn table() -> TableInfo {
        let column = ColumnInfo {
            name: Name::new("a"),
            state: state::PUBLIC,
            ..ColumnInfo::default()
        };
        TableInfo {
            state: state::PUBLIC,
            cols: Some(vec![column]),
            ..TableInfo::default()
        }
    }

    #[test]
    fn a_plain_table_is_not_refused() {
        assert_eq!(
            refusals(&table(), &Session::default()),
            Vec::<String>::new()
        );
    }

    #[test]
    fn every_unfit_state_is_named() {
        type Change = fn(&mut TableInfo);
        let changes: [Change; 8] = [
            |t| t.state = state::WRITE_ONLY,
            |t| t.mode = 1,
            |t| t.temp_table_type = 1,
            |t| t.cache_table_status = 1,
            |t| t.exchange_partition_info = Some(serde_json::json!({})),
            |t| {
                t.partition = Some(PartitionInfo {
                    enable: true,
                    ddl_state: 1,
                    ..PartitionInfo::default()
                })
            },
            |t| {
                t.cols
                    .iter_mut()
                    .flatten()
                    .for_each(|c| c.state = state::WRITE_ONLY)
            },
            |t| {
                let field_type = FieldType {
                    tp: 15,
                    collate: "gb18030_chinese_ci".to_owned(),
                    ..FieldType::default()
                };
                t.cols
                    .iter_mut()
                    .flatten()
                    .for_each(|c| c.field_type = field_type.clone());
                let part = IndexColumn {
                    length: -1,
                    ..IndexColumn::default()
                };
                let index = IndexInfo {
                    state: state::PUBLIC,
                    idx_cols: Some(vec![part]),
                    ..IndexInfo::default()
                };
                t.index_info = Some(vec![index]);
            },
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut info = table();
            change(&mut info);
            assert_eq!(refusals(&info, &Session::default()).len(), 1, "change {i}");
        }
    }
}
