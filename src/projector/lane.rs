//! One subject's way through one partition: what is folded, what waits behind a record that was set aside, what an
//! operator decided about it, and how a sequence gap closes.
//!
//! The same log and the same decisions give the same cell, whether a decision is known when its record is met or
//! comes later: owners that fold a key again, audits, comparisons and explanations all go through here.
//!
//! Where a key waits because of a gap, and every missing number has arrived behind it, those are folded first, in
//! their order, then the record with the gap, then the others in the log's order. A record that was folded early is
//! a repeat when its place comes. It is all or nothing: as long as the gap does not close, the cell is the one before
//! it, so a decision means the same whenever it comes.

mod gap;
mod patch;

use std::collections::VecDeque;

use crate::{
    decisions::{Amendments, Patch, Remedy},
    domain::{
        Cell, Class, Effect, Event, Manner, Offset, Parameters, PartitionId, RecordAt, Rejection, Rules,
        Subject, Time, fold_in,
    },
    source::batch::Stored,
    store::Quarantine,
    wire,
};
pub use gap::{Kept, Missing};
pub use patch::{Past, apply, replacement};

use gap::Gap;
use patch::record_at;

/// What the fold of a subject rests on besides its records.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// Where the records come from.
    pub partition: PartitionId,
    /// Whose they are.
    pub subject: &'a Subject,
    /// Of the generation.
    pub parameters: &'a Parameters,
    /// The same, resolved.
    pub rules: &'a Rules,
    /// The recorded homes and what operators decided.
    pub amendments: &'a Amendments,
}

/// A subject between two of its records in one partition.
#[derive(Debug, Default)]
pub struct Lane {
    cell: Option<Cell>,
    /// Apart: almost none has one, and there may be as many lanes as subjects.
    hold: Option<Box<Hold>>,
}

/// Why a subject's records wait.
#[derive(Debug)]
struct Hold {
    quarantine: Quarantine,
    gap: Option<Gap>,
}

/// What became of a record.
#[derive(Debug)]
pub struct Step<'a, 'r> {
    /// Where it stands.
    pub at: RecordAt,
    /// The record itself.
    pub record: &'a Stored<'r>,
    /// What was read from it, or from what replaces it; `None` where it cannot be read.
    pub event: Option<&'a Event>,
    /// What was done with it.
    pub fate: Fate,
    /// The decision by which that was done.
    pub patch: Option<&'a Patch>,
    /// The cell afterwards.
    pub cell: Option<&'a Cell>,
}

/// What was done with a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It was folded; that may have ignored it.
    Folded(Effect),
    /// It was folded before its turn, because it bears the number for which others wait.
    Early(Effect),
    /// An operator had it passed over.
    Skipped,
    /// It cannot be applied: its key waits from here on.
    SetAside(Rejection),
    /// Its key waits since the record at this offset.
    Waits(Offset),
}

impl Ground<'_> {
    /// Where the subject lives, where that is recorded.
    pub fn home(&self) -> Option<i32> {
        self.amendments.homes.get(self.subject).copied()
    }
}

/// Reads a record of the subject's.
fn read_of(ground: &Ground<'_>, record: &Stored<'_>) -> Result<Event, Rejection> {
    wire::decode_for(&record.record(ground.partition.topic), Some(ground.subject), ground.parameters)
}

impl Lane {
    /// A subject that waits for nothing: before its first record, or from a cell on.
    pub fn new(cell: Option<Cell>) -> Self {
        Lane { cell, hold: None }
    }

    /// The cell so far; `None` before the first record that was folded.
    pub fn cell(&self) -> Option<&Cell> {
        self.cell.as_ref()
    }

    /// Why its records wait, if they do.
    pub fn quarantine(&self) -> Option<&Quarantine> {
        self.hold.as_ref().map(|hold| &hold.quarantine)
    }

    /// The numbers that its records wait for, where they do that because of a gap that may close by itself.
    pub fn missing(&self) -> Option<&Missing> {
        Some(&self.hold.as_ref()?.gap.as_ref()?.missing)
    }

