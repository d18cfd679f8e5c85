//! Weak entity tags, and `If-None-Match`.

use http::HeaderValue;
use siphasher::sip128::SipHasher13;

/// The weak tag of a body. The same in every process: the hash has no secret key, for a tag only has to
/// tell two answers to one client apart.
pub fn weak(body: &str) -> String {
    format!("W/\"{:032x}\"", SipHasher13::new().hash(body.as_bytes()).as_u128())
}

/// Whether one of the tags is this one, by weak comparison; `*` is any. What is no tag is passed over.
pub fn matches<'a>(if_none_match: impl IntoIterator<Item = &'a HeaderValue>, tag: &str) -> bool {
    let opaque = tag.strip_prefix("W/").unwrap_or(tag);
    if_none_match.into_iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.trim() == "*"
            || Tags(value).any(|candidate| candidate.strip_prefix("W/").unwrap_or(candidate) == opaque)
    })
}

/// The tags of a list: quoted, each perhaps weak. A comma may stand inside the quotes.
struct Tags<'a>(&'a str);

impl<'a> Iterator for Tags<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start_matches([' ', '\t', ',']);
        let quoted = text.strip_prefix("W/").unwrap_or(text).strip_prefix('"');
        let Some((_, rest)) = quoted.and_then(|inside| inside.split_once('"')) else {
            // Not a tag: the list ends here, for where the next one begins would be a guess.
            self.0 = "";
            return None;
        };
        self.0 = rest;
        text.strip_suffix(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match_compares_weakly_over_lists() {
        let tag = weak("{}");
        let opaque = tag.strip_prefix("W/").unwrap().to_owned();
        let rows: &[(&[&str], bool)] = &[
            (&[&tag], true),
            (&[&opaque], true),
            (&["*"], true),
            (&[&format!("\"a,b\", {tag}")], true),
            (&["W/\"other\"", &tag], true),
            (&[], false),
            (&[""], false),
            (&["W/\"other\""], false),
            (&[opaque.trim_matches('"')], false),
            (&[&format!("nonsense, {tag}")], false),
            (&["\"unfinished"], false),
            (&["W/"], false),
        ];
        for (values, expected) in rows {
            let values: Vec<_> = values.iter().map(|v| HeaderValue::from_str(v).unwrap()).collect();
            assert_eq!(matches(&values, &tag), *expected, "{values:?}");
        }
    }

    #[test]
    fn the_tag_of_another_body_is_another() {
        assert_ne!(weak("{\"a\":1}"), weak("{\"a\":2}"));
        assert_eq!(weak("{\"a\":1}"), weak("{\"a\":1}"));
    }
}
