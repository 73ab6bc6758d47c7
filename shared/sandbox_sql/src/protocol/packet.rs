//! Packets: a three-byte length, a sequence number, a payload; payloads of 16 MiB - 1 and more are cut.

use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest payload of one packet.
const FRAGMENT_MAX: usize = 0xff_ffff;
/// The longest statement a client may send (`max_allowed_packet`).
pub const PAYLOAD_MAX: usize = 64 << 20;

/// Why reading a packet ended.
#[derive(Debug)]
pub enum ReadError {
    /// The client went away.
    Closed,
    /// Longer than [`PAYLOAD_MAX`].
    TooLarge,
}

/// Reads one payload, put together from its fragments; the sequence number the answer begins with.
pub async fn read_packet(from: &mut (impl AsyncRead + Unpin)) -> Result<(Vec<u8>, u8), ReadError> {
    let mut payload = Vec::new();
    loop {
        let mut head = [0; 4];
        from.read_exact(&mut head)
            .await
            .map_err(|_| ReadError::Closed)?;
        let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
        if payload.len() + length > PAYLOAD_MAX {
            return Err(ReadError::TooLarge);
        }
        let start = payload.len();
        payload.resize(start + length, 0);
        from.read_exact(&mut payload[start..])
            .await
            .map_err(|_| ReadError::Closed)?;
        if length < FRAGMENT_MAX {
            return Ok((payload, head[3].wrapping_add(1)));
        }
    }
}

/// Packets that are ready to be sent, one after another.
#[derive(Debug, Default)]
pub struct PacketWriter {
    pub buffer: Vec<u8>,
    pub sequence: u8,
}

impl PacketWriter {
    /// Adds a payload, cut where it must be.
    pub fn packet(&mut self, payload: &[u8]) {
        let mut rest = payload;
        loop {
            let length = rest.len().min(FRAGMENT_MAX);
            self.buffer
                .extend_from_slice(&(length as u32).to_le_bytes()[..3]);
            self.buffer.push(self.sequence);
            self.sequence = self.sequence.wrapping_add(1);
            self.buffer.extend_from_slice(&rest[..length]);
            rest = &rest[length..];
            if length < FRAGMENT_MAX {
                return;
            }
        }
    }
}

/// A length-encoded integer.
pub fn put_lenenc(to: &mut Vec<u8>, value: u64) {
    match value {
        0..=250 => to.push(value as u8),
        251..=0xffff => {
            to.push(0xfc);
            to.extend_from_slice(&(value as u16).to_le_bytes());
        }
        0x1_0000..=0xff_ffff => {
            to.push(0xfd);
            to.extend_from_slice(&(value as u32).to_le_bytes()[..3]);
        }
        _ => {
            to.push(0xfe);
            to.extend_from_slice(&value.to_le_bytes());
        }
    }
}

/// A length-encoded string.
pub fn put_string(to: &mut Vec<u8>, text: &[u8]) {
    put_lenenc(to, text.len() as u64);
    to.extend_from_slice(text);
}

/// Reads fields of a payload; `None` where it ends too early.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    pub fn uint(&mut self, bytes: usize) -> Option<u64> {
        Some(
            self.take(bytes)?
                .iter()
                .rev()
                .fold(0, |v, b| v << 8 | u64::from(*b)),
        )
    }

    pub fn lenenc(&mut self) -> Option<u64> {
        match self.u8()? {
            0xfc => self.uint(2),
            0xfd => self.uint(3),
            0xfe => self.uint(8),
            small => Some(u64::from(small)),
        }
    }

    pub fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.lenenc()?;
        self.take(usize::try_from(length).ok()?)
    }

    /// Up to a NUL, which is stepped over, or to the end.
    pub fn nul(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(self.0.len());
        let text = &self.0[..end];
        self.0 = self.0.get(end + 1..).unwrap_or_default();
        text
    }
}