    /// About how much memory the records take that wait behind a gap.
    pub fn waiting_bytes(&self) -> usize {
        self.hold.as_ref().and_then(|hold| hold.gap.as_ref()).map_or(0, Gap::bytes)
    }

    /// The cell, and why its records wait, if they do.
    pub fn into_parts(self) -> (Option<Cell>, Option<Quarantine>) {
        (self.cell, self.hold.map(|hold| hold.quarantine))
    }

    /// Takes the subject's next record, and tells what became of it; of several, where a gap closes.
    pub fn take(&mut self, ground: &Ground<'_>, record: &Stored<'_>, tell: &mut dyn FnMut(Step<'_, '_>)) {
        let read = read_of(ground, record);
        let Some(hold) = &mut self.hold else {
            if let Err(rejection) = self.fold(ground, record, &read, tell) {
                self.hold(ground, record, &read, rejection, VecDeque::new(), tell);
            }
            return;
        };
        hold.quarantine.waiting = hold.quarantine.waiting.saturating_add(1);
        if hold.gap.as_mut().is_some_and(|gap| !gap.keep(record, &read)) {
            hold.gap = None;
        }
        let closes = hold
            .gap
            .as_mut()
            .is_some_and(|gap| read.as_ref().is_ok_and(|event| gap.missing.may_close_by(event)));
        let (at, event, fate) =
            (record_at(ground, record), read.as_ref().ok(), Fate::Waits(hold.quarantine.offset));
        tell(Step { at, record, event, fate, patch: None, cell: self.cell.as_ref() });
        if closes {
            self.close_the_gap(ground, tell);
        }
    }

    fn fold(
        &mut self,
        ground: &Ground<'_>,
        record: &Stored<'_>,
        read: &Result<Event, Rejection>,
        tell: &mut dyn FnMut(Step<'_, '_>),
    ) -> Result<(), Rejection> {
        let at = record_at(ground, record);
        let applied = apply(&mut self.cell, ground, record, read);
        let replaced = match &applied {
            Ok((_, Some(Patch { remedy: Remedy::Replace(text), .. }))) => {
                replacement(ground, record, text).ok()
            }
            Ok(_) | Err(_) => None,
        };
        let event = replaced.as_ref().or(read.as_ref().ok());
        let (fate, patch) = match applied? {
            (Past::Folded(effect), patch) => (Fate::Folded(effect), patch),
            (Past::Skipped, patch) => (Fate::Skipped, patch),
        };
        tell(Step { at, record, event, fate, patch, cell: self.cell.as_ref() });
        Ok(())
    }

    /// From here on the subject's records wait; `behind` are those that wait already.
    fn hold(
        &mut self,
        ground: &Ground<'_>,
        record: &Stored<'_>,
        read: &Result<Event, Rejection>,
        why: Rejection,
        behind: VecDeque<Kept>,
        tell: &mut dyn FnMut(Step<'_, '_>),
    ) {
        let quarantine = Quarantine {
            partition: ground.partition,
            offset: record.offset,
            class: why.class,
            since: Time::from_millis(record.timestamp_ms),
            waiting: u64::try_from(behind.len()).unwrap_or(u64::MAX),
            heals: false,
        };
        let missing = match (why.class, read) {
            (Class::SequenceGap, Ok(event)) => Missing::before(event, self.cell.as_ref(), ground.rules),
            (_, _) => None,
        };
        let gap = missing.map(|missing| Gap::new(missing, Kept::new(record, read), behind));
        self.hold = Some(Box::new(Hold { quarantine, gap }));
        let (at, event, fate) = (record_at(ground, record), read.as_ref().ok(), Fate::SetAside(why));
        tell(Step { at, record, event, fate, patch: None, cell: self.cell.as_ref() });
    }

