//! `explain`: a balance event by event, folded again from the log and compared with what the store serves.
//!
//! The store's cell and its position are read in one reply; the subject's records are folded up to that position by
//! the code that folds live, and the two cells must be equal. A cut (`--as-of`, `--at`) ends what is shown earlier;
//! the comparison always goes up to the position that is served.

mod account;
mod customer;
mod figures;
mod follow;
mod print;
mod replay;
mod stretch;
mod trace;

use std::{collections::BTreeMap, io::Write as _, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use serde::Serialize;

use super::{Outcome, UsageError, parts};
use crate::{
    config::Config,
    decisions::{self, Amendments, Birth, Decisions, Origin},
    domain::{AccountId, Currency, CustomerId, Offset, PartitionId, Rules, Subject, Time, Topic},
    source::{Cluster, scan::Scan},
    store::{AccountRead, CustomerRead, ReadStore, Snapshot, redis::RedisStore},
};

pub use self::{
    figures::{Figures, Hold},
    stretch::Stretch,
    trace::{Balance, Move, Row},
};

/// How often a subject that is about to be folded again is looked at.
const HEALING_LOOKS_MAX: u32 = 10;

/// The command line of `explain`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Whose balance.
    #[arg(value_enum)]
    pub kind: Kind,
    /// The whole id.
    pub id: String,
    /// Only what is in this currency.
    #[arg(long, value_name = "CODE")]
    pub currency: Option<String>,
    /// As it would have been answered at this instant of RFC 3339, such as 2026-03-03T08:00:00Z.
    #[arg(long, value_name = "TIME", conflicts_with = "at")]
    pub as_of: Option<String>,
    /// As it would have been answered once this record was in the projection.
    #[arg(long, value_name = "TOPIC/PARTITION@OFFSET")]
    pub at: Option<String>,
    /// Show so many of the last records; what lies before them is the opening figure.
    #[arg(long, value_name = "RECORDS", default_value_t = 10_000)]
    pub last: usize,
    /// Read from the log's beginning, also where the account's opening says that it began later.
    #[arg(long)]
    pub whole: bool,
    /// Print JSON instead of a table.
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print the records as CSV.
    #[arg(long)]
    pub csv: bool,
}

/// What a balance belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An account.
    Account,
    /// A customer.
    Customer,
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// Whose balance.
    pub subject: Subject,
    /// Only what is in this currency.
    pub currency: Option<Currency>,
    /// Where what is shown ends.
    pub cut: Cut,
    /// How many records to show, the last ones.
    pub last: usize,
    /// Never start late.
    pub whole: bool,
    /// The instant of the question: its day is today, where there is no cut.
    pub now: Time,
}

/// Where what is shown ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Where the store stands.
    Served,
    /// Before the first record that Kafka stamped later.
    AsOf(Time),
    /// After this record; in other partitions, before the first record that Kafka stamped later than it.
    At(PartitionId, Offset),
}

/// The answer; its JSON form is stable.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// What the balance belongs to.
    pub kind: Kind,
    /// The whole id.
    pub id: String,
    /// The generation that readers are served.
    pub generation: u32,
    /// The instant for which it is told, where the question names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
    /// The day of the figures that depend on one.
    pub today: String,
    /// What was read of the log.
    pub read: Vec<Stretch>,
    /// Records that are not shown: the opening figure holds them.
    pub left_out: u64,
    /// The figures before the first record shown.
    pub opening: Vec<Balance>,
    /// Every record of the subject up to the cut, in the order in which they were folded; the ones that wait last.
    pub records: Vec<Row>,
    /// The figures at the cut.
    pub figures: Figures,
    /// Whether the log gives what the store serves.
    pub verdict: Verdict,
    /// Where it does not.
    pub differences: Vec<String>,
    /// What else a person should know.
    pub notes: Vec<String>,
}

/// Whether the log gives what the store serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Cell, quarantine and position are those of the log.
    Agrees,
    /// They are not.
    Differs,
}

/// What the store serves of a subject, in one reply with the positions.
#[derive(Debug, Clone)]
pub enum Served {
    /// An account.
    Account(AccountRead),
    /// A customer.
    Customer(CustomerRead),
}

