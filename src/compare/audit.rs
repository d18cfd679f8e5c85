//! The audit of a projection: every subject folded again from the log up to a cut, and compared with what the store
//! holds, while both go on.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::Hasher as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use siphasher::sip128::{Hasher128 as _, SipHasher13};
use tokio_util::sync::CancellationToken;

use super::{
    derived::{Derivation, Says, Told},
    difference::{Difference, Expected, Tally},
    engine::{Engine, Examined, Pair, SUSPECTS_MAX, Suspect, offsets},
    refold::{Pace, Refold, Selection},
    subject::{Law, State},
    tail::{Offsets, Tail},
};
use crate::{
    decisions::{self, Birth},
    domain::{Cell, Offset, PartitionId, Subject},
    source::{Cluster, scan::Scan},
    store::{
        Generation,
        keys::Name,
        redis::{
            RedisStore,
            beside::{Beside, Held, SUBJECTS_MAX},
        },
    },
};

/// As far as the projection may have moved on while it was folded again, before it is compared.
const GAP_MAX: i64 = 20_000;
/// How often the gap is closed before it is taken as it is.
const ROUNDS_MAX: u32 = 8;
/// How often what differs is folded again and looked at again: a decision may be on its way to the owner.
const LOOKS_MAX: u32 = 3;
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// About what a subject takes that is folded again.
const REFOLDED_BYTES: usize = 8 << 10;
/// So many are folded again at once in any case.
const REFOLDED_MIN: usize = 10_000;
/// Pages of subjects that are asked for while another is compared.
const PAGES_AHEAD: usize = 8;

/// Whether what differs is looked at once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// It is: nothing but its name is kept.
    Early,
    /// It is told.
    Last,
}

/// What an audit needs, shared by the partitions that are audited at the same time.
pub struct Audit {
    /// Where the log is.
    pub cluster: Cluster,
    /// Where the projection is.
    pub store: RedisStore,
    /// How the generation began.
    pub birth: Birth,
    /// About how much memory a partition may take.
    pub bytes_max: usize,
    /// How many differences are kept whole.
    pub first_max: usize,
    /// Told to stop early.
    pub stop: CancellationToken,
    /// Subjects that the log calls for, and keys on hold with their partitions: 128 bits of a hash each.
    known: Mutex<HashSet<u128>>,
    /// What follows from cells and marks.
    derivation: Derivation<1>,
    /// Who differs, and in what.
    told: Mutex<Told>,
}

/// What became of a partition.
#[derive(Debug, Clone, Default)]
pub struct Audited {
    /// Up to here: of several passes, the earliest.
    pub cut: Offset,
    /// Records read, in all passes.
    pub records: u64,
    /// How long reading and folding them took.
    pub folding: Duration,
    /// Passes over the partition, one where its subjects fit into memory.
    pub passes: u32,
    /// What differs.
    pub tally: Tally,
    /// Keys on hold about which is decided what their owner has not come to yet, because it stands still: they agree with
    /// the log without that.
    pub undecided: u64,
}

impl Audit {
    /// An audit of the generation with this birth.
    pub fn new(
        cluster: Cluster,
        store: RedisStore,
        birth: Birth,
        bytes_max: usize,
        first_max: usize,
    ) -> Self {
        let stop = CancellationToken::new();
        let derivation = Derivation::new([birth.generation]);
        let (known, told) = (Mutex::default(), Mutex::default());
        Audit { cluster, store, birth, bytes_max, first_max, stop, known, derivation, told }
    }

    /// The rules, with all that is decided by now.
    pub async fn law(&self) -> anyhow::Result<Arc<Law>> {
        let cluster = self.cluster.clone();
        let decisions = tokio::task::spawn_blocking(move || decisions::read(&cluster)).await?;
        let decisions = decisions.context("the decisions topic cannot be read")?;
        Ok(Arc::new(Law::new(&self.birth, &decisions)?))
    }

