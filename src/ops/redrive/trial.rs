//! What a decision would give: the keys folded in memory as their owners would.

use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
};

use anyhow::Context as _;

use crate::{
    decisions::{Act, Amendments, Remedy},
    domain::{
        Account, BalanceType, Cell, Class, Currency, CustomerId, Day, LastPayment, Offset, PartitionId,
        RecordAt, Rejection, Rules, Subject, Time, fold,
    },
    ops::{
        letters::{Case, Desk},
        money::money,
    },
    projector::lane::{self, Fate, Ground, Lane},
    source::{batch::Stored, scan::Scan},
    store::redis::beside::SUBJECTS_MAX,
    wire,
};

/// What a decision would give for one key.
pub(super) struct Preview {
    pub(super) subject: Subject,
    pub(super) at: (PartitionId, Offset),
    pub(super) before: Vec<String>,
    pub(super) after: Vec<String>,
    /// Records folded or passed over, the decided one included.
    pub(super) past: u64,
    /// Where the key would wait from then on, and why.
    pub(super) held: Option<(Offset, Class, String)>,
}

impl Preview {
    /// The decision would get past its record.
    pub(super) fn helps(&self) -> bool {
        self.held.as_ref().is_none_or(|(offset, ..)| *offset != self.at.1)
    }
}

/// Folds the keys in memory as their owners would; each partition is read once.
pub(super) async fn previews(desk: &Desk, cases: &[&Case], remedy: &Remedy) -> anyhow::Result<Vec<Preview>> {
    let act = Act { who: String::new(), at: crate::ops::parts::now(), why: String::new() };
    let mut amendments = Amendments::clone(&desk.amendments());
    let mut keys: BTreeMap<PartitionId, HashMap<Subject, Trial>> = BTreeMap::new();
    for page in cases.chunks(SUBJECTS_MAX) {
        let subjects: Vec<Subject> = page.iter().filter_map(|case| case.subject.clone()).collect();
        let beside = desk.console.store.beside([desk.birth.generation], &subjects).await;
        let beside = beside.context("the projection cannot be read")?;
        let [positions] = &beside.positions;
        let page = page.iter().filter(|case| case.subject.is_some());
        for ((case, subject), [held]) in page.zip(subjects).zip(beside.subjects) {
            amendments.patch(desk.patch(case.at, case.key.clone(), remedy, &act));
            let cell = held.cell.map(|bytes| Cell::decode(&subject, &bytes)).transpose()?;
            let (partition, offset) = case.at;
            let position = positions.get(&partition).context("the partition has no position")?;
            let trial = Trial::new(cell, offset, position.checkpoint.next);
            keys.entry(partition).or_default().insert(subject, trial);
        }
    }
    let (cluster, birth, remedy) = (desk.console.cluster.clone(), desk.birth.clone(), remedy.clone());
    let tried = tokio::task::spawn_blocking(move || {
        let rules = Rules::new(&birth.parameters)?;
        let scan = Scan::new(&cluster).context("kafka settings")?;
        for (partition, keys) in &mut keys {
            let from = keys.values().map(|trial| trial.offset).min().unwrap_or_default();
            let until = keys.values().map(|trial| trial.until).max().unwrap_or_default();
            scan.read(*partition, from, until, |record| {
                let subject = wire::subject(&record.record(partition.topic));
                if let Some(subject) = subject
                    && let Some(trial) = keys.get_mut(&subject)
                {
                    let (partition, subject, parameters) = (*partition, &subject, &birth.parameters);
                    let (rules, amendments) = (&rules, &amendments);
                    trial.take(
                        &Ground { partition, subject, parameters, rules, amendments },
                        record,
                        &remedy,
                    );
                }
                ControlFlow::Continue(())
            })
            .context("the keys' records cannot be read")?;
        }
        anyhow::Ok(keys)
    });
    let mut previews = Vec::new();
    for (partition, keys) in tried.await?? {
        for (subject, trial) in keys {
            previews.push(trial.preview(partition, subject)?);
        }
    }
    previews.sort_by_key(|preview| preview.at);
    Ok(previews)
}