impl Served {
    /// Reads it.
    pub async fn read(store: &impl ReadStore, subject: &Subject) -> anyhow::Result<Served> {
        let inactive = || anyhow!("no generation is active: no `project` has begun one");
        match subject {
            Subject::Account(id) => {
                let read = store.account(id).await.context("the account cannot be read from the store")?;
                Ok(Served::Account(read.ok_or_else(inactive)?))
            }
            Subject::Customer(id) => {
                let read = store.customer(id).await.context("the customer cannot be read from the store")?;
                Ok(Served::Customer(read.ok_or_else(inactive)?))
            }
        }
    }

    /// Whether the owner is about to fold the subject's records again.
    fn heals(&self) -> bool {
        let held = match self {
            Served::Account(read) => &read.quarantines,
            Served::Customer(read) => &read.quarantines,
        };
        held.iter().any(|held| held.heals)
    }

    fn snapshot(&self) -> &Snapshot {
        match self {
            Served::Account(read) => &read.snapshot,
            Served::Customer(read) => &read.snapshot,
        }
    }
}

/// Asks the store, the decisions and the log, and tells.
pub async fn run(config: Config, args: Args) -> anyhow::Result<Outcome> {
    let cluster = Cluster::new(config.kafka.clone());
    let question = args.question(&cluster)?;
    let store = RedisStore::new(&config.redis).context("redis")?;
    let (mut explanation, heals) = once(&cluster, &store, &question).await?;
    let looks = if heals && explanation.verdict != Verdict::Agrees { HEALING_LOOKS_MAX } else { 0 };
    for _ in 0..looks {
        tokio::time::sleep(Duration::from_millis(500)).await;
        // A gap that closes is folded again beside the live events: mostly it takes a moment.
        if !Served::read(&store, &question.subject).await?.heals() {
            (explanation, _) = once(&cluster, &store, &question).await?;
            break;
        }
    }
    let text = if args.json {
        serde_json::to_string_pretty(&explanation)? + "\n"
    } else if args.csv {
        // Rows alone are for a table; what is to be known besides is for who asked.
        eprint!("{}", print::verdict(&explanation));
        print::csv(&explanation)
    } else {
        print::table(&explanation)
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(match explanation.verdict {
        Verdict::Agrees => Outcome::Well,
        Verdict::Differs => Outcome::NeedsPerson,
    })
}

/// Explains; tells too whether the subject is about to be folded again.
async fn once(
    cluster: &Cluster,
    store: &RedisStore,
    question: &Question,
) -> anyhow::Result<(Explanation, bool)> {
    let served = Served::read(store, &question.subject).await?;
    let heals = served.heals();
    let (cluster, question) = (cluster.clone(), question.clone());
    // Read after the store: what it had applied by then is in the topic.
    let explained = tokio::task::spawn_blocking(move || {
        let decisions = decisions::read(&cluster).context("the decisions cannot be read")?;
        let scan = Scan::new(&cluster)?;
        explain(&cluster, &scan, &decisions, &served, &question)
    });
    Ok((explained.await.context("the explanation stopped")??, heals))
}

/// Folds a subject's records again and compares. Blocking: keep it off the asynchronous threads.
pub fn explain(
    cluster: &Cluster,
    scan: &Scan,
    decisions: &Decisions,
    served: &Served,
    question: &Question,
) -> anyhow::Result<Explanation> {
    let snapshot = served.snapshot();
    let generation = snapshot.generation;
    let birth = decisions.births.get(&generation).ok_or_else(|| {
        anyhow!(
            "the decisions topic does not tell how generation {} began: is this the topic of that deployment?",
            generation.0
        )
    })?;
    if let Origin::Seed { .. } = birth.origin {
        bail!(
            "generation {} goes on from a snapshot: what came before is not in the log, so no balance can be explained \
             from it; `rebuild compare` compares it with another generation",
            generation.0
        );
    }
    let rules = Rules::new(&birth.parameters).context("the generation's parameters")?;
    // Until then nobody is answered, and cells may be ahead of their positions.
    for (partition, position) in &snapshot.positions {
        if !position.checkpoint.complete {
            bail!(
                "generation {} is not complete: {} has not reached the log's end yet",
                generation.0,
                cluster.display(*partition)
            );
        }
    }
    let log = Log {
        cluster,
        scan,
        birth,
        rules: &rules,
        amendments: &decisions.of(birth),
        positions: snapshot.positions.iter().map(|(id, position)| (*id, position.checkpoint.next)).collect(),
    };
    let cut = log.cut(question.cut)?;
    match (served, &question.subject) {
        (Served::Account(read), Subject::Account(id)) => account::explain(&log, id, read, question, &cut),
        (Served::Customer(read), Subject::Customer(id)) => customer::explain(&log, id, read, question, &cut),
        (Served::Account(_), Subject::Customer(_)) | (Served::Customer(_), Subject::Account(_)) => {
            bail!("the store was asked for another kind of subject")
        }
    }
}

/// What every explanation rests on.
struct Log<'a> {
    cluster: &'a Cluster,
    scan: &'a Scan,
    birth: &'a Birth,
    rules: &'a Rules,
    amendments: &'a Amendments,
    /// Up to where the store has folded, per partition.
    positions: BTreeMap<PartitionId, Offset>,
}

