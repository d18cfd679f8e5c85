//! A currency of an account: what is booked, by day; its opening, its credit line, where it drifts.

use super::{CreditLine, Figure, FigureError, Pending};
use crate::domain::{
    Amount, CellError, Currency, Day, Offset, Time,
    packed::{Packer, Unpacker},
};

/// The most booking dates of a currency that are told apart.
const DATES_MAX: usize = 64;

/// A currency of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) currency: Currency,
    /// The `time` of the event that made it known.
    pub(super) known: Time,
    /// The newest `time` of its events but statements other than the opening.
    pub(super) touched: Option<Time>,
    pub(super) opening: Option<Opening>,
    pub(super) credit_line: Option<CreditLine>,
    /// The booking dates that are no longer told apart, up to and with this day.
    pub(super) merged: Option<Dated>,
    /// Ascending, all after `merged`.
    pub(super) dates: Vec<Dated>,
    pub(super) interim_drift: Option<Mark>,
    pub(super) closing_drift: Option<Mark>,
}

/// The opening balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) amount: Amount,
    pub(super) time: Time,
}

/// What was booked on a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dated {
    pub(super) date: Day,
    /// In ten-thousandths: what is bounded is the total, of which a day's net may be any part.
    pub(super) net: i128,
    /// The newest `time` of its booked entries.
    pub(super) newest: Time,
}

/// The first statement that disagreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) as_of: Time,
    pub(super) stated: Amount,
    pub(super) ours: Amount,
    pub(super) offset: Offset,
}

impl Held {
    pub(super) fn known(currency: Currency, time: Time) -> Self {
        Held {
            currency,
            known: time,
            touched: None,
            opening: None,
            credit_line: None,
            merged: None,
            dates: Vec::new(),
            interim_drift: None,
            closing_drift: None,
        }
    }

    pub(super) fn touch(&mut self, time: Time) {
        self.touched = self.touched.max(Some(time));
    }

    /// Adds to a date, or to the merged ones where it lies among them.
    pub(super) fn book(&mut self, date: Day, net: i128, time: Time) {
        if let Some(merged) = self.merged.as_mut().filter(|merged| date <= merged.date) {
            merged.add(net, time);
            return;
        }
        match self.dates.binary_search_by_key(&date, |dated| dated.date) {
            Ok(at) => {
                if let Some(dated) = self.dates.get_mut(at) {
                    dated.add(net, time);
                }
            }
            Err(at) => self.dates.insert(at, Dated { date, net, newest: time }),
        }
        if self.dates.len() > DATES_MAX {
            self.merge_first(1);
        }
    }

    pub(super) fn merge_before(&mut self, first: Day) {
        self.merge_first(self.dates.partition_point(|dated| dated.date < first));
    }

    fn merge_first(&mut self, count: usize) {
        for dated in self.dates.drain(..count.min(self.dates.len())) {
            let merged = self.merged.get_or_insert(Dated { net: 0, ..dated });
            merged.date = dated.date;
            merged.add(dated.net, dated.newest);
        }
    }

    pub(super) fn is_unbooked(&self) -> bool {
        self.merged.is_none() && self.dates.is_empty()
    }

    /// Merged and told apart.
    fn booked(&self) -> impl Iterator<Item = &Dated> {
        self.merged.iter().chain(&self.dates)
    }

    /// The opening balance and every booked entry, in ten-thousandths.
    pub(super) fn total(&self) -> i128 {
        self.sum(self.booked())
    }

