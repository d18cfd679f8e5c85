//! `generate`: seeded synthetic events, one a line, as fast as a pipe takes them.

mod random;
mod stream;
mod write;

use std::io::{ErrorKind, Write};

use jiff::{SignedDuration, Timestamp};

use super::{Outcome, UsageError};
use crate::domain::{Currency, CustomerId};

pub use stream::Generator;

/// The command line of `generate`.
///
/// Every event holds to the contract and folds without a dead letter, in the order of the lines and with an
/// event window of 32 or more; poison apart. One stream fills one pair of topics: another one with the same
/// accounts needs another `--prefix`, or its entries are repeats with other facts.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The same seed and flags give the same bytes.
    #[arg(long, default_value_t = Args::DEFAULT.seed)]
    pub seed: u64,
    /// How many lines, repeats included; the history and poison are not counted here.
    #[arg(long, default_value_t = Args::DEFAULT.events)]
    pub events: u64,
    /// How many accounts.
    #[arg(long, default_value_t = Args::DEFAULT.accounts, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub accounts: u32,
    /// How many customers; an account belongs to one of them.
    #[arg(long, default_value_t = Args::DEFAULT.customers, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub customers: u32,
    /// The currencies of the accounts: each customer has one, every fifth account a second one.
    #[arg(long, value_delimiter = ',', default_value = "CZK,EUR,USD", value_name = "CODES")]
    pub currencies: Vec<String>,
    /// How many events every account and every customer has before the stream proper: 100 fill the windows.
    #[arg(long, default_value_t = Args::DEFAULT.history, value_name = "EVENTS")]
    pub history: u32,
    /// How many accounts are hot.
    #[arg(long, default_value_t = Args::DEFAULT.hot_accounts, value_name = "ACCOUNTS")]
    pub hot_accounts: u32,
    /// The share of the accounts' events that the hot ones get.
    #[arg(long, default_value_t = Args::DEFAULT.hot_share, value_parser = percent(), value_name = "PERCENT")]
    pub hot_share: u64,
    /// The share of customers' events: payments, their reversals, profiles.
    #[arg(long, default_value_t = Args::DEFAULT.payments, value_parser = percent(), value_name = "PERCENT")]
    pub payments: u64,
    /// The share of lines that repeat a recent event, byte by byte.
    #[arg(long, default_value_t = Args::DEFAULT.duplicates, value_parser = percent(), value_name = "PERCENT")]
    pub duplicates: u64,
    /// The share of events with an older `time` than the one before of their subject.
    #[arg(long, default_value_t = Args::DEFAULT.late, value_parser = percent(), value_name = "PERCENT")]
    pub late: u64,
    /// The share of entries, and of payments, that take back the one before.
    #[arg(long, default_value_t = Args::DEFAULT.reversals, value_parser = percent(), value_name = "PERCENT")]
    pub reversals: u64,
    /// The share of entries that are pending first.
    #[arg(long, default_value_t = Args::DEFAULT.pending, value_parser = percent(), value_name = "PERCENT")]
    pub pending: u64,
    /// How many pending entries an account has at most.
    #[arg(long, default_value_t = Args::DEFAULT.pending_max, value_parser = clap::value_parser!(u32).range(1..=250), value_name = "ENTRIES")]
    pub pending_max: u32,
    /// The share of accounts' events that close the account; its next one opens it again.
    #[arg(long, default_value_t = Args::DEFAULT.closures, value_parser = percent(), value_name = "PERCENT")]
    pub closures: u64,
    /// Number the events of each subject (`sequence`).
    #[arg(long)]
    pub numbered: bool,
    /// How many records that become dead letters, spread over the stream and taking turns by class; `publish`
    /// sends such lines with `--raw` only.
    #[arg(long, default_value_t = Args::DEFAULT.poison, value_name = "COUNT")]
    pub poison: u64,
    /// What every account and customer id begins with.
    #[arg(long, default_value = "")]
    pub prefix: String,
    /// The `time` of the first event.
    #[arg(long, default_value_t = Args::DEFAULT.start, value_name = "INSTANT")]
    pub start: Timestamp,
    /// Over how many days the events' times spread.
    #[arg(long, default_value_t = Args::DEFAULT.span_days, value_parser = clap::value_parser!(u32).range(1..=3_650), value_name = "DAYS")]
    pub span_days: u32,
}

/// 0000-01-01T00:00:00Z: a year has four digits.
const FIRST: Timestamp = Timestamp::constant(-62_167_219_200, 0);

fn percent() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(0..=100)
}

