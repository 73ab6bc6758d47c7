//! One client from greeting to goodbye. Packets are read and written on the I/O workers; statements run on
//! threads of their own, and their answers come back through a bounded channel.

use super::binary::Prepared;
use super::handshake::{self, Response};
use super::packet::{PacketWriter, ReadError, read_packet};
use super::rows::{Answer, ColumnMeta, error_payload, status};
use crate::error::{SqlError, SqlResult, code};
use crate::lexer::{Tok, Token, tokenize};
use crate::session::{Outcome, Session};
use std::collections::BTreeMap;
use thunderhead_net::ServerTls;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};

/// Chunks of an answer that may wait for the client.
const CHUNKS_IN_FLIGHT: usize = 4;
/// Stack of a statement's thread: expressions are trees, and the deepest that the parser lets through must
/// fit, also in a build without optimisation.
const STACK_BYTES: usize = 32 << 20;
/// Prepared statements of one connection.
const PREPARED_MAX: usize = 1024;

mod command {
    pub const QUIT: u8 = 1;
    pub const INIT_DB: u8 = 2;
    pub const QUERY: u8 = 3;
    pub const FIELD_LIST: u8 = 4;
    pub const STATISTICS: u8 = 9;
    pub const PROCESS_KILL: u8 = 12;
    pub const PING: u8 = 14;
    pub const CHANGE_USER: u8 = 17;
    pub const STMT_PREPARE: u8 = 22;
    pub const STMT_EXECUTE: u8 = 23;
    pub const STMT_SEND_LONG_DATA: u8 = 24;
    pub const STMT_CLOSE: u8 = 25;
    pub const STMT_RESET: u8 = 26;
    pub const SET_OPTION: u8 = 27;
    pub const RESET_CONNECTION: u8 = 31;
}

/// Session and statements, which move to a blocking thread for each command.
struct State {
    session: Session,
    prepared: BTreeMap<u32, Prepared>,
    next_statement: u32,
}

/// A client's bytes, in the clear or under TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
type Client = Box<dyn Stream>;

/// Serves one client until it leaves, is killed, or the server stops.
pub async fn serve(
    stream: TcpStream,
    session: Session,
    tls: Option<ServerTls>,
    mut stop: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let killed = session.kill_switch();
    tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => {}
        () = killed.notified() => {}
        () = converse(Box::new(stream), session, tls) => {}
    }
    // A statement that still runs on its thread must not outlive its client.
    killed.fire();
}

async fn converse(stream: Client, mut session: Session, tls: Option<ServerTls>) {
    let Some(mut stream) = greet(stream, &mut session, tls).await else {
        return;
    };
    let stream = &mut stream;
    let mut state = State {
        session,
        prepared: BTreeMap::new(),
        next_statement: 1,
    };
    loop {
        let (payload, sequence) = match read_packet(stream).await {
            Ok(packet) => packet,
            Err(ReadError::Closed) => return,
            Err(ReadError::TooLarge) => {
                let error = SqlError::new(
                    code::PACKET_TOO_LARGE,
                    "Got a packet bigger than 'max_allowed_packet' bytes",
                );
                let _ = send(stream, 1, &error_payload(&error)).await;
                return;
            }
        };
        if payload.first() == Some(&command::QUIT) {
            return;
        }
        let (to, mut chunks) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let (done, work) = oneshot::channel();
        let statement = move || {
            let kept = state.run(&payload, sequence, to);
            let _ = done.send((state, kept));
        };
        let thread = std::thread::Builder::new()
            .name("sql".to_owned())
            .stack_size(STACK_BYTES);
        if thread.spawn(statement).is_err() {
            return;
        }
        while let Some(chunk) = chunks.recv().await {
            if stream.write_all(&chunk).await.is_err() {
                return;
            }
        }
        match work.await {
            Ok((next, Ok(()))) => state = next,
            _ => return,
        }
    }
}

async fn send(stream: &mut Client, sequence: u8, payload: &[u8]) -> bool {
    let mut out = PacketWriter {
        buffer: Vec::new(),
        sequence,
    };
    out.packet(payload);
    stream.write_all(&out.buffer).await.is_ok()
}

