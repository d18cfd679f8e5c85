//! `/openapi.json`: what the views say about themselves, for machines. Public, and without secrets.
//!
//! The text is `schemas/openapi.json`, with the base paths and the currency's error code of this deployment.
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

/// Where it is served.
pub const PATH: &str = "/openapi.json";

const TEXT: &str = include_str!("../../schemas/openapi.json");
/// View two's path in the text, without a base path.
const ACCOUNT: &str = "/my/accounts/{id}/balance";
/// View two's operations in the text: each base path has its own.
const OPERATIONS: [&str; 2] = ["\"getAccountBalance\"", "\"headAccountBalance\""];
/// The currency's error code in the text.
const CURRENCY_ERROR: &str = "\"AM03\"";

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
    /// The document with what these settings say.
    pub fn of(settings: &Settings) -> Result<Self, serde_json::Error> {
        let code = serde_json::Value::from(settings.currency_error_code.as_str()).to_string();
        let mut parts: Parts = serde_json::from_str(&TEXT.replace(CURRENCY_ERROR, &code))?;
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
