//! What is looked at before a generation begins: whether the log still holds all of it, how long it will take, and
//! whether the store has room.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    ops::ControlFlow,
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    decisions::{Birth, BirthTopic, Origin},
    domain::{Cell, Offset, Parameters, PartitionId, RecordAt, Rules, Subject, Time, Topic, fold},
    ops::console::Console,
    snapshot::Opened,
    source::{
        Cluster,
        scan::Scan,
        topics::{self, TopicError},
    },
    store::{Generation, Live, redis::Footprint},
    wire,
};

/// How long the speed of folding is tried.
const TRIAL: Duration = Duration::from_secs(1);
/// What committing adds to the time of reading and folding: as much again, where it is measured.
const COMMITTING: u32 = 2;

/// What was found.
pub(super) struct Preflight {
    /// Where each topic begins.
    pub(super) topics: BTreeMap<Topic, BirthTopic>,
    /// Records of the log that are folded.
    records: u64,
    /// About how long folding them takes.
    takes: Duration,
    /// Memory of the store.
    footprint: Footprint,
    /// What a person should know.
    notes: Vec<String>,
}

struct Stretch {
    id: PartitionId,
    low: Offset,
    high: Offset,
    /// The first record that is folded: behind what a snapshot holds, or the first that is there.
    from: Offset,
    /// What lay before its first record is gone, though that has offset 0: the topic was made anew.
    made_anew: bool,
    /// Since when the generation that is served knows it, where it knows less than all.
    known_since: Option<Time>,
}

impl Stretch {
    /// How many records are folded; none where the log ends before the snapshot does.
    fn folded(&self) -> i64 {
        self.high.0.saturating_sub(self.from.0).max(0)
    }
}

/// Looks; an error names every reason why the generation may not begin.
pub(super) async fn look(
    console: &Console,
    served: Option<&Birth>,
    anew: &BTreeSet<Topic>,
    parameters: &Parameters,
    origin: &Origin,
    seed: Option<&Opened>,
) -> anyhow::Result<Preflight> {
    let behind: BTreeMap<PartitionId, Offset> =
        seed.map(Opened::starts).unwrap_or_default().into_iter().collect();
    // Before the log's ends: what is folded meanwhile lies behind them.
    let live = console.live().await?;
    let inquirer = console.cluster.inquirer("read_uncommitted").context("kafka settings")?;
    let mut faults = Vec::new();
    let mut stretches = Vec::new();
    for topic in Topic::ALL {
        let name = console.cluster.topic_name(topic);
        let count = topics::partitions(&inquirer, name)?;
        let count = count.ok_or_else(|| TopicError::Missing { topic: name.to_owned() })?;
        faults.extend(served.and_then(|served| fewer(served, topic, name, count)));
        let of_topic = partitions(&console.cluster, &inquirer, topic, count)?;
        if let Some(policy) = topics::compaction(&console.cluster, name).await? {
            for stretch in &of_topic {
                faults.push(format!(
                    "{} has cleanup.policy={policy}: compaction may have removed any record from offset {} to {}",
                    console.cluster.display(stretch.id),
                    stretch.low,
                    stretch.high.0.saturating_sub(1)
                ));
            }
        }
        let made_anew = anew.contains(&topic);
        stretches.extend(of_topic.into_iter().map(|stretch| {
            let known_since = served.and_then(|served| served.cut(stretch.id)).filter(|_| !made_anew);
            let from = behind.get(&stretch.id).copied().unwrap_or(stretch.low).max(stretch.low);
            Stretch { from, made_anew, known_since, ..stretch }
        }));
    }
    if matches!(origin, Origin::Beginning) {
        for stretch in stretches.iter().filter(|stretch| stretch.low.0 > 0) {
            faults.push(format!(
                "{} begins at offset {}: retention has removed offsets 0 to {}",
                console.cluster.display(stretch.id),
                stretch.low,
                stretch.low.0.saturating_sub(1)
            ));
        }
    }
    // Without a served one there is nothing to predict from.
    let model = served.map_or(Generation(0), |served| served.generation);
    let footprint = console.store.footprint(model).await.context("the store's memory")?;
    faults.extend(no_room(footprint));
    if !faults.is_empty() {
        let hint = if matches!(origin, Origin::Beginning) && stretches.iter().any(|s| s.low.0 > 0) {
            "\n`--from log-start` goes on without what is gone: subjects without a beginning since then are incomplete"
        } else {
            ""
        };
        anyhow::bail!("the rebuild is not begun, nothing was changed:\n  {}{hint}", faults.join("\n  "));
    }
    let notes = notes(console, &live, model, &stretches);
    let records = stretches.iter().map(|stretch| u64::try_from(stretch.folded()).unwrap_or_default());
    let records = records.fold(0, u64::saturating_add);
    let (topics, takes) = {
        let (cluster, parameters) = (console.cluster.clone(), parameters.clone());
        let cores = console.config.projector.workers;
        let origin = origin.clone();
        let looked = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
            let topics = beginnings(&cluster, &stretches, &origin)?;
            Ok((topics, duration(&cluster, &parameters, &stretches, cores)?))
        });
        looked.await??
    };
    Ok(Preflight { topics, records, takes, footprint, notes })
}

