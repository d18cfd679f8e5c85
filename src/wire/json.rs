//! One pass over JSON text (RFC 8259): checks it whole, splits the members that are asked for, borrows.
//!
//! Our own, because events must be told apart that libraries do not tell apart or refuse to read: members that
//! stand twice, numbers as they were written, half surrogates in what nobody reads, nesting without recursion.

use std::borrow::Cow;

use smallvec::SmallVec;

/// Why a text is not read further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It nests deeper than allowed.
    TooDeep,
    /// It is not JSON from this byte on.
    Syntax {
        /// Where, counted from zero.
        at: usize,
        /// What would be right there.
        wanted: &'static str,
    },
}

/// A string as it stands between its quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    raw: &'a str,
    escaped: bool,
}

/// An escaped half of a surrogate pair without its other half: no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HalfSurrogate;

/// A value, borrowed and as far as possible unread.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    /// As it was written.
    Number(&'a str),
    Text(Text<'a>),
    /// With its brackets.
    Array(&'a str),
    Object,
}

impl<'a> Text<'a> {
    /// A text that stands for itself.
    pub(super) fn plain(raw: &'a str) -> Self {
        Text { raw, escaped: false }
    }

    /// The text that it means.
    pub(super) fn read(self) -> Result<Cow<'a, str>, HalfSurrogate> {
        if self.escaped { unescape(self.raw).map(Cow::Owned) } else { Ok(Cow::Borrowed(self.raw)) }
    }
}

/// Reads a text that was scanned before.
fn unescape(raw: &str) -> Result<String, HalfSurrogate> {
    let mut text = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    let four = |chars: &mut std::str::Chars<'_>| {
        (0..4).fold(0_u32, |code, _| {
            code.wrapping_shl(4) | chars.next().and_then(|digit| digit.to_digit(16)).unwrap_or_default()
        })
    };
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        let read = match chars.next() {
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                let mut code = four(&mut chars);
                if matches!(code, 0xD800..=0xDBFF) {
                    chars = chars.as_str().strip_prefix("\\u").ok_or(HalfSurrogate)?.chars();
                    let low = four(&mut chars);
                    if !matches!(low, 0xDC00..=0xDFFF) {
                        return Err(HalfSurrogate);
                    }
                    code = 0x1_0000_u32.wrapping_add((code & 0x3FF).wrapping_shl(10) | (low & 0x3FF));
                }
                char::from_u32(code).ok_or(HalfSurrogate)?
            }
            // The scan has let through nothing else than these three.
            Some(itself @ ('"' | '\\' | '/')) => itself,
            _ => return Err(HalfSurrogate),
        };
        text.push(read);
    }
    Ok(text)
}

/// How many bytes of a string stand for themselves: up to a quote, a backslash or a control character.
///
/// Eight at a time. A byte that is less than `n`, which is 128 at most, borrows from its highest bit where `n` is
/// taken away from each; a borrow may mislead about the bytes behind the first that is found, never about that one.
fn plain_bytes(rest: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let less = |word: u64, n: u64| word.wrapping_sub(ONES.wrapping_mul(n)) & !word & HIGHS;
    let is = |word: u64, byte: u8| less(word ^ ONES.wrapping_mul(u64::from(byte)), 1);
    let (words, last) = rest.as_chunks::<8>();
    let mut passed = 0_usize;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let stops = less(word, 0x20) | is(word, b'"') | is(word, b'\\');
        if stops != 0 {
            let bits = usize::try_from(stops.trailing_zeros()).unwrap_or_default();
            return passed.saturating_add(bits / 8);
        }
        passed = passed.saturating_add(8);
    }
    let stop = |&b: &u8| matches!(b, b'"' | b'\\' | 0..0x20);
    passed.saturating_add(last.iter().position(stop).unwrap_or(last.len()))
}

/// Walks a text once, from its first byte to its last.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    depth_max: usize,
}

impl<'a> Scanner<'a> {
    /// A scanner at the first value of a text whose values nest `depth_max` levels deep at most.
    pub(super) fn new(text: &'a str, depth_max: usize) -> Self {
        let mut scanner = Scanner { text, at: 0, depth: 0, depth_max };
        scanner.space();
        scanner
    }

