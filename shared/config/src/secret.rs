//! Passwords and other secrets that do not show themselves: neither by `Debug` nor by serialisation.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

/// A password as it was written: plain, or encoded in Base64.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Keeps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// What to try, in this order. Many plain passwords are also valid Base64, so only the server can
    /// tell: the decoded one is tried where the plain one is denied.
    pub fn candidates(&self) -> Vec<String> {
        let decoded = STANDARD
            .decode(&self.0)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .filter(|text| !text.is_empty());
        std::iter::once(self.0.clone()).chain(decoded).collect()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(empty)" } else { "***" })
    }
}

/// Text that is passed on and never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For whom it is meant.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(empty)" } else { "***" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decoded_password_follows_the_plain_one() {
        assert_eq!(
            Password::new("c2VjcmV0").candidates(),
            ["c2VjcmV0", "secret"]
        );
        assert_eq!(Password::new("not base64!").candidates(), ["not base64!"]);
        assert_eq!(Password::default().candidates(), [""]);
    }

    #[test]
    fn a_password_does_not_show_itself() {
        assert_eq!(format!("{:?}", Password::new("secret")), "***");
    }
}
