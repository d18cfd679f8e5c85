//! What is said of partitions: of several the same, once.

/// Names and what is said of each, as lines in the order in which it came up.
pub fn said_once(said: &[(String, String)]) -> Vec<String> {
    let mut lines: Vec<(&str, &str, usize)> = Vec::new();
    for (name, what) in said {
        match lines.iter_mut().find(|(_, told, _)| told == what) {
            Some((_, _, others)) => *others = others.saturating_add(1),
            None => lines.push((name, what, 0)),
        }
    }
    let line = |(name, what, others): (&str, &str, usize)| match others {
        0 => format!("{name} {what}"),
        others => format!("each of {name}{} {what}", and_others(others)),
    };
    lines.into_iter().map(line).collect()
}

/// What stands behind the name of the first of several.
pub fn and_others(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => " and another partition".to_owned(),
        count => format!(" and {count} other partitions"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_several_partitions_is_said_once() {
        let said = [("ledger/0", "is stale"), ("ledger/1", "is halted"), ("ledger/2", "is stale")];
        let said = said.map(|(name, what)| (name.to_owned(), what.to_owned()));
        assert_eq!(
            said_once(&said),
            ["each of ledger/0 and another partition is stale", "ledger/1 is halted"]
        );
        let all: Vec<_> = (0..12).map(|n| (format!("ledger/{n}"), "is stale".to_owned())).collect();
        assert_eq!(said_once(&all), ["each of ledger/0 and 11 other partitions is stale"]);
    }
}
