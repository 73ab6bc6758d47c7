//! What of a submission is never recorded: the password of TiDB and the credentials in the URI of the source, which
//! may stand in a statement. They live in the memory of the leader that was given them. The next leader has its own, from `--tidb-password-file`, its
//! environment or its machine's role; or it gets them with the same submission again.

use super::jobs::Submission;
use thunderhead_config::uri::is_store;
use thunderhead_types::{Error, ErrorKind, Result};
use toml::Table;

const PASSWORD: &str = "tidb.password";
const SOURCE: &str = "mydumper.data-source-dir";
const STATEMENT: &str = "thunderhead.statement";
/// Not used, but often full of passwords.
const CHECKPOINT: &str = "checkpoint.dsn";

/// Options of an object store that are no secrets. Whatever is not here is one.
const NO_SECRETS: [&str; 16] = [
    "endpoint",
    "region",
    "force-path-style",
    "use-accelerate-endpoint",
    "provider",
    "skip-signature",
    "role-arn",
    "account-name",
    "credentials-file",
    "acl",
    "sse",
    "sse-kms-key-id",
    "storage-class",
    "predefined-acl",
    "access-tier",
    "encryption-scope",
];

/// See the module.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Secrets {
    password: Option<String>,
    /// The whole URI, when it holds some.
    source: Option<String>,
    /// The whole statement, when its URI holds some.
    statement: Option<String>,
}

impl Secrets {
    /// Sets them apart: what is left of the submission may be recorded.
    pub(super) fn set_apart(submission: Submission) -> Result<(Submission, Self)> {
        let Submission {
            config,
            mut overrides,
        } = submission;
        let mut table: Table = config
            .parse()
            .map_err(|e| Error::new(ErrorKind::Config, "configuration", e))?;
        let mut take = |key: &str| {
            let (section, name) = key.split_once('.')?;
            let section = table.get_mut(section).and_then(toml::Value::as_table_mut);
            let written = section.and_then(|section| section.remove(name));
            let written = written.and_then(|value| value.as_str().map(str::to_owned));
            let last = overrides.iter().rfind(|(k, _)| k == key);
            let value = last.map(|(_, value)| value.clone()).or(written);
            overrides.retain(|(k, _)| k != key);
            value
        };
        let (password, source, statement) = (take(PASSWORD), take(SOURCE), take(STATEMENT));
        take(CHECKPOINT);
        let mut secrets = Self {
            password: password.filter(|password| !password.is_empty()),
            ..Self::default()
        };
        if let Some(source) = source {
            let shown = without_secrets(&source);
            secrets.source = (shown != source).then_some(source);
            overrides.push((SOURCE.to_owned(), shown));
        }
        if let Some(statement) = statement {
            let shown = statement_without_secrets(&statement);
            secrets.statement = (shown != statement).then_some(statement);
            overrides.push((STATEMENT.to_owned(), shown));
        }
        let config = toml::to_string(&table)
            .map_err(|e| Error::new(ErrorKind::Config, "configuration", e))?;
        Ok((Submission { config, overrides }, secrets))
    }