/// A key that is folded to see what a decision would give.
struct Trial {
    /// Where it is on hold.
    offset: Offset,
    /// Up to where its owner had come.
    until: Offset,
    before: Vec<String>,
    lane: Lane,
    past: u64,
    why: Option<Rejection>,
    /// What is wrong with the replacement.
    unfit: Option<Rejection>,
}

impl Trial {
    fn new(cell: Option<Cell>, offset: Offset, until: Offset) -> Self {
        let before = figures(cell.as_ref());
        Trial { offset, until, before, lane: Lane::new(cell), past: 0, why: None, unfit: None }
    }

    fn take(&mut self, ground: &Ground<'_>, record: &Stored<'_>, remedy: &Remedy) {
        if record.offset < self.offset || record.offset >= self.until {
            return;
        }
        if let (Remedy::Replace(text), true) = (remedy, record.offset == self.offset) {
            self.unfit = self.does_not_fit(ground, record, text);
        }
        let Trial { lane, past, why, .. } = self;
        lane.take(ground, record, &mut |step| match step.fate {
            Fate::SetAside(rejection) => *why = Some(rejection),
            Fate::Folded(_) | Fate::Skipped => *past = past.saturating_add(1),
            Fate::Early(_) | Fate::Waits(_) => {}
        });
    }

    /// Where a replacement does not get past the record, it is the replacement's own fault that helps.
    fn does_not_fit(&self, ground: &Ground<'_>, record: &Stored<'_>, text: &str) -> Option<Rejection> {
        let event = match lane::replacement(ground, record, text) {
            Ok(event) => event,
            Err(rejection) => return Some(rejection),
        };
        let timestamp = Time::from_millis(record.timestamp_ms);
        let at = RecordAt { partition: ground.partition, offset: record.offset, timestamp };
        fold(&mut self.lane.cell().cloned(), &event, &at, ground.home(), ground.rules).err()
    }

    fn preview(self, partition: PartitionId, subject: Subject) -> anyhow::Result<Preview> {
        let Trial { offset, before, lane, past, why, unfit, .. } = self;
        if let Some(rejection) = unfit {
            anyhow::bail!("nothing was changed: the replacement cannot be folded: {rejection}");
        }
        let held = lane.quarantine().map(|held| {
            let message = why.map(|why| why.message).unwrap_or_default();
            (held.offset, held.class, message)
        });
        Ok(Preview { subject, at: (partition, offset), before, after: figures(lane.cell()), past, held })
    }
}

/// The figures of a cell, as an operator compares them.
fn figures(cell: Option<&Cell>) -> Vec<String> {
    match cell {
        None => Vec::new(),
        Some(Cell::Account(account)) => {
            let booked = account.currencies().into_iter().map(|currency| booked(account, currency));
            let dues = account.customers().into_iter().flat_map(|customer| owed(account, &customer));
            booked.chain(dues).collect()
        }
        Some(Cell::Customer(customer)) => match customer.last_payment() {
            LastPayment::None => vec!["no payment".to_owned()],
            LastPayment::Paid { amount, paid_on } => {
                vec![format!("last paid {} on {paid_on}", amount.to_short())]
            }
            LastPayment::Forgotten { .. } => vec!["the last payment is no longer known".to_owned()],
        },
    }
}

fn booked(account: &Account, currency: Currency) -> String {
    // Neither type depends on the day.
    let day =
        Day::parse("2000-01-01").unwrap_or_else(|| crate::ops::parts::now().day_in(&jiff::tz::TimeZone::UTC));
    let figure = |balance_type| match account.figure(currency, balance_type, day) {
        Some(Ok(figure)) => money(figure.amount, currency),
        Some(Err(_)) | None => "unknown".to_owned(),
    };
    format!("{currency} booked {}, available {}", figure(BalanceType::Itbd), figure(BalanceType::Clav))
}

fn owed(account: &Account, customer: &CustomerId) -> Vec<String> {
    let owed = account.due(customer).into_iter().flatten();
    owed.map(|(currency, amount)| {
        format!("{} owes {} {currency}", customer.as_str(), money(*amount, *currency))
    })
    .collect()
}