    /// Audits the selected subjects of a partition: those that have a record in it.
    pub async fn partition(
        &self,
        law: &Arc<Law>,
        partition: PartitionId,
        selection: Selection,
        pace: Option<Pace>,
    ) -> anyhow::Result<Audited> {
        let mut audited = Audited {
            cut: Offset(i64::MAX),
            tally: Tally::new(Expected::default(), self.first_max),
            ..Audited::default()
        };
        let mut selections = vec![selection];
        while let Some(selection) = selections.pop() {
            let start = self.start(partition)?;
            let begun = Instant::now();
            let (refold, cut) = self.refold(law, partition, selection, start, pace).await?;
            audited.folding = audited.folding.saturating_add(begun.elapsed());
            selections.extend(refold.left_over.iter().cloned());
            audited.cut = audited.cut.min(cut);
            audited.records = audited.records.saturating_add(refold.records);
            audited.passes = audited.passes.saturating_add(1);
            let (tally, suspects) =
                self.compare(law, partition, cut, refold.into_states(), Look::Early).await?;
            audited.tally.join(tally);
            let (differences, undecided) = self.look_again(partition, suspects).await?;
            audited.undecided = audited.undecided.saturating_add(undecided);
            for difference in differences {
                audited.tally.add(difference);
            }
        }
        Ok(audited)
    }

    /// Audits the selected subjects of a partition, and what was drawn from the projection: subjects, which are
    /// compared also where the log does not know them, and entries that follow from others.
    pub async fn sample(
        &self,
        law: &Arc<Law>,
        partition: PartitionId,
        selection: Selection,
        (drawn, derived): (Vec<Subject>, &[Name]),
        pace: Pace,
    ) -> anyhow::Result<Audited> {
        let begun = Instant::now();
        let (refold, cut) =
            self.refold(law, partition, selection, self.start(partition)?, Some(pace)).await?;
        let folding = begun.elapsed();
        let records = refold.records;
        let mut states: HashMap<Subject, State> = refold.into_states().into_iter().collect();
        for subject in drawn {
            states.entry(subject).or_default();
        }
        let (mut tally, suspects) =
            self.compare(law, partition, cut, states.into_iter().collect(), Look::Early).await?;
        let (differences, undecided) = self.look_again(partition, suspects).await?;
        for difference in differences {
            tally.add(difference);
        }
        let drawn = self.derivation.draw(&self.store, self.birth.generation, derived).await;
        drawn.context("the projection cannot be read")?;
        for difference in self.wrong().await?.into_values().flatten() {
            tally.add(difference);
        }
        Ok(Audited { cut, records, folding, passes: 1, tally, undecided })
    }

    fn start(&self, partition: PartitionId) -> anyhow::Result<Offset> {
        let named = self.cluster.display(partition);
        self.birth.start(partition).with_context(|| format!("the generation was born without {named}"))
    }

