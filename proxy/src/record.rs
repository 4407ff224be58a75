//! A kept response as octets beside its body on disk: all of [`Stored`] that is not the body.

use std::time::SystemTime;

use coralline_overlay::Key;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::message::{Body, Head, ProofOctets, Stored};
use crate::policy::{Freshness, Variant};

/// What stands under a URI on disk. The order of the variants and of their fields is the format: a change
/// of it changes [`FORMAT`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Record {
    /// The response itself.
    Response(Box<Response>),
    /// It varies: each variant stands under a key of its own, which holds this number. What was kept
    /// under an earlier number is not found again.
    Varies { names: Vec<String>, generation: u64 },
}

/// A response without its body.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Response {
    status: u16,
    fields: Vec<(String, Vec<u8>)>,
    trailers: Vec<(String, Vec<u8>)>,
    variant: Variant,
    freshness: Freshness,
    /// Nothing if peers cannot be shown it.
    proof: Option<ProofOctets>,
}

/// The first octet of a record. One with another is not read: the response is fetched again.
const FORMAT: u8 = 3;

impl Record {
    pub(crate) fn response(stored: &Stored) -> Self {
        let mut record = Self::of(&stored.head, &stored.variant, &stored.freshness);
        if let Self::Response(response) = &mut record {
            response.proof = stored.kept_proof();
        }
        record
    }

    /// One of which nothing can be proved yet.
    pub(crate) fn of(head: &Head, variant: &Variant, freshness: &Freshness) -> Self {
        let field = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.as_str().to_owned(), value.as_bytes().to_owned())
        };
        Self::Response(Box::new(Response {
            status: head.status.as_u16(),
            fields: head.headers.iter().map(field).collect(),
            trailers: head.trailers.iter().map(field).collect(),
            variant: variant.clone(),
            freshness: *freshness,
            proof: None,
        }))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![FORMAT]).expect("it has no length that is not known")
    }

    /// Nothing for octets of another format, or for none.
    pub(crate) fn decode(octets: &[u8]) -> Option<Self> {
        let (format, rest) = octets.split_first()?;
        if *format != FORMAT {
            return None;
        }
        postcard::from_bytes(rest).ok()
    }
}

impl Response {
    pub(crate) fn suits(&self, request: &HeaderMap) -> bool {
        self.variant.suits(request)
    }

    /// When it came.
    pub(crate) fn received(&self) -> SystemTime {
        self.freshness.received
    }

    /// The response to `uri` with its body; nothing if a field is none.
    pub(crate) fn stored(self, uri: &str, body: Body) -> Option<Stored> {
        let (headers, trailers) = (map(&self.fields)?, map(&self.trailers)?);
        let status = StatusCode::from_u16(self.status).ok()?;
        let head = Head { status, headers, length: Some(body.len()), trailers };
        let key = Key::of_name(uri.as_bytes());
        let stored = Stored::new(head, self.variant, self.freshness, body, key);
        Some(stored.with_kept_proof(self.proof))
    }
}

fn map(fields: &[(String, Vec<u8>)]) -> Option<HeaderMap> {
    let mut map = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        map.append(name, HeaderValue::from_bytes(value).ok()?);
    }
    Some(map)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::Chunks;

    #[test]
    fn a_response_comes_back_as_it_was() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("etag", &b"\"x\""[..]), ("x", b"1"), ("x", b"2"), ("y", b"\xff")] {
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        let mut request = HeaderMap::new();
        request.insert("accept-language", HeaderValue::from_static("de"));
        let names = vec![HeaderName::from_static("accept-language")];
        let variant = Variant::of(names, &request, &headers);
        let status = StatusCode::GONE;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-end", HeaderValue::from_static("1"));
        let head = Head { status, headers: headers.clone(), length: None, trailers };
        let mut freshness = crate::policy::tests::some_freshness();
        freshness.immutable = true;
        let octets = Record::of(&head, &variant, &freshness).encode();
        let Some(Record::Response(response)) = Record::decode(&octets) else { panic!() };
        assert!(response.suits(&request) && !response.suits(&HeaderMap::new()));
        let stored = response.stored("//a.com/", Chunks::default().into()).unwrap();
        assert_eq!((stored.head.status, &stored.head.headers), (StatusCode::GONE, &headers));
        assert_eq!(stored.head.trailers, head.trailers);
        assert_eq!((stored.freshness, &stored.variant), (freshness, &variant));
        assert!(Record::decode(&octets[..octets.len() - 1]).is_none());
        assert!(Record::decode(&[]).is_none());
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(octets: Vec<u8>, seed: [u8; 4]) {
            let with_format = [&[FORMAT][..], &seed, &octets].concat();
            for octets in [&octets, &with_format] {
                if let Some(Record::Response(response)) = Record::decode(octets) {
                    let _ = response.stored("//a.com/", Chunks::default().into());
                }
            }
        }
    }
}