impl Preflight {
    /// For whoever is asked.
    pub(super) fn tell(&self, generation: Generation, served: Option<Generation>, origin: &Origin) -> String {
        let beside = served.map(|served| format!(" beside generation {}, which readers keep", served.0));
        let mut text = format!(
            "begin generation {}{}\n  folds {} records onto {}; about {}\n",
            generation.0,
            beside.unwrap_or_default(),
            self.records,
            match origin {
                Origin::Beginning => "nothing, from their beginning".to_owned(),
                Origin::LogStart => "nothing, from where the log starts now".to_owned(),
                Origin::Seed { digest } => format!("the snapshot {digest}"),
            },
            in_words(self.takes),
        );
        if let Some(served) = served {
            let takes = bytes(self.footprint.generation_bytes);
            let _infallible =
                write!(text, "  takes about {takes} of the store's memory, like generation {}; ", served.0);
        } else {
            text.push_str("  how much of the store's memory it takes cannot be told beforehand; ");
        }
        let _infallible = write!(text, "{} are used now", bytes(self.footprint.used_bytes));
        if let Some(max) = self.footprint.max_bytes {
            let _infallible = write!(text, " of {}", bytes(max));
        }
        for note in &self.notes {
            let _infallible = write!(text, "\n! {note}");
        }
        text
    }
}

/// A topic does not lose partitions, unless it is another one.
fn fewer(served: &Birth, topic: Topic, name: &str, count: usize) -> Option<String> {
    let pinned = served.topics.get(&topic).filter(|pinned| pinned.name == name)?.starts.len();
    (count < pinned).then(|| {
        format!(
            "{name} has {count} partitions, generation {} knows {pinned}: it was made anew, and keys live elsewhere now",
            served.generation.0
        )
    })
}

fn partitions(
    cluster: &Cluster,
    inquirer: &crate::source::Inquirer,
    topic: Topic,
    count: usize,
) -> anyhow::Result<Vec<Stretch>> {
    let mut stretches = Vec::new();
    for partition in 0..i32::try_from(count).unwrap_or(i32::MAX) {
        let id = PartitionId { topic, partition };
        let ends = crate::source::watermarks(cluster, inquirer, id, Duration::from_secs(10));
        let (low, high) = ends.with_context(|| format!("the ends of {}", cluster.display(id)))?;
        stretches.push(Stretch {
            id,
            low: Offset(low),
            high: Offset(high),
            from: Offset(low),
            made_anew: false,
            known_since: None,
        });
    }
    Ok(stretches)
}

/// The store would have to refuse writes, of the served generation too.
fn no_room(footprint: Footprint) -> Option<String> {
    let max = footprint.max_bytes?;
    let after = footprint.used_bytes.saturating_add(footprint.generation_bytes);
    (after > max).then(|| {
        format!(
            "the store has maxmemory {}, {} are used, and the new generation takes about {}: give it {} or more",
            bytes(max),
            bytes(footprint.used_bytes),
            bytes(footprint.generation_bytes),
            bytes(after)
        )
    })
}

/// Where the log ends before what is served: a rebuild would know less.
fn notes(console: &Console, live: &Live, served: Generation, stretches: &[Stretch]) -> Vec<String> {
    let Some(fed) = live.generations.iter().find(|fed| fed.snapshot.generation == served) else {
        return Vec::new();
    };
    let shorter = stretches.iter().filter_map(|stretch| {
        let (_, position) = fed.snapshot.positions.iter().find(|(id, _)| *id == stretch.id)?;
        let next = position.checkpoint.next;
        (next > stretch.high).then(|| {
            format!(
                "{} ends at offset {}, generation {} has folded {next}: the log lost records, and the rebuild will lack them",
                console.cluster.display(stretch.id),
                stretch.high,
                served.0
            )
        })
    });
    shorter.collect()
}

