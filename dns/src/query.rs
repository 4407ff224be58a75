//! Octets to a question, or to what is wrong with them.

use hickory_proto::op::{Header, MessageType, Metadata, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError};

use crate::limits::{MAX_QUERY_RECORDS, MAX_SUBNET};
use crate::verdict::{Dropped, Rcode};

/// One well-formed question.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) metadata: Metadata,
    pub(crate) question: Query,
    pub(crate) edns: Option<ClientEdns>,
}

/// What the client's OPT record says (RFC 6891).
#[derive(Debug)]
pub(crate) struct ClientEdns {
    pub(crate) payload: u16,
    pub(crate) version: u8,
    /// The octets of the Client Subnet option (RFC 7871), checked.
    pub(crate) subnet: Option<Vec<u8>>,
}

/// Why there is no question.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// Nothing may be answered.
    Dropped(Dropped),
    /// A header without sections is answered.
    Refused { metadata: Metadata, rcode: Rcode },
}

const OPTION_SUBNET: u16 = 8;

pub(crate) fn read(octets: &[u8]) -> Result<Request, Unreadable> {
    let mut decoder = BinDecoder::new(octets);
    let header = Header::read(&mut decoder).map_err(|_| Unreadable::Dropped(Dropped::Short))?;
    let metadata = header.metadata;
    let refused = |rcode| Unreadable::Refused { metadata, rcode };
    if metadata.message_type == MessageType::Response {
        return Err(Unreadable::Dropped(Dropped::Response));
    }
    if metadata.op_code != OpCode::Query {
        return Err(refused(Rcode::NotImp));
    }
    if header.counts.queries != 1 {
        return Err(refused(Rcode::FormErr));
    }
    let others = usize::from(header.counts.answers) + usize::from(header.counts.authorities);
    sections(&mut decoder, others, usize::from(header.counts.additionals))
        .map(|(question, edns)| Request { metadata, question, edns })
        .map_err(|Malformed| refused(Rcode::FormErr))
}

/// Something that RFC 1035, 6891 or 7871 does not allow.
struct Malformed;

impl From<DecodeError> for Malformed {
    fn from(_: DecodeError) -> Self {
        Self
    }
}

fn sections(
    decoder: &mut BinDecoder<'_>,
    others: usize,
    additionals: usize,
) -> Result<(Query, Option<ClientEdns>), Malformed> {
    if others + additionals > MAX_QUERY_RECORDS {
        return Err(Malformed);
    }
    let question = Query::read(decoder)?;
    let mut edns = None;
    for index in 0..others + additionals {
        let record = RawRecord::read(decoder)?;
        if record.kind == RecordType::OPT {
            // RFC 6891 section 6.1.1: one, in the additional section, owned by the root.
            if edns.is_some() || index < others || !record.owner.is_root() {
                return Err(Malformed);
            }
            edns = Some(ClientEdns {
                payload: record.class,
                version: record.ttl.to_be_bytes()[1],
                subnet: subnet(record.data)?,
            });
        }
    }
    Ok((question, edns))
}

/// A record of which only an OPT is looked into, so that no odd one can make a query unreadable.
struct RawRecord<'a> {
    owner: Name,
    kind: RecordType,
    class: u16,
    ttl: u32,
    data: &'a [u8],
}

impl<'a> RawRecord<'a> {
    fn read(decoder: &mut BinDecoder<'a>) -> Result<Self, Malformed> {
        let owner = Name::read(decoder)?;
        let kind = RecordType::read(decoder)?;
        let class = decoder.read_u16()?.unverified(/* any class may stand here */);
        let ttl = decoder.read_u32()?.unverified(/* any number may stand here */);
        let length = decoder.read_u16()?.unverified(/* read_slice checks it */);
        let data = decoder.read_slice(usize::from(length))?.unverified(/* opaque */);
        Ok(Self { owner, kind, class, ttl, data })
    }
}

/// The Client Subnet option among those of an OPT record; a second one is not looked at.
fn subnet(options: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
    let mut found = None;
    let mut decoder = BinDecoder::new(options);
    while !decoder.is_empty() {
        let code = decoder.read_u16()?.unverified(/* any code may stand here */);
        let length = decoder.read_u16()?.unverified(/* read_slice checks it */);
        let value = decoder.read_slice(usize::from(length))?.unverified(/* checked below */);
        if code == OPTION_SUBNET && found.is_none() {
            if !subnet_is_valid(value) {
                return Err(Malformed);
            }
            found = Some(value.to_vec());
        }
    }
    Ok(found)
}

/// RFC 7871 section 6: the scope is zero in a query, the address has just the octets that the
/// prefix needs, and the bits after the prefix are zero. Family 0
/// without an address is how some clients opt out.
fn subnet_is_valid(value: &[u8]) -> bool {
    let [0, family, source, 0, address @ ..] = value else { return false };
    let bits = match family {
        0 => 0,
        1 => 32,
        2 => 128,
        _ => return false,
    };
    let unused = address.len() * 8 - usize::from(*source).min(address.len() * 8);
    value.len() <= MAX_SUBNET
        && *source <= bits
        && address.len() == usize::from(source.div_ceil(8))
        && address.last().is_none_or(|last| u32::from(*last).trailing_zeros() as usize >= unused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets() {
        let check = |value: &[u8], expect: bool| {
            assert_eq!(subnet_is_valid(value), expect, "{value:?}");
        };
        check(&[0, 1, 24, 0, 192, 0, 2], true);
        check(&[0, 1, 20, 0, 192, 0, 0x20], true);
        check(&[0, 1, 0, 0], true);
        check(&[0, 0, 0, 0], true);
        check(&[0, 2, 56, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0], true);
        check(&[0, 2, 128, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], true);
        check(&[], false);
        check(&[0, 1, 24], false);
        check(&[0, 1, 24, 24, 192, 0, 2], false);
        check(&[0, 1, 24, 0, 192, 0, 2, 0], false);
        check(&[0, 1, 24, 0, 192, 0], false);
        check(&[0, 1, 20, 0, 192, 0, 0x21], false);
        check(&[0, 1, 33, 0, 1, 2, 3, 4, 0], false);
        check(&[0, 0, 8, 0, 1], false);
        check(&[0, 3, 0, 0], false);
        check(&[1, 1, 0, 0], false);
    }
}
