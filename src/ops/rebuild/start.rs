//! `rebuild start`: a generation beside the served one, begun once and fed by whoever runs this.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{anew, gently, preflight, progress};
use crate::{
    config::Config,
    decisions::{self, Birth, BirthTopic, Decisions, Origin},
    domain::{Parameters, Topic},
    ops::{
        UsageError,
        consent::Consent,
        console::{Console, born},
        parts,
    },
    projector::{Standing, generation},
    snapshot::{self, Imported, Opened},
    source::{scan::Scan, topics},
    store::{Generation, WriteStore as _, redis::RedisStore},
    telemetry,
};

/// How often to look whether another process has filled the generation.
const FILLED_EVERY: Duration = Duration::from_millis(500);

/// The command line of `rebuild start`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What the log is folded onto; without it, nothing from its beginning.
    #[arg(long, value_enum)]
    pub from: Option<From>,
    /// Onto a snapshot, and the log from where that was taken; it is read and checked whole before anything changes.
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    pub seed: Option<PathBuf>,
    /// Which generation to go on with, or the next free number; without it, the unfinished one, or else the next.
    #[arg(long, value_name = "NUMBER")]
    pub generation: Option<u32>,
    /// Give way to nobody while the log is folded: faster, and readers wait longer.
    #[arg(long)]
    pub hurry: bool,
    /// Who decides, and whether to ask. To go on with a generation nobody is asked.
    #[command(flatten)]
    pub consent: Consent,
}

/// Where the log is taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum From {
    /// At offset 0 of every partition: refused where records are gone.
    Beginning,
    /// At what retention has left: subjects without a beginning since then are served as incomplete.
    LogStart,
}

/// Begins or goes on, and feeds until SIGTERM, SIGINT, or until the generation is retired.
pub async fn run(config: Config, args: Args) -> anyhow::Result<()> {
    let console = Console::open(config)?;
    let seed = match &args.seed {
        Some(path) => Some(tokio::task::block_in_place(|| snapshot::open(path))?),
        None => None,
    };
    let inquirer = console.cluster.inquirer("read_uncommitted").context("kafka settings")?;
    topics::check_own(&console.cluster, &inquirer).await?;
    let decisions = console.decisions().await?;
    let served = decisions.serving().and_then(|serving| decisions.births.get(&serving));
    let complete = match served {
        Some(served) => is_complete(&console, served).await?,
        None => false,
    };
    let birth = match choose(&decisions, &args, seed.as_ref(), complete)? {
        Chosen::GoOn(birth) => {
            let counts = topics::check_folded(&console.cluster, &inquirer).await?;
            generation::check_pinned(&console.cluster, &birth, &console.config.parameters(), &counts)?;
            eprintln!("going on with generation {}", birth.generation.0);
            *birth
        }
        Chosen::Begin { generation, served, origin } => {
            let (served, origin) = (served.as_deref(), (origin, seed.as_ref()));
            begin(&console, &decisions, generation, served, origin, &args.consent).await?
        }
    };
    // Until here a signal ends this at once: nothing is begun.
    let shutdown = parts::shutdown()?;
    if let Some(seed) = &seed {
        // Before anything of it is there: what was evicted before is none of it.
        console.store.trust(birth.generation).await.context("nothing is imported")?;
        tokio::select! {
            filled = fill(&console, &birth, seed) => filled?,
            () = shutdown.cancelled() => return Ok(()),
        }
    }
    // An import and a question take their time.
    if let Some(retired) = console.decisions().await?.retired.get(&birth.generation) {
        anyhow::bail!(
            "generation {0} was retired meanwhile by {1}: it is not fed; `rebuild retire {0}` deletes what there may be of it",
            birth.generation.0,
            retired.who
        );
    }
    feed(console, &birth, args.hurry, shutdown).await
}

enum Chosen {
    GoOn(Box<Birth>),
    Begin { generation: Generation, served: Option<Box<Birth>>, origin: Origin },
}

