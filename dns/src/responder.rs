//! A query to its answer, without any I/O.

use std::net::IpAddr;

use coralline_config::Config;
use coralline_overlay::{Directory, Services};
use hickory_proto::rr::rdata::{A, AAAA, HINFO, NS};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::limits::{ANY_TTL, NAME_SERVERS, NEGATIVE_TTL, NS_TTL, POOL_FACTOR};
use crate::living::{self, Family};
use crate::query::{self, Request, Unreadable};
use crate::reply::{self, Reply};
use crate::verdict::{Rcode, Transport, Verdict};
use crate::zone::{Place, Zone};

/// The authority for the suffix: what it says depends on the query, the directory and the turn.
#[derive(Debug, Clone)]
pub struct Responder {
    zone: Zone,
    /// Of address records, in seconds.
    ttl: u32,
    /// Addresses in one answer at the most.
    answers: usize,
}

impl Responder {
    /// The authority that `suffix` and `[dns]` describe.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            zone: Zone::new(&config.suffix),
            ttl: u32::try_from(config.dns.ttl.as_secs()).unwrap_or(u32::MAX),
            answers: config.dns.answers,
        }
    }

    /// Answers one query from the nodes in `directory`. The response is in `out`, which is cleared
    /// first, and never larger than the transport and the client allow. A `turn` that differs from
    /// the last one names other nodes first.
    pub fn answer(
        &self,
        query: &[u8],
        transport: Transport,
        directory: &Directory,
        turn: u64,
        out: &mut Vec<u8>,
    ) -> Verdict {
        out.clear();
        match query::read(query) {
            Ok(request) => {
                let reply = self.decide(&request, directory, turn);
                Verdict::Answered(reply::write(&request, reply, transport, out))
            }
            Err(Unreadable::Refused { metadata, rcode }) => {
                Verdict::Answered(reply::write_header(&metadata, rcode, out))
            }
            Err(Unreadable::Dropped(reason)) => Verdict::Dropped(reason),
        }
    }

    fn decide(&self, request: &Request, directory: &Directory, turn: u64) -> Reply {
        let question = &request.question;
        if request.edns.as_ref().is_some_and(|edns| edns.version > 0) {
            return Reply::refusal(Rcode::BadVers);
        }
        let place = self.zone.place(&question.name);
        let transfer = matches!(question.query_type, RecordType::AXFR | RecordType::IXFR);
        if question.query_class != DNSClass::IN || place == Place::Outside || transfer {
            return Reply::refusal(Rcode::Refused);
        }
        let nobody = match place {
            Place::Nobody => true,
            Place::NameServer(address) => !living::serves_names(directory, address),
            _ => false,
        };
        if nobody {
            return self.negative(Rcode::NxDomain);
        }
        let mut reply = Reply::answers(self.records(request, place, directory, turn));
        if reply.answers.is_empty() {
            return self.negative(Rcode::NoError);
        }
        if question.query_type == RecordType::NS {
            reply.additionals = self.glue(&reply.answers);
        }
        reply
    }

    /// The records of the asked type at a name that exists.
    fn records(
        &self,
        request: &Request,
        place: Place,
        directory: &Directory,
        turn: u64,
    ) -> Vec<Record> {
        // The owner keeps the case that the client chose (the 0x20 of draft-vixie-dnsext-dns0x20).
        let owner = &request.question.name;
        match (request.question.query_type, place) {
            (RecordType::ANY, _) => vec![minimal_any(owner)],
            (RecordType::SOA, Place::Apex) => vec![self.zone.soa(owner, NS_TTL)],
            (RecordType::NS, Place::Apex) => {
                let mut servers = living::offering(directory, Services::DNS);
                living::rotated(&mut servers, turn, NAME_SERVERS);
                servers.into_iter().map(|server| self.name_server(owner, server)).collect()
            }
            (RecordType::A, _) => self.addresses(owner, place, Family::V4, directory, turn),
            (RecordType::AAAA, _) => self.addresses(owner, place, Family::V6, directory, turn),
            _ => Vec::new(),
        }
    }

    fn addresses(
        &self,
        owner: &Name,
        place: Place,
        family: Family,
        directory: &Directory,
        turn: u64,
    ) -> Vec<Record> {
        let (mut addresses, ttl) = match place {
            Place::Apex | Place::Site => (living::offering(directory, Services::PROXY), self.ttl),
            Place::NameServer(address) => (vec![address], NS_TTL),
            Place::Outside | Place::NameServers | Place::Nobody => return Vec::new(),
        };
        addresses.retain(|address| Family::of(*address) == family);
        // Nearest first: only the near ones take turns.
        addresses.truncate(POOL_FACTOR * self.answers);
        living::rotated(&mut addresses, turn, self.answers);
        addresses.into_iter().map(|address| address_record(owner.clone(), ttl, address)).collect()
    }

    fn name_server(&self, owner: &Name, server: IpAddr) -> Record {
        let name = self.zone.name_server(server);
        Record::from_rdata(owner.clone(), NS_TTL, RData::NS(NS(name)))
    }

    /// The addresses of the name servers in an answer; each is in the name itself.
    fn glue(&self, answers: &[Record]) -> Vec<Record> {
        let address = |record: &Record| match &record.data {
            RData::NS(NS(name)) => match self.zone.place(name) {
                Place::NameServer(address) => Some(address_record(name.clone(), NS_TTL, address)),
                _ => None,
            },
            _ => None,
        };
        answers.iter().filter_map(address).collect()
    }

    fn negative(&self, rcode: Rcode) -> Reply {
        Reply {
            rcode,
            authorities: vec![self.zone.soa(self.zone.apex(), NEGATIVE_TTL)],
            ..Reply::answers(Vec::new())
        }
    }
}

