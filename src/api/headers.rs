//! Reading request headers and queries strictly: absent, once, or repeated; and the media types.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

/// How often a header stands in a request that may hold it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Single<'a> {
    /// Not at all.
    Absent,
    /// Once.
    Once(&'a HeaderValue),
    /// Twice or more.
    Repeated,
}

/// A header that may stand once.
pub fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Single<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Single::Absent,
        (Some(value), None) => Single::Once(value),
        (Some(_), Some(_)) => Single::Repeated,
    }
}

/// The value as 1 to `max` visible ASCII characters.
pub fn visible(value: &HeaderValue, max: usize) -> Option<&str> {
    let text = value.to_str().ok()?;
    let fits = (1..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    fits.then_some(text)
}

/// A segment of a path, or a part of a query, with its percent-encodings resolved; `None` where they are
/// broken or the result is not UTF-8.
pub fn percent_decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let (digits, after) = after.split_first_chunk::<2>()?;
            let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
            let byte = high?.checked_mul(16)?.checked_add(low?)?;
            bytes.push(u8::try_from(byte).ok()?);
            rest = after;
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// A parameter that a query may hold once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parameter<'a> {
    /// Not asked for.
    Absent,
    /// Asked for once.
    Once(Cow<'a, str>),
    /// Asked for twice, or in an encoding that is broken.
    Unreadable,
}

/// Looks a parameter up; all others are ignored, whatever they are.
pub fn parameter<'a>(query: Option<&'a str>, name: &str) -> Parameter<'a> {
    let mut found = Parameter::Absent;
    for pair in query.unwrap_or_default().split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if percent_decoded(key).as_deref() != Some(name) {
            continue;
        }
        found = match (found, percent_decoded(value)) {
            (Parameter::Absent, Some(value)) => Parameter::Once(value),
            (Parameter::Absent | Parameter::Once(_) | Parameter::Unreadable, _) => Parameter::Unreadable,
        };
    }
    found
}

/// Whether `application/json` is acceptable: no `Accept` or an empty one takes anything; else the most
/// specific range that covers it decides, by its weight. Elements that cannot be read cover nothing.
pub fn accepts_json(headers: &HeaderMap) -> bool {
    let mut empty = true;
    let mut best: Option<(u8, u16)> = None;
    for value in headers.get_all(http::header::ACCEPT) {
        for element in elements(value.as_bytes(), b',') {
            empty = false;
            // The most specific wins; among equals the greatest weight, for their parameters name
            // variants of which this is none.
            best = best.max(covers_json(element));
        }
    }
    empty || best.is_some_and(|(_, weight)| weight > 0)
}

/// How specifically a media range covers `application/json`, and its weight in thousandths.
fn covers_json(element: &[u8]) -> Option<(u8, u16)> {
    let mut parts = split_quoted(element, b';');
    let range = trimmed(parts.next()?);
    let specificity = if range == b"*/*" {
        0
    } else if range.eq_ignore_ascii_case(b"application/*") {
        1
    } else if range.eq_ignore_ascii_case(b"application/json") {
        2
    } else {
        return None;
    };
    let mut weight = 1_000;
    for parameter in parts {
        let parameter = trimmed(parameter);
        if let [b'q' | b'Q', b'=', digits @ ..] = parameter {
            weight = thousandths(digits)?;
        }
    }
    Some((specificity, weight))
}

/// A weight, `0(.\d{0,3})?` or `1(.0{0,3})?`, in thousandths.
fn thousandths(text: &[u8]) -> Option<u16> {
    let (&whole, rest) = text.split_first()?;
    let decimals = match rest.split_first() {
        None => &[][..],
        Some((b'.', decimals)) if decimals.len() <= 3 => decimals,
        Some(_) => return None,
    };
    let mut sum = match whole {
        b'0' => 0_u16,
        b'1' => 1_000,
        _ => return None,
    };
    for (digit, place) in decimals.iter().zip([100_u16, 10, 1]) {
        let digit = u16::try_from(char::from(*digit).to_digit(10)?).ok()?;
        sum = sum.checked_add(digit.checked_mul(place)?)?;
    }
    (sum <= 1_000).then_some(sum)
}

