//! The runbook holds what it says: its links, its commands, the tests that rehearse it, and every remedy.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn runbook() -> String {
    std::fs::read_to_string(root().join("docs/RUNBOOK.md")).expect("docs/RUNBOOK.md")
}

/// The text under each heading of the second level.
fn sections(text: &str) -> Vec<(String, String)> {
    let parts = text.split("\n## ").skip(1);
    parts
        .map(|part| {
            let (heading, body) = part.split_once('\n').expect("a heading and its text");
            (heading.to_owned(), body.to_owned())
        })
        .collect()
}

/// As renderers of Markdown make anchors of headings.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Whether there is a test of this name in its module: `poison::a_sentence`.
fn is_a_test(name: &str) -> bool {
    let (module, function) = name.rsplit_once("::").expect("a module and a function");
    let file = root().join("tests/it").join(module.replace("::", "/")).with_extension("rs");
    let Ok(text) = std::fs::read_to_string(file) else { return false };
    let Some(at) = text.find(&format!("fn {function}(")) else { return false };
    text[..at].trim_end_matches("async ").trim_end().ends_with("test]")
}

#[test]
fn every_situation_is_rehearsed_by_a_test_that_exists() {
    let mut faults = Vec::new();
    for (heading, body) in sections(&runbook()) {
        let rehearsed = body.split("Rehearsed by ").nth(1);
        let named: Vec<&str> = rehearsed.unwrap_or_default().split('`').skip(1).step_by(2).collect();
        if named.is_empty() && heading != "Where to begin" {
            faults.push(format!("{heading}: nothing rehearses it"));
        }
        faults.extend(named.iter().filter(|name| !is_a_test(name)).map(|name| format!("{heading}: {name}")));
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(!is_a_test("runbook::anchor"), "what is no test would pass for one");
}

#[test]
fn every_link_leads_to_a_heading() {
    let text = runbook();
    let anchors: BTreeSet<String> = sections(&text).iter().map(|(heading, _)| anchor(heading)).collect();
    let links: BTreeSet<&str> =
        text.split("](#").skip(1).map(|rest| rest.split(')').next().expect("an end")).collect();
    assert!(links.len() > 10, "{links:?}");
    let dead: Vec<_> = links.iter().filter(|link| !anchors.contains(**link)).collect();
    assert!(dead.is_empty(), "{dead:?}");
    // Alerts and other documents lead here too.
    for folder in ["deploy", "docs", "schemas"] {
        for file in files_under(&root().join(folder)) {
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            for rest in text.split("RUNBOOK.md#").skip(1) {
                let link: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '-').collect();
                assert!(anchors.contains(&link), "{}: #{link}", file.display());
            }
        }
    }
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_under(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// A person who reads a remedy finds it in the table of the beginning.
#[test]
fn every_remedy_of_a_halt_leads_to_a_heading() {
    let plain = |text: &str| text.replace('`', "");
    let text = runbook();
    let table: Vec<String> =
        text.lines().filter(|line| line.starts_with('|') && line.contains("](#")).map(plain).collect();
    let mut remedies = BTreeSet::new();
    for file in files_under(&root().join("src/projector")) {
        let code = std::fs::read_to_string(&file).expect("a source");
        for mark in ["remedy: ", "remedy = "] {
            for rest in code.split(mark).skip(1) {
                let literal = rest.strip_prefix("format!(").unwrap_or(rest).trim_start();
                let literal = literal.strip_prefix('"').and_then(|rest| rest.split('"').next());
                remedies.extend(literal.map(plain));
            }
        }
    }
    assert!(remedies.len() >= 6, "{remedies:?}");
    // What stands in braces is filled in.
    let parts = |remedy: &str| -> Vec<String> {
        remedy.split('{').map(|part| part.split('}').next_back().unwrap_or_default().to_owned()).collect()
    };
    let told = |remedy: &&String| {
        table.iter().any(|line| parts(remedy).iter().all(|part| line.contains(part.as_str())))
    };
    let missing: Vec<_> = remedies.iter().filter(|remedy| !told(remedy)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_command_is_one_of_the_binary_with_its_flags() {
    let mut helps: BTreeMap<Vec<String>, String> = BTreeMap::new();
    let mut commands = 0;
    for line in runbook().lines().filter_map(|line| line.trim_start().strip_prefix("balance-projector ")) {
        let line = line.split(" #").next().expect("a command");
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut path = vec![words[0].to_owned()];
        if help(&mut helps, &path).contains("\nCommands:\n") {
            path.push(words[1].to_owned());
        }
        let help = help(&mut helps, &path);
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            let flag = flag.split('=').next().expect("a name");
            assert!(
                help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")),
                "{flag} of: {line}"
            );
        }
        commands += 1;
    }
    assert!(commands > 10, "{commands}");
}

fn help(helps: &mut BTreeMap<Vec<String>, String>, path: &[String]) -> String {
    let make = || {
        let output = Command::new(env!("CARGO_BIN_EXE_balance-projector")).args(path).arg("--help").output();
        let output = output.expect("the binary");
        assert!(output.status.success(), "{path:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    helps.entry(path.to_vec()).or_insert_with(make).clone()
}
