//! A customer's cell told in parts.

use super::Customer;
use crate::domain::{
    Time,
    facet::{Aspect, Facet, digest, hex},
};

impl Customer {
    /// All parts of the cell.
    pub(in crate::domain) fn facets(&self) -> Vec<Facet> {
        let base = Time(jiff::Timestamp::UNIX_EPOCH);
        let mut facets = vec![
            Facet::new(Aspect::Position, "home", self.home.to_string()),
            Facet::new(Aspect::Position, "applied", self.applied.to_string()),
            Facet::new(Aspect::Memory, "events", digest(|out| self.seen.pack(out, base))),
            Facet::new(Aspect::Memory, "settled payments", digest(|out| self.settled.pack(out))),
            Facet::new(Aspect::Memory, "reversals without a payment", digest(|out| self.unmatched.pack(out))),
            Facet::new(Aspect::Payment, "truncated", self.truncated.to_string()),
        ];
        if let Some(profile) = &self.profile {
            facets.push(Facet::new(Aspect::Profile, "billing name", profile.billing_name.clone()));
            facets.push(Facet::new(Aspect::Profile, "IVR fee", profile.ivr_fee.to_short()));
        }
        if let Some(since) = self.forgotten_since {
            facets.push(Facet::new(Aspect::Payment, "forgotten since", since.to_string()));
        }
        for (place, payment) in self.latest.iter().enumerate() {
            let value = format!(
                "{} paid on {}, offset {}, {}, the {}. latest, facts {}",
                payment.amount.to_short(),
                payment.paid_on,
                payment.offset,
                if payment.reversed { "reversed" } else { "stands" },
                place.saturating_add(1),
                hex(&payment.facts.0)
            );
            facets.push(Facet::new(Aspect::Payment, hex(&payment.id.bytes()), value));
        }
        facets
    }
}
