//! A collector of traces: what it is sent, as it was sent and as it reads.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use balance_projector::tls::{self, Identity};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind},
};
use prost::Message as _;
use rustls::{ServerConnection, StreamOwned};

/// It listens until the tests end.
pub struct Collector {
    endpoint: String,
    bodies: Bodies,
}

type Bodies = Arc<Mutex<Vec<Vec<u8>>>>;

impl Collector {
    pub fn start() -> Self {
        Self::at("http", take)
    }

    /// One that shows this certificate of `localhost`.
    pub fn start_tls(identity: &Identity) -> Self {
        let config = Arc::new(tls::server(identity, None).expect("a certificate"));
        Self::at("https", move |socket, kept| {
            let session = ServerConnection::new(Arc::clone(&config)).expect("a session");
            take(StreamOwned::new(session, socket), kept);
        })
    }

    fn at(scheme: &str, take: impl Fn(TcpStream, &Mutex<Vec<Vec<u8>>>) + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let bodies = Bodies::default();
        let kept = Arc::clone(&bodies);
        thread::spawn(move || {
            for socket in listener.incoming() {
                take(socket.expect("a connection"), &kept);
            }
        });
        Collector { endpoint: format!("{scheme}://localhost:{port}/v1/traces"), bodies }
    }

    /// What the configuration names.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Every byte that came, but for the headers.
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        self.bodies.lock().expect("no panic").clone()
    }

    /// Every span that came, in the order in which they came.
    pub fn spans(&self) -> Vec<Span> {
        let requests = self
            .bodies()
            .into_iter()
            .map(|body| ExportTraceServiceRequest::decode(body.as_slice()).expect("a request of OTLP"));
        let mut spans = Vec::new();
        for of_resource in requests.flat_map(|request| request.resource_spans) {
            let resource = of_resource.resource.expect("a resource").attributes;
            let service = resource.into_iter().find(|a| a.key == "service.name").and_then(|a| a.value?.value);
            assert_eq!(service, Some(Value::StringValue("balance-projector".to_owned())));
            for of_scope in of_resource.scope_spans {
                assert_eq!(of_scope.scope.expect("a scope").name, "balance-projector");
                spans.extend(of_scope.spans);
            }
        }
        spans
    }
}

/// One request, as OTLP over HTTP has it; none where whoever came left before it.
fn take(stream: impl Read + Write, bodies: &Mutex<Vec<Vec<u8>>>) {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        // By TLS an authority that is not known ends here.
        if !reader.read_line(&mut line).is_ok_and(|read| read > 0) {
            return;
        }
        if line == "\r\n" {
            break;
        }
        head.push(line.trim_end().to_ascii_lowercase());
    }
    assert_eq!(head[0], "post /v1/traces http/1.1");
    assert!(head.contains(&"content-type: application/x-protobuf".to_owned()), "{head:?}");
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let mut body = vec![0; length.parse().expect("a number")];
    reader.read_exact(&mut body).expect("a body");
    bodies.lock().expect("no panic").push(body);
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
    // Whoever asked may have gone.
    drop(reader.get_mut().write_all(answer.as_bytes()));
}

/// What a span says of itself.
pub fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    let value = found.value.clone()?.value?;
    if let Value::IntValue(number) = value {
        return Some(number.to_string());
    }
    let Value::StringValue(text) = value else { panic!("{key} is {value:?}") };
    Some(text)
}

/// Its trace and itself, as a `traceparent` has them; its parent's is empty where it has none.
pub fn ids(span: &Span) -> (String, String, String) {
    let hex = |bytes: &[u8]| {
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect::<String>()
    };
    (hex(&span.trace_id), hex(&span.span_id), hex(&span.parent_span_id))
}

/// Its kind.
pub fn kind(span: &Span) -> SpanKind {
    SpanKind::try_from(span.kind).expect("a kind")
}