    /// The text ends here.
    pub(super) fn end(mut self) -> Result<(), Fault> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.wanted("nothing more")) }
    }

    /// Whether the value at hand is an object.
    pub(super) fn at_object(&self) -> bool {
        self.peek() == Some(b'{')
    }

    /// Reads the object at hand; `each` reads or passes over the value of the member that it is given.
    pub(super) fn members(
        &mut self,
        mut each: impl FnMut(&mut Self, Text<'a>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.take(b'{', "an object")?;
        self.depth = self.deeper(1)?;
        self.space();
        if self.peek() != Some(b'}') {
            loop {
                let name = self.name()?;
                each(self, name)?;
                self.space();
                if self.peek() != Some(b',') {
                    break;
                }
                self.bump();
                self.space();
            }
        }
        self.take(b'}', "`,` or `}`")?;
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }

    /// Passes over the value at hand, whatever it is.
    pub(super) fn value(&mut self) -> Result<Value<'a>, Fault> {
        let start = self.at;
        match self.peek() {
            Some(b'{') => self.nested().map(|()| Value::Object),
            Some(b'[') => {
                self.nested()?;
                Ok(Value::Array(self.since(start)))
            }
            _ => self.scalar(),
        }
    }

    /// Passes over an array or an object. What is open is kept on a stack of our own: a text of 100,000 brackets
    /// must not exhaust the thread's.
    fn nested(&mut self) -> Result<(), Fault> {
        let mut objects: SmallVec<[bool; 64]> = SmallVec::new();
        loop {
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    let object = bracket == b'{';
                    objects.push(object);
                    self.deeper(objects.len())?;
                    self.bump();
                    self.space();
                    let empty = self.peek() == Some(if object { b'}' } else { b']' });
                    if !empty {
                        if object {
                            self.name()?;
                        }
                        continue;
                    }
                }
                _ => {
                    self.scalar()?;
                }
            }
            // A value is complete, or an empty array or object is about to be.
            loop {
                let Some(&object) = objects.last() else { return Ok(()) };
                self.space();
                match (self.peek(), object) {
                    (Some(b','), _) => {
                        self.bump();
                        self.space();
                        if object {
                            self.name()?;
                        }
                        break;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        self.bump();
                        objects.pop();
                    }
                    (_, true) => return Err(self.wanted("`,` or `}`")),
                    (_, false) => return Err(self.wanted("`,` or `]`")),
                }
            }
        }
    }

    /// A member's name, its colon and the space up to its value.
    fn name(&mut self) -> Result<Text<'a>, Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.wanted("a member's name in quotes"));
        }
        let name = self.string()?;
        self.space();
        self.take(b':', "`:`")?;
        self.space();
        Ok(name)
    }

    fn scalar(&mut self) -> Result<Value<'a>, Fault> {
        match self.peek() {
            Some(b'"') => self.string().map(Value::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => Err(self.wanted("a value")),
        }
    }

    fn word(&mut self, word: &'static str, value: Value<'a>) -> Result<Value<'a>, Fault> {
        if !self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(self.wanted(word));
        }
        self.at = self.at.saturating_add(word.len());
        Ok(value)
    }

    fn number(&mut self) -> Result<Value<'a>, Fault> {
        let start = self.at;
        self.pass(|b| b == b'-');
        if self.peek() == Some(b'0') {
            self.bump();
        } else {
            self.digits()?;
        }
        if self.pass(|b| b == b'.') {
            self.digits()?;
        }
        if self.pass(|b| matches!(b, b'e' | b'E')) {
            self.pass(|b| matches!(b, b'+' | b'-'));
            self.digits()?;
        }
        Ok(Value::Number(self.since(start)))
    }

    fn digits(&mut self) -> Result<(), Fault> {
        if !self.pass(|b| b.is_ascii_digit()) {
            return Err(self.wanted("a digit"));
        }
        while self.pass(|b| b.is_ascii_digit()) {}
        Ok(())
    }

    fn string(&mut self) -> Result<Text<'a>, Fault> {
        self.bump();
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            self.at = self.at.saturating_add(plain_bytes(rest));
            match self.peek() {
                Some(b'"') => {
                    let raw = self.since(start);
                    self.bump();
                    return Ok(Text { raw, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.bump();
                    self.escape()?;
                }
                Some(_) => return Err(self.wanted("an escape instead of a control character")),
                None => return Err(self.wanted("the string's closing quote")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        if self.pass(|b| b == b'u') {
            for _ in 0..4 {
                if !self.pass(|b| b.is_ascii_hexdigit()) {
                    return Err(self.wanted("four hexadecimal digits"));
                }
            }
            return Ok(());
        }
        let known = self.pass(|b| matches!(b, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't'));
        if known { Ok(()) } else { Err(self.wanted("one of JSON's escapes")) }
    }

    fn deeper(&self, levels: usize) -> Result<usize, Fault> {
        let depth = self.depth.saturating_add(levels);
        if depth > self.depth_max { Err(Fault::TooDeep) } else { Ok(depth) }
    }

    fn take(&mut self, byte: u8, wanted: &'static str) -> Result<(), Fault> {
        if self.pass(|b| b == byte) { Ok(()) } else { Err(self.wanted(wanted)) }
    }

    fn pass(&mut self, fits: impl Fn(u8) -> bool) -> bool {
        let passes = self.peek().is_some_and(fits);
        if passes {
            self.bump();
        }
        passes
    }

    fn space(&mut self) {
        while self.pass(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')) {}
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn bump(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    /// Both ends stand beside ASCII, so the range never splits a character.
    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn wanted(&self, wanted: &'static str) -> Fault {
        Fault::Syntax { at: self.at, wanted }
    }
}

/// The elements of an array that was scanned before.
pub(super) fn elements<'a>(array: &'a str, mut each: impl FnMut(Value<'a>)) {
    let inside = array.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or_default();
    let mut scanner = Scanner::new(inside, usize::MAX);
    while let Ok(value) = scanner.value() {
        each(value);
        scanner.space();
        scanner.pass(|b| b == b',');
        scanner.space();
    }
}

/// Whether the brackets of a text that may be no JSON nest deeper than this, strings left aside.
pub(super) fn nests_deeper(text: &str, depth_max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for b in text.bytes() {
        if in_string {
            in_string = escaped || b != b'"';
            escaped = !escaped && b == b'\\';
            continue;
        }
        match b {
            b'"' => in_string = true,
            b'{' | b'[' => depth = depth.saturating_add(1),
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > depth_max {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(text: &str, depth_max: usize) -> Result<(), Fault> {
        let mut scanner = Scanner::new(text, depth_max);
        scanner.value()?;
        scanner.end()
    }

    /// The members of an object, or nothing for another value: the names read, and each value's kind.
    fn split(text: &str) -> Result<Vec<(String, String)>, Fault> {
        let mut scanner = Scanner::new(text, 64);
        let mut found = Vec::new();
        scanner.members(|scanner, name| {
            let value = scanner.value()?;
            let shown = match value {
                Value::Text(text) => text.read().map_or("half".to_owned(), |text| format!("{text:?}")),
                Value::Number(raw) | Value::Array(raw) => raw.to_owned(),
                Value::Bool(_) | Value::Null | Value::Object => format!("{value:?}"),
            };
            found.push((name.read().map_or("half".to_owned(), Cow::into_owned), shown));
            Ok(())
        })?;
        scanner.end()?;
        Ok(found)
    }

    #[test]
    fn members_are_split_in_order_and_left_as_they_were_written() {
        let text =
            r#" {"a" : 1.50 , "b\u0063":"x\ty" ,"":[1, {"q":2}],"d":{} , "e":null,"f":true,"a":-0e+1} "#;
        let wanted = [
            ("a", "1.50"),
            ("bc", r#""x\ty""#),
            ("", r#"[1, {"q":2}]"#),
            ("d", "Object"),
            ("e", "Null"),
            ("f", "Bool(true)"),
            ("a", "-0e+1"),
        ];
        assert_eq!(split(text).unwrap(), wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(split("{}").unwrap(), []);
        assert_eq!(split(" { } ").unwrap(), []);
    }

    #[test]
    fn escapes_mean_what_json_says_and_half_a_surrogate_pair_means_nothing() {
        // JSON between the quotes, what it means.
        let table = [
            (r#"\"\\\/\b\f\n\r\t"#, Some("\"\\/\u{8}\u{c}\n\r\t")),
            (r"\u0041\u00e9\u20AC\uFFFF", Some("Aé€\u{ffff}")),
            (r"\ud83d\ude00", Some("😀")),
            (r"\uD800\uDC00\uDBFF\uDFFF", Some("\u{10000}\u{10ffff}")),
            (r"\u0000", Some("\0")),
            (r"\ud83d", None),
            (r"\ude00", None),
            (r"\ud83dx", None),
            (r"\ud83d\n", None),
            (r"\ud83d\u0041", None),
            (r"\ud83d\ud83d\ude00", None),
        ];
        for (raw, meant) in table {
            let quoted = format!("\"{raw}\"");
            let Ok(Value::Text(text)) = Scanner::new(&quoted, 1).value() else { panic!("{raw}") };
            assert_eq!(text.read().ok().as_deref(), meant, "{raw}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused_where_it_goes_wrong() {
        // Text, byte of the fault.
        let table = [
            ("", 0),
            ("  ", 2),
            ("{", 1),
            ("{\"a\"", 4),
            ("{\"a\":", 5),
            ("{\"a\":1", 6),
            ("{\"a\":1,", 7),
            ("{\"a\":1,}", 7),
            ("{,}", 1),
            ("{a:1}", 1),
            ("{'a':1}", 1),
            ("{\"a\" 1}", 5),
            ("{\"a\":1 \"b\":2}", 7),
            ("[", 1),
            ("[1,]", 3),
            ("[1 2]", 3),
            ("[1}", 2),
            ("{\"a\":1]", 6),
            ("nul", 0),
            ("nulll", 4),
            ("NaN", 0),
            ("Infinity", 0),
            ("True", 0),
            ("01", 1),
            ("-", 1),
            ("+1", 0),
            (".5", 0),
            ("1.", 2),
            ("1.e5", 2),
            ("1e", 2),
            ("1e+", 3),
            ("0x10", 1),
            ("\"", 1),
            ("\"\n\"", 1),
            ("\"\\x\"", 2),
            ("\"\\u12g4\"", 5),
            ("\"\\", 2),
            ("1 2", 2),
            ("{} {}", 3),
            ("\u{feff}{}", 0),
            ("// x\n1", 0),
            ("٣", 0),
            ("\u{a0}1", 0),
        ];
        for (text, wrong) in table {
            match scan(text, 64) {
                Err(Fault::Syntax { at, .. }) => assert_eq!(at, wrong, "{text:?}"),
                other => panic!("{text:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn nesting_is_counted_to_the_limit_and_not_a_level_further() {
        let nest = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(scan(&nest(64), 64), Ok(()));
        assert_eq!(scan(&nest(65), 64), Err(Fault::TooDeep));
        assert_eq!(scan(&nest(100_000), 64), Err(Fault::TooDeep));
        assert_eq!(scan(&nest(100_000), 100_000), Ok(()));
        // A member's value is one level further in than its object, and beside deep values the count goes back.
        let inside = |levels: usize| format!(r#"{{"a":{0},"b":{0}}}"#, nest(levels));
        assert_eq!(split(&inside(63)).map(|members| members.len()), Ok(2));
        assert_eq!(split(&inside(64)), Err(Fault::TooDeep));
        assert!(!nests_deeper(&nest(64), 64) && nests_deeper(&nest(65), 64));
        assert!(!nests_deeper(r#""[[[\"[[[""#, 2) && nests_deeper(r#""[\\"[[["#, 2));
    }

    proptest! {
        #[test]
        fn plain_bytes_end_where_the_first_other_one_stands(
            plain in proptest::collection::vec(prop_oneof![0x20..=0x21_u8, 0x23..=0x5b_u8, 0x5d..=0xff_u8], 0..40),
            rest in proptest::collection::vec(prop_oneof![0..0x20_u8, Just(b'"'), Just(b'\\'), any::<u8>()], 0..20),
            stop in prop_oneof![0..0x20_u8, Just(b'"'), Just(b'\\')],
        ) {
            prop_assert_eq!(plain_bytes(&plain), plain.len());
            let text: Vec<u8> = plain.iter().chain([&stop]).chain(&rest).copied().collect();
            prop_assert_eq!(plain_bytes(&text), plain.len());
        }

        #[test]
        fn it_takes_what_serde_json_takes(text in r#"[ \[\]{}:,"\\utrnfals0-9eE.+-]{0,24}"#) {
            let library = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            prop_assert_eq!(scan(&text, 64).is_ok(), library);
        }

        #[test]
        fn it_reads_every_text_that_serde_json_writes(text in any::<String>()) {
            let written = serde_json::to_string(&text).unwrap();
            let Ok(Value::Text(read)) = Scanner::new(&written, 1).value() else { panic!("{written}") };
            prop_assert_eq!(read.read().unwrap(), text);
        }
    }
}