/// Greets, learns who it is, and answers; gives the stream back when the client may stay. A client that asks
/// for TLS first sends the head of its response alone.
async fn greet(
    mut stream: Client,
    session: &mut Session,
    tls: Option<ServerTls>,
) -> Option<Client> {
    let salt = handshake::salt();
    let greeting = handshake::greeting(session.id(), &salt, status::AUTOCOMMIT, tls.is_some());
    if !send(&mut stream, 0, &greeting).await {
        return None;
    }
    let (mut payload, mut sequence) = read_packet(&mut stream).await.ok()?;
    if handshake::asks_for_tls(&payload) {
        stream = Box::new(tls?.accept(stream).await.ok()?);
        (payload, sequence) = read_packet(&mut stream).await.ok()?;
    }
    let mut response = handshake::parse_response(&payload)?;
    if !response.plugin.is_empty() && response.plugin != handshake::PLUGIN {
        if !send(&mut stream, sequence, &handshake::auth_switch(&salt)).await {
            return None;
        }
        (response.auth, sequence) = read_packet(&mut stream).await.ok()?;
    }
    match admit(&response, session, &salt) {
        Ok(()) => {
            let ok = [0, 0, 0, status::AUTOCOMMIT as u8, 0, 0, 0];
            send(&mut stream, sequence, &ok).await.then_some(stream)
        }
        Err(error) => {
            send(&mut stream, sequence, &error_payload(&error)).await;
            None
        }
    }
}

fn admit(response: &Response, session: &mut Session, salt: &handshake::Salt) -> SqlResult<()> {
    let user = &response.user;
    if user != "root" || !handshake::proves(&response.auth, session.root_password(), salt) {
        let using = if response.auth.is_empty() {
            "NO"
        } else {
            "YES"
        };
        return Err(SqlError::new(
            code::ACCESS_DENIED,
            format!("Access denied for user '{user}'@'127.0.0.1' (using password: {using})"),
        ));
    }
    session.set_client(response.capabilities & handshake::capability::FOUND_ROWS != 0);
    match &response.db {
        Some(db) => session.use_database(db),
        None => Ok(()),
    }
}

impl State {
    /// Runs one command; an error here means the client is gone.
    fn run(&mut self, payload: &[u8], sequence: u8, to: mpsc::Sender<Vec<u8>>) -> SqlResult<()> {
        let Some((command, body)) = payload.split_first() else {
            return Err(SqlError::new(code::UNKNOWN_COMMAND, "empty packet"));
        };
        let mut answer = Answer::new(to, sequence, *command == command::STMT_EXECUTE);
        answer.status = self.session.status();
        match *command {
            command::QUERY => self.query(body, &mut answer)?,
            command::INIT_DB => {
                let result = self.session.use_database(&String::from_utf8_lossy(body));
                self.simple(result, &mut answer)?;
            }
            command::FIELD_LIST => self.field_list(body, &mut answer)?,
            command::STATISTICS => answer.packet(b"Uptime: 1")?,
            command::PROCESS_KILL => {
                let id = body.first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
                self.session.kill(id);
                self.simple(Ok(()), &mut answer)?;
            }
            command::STMT_PREPARE => self.prepare(body, &mut answer)?,
            command::STMT_EXECUTE => self.execute(body, &mut answer)?,
            command::STMT_SEND_LONG_DATA => self.long_data(body),
            command::STMT_CLOSE => {
                self.prepared.remove(&statement_id(body));
            }
            command::STMT_RESET => {
                if let Some(statement) = self.prepared.get_mut(&statement_id(body)) {
                    statement.long_data.fill(None);
                }
                self.simple(Ok(()), &mut answer)?;
            }
            command::SET_OPTION => answer.eof(0)?,
            command::PING => self.simple(Ok(()), &mut answer)?,
            command::RESET_CONNECTION | command::CHANGE_USER => {
                self.prepared.clear();
                self.session.reset();
                self.simple(Ok(()), &mut answer)?;
            }
            other => answer.error(&SqlError::new(
                code::UNKNOWN_COMMAND,
                format!("Unknown command {other}"),
            ))?,
        }
        answer.flush()
    }

    fn simple(&self, result: SqlResult<()>, answer: &mut Answer) -> SqlResult<()> {
        match result {
            Ok(()) => answer.ok(0, 0, 0, ""),
            Err(error) => answer.error(&error),
        }
    }