/// Whether a `Content-Type` says JSON: `application/json`, or any type with the suffix `+json`, with any
/// parameters.
pub fn is_json(content_type: &HeaderValue) -> bool {
    let Some(essence) = split_quoted(content_type.as_bytes(), b';').next() else { return false };
    let Ok(essence) = std::str::from_utf8(trimmed(essence)) else { return false };
    let essence = essence.to_ascii_lowercase();
    match essence.split_once('/') {
        Some(("application", "json")) => true,
        Some((kind, subtype)) => {
            !kind.is_empty() && subtype.strip_suffix("+json").is_some_and(|name| !name.is_empty())
        }
        None => false,
    }
}

/// The elements of a list that are not blank.
fn elements(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    split_quoted(text, separator).map(trimmed).filter(|element| !element.is_empty())
}

fn trimmed(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

/// Splits at a separator outside quoted strings.
fn split_quoted(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |&byte| {
        if escaped {
            escaped = false;
        } else if quoted && byte == b'\\' {
            escaped = true;
        } else if byte == b'"' {
            quoted = !quoted;
        } else {
            return byte == separator && !quoted;
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with_accept(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(http::header::ACCEPT, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn accept_is_decided_by_the_most_specific_range() {
        let rows: &[(&[&str], bool)] = &[
            (&[], true),
            (&[""], true),
            (&["*/*"], true),
            (&["application/*"], true),
            (&["APPLICATION/JSON"], true),
            (&["application/json; charset=utf-8"], true),
            (&["application/json;q=0.001"], true),
            (&["text/html, application/xml;q=0.9, */*;q=0.8"], true),
            (&["text/html", "application/json"], true),
            (&["application/json;level=1;q=0, application/json"], true),
            (&["application/json;v=\"a,b;q=0\""], true),
            (&["text/html"], false),
            (&["application/xml, text/*"], false),
            (&["application/json;q=0"], false),
            (&["application/json;q=0.000"], false),
            (&["application/json; Q=0, */*"], false),
            (&["application/*;q=0, */*;q=1"], false),
            (&["*/*;q=0"], false),
            (&["application/json;q=1.001"], false),
            (&["application/json;q=2"], false),
            (&["application/json;q="], false),
            (&["application/json;q=0.0001"], false),
            (&["application/jsonp"], false),
            (&["nonsense"], false),
            (&["*"], false),
        ];
        for (values, expected) in rows {
            assert_eq!(accepts_json(&with_accept(values)), *expected, "{values:?}");
        }
    }

    #[test]
    fn content_types_that_are_json() {
        let rows = [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/vnd.api+json", true),
            ("text/plain", false),
            ("application/jsonx", false),
            ("application/+json", false),
            ("json", false),
            ("/+json", false),
            ("", false),
        ];
        for (value, expected) in rows {
            assert_eq!(is_json(&HeaderValue::from_static(value)), expected, "{value:?}");
        }
    }

    #[test]
    fn a_parameter_is_read_once() {
        let once = |text: &'static str| Parameter::Once(Cow::Borrowed(text));
        let rows = [
            (None, Parameter::Absent),
            (Some(""), Parameter::Absent),
            (Some("other=CZK&Currency=CZK&x%ZZ=1"), Parameter::Absent),
            (Some("currency=CZK"), once("CZK")),
            (Some("a=b&currency=%43ZK&c"), once("CZK")),
            (Some("%63urrency=CZK"), once("CZK")),
            (Some("currency"), once("")),
            (Some("currency="), once("")),
            (Some("currency=CZK=EUR"), once("CZK=EUR")),
            (Some("currency=CZK&currency=CZK"), Parameter::Unreadable),
            (Some("currency=%"), Parameter::Unreadable),
            (Some("currency=%FF"), Parameter::Unreadable),
        ];
        for (query, expected) in rows {
            assert_eq!(parameter(query, "currency"), expected, "{query:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                is_json(&value);
                visible(&value, 60);
                let mut headers = HeaderMap::new();
                headers.append(http::header::ACCEPT, value);
                accepts_json(&headers);
            }
            let text = String::from_utf8_lossy(&bytes);
            percent_decoded(&text);
            parameter(Some(&text), "currency");
        }

        #[test]
        fn a_weight_is_read_to_the_thousandth(weight in 0_u16..=1_000) {
            let text = format!("{}.{:03}", weight / 1_000, weight % 1_000);
            prop_assert_eq!(thousandths(text.as_bytes()), Some(weight));
        }
    }
}