    /// Folds what waits, as far as it may be folded now.
    fn close_the_gap(&mut self, ground: &Ground<'_>, tell: &mut dyn FnMut(Step<'_, '_>)) {
        let Some(mut hold) = self.hold.take() else { return };
        let Some(gap) = &mut hold.gap else { return self.hold = Some(hold) };
        let Some(first) = gap.records.pop_front() else { return self.hold = Some(hold) };
        let read = read_of(ground, &first.stored());
        let tried = self.fold_with_the_missing(ground, &first.stored(), &read, &gap.records, tell);
        if let Err(stuck_at) = tried {
            gap.records.push_front(first);
            gap.missing.is_stuck_at(stuck_at);
            self.hold = Some(hold);
            return;
        }
        let mut records = std::mem::take(&mut gap.records);
        while let Some(kept) = records.pop_front() {
            let record = kept.stored();
            let read = read_of(ground, &record);
            if let Err(why) = self.fold(ground, &record, &read, tell)
                && self.fold_with_the_missing(ground, &record, &read, &records, tell).is_err()
            {
                return self.hold(ground, &record, &read, why, records, tell);
            }
        }
    }

    /// Folds the events that a record with a gap waits for, and then the record; all of them or none. An error is the
    /// number at which that ends.
    fn fold_with_the_missing(
        &mut self,
        ground: &Ground<'_>,
        record: &Stored<'_>,
        read: &Result<Event, Rejection>,
        behind: &VecDeque<Kept>,
        tell: &mut dyn FnMut(Step<'_, '_>),
    ) -> Result<(), u64> {
        let missing =
            read.as_ref().ok().and_then(|waits| Missing::before(waits, self.cell.as_ref(), ground.rules));
        // A record without a number, which none of those that are missing is.
        let Some(missing) = missing else { return Err(u64::MAX) };
        let before = self.cell.clone();
        let mut early = Vec::new();
        for number in missing.range.clone() {
            let Some((at, record, event, effect)) = self.fold_early(ground, &missing.source, number, behind)
            else {
                self.cell = before;
                return Err(number);
            };
            early.push((at, record, event, effect, self.cell.clone()));
        }
        let mut steps_of_early = |tell: &mut dyn FnMut(Step<'_, '_>)| {
            for (at, record, event, effect, cell) in early.drain(..) {
                let (event, fate, cell) = (Some(&event), Fate::Early(effect), cell.as_ref());
                tell(Step { at, record: &record, event, fate, patch: None, cell });
            }
        };
        let folded = self.fold(ground, record, read, &mut |step| {
            steps_of_early(tell);
            tell(step);
        });
        folded.map_err(|_| {
            self.cell = before;
            missing.range.end
        })
    }

