//! One request over a plain socket: nothing is added, and nothing is hidden.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// The user of view one in every generated configuration: the seed's.
pub const USER: (&str, &str) = ("ocsuser", "ocsuser");
/// The profile of view one in every generated configuration: the seed's.
pub const PROFILE: &str = "WaterField_314";
/// The token of view two in every generated configuration: the seed's.
pub const TOKEN: &str = "AbCdEf123456";
/// The API key of view two in every generated configuration: the seed's.
pub const API_KEY: &str = "00000000-1212-0f0f-a0a0-123456789abc";

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

/// A GET with these headers and no others but `Host` and `Connection`.
pub fn get(at: SocketAddr, path: &str, headers: &[(&str, &str)]) -> std::io::Result<Answer> {
    request(at, "GET", path, headers)
}

/// View one with the credentials of the generated configuration.
pub fn customer(at: SocketAddr, customer: &str) -> std::io::Result<Answer> {
    let path = format!("/api/v1/customers/{customer}/balance");
    get(
        at,
        &path,
        &[
            ("Request-Tracking-Id", "12345"),
            ("Authorization", "Basic b2NzdXNlcjpvY3N1c2Vy"),
            ("ProfileId", PROFILE),
        ],
    )
}

/// View two with the credentials of the generated configuration.
pub fn account(at: SocketAddr, account: &str) -> std::io::Result<Answer> {
    let path = format!("/my/accounts/{account}/balance");
    get(
        at,
        &path,
        &[
            ("X-Request-ID", "55d4fffc-2634-44d4-9f2b-3aa94fbd51a4"),
            ("User-Involved", "true"),
            ("API-key", API_KEY),
            ("TPP-Name", "Test"),
            ("Authorization", "Bearer AbCdEf123456"),
        ],
    )
}

/// A request without a body.
pub fn request(
    at: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> std::io::Result<Answer> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let mut socket = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    socket.write_all(text.as_bytes())?;
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| std::io::Error::other("not an answer of HTTP/1.1"))
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8(bytes.to_vec()).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(':').map(|(n, v)| (n.to_owned(), v.trim().to_owned())))
        .collect::<Option<_>>()?;
    let chunked = headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("transfer-encoding"));
    assert!(!chunked, "answers have a length: {head}");
    Some(Answer { status, headers, body: body.to_owned() })
}
