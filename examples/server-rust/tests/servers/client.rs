//! As much of an HTTP client as the tests need: bytes out, status and body back.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// What a server answered; status 0 when it closed the connection without a word.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A POST.
pub fn request(port: u16, path: &str, body: &[u8]) -> Answer {
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    raw(port, &[head.as_bytes(), body].concat(), Ending::Waits)
}

/// What a client does after its last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Waits for the answer.
    Waits,
    /// Says that nothing more comes.
    HangsUp,
}

/// Sends bytes, and reads an answer: as much as it says it has, or until the server closes.
pub fn raw(port: u16, bytes: &[u8], ending: Ending) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    // Not a bound that anything is held to: a server that never answers fails the test instead of keeping it.
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    // A server that refuses need not read on: that the rest found nobody is no failure.
    let _ = stream.write_all(bytes);
    if ending == Ending::HangsUp {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let (mut all, mut part) = (Vec::new(), [0; 4096]);
    loop {
        if let Some((status, at, length)) = head(&all)
            && all.len() >= at + length
        {
            return Answer { status, body: all.split_off(at) };
        }
        match stream.read(&mut part) {
            Ok(count) if count > 0 => all.extend_from_slice(&part[..count]),
            // It may close before all was read, which resets the connection.
            _ => return Answer { status: 0, body: all },
        }
    }
}

/// Status, where the body starts, and its length, once the head is there.
fn head(all: &[u8]) -> Option<(u16, usize, usize)> {
    let at = all.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&all[..at]).to_lowercase();
    let status = text.split(' ').nth(1)?.parse().ok()?;
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    Some((status, at, length.unwrap_or(0)))
}
