//! Nodes that sign what no origin has said are found out, and nobody else is taken for one.

use std::time::Duration;

use coralline_receipt::{Receipt, Subject};

use crate::liar::{Forger, HONEST_FIELDS};
use crate::world::{Node, Origin, ok, until};

const TRUE: &[u8] = b"what the origin says";
const FALSE: &[u8] = b"what it never said";

fn found(node: &Node, finding: &str) -> f64 {
    let families = node.registry.gather();
    let family = families.iter().find(|family| family.name() == "coralline_audits_total").unwrap();
    let mut all = family.get_metric().iter();
    let metric = all.find(|metric| metric.get_label()[0].value() == finding);
    metric.unwrap().get_counter().get_value()
}

async fn found_once(node: &Node, finding: &str) {
    until(finding, || found(node, finding) >= 1.0).await;
}

#[tokio::test]
async fn who_signs_lies_is_found_out_and_others_look_for_themselves() {
    let origin = Origin::fixed(ok(HONEST_FIELDS, TRUE)).await;
    let host = origin.host();
    let a = Node::start("127.0.0.1", None, |config| config.peer.audit_one_in = 1).await;
    let forger = Forger::start(&a, &origin).await;
    // It audits next to nothing by itself.
    let b = Node::start("127.0.0.3", Some(&a), |config| config.peer.audit_one_in = 1_000_000).await;
    for node in [&a, &b, &forger.node] {
        node.knows(2).await;
    }
    for path in ["/a", "/b"] {
        forger.tell(&origin, path, &[], FALSE).await;
    }
    let first = a.get(&host, "/a", &[]).await;
    assert_eq!(first.body, FALSE, "nobody can know");
    found_once(&a, "contradicted").await;
    assert_eq!(origin.count(), 2, "asked twice, lest it be the origin's doing");
    // It is forgotten, and the signer not asked again.
    for path in ["/a", "/b"] {
        let response = a.get(&host, path, &[]).await;
        assert_eq!((&*response.body, response.source().as_str()), (TRUE, "origin"), "{path}");
    }
    assert_eq!(forger.asked(), 1);
    let evidence = a.proxy.evidence();
    assert_eq!(evidence.len(), 1);
    for receipt in [&evidence[0].signed, &evidence[0].observed] {
        Receipt::decode(receipt).unwrap().verify().unwrap();
    }
    assert_eq!(evidence[0].signer, forger.node.index.local().identity.0);
    // The other has heard of it, and believes the forger until it has seen for itself.
    until("it is told", || b.index.broadcast_stats().delivered == 1).await;
    let mut lies = 0;
    for n in 0..2_000 {
        let path = format!("/of-b/{n}");
        forger.tell(&origin, &path, &[], FALSE).await;
        if b.get(&host, &path, &[]).await.body == TRUE {
            break;
        }
        lies += 1;
    }
    assert!(lies < 2_000, "a million would be none");
    assert!(found(&b, "contradicted") >= 1.0);
}

#[tokio::test]
async fn nobody_gets_another_into_disrepute() {
    let origin = Origin::fixed(ok(HONEST_FIELDS, TRUE)).await;
    let host = origin.host();
    let a = Node::start("127.0.0.1", None, |config| config.peer.audit_one_in = 1).await;
    let b = Node::start("127.0.0.2", Some(&a), |_| ()).await;
    let accuser = Node::start("127.0.0.3", Some(&a), |_| ()).await;
    for node in [&a, &b, &accuser] {
        node.knows(2).await;
    }
    for path in ["/1", "/2"] {
        assert_eq!(b.get(&host, path, &[]).await.source(), "origin");
    }
    // A receipt that it has truly signed, and a claim that it is a lie.
    let subject = Subject {
        uri: "http://a.example/".into(),
        variant: [0; 32],
        status: 200,
        fields: [0; 32],
        first: 0,
        length: None,
        time: 0,
        signer: b.index.local().identity.0,
    };
    let sign = |message: &[u8]| b.index.sign(message);
    let proof = coralline_receipt::PartialProof::begin(subject, sign).unwrap();
    let receipt: &Receipt = proof.receipt();
    let content = [&receipt.encode()[..], &[7; 32]].concat();
    accuser.index.broadcast(b'e', &content).await.unwrap();
    until("it is told", || a.index.broadcast_stats().delivered == 1).await;
    for path in ["/1", "/2"] {
        let source = a.get(&host, path, &[]).await.source();
        assert!(source.starts_with("peer:"), "{source}");
    }
    found_once(&a, "agreed").await;
    assert_eq!(found(&a, "contradicted"), 0.0);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(a.get(&host, "/1", &[]).await.source(), "local");
}

/// Something else each time, under one tag: that is the origin's doing.
#[tokio::test]
async fn an_origin_that_contradicts_itself_brings_nobody_into_disrepute() {
    use tokio::io::AsyncWriteExt;
    let count = std::sync::atomic::AtomicUsize::new(0);
    let origin = Origin::start(move |_, mut stream| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async move {
            let _ = stream.write_all(&ok(HONEST_FIELDS, format!("answer {n}").as_bytes())).await;
            let _ = stream.shutdown().await;
        }
    })
    .await;
    let host = origin.host();
    let a = Node::start("127.0.0.1", None, |config| config.peer.audit_one_in = 1).await;
    let b = Node::start("127.0.0.2", Some(&a), |_| ()).await;
    a.knows(1).await;
    b.knows(1).await;
    b.get(&host, "/1", &[]).await;
    b.get(&host, "/2", &[]).await;
    assert!(a.get(&host, "/1", &[]).await.source().starts_with("peer:"));
    found_once(&a, "undecided").await;
    assert!(a.get(&host, "/2", &[]).await.source().starts_with("peer:"));
}
