//! The fold of an event into a cell.

use jiff::tz::TimeZone;

use super::{
    Account, AccountFact, Class, Customer, CustomerFact, Event, Fact, FingerprintKey, Offset, Parameters,
    RecordAt, Rejection, Subject,
};

/// One unit of the projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// An account: all its currencies, and who owes on it.
    Account(Box<Account>),
    /// A customer: profile and payments.
    Customer(Box<Customer>),
}

/// The bytes are not a cell of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a cell of this version: {0}")]
pub struct CellError(pub String);

/// What an event did to its cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Whether it was applied.
    pub outcome: Outcome,
    /// What it did to what customers owe on the account.
    pub dues: Dues,
    /// How a statement compared, for the counters.
    pub compared: Option<Compared>,
}

/// What became of what customers owe on an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dues {
    /// Nothing.
    Same,
    /// Amounts changed.
    Changed,
    /// A customer is new to the account.
    Opened,
}

/// Whether an event was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The cell changed, besides its `applied`.
    Applied,
    /// The cell's figures stand.
    Ignored(Ignored),
}

/// Why an event changed no figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// It lies below the cell's `applied`: folded before. The cell is unchanged altogether.
    Replayed,
    /// A repeat: its event, number, entry or payment is known already.
    Duplicate,
    /// A pending or released whose entry has ended, or a reversal of a payment already reversed.
    WithoutEffect,
    /// Of a type that the generation ignores.
    Type,
}

/// In which way an event is folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Manner {
    /// As the log has it.
    AsItStands,
    /// As new, though it cannot be told from a repeat; and though numbers before its own are missing, which
    /// are given up.
    AsNew,
    /// Before records that come first in the log, because it bears the number for which they wait: `applied`
    /// stays where it is. Met again in its place, it is a repeat.
    Early,
}

/// How a later statement compared with the projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compared {
    /// It became the opening balance.
    Opened,
    /// Equal.
    Agrees,
    /// Not equal: drift.
    Drifts,
    /// Not comparable, or of a type that is only counted.
    Counted,
}

/// The pinned parameters as the fold uses them, resolved once.
#[derive(Debug, Clone)]
pub struct Rules {
    zone: TimeZone,
    pub(super) event_window: usize,
    pub(super) key: FingerprintKey,
}

/// The pinned parameters cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// The zone is not in the bundled database.
    #[error("`{0}` is not an IANA time zone, such as Europe/Prague")]
    Zone(String),
    /// The window is empty or too wide.
    #[error("an event window of {0} is not within 1 to 1024")]
    Window(usize),
}

impl Rules {
    /// Resolves the zone and checks the window.
    pub fn new(parameters: &Parameters) -> Result<Self, RulesError> {
        let zone = TimeZone::get(&parameters.zone).map_err(|_| RulesError::Zone(parameters.zone.clone()))?;
        let event_window = parameters.event_window;
        if !(1..=1024).contains(&event_window) {
            return Err(RulesError::Window(event_window));
        }
        Ok(Rules { zone, event_window, key: parameters.fingerprint_key })
    }

    /// The zone of days.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }
}

/// Folds an event into its cell (`None` before the subject's first event).
///
/// `home` is the partition that the decisions record as the subject's, where they do. On `Err` the cell is
/// unchanged. On `Ok` the cell is `Some`, with `applied` after the record.
pub fn fold(
    cell: &mut Option<Cell>,
    event: &Event,
    at: &RecordAt,
    home: Option<i32>,
    rules: &Rules,
) -> Result<Effect, Rejection> {
    fold_in(cell, event, at, home, rules, Manner::AsItStands)
}

/// [`fold`] in another manner than as the log has it.
pub fn fold_in(
    cell: &mut Option<Cell>,
    event: &Event,
    at: &RecordAt,
    home: Option<i32>,
    rules: &Rules,
    manner: Manner,
) -> Result<Effect, Rejection> {
    let here = at.partition.partition;
    // Offsets of two partitions do not compare, so this comes before everything that looks at `applied`.
    if let Some(elsewhere) =
        [home, cell.as_ref().map(Cell::home)].into_iter().flatten().find(|home| *home != here)
    {
        let message = format!(
            "key: the subject lives in partition {elsewhere} of this topic, where its first event was folded; \
             all publishers of a topic use one partitioner"
        );
        return Err(Rejection::new(Class::Moved, message));
    }
    let ignored = matches!(
        event.fact,
        Fact::Account(_, AccountFact::Ignored) | Fact::Customer(_, CustomerFact::Ignored)
    );
    if ignored && event.sequence.is_none() {
        // Nothing of it is remembered: a subject of which nothing else is known stays unknown.
        if let Some(cell) = cell {
            if at.offset < cell.applied() {
                return Ok(Effect::ignored(Ignored::Replayed));
            }
            if manner != Manner::Early {
                cell.set_applied(at.offset.next());
            }
        }
        return Ok(Effect::ignored(Ignored::Type));
    }
    let before = cell.as_ref().map_or(Offset(0), Cell::applied);
    let effect = fold_here(cell, event, at, rules, manner)?;
    if let (Manner::Early, Some(cell)) = (manner, cell) {
        cell.set_applied(before);
    }
    Ok(effect)
}

