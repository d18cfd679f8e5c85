//! Where a span belongs: W3C Trace Context.

/// A span, as others refer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Context {
    /// The trace that it is part of.
    pub(super) trace: [u8; 16],
    /// The span itself.
    pub(super) span: [u8; 8],
}

/// What a caller says of its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parent {
    /// It is sampled, and this is the caller's span.
    Followed(Context),
    /// It is not sampled.
    NotFollowed,
}

/// The flag that says that a trace is sampled.
const SAMPLED: u8 = 1;

impl Parent {
    /// Reads a `traceparent`; one that cannot be read is none. Versions to come may add something behind.
    pub(super) fn parse(header: &[u8]) -> Option<Self> {
        let (known, rest) = header.split_at_checked(55)?;
        let mut parts = known.split(|byte| *byte == b'-');
        let [version] = hex(parts.next()?)?;
        let trace = hex(parts.next()?)?;
        let span = hex(parts.next()?)?;
        let [flags] = hex(parts.next()?)?;
        let whole = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        if !whole || parts.next().is_some() || trace == [0; 16] || span == [0; 8] {
            return None;
        }
        let followed = flags & SAMPLED != 0;
        Some(if followed { Parent::Followed(Context { trace, span }) } else { Parent::NotFollowed })
    }
}

/// Exactly so many bytes, in lower case.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut pairs = text.chunks_exact(2);
    for (byte, pair) in bytes.iter_mut().zip(&mut pairs) {
        let pair = std::str::from_utf8(pair).ok()?;
        let digits = pair.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        *byte = u8::from_str_radix(pair, 16).ok().filter(|_| digits)?;
    }
    (text.len() == N.saturating_mul(2)).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_w3c_wrote_it() {
        let context = Context {
            trace: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes(),
            span: 0xb7ad_6b71_6920_3331_u64.to_be_bytes(),
        };
        let followed = Some(Parent::Followed(context));
        let rows: &[(&str, Option<Parent>)] = &[
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", followed),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03", followed),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", Some(Parent::NotFollowed)),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-02", Some(Parent::NotFollowed)),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", followed),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-comes", followed),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.what-comes", None),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-", None),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
            ("00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01", None),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", None),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", None),
            ("00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331a-01", None),
            ("00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-+1", None),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", None),
            ("", None),
        ];
        for (header, expected) in rows {
            assert_eq!(Parent::parse(header.as_bytes()), *expected, "{header}");
        }
    }
}