    /// Folds the first record behind a gap that bears a number of the source and can be folded.
    fn fold_early<'b>(
        &mut self,
        ground: &Ground<'_>,
        source: &str,
        number: u64,
        behind: &'b VecDeque<Kept>,
    ) -> Option<(RecordAt, Stored<'b>, Event, Effect)> {
        behind.iter().filter(|kept| kept.bears(source, number)).find_map(|kept| {
            let record = kept.stored();
            let event = read_of(ground, &record).ok()?;
            let at = record_at(ground, &record);
            let manner = Manner::Early;
            let effect = fold_in(&mut self.cell, &event, &at, ground.home(), ground.rules, manner).ok()?;
            Some((at, record, event, effect))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        decisions::Act,
        domain::{AccountId, BalanceType, Currency, FOLD_VERSION, FingerprintKey, Topic},
    };

    const PARTITION: PartitionId = PartitionId { topic: Topic::Ledger, partition: 0 };

    fn parameters() -> Parameters {
        Parameters {
            fold_version: FOLD_VERSION,
            zone: "Europe/Prague".to_owned(),
            event_window: 2,
            value_bytes_max: 1 << 20,
            depth_max: 64,
            types_ignored: vec!["ledger.account.renamed.v1".to_owned()],
            fingerprint_key: FingerprintKey([7; 16]),
        }
    }

    /// A booked entry of 10^n crowns, so that a balance tells which ones are in it.
    fn booked(n: u32, source: &str, sequence: Option<u64>) -> Value {
        json!({
            "specversion": "1.0",
            "id": format!("00000000-0000-4000-8000-{n:012}"),
            "source": source,
            "type": "ledger.entry.booked.v1",
            "subject": "A1",
            "time": format!("2026-03-01T10:00:{n:02}Z"),
            "sequence": sequence,
            "data": {
                "entry_id": format!("e{n}"), "account_id": "A1", "amount": 10_i64.pow(n).to_string(),
                "currency": "CZK", "credit_debit_indicator": "CRDT", "booking_date": "2026-03-01",
            },
        })
    }

    fn numbered(n: u32, sequence: u64) -> Value {
        booked(n, "/one", Some(sequence))
    }

    fn without_amount(n: u32, number: u64) -> Value {
        let mut event = numbered(n, number);
        event["data"]["amount"] = json!("0");
        event
    }

    fn unreadable() -> Value {
        json!("no event")
    }

    fn log(events: &[Value]) -> Vec<Kept> {
        let kept = |(offset, event): (i64, &Value)| Kept {
            offset: Offset(offset),
            timestamp_ms: 1_780_000_000_000,
            key: Some(b"A1".to_vec()),
            value: Some(event.to_string().into_bytes()),
            headers: vec![("content-type".to_owned(), Some(wire::STRUCTURED.as_bytes().to_vec()))],
            numbered: None,
        };
        (0..).zip(events).map(kept).collect()
    }

    fn decided(patches: &[(i64, Remedy)]) -> Amendments {
        let mut amendments = Amendments::default();
        for (offset, remedy) in patches {
            let act = Act { who: "me".to_owned(), at: Time::from_millis(0), why: String::new() };
            let (offset, key, remedy) = (Offset(*offset), Some("A1".to_owned()), remedy.clone());
            amendments.patch(Patch { partition: PARTITION, offset, key, remedy, log: None, act });
        }
        amendments
    }

    struct World {
        parameters: Parameters,
        rules: Rules,
        subject: Subject,
    }

    impl World {
        fn new() -> Self {
            let parameters = parameters();
            let rules = Rules::new(&parameters).unwrap();
            World { parameters, rules, subject: Subject::Account(AccountId::parse("A1").unwrap()) }
        }

        /// Feeds records to a lane; what became of each, in order.
        fn feed(&self, lane: &mut Lane, records: &[Kept], amendments: &Amendments) -> Vec<(i64, String)> {
            let ground = Ground {
                partition: PARTITION,
                subject: &self.subject,
                parameters: &self.parameters,
                rules: &self.rules,
                amendments,
            };
            let mut told = Vec::new();
            for record in records {
                lane.take(&ground, &record.stored(), &mut |step| {
                    let fate = match &step.fate {
                        Fate::Folded(effect) => format!("{:?}", effect.outcome),
                        Fate::Early(_) => "Early".to_owned(),
                        Fate::Skipped => "Skipped".to_owned(),
                        Fate::SetAside(why) => why.class.name().to_owned(),
                        Fate::Waits(_) => "waits".to_owned(),
                    };
                    told.push((step.at.offset.0, fate));
                });
            }
            told
        }

        /// The log folded straight, with every decision known from the beginning.
        fn straight(&self, events: &[Value], patches: &[(i64, Remedy)]) -> Lane {
            let mut lane = Lane::default();
            self.feed(&mut lane, &log(events), &decided(patches));
            lane
        }
    }

    fn balance(lane: &Lane) -> String {
        let Some(Cell::Account(account)) = lane.cell() else { return "none".to_owned() };
        let today = crate::domain::Day::parse("2026-03-02").unwrap();
        let figure = account.figure(Currency::parse("CZK").unwrap(), BalanceType::Itbd, today);
        figure.map_or("none".to_owned(), |figure| {
            (figure.unwrap().amount.ten_thousandths() / 10_000).to_string()
        })
    }

    #[test]
    fn a_gap_closes_when_the_missing_number_arrives() {
        let world = World::new();
        let rows: &[(&[u64], &str)] = &[
            (&[1, 3, 2], "111"),
            (&[1, 3, 4, 5, 2], "11111"),
            (&[3, 2, 1], "111"),
            (&[4, 1, 3, 2], "1111"),
            // Two gaps, the second behind the first.
            (&[1, 3, 6, 2, 4, 5], "111111"),
            (&[2, 1, 4, 3, 6, 5], "111111"),
            // The same event again, before and behind its place.
            (&[1, 3, 3, 2, 2], "111"),
        ];
        for (numbers, expected) in rows {
            let events: Vec<Value> =
                numbers.iter().map(|n| numbered(u32::try_from(*n).unwrap() - 1, *n)).collect();
            let lane = world.straight(&events, &[]);
            assert_eq!(balance(&lane), *expected, "{numbers:?}");
            assert_eq!(lane.quarantine(), None, "{numbers:?}");
            assert_eq!(lane.cell().unwrap().applied(), Offset(i64::try_from(numbers.len()).unwrap()));
        }
    }

    #[test]
    fn the_order_in_which_a_gap_closes_is_told_record_by_record() {
        let world = World::new();
        let events = [numbered(0, 1), numbered(2, 3), booked(5, "/two", None), numbered(1, 2)];
        let told = world.feed(&mut Lane::default(), &log(&events), &Amendments::default());
        let told: Vec<(i64, &str)> = told.iter().map(|(offset, fate)| (*offset, fate.as_str())).collect();
        let expected = [
            (0, "Applied"),
            (1, "sequence-gap"),
            (2, "waits"),
            (3, "waits"),
            (3, "Early"),
            (1, "Applied"),
            (2, "Applied"),
            (3, "Ignored(Duplicate)"),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_gap_that_closes_on_another_fault_holds_the_key_there() {
        let world = World::new();
        let fault = booked(3, "/one", Some(9));
        let events = [numbered(0, 1), numbered(2, 3), unreadable(), fault, numbered(1, 2), numbered(4, 4)];
        let lane = world.straight(&events, &[]);
        let held = lane.quarantine().unwrap();
        assert_eq!((held.offset, held.class, held.waiting), (Offset(2), Class::NotCloudevents, 3));
        assert_eq!(balance(&lane), "111");
    }

    #[test]
    fn a_gap_that_cannot_close_leaves_the_cell_as_it_was() {
        let world = World::new();
        // An entry that is known with another amount.
        let known = |number| {
            let mut event = numbered(0, number);
            event["data"]["amount"] = json!("7");
            event
        };
        let rows: [&[Value]; 4] = [
            // One of two is still missing.
            &[numbered(0, 1), numbered(3, 4), numbered(1, 2)],
            &[numbered(0, 1), numbered(3, 4), numbered(2, 3), numbered(2, 3)],
            // The record with the gap cannot be folded even so.
            &[numbered(0, 1), known(3), numbered(1, 2)],
            // Nor can one of those before it.
            &[numbered(0, 1), numbered(3, 4), numbered(1, 2), known(3), numbered(1, 2)],
        ];
        for events in rows {
            let lane = world.straight(events, &[]);
            let held = lane.quarantine().unwrap();
            assert_eq!((held.offset, held.class), (Offset(1), Class::SequenceGap));
            assert_eq!(usize::try_from(held.waiting).unwrap(), events.len() - 2);
            assert_eq!((balance(&lane).as_str(), lane.cell().unwrap().applied()), ("1", Offset(1)));
        }
    }

    #[test]
    fn a_gap_that_cannot_close_is_tried_again_for_the_number_alone_at_which_it_failed() {
        let world = World::new();
        let mut known = numbered(0, 3);
        known["data"]["amount"] = json!("7");
        let mut lane = world.straight(&[numbered(0, 1), numbered(3, 4), numbered(1, 2), known.clone()], &[]);
        let may_close = |lane: &Lane, event: &Value| {
            let record = log(std::slice::from_ref(event)).remove(0);
            let subject = &world.subject;
            let (raw, parameters) = (record.stored(), &world.parameters);
            let event = wire::decode_for(&raw.record(Topic::Ledger), Some(subject), parameters).unwrap();
            lane.missing().unwrap().clone().may_close_by(&event)
        };
        let (two, three) = (numbered(1, 2), numbered(2, 3));
        let others = [&two, &numbered(3, 4), &booked(2, "/two", Some(3)), &booked(2, "/one", None)];
        assert_eq!(others.map(|other| may_close(&lane, other)), [false; 4]);
        assert!(may_close(&lane, &three) && may_close(&lane, &known));
        let mut all = log(&[numbered(0, 1), numbered(3, 4), two, known, three]);
        world.feed(&mut lane, &all.split_off(4), &Amendments::default());
        // When its place comes, the other one with that number is a dead letter of its own.
        let held = lane.quarantine().map(|held| (held.offset, held.class));
        assert_eq!((balance(&lane).as_str(), held), ("1111", Some((Offset(3), Class::Conflict))));
    }

    #[test]
    fn each_remedy_gets_past_its_record_and_no_other() {
        let world = World::new();
        let replaced = booked(3, "/one", Some(2)).to_string();
        let late = json!("2026-02-01T00:00:00Z");
        let unverifiable = {
            let mut event = booked(4, "/two", None);
            event["time"] = late;
            event
        };
        let many = || (5..8).map(|n| booked(n, "/two", None));
        let mut after_many: Vec<Value> = many().collect();
        after_many.push(unverifiable);
        after_many.push(booked(0, "/two", None));
        after_many[4]["time"] = json!("2026-03-01T10:00:30Z");
        let rows: Vec<(&str, Vec<Value>, Remedy, &str, bool)> = vec![
            (
                "an unreadable one skipped",
                vec![numbered(0, 1), unreadable(), numbered(2, 3)],
                Remedy::Skip,
                "101",
                true,
            ),
            (
                "once only",
                vec![numbered(0, 1), unreadable(), numbered(2, 3), numbered(4, 5)],
                Remedy::Skip,
                "101",
                false,
            ),
            (
                "one whose data alone is wrong uses up its number",
                vec![numbered(0, 1), without_amount(1, 2), numbered(2, 3)],
                Remedy::Skip,
                "101",
                true,
            ),
            (
                "its number and no other",
                vec![numbered(0, 1), without_amount(1, 2), numbered(4, 5)],
                Remedy::Skip,
                "1",
                false,
            ),
            ("the first of a subject skipped", vec![unreadable(), numbered(2, 3)], Remedy::Skip, "100", true),
            (
                "replaced",
                vec![numbered(0, 1), unreadable(), numbered(2, 3)],
                Remedy::Replace(replaced),
                "1101",
                true,
            ),
            (
                "a gap skipped uses up its number",
                vec![numbered(0, 1), numbered(2, 3), numbered(3, 4)],
                Remedy::Skip,
                "1001",
                true,
            ),
            (
                "a gap accepted",
                vec![numbered(0, 1), numbered(2, 3), numbered(3, 4)],
                Remedy::Accept,
                "1101",
                true,
            ),
            ("a late one accepted", after_many.clone(), Remedy::Accept, "11110001", true),
            ("a late one skipped", after_many, Remedy::Skip, "11100001", true),
            (
                "tried again in vain",
                vec![numbered(0, 1), numbered(2, 3), numbered(3, 4)],
                Remedy::Retry,
                "1",
                false,
            ),
        ];
        for (name, events, remedy, expected, free) in rows {
            let poison = world.straight(&events, &[]).quarantine().unwrap_or_else(|| panic!("{name}")).offset;
            let decided = world.straight(&events, &[(poison.0, remedy)]);
            assert_eq!(balance(&decided), expected, "{name}");
            assert_eq!(decided.quarantine().is_none(), free, "{name}: {:?}", decided.quarantine());
        }
    }

    #[test]
    fn what_was_given_up_is_a_conflict_when_it_comes_after_all() {
        let world = World::new();
        let events = [numbered(0, 1), numbered(2, 4), numbered(1, 2)];
        for remedy in [Remedy::Accept, Remedy::Skip] {
            let lane = world.straight(&events, &[(1, remedy)]);
            assert_eq!(lane.quarantine().unwrap().class, Class::Conflict);
        }
    }

    #[test]
    fn a_type_that_is_ignored_uses_up_its_number_and_makes_no_subject() {
        let world = World::new();
        let ignored = |n, sequence: Option<u64>| {
            let mut event = booked(n, "/one", sequence);
            event["type"] = "ledger.account.renamed.v1".into();
            event["data"] = Value::Null;
            event
        };
        let lane = world.straight(&[ignored(1, None)], &[]);
        assert!(lane.cell().is_none() && lane.quarantine().is_none());
        let lane =
            world.straight(&[numbered(0, 1), ignored(1, Some(2)), numbered(2, 3), ignored(3, None)], &[]);
        assert_eq!((balance(&lane).as_str(), lane.quarantine()), ("101", None));
        assert_eq!(lane.cell().unwrap().applied(), Offset(4));
        let lane = world.straight(&[numbered(0, 1), ignored(1, Some(3))], &[]);
        assert_eq!(lane.quarantine().unwrap().class, Class::SequenceGap);
    }

    /// A generator of small numbers: the same seed gives the same log.
    struct Seeded(u64);

    impl Seeded {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33).checked_rem(bound).unwrap()
        }
    }

    #[test]
    fn a_decision_that_comes_late_gives_the_same_as_one_known_from_the_beginning() {
        let world = World::new();
        let mut redriven = 0;
        for seed in 0..3_000 {
            let mut random = Seeded(seed);
            let length = 4 + random.below(8);
            let mut next = [1_u64; 2];
            let mut events: Vec<Value> = (0..length)
                .map(|n| match random.below(6) {
                    0 => unreadable(),
                    1 => booked(u32::try_from(n).unwrap(), "/three", None),
                    _ => {
                        let of = usize::try_from(random.below(2)).unwrap();
                        let number = next[of];
                        next[of] += 1;
                        booked(u32::try_from(n).unwrap(), ["/one", "/two"][of], Some(number))
                    }
                })
                .collect();
            for at in 1..events.len() {
                if random.below(3) == 0 {
                    events.swap(at - 1, at);
                }
            }
            let records = log(&events);

            // The owner: folds what it may, notes where the key waits, and folds the key again from there when a
            // decision comes, at a moment of its own.
            let mut patches: Vec<(i64, Remedy)> = Vec::new();
            let mut lane = Lane::default();
            for (at, record) in records.iter().enumerate() {
                world.feed(&mut lane, std::slice::from_ref(record), &decided(&patches));
                let Some(held) = lane.quarantine().filter(|_| random.below(4) == 0) else { continue };
                let from = held.offset.0;
                let n = u32::try_from(from).unwrap();
                let remedy = match random.below(4) {
                    0 => Remedy::Retry,
                    1 => Remedy::Skip,
                    2 => Remedy::Accept,
                    _ => Remedy::Replace(booked(n, "/three", None).to_string()),
                };
                patches.push((from, remedy));
                // What the store holds is the cell alone.
                let cell = lane.cell().map(|cell| match cell {
                    Cell::Account(_) => {
                        Cell::Account(Box::new(Cell::decode_account(&cell.encode()).unwrap()))
                    }
                    Cell::Customer(_) => panic!("a customer"),
                });
                lane = Lane::new(cell);
                let again = &records[usize::try_from(from).unwrap()..=at];
                world.feed(&mut lane, again, &decided(&patches));
                redriven += 1;
            }
            let straight = world.straight(&events, &patches);
            assert_eq!(lane.cell(), straight.cell(), "seed {seed}: {patches:?}");
            assert_eq!(lane.quarantine(), straight.quarantine(), "seed {seed}: {patches:?}");
        }
        assert!(redriven > 1_000, "{redriven}");
    }
}