fn fold_here(
    cell: &mut Option<Cell>,
    event: &Event,
    at: &RecordAt,
    rules: &Rules,
    manner: Manner,
) -> Result<Effect, Rejection> {
    let here = at.partition.partition;
    match (&event.fact, cell.as_mut()) {
        (Fact::Account(_, fact), Some(Cell::Account(account))) => {
            account.fold(event, fact, at, rules, manner)
        }
        (Fact::Customer(_, fact), Some(Cell::Customer(customer))) => {
            customer.fold(event, fact, at, rules, manner)
        }
        (Fact::Account(_, fact), None) => {
            let mut account = Box::new(Account::born(here));
            let effect = account.fold(event, fact, at, rules, manner)?;
            *cell = Some(Cell::Account(account));
            Ok(effect)
        }
        (Fact::Customer(_, fact), None) => {
            let mut customer = Box::new(Customer::born(here));
            let effect = customer.fold(event, fact, at, rules, manner)?;
            *cell = Some(Cell::Customer(customer));
            Ok(effect)
        }
        (Fact::Account(..), Some(Cell::Customer(_))) | (Fact::Customer(..), Some(Cell::Account(_))) => {
            Err(Rejection::new(Class::KeyNotSubject, "key: the cell is of the other kind of subject"))
        }
    }
}

/// Passes over a record: nothing of it is folded. The number of one that can be read is used up; after one that
/// cannot, each source of the subject may go on at any higher number, once.
///
/// Does nothing for a subject that lives elsewhere, and for a record below `applied`.
pub fn pass_over(
    cell: &mut Option<Cell>,
    subject: &Subject,
    event: Option<&Event>,
    at: &RecordAt,
    home: Option<i32>,
    rules: &Rules,
) {
    let here = at.partition.partition;
    let mut homes = [home, cell.as_ref().map(Cell::home)].into_iter().flatten();
    if homes.any(|home| home != here) || cell.as_ref().is_some_and(|cell| at.offset < cell.applied()) {
        return;
    }
    let leaves_a_trace = event.is_none_or(|event| event.sequence.is_some());
    if cell.is_none() && leaves_a_trace {
        *cell = Some(match subject {
            Subject::Account(_) => Cell::Account(Box::new(Account::born(here))),
            Subject::Customer(_) => Cell::Customer(Box::new(Customer::born(here))),
        });
    }
    let Some(cell) = cell else { return };
    let seen = match cell {
        Cell::Account(account) => account.seen_mut(),
        Cell::Customer(customer) => customer.seen_mut(),
    };
    match event {
        Some(event) => seen.pass_over(event, rules.key),
        None => seen.pass_over_unreadable(),
    }
    cell.set_applied(at.offset.next());
}

/// The number that is due from an event's source for its subject, whose cell this is.
pub fn number_due(cell: Option<&Cell>, event: &Event, rules: &Rules) -> u64 {
    match cell {
        Some(Cell::Account(account)) => account.seen().due(event, rules.key),
        Some(Cell::Customer(customer)) => customer.seen().due(event, rules.key),
        None => 1,
    }
}

impl Effect {
    pub(super) const fn applied() -> Self {
        Effect { outcome: Outcome::Applied, dues: Dues::Same, compared: None }
    }

    pub(super) const fn ignored(why: Ignored) -> Self {
        Effect { outcome: Outcome::Ignored(why), dues: Dues::Same, compared: None }
    }
}

/// Cells that are fetched from memory together, before they are used: few enough to stay in the processor's cache.
pub const PREFETCHED: usize = 64;

/// Reads a little of every part of these cells. They lie scattered in memory, and whoever uses them waits for each in
/// turn: here one does not wait for the other.
pub fn prefetch<'c>(cells: impl Iterator<Item = &'c Cell> + Clone) {
    // Its parts are found only once the cell is there itself.
    std::hint::black_box(cells.clone().fold(0, |sum: i32, cell| sum.wrapping_add(cell.home())));
    std::hint::black_box(cells.fold(0, |sum: usize, cell| sum.wrapping_add(cell.prefetch())));
}

impl Cell {
    /// The packed, versioned form.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        self.encode_into(&mut bytes);
        bytes
    }
    /// Appends the packed, versioned form.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Cell::Account(account) => account.encode_into(out),
            Cell::Customer(customer) => customer.encode_into(out),
        }
    }
    /// Reads the packed form of a subject's cell.
    pub fn decode(subject: &Subject, bytes: &[u8]) -> Result<Self, CellError> {
        Ok(match subject {
            Subject::Account(_) => Cell::Account(Box::new(Account::decode(bytes)?)),
            Subject::Customer(_) => Cell::Customer(Box::new(Customer::decode(bytes)?)),
        })
    }
    /// Reads the packed form of an account's cell.
    pub fn decode_account(bytes: &[u8]) -> Result<Account, CellError> {
        Account::decode(bytes)
    }
    /// Reads the packed form of a customer's cell.
    pub fn decode_customer(bytes: &[u8]) -> Result<Customer, CellError> {
        Customer::decode(bytes)
    }
    /// The offset after its last folded record.
    pub fn applied(&self) -> Offset {
        match self {
            Cell::Account(account) => account.applied(),
            Cell::Customer(customer) => customer.applied(),
        }
    }
    fn set_applied(&mut self, applied: Offset) {
        match self {
            Cell::Account(account) => account.set_applied(applied),
            Cell::Customer(customer) => customer.set_applied(applied),
        }
    }
    /// The partition that the subject lives in.
    pub fn home(&self) -> i32 {
        match self {
            Cell::Account(account) => account.home(),
            Cell::Customer(customer) => customer.home(),
        }
    }
    /// Reads a little of each of its parts; what it tells means nothing.
    fn prefetch(&self) -> usize {
        match self {
            Cell::Account(account) => account.prefetch(),
            Cell::Customer(customer) => customer.prefetch(),
        }
    }
    /// About how many bytes it takes in memory, for the cache's bound.
    pub fn weight(&self) -> usize {
        match self {
            Cell::Account(account) => account.weight(),
            Cell::Customer(customer) => customer.weight(),
        }
    }
}
