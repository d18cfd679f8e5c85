//! The known members of an event, split from its text and not read yet.

use std::borrow::Cow;

use super::json::{Fault, Scanner, Text, Value};

/// A member that is known, as it was found.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    /// The name that messages use.
    pub(super) name: &'static str,
    value: Option<Value<'a>>,
    /// Whether it stood there twice.
    pub(super) twice: bool,
}

impl<'a> Slot<'a> {
    const fn new(name: &'static str) -> Self {
        Slot { name, value: None, twice: false }
    }

    fn put(&mut self, value: Value<'a>) {
        self.twice = self.value.is_some();
        self.value.get_or_insert(value);
    }

    /// The value; `null` is absent.
    pub(super) fn present(&self) -> Option<Value<'a>> {
        self.value.filter(|value| !matches!(value, Value::Null))
    }

    /// The value as a text that reads, where it is one.
    pub(super) fn text(&self) -> Option<Cow<'a, str>> {
        match self.value {
            Some(Value::Text(text)) => text.read().ok(),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object)
            | None => None,
        }
    }
}

/// The known members of one object, each with the name that messages use.
macro_rules! known_members {
    ($(#[$doc:meta])* $object:ident, $prefix:literal: $($field:ident $key:literal)+) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $object<'a> {
            $(pub(super) $field: Slot<'a>,)+
        }

        impl<'a> $object<'a> {
            pub(super) const fn new() -> Self {
                $object { $($field: Slot::new(concat!($prefix, $key)),)+ }
            }

            pub(super) fn slot(&mut self, name: &str) -> Option<&mut Slot<'a>> {
                match name {
                    $($key => Some(&mut self.$field),)+
                    _ => None,
                }
            }
        }
    };
}

known_members! {
    /// The attributes of `CloudEvents` that are read here, and `data` itself.
    Envelope, "":
    specversion "specversion"
    id "id"
    source "source"
    kind "type"
    subject "subject"
    time "time"
    sequence "sequence"
    data "data"
}

known_members! {
    /// The members of every type's `data`; a type knows those that it reads.
    Data, "data.":
    account_id "account_id"
    customer_id "customer_id"
    currencies "currencies"
    entry_id "entry_id"
    amount "amount"
    currency "currency"
    indicator "credit_debit_indicator"
    booking_date "booking_date"
    value_date "value_date"
    reversal_of "reversal_of"
    included "included"
    balance_type "balance_type"
    as_of "as_of"
    payment_id "payment_id"
    paid_on "paid_on"
    reason "reason"
    billing_name "billing_name"
    ivr_fee "ivr_fee"
}

impl<'a> Envelope<'a> {
    /// Reads a whole structured event; `false` where it is no object.
    pub(super) fn scan(
        &mut self,
        data: &mut Data<'a>,
        text: &'a str,
        depth_max: usize,
    ) -> Result<bool, Fault> {
        let mut scanner = Scanner::new(text, depth_max);
        let object = scanner.at_object();
        if object {
            scanner.members(|scanner, name| {
                let name = name.read().unwrap_or_default();
                let value = if name == "data" { data.scan_value(scanner)? } else { scanner.value()? };
                if let Some(slot) = self.slot(&name) {
                    slot.put(value);
                }
                Ok(())
            })?;
        } else {
            scanner.value()?;
        }
        scanner.end()?;
        Ok(object)
    }

    /// Reads the value of a binary event: `data` alone.
    pub(super) fn scan_data(
        &mut self,
        data: &mut Data<'a>,
        text: &'a str,
        depth_max: usize,
    ) -> Result<(), Fault> {
        let mut scanner = Scanner::new(text, depth_max);
        let value = data.scan_value(&mut scanner)?;
        scanner.end()?;
        self.data.put(value);
        Ok(())
    }

    /// Takes an attribute of a binary event; one that is not known is tolerated.
    pub(super) fn attribute(&mut self, name: &str, value: Option<&'a str>) {
        // `ce_data` is no attribute: the record's value is the data.
        if let Some(slot) = self.slot(name).filter(|slot| slot.name != "data") {
            slot.put(value.map_or(Value::Null, |text| Value::Text(Text::plain(text))));
        }
    }

    /// The subject as it stands there, where it reads.
    pub(super) fn subject(&self) -> Option<Cow<'a, str>> {
        self.subject.text()
    }

    /// Every attribute.
    pub(super) fn slots(&self) -> [&Slot<'a>; 8] {
        let Envelope { specversion, id, source, kind, subject, time, sequence, data } = self;
        [specversion, id, source, kind, subject, time, sequence, data]
    }
}

impl<'a> Data<'a> {
    /// Passes over the value of `data`, and splits it where it is an object.
    fn scan_value(&mut self, scanner: &mut Scanner<'a>) -> Result<Value<'a>, Fault> {
        if !scanner.at_object() {
            return scanner.value();
        }
        scanner.members(|scanner, name| {
            let name = name.read().unwrap_or_default();
            let value = scanner.value()?;
            if let Some(slot) = self.slot(&name) {
                slot.put(value);
            }
            Ok(())
        })?;
        Ok(Value::Object)
    }
}
