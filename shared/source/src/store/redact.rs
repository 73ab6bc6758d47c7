//! Messages of libraries and servers without secrets: they name URLs with their queries, and some servers
//! send the credentials back that they did not like.

use super::location::Location;

/// Option values shorter than this are no secrets, and blotting them out would spoil the message.
const SECRET_LENGTH_MIN: usize = 6;

/// Options that may be shown.
const SHOWN: [&str; 5] = [
    "endpoint",
    "region",
    "force-path-style",
    "provider",
    "role-arn",
];

/// `text` without queries and without any secret of `location`.
pub(super) fn redact(text: &str, location: &Location) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('?') {
        clean.push_str(&rest[..at]);
        let query = &rest[at + 1..];
        let end = query
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | ')'))
            .unwrap_or(query.len());
        clean.push_str(if end == 0 { "?" } else { "?…" });
        rest = &query[end..];
    }
    clean.push_str(rest);
    for (name, value) in &location.options {
        if value.len() >= SECRET_LENGTH_MIN && !SHOWN.contains(&name.as_str()) {
            clean = clean.replace(value.as_str(), "***");
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn neither_queries_nor_credentials_stay() {
        let uri = "azblob://c/k?account-name=someone&sas-token=sig%3Dhidden&account-key=hidden2";
        let location = Location::parse(uri).unwrap();
        let text =
            "GET https://x/c/k?sig=hidden&se=1 failed (key hidden2, sig=hidden). Why? Nobody knows";
        let clean = redact(text, &location);
        assert_eq!(
            clean,
            "GET https://x/c/k?… failed (key ***, ***). Why? Nobody knows"
        );
    }
}