/// Whether a generation has reached the log's end since its birth, in every partition.
async fn is_complete(console: &Console, birth: &Birth) -> anyhow::Result<bool> {
    let positions =
        console.store.positions(birth.generation).await.context("the projection cannot be read")?;
    let complete = |(partition, _)| positions.get(&partition).is_some_and(|at| at.checkpoint.complete);
    Ok(birth.starts().into_iter().all(complete))
}

fn choose(
    decisions: &Decisions,
    args: &Args,
    seed: Option<&Opened>,
    complete: bool,
) -> anyhow::Result<Chosen> {
    let asked = args.from.map(|from| match from {
        From::Beginning => Origin::Beginning,
        From::LogStart => Origin::LogStart,
    });
    let asked = asked.or(seed.map(|seed| Origin::Seed { digest: seed.digest.clone() }));
    let serving = decisions.serving();
    let Some(served) = serving.and_then(|serving| decisions.births.get(&serving)) else {
        // Of a log whose head is gone, the first generation too begins only when somebody says so.
        let generation = Generation(args.generation.unwrap_or(1));
        return match asked.filter(|asked| *asked != Origin::Beginning) {
            Some(origin) if decisions.births.is_empty() => {
                Ok(Chosen::Begin { generation, served: None, origin })
            }
            Some(_) | None => {
                anyhow::bail!(
                    "there is no projection to rebuild beside: `project` begins the first generation; where the head of \
                     the log is gone, `--seed FILE` or `--from log-start` does"
                )
            }
        };
    };
    let newest = decisions.births.keys().max().copied().unwrap_or(served.generation);
    let next = Generation(newest.0.saturating_add(1));
    let unfinished = || {
        let later = decisions.live().map(|birth| birth.generation).filter(|born| *born > served.generation);
        // Nobody else begins one with less than the whole log, so the first one is gone on with here too.
        let first = || {
            let asked = asked.as_ref().is_none_or(|asked| *asked == served.origin);
            (asked && !complete && served.origin != Origin::Beginning).then_some(served.generation)
        };
        later.max().or_else(first)
    };
    let chosen = args.generation.map(Generation).or_else(unfinished).unwrap_or(next);
    if chosen == next {
        let (served, origin) = (Some(Box::new(served.clone())), asked.unwrap_or_default());
        return Ok(Chosen::Begin { generation: next, served, origin });
    }
    let birth = born(decisions, chosen).with_context(|| format!("the next free number is {}", next.0))?;
    if let Some(asked) = asked.filter(|asked| *asked != birth.origin) {
        let message = format!(
            "generation {} began from {}, not from {}: {}",
            chosen.0,
            named(&birth.origin),
            named(&asked),
            go_on_with(&birth.origin)
        );
        return Err(UsageError(message).into());
    }
    Ok(Chosen::GoOn(Box::new(birth.clone())))
}

/// An origin; of two snapshots the digests tell which.
fn named(origin: &Origin) -> String {
    match origin {
        Origin::Seed { digest } => format!("the snapshot {}", digest.get(..12).unwrap_or(digest)),
        Origin::Beginning | Origin::LogStart => origin.to_string(),
    }
}

/// How to go on with a generation that began so, or not.
fn go_on_with(origin: &Origin) -> &'static str {
    match origin {
        Origin::Seed { .. } => "give that snapshot again with --seed, or retire the generation first",
        Origin::Beginning | Origin::LogStart => {
            "go on without --from and --seed, or retire the generation first"
        }
    }
}

