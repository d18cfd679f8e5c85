//! The switch: one pointer, flipped while nothing can go back.
//!
//! Both generations fold the same log, each at its own pace. So the one that is served is held still for a moment,
//! the other passes it, and then the pointer is flipped, if nobody else has flipped it: no answer is given from an
//! older position than one before. Readers have the heartbeats of both in view, so that none is refused.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::{
    config::Config,
    decisions::{Act, Birth, Decision, Decisions},
    domain::{Offset, PartitionId, Topic},
    ops::{
        Outcome,
        consent::Consent,
        console::{Console, Looked, because, born},
        hold::{Hold, Lease},
        partitions::said_once,
    },
    store::{Generation, WriteStore as _},
};

/// How long the served generation is held still, at most.
const HOLD_MAX: Duration = Duration::from_secs(10);
/// How much longer its owners wait by themselves.
const LEASE_MARGIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often a generation that is not ready is looked at before that is told.
const LOOKS_MAX: u32 = 3;

/// The command line of `rebuild promote`.
#[derive(Debug, Clone, clap::Args)]
pub struct PromoteArgs {
    /// Which generation; without it, the newest that is fed and not served.
    #[arg(value_name = "GENERATION")]
    pub generation: Option<u32>,
    /// Who decides, and whether to ask. With `--reason` also a generation that is not complete or not compared.
    #[command(flatten)]
    pub consent: Consent,
}

/// The command line of `rebuild rollback`.
#[derive(Debug, Clone, clap::Args)]
pub struct RollbackArgs {
    /// Who decides, and whether to ask. With `--reason` also to a generation that is not complete.
    #[command(flatten)]
    pub consent: Consent,
}

/// A switch that is asked for.
struct Switch {
    from: Generation,
    to: Generation,
    /// Both fold the same log: their offsets compare.
    same_log: bool,
    /// The other one can pass the served one.
    follows: bool,
    /// What speaks against it.
    faults: Vec<String>,
}

/// A switch that is made.
struct Flipped {
    /// How long the generation that was served was held still.
    held: Duration,
    /// Whether it goes on.
    released: anyhow::Result<()>,
}

/// `rebuild promote`.
pub async fn promote(config: Config, args: PromoteArgs) -> anyhow::Result<Outcome> {
    let console = Console::open(config)?;
    let decisions = console.decisions().await?;
    let looked = console.look().await?;
    let from = served(&looked)?;
    let to = match args.generation {
        Some(number) => Generation(number),
        None => newest(&decisions, from)?,
    };
    if from == to {
        return promoted_already(&console, &decisions, to, &args.consent).await;
    }
    let mut switch = Switch::new(&console, &decisions, looked, from, to).await?;
    switch.faults.extend(not_compared(&decisions, from, to));
    switch.make(&console, &args.consent, "promote").await
}

/// `rebuild rollback`.
pub async fn rollback(config: Config, args: RollbackArgs) -> anyhow::Result<Outcome> {
    let console = Console::open(config)?;
    let decisions = console.decisions().await?;
    let looked = console.look().await?;
    let from = served(&looked)?;
    let before = decisions.switched.as_ref().filter(|(_, to, _)| *to == from);
    let Some((to, _, _)) = before else {
        // Its maker may have been killed behind the flip.
        let unrecorded = decisions.serving().is_some_and(|serving| serving != from);
        anyhow::ensure!(
            !unrecorded,
            "the switch to generation {0} is not recorded: `rebuild promote {0}` records it, and it can be gone back from then",
            from.0
        );
        anyhow::bail!("there is nothing to go back to: no switch to generation {} is recorded", from.0);
    };
    let switch = Switch::new(&console, &decisions, looked, from, *to).await?;
    switch.make(&console, &args.consent, "go back to").await
}

fn served(looked: &Looked) -> anyhow::Result<Generation> {
    looked
        .live
        .active
        .ok_or_else(|| anyhow::anyhow!("readers are served no generation: no `project` has begun one"))
}

fn newest(decisions: &Decisions, served: Generation) -> anyhow::Result<Generation> {
    let newest =
        decisions.live().map(|birth| birth.generation).filter(|generation| *generation != served).max();
    newest.ok_or_else(|| {
        anyhow::anyhow!(
            "there is no generation but {}, which is served: `rebuild start` begins one",
            served.0
        )
    })
}

/// Nothing to do, unless the record of the switch is missing: its maker may have been killed behind the flip.
async fn promoted_already(
    console: &Console,
    decisions: &Decisions,
    to: Generation,
    consent: &Consent,
) -> anyhow::Result<Outcome> {
    if decisions.serving() == Some(to) {
        let by = decisions.switched.as_ref().filter(|(_, switched, _)| *switched == to);
        let by =
            by.map(|(_, _, act)| format!(": {} switched to it at {:.0}{}", act.who, act.at.0, because(act)));
        anyhow::bail!("generation {} is served already{}", to.0, by.unwrap_or_default());
    }
    let from = decisions.serving().unwrap_or(to);
    let act = consent.ask(&format!(
        "readers are served generation {}, but the record of that switch is missing: it will be written",
        to.0
    ))?;
    console.record(&Decision::Promoted { from, to, act }).await?;
    println!("recorded: readers are served generation {}", to.0);
    Ok(Outcome::Well)
}

