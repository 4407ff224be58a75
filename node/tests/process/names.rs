//! The name server as `dig` sees it: live nodes, and not one that was killed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use crate::harness::{DNS, Node, program, three};

struct Dig(PathBuf);

impl Dig {
    fn ask(&self, node: &Node, words: &[&str]) -> String {
        let mut command = Command::new(&self.0);
        command.arg(format!("@{}", node.ip)).args(["-p", &DNS.to_string(), "+time=5", "+tries=2"]);
        let output = command.args(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// All that is answered, for as many questions as rotate through every node.
    fn addresses(&self, node: &Node, words: &[&str]) -> BTreeSet<String> {
        let ask = |_| self.ask(node, &[words, &["+short"]].concat());
        (0..4)
            .map(ask)
            .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }
}

#[test]
fn dig_is_told_of_live_nodes_and_not_of_a_dead_one() {
    let Some(dig) = program("dig").map(Dig) else { return };
    let [mut a, mut b, mut c] = three();
    let all: BTreeSet<_> = [&a, &b, &c].map(|node| node.ip.to_string()).into();
    let name = "www.example.com.cdn.localhost";
    for words in [&[name, "A"][..], &[name, "A", "+tcp"], &["cdn.localhost", "A"]] {
        assert_eq!(dig.addresses(&a, words), all, "{words:?}");
    }
    // No node has an IPv6 address: no data, and the SOA says for how long.
    let none = dig.ask(&a, &[name, "AAAA"]);
    assert!(none.contains("status: NOERROR") && none.contains("ANSWER: 0"), "{none}");
    assert!(none.contains("IN\tSOA"), "{none}");
    let servers = dig.ask(&a, &["cdn.localhost", "NS"]);
    assert!(servers.contains("IN\tNS\tn-127-"), "{servers}");
    assert!(dig.ask(&a, &["example.com", "A"]).contains("status: REFUSED"));

    c.kill();
    let left: BTreeSet<_> = [&a, &b].map(|node| node.ip.to_string()).into();
    for node in [&mut a, &mut b] {
        node.wait_until("the dead node is forgotten", |node| dig.addresses(node, &[name]) == left);
    }
}

#[test]
fn a_node_on_ipv6_is_answered_as_aaaa() {
    let Some(dig) = program("dig").map(Dig) else { return };
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        println!("skipped: this machine has no IPv6 loopback");
        return;
    }
    // One node has ::1 as its public address and answers DNS on IPv4, where dig asks.
    let mut node = Node::new(&[]);
    node.start(&["overlay.listen=[::1]:17407", "peer.listen=[::1]:17407"]);
    node.wait_ready();
    let name = "www.example.com.cdn.localhost";
    assert_eq!(dig.ask(&node, &[name, "AAAA", "+short"]).trim(), "::1");
    assert_eq!(dig.ask(&node, &[name, "A", "+short"]).trim(), "");
}