/// Looks at log and store, asks, and records the birth; the one that counts, if another process was first.
async fn begin(
    console: &Console,
    decisions: &Decisions,
    generation: Generation,
    served: Option<&Birth>,
    (origin, seed): (Origin, Option<&Opened>),
    consent: &Consent,
) -> anyhow::Result<Birth> {
    let mut parameters = console.config.parameters();
    if let Some(known) = seed.map(|seed| &seed.head.birth).or(served) {
        // With the same key of fingerprints, equal histories give equal bytes.
        parameters = Parameters { fingerprint_key: known.parameters.fingerprint_key, ..parameters };
    }
    let anew = match served {
        Some(served) => anew::look(console, decisions, served).await?,
        None => anew::Anew::default(),
    };
    let mut preflight = preflight::look(console, served, &anew.topics, &parameters, &origin, seed).await?;
    if let Some(seed) = seed {
        tokio::task::block_in_place(|| goes_on(console, seed, &mut preflight.topics))?;
    }
    let act = consent.ask(&preflight.tell(generation, served.map(|served| served.generation), &origin))?;
    let birth = Birth {
        id: Uuid::new_v4(),
        generation,
        topics: preflight.topics,
        parameters,
        active: served.is_none(),
        origin,
        made_anew: anew.times,
        act: Some(act),
    };
    let (id, origin) = (birth.id, birth.origin.clone());
    let counts = generation::record(&console.cluster, &console.producer, birth).await?;
    if counts.id != id {
        let by = counts.act.as_ref().map(|act| format!(" by {}", act.who)).unwrap_or_default();
        anyhow::ensure!(
            counts.origin == origin,
            "generation {} was begun meanwhile{by}, from {}, not from {}: nothing was changed here; {}",
            generation.0,
            named(&counts.origin),
            named(&origin),
            go_on_with(&counts.origin)
        );
        eprintln!("generation {} was begun meanwhile{by}: going on with it", generation.0);
    }
    Ok(counts)
}

/// Where the snapshot ends, the log must go on: the same topics, and no record between gone.
fn goes_on(
    console: &Console,
    seed: &Opened,
    topics: &mut std::collections::BTreeMap<Topic, BirthTopic>,
) -> anyhow::Result<()> {
    let counts: Vec<_> = topics.iter().map(|(topic, now)| (*topic, now.starts.len())).collect();
    generation::check_pinned(&console.cluster, &seed.head.birth, &console.config.parameters(), &counts)
        .context("the snapshot does not fit this deployment; nothing was changed")?;
    let scan = Scan::new(&console.cluster).context("kafka settings")?;
    for (id, next) in seed.starts() {
        let place = usize::try_from(id.partition).ok();
        let topic = topics.get_mut(&id.topic);
        let low = place.zip(topic).and_then(|(place, topic)| topic.starts.get_mut(place));
        let named = console.cluster.display(id);
        let low = low.with_context(|| format!("the snapshot knows {named}, which does not exist"))?;
        anyhow::ensure!(
            *low <= next,
            "the snapshot ends at {named}@{next}, the log begins at offset {low}: the records between are gone; nothing was changed"
        );
        let (_, end) = scan.bounds(id).context("the log cannot be read")?;
        anyhow::ensure!(
            next <= end,
            "the snapshot ends at {named}@{next}, the log at offset {end}: it lost records, or the topic was made anew; nothing \
             was changed; `rebuild start --from log-start` begins from what it holds"
        );
        *low = next;
    }
    for (topic, now) in topics.iter_mut() {
        // What was incomplete in the snapshot's generation is so here.
        let seeded = seed.head.birth.topics.get(topic);
        now.cuts = seeded.map(|seeded| seeded.cuts.clone()).unwrap_or_default();
    }
    Ok(())
}

/// Fills a generation that has no positions from its snapshot; of several processes, one does.
async fn fill(console: &Console, birth: &Birth, seed: &Opened) -> anyhow::Result<()> {
    let generation = birth.generation;
    let mut told = false;
    while birth.origin == (Origin::Seed { digest: seed.digest.clone() }) {
        let positions = console.store.positions(generation).await.context("the projection cannot be read")?;
        if !positions.is_empty() {
            break;
        }
        match seed.import(&console.store, generation).await? {
            Imported::Done => {
                eprintln!("generation {}: {} subjects from the snapshot", generation.0, seed.subjects);
                break;
            }
            Imported::Elsewhere => {
                if !told {
                    eprintln!("generation {}: another process fills it, or did a moment ago", generation.0);
                    told = true;
                }
                tokio::time::sleep(FILLED_EVERY).await;
            }
        }
    }
    Ok(())
}

