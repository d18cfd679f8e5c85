//! Holds an answer against the document that the same server serves at `/openapi.json`.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex},
};

use jsonschema::Validator;
use serde_json::{Value, json};

use super::world::{Answer, raw};

/// Headers that HTTP itself adds.
const OF_HTTP: [&str; 4] = ["connection", "content-length", "content-type", "date"];

/// The document of every server that this process tests.
static SERVED: LazyLock<Mutex<HashMap<SocketAddr, Arc<Described>>>> = LazyLock::new(Mutex::default);

/// Asks a server for its document; from now on every answer of it is held against that.
pub async fn note(at: SocketAddr) {
    let answer = raw(at, b"GET /openapi.json HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let described = Arc::new(Described::new(serde_json::from_str(&answer.body).unwrap()));
    described.check("GET", "/openapi.json", &answer);
    SERVED.lock().unwrap().insert(at, described);
}

/// Fails where this server's document does not describe the answer.
pub fn check(at: SocketAddr, method: &str, path: &str, answer: &Answer) {
    let described = SERVED.lock().unwrap().get(&at).cloned();
    if let Some(described) = described {
        described.check(method, path, answer);
    }
}

/// A document, and what was seen of it.
pub struct Described {
    pub document: Value,
    /// Members that no schema names are faults in a test, though a client has to bear them.
    strict: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

impl Described {
    pub fn new(document: Value) -> Self {
        let mut strict = document["components"].clone();
        refuse_unnamed_members(&mut strict);
        Described { document, strict, validators: Mutex::default() }
    }

    /// Operation and status of every answer that is described.
    pub fn promised(&self) -> BTreeSet<(String, String)> {
        let mut promised = BTreeSet::new();
        for item in self.document["paths"].as_object().unwrap().values() {
            for method in ["get", "head"] {
                let Some(operation) = item.get(method) else { continue };
                let name = operation["operationId"].as_str().unwrap();
                for status in operation["responses"].as_object().unwrap().keys() {
                    promised.insert((name.to_owned(), status.clone()));
                }
            }
        }
        promised
    }

    /// The operation and status under which the answer is described; `None` where the path is no operation's.
    pub fn check(&self, method: &str, path: &str, answer: &Answer) -> Option<(String, String)> {
        let told = format!("{method} {path}: {answer:?}");
        let Some(item) = self.item(path) else {
            assert!([404, 405, 431].contains(&answer.status), "a path that is not described: {told}");
            return None;
        };
        let read = item.get(method.to_ascii_lowercase());
        let operation = read.or(item.get("get")).unwrap();
        assert!(
            read.is_some() || [405, 431].contains(&answer.status),
            "a method that is not described: {told}"
        );
        let name = operation["operationId"].as_str().unwrap().to_owned();
        let status = answer.status.to_string();
        let response = operation["responses"].get(&status);
        let response =
            self.resolved(response.unwrap_or_else(|| panic!("the status is not described: {told}")));
        self.check_headers(response, answer, &told);
        match response.get("content") {
            Some(content) if method != "HEAD" => {
                assert_eq!(answer.header("content-type"), Some("application/json"), "{told}");
                let body: Value =
                    serde_json::from_str(&answer.body).unwrap_or_else(|e| panic!("{e}: {told}"));
                self.check_value(&content["application/json"]["schema"], &body, &told);
                if let Some(code) = body["error"]["code"].as_str() {
                    assert_eq!(code, status, "{told}");
                }
            }
            Some(_) | None => assert_eq!(answer.body, "", "{told}"),
        }
        Some((name, status))
    }

    fn check_headers(&self, response: &Value, answer: &Answer, told: &str) {
        let none = serde_json::Map::new();
        let described = response.get("headers").and_then(Value::as_object).unwrap_or(&none);
        for (name, header) in described {
            let header = self.resolved(header);
            match answer.header(name) {
                None => assert_ne!(header["required"], true, "{name} is missing: {told}"),
                Some(text) => {
                    let value = match header["schema"]["type"].as_str().unwrap() {
                        "integer" => json!(text.parse::<u64>().unwrap_or_else(|e| panic!("{e}: {told}"))),
                        "string" => json!(text),
                        other => panic!("no test of headers of type {other}"),
                    };
                    self.check_value(&header["schema"], &value, &format!("{name} of {told}"));
                }
            }
        }
        for (name, _) in &answer.headers {
            let named =
                OF_HTTP.contains(&name.as_str()) || described.keys().any(|n| n.eq_ignore_ascii_case(name));
            assert!(named, "{name} is not described: {told}");
        }
    }

    /// Fails where the value is not of the schema, or has members that it does not name.
    pub fn check_value(&self, schema: &Value, value: &Value, told: &str) {
        let validator = {
            let mut validators = self.validators.lock().unwrap();
            let built = validators.entry(schema.to_string()).or_insert_with(|| {
                let mut whole = schema.clone();
                refuse_unnamed_members(&mut whole);
                whole["components"] = self.strict.clone();
                let options = jsonschema::draft202012::options().should_validate_formats(true);
                Arc::new(options.build(&whole).unwrap())
            });
            Arc::clone(built)
        };
        let faults: Vec<String> =
            validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(faults.is_empty(), "{faults:?}: {told}");
    }

    /// The path item whose template fits.
    fn item(&self, path: &str) -> Option<&Value> {
        let path: Vec<_> = path.split('?').next().unwrap().split('/').collect();
        let fits = |template: &str| {
            let template: Vec<_> = template.split('/').collect();
            template.len() == path.len()
                && template
                    .iter()
                    .zip(&path)
                    .all(|(t, p)| if t.starts_with('{') { !p.is_empty() } else { t == p })
        };
        let paths = self.document["paths"].as_object().unwrap();
        paths.iter().find(|(template, _)| fits(template)).map(|(_, item)| item)
    }

    /// What a reference within the document names.
    pub fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            None => value,
            Some(to) => {
                let pointer = to.strip_prefix('#').unwrap();
                self.document.pointer(pointer).unwrap_or_else(|| panic!("{to} names nothing"))
            }
        }
    }
}

/// Every schema that names members refuses all others. The served document itself is described in rough.
fn refuse_unnamed_members(value: &mut Value) {
    match value {
        Value::Object(members) => {
            let rough = members.get("required").is_some_and(|names| names[0] == "openapi");
            if members.get("properties").is_some_and(Value::is_object) && !rough {
                members.insert("additionalProperties".to_owned(), json!(false));
            }
            members.values_mut().for_each(refuse_unnamed_members);
        }
        Value::Array(items) => items.iter_mut().for_each(refuse_unnamed_members),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