    async fn refold<'a>(
        &self,
        law: &'a Arc<Law>,
        partition: PartitionId,
        selection: Selection,
        from: Offset,
        pace: Option<Pace>,
    ) -> anyhow::Result<(Refold<'a>, Offset)> {
        let scan = Scan::new(&self.cluster).context("kafka settings")?;
        let mut refold = Refold::new(law, partition, selection, self.bytes_max, pace);
        let mut cut = from;
        for _ in 0..ROUNDS_MAX {
            let next = self.next(partition).await?;
            // Blocks a thread of its own; the others go on.
            tokio::task::block_in_place(|| refold.fold(&scan, (cut, next), &self.stop))?;
            anyhow::ensure!(!self.stop.is_cancelled(), "stopped before the end");
            let moved = next.0.saturating_sub(cut.0);
            cut = cut.max(next);
            if moved <= GAP_MAX {
                break;
            }
        }
        Ok((refold, cut))
    }

    async fn next(&self, partition: PartitionId) -> anyhow::Result<Offset> {
        let generation = self.birth.generation;
        let positions = self.store.positions(generation).await.context("the positions cannot be read")?;
        let named = self.cluster.display(partition);
        let position = positions.get(&partition);
        let checkpoint =
            position.with_context(|| format!("the store holds no position of {named}"))?.checkpoint;
        // Until then cells may be ahead of it.
        anyhow::ensure!(
            checkpoint.complete,
            "generation {} is not complete: {named} has not reached the log's end yet",
            generation.0
        );
        Ok(checkpoint.next)
    }

    /// Compares what the log says with the projection: how many, and who differs, to be looked at again.
    async fn compare(
        &self,
        law: &Arc<Law>,
        partition: PartitionId,
        cut: Offset,
        states: Vec<(Subject, State)>,
        look: Look,
    ) -> anyhow::Result<(Tally, Vec<Suspect>)> {
        let right_at = Arc::new(Offsets::from([(partition, cut)]));
        let tail = Tail::new(&self.cluster, Offsets::clone(&right_at)).context("kafka settings")?;
        let tally = Tally::new(Expected::default(), self.first_max);
        let mut engine = Engine::new(&self.cluster, Arc::clone(law), Examined::Left, tail, tally);
        if look == Look::Last {
            engine.tell();
        }
        let mut pages =
            stream::iter(pages_of(states)).map(|page| self.read(partition, page)).buffered(PAGES_AHEAD);
        while let Some((page, keys, beside)) = pages.try_next().await? {
            let [positions] = &beside.positions;
            let next = offsets(positions).get(&partition).copied();
            let named = self.cluster.display(partition);
            let next = next.with_context(|| format!("the store has lost the position of {named}"))?;
            anyhow::ensure!(
                next >= cut,
                "the projection went back from {named}@{cut} to {next} meanwhile: it lost writes"
            );
            let left_at = Arc::new(Offsets::from([(partition, next)]));
            for ((key, (_, state)), [held]) in keys.into_iter().zip(page).zip(beside.subjects) {
                let (left, right) = (of_partition(&key, held, partition), state.encode());
                // Drawn from the projection, and at home elsewhere.
                if left == Held::default() && right == Held::default() {
                    continue;
                }
                let (left_at, right_at) = (Arc::clone(&left_at), Arc::clone(&right_at));
                engine.offer(Pair { key, left, left_at, right, right_at });
            }
            if engine.is_full() {
                tokio::task::block_in_place(|| engine.settle())?;
            }
        }
        tokio::task::block_in_place(|| engine.settle())?;
        let suspects = engine.take_suspects();
        Ok((engine.tally, suspects))
    }

    /// What the projection holds of a page of subjects; what follows from it is looked up as well.
    async fn read(
        &self,
        partition: PartitionId,
        page: Page,
    ) -> anyhow::Result<(Page, Vec<Subject>, Beside<1>)> {
        self.remember(partition, &page);
        let keys: Vec<Subject> = page.iter().map(|(subject, _)| subject.clone()).collect();
        let read = self.store.beside([self.birth.generation], &keys).await;
        let beside = read.context("the projection cannot be read")?;
        let looked = self.derivation.look(&self.store, &keys, &beside.subjects).await;
        looked.context("the projection cannot be read")?;
        Ok((page, keys, beside))
    }

    /// Folds the suspects again, under what is decided by then, and compares them again: what still differs differs. Tells
    /// too how many differ only because of decisions to which their owner has not come yet.
    async fn look_again(
        &self,
        partition: PartitionId,
        mut suspects: Vec<Suspect>,
    ) -> anyhow::Result<(Vec<Difference>, u64)> {
        let from = self.start(partition)?;
        let subjects = |suspects: &[Suspect]| -> Vec<Subject> {
            suspects.iter().map(|suspect| suspect.key.clone()).collect()
        };
        for number in 1..=LOOKS_MAX {
            if suspects.is_empty() {
                break;
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            let look = if number == LOOKS_MAX { Look::Last } else { Look::Early };
            let subjects = subjects(&suspects);
            suspects = self.fold_again(&self.law().await?, partition, subjects, from, look).await?;
        }
        let differing = suspects.len();
        if differing > 0 {
            let held = self.held(partition, &subjects(&suspects)).await?;
            if let Some(law) = self.law().await?.without(partition, &held) {
                let subjects = subjects(&suspects);
                suspects = self.fold_again(&Arc::new(law), partition, subjects, from, Look::Last).await?;
            }
        }
        let undecided = u64::try_from(differing.saturating_sub(suspects.len())).unwrap_or(u64::MAX);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for suspect in &suspects {
            told.add(suspect);
        }
        Ok((suspects.into_iter().flat_map(|suspect| suspect.differences).collect(), undecided))
    }

    /// The records of a partition that hold these subjects back in the projection.
    async fn held(&self, partition: PartitionId, subjects: &[Subject]) -> anyhow::Result<HashSet<Offset>> {
        let mut held = HashSet::new();
        for keys in subjects.chunks(SUBJECTS_MAX) {
            let read = self.store.beside([self.birth.generation], keys).await;
            let marks = read.context("the projection cannot be read")?.subjects.into_iter();
            let marks = marks.flat_map(|[held]| held.quarantines);
            held.extend(marks.filter(|mark| mark.partition == partition).map(|mark| mark.offset));
        }
        Ok(held)
    }

    /// Folds these subjects from an offset on, and compares them; one without a record is compared too.
    async fn fold_again(
        &self,
        law: &Arc<Law>,
        partition: PartitionId,
        subjects: Vec<Subject>,
        from: Offset,
        look: Look,
    ) -> anyhow::Result<Vec<Suspect>> {
        let mut suspects = Vec::new();
        // The log is read once for all of them: so as many as fit into memory, and no more than are suspected one by one.
        let fit = self.bytes_max.checked_div(REFOLDED_BYTES).unwrap_or_default();
        for subjects in subjects.chunks(fit.clamp(REFOLDED_MIN, SUSPECTS_MAX)) {
            let selection = Selection::named(subjects.iter().cloned());
            let (refold, cut) = self.refold(law, partition, selection, from, None).await?;
            let mut states: HashMap<Subject, State> = refold.into_states().into_iter().collect();
            let states = subjects
                .iter()
                .map(|subject| (subject.clone(), states.remove(subject).unwrap_or_default()))
                .collect();
            suspects.extend(self.compare(law, partition, cut, states, look).await?.1);
        }
        Ok(suspects)
    }

    fn remember(&self, partition: PartitionId, page: &[(Subject, State)]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (subject, state) in page {
            if state.cell.is_some() {
                known.insert(hash(subject, None));
            }
            if !state.quarantines.is_empty() {
                known.insert(hash(subject, Some(partition)));
            }
        }
    }

    fn knows(&self, subject: &Subject, partition: Option<PartitionId>) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(&hash(subject, partition))
    }

    /// Walks the whole projection for what the log did not call for, once every partition is audited up to its cut.
    /// What was born since is folded from the cut on.
    pub async fn extras(&self, cuts: &Offsets) -> anyhow::Result<BTreeMap<PartitionId, Vec<Difference>>> {
        let generation = self.birth.generation;
        let mut unknown: BTreeMap<PartitionId, HashSet<Subject>> = BTreeMap::new();
        let mut walk = self.store.walk(&[generation]);
        while let Some(names) = self.store.step(&mut walk).await.context("the projection cannot be read")? {
            let mut page = HashSet::new();
            for (_, name) in names {
                match name {
                    Name::Cell(key) if !self.knows(&key, None) => drop(page.insert(key)),
                    Name::AccountQuarantine(id) => drop(page.insert(Subject::Account(id))),
                    Name::CustomerQuarantine(id) => drop(page.insert(Subject::Customer(id))),
                    Name::Cell(_)
                    | Name::Owing(_)
                    | Name::DueQuarantine(_)
                    | Name::Index(_)
                    | Name::Positions
                    | Name::States => {}
                }
            }
            let page: Vec<Subject> = page.into_iter().collect();
            for keys in page.chunks(SUBJECTS_MAX) {
                self.unknown_among(generation, keys, &mut unknown).await?;
            }
        }
        let mut found = BTreeMap::new();
        for (partition, subjects) in unknown {
            // What was known at the cut has no place here but for a mark, which only a whole fold explains.
            let (marked, born): (Vec<Subject>, Vec<Subject>) =
                subjects.into_iter().partition(|subject| self.knows(subject, None));
            let cut = cuts.get(&partition).copied().unwrap_or_default();
            let law = self.law().await?;
            let mut suspects = self.fold_again(&law, partition, born, cut, Look::Early).await?;
            let start = self.start(partition)?;
            suspects.extend(self.fold_again(&law, partition, marked, start, Look::Early).await?);
            let (differences, _) = self.look_again(partition, suspects).await?;
            if !differences.is_empty() {
                found.insert(partition, differences);
            }
        }
        Ok(found)
    }

    /// What follows from cells and marks, and is not there, or otherwise; with `whole`, where every subject has come
    /// up, also what is there and follows from none.
    pub async fn derived(&self, whole: bool) -> anyhow::Result<BTreeMap<PartitionId, Vec<Difference>>> {
        if whole {
            self.derivation.walk(&self.store).await.context("the projection cannot be read")?;
        }
        self.wrong().await
    }

    async fn wrong(&self) -> anyhow::Result<BTreeMap<PartitionId, Vec<Difference>>> {
        let judged = self.derivation.judge(&self.store).await.context("the projection cannot be read")?;
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: BTreeMap<PartitionId, Vec<Difference>> = BTreeMap::new();
        for wrong in judged {
            if told.explains(&wrong.entry) {
                continue;
            }
            let [side] = &wrong.sides;
            // The cell and the marks are those of the log, or they would be told.
            let difference = wrong.difference(&self.cluster, Says::Held(side), Says::Called(side));
            found.entry(wrong.partition()).or_default().push(difference);
        }
        Ok(found)
    }

    async fn unknown_among(
        &self,
        generation: Generation,
        keys: &[Subject],
        unknown: &mut BTreeMap<PartitionId, HashSet<Subject>>,
    ) -> anyhow::Result<()> {
        let read = self.store.beside([generation], keys).await;
        let beside = read.context("the projection cannot be read")?;
        for (subject, [held]) in keys.iter().zip(beside.subjects) {
            if let Some(cell) = held.cell.as_deref().filter(|_| !self.knows(subject, None)) {
                // A cell that cannot be read has no home to be looked for in: the first partition tells of it.
                let home = Cell::decode(subject, cell).map_or(0, |cell| cell.home());
                let partition = PartitionId { topic: subject.topic(), partition: home };
                unknown.entry(partition).or_default().insert(subject.clone());
            }
            for mark in held.quarantines {
                if !self.knows(subject, Some(mark.partition)) {
                    unknown.entry(mark.partition).or_default().insert(subject.clone());
                }
            }
        }
        Ok(())
    }
}

