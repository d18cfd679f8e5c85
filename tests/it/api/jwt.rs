//! Tokens that an issuer signed.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use balance_projector::{
    api::Settings,
    config::{Config, ProviderConfig},
    ops::hash_password::sha256,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::world::{ACCOUNT_HEADERS, Answer, Change::Instead, Served, World, changed, config, get, opened};
use crate::support::{Folder, certificates::Authority};

const A1: &str = "/my/accounts/A1/balance";
/// [`super::world::NOW`].
const NOW: i64 = 1_546_772_400;

/// A key of an issuer.
struct Key {
    id: &'static str,
    algorithm: Algorithm,
    private: EncodingKey,
}

impl Key {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the tests make three kinds of key")]
    fn new(id: &'static str, algorithm: Algorithm) -> Self {
        let private = match algorithm {
            Algorithm::RS256 => {
                let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
                let der = pair.serialize_der();
                // The key itself, out of its envelope: an octet string that holds a sequence.
                let at = der.windows(5).position(|w| w[..2] == [4, 0x82] && w[4] == 0x30).unwrap();
                EncodingKey::from_rsa_der(&der[at + 4..])
            }
            Algorithm::ES256 => EncodingKey::from_ec_der(
                &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().serialize_der(),
            ),
            Algorithm::EdDSA => {
                // The form with the private half alone, in which the key ends the document.
                let der = KeyPair::generate_for(&PKCS_ED25519).unwrap().serialize_der();
                let at = der.windows(4).position(|w| w == [4, 0x22, 4, 0x20]).unwrap() + 4;
                let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
                EncodingKey::from_ed_der(&[&head[..], &der[at..at + 32]].concat())
            }
            other => panic!("no key of {other:?}"),
        };
        Key { id, algorithm, private }
    }

    /// Its public half.
    fn public(&self) -> Value {
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(&self.private, self.algorithm).unwrap()).unwrap();
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk
    }

    fn header(&self) -> Header {
        Header { kid: Some(self.id.to_owned()), ..Header::new(self.algorithm) }
    }

    fn token(&self, claims: &Value) -> String {
        encode(&self.header(), claims, &self.private).unwrap()
    }
}

fn jwks(keys: &[&Key]) -> String {
    json!({ "keys": keys.iter().map(|key| key.public()).collect::<Vec<_>>() }).to_string()
}