/// Feeds the generation through the same code as the live one, and tells how far it is.
async fn feed(
    console: Console,
    birth: &Birth,
    hurry: bool,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (done, stop) = (shutdown.child_token(), shutdown.child_token());
    let followed = tokio::task::block_in_place(|| decisions::follow(&console.cluster, done.clone()));
    let (mut followed, _) = followed.context("the decisions cannot be followed")?;
    let fed = async {
        let _done = done.clone().drop_guard();
        // Nobody is served before the first one is complete.
        if hurry || birth.active || matches!(is_complete(&console, birth).await, Ok(true)) {
            let store = if hurry { Arc::clone(&console.store) } else { ranked(&console)? };
            return feed_in_rank(&console, birth, store, None, stop.clone()).await;
        }
        let config = of(birth, &console);
        let mut feeder = gently::Feeder::start(config, console.cluster.clone(), &stop)?;
        tokio::select! {
            ended = feeder.ended() => ended,
            () = until_complete(&console, birth) => {
                feed_in_rank(&console, birth, ranked(&console)?, Some(feeder), stop.clone()).await
            }
        }
    };
    // What starts to feed behind a retirement feeds what readers are served: that is not for these threads.
    let retired = async {
        let retired = tokio::select! {
            known = followed.wait_for(|known| known.retired.contains_key(&birth.generation)) => known.is_ok(),
            () = done.cancelled() => false,
        };
        if retired {
            stop.cancel();
        }
        retired
    };
    let told = progress::tell(&console, birth, done.clone());
    let (fed, (), retired) = tokio::join!(fed, told, retired);
    if fed?.is_some() || retired {
        println!("generation {} was retired: it is fed no more", birth.generation.0);
    }
    Ok(())
}

/// The configuration under which a generation is fed.
fn of(birth: &Birth, console: &Console) -> Config {
    Config { generation: birth.generation.0, ..console.config.clone() }
}

async fn until_complete(console: &Console, birth: &Birth) {
    // A store that does not answer is waited for: what is fed tells of it.
    while !matches!(is_complete(console, birth).await, Ok(true)) {
        tokio::time::sleep(FILLED_EVERY).await;
    }
}

/// The store as any projector uses it.
fn ranked(console: &Console) -> anyhow::Result<Arc<RedisStore>> {
    parts::write_store(&console.config.redis).context("redis")
}

