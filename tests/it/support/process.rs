//! Child processes that cannot outlive the test binary, however it ends.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, kill_process};

/// A process of the test's own; killed when dropped.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    reaped: Option<ExitStatus>,
}

/// What is sent with [`Process::signal`].
#[derive(Debug, Clone, Copy)]
pub enum Signal {
    /// Ask it to end in order.
    Term,
    /// Have it read its configuration again.
    Hangup,
    /// Freeze it.
    Stop,
    /// Let it go on.
    Cont,
    /// End it at once.
    Kill,
}

impl Process {
    /// Starts it, with standard error (and output, unless the command says otherwise) appended to the log.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let file = || File::options().create(true).append(true).open(log).expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file())
            .stderr(file())
            .spawn()
            .unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        watchdog(&format!("+ {}", child.id())).expect("the watchdog reads");
        Process { name: name.to_owned(), child, log: log.to_owned(), reaped: None }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by process id.
    pub fn signal(&self, signal: Signal) {
        assert!(self.reaped.is_none(), "{} has ended: its process id may be another's by now", self.name);
        let number = match signal {
            Signal::Term => rustix::process::Signal::TERM,
            Signal::Hangup => rustix::process::Signal::HUP,
            Signal::Stop => rustix::process::Signal::STOP,
            Signal::Cont => rustix::process::Signal::CONT,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        let sent = kill_process(Pid::from_child(&self.child), number);
        assert!(sent.is_ok(), "{} (process {}) takes no {signal:?}: {sent:?}", self.name, self.id());
    }

    /// Whether it still runs, frozen or not.
    pub fn runs(&mut self) -> bool {
        self.ended().is_none()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.reaped.is_none() {
            self.reaped = self.child.try_wait().expect("wait");
            if self.reaped.is_some() {
                watchdog(&format!("- {}", self.id())).expect("the watchdog reads");
            }
        }
        self.reaped
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < deadline, "{} still runs after {within:?}\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        if self.runs() {
            self.signal(Signal::Kill);
            self.wait(Duration::from_secs(10));
        }
    }

    /// The same where nothing may be asserted any more.
    fn kill_quietly(&mut self) {
        if self.reaped.is_some() {
            return;
        }
        drop(self.child.kill());
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                Ok(Some(_)) => {
                    drop(watchdog(&format!("- {}", self.id())));
                    return;
                }
                Err(_) => return,
            }
        }
    }

    /// All that it wrote so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.char_indices().rev().nth(12_000).map_or(0, |(at, _)| at);
            eprintln!("---- log of {} (its end)\n{}", self.name, &log[from..]);
            // A panic while another one unwinds would end the whole test binary.
            self.kill_quietly();
        } else {
            self.kill();
        }
    }
}

/// Removes the folder when the test process has ended.
pub fn remove_at_end(folder: &Path) {
    watchdog(&format!("d {}", folder.display())).expect("the watchdog reads");
}

/// Tells the watchdog, a shell that reads a pipe which ends when this process does, even by kill -9. It then
/// kills what still runs. One for all children: the shared broker has no owner that is ever dropped.
fn watchdog(line: &str) -> std::io::Result<()> {
    static PIPE: OnceLock<Mutex<ChildStdin>> = OnceLock::new();
    const SCRIPT: &str = r#"
        trap '' INT TERM HUP
        pids=' ' folders=
        while read -r word rest; do
            case "$word" in
                +) pids="$pids$rest " ;;
                -) pids="${pids%% $rest *} ${pids#* $rest }" ;;
                d) folders="$rest" ;;
            esac
        done
        for pid in $pids; do kill -KILL "$pid" 2>/dev/null; done
        sleep 0.2
        [ -z "$folders" ] || rm -rf "$folders"
    "#;
    let pipe = PIPE.get_or_init(|| {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        Mutex::new(shell.stdin.take().expect("its pipe"))
    });
    let mut pipe = pipe.lock().unwrap_or_else(PoisonError::into_inner);
    writeln!(pipe, "{line}")
}
