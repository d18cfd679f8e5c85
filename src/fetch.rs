//! One exchange with one address over HTTP, with bounds on everything that the other side may do.

use std::{path::Path, sync::Arc, time::Duration};

use axum::body::Body;
use http::{
    HeaderValue, Method, Request, StatusCode, Uri,
    header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT},
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::tls;

/// Asks one address. Redirects are not followed: the address is the one that was configured.
pub struct Fetcher {
    /// As in the address: an IPv6 one in brackets, and no port where it is the scheme's own.
    named: String,
    host: String,
    port: u16,
    path: String,
    /// None for `http://`.
    tls: Option<TlsConnector>,
    timeout: Duration,
}

impl Fetcher {
    /// Certificates are checked against this authority, or against the system's.
    pub fn new(address: &str, authority: Option<&Path>, timeout: Duration) -> Result<Self, String> {
        let uri: Uri = address.parse().map_err(|_| "it is no address".to_owned())?;
        let secure = uri.scheme_str() == Some("https");
        let tls = if secure {
            let config = tls::client(authority, None).map_err(|error| error.to_string())?;
            Some(TlsConnector::from(Arc::new(config)))
        } else {
            None
        };
        Ok(Fetcher {
            named: match (uri.host().unwrap_or_default(), uri.port_u16()) {
                (host, Some(port)) => format!("{host}:{port}"),
                (host, None) => host.to_owned(),
            },
            host: uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            path: uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            tls,
            timeout,
        })
    }

    /// The document, of so many bytes at most: within the time, and with status 200.
    pub async fn get(&self, accept: &'static str, bytes_max: usize) -> Result<Vec<u8>, String> {
        let mut request = Request::new(Body::empty());
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(accept));
        self.exchange(request, bytes_max).await
    }

    /// Hands a document over; what the other side says to it, by the same rules.
    pub async fn post(
        &self,
        content_type: &'static str,
        document: Vec<u8>,
        bytes_max: usize,
    ) -> Result<Vec<u8>, String> {
        let mut request = Request::new(Body::from(document));
        *request.method_mut() = Method::POST;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        self.exchange(request, bytes_max).await
    }

    async fn exchange(&self, request: Request<Body>, bytes_max: usize) -> Result<Vec<u8>, String> {
        let late = |_| format!("{} did not answer in time", self.host);
        tokio::time::timeout(self.timeout, self.connected(request, bytes_max)).await.map_err(late)?
    }

    async fn connected(&self, request: Request<Body>, bytes_max: usize) -> Result<Vec<u8>, String> {
        let fault = |error: std::io::Error| format!("{}: {error}", self.host);
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(fault)?;
        match &self.tls {
            None => self.request(stream, request, bytes_max).await,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
                self.request(tls.connect(name, stream).await.map_err(fault)?, request, bytes_max).await
            }
        }
    }

    async fn request<S>(
        &self,
        stream: S,
        mut request: Request<Body>,
        bytes_max: usize,
    ) -> Result<Vec<u8>, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", self.host);
        *request.uri_mut() = self.path.parse().map_err(|error| fault(&error))?;
        let host = HeaderValue::try_from(&self.named).map_err(|error| fault(&error))?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("balance-projector"));
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| fault(&error))?;
        // Ends with the answer: the sender is dropped.
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(|error| fault(&error));
        let document = match answer {
            Ok(answer) if answer.status() == StatusCode::OK => {
                let body = axum::body::to_bytes(Body::new(answer.into_body()), bytes_max).await;
                body.map(|bytes| bytes.to_vec()).map_err(|error| fault(&error))
            }
            Ok(answer) => Err(format!("{} answered {}", self.host, answer.status())),
            Err(error) => Err(error),
        };
        connection.abort();
        document
    }
}