    /// Every statement of a text, each with its own answer, up to the first that fails.
    fn query(&mut self, text: &[u8], answer: &mut Answer) -> SqlResult<()> {
        let tokens = match tokenize(text) {
            Ok(tokens) => tokens,
            Err(error) => return answer.error(&error),
        };
        let statements: Vec<&[Token]> = tokens
            .split(|t| t.tok == Tok::Op(";"))
            .filter(|s| !s.is_empty())
            .collect();
        if statements.is_empty() {
            return answer.error(&SqlError::new(1065, "Query was empty"));
        }
        for (i, statement) in statements.iter().enumerate() {
            let more = i + 1 < statements.len();
            if !self.statement(text, statement, answer, more)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// One statement with its answer; false when it failed.
    fn statement(
        &mut self,
        text: &[u8],
        tokens: &[Token],
        answer: &mut Answer,
        more: bool,
    ) -> SqlResult<bool> {
        let more = if more { status::MORE_RESULTS } else { 0 };
        answer.status = self.session.status() | more;
        let outcome = self.session.execute(text, tokens, answer);
        answer.status = self.session.status() | more;
        match outcome {
            Ok(Outcome::Rows { warnings }) => answer.eof(warnings)?,
            Ok(Outcome::Nothing) => answer.ok(0, 0, 0, "")?,
            Ok(Outcome::Done {
                affected,
                insert_id,
                warnings,
                info,
            }) => answer.ok(affected, insert_id, warnings, &info)?,
            Err(error) => {
                answer.error(&error)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The columns of a table; mariadb's completion asks for them.
    fn field_list(&mut self, body: &[u8], answer: &mut Answer) -> SqlResult<()> {
        let table = body.split(|b| *b == 0).next().unwrap_or_default();
        match self.session.field_list(&String::from_utf8_lossy(table)) {
            Ok(columns) => {
                for column in &columns {
                    answer.column(column)?;
                }
                answer.eof(0)
            }
            Err(error) => answer.error(&error),
        }
    }

    fn prepare(&mut self, text: &[u8], answer: &mut Answer) -> SqlResult<()> {
        let tokens = match tokenize(text) {
            Ok(tokens) if self.prepared.len() < PREPARED_MAX => tokens,
            Ok(_) => {
                return answer.error(&SqlError::new(
                    1461,
                    "Can't create more than max_prepared_stmt_count statements",
                ));
            }
            Err(error) => return answer.error(&error),
        };
        let params = tokens.iter().filter(|t| t.tok == Tok::Op("?")).count();
        if params > usize::from(u16::MAX) {
            return answer.error(&SqlError::new(
                1390,
                "Prepared statement contains too many placeholders",
            ));
        }
        let id = self.next_statement;
        self.next_statement = self.next_statement.wrapping_add(1);
        self.prepared
            .insert(id, Prepared::new(text.to_vec(), params));
        let mut payload = vec![0];
        payload.extend_from_slice(&id.to_le_bytes());
        // The columns come with the rows; clients take them from there.
        payload.extend_from_slice(&[0, 0]);
        payload.extend_from_slice(&(params as u16).to_le_bytes());
        payload.extend_from_slice(&[0, 0, 0]);
        answer.packet(&payload)?;
        for _ in 0..params {
            answer.column(&ColumnMeta::text("?"))?;
        }
        if params > 0 {
            answer.eof(0)?;
        }
        Ok(())
    }

    fn execute(&mut self, body: &[u8], answer: &mut Answer) -> SqlResult<()> {
        const HEAD: usize = 4 + 1 + 4;
        let unknown = || {
            SqlError::new(
                code::UNKNOWN_STMT,
                "Unknown prepared statement handler given to EXECUTE",
            )
        };
        let Some(statement) = self.prepared.get_mut(&statement_id(body)) else {
            return answer.error(&unknown());
        };
        let Some(arguments) = statement.arguments(body.get(HEAD..).unwrap_or_default()) else {
            return answer.error(&unknown());
        };
        let text = statement.text.clone();
        let mut tokens = match tokenize(&text) {
            Ok(tokens) => tokens,
            Err(error) => return answer.error(&error),
        };
        let mut arguments = arguments.into_iter();
        for token in &mut tokens {
            if token.tok == Tok::Op("?")
                && let Some(argument) = arguments.next()
            {
                token.tok = argument;
            }
        }
        tokens.retain(|t| t.tok != Tok::Op(";"));
        self.statement(&text, &tokens, answer, false).map(|_| ())
    }

    fn long_data(&mut self, body: &[u8]) {
        let (id, index) = (
            statement_id(body),
            body.get(4..6)
                .map_or(0, |b| usize::from(u16::from_le_bytes([b[0], b[1]]))),
        );
        let Some(data) = body.get(6..) else { return };
        let slot = self
            .prepared
            .get_mut(&id)
            .and_then(|s| s.long_data.get_mut(index));
        if let Some(slot) = slot {
            let value = slot.get_or_insert_default();
            if value.len() + data.len() <= super::packet::PAYLOAD_MAX {
                value.extend_from_slice(data);
            }
        }
    }
}

fn statement_id(body: &[u8]) -> u32 {
    body.first_chunk().map_or(0, |b| u32::from_le_bytes(*b))
}
