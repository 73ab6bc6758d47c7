//! The model against the golden table_info texts.
#![allow(clippy::unwrap_used)]

use super::*;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Case {
    name: String,
    table_info: Box<RawValue>,
}

#[test]
fn every_golden_table_info_is_written_back_byte_for_byte() {
    let mut seen = 0;
    for text in crate::golden_case_files() {
        for line in text.lines() {
            let case: Case = serde_json::from_str(line).unwrap();
            let info: TableInfo = serde_json::from_str(case.table_info.get()).unwrap();
            assert_eq!(
                serde_json::to_string(&info).unwrap(),
                case.table_info.get(),
                "{}",
                case.name
            );
            seen += 1;
        }
    }
    assert!(seen >= 291);
}
