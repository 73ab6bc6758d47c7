//! Generated columns, partial and multi-valued indexes, CHECKs and default expressions.

use super::*;
use crate::schema::ConstraintInfo;
use crate::session::SqlMode;

impl Table {
    fn column(mut self, offset: usize, change: impl FnOnce(&mut ColumnInfo)) -> Table {
        change(&mut self.0.cols.as_mut().unwrap()[offset]);
        self
    }

    fn generated(self, offset: usize, text: &str, stored: bool) -> Table {
        self.column(offset, |column| {
            column.generated_expr_string = text.to_owned();
            column.generated_stored = stored;
        })
    }

    fn rejected(&self, session: &Session, columns: Option<&[String]>, fields: &[Field<'_>]) -> u16 {
        let mut encoder = TableEncoder::compile(&self.0, session, columns).unwrap();
        encoder
            .encode_row(fields, 1, &mut |_: Slot, _: &[u8], _: &[u8]| {})
            .unwrap_err()
            .code
    }
}

fn json() -> FieldType {
    FieldType {
        tp: tp::JSON,
        flen: -1,
        ..int()
    }
}

#[test]
fn a_partial_index_has_only_rows_for_which_its_condition_is_true() {
    let table = Table::new(&[int(), int()])
        .int_key()
        .index(&[(1, W)], |index| {
            index.condition_expr_string = "`c2` > 5".to_owned()
        });
    assert_eq!(table.encode(&[Some("1"), Some("6")]).len(), 2);
    assert_eq!(table.encode(&[Some("1"), Some("3")]).len(), 1);
    assert_eq!(table.encode(&[Some("1"), None]).len(), 1);
}

#[test]
fn an_expression_index_restores_the_hidden_column_and_the_row_does_not_hold_it() {
    let table = Table::new(&[int(), varchar(), int(), text(tp::VAR_STRING, "utf8mb4_bin")])
        .int_key()
        .generated(3, "lower(`c2`)", false)
        .column(3, |column| column.hidden = true)
        .key(&[(3, W)]);
    let pairs = table.encode(&[Some("1"), Some("AB "), Some("5"), None]);
    assert_eq!(
        pairs[0],
        "8000000000000001 → 80000200000002030300040041422005"
    );
    assert_eq!(
        pairs[1],
        "016162000000000000f9038000000000000001 → 00800001000000040300616220"
    );
}

#[test]
fn a_multi_valued_index_has_one_entry_for_each_distinct_element() {
    let array = FieldType {
        array: true,
        ..text(tp::VARCHAR, "binary")
    };
    let table = Table::new(&[int(), json(), array])
        .int_key()
        .generated(2, "cast(`c2` as char(10) array)", false)
        .index(&[(2, W)], |index| index.mv_index = true);
    let entries = |document: Option<&str>| table.encode(&[Some("1"), document, None]).split_off(1);
    let suffix = "038000000000000001 → 30";
    assert_eq!(
        entries(Some("[\"a \",\"b\",\"a \"]")),
        [
            format!("016120000000000000f9{suffix}"),
            format!("016200000000000000f8{suffix}")
        ]
    );
    assert_eq!(entries(Some("[]")), [""; 0]);
    assert_eq!(entries(None), [format!("00{suffix}")]);
    assert_eq!(
        entries(Some("\"b\"")),
        [format!("016200000000000000f8{suffix}")]
    );
}

#[test]
fn the_element_stands_for_the_array_in_restored_values() {
    let array = FieldType {
        array: true,
        flag: flag::UNSIGNED,
        ..big()
    };
    let table = Table::new(&[int(), json(), varchar(), int(), int(), array])
        .int_key()
        .generated(5, "cast(`c2` as unsigned array)", false)
        .index(&[(5, W), (2, W)], |index| index.mv_index = true);
    let pairs = table.encode(&[Some("1"), Some("[5]"), Some("ab ")]);
    assert!(
        pairs[1].ends_with(" → 0080000200000003060300040061622005"),
        "{}",
        pairs[1]
    );
}

#[test]
fn generated_columns_use_earlier_ones_and_keep_their_null_policy() {
    let not_null = FieldType {
        flag: flag::NOT_NULL,
        ..int()
    };
    let table = Table::new(&[int(), int(), int(), not_null])
        .int_key()
        .generated(2, "`c2` + 1", false)
        .generated(3, "`c3` * 2", true);
    assert_eq!(
        table.encode(&[Some("1"), Some("4"), None, None])[0],
        "8000000000000001 → 800002000000020401000200040a"
    );
    let null = [Field::Int(1), Field::Null];
    assert_eq!(table.rejected(&Session::default(), None, &null), 1048);
    let lenient = Session {
        sql_mode: SqlMode::parse(""),
        ..Session::default()
    };
    let row = &table.encode_with(&lenient, &[Some("1"), None, None, None])[0];
    assert_eq!(row, "8000000000000001 → 80000100000004010000");
}

#[test]
fn a_check_rejects_only_what_is_false_and_only_when_it_is_enforced() {
    let mut table = Table::new(&[int(), int()]).int_key();
    let check = ConstraintInfo {
        constraint_name: Name::new("positive"),
        enforced: true,
        expr_string: "`c2` > 0".to_owned(),
        state: state::PUBLIC,
        ..ConstraintInfo::default()
    };
    table.0.constraint_info = Some(vec![check]);
    let checking = Session {
        check_constraints: true,
        ..Session::default()
    };
    assert_eq!(
        table.rejected(&checking, None, &[Field::Int(1), Field::Int(-1)]),
        3819
    );
    assert_eq!(table.encode_with(&checking, &[Some("1"), None]).len(), 1);
    assert_eq!(table.encode(&[Some("1"), Some("-1")]).len(), 1);
}

#[test]
fn a_default_expression_is_evaluated_and_an_unknown_one_refused() {
    let with_default = |text: &str| {
        Table::new(&[int(), varchar()])
            .int_key()
            .column(1, |column| {
                column.default_is_expr = true;
                column.default = Some(text.into());
            })
    };
    let only_key = ["c1".to_owned()];
    let mut encoder = TableEncoder::compile(
        &with_default("upper(_utf8mb4'ab')").0,
        &Session::default(),
        Some(&only_key),
    )
    .unwrap();
    let mut value = Vec::new();
    encoder
        .encode_row(&[Field::Int(1)], 1, &mut |_: Slot, _: &[u8], v: &[u8]| {
            value = v.to_vec()
        })
        .unwrap();
    assert!(value.ends_with(b"AB"));
    let refused = TableEncoder::compile(
        &with_default("nextval(`d`.`s`)").0,
        &Session::default(),
        Some(&only_key),
    );
    assert!(refused.unwrap_err().to_string().contains("nextval"));
    // A source that has the column does not need the default.
    assert_eq!(
        with_default("nextval(`d`.`s`)")
            .encode(&[Some("1"), Some("x")])
            .len(),
        1
    );
}

#[test]
fn an_unsupported_expression_is_refused_only_where_something_needs_it() {
    let table = Table::new(&[int(), varchar(), varchar()])
        .int_key()
        .generated(2, "no_such_function(`c2`)", false);
    assert!(TableEncoder::compile(&table.0, &Session::default(), None).is_ok());
    let error =
        TableEncoder::compile(&table.key(&[(2, W)]).0, &Session::default(), None).unwrap_err();
    assert!(error.to_string().contains("no_such_function"), "{error}");
}
