//! Rules of the tree that no compiler holds.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A file that needs more is two files; tables of tests may be longer.
const LINES_MAX: usize = 1000;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the repository with its text; binary files are left out.
fn files() -> Vec<(String, String)> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git");
    assert!(listed.status.success(), "git ls-files");
    let names = String::from_utf8(listed.stdout).expect("names in UTF-8");
    let files: Vec<_> = names
        .lines()
        .filter_map(|name| Some((name.to_owned(), std::fs::read_to_string(root().join(name)).ok()?)))
        .collect();
    assert!(files.iter().any(|(name, _)| name == "src/lib.rs"), "the list is not the repository's");
    files
}

fn sources(under: &str) -> Vec<(String, String)> {
    let rust = |name: &str| Path::new(name).extension().is_some_and(|e| e == "rs");
    let found: Vec<_> = files().into_iter().filter(|(n, _)| n.starts_with(under) && rust(n)).collect();
    assert!(!found.is_empty(), "nothing under {under}");
    found
}

/// The code of a file: without comments, and without the module of tests at its end.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let tests =
        |two: &[&str]| two[0] == "#[cfg(test)]" && two[1].starts_with("mod ") && two[1].ends_with('{');
    let end = lines.windows(2).position(tests).unwrap_or(lines.len());
    let numbered = lines.into_iter().take(end).enumerate();
    numbered.map(|(n, line)| (n + 1, line.split("//").next().unwrap_or_default()))
}

