//! `/openapi.json`: what the views say about themselves, for machines. Public, and without secrets.
//!
//! The text is `schemas/openapi.json`, which has the defaults, with the settings of this deployment in their place:
//! base paths, the currency's error code, balance types, names of topics, unattended reads, bytes of headers, clients' certificates.
//! Every answer of the tests of both views is held against what is served here.

use std::collections::BTreeMap;

use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    account_balance, etag,
    reply::{self, Reply},
    settings::Settings,
};
use crate::config::ClientCertificates;

/// Where it is served.
pub const PATH: &str = "/openapi.json";

const TEXT: &str = include_str!("../../schemas/openapi.json");
/// View two's path in the text, without a base path.
const ACCOUNT: &str = "/my/accounts/{id}/balance";
/// View two's operations in the text: each base path has its own.
const OPERATIONS: [&str; 2] = ["\"getAccountBalance\"", "\"headAccountBalance\""];
/// The settings in the text, each as it stands there: with its default.
const CURRENCY_ERROR: &str = "\"AM03\"";
const TYPES: &str = "of these types in this order: `PRCD`.";
const TOPICS: &str = "`ledger.events` and `payment.events`";
const POSITION: &str = "\"ledger.events/0@0\"";
const UNATTENDED: &str = "A provider has 4 of them a day (Europe/Prague) for each account: HEAD and 304 use them up \
                          as a GET that is answered 200 does, and past them the answer is 429.";
const CERTIFICATES: &str = "It asks for no certificate of a client.";
const HEADER_BYTES: &str = "longer than 32768 bytes";

/// The document of one deployment.
pub struct Document {
    body: String,
    tag: String,
}

/// The members in their order; what is not looked into is carried over as it was written.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Parts {
    openapi: Box<RawValue>,
    json_schema_dialect: Box<RawValue>,
    info: Box<RawValue>,
    servers: Box<RawValue>,
    tags: Box<RawValue>,
    paths: BTreeMap<String, Box<RawValue>>,
    components: Box<RawValue>,
}

impl Document {
    /// The document with what these settings say, and with what holds of clients' certificates, which a reload changes:
    /// whether they are asked for, and whether their organisation is compared.
    pub fn of(
        settings: &Settings,
        certificates: (Option<ClientCertificates>, bool),
    ) -> Result<Self, serde_json::Error> {
        let mut parts: Parts = serde_json::from_str(&replaced(TEXT, &said(settings, certificates)?))?;
        let account = parts.paths.remove(ACCOUNT);
        for (number, base) in (1..).zip(&settings.account_base_paths) {
            let text = account.as_deref().map(RawValue::get).unwrap_or_default();
            parts.paths.insert(format!("{base}{ACCOUNT}"), RawValue::from_string(named(text, number))?);
        }
        let body = serde_json::to_string(&parts)?;
        Ok(Document { tag: etag::weak(&body), body })
    }

    /// Answers a request for it.
    pub fn answer(&self, method: &Method, headers: &HeaderMap) -> Reply {
        if !reply::is_read(method) {
            return account_balance::method_not_allowed(headers);
        }
        let mut reply = if etag::matches(headers.get_all(IF_NONE_MATCH), &self.tag) {
            let mut reply = Reply::default();
            *reply.status_mut() = StatusCode::NOT_MODIFIED;
            reply
        } else {
            reply::json(StatusCode::OK, self.body.clone())
        };
        reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, no-cache"));
        reply::set(&mut reply, ETAG, self.tag.clone());
        reply
    }
}

