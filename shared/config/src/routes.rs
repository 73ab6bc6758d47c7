//! `[[routes]]`: giving source tables other names in the target. A rule for tables beats a rule for whole
//! databases; two rules of the same rank that match one table are an error, never a silent choice.

use regex::Regex;

use crate::filter;

/// The checked rules.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    rules: Vec<Route>,
}

/// One rule.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    schema: Regex,
    /// `None`: a rule for whole databases.
    table: Option<Regex>,
    target_schema: String,
    /// Empty: the name stays.
    target_table: String,
    extracts: Vec<Extract>,
}

/// The name a column is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Table,
    Schema,
    Source,
}

/// A column that is made of a name.
#[derive(Clone, Debug)]
struct Extract {
    origin: Origin,
    regex: Regex,
    column: String,
}

/// Two rules claim the same table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("routes {first} and {second} both match {database}.{table}")]
pub struct AmbiguousRoute {
    /// 1-based position of a rule.
    pub first: usize,
    /// 1-based position of another.
    pub second: usize,
    /// Source database.
    pub database: String,
    /// Source table.
    pub table: String,
}

impl Route {
    /// Reads one rule; the error names the key and the reason.
    pub fn parse(
        schema_pattern: &str,
        table_pattern: &str,
        target_schema: &str,
        target_table: &str,
        case_sensitive: bool,
    ) -> Result<Self, (&'static str, String)> {
        let name = |key, pattern: &str| match pattern.strip_prefix('~') {
            Some(regex) => filter::compile(&format!(".*(?:{regex}).*"), case_sensitive)
                .map_err(|e| (key, filter::short(&e))),
            None => filter::wildcard_regex(pattern, case_sensitive).map_err(|e| (key, e)),
        };
        if target_schema.is_empty() {
            return Err(("target-schema", "it must be given".into()));
        }
        if table_pattern.is_empty() && !target_table.is_empty() {
            return Err(("target-table", "it needs a table-pattern".into()));
        }
        let table = match table_pattern {
            "" => None,
            pattern => Some(name("table-pattern", pattern)?),
        };
        Ok(Self {
            schema: name("schema-pattern", schema_pattern)?,
            table,
            target_schema: target_schema.to_owned(),
            target_table: target_table.to_owned(),
            extracts: Vec::new(),
        })
    }

    /// Adds a column that is made of a name; the error names the key and the reason.
    pub fn extract(
        &mut self,
        origin: Origin,
        regexp: &str,
        column: &str,
    ) -> Result<(), (&'static str, String)> {
        let (regexp_key, column_key) = match origin {
            Origin::Table => ("extract-table.table-regexp", "extract-table.target-column"),
            Origin::Schema => (
                "extract-schema.schema-regexp",
                "extract-schema.target-column",
            ),
            Origin::Source => (
                "extract-source.source-regexp",
                "extract-source.target-column",
            ),
        };
        if regexp.is_empty() && column.is_empty() {
            return Ok(());
        }
        if column.is_empty() {
            return Err((column_key, "it must be given".into()));
        }
        if regexp.is_empty() {
            return Err((regexp_key, "it must be given".into()));
        }
        let regex = Regex::new(regexp).map_err(|e| (regexp_key, filter::short(&e)))?;
        if regex.captures_len() < 2 {
            return Err((regexp_key, "it has no group in parentheses".into()));
        }
        let column = column.to_lowercase();
        if self.extracts.iter().any(|other| other.column == column) {
            return Err((column_key, format!("column {column} is filled twice")));
        }
        self.extracts.push(Extract {
            origin,
            regex,
            column,
        });
        Ok(())
    }
}

impl Routes {
    pub(crate) fn new(rules: Vec<Route>) -> Self {
        Self { rules }
    }

    /// Target names of a source table.
    pub fn table(&self, database: &str, table: &str) -> Result<(String, String), AmbiguousRoute> {
        Ok(match self.rule(database, table)? {
            None => (database.to_owned(), table.to_owned()),
            Some(rule) => {
                let name = if rule.target_table.is_empty() {
                    table
                } else {
                    &rule.target_table
                };
                (rule.target_schema.clone(), name.to_owned())
            }
        })
    }

    /// Columns of a source table that are made of its names, with their text; empty where the names do not
    /// match.
    pub fn constants(&self, source: &str, database: &str, table: &str) -> Vec<(String, String)> {
        let Ok(Some(rule)) = self.rule(database, table) else {
            return Vec::new();
        };
        let fill = |extract: &Extract| {
            let name = match extract.origin {
                Origin::Table => table,
                Origin::Schema => database,
                Origin::Source => source,
            };
            let groups = extract.regex.captures(name);
            let text = groups.map(|groups| {
                let texts = groups.iter().skip(1).flatten();
                texts.map(|group| group.as_str()).collect::<String>()
            });
            (extract.column.clone(), text.unwrap_or_default())
        };
        rule.extracts.iter().map(fill).collect()
    }

