//! Which server to connect to, as whom, and by which certificates.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, TlsCertificates, Value, aio::MultiplexedConnection,
    io::tcp::TcpSettings,
};

use crate::{
    config::{self, ClientTls},
    store::StoreError,
    tls,
};

/// The configured server, or the primary that sentinels know.
#[derive(Clone)]
pub(super) struct Target {
    info: ConnectionInfo,
    secure: bool,
    settings: config::Redis,
    /// Which sentinel is asked next.
    node: Arc<AtomicUsize>,
}

/// No connection.
pub(super) enum Undialled {
    /// A file that cannot be read, or sentinels that know no primary.
    Settings(String),
    /// What the client said.
    Redis(RedisError),
}

impl From<RedisError> for Undialled {
    fn from(error: RedisError) -> Self {
        Undialled::Redis(error)
    }
}

impl Target {
    /// Fails for a URL that cannot be read.
    pub(super) fn new(settings: &config::Redis) -> Result<Self, StoreError> {
        // The URL may hold a password: the error does not repeat it.
        let unreadable = |_: RedisError| StoreError::Corrupt {
            reason:
                "redis.url cannot be read; it may be redis://[user:password@]host:port/[db], or rediss://"
                    .to_owned(),
        };
        let info = settings.url.as_str().into_connection_info().map_err(unreadable)?;
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let secure = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        Ok(Target { info, secure, settings: settings.clone(), node: Arc::default() })
    }

    /// Connects to the server, or to the primary that a sentinel names.
    pub(super) async fn dial(
        &self,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, Undialled> {
        let sentinel = &self.settings.sentinel;
        let Some(primary) = &sentinel.primary else {
            return Ok(self.client(None)?.get_multiplexed_async_connection_with_config(config).await?);
        };
        let mut last = Undialled::Settings("no sentinel is configured".to_owned());
        for _ in &sentinel.nodes {
            // Moved on before it answers: whoever dials again after giving up begins with the next one.
            let at = self.node.fetch_add(1, Ordering::Relaxed);
            let at = at.checked_rem(sentinel.nodes.len()).unwrap_or_default();
            let Some(node) = sentinel.nodes.get(at) else { break };
            match self.by_sentinel(node, primary, config).await {
                Ok(connection) => {
                    self.node.store(at, Ordering::Relaxed);
                    return Ok(connection);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A sentinel may be the last to learn of a fail-over: the server itself must say that it is a primary.
    async fn by_sentinel(
        &self,
        node: &str,
        primary: &str,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, Undialled> {
        let (host, port) = host_and_port(node)?;
        let sentinel = self.sentinel(host, port)?;
        let mut sentinel = sentinel.get_multiplexed_async_connection_with_config(config).await?;
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(primary);
        let named: Option<(String, u16)> = ask.query_async(&mut sentinel).await?;
        let unknown = || Undialled::Settings(format!("the sentinel at {node} knows no primary {primary}"));
        let at = named.ok_or_else(unknown)?;
        let client = self.client(Some(at.clone()))?;
        let mut connection = client.get_multiplexed_async_connection_with_config(config).await?;
        let role: Vec<Value> = redis::cmd("ROLE").query_async(&mut connection).await?;
        match role.first() {
            Some(Value::BulkString(role)) if role == b"master" => Ok(connection),
            Some(_) | None => {
                Err(Undialled::Settings(format!("{}:{}, which a sentinel names, is no primary", at.0, at.1)))
            }
        }
    }

    /// A client of the server at this address, or of the configured one, with passwords and certificates as
    /// they are now.
    pub(super) fn client(&self, at: Option<(String, u16)>) -> Result<Client, Undialled> {
        let mut user = self.info.redis_settings().clone();
        if let Some(file) = &self.settings.password_file {
            user = user.set_password(tls::read_password(file).map_err(settings)?);
        }
        self.with(at, user)
    }

    fn sentinel(&self, host: String, port: u16) -> Result<Client, Undialled> {
        let mut user = RedisConnectionInfo::default();
        if let Some(name) = &self.settings.sentinel.username {
            user = user.set_username(name);
        }
        if let Some(file) = &self.settings.sentinel.password_file {
            user = user.set_password(tls::read_password(file).map_err(settings)?);
        }
        self.with(Some((host, port)), user)
    }

    fn with(&self, at: Option<(String, u16)>, user: RedisConnectionInfo) -> Result<Client, Undialled> {
        let mut info = self.info.clone().set_redis_settings(user);
        if let Some((host, port)) = at {
            info = info.set_addr(if self.secure {
                ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
            } else {
                ConnectionAddr::Tcp(host, port)
            });
        }
        if !self.secure {
            return Ok(Client::open(info)?);
        }
        let ClientTls { ca_file, certificate_file, key_file } = &self.settings.tls;
        let client_tls = match (certificate_file, key_file) {
            (Some(certificate), Some(key)) => Some(ClientTlsConfig {
                client_cert: read(certificate)?,
                client_key: tls::read_secret(key).map_err(settings)?,
            }),
            _ => None,
        };
        let root_cert = ca_file.as_deref().map(read).transpose()?;
        Ok(Client::build_with_tls(info, TlsCertificates { client_tls, root_cert })?)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "an error is handed over")]
fn settings(error: tls::TlsError) -> Undialled {
    Undialled::Settings(error.to_string())
}

fn read(path: &Path) -> Result<Vec<u8>, Undialled> {
    fs::read(path).map_err(|error| Undialled::Settings(format!("{}: {error}", path.display())))
}

fn host_and_port(node: &str) -> Result<(String, u16), Undialled> {
    let parts = node.trim().rsplit_once(':');
    let parts = parts.and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
    parts.ok_or_else(|| Undialled::Settings(format!("{node} is not host:port")))
}