    /// What completes a recorded submission; without a password the coordinator's own.
    pub(super) fn overrides(&self, password: Option<&str>) -> Vec<(String, String)> {
        let password = self.password.as_deref().or(password);
        let password = password.map(|password| (PASSWORD, password));
        let source = self.source.as_deref().map(|source| (SOURCE, source));
        let statement = self.statement.as_deref().map(|text| (STATEMENT, text));
        let pairs = password.into_iter().chain(source).chain(statement);
        pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    /// Takes what a later submission of the same job has, and keeps what it has not.
    pub(super) fn update(&mut self, newer: Self) {
        self.password = newer.password.or(self.password.take());
        self.source = newer.source.or(self.source.take());
        self.statement = newer.statement.or(self.statement.take());
    }
}

/// The URI with those options only that may be recorded. Of a web server's nobody knows what they mean.
fn without_secrets(uri: &str) -> String {
    let Some((place, query)) = uri.split_once('?').filter(|_| is_store(uri)) else {
        return uri.to_owned();
    };
    let web = place.to_ascii_lowercase().starts_with("http");
    let harmless = |option: &&str| {
        let name = option.split('=').next().unwrap_or_default();
        let name = name.to_ascii_lowercase().replace('_', "-");
        !web && NO_SECRETS.contains(&name.as_str())
    };
    let kept: Vec<&str> = query.split('&').filter(harmless).collect();
    if kept.is_empty() {
        return place.to_owned();
    }
    format!("{place}?{}", kept.join("&"))
}

/// The same for each URI in a text of SQL. One ends with the quote of its literal, not with one that is doubled or
/// escaped.
fn statement_without_secrets(text: &str) -> String {
    let (mut shown, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("://") {
        let scheme = rest[..at].trim_end_matches(|c: char| c.is_ascii_alphanumeric());
        let (before, uri) = rest.split_at(scheme.len());
        let (bytes, mut end) = (uri.as_bytes(), at + 3 - before.len());
        while let Some(byte) = bytes.get(end) {
            end += match byte {
                b'\\' => 2,
                b'\'' | b'"' if bytes.get(end + 1) == Some(byte) => 2,
                b'\'' | b'"' => break,
                _ => 1,
            };
        }
        let (uri, behind) = uri.split_at_checked(end).unwrap_or((uri, ""));
        shown.push_str(before);
        shown.push_str(&without_secrets(uri));
        rest = behind;
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CONFIG: &str = "[tidb]\nhost = 'h'\npassword = 'hidden1'\n[mydumper]\ndata-source-dir = 's3://b/d?region=r&secret_access_key=hidden2'\n\
         [checkpoint]\ndsn = 'root:hidden3@tcp(h)/'\n";

    #[test]
    fn what_is_recorded_holds_no_secret_and_with_them_it_is_what_was_submitted() {
        let submitted = |overrides: &[(&str, &str)]| {
            let overrides = overrides
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            Submission {
                config: CONFIG.to_owned(),
                overrides: overrides.collect(),
            }
        };
        let (recorded, secrets) = Secrets::set_apart(submitted(&[])).unwrap();
        assert!(!format!("{recorded:?}").contains("hidden"), "{recorded:?}");
        let source = "s3://b/d?region=r".to_owned();
        assert_eq!(recorded.overrides, [(SOURCE.to_owned(), source)]);
        assert!(recorded.config.contains("host"));
        let (password, source) = ("hidden1", "s3://b/d?region=r&secret_access_key=hidden2");
        let completed = [(PASSWORD, password), (SOURCE, source)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(secrets.overrides(Some("of the coordinator")), completed);

        // What is written over the file counts, the last of it.
        let over = [
            (PASSWORD, "hidden4"),
            (SOURCE, "/data"),
            (SOURCE, "https://h/f.csv?sig=hidden5"),
        ];
        let (recorded, other) = Secrets::set_apart(submitted(&over)).unwrap();
        assert!(!format!("{recorded:?}").contains("hidden"), "{recorded:?}");
        let last = (SOURCE.to_owned(), "https://h/f.csv".to_owned());
        assert_eq!(recorded.overrides, [last]);
        let mut both = secrets.clone();
        both.update(other);
        let pairs = both.overrides(None);
        assert_eq!(
            (pairs[0].1.as_str(), pairs[1].1.as_str()),
            ("hidden4", over[2].1)
        );
        both.update(Secrets::default());
        assert_eq!(both.overrides(None), pairs);
    }

    #[test]
    fn a_statement_is_recorded_without_the_secrets_of_its_uri() {
        for (statement, shown) in [
            (
                "LOAD DATA INFILE 's3://b/*.csv?region=r&access_key=hidden&secret_access_key=hid\\'den' INTO TABLE d.t SET a = 'x?y'",
                "LOAD DATA INFILE 's3://b/*.csv?region=r' INTO TABLE d.t SET a = 'x?y'",
            ),
            (
                "IMPORT INTO d.t FROM \"gs://b/ü.csv?credentials=hid\"\"den\" FORMAT 'csv'",
                "IMPORT INTO d.t FROM \"gs://b/ü.csv\" FORMAT 'csv'",
            ),
            (
                "IMPORT INTO d.t FROM 's3://b?sas=hidden\\",
                "IMPORT INTO d.t FROM 's3://b",
            ),
            (
                "IMPORT INTO d.t FROM '/data/a?b.csv'",
                "IMPORT INTO d.t FROM '/data/a?b.csv'",
            ),
        ] {
            let submission = Submission {
                config: String::new(),
                overrides: vec![(STATEMENT.to_owned(), statement.to_owned())],
            };
            let (recorded, secrets) = Secrets::set_apart(submission).unwrap();
            assert_eq!(
                recorded.overrides,
                [(STATEMENT.to_owned(), shown.to_owned())]
            );
            let hidden = secrets.overrides(None);
            match shown == statement {
                true => assert!(hidden.is_empty()),
                false => assert_eq!(hidden, [(STATEMENT.to_owned(), statement.to_owned())]),
            }
        }
    }

    #[test]
    fn a_source_without_secrets_is_recorded_as_it_was_written() {
        for source in [
            "/data/a?b",
            "s3://b/d",
            "s3://b/d?endpoint=http://h:1&region=r",
        ] {
            assert_eq!(without_secrets(source), source);
        }
        assert_eq!(
            without_secrets("azblob://c/d?account-name=n&sas-token=hidden"),
            "azblob://c/d?account-name=n"
        );
    }
}