/// Fails with every place where the code under `dir` says one of the words, but for the excepted files.
fn never_says(dir: &str, words: &[&str], except: &[&str]) {
    let mut found = Vec::new();
    for (name, text) in sources(dir) {
        if except.contains(&name.as_str()) {
            continue;
        }
        for (n, line) in code(&text) {
            found.extend(
                words.iter().filter(|word| line.contains(**word)).map(|w| format!("{name}:{n}: {w}")),
            );
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_read_side_names_neither_the_source_nor_the_projector() {
    never_says("src/api", &["crate::source", "crate::projector", "rdkafka", "source::", "projector::"], &[]);
}

#[test]
fn the_domain_does_no_input_or_output_and_knows_no_clock() {
    let words = [
        "async ",
        "tokio",
        "rdkafka",
        "redis::",
        "tracing",
        "std::fs",
        "std::net",
        "std::env",
        "std::time",
        "std::thread",
        "Instant::now",
        "Timestamp::now",
        "crate::store",
        "crate::source",
        "crate::api",
        "crate::projector",
        "crate::config",
    ];
    never_says("src/domain", &words, &[]);
}

#[test]
fn the_decoder_does_no_input_or_output_and_knows_no_clock() {
    never_says(
        "src/wire",
        &["async ", "tokio", "rdkafka", "redis::", "std::fs", "std::net", "std::time"],
        &[],
    );
}

#[test]
fn one_file_names_the_decimal_crate() {
    never_says("src", &["rust_decimal"], &["src/domain/amount.rs"]);
}

#[test]
fn only_the_read_side_of_the_store_is_used_by_the_views() {
    never_says("src/api", &["WriteStore", ".commit(", ".claim(", ".activate("], &[]);
}

#[test]
fn no_file_is_too_long_to_read() {
    let long: Vec<_> = ["src", "benches"]
        .iter()
        .flat_map(|dir| sources(dir))
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .collect();
    assert!(long.is_empty(), "more than {LINES_MAX} lines: {long:#?}");
}

#[test]
fn every_lint_that_is_switched_off_says_why() {
    let mut silent = Vec::new();
    for (name, text) in sources("src").into_iter().chain(sources("tests")) {
        if name == "tests/it/tidy.rs" {
            continue;
        }
        for (at, _) in text.match_indices("[allow(").chain(text.match_indices("[expect(")) {
            let attribute = text[at..].split(")]").next().unwrap_or_default();
            if !attribute.contains("reason = ") {
                silent.push(format!("{name}: {attribute}"));
            }
        }
    }
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn no_file_names_a_folder_of_somebodys_machine() {
    // In two parts, or this file would name them.
    let folders = [["/wo", "rk/"], ["/ro", "ot/"], ["/ho", "me/"]].map(|parts| parts.concat());
    let mut found = Vec::new();
    for (name, text) in files() {
        for (n, line) in text.lines().enumerate() {
            // A path of a container's image is no machine's.
            if folders.iter().any(|folder| line.contains(folder)) && !name.starts_with("deploy/") {
                found.push(format!("{name}:{}: {line}", n + 1));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_test_is_skipped() {
    let ignore = ["#[ign", "ore"].concat();
    let skipped: Vec<_> = ["src", "tests"]
        .iter()
        .flat_map(|dir| sources(dir))
        .filter(|(_, text)| text.contains(&ignore))
        .map(|(name, _)| name)
        .collect();
    assert!(skipped.is_empty(), "{skipped:#?}");
}

#[test]
fn every_module_and_test_that_the_architecture_names_exists() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let named: Vec<&str> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| {
            ["src/", "tests/", "schemas/", "scripts/", "deploy/"].iter().any(|dir| word.starts_with(dir))
        })
        .collect();
    assert!(named.len() > 10, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// What `cargo deny check licenses sources` holds too; that tool is not on every machine.
#[test]
fn every_crate_comes_from_the_registry_under_a_licence_that_is_allowed() {
    let deny: toml::Table =
        std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml").parse().expect("TOML");
    let strings = |value: &toml::Value| -> Vec<String> {
        value.as_array().expect("an array").iter().map(|v| v.as_str().expect("a string").to_owned()).collect()
    };
    let allowed = strings(&deny["licenses"]["allow"]);
    let banned: Vec<String> = deny["bans"]["deny"]
        .as_array()
        .expect("an array")
        .iter()
        .map(|ban| ban["crate"].as_str().expect("a name").to_owned())
        .collect();
    let mut faults = Vec::new();
    for package in packages() {
        let name = package["name"].as_str().expect("a name").to_owned();
        if banned.contains(&name) {
            faults.push(format!("{name} is banned"));
        }
        match package["source"].as_str() {
            // This package itself.
            None => continue,
            // A registry, never a repository or a path.
            Some(source) if source.starts_with("registry+") => {}
            Some(source) => faults.push(format!("{name} comes from {source}")),
        }
        let licence = package["license"].as_str().unwrap_or_default();
        if !permits(licence, &allowed) {
            faults.push(format!("{name} is under {licence:?}"));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn a_licence_is_allowed_by_its_expression() {
    let allowed = ["MIT".to_owned(), "Zlib".to_owned()];
    for (licence, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND Zlib", true),
        ("MIT AND GPL-3.0", false),
        ("(GPL-3.0 OR MIT) AND Zlib", true),
        ("(GPL-3.0 OR MIT) AND GPL-2.0", false),
        ("MIT OR GPL-3.0 AND GPL-2.0", true),
        ("", false),
    ] {
        assert_eq!(permits(licence, &allowed), expected, "{licence:?}");
    }
}

fn packages() -> Vec<serde_json::Value> {
    let cargo = PathBuf::from(env!("CARGO"));
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    metadata["packages"].as_array().expect("packages").clone()
}

/// Whether an SPDX expression can be met with the allowed licences alone. `OR` binds looser than `AND`.
fn permits(licence: &str, allowed: &[String]) -> bool {
    let spaced = licence.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words: Vec<&str> = spaced.split_whitespace().collect();
    words.reverse();
    let met = either(&mut words, allowed);
    met && words.is_empty()
}

fn either(words: &mut Vec<&str>, allowed: &[String]) -> bool {
    let mut met = both(words, allowed);
    while words.last() == Some(&"OR") {
        words.pop();
        met |= both(words, allowed);
    }
    met
}

fn both(words: &mut Vec<&str>, allowed: &[String]) -> bool {
    let mut met = one(words, allowed);
    while words.last() == Some(&"AND") {
        words.pop();
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Vec<&str>, allowed: &[String]) -> bool {
    match words.pop() {
        Some("(") => {
            let met = either(words, allowed);
            words.pop() == Some(")") && met
        }
        Some(name) if words.last() == Some(&"WITH") => {
            words.pop();
            let exception = words.pop().unwrap_or_default();
            allowed.contains(&format!("{name} WITH {exception}"))
        }
        Some(name) => allowed.iter().any(|a| a == name),
        None => false,
    }
}
