//! Who the client is: greeting, response, `mysql_native_password`.

use super::packet::Reader;
use sha1::{Digest, Sha1};

pub mod capability {
    pub const LONG_PASSWORD: u32 = 1;
    pub const FOUND_ROWS: u32 = 1 << 1;
    pub const LONG_FLAG: u32 = 1 << 2;
    pub const CONNECT_WITH_DB: u32 = 1 << 3;
    pub const PROTOCOL_41: u32 = 1 << 9;
    pub const INTERACTIVE: u32 = 1 << 10;
    pub const SSL: u32 = 1 << 11;
    pub const TRANSACTIONS: u32 = 1 << 13;
    pub const SECURE_CONNECTION: u32 = 1 << 15;
    pub const MULTI_STATEMENTS: u32 = 1 << 16;
    pub const MULTI_RESULTS: u32 = 1 << 17;
    pub const PS_MULTI_RESULTS: u32 = 1 << 18;
    pub const PLUGIN_AUTH: u32 = 1 << 19;
    pub const CONNECT_ATTRS: u32 = 1 << 20;
    pub const PLUGIN_AUTH_LENENC: u32 = 1 << 21;
}

/// What this server can do.
pub const CAPABILITIES: u32 = capability::LONG_PASSWORD
    | capability::FOUND_ROWS
    | capability::LONG_FLAG
    | capability::CONNECT_WITH_DB
    | capability::PROTOCOL_41
    | capability::INTERACTIVE
    | capability::TRANSACTIONS
    | capability::SECURE_CONNECTION
    | capability::MULTI_STATEMENTS
    | capability::MULTI_RESULTS
    | capability::PS_MULTI_RESULTS
    | capability::PLUGIN_AUTH
    | capability::CONNECT_ATTRS
    | capability::PLUGIN_AUTH_LENENC;

/// utf8mb4_bin, as TiDB greets.
pub const COLLATION_UTF8MB4_BIN: u8 = 46;
pub const PLUGIN: &str = "mysql_native_password";
/// The version clients see; loaders read the part after `TiDB-v`.
pub const VERSION: &str = "8.0.11-TiDB-v8.5.0";
const SALT_LEN: usize = 20;

/// What the password is mixed with; no zero bytes.
pub type Salt = [u8; SALT_LEN];

/// A fresh salt. The randomness is that of the standard library's hash seeds.
pub fn salt() -> Salt {
    use std::hash::{BuildHasher, Hasher};
    let mut salt = [0; SALT_LEN];
    for (i, byte) in salt.iter_mut().enumerate() {
        let mut hasher = std::hash::RandomState::new().build_hasher();
        hasher.write_usize(i);
        *byte = (hasher.finish() % 94) as u8 + 33;
    }
    salt
}

/// The greeting.
pub fn greeting(connection: u32, salt: &Salt, status: u16, tls: bool) -> Vec<u8> {
    let capabilities = CAPABILITIES | if tls { capability::SSL } else { 0 };
    let mut out = vec![10];
    out.extend_from_slice(VERSION.as_bytes());
    out.push(0);
    out.extend_from_slice(&connection.to_le_bytes());
    out.extend_from_slice(&salt[..8]);
    out.push(0);
    out.extend_from_slice(&capabilities.to_le_bytes()[..2]);
    out.push(COLLATION_UTF8MB4_BIN);
    out.extend_from_slice(&status.to_le_bytes());
    out.extend_from_slice(&capabilities.to_le_bytes()[2..]);
    out.push(SALT_LEN as u8 + 1);
    out.extend_from_slice(&[0; 10]);
    out.extend_from_slice(&salt[8..]);
    out.push(0);
    out.extend_from_slice(PLUGIN.as_bytes());
    out.push(0);
    out
}

/// What the client answered.
#[derive(Debug, Default)]
pub struct Response {
    pub capabilities: u32,
    pub user: String,
    pub auth: Vec<u8>,
    pub db: Option<String>,
    pub plugin: String,
}

/// Whether this is the head of a response that a TLS handshake follows.
pub fn asks_for_tls(payload: &[u8]) -> bool {
    let capabilities = Reader(payload).uint(4).unwrap_or(0) as u32;
    payload.len() == 32 && capabilities & capability::SSL != 0
}

/// Reads the answer to the greeting.
pub fn parse_response(payload: &[u8]) -> Option<Response> {
    let mut reader = Reader(payload);
    let capabilities = reader.uint(4)? as u32;
    reader.take(4 + 1 + 23)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut response = Response {
        capabilities,
        user: text(reader.nul()),
        ..Response::default()
    };
    response.auth = if capabilities & capability::PLUGIN_AUTH_LENENC != 0 {
        reader.string()?.to_vec()
    } else {
        let length = reader.u8()?;
        reader.take(usize::from(length))?.to_vec()
    };
    if capabilities & capability::CONNECT_WITH_DB != 0 {
        response.db = Some(text(reader.nul())).filter(|db| !db.is_empty());
    }
    if capabilities & capability::PLUGIN_AUTH != 0 {
        response.plugin = text(reader.nul());
    }
    Some(response)
}

/// Asks the client to answer with the plugin this server speaks.
pub fn auth_switch(salt: &Salt) -> Vec<u8> {
    let mut out = vec![0xfe];
    out.extend_from_slice(PLUGIN.as_bytes());
    out.push(0);
    out.extend_from_slice(salt);
    out.push(0);
    out
}

/// Whether the client's token proves the password: SHA1(p) xor SHA1(salt ‖ SHA1(SHA1(p))).
pub fn proves(token: &[u8], password: &str, salt: &Salt) -> bool {
    if password.is_empty() {
        return token.is_empty();
    }
    let once = Sha1::digest(password.as_bytes());
    let twice = Sha1::digest(once);
    let mixed = Sha1::new()
        .chain_update(salt)
        .chain_update(twice)
        .finalize();
    let expected = once.iter().zip(mixed.iter()).map(|(a, b)| a ^ b);
    token.len() == once.len()
        && token
            .iter()
            .zip(expected)
            .fold(0, |diff, (a, b)| diff | (a ^ b))
            == 0
}
