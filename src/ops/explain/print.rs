//! The explanation as a table, and its records as CSV.

use std::fmt::Write as _;

use super::{
    Explanation, Kind, Verdict,
    trace::{Decided, Row},
};

/// For a human.
pub(super) fn table(told: &Explanation) -> String {
    let mut text = String::new();
    let kind = match told.kind {
        Kind::Account => "account",
        Kind::Customer => "customer",
    };
    let as_of = told.as_of.as_ref().map(|time| format!(", as of {time}")).unwrap_or_default();
    let _infallible = writeln!(text, "{kind} {}, generation {}{as_of}", told.id, told.generation);
    for stretch in &told.read {
        let late = if stretch.late { ", where its opening lets it begin" } else { "" };
        let _infallible = writeln!(
            text,
            "read {}/{} from offset {}{late} to {}: {} records",
            stretch.topic, stretch.partition, stretch.from, stretch.to, stretch.records
        );
    }
    text.push('\n');
    let mut rows = vec![HEADER.map(str::to_owned).to_vec()];
    if told.left_out > 0 {
        let note = format!("{} earlier records", told.left_out);
        rows.push(opening_row("", "", "", &note));
    }
    for opening in &told.opening {
        let account = opening.account.clone().unwrap_or_default();
        let currency = opening.currency.to_string();
        let mut row = opening_row(
            &currency,
            &opening.balance,
            opening.available.as_deref().unwrap_or(""),
            "opening figure",
        );
        if let (Some(first), false) = (row.first_mut(), account.is_empty()) {
            *first = account;
        }
        rows.push(row);
    }
    for record in &told.records {
        rows.extend(record.lines());
    }
    columns(&mut text, &rows);
    text.push('\n');
    figures(&mut text, told);
    text.push_str(&verdict(told));
    text
}

/// Notes, differences and the verdict.
pub(super) fn verdict(told: &Explanation) -> String {
    let mut text = String::new();
    for note in told.notes.iter().chain(&told.differences) {
        let _infallible = writeln!(text, "! {}", printable(note));
    }
    text.push_str(match told.verdict {
        Verdict::Agrees => "agrees\n",
        Verdict::Differs => "differs\n",
    });
    text
}

const HEADER: [&str; 11] = [
    "RECORD",
    "STAMPED",
    "TIME",
    "EVENT",
    "TYPE",
    "CURRENCY",
    "AMOUNT",
    "BALANCE",
    "AVAILABLE",
    "OUTCOME",
    "NOTE",
];

fn opening_row(currency: &str, balance: &str, available: &str, note: &str) -> Vec<String> {
    ["", "", "", "", "", currency, "", balance, available, "", note].map(str::to_owned).to_vec()
}

impl Row {
    /// The last payment that counts from here on.
    fn paid(&self) -> Option<String> {
        let paid = self.last_payment.as_ref()?;
        Some(match (&paid.amount, &paid.date) {
            (Some(amount), Some(date)) => format!("the last payment is {amount} of {date}"),
            (_, _) => "the last payment is forgotten".to_owned(),
        })
    }

    /// Who decided what about it.
    fn decided(&self) -> Option<String> {
        let Decided { remedy, who, at, why } = self.decision.as_ref()?;
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        Some(printable(&format!("{remedy} by {who} at {at}{why}")))
    }

    /// One line for each currency that it moves, and one where it moves none.
    fn lines(&self) -> Vec<Vec<String>> {
        let head = [
            format!("{}/{}@{}", self.topic, self.partition, self.offset),
            self.timestamp.clone(),
            self.time.clone().unwrap_or_default(),
            self.event_id.clone().unwrap_or_default(),
            self.kind.unwrap_or_default().to_owned(),
        ];
        let mut note = Vec::new();
        note.extend(self.account.as_ref().map(|account| format!("account {account}")));
        note.extend(self.reference.clone());
        note.extend(self.date.clone());
        note.extend(Some(printable(&self.note)).filter(|note| !note.is_empty()));
        note.extend(self.paid());
        note.extend(self.decided());
        let tail = [self.outcome.to_owned(), note.join(", ")];
        let line = |middle: [String; 4]| head.iter().cloned().chain(middle).chain(tail.clone()).collect();
        if self.moves.is_empty() {
            return vec![line([const { String::new() }; 4])];
        }
        let moved = self.moves.iter().map(|moved| {
            line([
                moved.currency.to_string(),
                moved.amount.clone(),
                moved.balance.clone(),
                moved.available.clone().unwrap_or_default(),
            ])
        });
        moved.collect()
    }
}

