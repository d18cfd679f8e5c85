//! An account's cell told in parts.

use super::{Account, CreditLine, Dated, Held, Mark};
use crate::domain::{
    Amount,
    due::due_told,
    facet::{Aspect, Facet, digest, hex},
};

impl Account {
    /// All parts of the cell.
    pub(in crate::domain) fn facets(&self) -> Vec<Facet> {
        let mut facets = vec![
            Facet::new(Aspect::Position, "home", self.home.to_string()),
            Facet::new(Aspect::Position, "applied", self.applied.to_string()),
            Facet::new(Aspect::Times, "newest event", self.newest.to_string()),
            Facet::new(Aspect::State, "opened", self.opened.to_string()),
            Facet::new(Aspect::State, "closed", self.closed.to_string()),
            Facet::new(Aspect::Memory, "events", digest(|out| self.seen.pack(out, self.newest))),
            Facet::new(Aspect::Memory, "booked entries", digest(|out| self.booked.pack(out))),
            Facet::new(Aspect::Memory, "released entries", digest(|out| self.released.pack(out))),
        ];
        for held in &self.currencies {
            held.facets(&mut facets);
        }
        for (place, pending) in self.pending.iter().enumerate() {
            let value = format!(
                "{} {} since {}, the {}. of them",
                pending.currency.as_str(),
                pending.amount.to_short(),
                pending.since,
                place.saturating_add(1)
            );
            facets.push(Facet::new(Aspect::Pending, hex(&pending.entry.bytes()), value));
        }
        for (place, due) in self.dues.iter().enumerate() {
            let name = due.customer.as_str();
            facets.push(Facet::new(Aspect::Due, name, due_told(&due.amounts)));
            let value = place.saturating_add(1).to_string();
            facets.push(Facet::new(Aspect::Memory, format!("place of the due of {name}"), value));
        }
        facets
    }
}

impl Held {
    fn facets(&self, facets: &mut Vec<Facet>) {
        let code = self.currency.as_str();
        let mut push = |aspect, what: &str, value: String| {
            facets.push(Facet::new(aspect, format!("{code} {what}"), value));
        };
        push(Aspect::Times, "known", self.known.to_string());
        if let Some(touched) = self.touched {
            push(Aspect::Times, "touched", touched.to_string());
        }
        if let Some(opening) = self.opening {
            push(Aspect::Balance, "opening", opening.amount.to_short());
            push(Aspect::Times, "opening", opening.time.to_string());
        }
        if let Some(CreditLine { amount, included }) = self.credit_line {
            let included = if included { "included" } else { "not included" };
            push(Aspect::CreditLine, "credit line", format!("{}, {included}", amount.to_short()));
        }
        if let Some(Dated { date, net, newest }) = self.merged {
            push(Aspect::Balance, "booked to the last merged date", net_told(net));
            push(Aspect::Times, "last merged date", format!("{date}, newest {newest}"));
        }
        for Dated { date, net, newest } in &self.dates {
            push(Aspect::Balance, &format!("booked {date}"), net_told(*net));
            push(Aspect::Times, &format!("booked {date}"), newest.to_string());
        }
        for (what, mark) in [("ITBD", self.interim_drift), ("CLBD", self.closing_drift)] {
            if let Some(Mark { as_of, stated, ours, offset }) = mark {
                let value = format!(
                    "stated {} as of {as_of}, projected {}, offset {offset}",
                    stated.to_short(),
                    ours.to_short()
                );
                push(Aspect::Drift, what, value);
            }
        }
    }
}

/// A day's net is unbounded, an amount is not.
fn net_told(net: i128) -> String {
    match Amount::from_ten_thousandths(net) {
        Some(amount) => amount.to_short(),
        None => format!("{net} ten-thousandths"),
    }
}