impl Args {
    /// The defaults, without currencies: see [`Args::default`].
    const DEFAULT: Args = Args {
        seed: 1,
        events: 10_000,
        accounts: 1_000,
        customers: 500,
        currencies: Vec::new(),
        history: 0,
        hot_accounts: 0,
        hot_share: 50,
        payments: 20,
        duplicates: 1,
        late: 2,
        reversals: 2,
        pending: 20,
        pending_max: 4,
        closures: 0,
        numbered: false,
        poison: 0,
        prefix: String::new(),
        // 2025-01-01T00:00:00Z: fixed, so that the same seed gives the same bytes tomorrow.
        start: Timestamp::constant(1_735_689_600, 0),
        span_days: 30,
    };
}

impl Default for Args {
    fn default() -> Self {
        Args { currencies: ["CZK", "EUR", "USD"].map(str::to_owned).to_vec(), ..Args::DEFAULT }
    }
}

/// Writes every line to standard output; ends quietly where nobody reads on.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let generator = Generator::new(args)?;
    match write_all(generator, &mut std::io::stdout().lock()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(Outcome::Well),
        written => Ok(written.map(|()| Outcome::Well)?),
    }
}

fn write_all(mut generator: Generator, out: &mut impl Write) -> std::io::Result<()> {
    const CHUNK_BYTES: usize = 1 << 16;
    let mut chunk = Vec::with_capacity(CHUNK_BYTES.saturating_mul(2));
    while generator.next_line(&mut chunk) {
        chunk.push(b'\n');
        if chunk.len() >= CHUNK_BYTES {
            out.write_all(&chunk)?;
            chunk.clear();
        }
    }
    out.write_all(&chunk)?;
    out.flush()
}

