//! Reading from a store that throttles, breaks off, changes its objects and refuses. The server here is the
//! test's own, for no real one does these things on request; `tests/tests/stores.rs` has a real one.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use thunderhead_config::Compression;
use thunderhead_source::{ByteSource, source_at, store};

#[derive(Default)]
struct State {
    objects: Mutex<BTreeMap<String, (String, Vec<u8>)>>,
    /// Answers that are 503 SlowDown before one is not.
    slow_down: AtomicU32,
    /// Answers that break off in the middle of the body.
    broken: AtomicU32,
    /// The condition of a request is not looked at.
    ignores_conditions: AtomicBool,
    denies: AtomicBool,
    /// Ranges that were asked for.
    ranges: Mutex<Vec<(usize, usize)>>,
}

struct Server {
    port: u16,
    state: Arc<State>,
    stop: Arc<AtomicBool>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (state, stop) = (Arc::new(State::default()), Arc::new(AtomicBool::new(false)));
        let (shared, stopped) = (Arc::clone(&state), Arc::clone(&stop));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let state = Arc::clone(&shared);
                std::thread::spawn(move || while answer(&stream, &state).is_some() {});
            }
        });
        Self { port, state, stop }
    }

    fn put(&self, key: &str, etag: &str, body: Vec<u8>) {
        let mut objects = self.state.objects.lock().unwrap();
        objects.insert(format!("/b/{key}"), (etag.to_owned(), body));
    }

    fn uri(&self, key: &str) -> String {
        format!(
            "s3://b/{key}?access-key=AKEXAMPLE&secret_access_key=SECRETEXAMPLE&endpoint=http://127.0.0.1:{}",
            self.port
        )
    }

    fn file(&self, key: &str) -> Arc<dyn ByteSource> {
        source_at(&self.uri(key), Compression::None).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn taken(count: &AtomicU32) -> bool {
    let less = |n: u32| n.checked_sub(1);
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}

/// One request; `None` when the connection is over.
fn answer(stream: &TcpStream, state: &State) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    if reader.read_line(&mut first).ok()? == 0 {
        return None;
    }
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut out = stream;
    let mut reply = |status: &str, extra: &str, body: &[u8], sent: usize, length: usize| {
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{extra}\r\n");
        out.write_all(head.as_bytes()).ok()?;
        out.write_all(&body[..sent]).ok()
    };
    if state.denies.load(Ordering::Relaxed) {
        let body = b"<Error><Code>AccessDenied</Code><Message>key SECRETEXAMPLE of AKEXAMPLE</Message></Error>";
        let sent = if method == "HEAD" { 0 } else { body.len() };
        return reply("403 Forbidden", "", body, sent, body.len());
    }
    if taken(&state.slow_down) {
        return reply("503 SlowDown", "", b"", 0, 0);
    }
    let objects = state.objects.lock().unwrap();
    let Some((etag, body)) = objects.get(&path) else {
        return reply("404 Not Found", "", b"", 0, 0);
    };
    if headers.get("if-match").is_some_and(|asked| asked != etag)
        && !state.ignores_conditions.load(Ordering::Relaxed)
    {
        return reply("412 Precondition Failed", "", b"", 0, 0);
    }
    let known = format!("etag: {etag}\r\nlast-modified: Sat, 21 Nov 2026 10:00:00 GMT\r\n");
    if method == "HEAD" {
        return reply("200 OK", &known, b"", 0, body.len());
    }
    let range = headers.get("range")?.strip_prefix("bytes=")?.to_owned();
    let (start, end) = range.split_once('-')?;
    let (start, end): (usize, usize) = (start.parse().ok()?, end.parse().ok()?);
    let end = (end + 1).min(body.len());
    state.ranges.lock().unwrap().push((start, end));
    let known = format!(
        "{known}content-range: bytes {start}-{}/{}\r\n",
        end - 1,
        body.len()
    );
    let part = &body[start..end];
    if taken(&state.broken) {
        reply(
            "206 Partial Content",
            &known,
            part,
            part.len() / 2,
            part.len(),
        );
        let _ = stream.shutdown(std::net::Shutdown::Both);
        return None;
    }
    reply("206 Partial Content", &known, part, part.len(), part.len())
}

fn numbers(bytes: usize) -> Vec<u8> {
    (0..bytes as u32 / 4).flat_map(u32::to_le_bytes).collect()
}

fn read(source: &dyn ByteSource, offset: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.open(offset)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn every_byte_comes_once_whatever_breaks() {
    let server = Server::start();
    let body = numbers(9 << 20);
    server.put("k", "\"1\"", body.clone());
    let file = server.file("k");
    assert_eq!(file.size().unwrap(), Some(body.len() as u64));
    for offset in [0, 1, 300_000, body.len() - 1, body.len()] {
        server.state.slow_down.store(3, Ordering::Relaxed);
        server.state.broken.store(4, Ordering::Relaxed);
        let got = read(&*file, offset as u64).unwrap();
        assert!(got == body[offset..], "from {offset}: {} bytes", got.len());
    }
}

#[test]
fn a_broken_answer_is_gone_on_with_where_it_broke() {
    let server = Server::start();
    server.put("k", "\"1\"", numbers(256 << 10));
    let file = server.file("k");
    // What was read to know the packing.
    server.state.ranges.lock().unwrap().clear();
    server.state.broken.store(1, Ordering::Relaxed);
    read(&*file, 0).unwrap();
    let ranges = server.state.ranges.lock().unwrap().clone();
    assert_eq!(ranges[0], (0, 256 << 10));
    assert!(ranges[1].0 > 0, "{ranges:?}");
    assert_eq!(ranges.last().unwrap().1, 256 << 10);
}

#[test]
fn an_object_that_changes_while_it_is_read_is_an_error() {
    for ignores in [false, true] {
        let server = Server::start();
        let ignoring = &server.state.ignores_conditions;
        ignoring.store(ignores, Ordering::Relaxed);
        server.put("k", "\"1\"", numbers(4000));
        let file = server.file("k");
        let before = file.identity().unwrap();
        server.put("k", "\"2\"", numbers(4000));
        let error = read(&*file, 0).unwrap_err();
        assert!(error.to_string().contains("replaced"), "{error}");
        assert_ne!(file.identity().unwrap(), before);
    }
}

#[test]
fn a_reader_that_stops_early_asks_for_no_more_than_the_blocks_ahead() {
    let server = Server::start();
    server.put("k", "\"1\"", numbers(64 << 20));
    let file = server.file("k");
    let mut stream = file.open(0).unwrap();
    stream.read_exact(&mut [0; 100]).unwrap();
    drop(stream);
    let asked: usize = (server.state.ranges.lock().unwrap().iter())
        .map(|(start, end)| end - start)
        .sum();
    assert!(asked <= 12 << 20, "{asked}");
}

#[test]
fn what_is_missing_or_denied_is_named_without_secrets() {
    let server = Server::start();
    let error = server.file("none").identity().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    server.state.denies.store(true, Ordering::Relaxed);
    server.put("k", "\"1\"", numbers(40));
    let error = store::list(&server.uri("k")).unwrap_err();
    let denied = server.file("k").identity().unwrap_err();
    for text in [
        error.to_string(),
        denied.to_string(),
        format!("{:?}", server.file("k")),
    ] {
        assert!(!text.contains("EXAMPLE"), "{text}");
    }
    assert!(error.to_string().starts_with("s3://b/k"), "{error}");
    assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied);
}
