//! A node that signs what no origin has said.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use coralline_receipt::{Encoder, FORM, PartialProof, Span, Step, Subject, fields_digest};
use http::Response;
use http_body_util::Full;

use crate::peers::{Peer, point};
use crate::world::{Node, Origin};

/// What an origin says whose responses are forged.
pub(crate) const HONEST_FIELDS: &str = "Cache-Control: max-age=60\r\nETag: \"1\"\r\n";

type Answers = Arc<Mutex<BTreeMap<String, Response<Bytes>>>>;

/// Answers peers with what it has signed itself.
pub(crate) struct Forger {
    pub(crate) node: Node,
    origin: String,
    answers: Answers,
    asked: Arc<AtomicUsize>,
}

impl Forger {
    /// Joins at `seed`; forges what `origin` has.
    pub(crate) async fn start(seed: &Node, origin: &Origin) -> Self {
        let peer = Peer::bind().await;
        let addr = peer.addr;
        let node = Node::start("127.0.0.1", Some(seed), |config| config.peer.listen = addr).await;
        seed.knows(1).await;
        node.knows(1).await;
        let answers = Answers::default();
        let known = answers.clone();
        let asked = peer.serve(&node.index, move |request| {
            let answer = known.lock().unwrap().get(request.uri().path()).cloned();
            async move { answer.unwrap_or_default().map(Full::new) }
        });
        let origin = format!("http://localhost:{}", origin.addr.port());
        Self { node, origin, answers, asked }
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Says to the index that it has what is at `path`, and gives this to whoever asks.
    pub(crate) async fn tell(&self, at: &Origin, path: &str, more: &[(&str, &str)], body: &[u8]) {
        #[expect(clippy::disallowed_methods, reason = "it says when it was made")]
        let now = SystemTime::now();
        let date = httpdate::fmt_http_date(now);
        let mut fields = vec![("cache-control", "max-age=60"), ("etag", "\"1\"")];
        fields.push(("date", &date));
        fields.extend(more);
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let subject = Subject {
            uri: format!("{}{path}", self.origin),
            variant: fields_digest([("vary", &b""[..])]),
            status: 200,
            fields: fields_digest(fields.iter().map(|(name, value)| (*name, value.as_bytes()))),
            first: 0,
            length: Some(body.len() as u64),
            time: u64::try_from(since.as_millis()).unwrap(),
            signer: self.node.index.local().identity.0,
        };
        let mut response = Response::new(self.stream(subject, body));
        for (name, value) in fields {
            let name: http::HeaderName = name.parse().unwrap();
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response.headers_mut().insert("cache-status", "forger; hit".parse().unwrap());
        response.headers_mut().insert("coralline-proof", FORM.parse().unwrap());
        self.answers.lock().unwrap().insert(path.into(), response);
        point(&self.node, at, path).await;
    }

    fn stream(&self, subject: Subject, body: &[u8]) -> Bytes {
        let sign = |message: &[u8]| self.node.index.sign(message);
        let mut proof = PartialProof::begin(subject, sign).unwrap();
        assert!(proof.update(body) && proof.seal(true, sign));
        let proof = proof.finish().unwrap();
        let mut encoder = Encoder::new(proof.receipt(), Span::Rest(0));
        let mut octets = Vec::new();
        loop {
            match encoder.poll() {
                Step::Octets(some) => octets.extend_from_slice(&some),
                Step::Content(range) => {
                    let range =
                        usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
                    octets.extend_from_slice(&body[range.clone()]);
                    encoder.sent(range.len() as u64);
                }
                Step::Wait => encoder.offer(proof.provable()),
                Step::End => return octets.into(),
            }
        }
    }
}