    fn sum<'a>(&self, booked: impl Iterator<Item = &'a Dated>) -> i128 {
        let opening = self.opening.map_or(0, |opening| opening.amount.ten_thousandths());
        booked.fold(opening, |sum, dated| sum.saturating_add(dated.net))
    }

    pub(super) fn before(&self, today: Day) -> Result<Figure, FigureError> {
        if self.merged.is_some_and(|merged| merged.date >= today) {
            return Err(FigureError::DaysMerged);
        }
        let before = || self.booked().filter(|dated| dated.date < today);
        self.told(self.sum(before()), before().map(|dated| dated.newest).max())
    }

    pub(super) fn interim(&self) -> Result<Figure, FigureError> {
        self.told(self.total(), self.newest_booked())
    }

    pub(super) fn available(&self, pending: &[Pending]) -> Result<Figure, FigureError> {
        let debits = pending
            .iter()
            .filter(|pending| pending.currency == self.currency && pending.amount.is_negative())
            .fold(0_i128, |sum, pending| sum.saturating_add(pending.amount.ten_thousandths()));
        let line = self.credit_line.filter(|line| line.included);
        let line = line.map_or(0, |line| line.amount.ten_thousandths());
        let amount = self.total().saturating_add(debits).saturating_add(line);
        let figure = self.told(amount, None)?;
        Ok(Figure { time: self.touched.unwrap_or(self.known), ..figure })
    }

    /// A figure that rests on the opening and on entries up to a time.
    fn told(&self, count: i128, newest: Option<Time>) -> Result<Figure, FigureError> {
        let newest = newest.max(self.opening.map(|opening| opening.time));
        // 24 integer digits hold any sum of entries that a log can hold.
        let amount = Amount::from_ten_thousandths(count).ok_or(FigureError::DaysMerged)?;
        Ok(Figure { amount, time: newest.unwrap_or(self.known), credit_line: self.credit_line })
    }

    fn newest_booked(&self) -> Option<Time> {
        self.booked().map(|dated| dated.newest).max()
    }

    /// The interim balance, where it can be compared with one stated for an instant.
    pub(super) fn interim_at(&self, as_of: Time) -> Option<Amount> {
        if self.newest_booked().is_some_and(|newest| as_of < newest) {
            return None;
        }
        Amount::from_ten_thousandths(self.total())
    }

    /// The closing balance of a day, where it can be compared with a stated one.
    pub(super) fn closing_at(&self, day: Day, opened: bool) -> Option<Amount> {
        let begun = opened || self.opening.is_some() || !self.is_unbooked();
        if !begun || self.merged.is_some_and(|merged| merged.date > day) {
            return None;
        }
        Amount::from_ten_thousandths(self.sum(self.booked().filter(|dated| dated.date <= day)))
    }

    pub(super) fn pack(&self, out: &mut Packer<'_>, base: Time) {
        out.currency(self.currency);
        let line = self.credit_line;
        out.byte(
            u8::from(self.touched.is_some())
                | (u8::from(self.opening.is_some()) << 1)
                | (u8::from(line.is_some()) << 2)
                | (u8::from(line.is_some_and(|line| line.included)) << 3)
                | (u8::from(self.merged.is_some()) << 4)
                | (u8::from(self.interim_drift.is_some()) << 5)
                | (u8::from(self.closing_drift.is_some()) << 6),
        );
        out.time(self.known, base);
        if let Some(touched) = self.touched {
            out.time(touched, base);
        }
        if let Some(opening) = self.opening {
            out.amount(opening.amount);
            out.time(opening.time, base);
        }
        if let Some(line) = line {
            out.amount(line.amount);
        }
        out.count(self.dates.len());
        for dated in self.booked() {
            out.day(dated.date);
            out.wide(dated.net);
            out.time(dated.newest, base);
        }
        for mark in [self.interim_drift, self.closing_drift].into_iter().flatten() {
            out.time(mark.as_of, base);
            out.amount(mark.stated);
            out.amount(mark.ours);
            out.offset(mark.offset);
        }
    }

    pub(super) fn unpack(from: &mut Unpacker<'_>, base: Time) -> Result<Self, CellError> {
        let currency = from.currency()?;
        let flags = from.byte()?;
        let mut held = Held::known(currency, from.time(base)?);
        if flags & 1 != 0 {
            held.touched = Some(from.time(base)?);
        }
        if flags & 2 != 0 {
            held.opening = Some(Opening { amount: from.amount()?, time: from.time(base)? });
        }
        if flags & 4 != 0 {
            held.credit_line = Some(CreditLine { amount: from.amount()?, included: flags & 8 != 0 });
        }
        let count = from.count()?;
        if flags & 16 != 0 {
            held.merged = Some(Dated::unpack(from, base)?);
        }
        held.dates.reserve_exact(count.min(DATES_MAX));
        for _ in 0..count {
            held.dates.push(Dated::unpack(from, base)?);
        }
        if flags & 32 != 0 {
            held.interim_drift = Some(Mark::unpack(from, base)?);
        }
        if flags & 64 != 0 {
            held.closing_drift = Some(Mark::unpack(from, base)?);
        }
        Ok(held)
    }
}

impl Dated {
    fn add(&mut self, net: i128, time: Time) {
        self.net = self.net.saturating_add(net);
        self.newest = self.newest.max(time);
    }

    fn unpack(from: &mut Unpacker<'_>, base: Time) -> Result<Self, CellError> {
        Ok(Dated { date: from.day()?, net: from.wide()?, newest: from.time(base)? })
    }
}

impl Mark {
    fn unpack(from: &mut Unpacker<'_>, base: Time) -> Result<Self, CellError> {
        let as_of = from.time(base)?;
        Ok(Mark { as_of, stated: from.amount()?, ours: from.amount()?, offset: from.offset()? })
    }
}
