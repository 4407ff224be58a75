//! Who asks, so that others can be sent there; and to whom a node sends those that it has no place for.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use coralline_overlay::Identity;
use coralline_sources::PeerKey;
use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode, response};

use crate::body::ResponseBody;
use crate::limits::{MAX_CHAIN, MAX_NAMED};
use crate::respond::own_page;

/// Of a request: the port where the asker itself serves peers, and whether it was sent by another:
/// `7400`, `7400; sent`, or `7400; misled` where those to whom it was sent are of no use.
const ASKER: HeaderName = HeaderName::from_static("coralline-asker");
/// Of a refusal: whom to ask in place of this node, as `192.0.2.1:7400=` and 64 hexadecimal digits of the
/// identity, by commas.
const ASK: HeaderName = HeaderName::from_static("coralline-ask");
/// Of an answer that is arriving itself: how many nodes are between the one that gives it and the origin.
const DEPTH: HeaderName = HeaderName::from_static("coralline-depth");

/// How a node comes to ask another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The index has named it.
    Named,
    /// A node has sent it there that feeds the one it asks.
    Sent,
    /// Those to whom this one has sent it are of no use.
    Misled,
}

impl Way {
    const fn word(self) -> &'static str {
        match self {
            Self::Named => "",
            Self::Sent => "; sent",
            Self::Misled => "; misled",
        }
    }
}

/// A peer that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    /// Where others find it, if it serves at the address from which it asks.
    pub(crate) key: PeerKey,
    pub(crate) way: Way,
}

impl Asker {
    /// Reads who asks. Address and identity are the connection's: nobody puts himself in another's place.
    pub(crate) fn read(headers: &HeaderMap, ip: IpAddr, identity: Identity) -> Self {
        let value = headers.get(ASKER).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (port, way) = value.split_once("; ").unwrap_or((value, ""));
        let way = match way {
            "sent" => Way::Sent,
            "misled" => Way::Misled,
            _ => Way::Named,
        };
        // At port 0 nobody looks for it.
        let addr = SocketAddr::new(ip, port.parse().unwrap_or_default());
        Self { key: (addr, identity), way }
    }

    /// Says who asks.
    pub(crate) fn write(headers: &mut HeaderMap, port: u16, way: Way) {
        if let Ok(value) = HeaderValue::try_from(format!("{port}{}", way.word())) {
            headers.insert(ASKER, value);
        }
    }
}

/// The answer to a peer for which there is nothing now: whom it may ask, and whether to ask here again.
pub(crate) fn refer(to: &[PeerKey], again: bool) -> Response<ResponseBody> {
    let status = if again { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::GATEWAY_TIMEOUT };
    let mut response = own_page(status, String::new());
    let fields = response.headers_mut();
    if again {
        fields.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    let to: Vec<_> = to.iter().map(written).collect();
    if let Ok(value) = HeaderValue::try_from(to.join(", "))
        && !to.is_empty()
    {
        fields.insert(ASK, value);
    }
    response
}

/// What a refusal says: whether it is worth asking again, and whom it names, [`MAX_NAMED`] at most.
pub(crate) fn referred(head: &response::Parts) -> (bool, Vec<PeerKey>) {
    let again =
        head.status == StatusCode::SERVICE_UNAVAILABLE && head.headers.contains_key(RETRY_AFTER);
    let value = head.headers.get(ASK).and_then(|value| value.to_str().ok()).unwrap_or_default();
    (again, value.split(", ").take(MAX_NAMED).filter_map(read).collect())
}

/// Says how far from the origin the giver of an answer is.
pub(crate) fn write_depth(headers: &mut HeaderMap, depth: u8) {
    headers.insert(DEPTH, u16::from(depth).into());
}

/// Takes off how far from the origin the giver is; the origin's own place if it does not say. Who lies
/// makes a chain longer, or himself useless.
pub(crate) fn take_depth(headers: &mut HeaderMap) -> u8 {
    let value = headers.remove(DEPTH);
    let depth = value.and_then(|value| value.to_str().ok()?.parse().ok());
    depth.unwrap_or(0).min(MAX_CHAIN)
}

fn written((addr, identity): &PeerKey) -> String {
    let mut text = format!("{addr}=");
    for octet in identity.0 {
        let _ = write!(text, "{octet:02x}");
    }
    text
}

fn read(text: &str) -> Option<PeerKey> {
    let (addr, digits) = text.split_once('=')?;
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut identity = [0; 32];
    for (octet, at) in identity.iter_mut().zip((0..).step_by(2)) {
        *octet = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
    }
    Some((addr.parse().ok()?, Identity(identity)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> PeerKey {
        (SocketAddr::from(([192, 0, 2, last], 7_400)), Identity([last; 32]))
    }

    fn read_back(to: &[PeerKey], again: bool) -> (bool, Vec<PeerKey>) {
        referred(&refer(to, again).into_parts().0)
    }

    #[test]
    fn a_refusal_names_a_few_and_what_is_no_name_is_passed_over() {
        let to: Vec<_> = (1..=2).map(peer).collect();
        assert_eq!(read_back(&to, true), (true, to.clone()));
        assert_eq!(read_back(&to[..1], false), (false, to[..1].to_vec()));
        assert_eq!(read_back(&[], true), (true, Vec::new()));
        let six = ("[2001:db8::1]:1".parse().unwrap(), Identity([255; 32]));
        assert_eq!(read_back(&[six], true).1, [six]);
        let many: Vec<_> = (0..100).map(peer).collect();
        assert_eq!(read_back(&many, true).1.len(), MAX_NAMED);
        let good = written(&peer(1));
        let long = format!("{good}é");
        for bad in ["", "=", "192.0.2.1:1", &good[1..], &good[..good.len() - 1], &long] {
            let mut response = refer(&[], true);
            let value = HeaderValue::from_bytes(bad.as_bytes()).unwrap();
            response.headers_mut().insert(ASK, value);
            let named = referred(&response.into_parts().0).1;
            assert!(!named.contains(&peer(1)), "{bad}");
        }
    }

    #[test]
    fn who_asks_is_who_holds_the_connection() {
        let (addr, identity) = peer(1);
        for way in [Way::Named, Way::Sent, Way::Misled] {
            let mut headers = HeaderMap::new();
            Asker::write(&mut headers, addr.port(), way);
            let asker = Asker::read(&headers, addr.ip(), identity);
            assert_eq!(asker, Asker { key: (addr, identity), way });
        }
        let nobody = Asker::read(&HeaderMap::new(), addr.ip(), identity);
        assert_eq!((nobody.key.0.port(), nobody.way), (0, Way::Named));
    }

    #[test]
    fn a_depth_is_bounded() {
        for (text, expect) in [("0", 0), ("3", 3), ("200", MAX_CHAIN), ("300", 0), ("x", 0)] {
            let mut headers = HeaderMap::new();
            headers.insert(DEPTH, HeaderValue::from_static(text));
            assert_eq!(take_depth(&mut headers), expect, "{text}");
            assert!(headers.is_empty());
        }
    }
}
