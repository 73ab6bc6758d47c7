//! A TCP proxy before a server, which cuts connections at a moment that the test chooses: as a server that dies after
//! it has done what it was told and before it could say so.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Ends with its handle.
pub struct Proxy {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    cuts: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    /// Cuts a connection when the server answers a request that holds `word`, this many times.
    pub async fn cutting(server: u16, word: &str, times: usize) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let cuts = Arc::new(AtomicUsize::new(times));
        let (left, word) = (Arc::clone(&cuts), word.as_bytes().to_vec());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (left, word) = (Arc::clone(&left), word.clone());
                tokio::spawn(async move {
                    let _ = pass(client, server, &word, &left).await;
                });
            }
        });
        Ok(Self {
            port,
            cuts,
            accepting,
        })
    }

    /// Cuts that are still to come.
    pub fn cuts_left(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

async fn pass(
    mut client: TcpStream,
    server: u16,
    word: &[u8],
    left: &AtomicUsize,
) -> io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", server)).await?;
    let (mut request, mut answer) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut cut = false;
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let count = read?;
                if count == 0 {
                    return Ok(());
                }
                let holds = request[..count].windows(word.len()).any(|part| part == word);
                let take = |left: usize| left.checked_sub(1);
                cut |= holds && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok();
                server.write_all(&request[..count]).await?;
            }
            read = server.read(&mut answer) => {
                let count = read?;
                if count == 0 || cut {
                    return Ok(());
                }
                client.write_all(&answer[..count]).await?;
            }
        }
    }
}