fn figures(text: &mut String, told: &Explanation) {
    let figures = &told.figures;
    let mut rows = Vec::new();
    for figure in &figures.balances {
        rows.push(vec![
            figure.currency.to_string(),
            format!("{:?}", figure.balance_type).to_uppercase(),
            figure.amount.clone().unwrap_or_else(|| "days are no longer told apart".to_owned()),
            figure.date_time.clone().unwrap_or_default(),
        ]);
    }
    for due in &figures.dues {
        let account = due.account.clone().unwrap_or_default();
        rows.push(vec![
            due.currency.to_string(),
            format!("due on {account}"),
            due.balance.clone(),
            String::new(),
        ]);
    }
    if let Some(total) = &figures.total {
        rows.push(vec![String::new(), "total".to_owned(), total.clone(), String::new()]);
    }
    if let Some(paid) = &figures.last_payment {
        let amount = paid.amount.clone().unwrap_or_else(|| "forgotten".to_owned());
        rows.push(vec![
            String::new(),
            "last payment".to_owned(),
            amount,
            paid.date.clone().unwrap_or_default(),
        ]);
    }
    if let Some(profile) = &figures.profile {
        rows.push(vec![
            String::new(),
            "billing name".to_owned(),
            printable(&profile.billing_name),
            String::new(),
        ]);
        rows.push(vec![String::new(), "fee".to_owned(), profile.ivr_fee.clone(), String::new()]);
    }
    if rows.is_empty() {
        return;
    }
    let _infallible = writeln!(text, "figures for {}", told.today);
    columns(text, &rows);
    text.push('\n');
}

/// Text of others on a terminal: nothing in it may steer one.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// Rows in columns as wide as their widest cell.
fn columns(text: &mut String, rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            let wide = cell.chars().count();
            match widths.get_mut(at) {
                Some(width) => *width = wide.max(*width),
                None => widths.push(wide),
            }
        }
    }
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths).filter(|(_, width)| **width > 0) {
            let _infallible = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// The records, a line for each currency that one moves. Lines end as RFC 4180 has it.
pub(super) fn csv(told: &Explanation) -> String {
    let mut text = "topic,partition,offset,timestamp,account,event_id,source,type,time,reference,date,currency,amount,balance,available,outcome,note\r\n".to_owned();
    let opening = told.opening.iter().map(|opening| {
        let mut cells = [const { String::new() }; 17];
        let filled = [
            (4, opening.account.clone().unwrap_or_default()),
            (11, opening.currency.to_string()),
            (13, opening.balance.clone()),
            (14, opening.available.clone().unwrap_or_default()),
            (15, "opening".to_owned()),
            (16, format!("{} earlier records", told.left_out)),
        ];
        for (at, value) in filled {
            if let Some(cell) = cells.get_mut(at) {
                *cell = value;
            }
        }
        cells
    });
    for cells in opening {
        csv_line(&mut text, &cells);
    }
    for row in &told.records {
        let none = [const { String::new() }; 4];
        let moved = row.moves.iter().map(|moved| {
            let available = moved.available.clone().unwrap_or_default();
            [moved.currency.to_string(), moved.amount.clone(), moved.balance.clone(), available]
        });
        let mut moved: Vec<_> = moved.collect();
        if moved.is_empty() {
            moved.push(none);
        }
        for [currency, amount, balance, available] in moved {
            csv_line(
                &mut text,
                &[
                    row.topic.clone(),
                    row.partition.to_string(),
                    row.offset.to_string(),
                    row.timestamp.clone(),
                    row.account.clone().unwrap_or_default(),
                    row.event_id.clone().unwrap_or_default(),
                    no_formula(row.source.clone().unwrap_or_default()),
                    row.kind.unwrap_or_default().to_owned(),
                    row.time.clone().unwrap_or_default(),
                    no_formula(row.reference.clone().unwrap_or_default()),
                    row.date.clone().unwrap_or_default(),
                    currency,
                    amount,
                    balance,
                    available,
                    row.outcome.to_owned(),
                    no_formula(
                        [row.note.clone(), row.paid().unwrap_or_default(), row.decided().unwrap_or_default()]
                            .iter()
                            .filter(|part| !part.is_empty())
                            .map(String::as_str)
                            .collect::<Vec<_>>()
                            .join("; "),
                    ),
                ],
            );
        }
    }
    text
}

/// Text of others must not be run by the spreadsheet that opens it.
fn no_formula(text: String) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text }
}

fn csv_line(text: &mut String, cells: &[String]) {
    for (at, cell) in cells.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        if cell.contains([',', '"', '\r', '\n']) {
            let _infallible = write!(text, "\"{}\"", cell.replace('"', "\"\""));
        } else {
            text.push_str(cell);
        }
    }
    text.push_str("\r\n");
}