fn not_compared(decisions: &Decisions, from: Generation, to: Generation) -> Option<String> {
    match decisions.comparison_of(from, to) {
        None => Some(format!("it was not compared with generation {}: `rebuild compare`", from.0)),
        Some(comparison) if comparison.differences > 0 => Some(format!(
            "the comparison of {:.0} found {} differences in {} cells",
            comparison.act.at.0, comparison.differences, comparison.cells
        )),
        Some(_) => None,
    }
}

impl Switch {
    async fn new(
        console: &Console,
        decisions: &Decisions,
        mut looked: Looked,
        from: Generation,
        to: Generation,
    ) -> anyhow::Result<Switch> {
        let candidate = born(decisions, to)?;
        let same_log = decisions.births.get(&from).is_some_and(|birth| birth.log() == candidate.log());
        let mut faults = not_ready(console, decisions, &looked, candidate);
        // In the midst of a rebalance a partition is nobody's, or its new owner has not seen the log's end yet.
        for _ in 1..LOOKS_MAX {
            if faults.is_empty() {
                break;
            }
            looked = console.look().await?;
            faults = not_ready(console, decisions, &looked, candidate);
        }
        Ok(Switch { from, to, same_log, follows: faults.is_empty(), faults })
    }

    async fn make(self, console: &Console, consent: &Consent, word: &str) -> anyhow::Result<Outcome> {
        let Switch { from: Generation(from), to: Generation(to), .. } = self;
        let overridden = consent.reason.as_ref().is_some_and(|reason| !reason.trim().is_empty());
        if !self.faults.is_empty() && !overridden {
            anyhow::bail!(
                "readers are not pointed to generation {to}, nothing was changed:\n  {}\n--reason TEXT does it nevertheless, and is recorded",
                self.faults.join("\n  ")
            );
        }
        let mut preview =
            format!("{word} generation {to}: readers are served it instead of generation {from}");
        for fault in &self.faults {
            preview.push_str("\n! nevertheless: ");
            preview.push_str(fault);
        }
        if !self.follows {
            preview.push_str("\n! readers get 503 until it has caught up with what they were told before");
        } else if !self.same_log {
            preview.push_str("\n! it folds another log: answers of the two do not compare by offset");
        }
        let act = consent.ask(&preview)?;
        // The question may have stood for long.
        let decisions = &console.decisions().await?;
        let candidate = born(decisions, self.to)?;
        if let Some(paused) = paused(console, decisions, candidate).first().filter(|_| self.follows) {
            anyhow::bail!(
                "readers are not pointed to generation {to}, nothing was changed: by now, {paused}"
            );
        }
        let Flipped { held, released } = self.flip(console, decisions, &act).await?;
        let promoted = Decision::Promoted { from: self.from, to: self.to, act };
        console.record(&promoted).await.with_context(|| {
            format!(
                "readers are served generation {to}, but that is not recorded: `rebuild promote {to}` once more records it"
            )
        })?;
        println!(
            "readers are served generation {to}; generation {from} was held still for {} ms, and is fed on until `rebuild retire {from}`",
            held.as_millis(),
        );
        released.with_context(|| {
            format!("generation {from} stands still; it goes on by itself when the lease is over")
        })?;
        Ok(Outcome::Well)
    }

    /// Flips the pointer, if it still is what was seen. An error says that it was not.
    async fn flip(&self, console: &Console, decisions: &Decisions, act: &Act) -> anyhow::Result<Flipped> {
        let begun = Instant::now();
        if !(self.follows && self.same_log) {
            self.point(console, act).await?;
            return Ok(Flipped { held: Duration::ZERO, released: Ok(()) });
        }
        // Readers turn away from answers that are too old: half of that is what a switch may cost.
        let bound = Duration::from_millis(console.config.api.max_staleness_ms.div_euclid(2)).min(HOLD_MAX);
        let deadline = begun.checked_add(bound).unwrap_or(begun);
        let why = format!("for the switch to generation {}", self.to.0);
        let act_of_hold = Act { why, ..act.clone() };
        let lease = Lease::Once(bound.saturating_add(LEASE_MARGIN));
        let hold = Hold::take(console, decisions, self.from, lease, act_of_hold).await?;
        let flipped = self.flip_held(console, act, &hold, deadline).await;
        let released = hold.release().await;
        flipped?;
        Ok(Flipped { held: begun.elapsed(), released })
    }

