//! ISO 4217 currencies with a minor unit, those withdrawn since 2015 included.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A currency, by its three capital letters; ordered alphabetically.
///
/// In a cell it is its three bytes, in JSON its code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency {
    code: [u8; 3],
    decimals: u8,
}

impl Currency {
    /// The currency of a code in capital letters; `None` for any other text.
    pub fn parse(code: &str) -> Option<Self> {
        let code: [u8; 3] = code.as_bytes().try_into().ok()?;
        // As numbers the codes have the same order, and compare in one step.
        let number = |[a, b, c]: [u8; 3]| u32::from_be_bytes([0, a, b, c]);
        let at = TABLE.binary_search_by_key(&number(code), |currency| number(currency.code)).ok()?;
        TABLE.get(at).copied()
    }

    /// Its code.
    pub fn as_str(&self) -> &str {
        // The table holds ASCII alone, so the fallback is never taken.
        std::str::from_utf8(&self.code).unwrap_or_default()
    }

    /// How many decimals its minor unit has: 0 to 4.
    pub fn decimals(self) -> u32 {
        u32::from(self.decimals)
    }

    /// Every currency, in alphabetical order.
    pub fn all() -> impl Iterator<Item = Currency> {
        TABLE.iter().copied()
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(self.as_str())
        } else {
            self.code.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let currency = if deserializer.is_human_readable() {
            Currency::parse(&String::deserialize(deserializer)?)
        } else {
            let code = <[u8; 3]>::deserialize(deserializer)?;
            std::str::from_utf8(&code).ok().and_then(Currency::parse)
        };
        currency.ok_or_else(|| D::Error::custom("not an ISO 4217 currency with a minor unit"))
    }
}

const fn row(code: [u8; 3], decimals: u8) -> Currency {
    Currency { code, decimals }
}