fn address_record(owner: Name, ttl: u32, address: IpAddr) -> Record {
    let data = match address {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    };
    Record::from_rdata(owner, ttl, data)
}

/// RFC 8482 section 4.2: nobody needs all records, and attackers like them.
fn minimal_any(owner: &Name) -> Record {
    let hinfo = HINFO::new("RFC8482".into(), String::new());
    Record::from_rdata(owner.clone(), ANY_TTL, RData::HINFO(hinfo))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use coralline_overlay::{Contact, Identity, Instant, Level, Neighbour};
    use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
    use hickory_proto::rr::rdata::opt::EdnsOption;
    use proptest::prelude::*;

    use super::*;
    use crate::verdict::Dropped;

    const BOTH: Services = Services::PROXY.with(Services::DNS);
    /// A name of 255 octets on the wire, the longest there is.
    const LONGEST: [usize; 4] = [63, 63, 63, 49];

    fn responder() -> Responder {
        let mut config = Config { suffix: "cdn.example".parse().unwrap(), ..Config::default() };
        config.dns.answers = 8;
        Responder::new(&config)
    }

    fn contact(address: &str, services: Services) -> Contact {
        let addr = SocketAddr::new(address.parse().unwrap(), 7400);
        Contact { identity: Identity([0; 32]), addr, slot: 0, peer_port: 7400, services }
    }

    /// The first node is this one, the others are its neighbours, nearest first.
    fn directory(nodes: &[(&str, Services)]) -> Directory {
        let mut contacts = nodes.iter().map(|(address, services)| contact(address, *services));
        let local = contacts.next().unwrap();
        let neighbour = |contact| Neighbour {
            contact,
            verified: Instant::from_micros(0),
            rtt: None,
            level: Level::GLOBAL,
        };
        Directory { local, neighbours: contacts.map(neighbour).collect(), joined: true }
    }

    fn three() -> Directory {
        directory(&[("192.0.2.1", BOTH), ("192.0.2.2", BOTH), ("2001:db8::3", BOTH)])
    }

    fn query(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
        // Label by label, since the text form of the codec does not take every octet.
        let labels = name.trim_end_matches('.').split('.').filter(|label| !label.is_empty());
        let name = Name::from_labels(labels.map(str::as_bytes)).unwrap();
        message.add_query(Query::query(name, kind));
        message
    }

    fn raw(octets: &[u8], transport: Transport, directory: &Directory) -> (Verdict, Vec<u8>) {
        let mut out = vec![1, 2, 3];
        let verdict = responder().answer(octets, transport, directory, 0, &mut out);
        (verdict, out)
    }

    fn ask(message: &Message, directory: &Directory) -> Message {
        let (verdict, out) = raw(&message.to_vec().unwrap(), Transport::Udp, directory);
        let response = Message::from_vec(&out).unwrap();
        let Verdict::Answered(rcode) = verdict else { panic!("{verdict:?}") };
        assert_eq!(u16::from(response.metadata.response_code), u16::from(rcode.code()));
        assert_eq!(response.metadata.id, message.metadata.id);
        assert_eq!(response.metadata.message_type, MessageType::Response);
        assert!(!response.metadata.recursion_available);
        response
    }

    /// `RCODE`, `aa` if so, and the records of each section in short.
    fn summary(response: &Message) -> String {
        let records = |records: &[Record]| {
            let short = |r: &Record| format!("{} {} {} {}", r.name, r.ttl, r.record_type(), r.data);
            records.iter().map(short).collect::<Vec<_>>().join("; ")
        };
        let aa = if response.metadata.authoritative { " aa" } else { "" };
        format!(
            "{:?}{aa} | {} | {} | {}",
            response.metadata.response_code,
            records(&response.answers),
            records(&response.authorities),
            records(&response.additionals),
        )
    }

    const SOA: &str = "cdn.example. hostmaster.cdn.example. 1 3600 600 86400 30";

    fn check(nodes: &Directory, name: &str, kind: RecordType, expect: &str) {
        let expect = expect.replace("SOA*", &format!("cdn.example. 30 SOA {SOA}"));
        assert_eq!(summary(&ask(&query(name, kind), nodes)), expect, "{name} {kind}");
    }

    #[test]
    fn addresses_of_the_apex_and_of_every_site() {
        let nodes = three();
        for name in ["cdn.example.", "www.example.com.cdn.example.", "_x.*.cdn.example."] {
            let v4 = format!("NoError aa | {name} 30 A 192.0.2.1; {name} 30 A 192.0.2.2 |  | ");
            check(&nodes, name, RecordType::A, &v4);
            let v6 = format!("NoError aa | {name} 30 AAAA 2001:db8::3 |  | ");
            check(&nodes, name, RecordType::AAAA, &v6);
        }
    }

    #[test]
    fn no_data_and_no_name() {
        let nodes = three();
        let no_data = "NoError aa |  | SOA* | ";
        for kind in [RecordType::TXT, RecordType::CAA, RecordType::HTTPS, RecordType::from(65280)] {
            check(&nodes, "www.cdn.example.", kind, no_data);
            check(&nodes, "cdn.example.", kind, no_data);
        }
        check(&nodes, "www.cdn.example.", RecordType::NS, no_data);
        check(&nodes, "www.cdn.example.", RecordType::SOA, no_data);
        check(&nodes, "ns.cdn.example.", RecordType::A, no_data);
        check(&directory(&[("192.0.2.1", BOTH)]), "a.cdn.example.", RecordType::AAAA, no_data);
        let no_name = "NXDomain aa |  | SOA* | ";
        check(&nodes, "n-192-0-2-9.ns.cdn.example.", RecordType::A, no_name);
        check(&nodes, "n-192-0-2-9.ns.cdn.example.", RecordType::ANY, no_name);
        check(&nodes, "www.ns.cdn.example.", RecordType::A, no_name);
    }

    #[test]
    fn name_servers_have_names_that_resolve_while_they_live() {
        let nodes = three();
        let (one, two) = ("n-192-0-2-1.ns.cdn.example.", "n-192-0-2-2.ns.cdn.example.");
        let three = "n-2001-db8-0-0-0-0-0-3.ns.cdn.example.";
        let ns = |name| format!("cdn.example. 600 NS {name}");
        let expect = format!(
            "NoError aa | {}; {}; {} |  | {one} 600 A 192.0.2.1; {two} 600 A 192.0.2.2; \
             {three} 600 AAAA 2001:db8::3",
            ns(one),
            ns(two),
            ns(three)
        );
        check(&nodes, "cdn.example.", RecordType::NS, &expect);
        check(&nodes, one, RecordType::A, &format!("NoError aa | {one} 600 A 192.0.2.1 |  | "));
        check(&nodes, one, RecordType::AAAA, "NoError aa |  | SOA* | ");
        check(&nodes, three, RecordType::AAAA, &{
            format!("NoError aa | {three} 600 AAAA 2001:db8::3 |  | ")
        });
        let soa = format!("NoError aa | cdn.example. 600 SOA {SOA} |  | ");
        check(&nodes, "cdn.example.", RecordType::SOA, &soa);
    }

    #[test]
    fn only_nodes_that_offer_it_are_named_and_this_one_if_none_does() {
        let nodes = directory(&[
            ("192.0.2.1", Services::DNS),
            ("192.0.2.2", Services::PROXY),
            ("::ffff:192.0.2.2", Services::PROXY),
            ("192.0.2.3", Services::default()),
        ]);
        let name = "a.cdn.example.";
        check(&nodes, name, RecordType::A, "NoError aa | a.cdn.example. 30 A 192.0.2.2 |  | ");
        check(&nodes, "n-192-0-2-3.ns.cdn.example.", RecordType::A, "NXDomain aa |  | SOA* | ");
        let alone = directory(&[("192.0.2.1", Services::default())]);
        check(&alone, name, RecordType::A, "NoError aa | a.cdn.example. 30 A 192.0.2.1 |  | ");
        check(&alone, "cdn.example.", RecordType::NS, &{
            let server = "n-192-0-2-1.ns.cdn.example.";
            format!("NoError aa | cdn.example. 600 NS {server} |  | {server} 600 A 192.0.2.1")
        });
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let nodes = three();
        for name in ["example.", "cdn.example.com.", "xcdn.example.", "."] {
            check(&nodes, name, RecordType::A, "Refused |  |  | ");
        }
        check(&nodes, "cdn.example.", RecordType::AXFR, "Refused |  |  | ");
        check(&nodes, "cdn.example.", RecordType::IXFR, "Refused |  |  | ");
        let mut message = query("cdn.example.", RecordType::A);
        message.queries[0].set_query_class(DNSClass::CH);
        assert_eq!(summary(&ask(&message, &nodes)), "Refused |  |  | ");
    }

    #[test]
    fn any_is_answered_in_the_least_way() {
        let expect = "NoError aa | a.cdn.example. 3600 HINFO RFC8482  |  | ";
        check(&three(), "a.cdn.example.", RecordType::ANY, expect);
    }

    #[test]
    fn the_case_of_the_question_is_kept() {
        let mut message = query("wWw.EXAMPLE.com.cDn.eXample.", RecordType::A);
        message.metadata.recursion_desired = true;
        let response = ask(&message, &three());
        assert!(response.queries[0].name().eq_case(message.queries[0].name()));
        assert!(response.answers[0].name.eq_case(message.queries[0].name()));
        assert!(response.metadata.recursion_desired);
    }

    #[test]
    fn turns_begin_with_another_of_the_near_nodes() {
        let names: Vec<String> = (1..=40).map(|last| format!("192.0.2.{last}")).collect();
        let nodes: Vec<(&str, Services)> = names.iter().map(|n| (n.as_str(), BOTH)).collect();
        let nodes = directory(&nodes);
        let mut config = Config { suffix: "cdn.example".parse().unwrap(), ..Config::default() };
        config.dns.answers = 2;
        let responder = Responder::new(&config);
        let octets = query("a.cdn.example.", RecordType::A).to_vec().unwrap();
        let mut named = |turn| {
            let mut out = Vec::new();
            let _ = responder.answer(&octets, Transport::Udp, &nodes, turn, &mut out);
            let response = Message::from_vec(&out).unwrap();
            let last = |record: &Record| match record.data {
                RData::A(A(address)) => address.octets()[3],
                _ => panic!("{record}"),
            };
            response.answers.iter().map(last).collect::<Vec<u8>>()
        };
        let turns: Vec<Vec<u8>> = (0..5).map(&mut named).collect();
        assert_eq!(turns, [[1, 2], [2, 3], [3, 4], [4, 1], [1, 2]]);
        assert_eq!(named(u64::MAX).len(), 2);
    }

    fn with_edns(mut message: Message, payload: u16) -> Message {
        let mut edns = Edns::new();
        edns.set_max_payload(payload).set_dnssec_ok(true);
        message.set_edns(edns);
        message
    }

    #[test]
    fn edns_is_answered_only_when_asked() {
        assert_eq!(ask(&query("a.cdn.example.", RecordType::A), &three()).edns, None);
        let asked = with_edns(query("a.cdn.example.", RecordType::A), 4096);
        let edns = ask(&asked, &three()).edns.unwrap();
        assert_eq!((edns.version(), edns.max_payload()), (0, 1232));
        assert!(!edns.flags().dnssec_ok);
        assert!(edns.options().options.is_empty());
        // REFUSED and NXDOMAIN carry it as well.
        assert!(ask(&with_edns(query("b.", RecordType::A), 512), &three()).edns.is_some());
    }

    #[test]
    fn other_versions_of_edns_are_told_so() {
        let mut message = with_edns(query("a.cdn.example.", RecordType::A), 1232);
        message.edns.as_mut().unwrap().set_version(1);
        let response = ask(&message, &three());
        assert_eq!(u16::from(response.metadata.response_code), 16);
        assert_eq!(response.edns.as_ref().unwrap().version(), 0);
        assert!(response.answers.is_empty());
    }

    #[test]
    fn client_subnets_are_echoed_with_scope_zero() {
        let ask_with = |value: &[u8]| {
            let mut message = with_edns(query("a.cdn.example.", RecordType::A), 1232);
            let option = EdnsOption::Unknown(8, value.to_vec());
            message.edns.as_mut().unwrap().options_mut().insert(option);
            raw(&message.to_vec().unwrap(), Transport::Udp, &three())
        };
        for value in [&[0, 1, 24, 0, 198, 51, 100][..], &[0, 1, 0, 0], &[0, 2, 8, 0, 0x20]] {
            let (verdict, out) = ask_with(value);
            assert_eq!(verdict, Verdict::Answered(Rcode::NoError));
            let mut option = vec![0, 8, 0, u8::try_from(value.len()).unwrap()];
            option.extend(value);
            assert!(out.ends_with(&option), "{out:?}");
        }
        // Family 0, by which a client opts out, is one that the codec of the tests does not know.
        assert_eq!(ask_with(&[0, 0, 0, 0]).0, Verdict::Answered(Rcode::NoError));
        let (verdict, out) = ask_with(&[0, 1, 24, 24, 198, 51, 100]);
        assert_eq!((verdict, out.len()), (Verdict::Answered(Rcode::FormErr), 12));
    }

    /// Eight IPv6 nodes asked for by the longest name.
    fn largest() -> (Message, Directory) {
        let nodes: Vec<String> = (1..=20).map(|last| format!("2001:db8::{last:x}")).collect();
        let nodes: Vec<(&str, Services)> = nodes.iter().map(|n| (n.as_str(), BOTH)).collect();
        let labels: Vec<String> = LONGEST.iter().map(|length| "a".repeat(*length)).collect();
        let name = format!("{}.cdn.example.", labels.join("."));
        (query(&name[name.len() - 254..], RecordType::AAAA), directory(&nodes))
    }

    #[test]
    fn what_is_too_large_is_truncated_over_udp_alone() {
        let (message, nodes) = largest();
        let plain = ask(&message, &nodes);
        assert_eq!((plain.answers.len(), plain.metadata.truncation), (8, false));
        let mut asked = with_edns(message, 512);
        let subnet = [&[0, 2, 128, 0][..], &[1; 16]].concat();
        let options = asked.edns.as_mut().unwrap().options_mut();
        options.insert(EdnsOption::Unknown(8, subnet));
        let octets = asked.to_vec().unwrap();
        let (_, out) = raw(&octets, Transport::Udp, &nodes);
        let cut = Message::from_vec(&out).unwrap();
        assert!(cut.metadata.truncation && cut.answers.is_empty() && cut.edns.is_some());
        assert_eq!(cut.metadata.response_code, ResponseCode::NoError);
        let (_, out) = raw(&octets, Transport::Tcp, &nodes);
        let whole = Message::from_vec(&out).unwrap();
        assert_eq!((whole.answers.len(), whole.metadata.truncation), (8, false));
        assert!(out.len() > 512);
    }

    #[test]
    fn what_is_no_query() {
        let check = |octets: &[u8], expect: Verdict| {
            let (verdict, out) = raw(octets, Transport::Udp, &three());
            assert_eq!(verdict, expect, "{octets:?}");
            match verdict {
                Verdict::Answered(_) => assert_eq!((out.len(), &out[..2]), (12, &octets[..2])),
                Verdict::Dropped(_) => assert!(out.is_empty()),
            }
        };
        let formerr = Verdict::Answered(Rcode::FormErr);
        let good = query("a.cdn.example.", RecordType::A).to_vec().unwrap();
        check(&[], Verdict::Dropped(Dropped::Short));
        check(&good[..11], Verdict::Dropped(Dropped::Short));
        check(&good[..12], formerr);
        check(&good[..good.len() - 1], formerr);
        let with = |at: usize, octet: u8| {
            let mut octets = good.clone();
            octets[at] = octet;
            octets
        };
        check(&with(2, 0x80), Verdict::Dropped(Dropped::Response));
        check(&with(2, 0x20), Verdict::Answered(Rcode::NotImp)); // NOTIFY
        check(&with(2, 0x28), Verdict::Answered(Rcode::NotImp)); // UPDATE
        check(&with(2, 0x78), Verdict::Answered(Rcode::NotImp)); // unassigned
        check(&with(5, 0), formerr); // no question
        check(&with(5, 2), formerr); // two questions
        check(&with(4, 255), formerr); // 65,281 questions
        check(&with(11, 1), formerr); // an additional record that is not there
        check(&with(6, 255), formerr); // 65,280 answers
        check(&with(12, 0xc0), formerr); // a name that points at itself
        check(&with(12, 0x40), formerr); // a label of no known kind
        let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
        let twice = [&with(11, 2)[..], &opt, &opt].concat();
        check(&twice, formerr);
        let among_answers = [&with(7, 1)[..], &opt].concat();
        check(&among_answers, formerr);
        let cut_option = [&with(11, 1)[..], &opt[..10], &[2, 0, 8]].concat();
        check(&cut_option, formerr);
    }

    /// Whatever comes in, these hold for what goes out.
    fn hold(octets: &[u8], transport: Transport) -> Result<(), TestCaseError> {
        let (verdict, out) = raw(octets, transport, &largest().1);
        match verdict {
            Verdict::Answered(rcode) => {
                prop_assert!(out.len() >= 12 && out[..2] == octets[..2]);
                prop_assert!(out[2] & 0x80 != 0, "a response that looks like a query");
                prop_assert!(rcode != Rcode::ServFail);
                if transport == Transport::Udp {
                    prop_assert!(out.len() <= 1232);
                }
                if matches!(rcode, Rcode::FormErr | Rcode::NotImp) {
                    prop_assert_eq!(out.len(), 12);
                }
            }
            Verdict::Dropped(_) => prop_assert!(out.is_empty()),
        }
        Ok(())
    }

    fn any_query() -> impl Strategy<Value = Message> {
        let name =
            "([a-zA-Z0-9_-]{1,63}\\.){0,2}(cdn|CDN|ns\\.cdn|n-1-2-3-4\\.ns\\.cdn)\\.example\\.";
        (name, any::<u16>(), any::<u16>(), proptest::option::of(any::<u16>())).prop_map(
            |(name, id, kind, payload)| {
                let mut message = query(&name, RecordType::from(kind % 260));
                message.metadata.id = id;
                match payload {
                    Some(payload) => with_edns(message, payload),
                    None => message,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn any_octets(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            hold(&octets, Transport::Udp)?;
            hold(&octets, Transport::Tcp)?;
        }

        #[test]
        fn any_query_with_any_octets_changed(
            message in any_query(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            length in any::<prop::sample::Index>(),
        ) {
            let mut octets = message.to_vec().unwrap();
            for (at, octet) in changes {
                let at = at.index(octets.len());
                octets[at] = octet;
            }
            hold(&octets, Transport::Udp)?;
            octets.truncate(length.index(octets.len()));
            hold(&octets, Transport::Tcp)?;
        }

        #[test]
        fn any_well_formed_query_is_answered_within_its_limit(message in any_query()) {
            let octets = message.to_vec().unwrap();
            let (verdict, out) = raw(&octets, Transport::Udp, &largest().1);
            prop_assert!(matches!(verdict, Verdict::Answered(_)));
            let limit = message.edns.as_ref().map_or(512, |e| e.max_payload().clamp(512, 1232));
            prop_assert!(out.len() <= usize::from(limit));
            let response = Message::from_vec(&out).unwrap();
            prop_assert_eq!(response.metadata.id, message.metadata.id);
            prop_assert_eq!(&response.queries, &message.queries);
            prop_assert!(response.queries[0].name().eq_case(message.queries[0].name()));
            prop_assert_eq!(response.edns.is_some(), message.edns.is_some());
        }
    }
}
