//! What a URI means: which store, which bucket, which key, and the options of its query. Leaves building a
//! client of it to [`super::connect`]. Nothing here echoes what was written: it may hold secrets.

use std::collections::BTreeMap;
use std::fmt;

use object_store::path::Path;
use thunderhead_config::uri::SourceUri;

/// Which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreKind {
    /// Amazon's S3 and what speaks like it.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
    /// A web server.
    Http,
}

/// A place in a store.
#[derive(Clone, PartialEq, Eq)]
pub struct Location {
    /// The store.
    pub(super) kind: StoreKind,
    /// As it was written, in lower case.
    pub(super) scheme: String,
    /// Bucket, container, or host with port.
    pub(super) bucket: String,
    /// Decoded; may hold `*`.
    pub(super) key: String,
    /// Of the query, decoded; names with `-`.
    pub(super) options: BTreeMap<String, String>,
    /// The query as it was written: a part of a signed URL.
    pub(super) query: String,
}

/// Only the part that may be shown.
impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name(&self.key))
    }
}

/// Why a URI is not one that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// It has not the form of one.
    #[error("the URI cannot be read: {0}")]
    Malformed(&'static str),
    /// A `%` that is not followed by two digits.
    #[error("the URI holds a % that is no escape: write %25")]
    Escape,
    /// Nobody knows what it is for.
    #[error("the URI has the unknown option {0:?}; {1}:// takes {2}")]
    Option(String, String, String),
    /// Its value cannot be used.
    #[error("the option {0:?} of the URI {1}")]
    Value(String, &'static str),
    /// The key cannot be one of an object.
    #[error("the URI names no object: {0}")]
    Key(&'static str),
}

/// Options that are for writing only; Lightning's users have them in their URIs.
const FOR_WRITING: [&str; 7] = [
    "acl",
    "sse",
    "sse-kms-key-id",
    "storage-class",
    "predefined-acl",
    "access-tier",
    "encryption-scope",
];
const S3: [&str; 11] = [
    "access-key",
    "secret-access-key",
    "session-token",
    "endpoint",
    "region",
    "force-path-style",
    "use-accelerate-endpoint",
    "role-arn",
    "external-id",
    "provider",
    "skip-signature",
];
const GCS: [&str; 3] = ["credentials-file", "endpoint", "skip-signature"];
const AZURE: [&str; 5] = [
    "account-name",
    "account-key",
    "sas-token",
    "endpoint",
    "encryption-key",
];

impl StoreKind {
    fn options(self) -> &'static [&'static str] {
        match self {
            StoreKind::S3 => &S3,
            StoreKind::Gcs => &GCS,
            StoreKind::Azure => &AZURE,
            StoreKind::Http => &[],
        }
    }
}

impl Location {
    /// Reads a URI.
    pub fn parse(uri: &str) -> Result<Self, LocationError> {
        let uri = SourceUri::parse(uri).map_err(LocationError::Malformed)?;
        let (scheme, rest) = uri
            .shown
            .split_once("://")
            .ok_or(LocationError::Malformed("it has no scheme"))?;
        let kind = match scheme {
            "s3" => StoreKind::S3,
            "gs" | "gcs" => StoreKind::Gcs,
            "azblob" | "azure" => StoreKind::Azure,
            "http" | "https" => StoreKind::Http,
            _ => return Err(LocationError::Malformed("its scheme is not known")),
        };
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let query = uri.access.reveal();
        Ok(Self {
            kind,
            scheme: scheme.to_owned(),
            bucket: bucket.to_owned(),
            key: decode(key, false)?,
            options: match kind {
                // The server's own, not ours.
                StoreKind::Http => BTreeMap::new(),
                _ => options(kind, scheme, query)?,
            },
            query: query.to_owned(),
        })
    }

    /// The URI of a key in this store, without the query.
    pub(super) fn name(&self, key: &str) -> String {
        let mut name = format!("{}://{}/", self.scheme, self.bucket);
        for c in key.chars() {
            match c {
                '%' => name.push_str("%25"),
                '?' => name.push_str("%3F"),
                '#' => name.push_str("%23"),
                c => name.push(c),
            }
        }
        name
    }

    pub(super) fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, LocationError> {
        match self.option(name) {
            None => Ok(None),
            Some("true" | "1" | "") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(_) => Err(LocationError::Value(
                name.to_owned(),
                "is neither true nor false",
            )),
        }
    }

    /// The key as the library names it.
    pub(super) fn path(&self) -> Result<Path, LocationError> {
        Path::parse(&self.key).map_err(|_| {
            LocationError::Key("an empty part, \".\" or \"..\" in the key is not supported")
        })
    }
}

fn options(
    kind: StoreKind,
    scheme: &str,
    query: &str,
) -> Result<BTreeMap<String, String>, LocationError> {
    let mut options = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = match name.to_ascii_lowercase().replace('_', "-").as_str() {
            "access-key-id" => "access-key".to_owned(),
            other => other.to_owned(),
        };
        if FOR_WRITING.contains(&name.as_str()) {
            continue;
        }
        if !kind.options().contains(&name.as_str()) {
            // A long name may be a value that lost its own.
            let shown = if name.len() <= 24 { name } else { "…".into() };
            let known = kind.options().join(", ");
            return Err(LocationError::Option(shown, scheme.to_owned(), known));
        }
        options.insert(name, decode(value, true)?);
    }
    Ok(options)
}

/// `+` stands for itself: the secret keys of stores hold it, and users paste them as they are.
fn decode(text: &str, value: bool) -> Result<String, LocationError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match (first, digits.and_then(|d| u8::from_str_radix(d, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'%', None) if !value => return Err(LocationError::Escape),
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| LocationError::Malformed("it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn credentials_stand_in_the_query_as_the_documents_write_them() {
        let uri = "s3://b/a%20b/*.csv?access_key=AK&secret_access_key=a/+%3D&force-path-style=true&storage-class=X";
        let location = Location::parse(uri).unwrap();
        assert_eq!(location.key, "a b/*.csv");
        assert_eq!(location.option("access-key"), Some("AK"));
        assert_eq!(location.option("secret-access-key"), Some("a/+="));
        assert_eq!(location.flag("force-path-style"), Ok(Some(true)));
        assert_eq!(format!("{location:?}"), "s3://b/a b/*.csv");
    }

    #[test]
    fn a_name_leads_back_to_its_key() {
        let location = Location::parse("gcs://b/x").unwrap();
        for key in ["a%b", "a?b", "a#b", "ä b", "%41"] {
            let again = Location::parse(&location.name(key)).unwrap();
            assert_eq!(again.key, key);
        }
    }

    #[test]
    fn no_error_shows_what_was_written() {
        for uri in [
            "s3://b/k?secret_key=hidden",
            "s3://b/k%zz?secret-access-key=hidden",
            "s3://b/k?hiddenhiddenhiddenhiddenhidden",
            "azblob://hidden@c/k",
            "s3:/hidden",
        ] {
            let error = Location::parse(uri).unwrap_err().to_string();
            assert!(!error.contains("hidden"), "{error}");
        }
    }
}