/// Each setting as it stands in the text, and as this deployment has it.
fn said(
    settings: &Settings,
    certificates: (Option<ClientCertificates>, bool),
) -> Result<[(&'static str, String); 7], serde_json::Error> {
    // The name of a type as the views write it, without the quotes.
    let types: Result<Vec<_>, _> = settings.balance_types.iter().map(serde_json::to_string).collect();
    let types: Vec<_> = types?.iter().map(|name| format!("`{}`", name.trim_matches('"'))).collect();
    let (ledger, payment) = (escaped(&settings.topics.ledger), escaped(&settings.topics.payment));
    let unattended = match settings.unattended_reads_max {
        0 => "They are not limited.".to_owned(),
        max => {
            let zone = escaped(settings.zone.iana_name().unwrap_or_default());
            format!(
                "A provider has {max} of them a day ({zone}) for each account: HEAD and 304 use them up \
                 as a GET that is answered 200 does, and past them the answer is 429."
            )
        }
    };
    let certificates = match certificates {
        (None, _) => CERTIFICATES,
        (Some(ClientCertificates::Required), false) => {
            "A connection needs a client's certificate of an authority that the bank names."
        }
        (Some(ClientCertificates::Required), true) => {
            "A connection needs a client's certificate of an authority that the bank names; its organisation is what \
             `TPP-Name` says."
        }
        (Some(ClientCertificates::Optional), false) => {
            "A client may show a certificate of an authority that the bank names."
        }
        (Some(ClientCertificates::Optional), true) => {
            "A client may show a certificate of an authority that the bank names; view two needs one, and its \
             organisation is what `TPP-Name` says."
        }
    };
    Ok([
        (CERTIFICATES, certificates.to_owned()),
        (CURRENCY_ERROR, format!("\"{}\"", escaped(&settings.currency_error_code))),
        (TYPES, format!("of these types in this order: {}.", types.join(", "))),
        (TOPICS, format!("`{ledger}` and `{payment}`")),
        (POSITION, format!("\"{ledger}/0@0\"")),
        (UNATTENDED, unattended),
        (HEADER_BYTES, format!("longer than {} bytes", settings.bounds.header_bytes)),
    ])
}

/// As it stands within a string of JSON.
fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or_default().to_owned()
}

/// The text with what it says of settings replaced, wherever it stands; what is put in is not looked at again, or
/// two topics that bear each other's default name would get one name.
fn replaced(text: &str, said: &[(&str, String)]) -> String {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let next = said.iter().filter_map(|(mark, with)| Some((rest.split_once(mark)?, with)));
        let Some(((before, after), with)) = next.min_by_key(|((before, _), _)| before.len()) else { break };
        whole.push_str(before);
        whole.push_str(with);
        rest = after;
    }
    whole.push_str(rest);
    whole
}

/// The operations of the first base path keep their names, those of the others bear a number: a name may stand
/// in a document once.
fn named(path_item: &str, number: usize) -> String {
    let mut text = path_item.to_owned();
    if number > 1 {
        for name in OPERATIONS {
            let numbered = format!("{}{number}\"", name.trim_end_matches('"'));
            text = text.replace(name, &numbered);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn with_the_defaults_every_setting_stands_in_the_text_as_it_is_said() {
        let settings = Settings::of(&Config::default()).unwrap();
        for (mark, default) in said(&settings, settings.certificates()).unwrap() {
            assert!(TEXT.contains(mark), "{mark} is not in the text");
            assert_eq!(mark, default);
        }
    }

    #[test]
    fn who_wants_certificates_of_clients_says_so() {
        let mut config = Config::default();
        config.api.tls.client_ca_file = Some("ca.pem".into());
        let (needs, may) = ("A connection needs a client's certificate", "A client may show a certificate");
        let rows = [
            (ClientCertificates::Required, false, needs, "that the bank names.\""),
            (ClientCertificates::Required, true, needs, "names; its organisation is what `TPP-Name` says.\""),
            (ClientCertificates::Optional, false, may, "that the bank names.\""),
            (
                ClientCertificates::Optional,
                true,
                may,
                "names; view two needs one, and its organisation is what `TPP-Name` says.\"",
            ),
        ];
        for (wanted, matches, begins, ends) in rows {
            config.api.tls.client_certificates = wanted;
            config.api.tls.match_organisation = matches;
            let settings = Settings::of(&config).unwrap();
            let body = Document::of(&settings, settings.certificates()).unwrap().body;
            let found = [needs, may].map(|begin| body.contains(begin));
            assert_eq!(found, [begins == needs, begins == may], "{wanted:?}: {body}");
            assert!(!body.contains(CERTIFICATES) && body.contains(ends), "{wanted:?}, {matches}: {body}");
        }
    }

    #[test]
    fn topics_that_bear_each_others_name_keep_their_own() {
        let said = [("a", "b".to_owned()), ("b", "a".to_owned()), ("bc", "never".to_owned())];
        assert_eq!(replaced("-a-b-bc-ab", &said), "-b-a-ac-ba");
    }
}