/// Where what is shown ends, looked up.
struct Ends {
    /// `None`: where the store stands.
    time: Option<Time>,
    at: Option<(PartitionId, Offset)>,
}

impl Log<'_> {
    fn cut(&self, cut: Cut) -> anyhow::Result<Ends> {
        match cut {
            Cut::Served => Ok(Ends { time: None, at: None }),
            Cut::AsOf(time) => Ok(Ends { time: Some(time), at: None }),
            Cut::At(id, offset) => {
                let name = self.cluster.display(id);
                let (Some(start), Some(next)) = (self.birth.start(id), self.positions.get(&id).copied())
                else {
                    bail!("{name} is not part of generation {}", self.birth.generation.0);
                };
                if offset < start {
                    bail!("{name}@{offset} lies before offset {start}, where the generation begins");
                }
                if offset >= next {
                    bail!(
                        "{name} is folded up to offset {next}: {name}@{offset} is not in the projection yet"
                    );
                }
                let mut time = None;
                self.scan.read(id, offset, offset.next(), |record| {
                    time = Some(Time::from_millis(record.timestamp_ms));
                    std::ops::ControlFlow::Continue(())
                })?;
                // A marker of a transaction has no time of its own: the record before it would have one.
                let time = time.ok_or_else(|| anyhow!("there is no record at {name}@{offset}"))?;
                Ok(Ends { time: Some(time), at: Some((id, offset.next())) })
            }
        }
    }

    /// Where what is shown of a partition ends: never past where the store stands.
    fn end(&self, ends: &Ends, id: PartitionId) -> anyhow::Result<Offset> {
        let served = self.positions.get(&id).copied().unwrap_or_default();
        let end = match (ends.at, ends.time) {
            (Some((at, end)), _) if at == id => end,
            (_, Some(time)) => {
                let later = Time::from_millis(time.0.as_millisecond().saturating_add(1));
                self.scan.offset_at(id, later)?.unwrap_or(served)
            }
            (_, None) => served,
        };
        Ok(end.min(served))
    }
}

impl Args {
    /// What the command line asks.
    pub fn question(&self, cluster: &Cluster) -> Result<Question, UsageError> {
        let usage = |what: String| UsageError(what);
        let subject = match self.kind {
            Kind::Account => AccountId::parse(&self.id).map(Subject::Account),
            Kind::Customer => CustomerId::parse(&self.id).map(Subject::Customer),
        };
        let subject = subject.map_err(|error| usage(format!("the id {error}")))?;
        let currency = match &self.currency {
            Some(code) => Some(Currency::parse(code).ok_or_else(|| {
                usage(format!("--currency: {code:?} is no code of ISO 4217 in capital letters"))
            })?),
            None => None,
        };
        let cut = match (&self.as_of, &self.at) {
            (Some(text), _) => Cut::AsOf(Time::parse_rfc3339(text).ok_or_else(|| {
                usage(format!("--as-of: {text:?} is no instant of RFC 3339, such as 2026-03-03T08:00:00Z"))
            })?),
            (None, Some(text)) => {
                let (id, offset) = cluster.record_meant(text).ok_or_else(|| {
                    let [ledger, payment] = Topic::ALL.map(|topic| cluster.topic_name(topic));
                    usage(format!(
                        "--at: {text:?} is no record of {ledger} or {payment}, such as {ledger}/0@77"
                    ))
                })?;
                Cut::At(id, offset)
            }
            (None, None) => Cut::Served,
        };
        let (last, whole) = (self.last, self.whole);
        Ok(Question { subject, currency, cut, last, whole, now: parts::now() })
    }
}
