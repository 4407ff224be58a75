//! A reply to its octets, within what the transport and the client allow.

use hickory_proto::op::{Edns, Message, MessageType, Metadata};
use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

use crate::limits::{MAX_TCP_MESSAGE, MAX_UDP_RESPONSE, MIN_UDP_RESPONSE};
use crate::query::{ClientEdns, Request};
use crate::verdict::{Rcode, Transport};

/// What to say, before its size is known.
pub(crate) struct Reply {
    pub(crate) rcode: Rcode,
    pub(crate) authoritative: bool,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
}

impl Reply {
    pub(crate) fn answers(answers: Vec<Record>) -> Self {
        Self {
            rcode: Rcode::NoError,
            authoritative: true,
            answers,
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }

    pub(crate) fn refusal(rcode: Rcode) -> Self {
        Self { rcode, authoritative: false, ..Self::answers(Vec::new()) }
    }
}

/// Puts the reply into octets. What is too large loses its additional records first, which are a
/// kindness only, and then all, with TC set (RFC 2181 section 9).
pub(crate) fn write(
    request: &Request,
    reply: Reply,
    transport: Transport,
    out: &mut Vec<u8>,
) -> Rcode {
    let limit = usize::from(largest_response(transport, request.edns.as_ref()));
    let rcode = reply.rcode;
    let mut message = Message::response(request.metadata.id, request.metadata.op_code);
    message.metadata = response_metadata(&request.metadata, rcode);
    message.metadata.authoritative = reply.authoritative;
    message.queries = vec![request.question.clone()];
    message.answers = reply.answers;
    message.authorities = reply.authorities;
    message.additionals = reply.additionals;
    message.edns = request.edns.as_ref().map(response_edns);

    let mut written = emit(&message, out);
    if written && out.len() > limit {
        message.additionals.clear();
        written = emit(&message, out);
    }
    if written && out.len() > limit {
        message.answers.clear();
        message.authorities.clear();
        message.metadata.truncation = true;
        written = emit(&message, out);
    }
    if written && out.len() <= limit {
        rcode
    } else {
        write_header(&request.metadata, Rcode::ServFail, out)
    }
}

fn largest_response(transport: Transport, edns: Option<&ClientEdns>) -> u16 {
    match (transport, edns) {
        (Transport::Tcp, _) => MAX_TCP_MESSAGE,
        (Transport::Udp, None) => MIN_UDP_RESPONSE,
        (Transport::Udp, Some(edns)) => edns.payload.clamp(MIN_UDP_RESPONSE, MAX_UDP_RESPONSE),
    }
}

fn emit(message: &Message, out: &mut Vec<u8>) -> bool {
    out.clear();
    message.emit(&mut BinEncoder::new(out)).is_ok()
}

/// Only a header: for what is wrong before there is a question.
pub(crate) fn write_header(query: &Metadata, rcode: Rcode, out: &mut Vec<u8>) -> Rcode {
    let mut message = Message::response(query.id, query.op_code);
    message.metadata = response_metadata(query, rcode);
    let written = emit(&message, out);
    assert!(written, "a header without sections is always twelve octets");
    rcode
}

fn response_metadata(query: &Metadata, rcode: Rcode) -> Metadata {
    let mut metadata = Metadata::new(query.id, MessageType::Response, query.op_code);
    metadata.recursion_desired = query.recursion_desired;
    metadata.response_code = rcode.code();
    metadata
}

/// RFC 6891: an OPT answers an OPT. The client's subnet is echoed with scope 0, since the answer
/// does not depend on it (RFC 7871 section 7.2.1); the zone is not signed, so DO is left clear.
fn response_edns(client: &ClientEdns) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_UDP_RESPONSE);
    if let Some(subnet) = &client.subnet {
        let code = u16::from(EdnsCode::Subnet);
        edns.options_mut().insert(EdnsOption::Unknown(code, subnet.clone()));
    }
    edns
}