fn beginnings(
    cluster: &Cluster,
    stretches: &[Stretch],
    origin: &Origin,
) -> anyhow::Result<BTreeMap<Topic, BirthTopic>> {
    let scan = Scan::new(cluster).context("kafka settings")?;
    let mut topics = BTreeMap::new();
    for stretch in stretches {
        let topic = topics.entry(stretch.id.topic).or_insert_with(|| BirthTopic {
            name: cluster.topic_name(stretch.id.topic).to_owned(),
            starts: Vec::new(),
            cuts: Vec::new(),
        });
        topic.starts.push(stretch.low);
        if matches!(origin, Origin::LogStart) {
            topic.cuts.push(cut(&scan, stretch)?);
        }
    }
    Ok(topics)
}

/// Since when a partition is known, where its head is gone.
fn cut(scan: &Scan, stretch: &Stretch) -> anyhow::Result<Option<Time>> {
    if stretch.low.0 == 0 && !stretch.made_anew {
        return Ok(stretch.known_since);
    }
    let mut first = None;
    let stable = scan.bounds(stretch.id)?.1;
    scan.read(stretch.id, stretch.low, stretch.high.min(stable), |record| {
        first = Some(Time::from_millis(record.timestamp_ms));
        ControlFlow::Break(())
    })?;
    Ok(Some(first.unwrap_or_else(crate::ops::parts::now)))
}

/// About how long folding takes, by a trial on the partition with the most records to fold.
fn duration(
    cluster: &Cluster,
    parameters: &Parameters,
    stretches: &[Stretch],
    workers: usize,
) -> anyhow::Result<Duration> {
    let rules = Rules::new(parameters)?;
    let Some(longest) = stretches.iter().max_by_key(|stretch| stretch.folded()) else {
        return Ok(Duration::ZERO);
    };
    let total = stretches.iter().map(Stretch::folded).fold(0, i64::saturating_add);
    let (mut cells, mut tried) = (BTreeMap::<Subject, Option<Cell>>::new(), 0_u32);
    let begun = std::time::Instant::now();
    let scan = Scan::new(cluster)?;
    let stable = scan.bounds(longest.id)?.1;
    scan.read(longest.id, longest.from, longest.high.min(stable), |record| {
        tried = tried.saturating_add(1);
        let raw = record.record(longest.id.topic);
        if let (Some(subject), Ok(event)) = (wire::subject(&raw), wire::decode(&raw, parameters)) {
            let at = RecordAt { partition: longest.id, offset: record.offset, timestamp: raw.timestamp };
            // What is set aside costs as much, and where a subject lives costs nothing.
            drop(fold(cells.entry(subject).or_default(), &event, &at, None, &rules));
        }
        if begun.elapsed() > TRIAL { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let side_by_side = stretches.len().min(if workers == 0 { cores } else { workers.min(cores) }).max(1);
    let side_by_side = u32::try_from(side_by_side).unwrap_or(u32::MAX);
    let each = begun.elapsed().saturating_mul(COMMITTING).checked_div(tried.saturating_mul(side_by_side));
    let nanoseconds =
        each.unwrap_or_default().as_nanos().saturating_mul(u128::try_from(total).unwrap_or_default());
    Ok(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)))
}

/// A size in one unit.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (unit, name) in UNITS {
        if bytes >= unit {
            let tenths = bytes.saturating_mul(10).div_euclid(unit);
            return format!("{}.{} {name}", tenths.div_euclid(10), tenths.rem_euclid(10));
        }
    }
    format!("{bytes} B")
}

/// A duration in two units at most.
pub(super) fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes) = (seconds.div_euclid(3_600), seconds.rem_euclid(3_600).div_euclid(60));
    match (hours, minutes) {
        (0, 0) => format!("{} s", seconds.max(1)),
        (0, minutes) => format!("{minutes} min {} s", seconds.rem_euclid(60)),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_told_in_units_that_a_person_reads() {
        let sizes =
            [(0, "0 B"), (1_023, "1023 B"), (1_536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 29, "1.5 GiB")];
        for (size, words) in sizes {
            assert_eq!(bytes(size), words);
        }
        let durations =
            [(0, "1 s"), (59, "59 s"), (61, "1 min 1 s"), (3_600, "1 h 0 min"), (9_000, "2 h 30 min")];
        for (seconds, words) in durations {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }

    #[test]
    fn a_generation_that_does_not_fit_beside_the_served_one_is_refused() {
        let footprint = |max| Footprint { generation_bytes: 40 << 20, used_bytes: 60 << 20, max_bytes: max };
        assert_eq!(no_room(footprint(None)), None);
        assert_eq!(no_room(footprint(Some(100 << 20))), None);
        let refusal = no_room(footprint(Some(99 << 20))).unwrap();
        assert_eq!(
            refusal,
            "the store has maxmemory 99.0 MiB, 60.0 MiB are used, and the new generation takes about 40.0 MiB: give it 100.0 MiB or more"
        );
    }
}