/// What the flags say together, checked.
fn check(args: &Args) -> Result<Vec<Currency>, UsageError> {
    let usage = |text: String| Err(UsageError(text));
    let mut currencies = Vec::new();
    for code in &args.currencies {
        let Some(currency) = Currency::parse(code) else {
            return usage(format!("--currencies: {code:?} is no code of ISO 4217 with a minor unit"));
        };
        if currencies.contains(&currency) {
            return usage(format!("--currencies: {code} stands twice"));
        }
        currencies.push(currency);
    }
    if currencies.is_empty() {
        return usage("--currencies: name one or more".to_owned());
    }
    if args.hot_accounts > args.accounts {
        return usage(format!(
            "--hot-accounts: {} are more than --accounts {}",
            args.hot_accounts, args.accounts
        ));
    }
    let span =
        SignedDuration::from_hours(24).saturating_mul(i32::try_from(args.span_days).unwrap_or(i32::MAX));
    if args.start < FIRST || args.start.checked_add(span).is_err() {
        return usage("--start: the years of events go from 0000 to 9999".to_owned());
    }
    if args.prefix.len() > 32 || CustomerId::parse(&format!("{}x", args.prefix)).is_err() {
        return usage("--prefix: may be up to 32 characters of A-Z, a-z, 0-9, '.', '_' and '-'".to_owned());
    }
    Ok(currencies)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, VecDeque};

    use serde_json::Value;

    use super::*;
    use crate::{
        domain::{
            Cell, FOLD_VERSION, FingerprintKey, Ignored, Offset, Outcome, Parameters, PartitionId, RecordAt,
            Rules, Subject, Time, Topic, fold,
        },
        wire::{self, Record},
    };

    fn lines(args: &Args) -> Vec<String> {
        let mut out = Vec::new();
        write_all(Generator::new(args).unwrap(), &mut out).unwrap();
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    fn events(args: &Args) -> Vec<Value> {
        lines(args).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn text<'a>(event: &'a Value, member: &str) -> &'a str {
        event[member].as_str().unwrap_or_default()
    }

    fn everything() -> Args {
        Args {
            events: 20_000,
            accounts: 40,
            customers: 20,
            duplicates: 5,
            late: 10,
            reversals: 10,
            closures: 1,
            ..Args::default()
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_one_others() {
        let one = lines(&everything());
        assert_eq!(one, lines(&everything()));
        assert_ne!(one, lines(&Args { seed: 2, ..everything() }));
    }

    #[test]
    fn the_bytes_of_a_seed_do_not_change_from_build_to_build() {
        let small = Args { events: 1_000, accounts: 20, customers: 10, ..Args::default() };
        let mixed = Args { duplicates: 5, late: 10, reversals: 10, closures: 1, poison: 8, ..small.clone() };
        let numbered = Args {
            numbered: true,
            history: 3,
            hot_accounts: 2,
            prefix: "t-".to_owned(),
            currencies: ["JPY", "KWD"].map(str::to_owned).to_vec(),
            ..small
        };
        let rows = [
            (mixed, "bf065b34db4a3b5e68495a0a1d0360e3da581e711528c60867256706f08df8d7"),
            (numbered, "dc8b82a06b03b299fd9a890c693eea575d6724e7262bd12795d3f62000d48998"),
        ];
        for (args, digest) in rows {
            let mut out = Vec::new();
            write_all(Generator::new(&args).unwrap(), &mut out).unwrap();
            assert_eq!(crate::ops::hash_password::sha256(std::str::from_utf8(&out).unwrap()), digest);
        }
    }

    #[test]
    fn there_are_as_many_lines_as_asked_for() {
        let args =
            Args { events: 1_000, history: 7, accounts: 10, customers: 5, poison: 33, ..Args::default() };
        assert_eq!(lines(&args).len(), 1_000 + 7 * 15 + 33);
        assert_eq!(Generator::new(&args).unwrap().lines(), 1_138);
        assert_eq!(lines(&Args { events: 0, ..Args::default() }).len(), 0);
        assert_eq!(lines(&Args { events: 0, poison: 8, ..Args::default() }).len(), 8);
    }

    #[test]
    fn a_history_comes_first_and_gives_every_subject_as_many_events() {
        let args = Args { events: 0, history: 9, accounts: 10, customers: 5, ..Args::default() };
        let mut counts = BTreeMap::new();
        for event in events(&args) {
            *counts.entry(text(&event, "subject").to_owned()).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 15);
        assert!(counts.values().all(|count| *count == 9), "{counts:?}");
    }

    #[test]
    fn every_type_of_event_comes() {
        let types: BTreeSet<String> =
            events(&everything()).iter().map(|e| text(e, "type").to_owned()).collect();
        let expected = [
            "customer.profile.set.v1",
            "ledger.account.closed.v1",
            "ledger.account.opened.v1",
            "ledger.balance.stated.v1",
            "ledger.credit_line.set.v1",
            "ledger.entry.booked.v1",
            "ledger.entry.pending.v1",
            "ledger.entry.released.v1",
            "payment.reversed.v1",
            "payment.settled.v1",
        ];
        assert_eq!(types, expected.map(str::to_owned).into());
    }

    /// The contract's rule for events without numbers, told anew: 32 ids are remembered per subject; what is
    /// not after the newest forgotten time is unverifiable.
    #[test]
    fn no_event_is_unverifiable_and_repeats_are_within_the_window() {
        let mut subjects: BTreeMap<String, (VecDeque<(String, String)>, String)> = BTreeMap::new();
        let (mut repeats, mut late) = (0, 0);
        for event in events(&everything()) {
            let (window, forgotten) = subjects.entry(text(&event, "subject").to_owned()).or_default();
            let (id, time) = (text(&event, "id").to_owned(), text(&event, "time").to_owned());
            if window.iter().any(|(known, _)| *known == id) {
                repeats += 1;
                continue;
            }
            assert!(time > *forgotten, "{time} is not after {forgotten}");
            late += usize::from(window.iter().any(|(_, t)| *t > time));
            window.push_back((id, time));
            if window.len() > 32 {
                let (_, time) = window.pop_front().unwrap();
                *forgotten = time.max(forgotten.clone());
            }
        }
        // 5 % and 10 % of 20,000; an event that cannot be late is not.
        assert!((900..=1_100).contains(&repeats), "{repeats} repeats");
        assert!((1_000..=2_200).contains(&late), "{late} late events");
    }

    /// Folds the lines in order; tells how statements compared, and how many repeats there were.
    fn folded(args: &Args) -> (BTreeMap<String, u32>, u32) {
        let parameters = Parameters {
            fold_version: FOLD_VERSION,
            zone: "Europe/Prague".to_owned(),
            event_window: 32,
            types_ignored: Vec::new(),
            value_bytes_max: 1 << 20,
            depth_max: 64,
            fingerprint_key: FingerprintKey([7; 16]),
        };
        let rules = Rules::new(&parameters).unwrap();
        let mut cells: BTreeMap<Subject, Option<Cell>> = BTreeMap::new();
        let (mut statements, mut repeats) = (BTreeMap::new(), 0_u32);
        for (offset, line) in (0..).zip(lines(args)) {
            let head: Value = serde_json::from_str(&line).unwrap();
            let (timestamp, offset) = (Time::from_millis(1_790_000_000_000), Offset(offset));
            let topic =
                if text(&head, "type").starts_with("ledger.") { Topic::Ledger } else { Topic::Payment };
            let record = Record {
                topic,
                offset,
                timestamp,
                key: Some(text(&head, "subject").as_bytes()),
                value: Some(line.as_bytes()),
                headers: &[("content-type", Some(wire::STRUCTURED.as_bytes()))],
            };
            let event = wire::decode(&record, &parameters).unwrap();
            let cell = cells.entry(event.fact.subject()).or_default();
            let at = RecordAt { partition: PartitionId { topic, partition: 0 }, offset, timestamp };
            let effect = fold(cell, &event, &at, None, &rules).unwrap_or_else(|e| panic!("{e}: {line}"));
            if let Some(compared) = effect.compared {
                let count = statements.entry(format!("{compared:?}")).or_insert(0_u32);
                *count = count.checked_add(1).unwrap();
            }
            repeats = repeats
                .checked_add(u32::from(effect.outcome == Outcome::Ignored(Ignored::Duplicate)))
                .unwrap();
        }
        (statements, repeats)
    }

    #[test]
    fn every_event_folds_and_statements_agree() {
        let full = Args {
            events: 2_000,
            history: 200,
            accounts: 10,
            customers: 5,
            pending_max: 200,
            ..everything()
        };
        let rows = [
            everything(),
            Args { numbered: true, ..everything() },
            Args { hot_accounts: 1, hot_share: 90, late: 50, ..everything() },
            Args { pending: 70, ..full },
        ];
        for args in rows {
            let (statements, repeats) = folded(&args);
            assert_eq!(statements.get("Drifts"), None, "{args:?}");
            assert!(statements["Agrees"] > 10 && statements["Opened"] > 0, "{statements:?} {args:?}");
            assert!(repeats > 50, "{repeats} repeats {args:?}");
        }
    }

    #[test]
    fn numbers_rise_by_one_per_subject() {
        let args = Args { numbered: true, duplicates: 0, ..everything() };
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for event in events(&args) {
            let number = last.entry(text(&event, "subject").to_owned()).or_default();
            *number = number.checked_add(1).unwrap();
            assert_eq!(text(&event, "sequence"), number.to_string());
        }
    }

    #[test]
    fn poison_that_can_be_read_uses_up_a_number() {
        let args = Args { numbered: true, duplicates: 0, poison: 80, late: 50, payments: 95, ..everything() };
        let mut used = BTreeSet::new();
        let mut poison = 0;
        let all = lines(&args);
        assert!(all[..3].iter().all(|line| line.contains("customer_id")), "no account has begun at first");
        for line in all {
            let mut event: Value = serde_json::from_str(&line).unwrap();
            if let Some(raw) = event.get("raw") {
                // Neither a tombstone, nor cut off; and under the key of its own subject.
                let Some(Ok(value)) = raw["value"].as_str().map(serde_json::from_str::<Value>) else {
                    continue;
                };
                if raw["key"] != value["subject"] {
                    continue;
                }
                poison += 1;
                event = value;
            }
            assert!(text(&event, "time").starts_with("2025-"), "{event}");
            let number = (text(&event, "subject").to_owned(), text(&event, "sequence").to_owned());
            assert!(used.insert(number), "twice: {event}");
        }
        assert_eq!(poison, 40, "four of eight kinds");
    }

    #[test]
    fn hot_accounts_get_their_share() {
        let args = Args {
            accounts: 1_000,
            hot_accounts: 2,
            hot_share: 50,
            payments: 0,
            duplicates: 0,
            ..everything()
        };
        let hot = events(&args)
            .iter()
            .filter(|e| matches!(text(e, "subject"), "CZ0000000000" | "CZ0000000001"))
            .count();
        assert!((9_500..=10_500).contains(&hot), "{hot} of 20,000");
    }

    #[test]
    fn an_event_has_about_300_bytes() {
        let args = Args { events: 20_000, accounts: 2_000, customers: 1_000, ..Args::default() };
        let bytes: usize = lines(&args).iter().map(String::len).sum();
        assert!((5_600_000..=6_800_000).contains(&bytes), "{bytes} bytes in 20,000 lines");
    }

    #[test]
    fn wrong_flags_are_refused_by_name() {
        let rows = [
            (Args { currencies: vec!["CZX".to_owned()], ..Args::default() }, "--currencies"),
            (Args { currencies: vec![], ..Args::default() }, "--currencies"),
            (Args { hot_accounts: 1_001, ..Args::default() }, "--hot-accounts"),
            (Args { prefix: "a/b".to_owned(), ..Args::default() }, "--prefix"),
            (Args { start: "-000001-12-31T23:59:59Z".parse().unwrap(), ..Args::default() }, "--start"),
            (Args { start: "9999-12-01T00:00:00Z".parse().unwrap(), ..Args::default() }, "--start"),
            (Args { events: u64::MAX, history: 1, ..Args::default() }, "--events"),
            (Args { events: 1 << 50, ..Args::default() }, "--span-days"),
        ];
        for (args, flag) in rows {
            let error = Generator::new(&args).err().unwrap().to_string();
            assert!(error.starts_with(flag), "{error}");
        }
    }
}
