//! `rebuild compare`: every cell of the candidate against the served generation, exactly, while events keep flowing.
//!
//! The candidate is held still meanwhile; nobody reads it. It is released however the comparison ends, and by itself
//! where the command is killed.

use std::{
    collections::BTreeSet,
    io::Write as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde_json::json;

use crate::{
    compare::{
        derived::{Derivation, Says, Told},
        difference::{Expected, Tally},
        engine::{Engine, Examined, Pair, offsets},
        subject::Law,
        tail::{Offsets, Tail},
    },
    config::Config,
    decisions::{Act, Birth, Comparison, Decision, Decisions},
    domain::{Offset, PartitionId, Subject},
    ops::{
        Outcome, UsageError,
        compared::{self, Sides},
        consent::Consent,
        console::{Console, born},
        hold::{Hold, Lease},
        parts,
    },
    store::{Generation, WriteStore as _, keys::Name, redis::beside::SUBJECTS_MAX},
};

/// How long the candidate stands still after this command was killed.
const LEASE: Lease = Lease::Extended(Duration::from_secs(30));
/// How long owners may take to stand still.
const OBEY: Duration = Duration::from_secs(30);
/// How long the served generation may take to reach where the candidate stands.
const REACH: Duration = Duration::from_mins(1);
/// Past this the candidate is let catch up, and held again: what it lacks is kept in memory.
const TAIL_BYTES_MAX: usize = 256 << 20;
/// Records that the candidate may lack at the beginning.
const BEHIND_MAX: i64 = 200_000;
/// How often what differs is looked at again: a decision may be on its way to one of the owners.
const LOOKS_MAX: u32 = 3;
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The command line of `rebuild compare`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Which generation to examine; without it, the newest that readers are not served.
    #[arg(value_name = "GENERATION")]
    pub candidate: Option<u32>,
    /// Which one to compare it with; without it, the one that readers are served.
    #[arg(long, value_name = "GENERATION")]
    pub with: Option<u32>,
    /// Differences that are right: lines of `account ID KIND` or `customer ID KIND`, where KIND may be *.
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
    /// How many differences to show whole.
    #[arg(long, default_value_t = 20, value_name = "COUNT")]
    pub first: usize,
    /// In whose name the comparison is recorded. It changes nothing that readers see, and does not ask.
    #[command(flatten)]
    pub consent: Consent,
}

/// Compares, records what it came to, and tells.
pub async fn run(config: Config, args: Args) -> anyhow::Result<Outcome> {
    let expect = expected(&args)?;
    let act = args.consent.act()?;
    let console = Console::open(config)?;
    let decisions = console.decisions().await?;
    let served = console.store.active().await.context("the projection cannot be read")?;
    let (live, candidate) = choose(&decisions, served, &args)?;
    let run = Run { console: &console, live, candidate, act: &act };
    let begun = Instant::now();
    let tally = run.whole(&decisions, Tally::new(expect, args.first)).await?;
    let comparison = Comparison {
        candidate: candidate.generation,
        with: live.generation,
        cells: tally.cells,
        differences: tally.differences(),
        expected: tally.expected,
        act: act.clone(),
    };
    console.record(&Decision::Compared(comparison.clone())).await?;
    let text = if args.json { json(&comparison, &tally, begun)? } else { text(&comparison, &tally, begun) };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(if tally.differences() == 0 { Outcome::Well } else { Outcome::NeedsPerson })
}

fn expected(args: &Args) -> anyhow::Result<Expected> {
    let Some(path) = &args.expect else { return Ok(Expected::default()) };
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(Expected::parse(&text).map_err(|fault| UsageError(format!("{}: {fault}", path.display())))?)
}

fn choose<'a>(
    decisions: &'a Decisions,
    served: Option<Generation>,
    args: &Args,
) -> anyhow::Result<(&'a Birth, &'a Birth)> {
    let live = args.with.map(Generation).or(served);
    let live = live.context("no generation is active: there is nothing to compare with")?;
    let other = |born: &Generation| *born != live && Some(*born) != served;
    let newest = || decisions.live().map(|birth| birth.generation).filter(other).max();
    let candidate = args.candidate.map(Generation).or_else(newest);
    let candidate = candidate.context("there is no other generation: begin one with `rebuild start`")?;
    let (live, candidate) = (born(decisions, live)?, born(decisions, candidate)?);
    anyhow::ensure!(
        live.generation != candidate.generation,
        "generation {} would be compared with itself",
        live.generation.0
    );
    anyhow::ensure!(
        served != Some(candidate.generation),
        "readers are served generation {0}, and it would stand still for as long as the comparison takes: examine the other \
         one, with `rebuild compare {1} --with {0}`",
        candidate.generation.0,
        live.generation.0
    );
    anyhow::ensure!(
        live.log() == candidate.log(),
        "generation {} folds {}, generation {} folds {}: their offsets cannot be compared",
        live.generation.0,
        live.log(),
        candidate.generation.0,
        candidate.log()
    );
    Ok((live, candidate))
}

