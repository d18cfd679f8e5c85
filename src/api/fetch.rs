//! One document from one address, with bounds on everything that the other side may do.

use std::{path::Path, sync::Arc, time::Duration};

use axum::body::Body;
use http::{
    Request, StatusCode, Uri,
    header::{ACCEPT, HOST, USER_AGENT},
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::jwks::DOCUMENT_BYTES_MAX;
use crate::tls;

/// Asks one address. Redirects are not followed: the address is the one that was configured.
pub struct Fetcher {
    host: String,
    port: u16,
    path: String,
    /// None for an address of this machine.
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
            host: uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            path: uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            tls,
            timeout,
        })
    }

    /// The document: within the time, with status 200, and not too long.
    pub async fn get(&self) -> Result<Vec<u8>, String> {
        let late = |_| format!("{} did not answer in time", self.host);
        tokio::time::timeout(self.timeout, self.ask()).await.map_err(late)?
    }

    async fn ask(&self) -> Result<Vec<u8>, String> {
        let fault = |error: std::io::Error| format!("{}: {error}", self.host);
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(fault)?;
        match &self.tls {
            None => self.request(stream).await,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
                self.request(tls.connect(name, stream).await.map_err(fault)?).await
            }
        }
    }

    async fn request<S>(&self, stream: S) -> Result<Vec<u8>, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", self.host);
        let request = Request::get(&self.path)
            .header(HOST, format!("{}:{}", self.host, self.port))
            .header(ACCEPT, "application/json, application/jwk-set+json")
            .header(USER_AGENT, "balance-projector")
            .body(Body::empty())
            .map_err(|error| fault(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| fault(&error))?;
        // Ends with the answer: the sender is dropped.
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(|error| fault(&error));
        let document = match answer {
            Ok(answer) if answer.status() == StatusCode::OK => {
                let body = axum::body::to_bytes(Body::new(answer.into_body()), DOCUMENT_BYTES_MAX).await;
                body.map(|bytes| bytes.to_vec()).map_err(|error| fault(&error))
            }
            Ok(answer) => Err(format!("{} answered {}", self.host, answer.status())),
            Err(error) => Err(error),
        };
        connection.abort();
        document
    }
}