/// List one of ISO 4217, and of list three what was withdrawn since 2015: ANG, BGN, BYR,
/// CUC, HRK, LTL, MRO, SLL, STD, VEF, ZWL. Codes without a minor unit (metals, `XDR`, `XTS`, `XXX` …) name
/// nothing that an account can hold. Sorted: it is searched by halves.
///
/// Rows are never removed: cells that were folded may hold them.
#[rustfmt::skip]
const TABLE: &[Currency] = &[
    row(*b"AED", 2), row(*b"AFN", 2), row(*b"ALL", 2), row(*b"AMD", 2), row(*b"ANG", 2), row(*b"AOA", 2),
    row(*b"ARS", 2), row(*b"AUD", 2), row(*b"AWG", 2), row(*b"AZN", 2), row(*b"BAM", 2), row(*b"BBD", 2),
    row(*b"BDT", 2), row(*b"BGN", 2), row(*b"BHD", 3), row(*b"BIF", 0), row(*b"BMD", 2), row(*b"BND", 2),
    row(*b"BOB", 2), row(*b"BOV", 2), row(*b"BRL", 2), row(*b"BSD", 2), row(*b"BTN", 2), row(*b"BWP", 2),
    row(*b"BYN", 2), row(*b"BYR", 0), row(*b"BZD", 2), row(*b"CAD", 2), row(*b"CDF", 2), row(*b"CHE", 2),
    row(*b"CHF", 2), row(*b"CHW", 2), row(*b"CLF", 4), row(*b"CLP", 0), row(*b"CNY", 2), row(*b"COP", 2),
    row(*b"COU", 2), row(*b"CRC", 2), row(*b"CUC", 2), row(*b"CUP", 2), row(*b"CVE", 2), row(*b"CZK", 2),
    row(*b"DJF", 0), row(*b"DKK", 2), row(*b"DOP", 2), row(*b"DZD", 2), row(*b"EGP", 2), row(*b"ERN", 2),
    row(*b"ETB", 2), row(*b"EUR", 2), row(*b"FJD", 2), row(*b"FKP", 2), row(*b"GBP", 2), row(*b"GEL", 2),
    row(*b"GHS", 2), row(*b"GIP", 2), row(*b"GMD", 2), row(*b"GNF", 0), row(*b"GTQ", 2), row(*b"GYD", 2),
    row(*b"HKD", 2), row(*b"HNL", 2), row(*b"HRK", 2), row(*b"HTG", 2), row(*b"HUF", 2), row(*b"IDR", 2),
    row(*b"ILS", 2), row(*b"INR", 2), row(*b"IQD", 3), row(*b"IRR", 2), row(*b"ISK", 0), row(*b"JMD", 2),
    row(*b"JOD", 3), row(*b"JPY", 0), row(*b"KES", 2), row(*b"KGS", 2), row(*b"KHR", 2), row(*b"KMF", 0),
    row(*b"KPW", 2), row(*b"KRW", 0), row(*b"KWD", 3), row(*b"KYD", 2), row(*b"KZT", 2), row(*b"LAK", 2),
    row(*b"LBP", 2), row(*b"LKR", 2), row(*b"LRD", 2), row(*b"LSL", 2), row(*b"LTL", 2), row(*b"LYD", 3),
    row(*b"MAD", 2), row(*b"MDL", 2), row(*b"MGA", 2), row(*b"MKD", 2), row(*b"MMK", 2), row(*b"MNT", 2),
    row(*b"MOP", 2), row(*b"MRO", 2), row(*b"MRU", 2), row(*b"MUR", 2), row(*b"MVR", 2), row(*b"MWK", 2),
    row(*b"MXN", 2), row(*b"MXV", 2), row(*b"MYR", 2), row(*b"MZN", 2), row(*b"NAD", 2), row(*b"NGN", 2),
    row(*b"NIO", 2), row(*b"NOK", 2), row(*b"NPR", 2), row(*b"NZD", 2), row(*b"OMR", 3), row(*b"PAB", 2),
    row(*b"PEN", 2), row(*b"PGK", 2), row(*b"PHP", 2), row(*b"PKR", 2), row(*b"PLN", 2), row(*b"PYG", 0),
    row(*b"QAR", 2), row(*b"RON", 2), row(*b"RSD", 2), row(*b"RUB", 2), row(*b"RWF", 0), row(*b"SAR", 2),
    row(*b"SBD", 2), row(*b"SCR", 2), row(*b"SDG", 2), row(*b"SEK", 2), row(*b"SGD", 2), row(*b"SHP", 2),
    row(*b"SLE", 2), row(*b"SLL", 2), row(*b"SOS", 2), row(*b"SRD", 2), row(*b"SSP", 2), row(*b"STD", 2),
    row(*b"STN", 2), row(*b"SVC", 2), row(*b"SYP", 2), row(*b"SZL", 2), row(*b"THB", 2), row(*b"TJS", 2),
    row(*b"TMT", 2), row(*b"TND", 3), row(*b"TOP", 2), row(*b"TRY", 2), row(*b"TTD", 2), row(*b"TWD", 2),
    row(*b"TZS", 2), row(*b"UAH", 2), row(*b"UGX", 0), row(*b"USD", 2), row(*b"USN", 2), row(*b"UYI", 0),
    row(*b"UYU", 2), row(*b"UYW", 4), row(*b"UZS", 2), row(*b"VED", 2), row(*b"VEF", 2), row(*b"VES", 2),
    row(*b"VND", 0), row(*b"VUV", 0), row(*b"WST", 2), row(*b"XAD", 2), row(*b"XAF", 0), row(*b"XCD", 2),
    row(*b"XCG", 2), row(*b"XOF", 0), row(*b"XPF", 0), row(*b"YER", 2), row(*b"ZAR", 2), row(*b"ZMW", 2),
    row(*b"ZWG", 2), row(*b"ZWL", 2),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_no_code_stands_twice() {
        assert!(TABLE.windows(2).all(|pair| pair[0].code < pair[1].code));
    }

    #[test]
    fn every_code_is_three_capital_letters_and_reads_as_itself() {
        for currency in Currency::all() {
            assert!(currency.code.iter().all(u8::is_ascii_uppercase), "{currency}");
            assert!(currency.decimals() <= 4, "{currency}");
            assert_eq!(Currency::parse(currency.as_str()), Some(currency));
        }
    }

    #[test]
    fn minor_units_are_those_of_the_standard() {
        // Code, decimals of its minor unit.
        let table = [
            ("CZK", 2),
            ("EUR", 2),
            ("USD", 2),
            ("GBP", 2),
            ("CHF", 2),
            ("HUF", 2),
            ("MRU", 2),
            ("MGA", 2),
            ("JPY", 0),
            ("KRW", 0),
            ("ISK", 0),
            ("CLP", 0),
            ("UGX", 0),
            ("VND", 0),
            ("XAF", 0),
            ("XPF", 0),
            ("BHD", 3),
            ("IQD", 3),
            ("JOD", 3),
            ("KWD", 3),
            ("LYD", 3),
            ("OMR", 3),
            ("TND", 3),
            ("CLF", 4),
            ("UYW", 4),
            // Since 2015 new ...
            ("BYN", 2),
            ("STN", 2),
            ("VES", 2),
            ("VED", 2),
            ("SLE", 2),
            ("ZWG", 2),
            ("XCG", 2),
            ("XAD", 2),
            // ... and withdrawn.
            ("LTL", 2),
            ("BYR", 0),
            ("MRO", 2),
            ("STD", 2),
            ("VEF", 2),
            ("CUC", 2),
            ("HRK", 2),
            ("SLL", 2),
            ("ZWL", 2),
            ("ANG", 2),
            ("BGN", 2),
        ];
        for (code, decimals) in table {
            assert_eq!(Currency::parse(code).map(Currency::decimals), Some(decimals), "{code}");
        }
    }

    #[test]
    fn no_other_text_is_a_currency() {
        let table = [
            "", "C", "CZ", "CZKK", "czk", "Czk", " CZK", "CZK ", "ČZK", "203", "ABC", "XAU", "XAG", "XDR",
            "XTS", "XXX", "XSU", "XUA", "XBA", // Withdrawn before 2015.
            "DEM", "LVL", "EEK", "SKK", "TRL", "USS", "ZWR", "ZMK", "RUR",
        ];
        for code in table {
            assert_eq!(Currency::parse(code), None, "{code}");
        }
    }

    #[test]
    fn a_cell_keeps_a_currency_in_three_bytes_and_json_in_its_code() {
        let czk = Currency::parse("CZK").unwrap();
        let packed = postcard::to_stdvec(&czk).unwrap();
        assert_eq!(packed, b"CZK");
        assert_eq!(postcard::from_bytes::<Currency>(&packed).unwrap(), czk);
        assert!(postcard::from_bytes::<Currency>(b"XXX").is_err());
        assert_eq!(serde_json::to_string(&czk).unwrap(), r#""CZK""#);
        assert_eq!(serde_json::from_str::<Currency>(r#""CZK""#).unwrap(), czk);
    }
}
