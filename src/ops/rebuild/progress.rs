//! How far a rebuild is: a bar on a terminal, a line now and then elsewhere.

use std::{
    collections::VecDeque,
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use super::preflight::in_words;
use crate::{
    decisions::Birth,
    domain::{Offset, PartitionId},
    ops::console::Console,
    store::Fed,
};

const LOOK_EVERY: Duration = Duration::from_millis(500);
const LINE_EVERY: Duration = Duration::from_secs(5);
/// The rate is that of the last so many looks.
const LOOKS_MAX: usize = 20;

/// Where each partition starts, and where the log ended when this began.
struct Course {
    partitions: Vec<(PartitionId, Offset, Offset)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    folded: u64,
    total: u64,
    /// Every partition has reached an end of the log that was taken after its birth.
    complete: bool,
}

impl Course {
    fn at(&self, fed: &Fed) -> Point {
        let mut point = Point { folded: 0, total: 0, complete: true };
        let length =
            |from: Offset, to: Offset| u64::try_from(to.0.saturating_sub(from.0)).unwrap_or_default();
        for (id, start, end) in &self.partitions {
            let position = fed.snapshot.positions.iter().find(|(of, _)| of == id);
            let next = position.map_or(*start, |(_, position)| position.checkpoint.next);
            point.complete &= position.is_some_and(|(_, position)| position.checkpoint.complete);
            point.folded = point.folded.saturating_add(length(*start, next.min(*end)));
            point.total = point.total.saturating_add(length(*start, *end));
        }
        point
    }
}

/// Tells how the generation grows until it is complete, and then what may be done with it.
pub(super) async fn tell(console: &Console, birth: &Birth, stop: CancellationToken) {
    let number = birth.generation.0;
    let Some(course) = course(console, birth).await else { return };
    let bar = std::io::stderr().is_terminal().then(|| {
        let template = "generation {prefix} {wide_bar} {percent} % {msg}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(0).with_style(style).with_prefix(number.to_string())
    });
    let mut looks = VecDeque::new();
    let mut line_due = Instant::now();
    loop {
        if let Ok(live) = console.live().await
            && let Some(fed) = live.generations.iter().find(|fed| fed.snapshot.generation == birth.generation)
        {
            let point = course.at(fed);
            looks.push_back((Instant::now(), point.folded));
            if looks.len() > LOOKS_MAX {
                looks.pop_front();
            }
            let pace = pace(&looks, point);
            if let Some(bar) = &bar {
                bar.set_length(point.total);
                bar.set_position(point.folded);
                bar.set_message(pace.clone());
            } else if Instant::now() >= line_due && !point.complete {
                say(&format!("generation {number}: {} of {} records, {pace}", point.folded, point.total));
                line_due = Instant::now().checked_add(LINE_EVERY).unwrap_or(line_due);
            }
            if point.complete {
                if let Some(bar) = &bar {
                    bar.finish_and_clear();
                }
                let then = if birth.active {
                    "readers are served it".to_owned()
                } else {
                    format!("`rebuild compare {number}`, then `rebuild promote {number}`")
                };
                say(&format!(
                    "generation {number} is complete and follows the log: {then}; this process feeds it until it is stopped"
                ));
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn course(console: &Console, birth: &Birth) -> Option<Course> {
    let (cluster, starts) = (console.cluster.clone(), birth.starts());
    let asked = tokio::task::spawn_blocking(move || {
        let inquirer = cluster.inquirer("read_uncommitted")?;
        let mut partitions = Vec::new();
        for (id, start) in starts {
            let (_, high) = crate::source::watermarks(&cluster, &inquirer, id, Duration::from_secs(10))?;
            partitions.push((id, start, Offset(high)));
        }
        Ok::<_, rdkafka::error::KafkaError>(Course { partitions })
    });
    match asked.await {
        Ok(Ok(course)) => Some(course),
        Ok(Err(error)) => {
            tracing::warn!(%error, "how far the rebuild is will not be told");
            None
        }
        Err(_) => None,
    }
}

/// `84000 records/s, 1 min 40 s left`, by the looks of the last seconds.
fn pace(looks: &VecDeque<(Instant, u64)>, point: Point) -> String {
    let (Some((first_at, first)), Some((last_at, last))) = (looks.front(), looks.back()) else {
        return String::new();
    };
    let took = u64::try_from(last_at.duration_since(*first_at).as_millis()).unwrap_or(u64::MAX);
    let folded = last.saturating_sub(*first);
    let per_second = folded.saturating_mul(1_000).checked_div(took).unwrap_or_default();
    let left = point.total.saturating_sub(point.folded);
    match left.checked_div(per_second) {
        _ if left == 0 => format!("{per_second} records/s, catching up"),
        Some(seconds) => format!("{per_second} records/s, {} left", in_words(Duration::from_secs(seconds))),
        None => "waiting for the first records".to_owned(),
    }
}

/// A reader of standard output who has gone away does not stop the rebuild.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test fails where it overflows")]

    use super::*;

    #[test]
    fn the_pace_is_that_of_the_last_looks() {
        let start = Instant::now();
        let at = |ms: u64, folded| (start + Duration::from_millis(ms), folded);
        let point = |folded| Point { folded, total: 10_000, complete: false };
        let rows = [
            (vec![at(0, 0)], point(0), "waiting for the first records"),
            (vec![at(0, 0), at(2_000, 1_000)], point(1_000), "500 records/s, 18 s left"),
            (vec![at(0, 1_000), at(500, 4_000)], point(4_000), "6000 records/s, 1 s left"),
            (vec![at(0, 9_000), at(1_000, 10_000)], point(10_000), "1000 records/s, catching up"),
        ];
        for (looks, point, expected) in rows {
            assert_eq!(pace(&looks.into(), point), expected);
        }
    }
}
