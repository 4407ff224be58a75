//! What an origin says of its octets (RFC 9530): Content-Digest, of the content as it is sent, and Repr-Digest, of
//! the representation, which are the same for a response that is not a part.

use http::header::{HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, ListEntry, Parser};
use sha2::{Digest, Sha256, Sha512};

use crate::reason::{Failure, Reason};

/// Of the content, be it a part or not.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
/// Of the whole representation.
pub(crate) const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// The digests that a whole response has to have, taken while it comes.
#[derive(Default)]
pub(crate) struct Digests {
    sha256: Option<(Sha256, Vec<[u8; 32]>)>,
    sha512: Option<(Sha512, Vec<[u8; 64]>)>,
}

impl Digests {
    /// Of a response that is not a part, all that its fields name by an algorithm that is not broken
    /// (section 5). Others are left out, and so is what cannot be read.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut digests = Self::default();
        for name in [CONTENT_DIGEST, REPR_DIGEST] {
            let lines: Vec<_> = headers.get_all(name).iter().map(|line| line.as_bytes()).collect();
            let text = lines.join(&b", "[..]);
            let Ok(members) = Parser::new(&text).parse::<Dictionary>() else { continue };
            for (algorithm, member) in &members {
                let ListEntry::Item(item) = member else { continue };
                let BareItem::ByteSequence(octets) = &item.bare_item else { continue };
                digests.expect(algorithm.as_str(), octets);
            }
        }
        digests
    }

    fn expect(&mut self, algorithm: &str, octets: &[u8]) {
        match algorithm {
            "sha-256" => {
                let Ok(digest) = octets.try_into() else { return };
                self.sha256.get_or_insert_default().1.push(digest);
            }
            "sha-512" => {
                let Ok(digest) = octets.try_into() else { return };
                self.sha512.get_or_insert_default().1.push(digest);
            }
            _ => {}
        }
    }

    /// The next octets.
    pub(crate) fn update(&mut self, octets: &[u8]) {
        if let Some((hasher, _)) = &mut self.sha256 {
            hasher.update(octets);
        }
        if let Some((hasher, _)) = &mut self.sha512 {
            hasher.update(octets);
        }
    }

    /// That was all of it.
    ///
    /// # Errors
    /// It is not what the fields say.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let differs = |algorithm| {
            let detail =
                format!("the content is not of the {algorithm} digest that its fields name");
            Err(Failure::new(Reason::HttpProtocolError, detail))
        };
        if let Some((hasher, expected)) = self.sha256 {
            let found: [u8; 32] = hasher.finalize().into();
            if expected.iter().any(|digest| *digest != found) {
                return differs("sha-256");
            }
        }
        if let Some((hasher, expected)) = self.sha512 {
            let found: [u8; 64] = hasher.finalize().into();
            if expected.iter().any(|digest| *digest != found) {
                return differs("sha-512");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `{"hello": "world"}` and a line feed: RFC 9530, appendix B.1, and by sha512sum.
    const BODY: &[u8] = b"{\"hello\": \"world\"}\n";
    const SHA256: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
    const SHA512: &str = "sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCs\
                          yRZOtw8MjkM7iw7yZ/WkppmM44T3qg==:";
    const OTHER: &str = "sha-256=:AAAAqy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";

    #[test]
    fn what_is_promised_is_held_and_what_cannot_be_read_is_ignored() {
        let check = |fields: &[(HeaderName, &str)], holds: bool| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(name, value.parse().unwrap());
            }
            let mut digests = Digests::of(&headers);
            BODY.chunks(5).for_each(|piece| digests.update(piece));
            assert_eq!(digests.finish().is_ok(), holds, "{fields:?}");
        };
        check(&[], true);
        for name in [CONTENT_DIGEST, REPR_DIGEST] {
            let one = |value: &str, holds| check(&[(name.clone(), value)], holds);
            one(SHA256, true);
            one(SHA512, true);
            one(&format!("{SHA256}, {SHA512}"), true);
            one(OTHER, false);
            one(&format!("{SHA512}, {OTHER}"), false);
            one(&SHA512.replace("YMAa", "AAAA"), false);
            // Nobody knows what was meant.
            one("sha-256=:AAAA:", true);
            one("sha-256=\"RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=\"", true);
            one("sha-256=(:AAAA: :AAAA:)", true);
            one("sha-256", true);
            one("sha-256=:!:", true);
            one("", true);
            one(&format!("{OTHER}, ="), true);
            // No algorithm to rely on, or none that is known here.
            one("md5=:1B2M2Y8AsgTpgAmY7PhCfg==:, unixsum=:AAA=:, x-new=:AAAA:", true);
            one(&format!("{SHA256};a=1"), true);
            one(&format!("md5=:AAAA:, {OTHER}"), false);
        }
        check(&[(CONTENT_DIGEST, SHA256), (REPR_DIGEST, SHA512)], true);
        check(&[(CONTENT_DIGEST, SHA256), (REPR_DIGEST, OTHER)], false);
        check(&[(CONTENT_DIGEST, SHA256), (CONTENT_DIGEST, "x=1")], true);
        check(&[(CONTENT_DIGEST, "sha-512=:AAAA:"), (CONTENT_DIGEST, OTHER)], false);
    }
}
