//! Where sources of an object store are, without their secrets. Owns the split of a written URI into the
//! part that may be shown and the query that may not; what the query means is the store's.

use crate::secret::Secret;

/// Schemes of object stores, beside `file` and `local`.
pub const STORE_SCHEMES: [&str; 7] = ["s3", "gs", "gcs", "azblob", "azure", "http", "https"];

/// A URI with its secrets set apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceUri {
    /// Scheme, bucket and key: may be shown.
    pub shown: String,
    /// The query: credentials and options of the store.
    pub access: Secret,
}

/// Whether `text` names an object of a store and not a local path.
pub fn is_store(text: &str) -> bool {
    text.split_once("://")
        .is_some_and(|(scheme, _)| STORE_SCHEMES.contains(&scheme.to_ascii_lowercase().as_str()))
}

/// Whether `text`, which has no `://`, was meant as a URI: as a path it would be shown in messages, secrets
/// included.
pub fn looks_like_store(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let mut rests = STORE_SCHEMES
        .iter()
        .filter_map(|scheme| lower.strip_prefix(scheme));
    let scheme = rests.any(|rest| rest.starts_with(':') || rest.starts_with("//"));
    let query = text
        .split_once('?')
        .is_some_and(|(_, query)| query.contains('='));
    scheme || query
}

impl SourceUri {
    /// Splits a URI. The reason of a failure holds nothing of what was written, for it may be a secret in
    /// the wrong place.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or("it has no scheme")?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        if place.contains('#') || query.contains('#') {
            return Err("it holds a #: write %23");
        }
        if text.chars().any(|c| c.is_control()) {
            return Err("it holds a control character");
        }
        let bucket = place.split('/').next().unwrap_or_default();
        if bucket.is_empty() {
            return Err("it names no bucket, container or host");
        }
        if bucket.contains('@') {
            return Err("it has a user or a password before the @: give credentials in the query");
        }
        Ok(Self {
            shown: format!("{}://{place}", scheme.to_ascii_lowercase()),
            access: Secret::new(query),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_shown_of_a_uri_holds_no_secret() {
        let uri = SourceUri::parse("S3://b/dir/a*.csv?access_key=AK&secret_access_key=S").unwrap();
        assert_eq!(uri.shown, "s3://b/dir/a*.csv");
        assert_eq!(uri.access.reveal(), "access_key=AK&secret_access_key=S");
        assert!(!format!("{uri:?}").contains("AK"));
        for wrong in [
            "s3://",
            "s3:///k?secret_access_key=hidden",
            "s3://user:hidden@b/k",
            "s3://b/k?a=hidden#x",
            "s3://b/\nhidden",
        ] {
            let reason = SourceUri::parse(wrong).unwrap_err();
            assert!(!reason.contains("hidden"), "{reason}");
        }
        for meant in ["s3:/b/k", "S3//b", "b/k?secret_access_key=hidden"] {
            assert!(looks_like_store(meant), "{meant}");
        }
        for path in ["s3/dump", "dt=2026/x", "what?", "/data/gs"] {
            assert!(!looks_like_store(path), "{path}");
        }
    }
}