/// Claims of a token that may read A1, with these in place of its own; null leaves one out.
#[allow(clippy::needless_pass_by_value, reason = "claims are written where they are used")]
fn claims(with: Value) -> Value {
    let mut claims = json!({
        "iss": "https://id.example/", "aud": "balances", "exp": NOW + 300, "client_id": "tpp",
        "accounts": ["A1"], "scope": "openid aisp.balances",
    });
    for (name, value) in with.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

fn trusting(jwks: &str) -> Config {
    let mut config = config();
    let api = &mut config.api;
    api.jwt.issuer = Some("https://id.example/".to_owned());
    api.jwt.audience = Some("balances".to_owned());
    api.jwt.jwks = Some(jwks.to_owned());
    api.jwt.refresh_ms_min = 100;
    let provider = |id: &str| ProviderConfig {
        client_id: id.to_owned(),
        api_key_sha256: sha256("00000000-1212-0f0f-a0a0-123456789abc"),
    };
    api.providers = vec![provider("tpp"), provider("bad")];
    api.blocked = vec!["bad".to_owned()];
    config
}

fn in_file(folder: &Folder, text: &str) -> Config {
    let file = folder.join("jwks.json");
    std::fs::write(&file, text).unwrap();
    trusting(file.to_str().unwrap())
}

async fn world() -> Arc<World> {
    let world = World::born().await;
    for account in ["A1", "B1"] {
        world.ledger(0, account, "2018-01-01T00:00:00Z", opened(&["EUR"], None)).await;
    }
    world
}

async fn ask(served: &Served, path: &str, token: &str) -> Answer {
    let bearer: &'static str = format!("Bearer {token}").leak();
    get(served.at, path, &changed(ACCOUNT_HEADERS, &[Instead("Authorization", bearer)])).await
}

async fn status(served: &Served, token: &str) -> u16 {
    ask(served, A1, token).await.status
}

async fn refusals(served: &Served, reason: &str) -> u32 {
    let name = format!("balance_projector_refusals_total{{view=\"account\",reason=\"{reason}\"}}");
    served.metric(&name).await.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn a_token_reads_the_accounts_of_its_consent_whatever_its_algorithm() {
    let world = world().await;
    let keys = [("r", Algorithm::RS256), ("e", Algorithm::ES256), ("d", Algorithm::EdDSA)];
    let keys = keys.map(|(id, algorithm)| Key::new(id, algorithm));
    let folder = Folder::new("jwks");
    let config = in_file(&folder, &jwks(&keys.iter().collect::<Vec<_>>()));
    let (served, _beating) = super::world::served(&world, &config).await;
    let by_config = get(served.at, A1, ACCOUNT_HEADERS).await;
    for key in &keys {
        let token = key.token(&claims(json!({})));
        // The second time from memory.
        for _ in 0..2 {
            let answer = ask(&served, A1, &token).await;
            assert_eq!((answer.status, &answer.body), (200, &by_config.body), "{}", key.id);
        }
        assert_eq!(ask(&served, "/my/accounts/B1/balance", &token).await.status, 404);
    }
    // One key of its kind needs no name.
    let nameless = encode(&Header::new(Algorithm::ES256), &claims(json!({})), &keys[1].private).unwrap();
    assert_eq!(status(&served, &nameless).await, 200);
}

#[tokio::test]
async fn a_token_that_is_not_right_is_refused_for_its_reason() {
    let world = world().await;
    let (rsa, ec, foreign) =
        (Key::new("r", Algorithm::RS256), Key::new("e", Algorithm::ES256), Key::new("e", Algorithm::ES256));
    let folder = Folder::new("jwks");
    let (served, _beating) = super::world::served(&world, &in_file(&folder, &jwks(&[&rsa, &ec]))).await;

    let of = |with: Value| ec.token(&claims(with));
    let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let good = of(json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let unsigned = |header: Value| format!("{}.{}.", encoded(&header), parts[1]);
    // The public key as the secret of a MAC.
    let confused = Header { kid: Some("r".to_owned()), ..Header::new(Algorithm::HS256) };
    let public = rsa.public()["n"].as_str().unwrap().to_owned();
    let confused =
        encode(&confused, &claims(json!({})), &EncodingKey::from_secret(public.as_bytes())).unwrap();
    let own: Jwk = serde_json::from_value(foreign.public()).unwrap();
    let embedded = Header { jwk: Some(own), ..Header::new(Algorithm::ES256) };
    let embedded = encode(&embedded, &claims(json!({})), &foreign.private).unwrap();
    let fetched = Header { jku: Some("http://127.0.0.1:1/".to_owned()), ..foreign.header() };
    let fetched = encode(&fetched, &claims(json!({})), &foreign.private).unwrap();
    let critical = Header { crit: Some(vec!["b64".to_owned()]), ..ec.header() };
    let critical = encode(&critical, &claims(json!({})), &ec.private).unwrap();
    let renamed = Header { kid: Some("r".to_owned()), ..ec.header() };
    let renamed = encode(&renamed, &claims(json!({})), &ec.private).unwrap();
    let unknown = Header { kid: Some("x".to_owned()), ..ec.header() };
    let unknown = encode(&unknown, &claims(json!({})), &ec.private).unwrap();
    let more = encoded(&claims(json!({ "accounts": ["A1", "B1"] })));

    let rows: Vec<(&str, String, u16, &str)> = vec![
        ("within the leeway", of(json!({ "exp": NOW - 29, "nbf": NOW + 30 })), 200, ""),
        ("for several", of(json!({ "aud": ["others", "balances"] })), 200, ""),
        ("expired", of(json!({ "exp": NOW - 30 })), 403, "expired"),
        ("not yet valid", of(json!({ "nbf": NOW + 31 })), 401, "not-yet-valid"),
        ("for others", of(json!({ "aud": "payments" })), 401, "wrong-audience"),
        ("for others, several", of(json!({ "aud": ["balances2", "x"] })), 401, "wrong-audience"),
        ("for nobody", of(json!({ "aud": null })), 401, "malformed-token"),
        ("of another issuer", of(json!({ "iss": "https://id.example" })), 401, "wrong-issuer"),
        ("of several issuers", of(json!({ "iss": ["https://id.example/"] })), 401, "malformed-token"),
        ("for ever", of(json!({ "exp": null })), 401, "malformed-token"),
        ("until a word", of(json!({ "exp": "tomorrow" })), 401, "malformed-token"),
        ("nobody's", of(json!({ "client_id": null })), 401, "malformed-token"),
        ("without a consent", of(json!({ "accounts": null })), 401, "malformed-token"),
        ("without a scope", of(json!({ "scope": null })), 403, "scope"),
        ("of a longer scope", of(json!({ "scope": "aisp.balances.all xaisp.balances" })), 403, "scope"),
        ("of a stranger", of(json!({ "client_id": "tpq" })), 401, "wrong-api-key"),
        ("of a blocked provider", of(json!({ "client_id": "bad" })), 403, "blocked"),
        ("unsigned", unsigned(json!({ "alg": "none", "kid": "e" })), 401, "malformed-token"),
        ("unsigned, in capitals", unsigned(json!({ "alg": "NONE", "kid": "e" })), 401, "malformed-token"),
        ("with no signature", unsigned(json!({ "alg": "ES256", "kid": "e" })), 401, "bad-signature"),
        ("by the public key as a secret", confused, 401, "wrong-algorithm"),
        ("by another kind of key", renamed, 401, "unknown-key"),
        ("by a key of its own", embedded, 401, "bad-signature"),
        ("by a key that it has fetched", fetched, 401, "bad-signature"),
        ("by a key that nobody knows", unknown, 401, "unknown-key"),
        ("by another's key of this name", foreign.token(&claims(json!({}))), 401, "bad-signature"),
        ("with more in its consent", format!("{}.{more}.{}", parts[0], parts[2]), 401, "bad-signature"),
        ("with a demand", critical, 401, "malformed-token"),
        ("in four parts", format!("{good}.x"), 401, "malformed-token"),
        ("in two parts", format!("{}.{}", parts[0], parts[1]), 401, "malformed-token"),
        ("nothing but dots", "..".to_owned(), 401, "malformed-token"),
        ("too long", of(json!({ "x": "y".repeat(8_192) })), 401, "oversized-token"),
    ];
    for (name, token, expected, reason) in rows {
        let before = refusals(&served, reason).await;
        let answer = ask(&served, A1, &token).await;
        assert_eq!(answer.status, expected, "{name}");
        let challenge = (expected == 401).then_some("Bearer");
        assert_eq!(answer.header("www-authenticate"), challenge, "{name}");
        if expected != 200 {
            assert_eq!(refusals(&served, reason).await, before + 1, "{name} is not refused for {reason}");
        }
    }
    // The key of the API is asked for as well, and told first.
    let bearer: &'static str = format!("Bearer {}", of(json!({ "exp": NOW - 300 }))).leak();
    let wrong = changed(ACCOUNT_HEADERS, &[Instead("Authorization", bearer), Instead("API-key", "wrong")]);
    assert_eq!(get(served.at, A1, &wrong).await.status, 401);
}

#[tokio::test]
async fn an_algorithm_that_is_not_configured_is_not_taken() {
    let world = world().await;
    let ec = Key::new("e", Algorithm::ES256);
    let folder = Folder::new("jwks");
    let mut config = in_file(&folder, &jwks(&[&ec]));
    config.api.jwt.algorithms = vec!["RS256".to_owned(), "EdDSA".to_owned()];
    let (served, _beating) = super::world::served(&world, &config).await;
    assert_eq!(status(&served, &ec.token(&claims(json!({})))).await, 401);
    assert_eq!(refusals(&served, "wrong-algorithm").await, 1);
}

/// An issuer's address: it answers what it is told to, or nothing.
struct Address {
    url: String,
    asked: Arc<AtomicU32>,
    says: Arc<Mutex<Option<String>>>,
}

impl Address {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let address = Address { url, asked: Arc::default(), says: Arc::default() };
        let (asked, says) = (Arc::clone(&address.asked), Arc::clone(&address.says));
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let (asked, says) = (Arc::clone(&asked), Arc::clone(&says));
                tokio::spawn(async move {
                    let mut request = [0; 1_024];
                    if socket.read(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                    let says = says.lock().unwrap().clone();
                    match says {
                        // Gone already, where it is told too much.
                        Some(answer) => drop(socket.write_all(answer.as_bytes()).await),
                        None => tokio::time::sleep(Duration::from_secs(60)).await,
                    }
                });
            }
        });
        address
    }

    fn says(&self, raw: &str) {
        *self.says.lock().unwrap() = Some(raw.to_owned());
    }

    fn gives(&self, document: &str) {
        self.says(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{document}", document.len()));
    }

    fn hangs(&self) {
        *self.says.lock().unwrap() = None;
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Asks until the status is this one.
async fn until(served: &Served, token: &str, expected: u16) {
    let mut last = 0;
    for _ in 0..400 {
        last = status(served, token).await;
        if last == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{expected} did not come within 10 s, {last} did");
}

#[tokio::test]
async fn a_key_that_is_not_known_is_asked_for_and_not_too_often() {
    let world = world().await;
    let (old, new) = (Key::new("old", Algorithm::ES256), Key::new("new", Algorithm::ES256));
    let address = Address::new().await;
    address.gives(&jwks(&[&old]));
    let mut config = trusting(&address.url);
    config.api.jwt.refresh_ms_min = 1_000;
    let (served, _beating) = super::world::served(&world, &config).await;
    assert_eq!(address.asked(), 1, "at the start");
    let old_token = old.token(&claims(json!({})));
    assert_eq!(status(&served, &old_token).await, 200);
    address.gives(&jwks(&[&old, &new]));
    until(&served, &new.token(&claims(json!({}))), 200).await;
    assert_eq!(address.asked(), 2, "the name that was not known");
    // A flood of names asks no more often than the bound allows.
    let started = std::time::Instant::now();
    for n in 0..50 {
        let header = Header { kid: Some(format!("x{n}")), ..old.header() };
        let token = encode(&header, &claims(json!({})), &old.private).unwrap();
        assert_eq!(status(&served, &token).await, 401);
    }
    let allowed = u32::try_from(started.elapsed().as_secs()).unwrap() + 3;
    assert!(address.asked() <= allowed, "{} times in {:?}", address.asked(), started.elapsed());
    // A key that is withdrawn verifies nothing any more, remembered tokens neither.
    address.gives(&jwks(&[&new]));
    let unknown = Header { kid: Some("y".to_owned()), ..old.header() };
    let unknown = encode(&unknown, &claims(json!({})), &old.private).unwrap();
    for _ in 0..400 {
        status(&served, &unknown).await;
        if status(&served, &old_token).await == 401 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the withdrawn key is still taken");
}

#[tokio::test]
async fn an_issuer_that_is_down_or_lies_leaves_the_keys_in_hand() {
    let world = world().await;
    let (known, new) = (Key::new("known", Algorithm::ES256), Key::new("new", Algorithm::ES256));
    let address = Address::new().await;
    address.gives(&jwks(&[&known]));
    let mut config = trusting(&address.url);
    config.api.jwt.fetch_ms_max = 200;
    config.api.jwt.cache_ms = 0;
    let (served, _beating) = super::world::served(&world, &config).await;
    let token = known.token(&claims(json!({})));
    let strange = new.token(&claims(json!({})));
    assert_eq!(status(&served, &token).await, 200);
    let mut weak = known.public();
    weak["kty"] = json!("oct");
    weak["k"] = json!("c2VjcmV0");
    let mut private = known.public();
    private["d"] = json!("AAAA");
    let mut encrypting = known.public();
    encrypting["use"] = json!("enc");
    let mut other = known.public();
    other["alg"] = json!("HS256");
    let short = json!({ "kty": "RSA", "kid": "known", "n": "AQAB", "e": "AQAB" });
    let set = |key: &Value| json!({ "keys": [key] }).to_string();
    let ok = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let good = jwks(&[&new]);
    let lies = [
        ("no HTTP", "nonsense\r\n\r\n".to_owned()),
        ("an error", format!("HTTP/1.1 500 Oops\r\nContent-Length: {}\r\n\r\n{good}", good.len())),
        (
            "a way to elsewhere",
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_owned(),
        ),
        ("a page", ok("<html>sign in</html>")),
        ("no keys", ok("{\"keys\":[]}")),
        ("half a document", format!("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{good}")),
        ("too much", ok(&format!("{}{good}", " ".repeat(300 << 10)))),
        ("a secret as a key", ok(&set(&weak))),
        ("a private key", ok(&set(&private))),
        ("a key to encrypt with", ok(&set(&encrypting))),
        ("a key of another algorithm", ok(&set(&other))),
        ("a short key", ok(&set(&short))),
    ];
    for (name, lie) in lies {
        let before = address.asked();
        address.says(&lie);
        for _ in 0..400 {
            status(&served, &strange).await;
            if address.asked() > before + 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert!(address.asked() > before + 1, "{name} was told to nobody");
        // Whether the issuer has this key cannot be told.
        assert_eq!(status(&served, &strange).await, 503, "{name}");
        assert_eq!(status(&served, &token).await, 200, "{name}");
    }
    address.hangs();
    tokio::time::sleep(Duration::from_millis(120)).await;
    assert_eq!(status(&served, &strange).await, 503);
    assert_eq!(status(&served, &token).await, 200);
    address.gives(&good);
    until(&served, &strange, 200).await;
}

#[tokio::test]
async fn an_issuer_that_was_never_reached_delays_nobody_else() {
    let world = world().await;
    let key = Key::new("k", Algorithm::ES256);
    let address = Address::new().await;
    address.says("HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n");
    let (served, _beating) = super::world::served(&world, &trusting(&address.url)).await;
    let token = key.token(&claims(json!({})));
    let answer = ask(&served, A1, &token).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    assert_eq!(get(served.at, A1, ACCOUNT_HEADERS).await.status, 200);
    address.gives(&jwks(&[&key]));
    until(&served, &token, 200).await;
}

#[tokio::test]
async fn keys_that_were_not_seen_for_too_long_are_not_used() {
    let world = world().await;
    let key = Key::new("k", Algorithm::ES256);
    let address = Address::new().await;
    address.gives(&jwks(&[&key]));
    let mut config = trusting(&address.url);
    config.api.jwt.usable_ms_max = 1_000;
    config.api.jwt.refresh_ms = 100;
    let (served, _beating) = super::world::served(&world, &config).await;
    let token = key.token(&claims(json!({})));
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(status(&served, &token).await, 200, "it was seen again and again");
    address.says("HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n");
    until(&served, &token, 503).await;
    address.gives(&jwks(&[&key]));
    until(&served, &token, 200).await;
}

#[tokio::test]
async fn keys_of_an_https_address_are_taken_by_its_authority_alone() {
    let world = world().await;
    let key = Key::new("k", Algorithm::ES256);
    let (authority, stranger) = (Authority::new(), Authority::new());
    for (by, expected) in [(&authority, 200), (&stranger, 503)] {
        let identity = by.issue("issuer", "Issuer");
        let config = Arc::new(balance_projector::tls::server(&identity, None).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let document = jwks(&[&key]);
        tokio::spawn(async move {
            let acceptor = tokio_rustls::TlsAcceptor::from(config);
            while let Ok((socket, _)) = listener.accept().await {
                let Ok(mut socket) = acceptor.accept(socket).await else { continue };
                let mut request = [0; 1_024];
                assert!(socket.read(&mut request).await.unwrap() > 0);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", document.len());
                socket.write_all(format!("{head}{document}").as_bytes()).await.unwrap();
                socket.flush().await.unwrap();
            }
        });
        let mut config = trusting(&format!("https://localhost:{}/jwks.json", at.port()));
        config.api.jwt.jwks_ca_file = Some(authority.file.clone());
        let (served, _beating) = super::world::served(&world, &config).await;
        assert_eq!(status(&served, &key.token(&claims(json!({})))).await, expected);
    }
}

#[tokio::test]
async fn a_reload_takes_users_providers_and_keys_and_a_wrong_one_nothing() {
    let world = world().await;
    let (old, new) = (Key::new("old", Algorithm::ES256), Key::new("new", Algorithm::ES256));
    let folder = Folder::new("jwks");
    let mut config = in_file(&folder, &jwks(&[&old]));
    let (served, _beating) = super::world::served(&world, &config).await;
    let (old_token, new_token) = (old.token(&claims(json!({}))), new.token(&claims(json!({}))));
    assert_eq!(status(&served, &old_token).await, 200);
    assert_eq!(get(served.at, A1, ACCOUNT_HEADERS).await.status, 200);

    config.api.blocked.push("AbCdEf123456".to_owned());
    let elsewhere = folder.join("other.json");
    std::fs::write(&elsewhere, jwks(&[&new])).unwrap();
    config.api.jwt.jwks = Some(elsewhere.to_str().unwrap().to_owned());
    served.reloader.reload(Settings::of(&config)).await.unwrap();
    assert_eq!(status(&served, &new_token).await, 200, "the new keys are there with the reload");
    assert_eq!(status(&served, &old_token).await, 401);
    assert_eq!(get(served.at, A1, ACCOUNT_HEADERS).await.status, 403, "its provider is blocked by now");

    config.api.blocked.clear();
    config.api.tokens[0].token_sha256 = "none".to_owned();
    assert!(served.reloader.reload(Settings::of(&config)).await.is_err());
    assert_eq!(status(&served, &new_token).await, 200);
    assert_eq!(get(served.at, A1, ACCOUNT_HEADERS).await.status, 403);
    for (result, count) in [("done", "1"), ("refused", "1")] {
        let name = format!("balance_projector_reloads_total{{result=\"{result}\"}}");
        assert_eq!(served.metric(&name).await.as_deref(), Some(count), "{result}");
    }
}

#[tokio::test]
async fn a_reload_goes_on_with_the_keys_of_the_same_place_and_waits_for_nobody() {
    let world = world().await;
    let key = Key::new("k", Algorithm::ES256);
    let address = Address::new().await;
    address.gives(&jwks(&[&key]));
    let mut config = trusting(&address.url);
    let (served, _beating) = super::world::served(&world, &config).await;
    let token = key.token(&claims(json!({})));
    assert_eq!(status(&served, &token).await, 200);
    address.hangs();

    config.api.jwt.refresh_ms_min = 200;
    config.api.jwt.usable_ms_max = 3_600_000;
    config.api.jwt.fetch_ms_max = 60_000;
    config.api.blocked.push("AbCdEf123456".to_owned());
    let reload = served.reloader.reload(Settings::of(&config));
    tokio::time::timeout(Duration::from_secs(20), reload).await.expect("it waits for the issuer").unwrap();
    assert_eq!(address.asked(), 1, "at the start alone");
    assert_eq!(status(&served, &token).await, 200);
    assert_eq!(get(served.at, A1, ACCOUNT_HEADERS).await.status, 403, "its provider is blocked by now");

    // The new times are in force, and what they bring is used.
    address.gives(&jwks(&[]));
    config.api.jwt.refresh_ms = 200;
    served.reloader.reload(Settings::of(&config)).await.unwrap();
    for _ in 0..400 {
        if address.asked() > 2 {
            assert_eq!(status(&served, &token).await, 200, "no keys replace none");
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the issuer is not asked more often");
}

#[tokio::test]
async fn a_reload_to_keys_that_cannot_be_had_changes_nothing() {
    let world = world().await;
    let key = Key::new("k", Algorithm::ES256);
    let folder = Folder::new("jwks");
    let mut config = in_file(&folder, &jwks(&[&key]));
    config.api.jwt.fetch_ms_max = 2_000;
    let (served, _beating) = super::world::served(&world, &config).await;
    let token = key.token(&claims(json!({})));
    let file = |name: &str, text: &str| {
        let file = folder.join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let (down, silent) = (Address::new().await, Address::new().await);
    down.says("HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n");
    let rows = [
        ("a file that is missing", folder.join("none.json").to_str().unwrap().to_owned(), "none.json"),
        ("a file that is no JWKS", file("text.json", "nonsense"), "this is no JWKS"),
        ("a file without a key", file("empty.json", &jwks(&[])), "no key that can be used"),
        ("an issuer that is down", down.url.clone(), "503"),
        ("an issuer that does not answer", silent.url.clone(), "did not answer in time"),
        ("nobody", "http://127.0.0.1:1/jwks.json".to_owned(), "refused"),
    ];
    config.api.blocked.push("AbCdEf123456".to_owned());
    for (name, jwks, expected) in rows {
        config.api.jwt.jwks = Some(jwks);
        let error = served.reloader.reload(Settings::of(&config)).await.expect_err(name).to_string();
        assert!(error.contains("api.jwt.jwks cannot be used") && error.contains(expected), "{name}: {error}");
        assert_eq!(status(&served, &token).await, 200, "{name}");
        assert_eq!(get(served.at, A1, ACCOUNT_HEADERS).await.status, 200, "{name}: all of it or nothing");
    }
    let refused = served.metric("balance_projector_reloads_total{result=\"refused\"}").await;
    assert_eq!(refused.as_deref(), Some("6"));
}

/// A key that was taken out of its file is to be out at once.
#[tokio::test]
async fn a_reload_reads_keys_of_a_file_again() {
    let world = world().await;
    let (old, new) = (Key::new("old", Algorithm::ES256), Key::new("new", Algorithm::ES256));
    let folder = Folder::new("jwks");
    let config = in_file(&folder, &jwks(&[&old]));
    let (served, _beating) = super::world::served(&world, &config).await;
    let file = config.api.jwt.jwks.clone().expect("a path");
    std::fs::write(&file, jwks(&[&new])).unwrap();
    served.reloader.reload(Settings::of(&config)).await.expect("taken over");
    let tokens = [old, new].map(|key| key.token(&claims(json!({}))));
    assert_eq!([status(&served, &tokens[0]).await, status(&served, &tokens[1]).await], [401, 200]);
    std::fs::write(&file, "nonsense").unwrap();
    served.reloader.reload(Settings::of(&config)).await.expect_err("is no JWKS");
    assert_eq!(status(&served, &tokens[1]).await, 200);
}