/// A comparison in its course.
struct Run<'a> {
    console: &'a Console,
    live: &'a Birth,
    candidate: &'a Birth,
    act: &'a Act,
}

impl Run<'_> {
    async fn whole(&self, decisions: &Decisions, tally: Tally) -> anyhow::Result<Tally> {
        let law = Law::new(self.candidate, decisions)?;
        self.is_complete().await?;
        self.is_fed().await?;
        self.is_near().await?;
        let shutdown = parts::shutdown()?;
        let mut hold = Some(self.hold(decisions).await?);
        let compared = tokio::select! {
            compared = self.compare(&mut hold, law, tally) => compared,
            () = shutdown.cancelled() => Err(anyhow::anyhow!("stopped before the end: nothing is recorded")),
        };
        // However it ended, an error included.
        let released = match hold.take() {
            Some(hold) => hold.release().await,
            None => Ok(()),
        };
        let tally = compared?;
        released.context("the candidate still stands; it goes on by itself when the lease is over")?;
        Ok(tally)
    }

    async fn is_complete(&self) -> anyhow::Result<()> {
        for birth in [self.live, self.candidate] {
            let Generation(number) = birth.generation;
            let positions = self.console.store.positions(birth.generation).await;
            let positions = positions.context("the projection cannot be read")?;
            for (partition, _) in birth.starts() {
                let named = self.console.cluster.display(partition);
                let position = positions.get(&partition);
                let position = position.with_context(|| {
                    format!("the store holds no position of {named} in generation {number}")
                })?;
                anyhow::ensure!(
                    position.checkpoint.complete,
                    "generation {number} is not complete: {named} has not reached the log's end yet"
                );
            }
        }
        Ok(())
    }

    /// The one that it is compared with must reach where the candidate will stand.
    async fn is_fed(&self) -> anyhow::Result<()> {
        let Generation(live) = self.live.generation;
        let mut alone = None;
        // In the midst of a rebalance a partition may be nobody's.
        for _ in 0..LOOKS_MAX {
            let looked = self.console.look().await?;
            let lives =
                |(id, _): &(PartitionId, Offset)| looked.beating.contains(&(self.live.generation, *id));
            alone = self.live.starts().into_iter().find(|start| !lives(start));
            if alone.is_none() {
                return Ok(());
            }
        }
        let named = alone.map(|(id, _)| self.console.cluster.display(id)).unwrap_or_default();
        anyhow::bail!(
            "{named} of generation {live} has no living owner: start a `project` with `generation = {live}`, or \
             `rebuild start --generation {live}`"
        )
    }

    /// What the candidate lacks is kept in memory: where that is much, it must be on its way.
    async fn is_near(&self) -> anyhow::Result<()> {
        let live = self.offsets(self.live.generation).await?;
        let candidate = self.offsets(self.candidate.generation).await?;
        let lacks = |(partition, live): (&PartitionId, &Offset)| {
            candidate.get(partition).map_or(0, |at| live.0.saturating_sub(at.0).max(0))
        };
        if live.iter().map(lacks).fold(0, i64::saturating_add) > BEHIND_MAX {
            self.reaches(self.candidate.generation, &live).await?;
        }
        Ok(())
    }

    async fn hold(&self, decisions: &Decisions) -> anyhow::Result<Hold<'_>> {
        let (at, why) = (parts::now(), "held for a comparison".to_owned());
        let act = Act { who: self.act.who.clone(), at, why };
        Hold::take(self.console, decisions, self.candidate.generation, LEASE, act).await
    }

    async fn offsets(&self, generation: Generation) -> anyhow::Result<Offsets> {
        let positions = self.console.store.positions(generation).await;
        Ok(offsets(&positions.context("the projection cannot be read")?))
    }

    /// Where the candidate stands, once the served generation has got there too.
    async fn standing(&self, hold: &Hold<'_>) -> anyhow::Result<Offsets> {
        let deadline = Instant::now().checked_add(OBEY).unwrap_or_else(Instant::now);
        let standing = hold.standing(deadline).await?;
        let standing: Offsets = standing
            .with_context(|| {
                format!("generation {} did not stand still in time", self.candidate.generation.0)
            })?
            .into_iter()
            .collect();
        self.reaches(self.live.generation, &standing).await?;
        Ok(standing)
    }

    /// Waits until a generation has reached these offsets.
    async fn reaches(&self, generation: Generation, wanted: &Offsets) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let at = self.offsets(generation).await?;
            let behind =
                wanted.iter().find(|(partition, wanted)| at.get(partition).is_none_or(|at| at < *wanted));
            let Some((partition, wanted)) = behind else { return Ok(()) };
            anyhow::ensure!(
                begun.elapsed() < REACH,
                "generation {} does not reach {}@{wanted}, where the other one stands: it is not fed, or halted",
                generation.0,
                self.console.cluster.display(*partition)
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn compare<'h>(
        &'h self,
        hold: &mut Option<Hold<'h>>,
        law: Law,
        tally: Tally,
    ) -> anyhow::Result<Tally> {
        let standing = self.standing(hold.as_ref().context("the candidate is not held")?).await?;
        let tail = Tail::new(&self.console.cluster, standing).context("kafka settings")?;
        let mut engine = Engine::new(&self.console.cluster, Arc::new(law), Examined::Right, tail, tally);
        let store = &self.console.store;
        let generations = [self.live.generation, self.candidate.generation];
        let derivation = Derivation::new(generations);
        let on_hold = self.on_hold().await?;
        self.read(&mut engine, &derivation, &on_hold).await?;
        let mut walk = store.walk(&generations);
        let mut keys = Vec::new();
        while let Some(names) = store.step(&mut walk).await? {
            self.subjects(names, &mut keys).await?;
            while keys.len() >= SUBJECTS_MAX {
                let page = keys.split_off(keys.len().saturating_sub(SUBJECTS_MAX));
                self.read(&mut engine, &derivation, &page).await?;
            }
            if engine.tail_bytes() > TAIL_BYTES_MAX {
                let born = self.renew(hold, &mut engine).await?;
                self.read(&mut engine, &derivation, &born).await?;
            }
        }
        self.read(&mut engine, &derivation, &keys).await?;
        tokio::task::block_in_place(|| engine.settle())?;
        // Born since the walk passed.
        let born: Vec<Subject> = engine.unseen();
        self.read(&mut engine, &derivation, &born).await?;
        tokio::task::block_in_place(|| engine.settle())?;
        derivation.walk(store).await?;
        let told = self.look_again(&mut engine, &derivation).await?;
        for wrong in derivation.judge(store).await? {
            if !told.explains(&wrong.entry) {
                let [left, right] = wrong.sides.each_ref().map(Says::Held);
                engine.tally.add(wrong.difference(&self.console.cluster, left, right));
            }
        }
        Ok(engine.tally)
    }

    /// Who is on hold on either side, whom the walk may miss: who comes up twice counts once.
    async fn on_hold(&self) -> anyhow::Result<Vec<Subject>> {
        let partitions: Vec<PartitionId> =
            self.live.starts().into_iter().map(|(partition, _)| partition).collect();
        let mut on_hold = BTreeSet::new();
        for generation in [self.live.generation, self.candidate.generation] {
            on_hold.extend(self.console.store.on_hold(generation, &partitions).await?);
        }
        Ok(on_hold.into_iter().collect())
    }

    /// The subjects that a page of the walk stands for: each cell of the served generation, and what that lacks.
    async fn subjects(&self, names: Vec<(Generation, Name)>, keys: &mut Vec<Subject>) -> anyhow::Result<()> {
        let live = self.live.generation;
        let mut others = Vec::new();
        for (generation, name) in names {
            match name {
                Name::Cell(key) if generation == live => keys.push(key),
                Name::Cell(key) => others.push(key),
                Name::AccountQuarantine(id) => others.push(Subject::Account(id)),
                Name::CustomerQuarantine(id) => others.push(Subject::Customer(id)),
                Name::Owing(_) | Name::DueQuarantine(_) | Name::Index(_) | Name::Positions | Name::States => {
                }
            }
        }
        let known = self.console.store.exist(live, &others).await?;
        keys.extend(others.into_iter().zip(known).filter(|(_, known)| !known).map(|(key, _)| key));
        Ok(())
    }

    async fn read(
        &self,
        engine: &mut Engine<'_>,
        derivation: &Derivation<2>,
        keys: &[Subject],
    ) -> anyhow::Result<()> {
        for keys in keys.chunks(SUBJECTS_MAX) {
            let generations = [self.live.generation, self.candidate.generation];
            let beside = self.console.store.beside(generations, keys).await?;
            derivation.look(&self.console.store, keys, &beside.subjects).await?;
            let [left_at, right_at] = beside.positions.map(|positions| Arc::new(offsets(&positions)));
            anyhow::ensure!(
                right_at.as_ref() == engine.right_stands_at(),
                "generation {} went on while it was compared: this command, or the broker, took longer than the lease of its hold; repeat it",
                self.candidate.generation.0
            );
            for (key, [left, right]) in keys.iter().zip(beside.subjects) {
                let (left_at, right_at) = (Arc::clone(&left_at), Arc::clone(&right_at));
                engine.offer(Pair { key: key.clone(), left, left_at, right, right_at });
            }
            if engine.is_full() {
                tokio::task::block_in_place(|| engine.settle())?;
            }
        }
        Ok(())
    }

    /// Lets the candidate catch up, and holds it again: what it lacked till then is needed no more. Returns who was born
    /// meanwhile, whom the walk may miss.
    async fn renew<'h>(
        &'h self,
        hold: &mut Option<Hold<'h>>,
        engine: &mut Engine<'_>,
    ) -> anyhow::Result<Vec<Subject>> {
        tokio::task::block_in_place(|| engine.settle())?;
        if let Some(hold) = hold.take() {
            hold.release().await?;
        }
        let caught_up = self.offsets(self.live.generation).await?;
        self.reaches(self.candidate.generation, &caught_up).await?;
        let again = self.hold(&self.console.decisions().await?).await?;
        let standing = self.standing(hold.insert(again)).await?;
        tokio::task::block_in_place(|| engine.advance(&standing))?;
        let born = engine.unseen();
        engine.renew(Tail::new(&self.console.cluster, standing).context("kafka settings")?);
        Ok(born)
    }

    /// Reads what differs again: what still differs, under what is decided by then, does. Returns who, and in what.
    async fn look_again(&self, engine: &mut Engine<'_>, derivation: &Derivation<2>) -> anyhow::Result<Told> {
        let mut suspects = engine.take_suspects();
        for look in 1..=LOOKS_MAX {
            if suspects.is_empty() {
                break;
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            if look == LOOKS_MAX {
                engine.tell();
            }
            engine.look_again(Law::new(self.candidate, &self.console.decisions().await?)?);
            let mut keys: Vec<Subject> = suspects.into_iter().map(|suspect| suspect.key).collect();
            // Who came up twice differs once.
            keys.sort_unstable();
            keys.dedup();
            self.read(engine, derivation, &keys).await?;
            tokio::task::block_in_place(|| engine.settle())?;
            suspects = engine.take_suspects();
        }
        let mut told = Told::default();
        for suspect in suspects {
            told.add(&suspect);
            for difference in suspect.differences {
                engine.tally.add(difference);
            }
        }
        Ok(told)
    }
}

