//! What every listening part of Thunderhead shares: TLS files that are read again when they change, and a
//! port that speaks HTTP/1, HTTP/2 and gRPC, in the clear or under TLS. Knows no service.

mod files;
mod server;
mod tls;

pub use files::{Pem, Reloading, Security};
pub use server::{Listener, Server, bind};
pub use tls::{ServerTls, install_provider};
