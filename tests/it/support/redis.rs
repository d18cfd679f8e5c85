//! A real Redis, and what befalls one.

use std::{process::Command, time::Duration};

use super::{
    Folder, eventually, free_port,
    process::{Process, Signal},
};

/// A Redis with a data folder and a port of its own. It keeps nothing unless told to save.
pub struct Server {
    folder: Folder,
    port: u16,
    settings: Vec<String>,
    process: Option<Process>,
}

impl Server {
    /// A server that evicts nothing.
    pub fn start() -> Self {
        Self::with(&["--maxmemory-policy", "noeviction"])
    }

    /// A server with these arguments.
    pub fn with(settings: &[&str]) -> Self {
        let settings = settings.iter().map(|&s| s.to_owned()).collect();
        let mut server = Server { folder: Folder::new("redis"), port: free_port(), settings, process: None };
        server.restart();
        server
    }

    /// Starts it again after [`Server::kill`], on the same port, with the dump that was saved last, if any.
    pub fn restart(&mut self) {
        let mut redis = Command::new("redis-server");
        redis
            .args(["--bind", "127.0.0.1", "--daemonize", "no", "--save", "", "--appendonly", "no"])
            .args(["--port", &self.port.to_string()])
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.settings);
        self.process = Some(Process::start("redis", &mut redis, &self.folder.join("redis.log")));
        eventually(Duration::from_secs(20), || {
            let mut connection = redis::Client::open(self.url())?.get_connection()?;
            redis::cmd("PING").query::<String>(&mut connection)
        });
    }

    /// `kill -9`: everything since the last save is lost.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Freezes it, or lets it go on.
    pub fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("it runs").signal(signal);
    }

    /// `redis://…`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Its port, as commands take it.
    pub fn port(&self) -> String {
        self.port.to_string()
    }

    /// A blocking connection.
    pub fn connection(&self) -> redis::Connection {
        redis::Client::open(self.url()).expect("a url").get_connection().expect("a connection")
    }

    /// One command, as `redis-cli` would send it.
    #[track_caller]
    pub fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query(&mut self.connection()).unwrap_or_else(|e| panic!("{}: {e}", words.join(" ")))
    }

    /// Writes the dump with which [`Server::restart`] begins.
    pub fn save(&self) {
        self.command::<()>(&["SAVE"]);
    }

    /// Removes the dump: [`Server::restart`] begins with nothing.
    pub fn forget(&self) {
        match std::fs::remove_file(self.folder.join("dump.rdb")) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => panic!("the dump stays: {e}"),
        }
    }
}