    /// The rule of a source table.
    fn rule(&self, database: &str, table: &str) -> Result<Option<&Route>, AmbiguousRoute> {
        for tables_only in [true, false] {
            let matches = |rule: &Route| {
                rule.schema.is_match(database)
                    && rule.table.is_some() == tables_only
                    && rule
                        .table
                        .as_ref()
                        .is_none_or(|regex| regex.is_match(table))
            };
            if let Some(rule) = self.the_only(matches, database, table)? {
                return Ok(Some(rule));
            }
        }
        Ok(None)
    }

    /// Target name of a source database, for its schema file.
    pub fn database(&self, database: &str) -> Result<String, AmbiguousRoute> {
        let matches = |rule: &Route| rule.schema.is_match(database) && rule.table.is_none();
        let rule = self.the_only(matches, database, "*")?;
        Ok(rule.map_or(database, |rule| &rule.target_schema).to_owned())
    }

    fn the_only(
        &self,
        matches: impl Fn(&Route) -> bool,
        database: &str,
        table: &str,
    ) -> Result<Option<&Route>, AmbiguousRoute> {
        let mut found = self
            .rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| matches(rule));
        let Some((first, rule)) = found.next() else {
            return Ok(None);
        };
        match found.next() {
            None => Ok(Some(rule)),
            Some((second, _)) => Err(AmbiguousRoute {
                first: first + 1,
                second: second + 1,
                database: database.to_owned(),
                table: table.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn routes(rules: &[[&str; 4]]) -> Routes {
        let parse = |[a, b, c, d]: &[&str; 4]| Route::parse(a, b, c, d, false).unwrap();
        Routes::new(rules.iter().map(parse).collect())
    }

    #[test]
    fn a_rule_for_tables_beats_a_rule_for_the_database() {
        let routes = routes(&[
            ["shard_*", "", "all", ""],
            ["shard_*", "user_?", "people", "users"],
        ]);
        let table = |d, t| routes.table(d, t).unwrap();
        assert_eq!(
            table("shard_1", "user_7"),
            ("people".into(), "users".into())
        );
        assert_eq!(table("shard_1", "orders"), ("all".into(), "orders".into()));
        assert_eq!(table("other", "orders"), ("other".into(), "orders".into()));
        assert_eq!(routes.database("Shard_2").unwrap(), "all");
    }

    #[test]
    fn two_rules_of_the_same_rank_are_an_error() {
        let routes = routes(&[["a*", "t", "x", ""], ["~^a", "t", "y", ""]]);
        let error = routes.table("ab", "t").unwrap_err();
        assert_eq!(error.to_string(), "routes 1 and 2 both match ab.t");
    }

    #[test]
    fn columns_are_made_of_names() {
        let mut rule = Route::parse("db_*", "t_*", "all", "t", false).unwrap();
        rule.extract(Origin::Table, r"t_(\d+)_(\w+)", "Shard")
            .unwrap();
        rule.extract(Origin::Schema, r"db_(.*)", "c_schema")
            .unwrap();
        rule.extract(Origin::Source, r"x(.)", "c_source").unwrap();
        let error = rule.extract(Origin::Source, "(y)", "SHARD").unwrap_err();
        assert_eq!(error.0, "extract-source.target-column");
        assert_eq!(
            rule.extract(Origin::Table, "y", "z").unwrap_err().0,
            "extract-table.table-regexp"
        );
        let routes = Routes::new(vec![rule]);
        let text = |s: &str| s.to_owned();
        assert_eq!(
            routes.constants("source", "db_7", "t_12_ab"),
            [
                (text("shard"), text("12ab")),
                (text("c_schema"), text("7")),
                (text("c_source"), text(""))
            ]
        );
        assert_eq!(routes.constants("", "other", "t_1"), []);
    }

    #[test]
    fn wrong_rules_name_their_key() {
        let key = |a, b, c, d| Route::parse(a, b, c, d, false).unwrap_err().0;
        assert_eq!(key("", "", "x", ""), "schema-pattern");
        assert_eq!(key("~(", "", "x", ""), "schema-pattern");
        assert_eq!(key("a", "[", "x", ""), "table-pattern");
        assert_eq!(key("a", "", "", ""), "target-schema");
        assert_eq!(key("a", "", "x", "y"), "target-table");
    }
}