fn names(comparison: &Comparison) -> [String; 2] {
    [comparison.with, comparison.candidate].map(|generation| format!("generation {}", generation.0))
}

fn json(comparison: &Comparison, tally: &Tally, begun: Instant) -> anyhow::Result<String> {
    let [left, right] = names(comparison);
    let sides = Sides { left: &left, right: &right };
    let took = begun.elapsed();
    let report = json!({
        "candidate": comparison.candidate,
        "with": comparison.with,
        "cells": tally.cells,
        "differences": tally.differences(),
        "expected": tally.expected,
        "kinds": compared::kinds_json(tally),
        "milliseconds": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "cells_per_second": compared::per_second(tally.cells, took),
        "first": tally.first.iter().map(|difference| sides.json(difference)).collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&report)? + "\n")
}

fn text(comparison: &Comparison, tally: &Tally, begun: Instant) -> String {
    let [left, right] = names(comparison);
    let sides = Sides { left: &left, right: &right };
    let mut text: String = tally.first.iter().map(|difference| sides.text(difference)).collect();
    let rate = compared::per_second(tally.cells, begun.elapsed());
    let verdict = if tally.differences() == 0 { "agrees" } else { "differs" };
    let expected = match tally.expected {
        0 => String::new(),
        count => format!("; {count} differences were expected"),
    };
    compared::told(
        &mut text,
        format_args!(
            "{right} {verdict} with {left}: {} subjects compared, each once, {rate} a second{}{expected}\n",
            tally.cells,
            compared::kinds_told(tally)
        ),
    );
    text
}