    async fn flip_held(
        &self,
        console: &Console,
        act: &Act,
        hold: &Hold<'_>,
        deadline: Instant,
    ) -> anyhow::Result<()> {
        let late =
            |what: &str| anyhow::anyhow!("{what}: nothing was changed; look at `generations`, and try again");
        let standing = hold.standing(deadline).await?;
        let standing = standing
            .ok_or_else(|| late(&format!("generation {} did not stand still in time", self.from.0)))?;
        while !self.has_passed(console, &standing).await? {
            if Instant::now() >= deadline {
                return Err(late(&format!(
                    "generation {} did not pass generation {}",
                    self.to.0, self.from.0
                )));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.point(console, act).await
    }

    async fn has_passed(
        &self,
        console: &Console,
        standing: &[(PartitionId, Offset)],
    ) -> anyhow::Result<bool> {
        let live = console.live().await?;
        let Some(fed) = live.generations.iter().find(|fed| fed.snapshot.generation == self.to) else {
            return Ok(false);
        };
        let next = |partition: &PartitionId| {
            let position = fed.snapshot.positions.iter().find(|(of, _)| of == partition);
            position.map(|(_, position)| position.checkpoint.next)
        };
        Ok(standing.iter().all(|(partition, at)| next(partition).is_some_and(|next| next >= *at)))
    }

    /// The flip itself: another operator may have been first, or may have retired what readers are now pointed to.
    async fn point(&self, console: &Console, act: &Act) -> anyhow::Result<()> {
        self.point_only(console, act).await?;
        let decisions = match console.decisions().await {
            Ok(decisions) => decisions,
            Err(error) => {
                let Generation(to) = self.to;
                eprintln!(
                    "whether generation {to} was retired meanwhile is not known, see `generations`: {error:#}"
                );
                return Ok(());
            }
        };
        if let Err(retired) = born(&decisions, self.to) {
            let back = console.store.activate(Some(self.to), self.from).await;
            let served = if matches!(back, Ok(true)) {
                "readers are served as before"
            } else {
                "look at `generations`"
            };
            return Err(retired.context(format!("another operator was first: {served}")));
        }
        Ok(())
    }

    async fn point_only(&self, console: &Console, act: &Act) -> anyhow::Result<()> {
        let flipped = console.store.activate(Some(self.from), self.to).await;
        if matches!(flipped, Ok(true)) {
            return Ok(());
        }
        // Without an answer, the pointer itself tells.
        let now = console.store.active().await?;
        if flipped.is_err() && now == Some(self.to) {
            return Ok(());
        }
        flipped?;
        let decisions = console.decisions().await?;
        // Who was first may not have recorded it yet.
        let by = decisions.switched.as_ref().filter(|(_, to, other)| Some(*to) == now && other != act);
        let now = now.map_or("none".to_owned(), |now| now.0.to_string());
        let by = by.map(|(_, _, act)| format!(", as {} decided at {:.0}{}", act.who, act.at.0, because(act)));
        anyhow::bail!(
            "another operator was first: readers are served generation {now}{}; nothing was changed here",
            by.unwrap_or_default()
        )
    }
}

/// Why readers could not be served it at once; empty where they could.
fn not_ready(console: &Console, decisions: &Decisions, looked: &Looked, birth: &Birth) -> Vec<String> {
    let generation = birth.generation;
    let mut said = Vec::new();
    let Some(fed) = looked.fed(generation) else {
        return vec!["the store knows nothing of it: is `rebuild start` running?".to_owned()];
    };
    let of = |id: &PartitionId| console.cluster.display(*id);
    let max_ms = console.config.api.max_staleness_ms.div_euclid(2);
    for (id, _) in birth.starts() {
        let position = fed.snapshot.positions.iter().find(|(of, _)| *of == id);
        let state = fed.states.iter().find(|(of, _)| *of == id).map(|(_, state)| state);
        let lives = looked.beating.contains(&(generation, id));
        let fault = match (position, state) {
            (None, _) => Some("the store knows nothing of it".to_owned()),
            (Some((_, position)), _) if !position.checkpoint.complete => {
                Some(format!("is not complete: it stands at offset {}", position.checkpoint.next))
            }
            (Some(_), Some(state)) if state.halt.is_some() => {
                state.halt.as_ref().map(|halt| format!("is halted: {}", halt.reason))
            }
            (Some(_), Some(state)) if state.paused.is_some() && lives => {
                state.paused.as_ref().map(|paused| format!("is {paused}"))
            }
            (Some(_), _) if !lives => {
                Some(format!("has no living owner: `rebuild start --generation {}` feeds it", generation.0))
            }
            (Some(_), state) => {
                let behind = state.and_then(|state| state.caught_up_ms_ago).is_none_or(|ms| ms > max_ms);
                behind.then(|| "has not caught up with the log".to_owned())
            }
        };
        said.extend(fault.map(|fault| (of(&id), fault)));
    }
    let mut faults = said_once(&said);
    if !faults.iter().any(|fault| fault.contains("is paused")) {
        faults.extend(paused(console, decisions, birth));
    }
    faults
}

/// What operators have paused until further notice, whether its owners have heard of it or not.
fn paused(console: &Console, decisions: &Decisions, birth: &Birth) -> Vec<String> {
    let generation = birth.generation;
    let lasting =
        |topic: &&Topic| decisions.pauses(generation, **topic).iter().any(|pause| pause.lease_ms.is_none());
    let told = |topic: &Topic| {
        let name = console.cluster.topic_name(*topic);
        format!("{name} is paused: `resume --generation {}`", generation.0)
    };
    birth.topics.keys().filter(lasting).map(told).collect()
}