/// Feeds as any projector does, and relieves who fed before: partitions go over from one to the other.
async fn feed_in_rank(
    console: &Console,
    birth: &Birth,
    store: Arc<RedisStore>,
    before: Option<gently::Feeder>,
    shutdown: CancellationToken,
) -> anyhow::Result<Option<Generation>> {
    let standing = Arc::new(Standing::new(&mut telemetry::registry()));
    let cluster = console.cluster.clone();
    let over = CancellationToken::new();
    let fed = async {
        let _over = over.clone().drop_guard();
        parts::feed(of(birth, console), cluster, store, Arc::clone(&standing), shutdown).await
    };
    let relieved = async {
        if let Some(before) = before {
            before.hand_over(&standing, &over).await;
        }
    };
    tokio::join!(fed, relieved).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        decisions::{Act, Decision},
        domain::Time,
    };

    fn act() -> Act {
        Act { who: "jana".to_owned(), at: Time::from_millis(0), why: String::new() }
    }

    fn birth(generation: u32, active: bool, origin: Origin) -> Decision {
        Decision::Born(Birth {
            id: Uuid::nil(),
            generation: Generation(generation),
            topics: std::collections::BTreeMap::new(),
            parameters: Config::default().parameters(),
            active,
            origin,
            made_anew: 0,
            act: None,
        })
    }

    /// `begin 3`, `go on with 2`, or the error.
    fn chosen(decisions: &[Decision], from: Option<From>, generation: Option<u32>) -> String {
        chosen_where(true, decisions, from, generation)
    }

    /// The same, where the served one is complete or not.
    fn chosen_where(
        complete: bool,
        decisions: &[Decision],
        from: Option<From>,
        generation: Option<u32>,
    ) -> String {
        let mut known = Decisions::default();
        for decision in decisions {
            known.adopt(decision.clone());
        }
        let args = Args { from, seed: None, generation, hurry: false, consent: Consent::default() };
        match choose(&known, &args, None, complete) {
            Ok(Chosen::Begin { generation, origin, .. }) => format!("begin {} from {origin}", generation.0),
            Ok(Chosen::GoOn(birth)) => format!("go on with {}", birth.generation.0),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn an_unfinished_generation_is_gone_on_with_and_a_number_is_never_used_twice() {
        let first = birth(1, true, Origin::Beginning);
        let second = birth(2, false, Origin::LogStart);
        let retired = |number| Decision::Retired { generation: Generation(number), act: act() };
        let promoted =
            |from, to| Decision::Promoted { from: Generation(from), to: Generation(to), act: act() };
        let of = |decisions: &[&Decision]| decisions.iter().map(|&d| d.clone()).collect::<Vec<_>>();
        assert!(chosen(&[], None, None).starts_with("there is no projection"));
        assert_eq!(chosen(&[], Some(From::LogStart), None), "begin 1 from log-start");
        let one = of(&[&first]);
        assert_eq!(chosen(&one, None, None), "begin 2 from beginning");
        assert_eq!(chosen(&one, Some(From::LogStart), Some(2)), "begin 2 from log-start");
        assert_eq!(
            chosen(&one, None, Some(7)),
            "the next free number is 2: generation 7 was never begun; there is 1"
        );
        let two = of(&[&first, &second]);
        assert_eq!(chosen(&two, None, None), "go on with 2");
        assert_eq!(chosen(&two, Some(From::LogStart), None), "go on with 2");
        assert!(chosen(&two, Some(From::Beginning), None).starts_with("generation 2 began from log-start"));
        assert_eq!(chosen(&two, None, Some(3)), "begin 3 from beginning");
        let switched = of(&[&first, &second, &promoted(1, 2)]);
        assert_eq!(chosen(&switched, None, None), "begin 3 from beginning");
        assert_eq!(chosen(&switched, None, Some(2)), "go on with 2");
        let back = of(&[&first, &second, &promoted(1, 2), &promoted(2, 1)]);
        assert_eq!(chosen(&back, None, None), "go on with 2");
        let gone = of(&[&first, &second, &retired(2)]);
        assert_eq!(chosen(&gone, None, None), "begin 3 from beginning");
        assert!(chosen(&gone, None, Some(2)).contains("generation 2 was retired by jana"));
    }

    #[test]
    fn the_first_generation_is_gone_on_with_until_it_is_complete_where_it_has_less_than_the_whole_log() {
        let whole = [birth(1, true, Origin::Beginning)];
        let cut = [birth(1, true, Origin::LogStart)];
        let seeded = [birth(1, true, Origin::Seed { digest: "of a".to_owned() })];
        for (complete, decisions, from, expected) in [
            (false, &cut, None, "go on with 1"),
            (false, &cut, Some(From::LogStart), "go on with 1"),
            (false, &cut, Some(From::Beginning), "begin 2 from beginning"),
            (true, &cut, None, "begin 2 from beginning"),
            (true, &cut, Some(From::LogStart), "begin 2 from log-start"),
            (false, &seeded, None, "go on with 1"),
            (false, &seeded, Some(From::LogStart), "begin 2 from log-start"),
            // `project` feeds it without anybody's help.
            (false, &whole, None, "begin 2 from beginning"),
        ] {
            assert_eq!(chosen_where(complete, decisions, from, None), expected, "{complete} {from:?}");
        }
    }
}