/// Subjects that are compared together.
type Page = Vec<(Subject, State)>;

fn pages_of(states: Vec<(Subject, State)>) -> impl Iterator<Item = Page> {
    let mut states = states.into_iter();
    std::iter::from_fn(move || {
        let page: Page = states.by_ref().take(SUBJECTS_MAX).collect();
        (!page.is_empty()).then_some(page)
    })
}

/// What a partition answers for: the cells that live there, and its own marks.
fn of_partition(key: &Subject, held: Held, partition: PartitionId) -> Held {
    let elsewhere = |cell: &bytes::Bytes| {
        Cell::decode(key, cell).as_ref().map(Cell::home).is_ok_and(|home| home != partition.partition)
    };
    Held {
        cell: held.cell.filter(|cell| !elsewhere(cell)),
        quarantines: held.quarantines.into_iter().filter(|mark| mark.partition == partition).collect(),
    }
}

fn hash(subject: &Subject, partition: Option<PartitionId>) -> u128 {
    let mut hasher = SipHasher13::new();
    let kind = match subject {
        Subject::Account(_) => 0,
        Subject::Customer(_) => 1,
    };
    hasher.write_u8(kind);
    if let Some(partition) = partition {
        hasher.write_u8(2);
        hasher.write_i32(partition.partition);
    }
    hasher.write(subject.as_str().as_bytes());
    hasher.finish128().as_u128()
}
