//! Large objects of which a part is asked for: only the slices that it touches move, each once, and what is
//! given is never of two versions.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use coralline_proxy::Purge;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{Connection, Node, Origin, PATIENCE, Response, until};

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;

/// How an origin answers what it is asked for a range.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Manner {
    Ranges,
    /// 200 and all of it, whatever is asked.
    Ignores,
    /// Content-Range says nothing of the length.
    NoTotal,
    /// Half of what was asked for, and of the wrong place.
    Nonsense,
    /// At most so many octets of what was asked for.
    AtMost(u64),
    /// Breaks off after so many octets, and goes on at the next request.
    Breaks(u64),
}

/// An origin with one large object, whose octets follow from their place and the version.
pub(crate) struct Large {
    pub(crate) origin: Origin,
    version: Arc<AtomicU8>,
    /// What it was asked for, as octets.
    asked: Arc<Mutex<Vec<Range<u64>>>>,
    pub(crate) sent: Arc<AtomicU64>,
    /// Nothing is sent beyond a head until this is true.
    pub(crate) open: Arc<AtomicBool>,
}

pub(crate) fn octets(version: u8, range: Range<u64>) -> Vec<u8> {
    let words = range.start / 8..range.end.div_ceil(8);
    let word = |n: u64| {
        let mixed = (n ^ u64::from(version) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29).to_le_bytes()
    };
    let mut octets = Vec::with_capacity(8 * (words.end - words.start) as usize);
    words.for_each(|n| octets.extend_from_slice(&word(n)));
    octets.truncate((range.end - range.start / 8 * 8) as usize);
    octets.split_off((range.start % 8) as usize)
}

/// The fields of a version.
pub(crate) type Fields = fn(u8) -> String;

/// Fields by which version `v` is told from others.
fn tag(version: u8) -> String {
    format!("Cache-Control: max-age=3600\r\nETag: \"v{version}\"\r\n")
}

impl Large {
    pub(crate) async fn start(total: u64, manner: Manner) -> Self {
        Self::with(total, manner, tag).await
    }

    pub(crate) async fn with(total: u64, manner: Manner, fields: Fields) -> Self {
        let version = Arc::new(AtomicU8::new(1));
        let (asked, sent) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
        let open = Arc::new(AtomicBool::new(true));
        let all = (version.clone(), asked.clone(), sent.clone(), open.clone());
        let origin = Origin::start(move |head, stream| {
            let (version, asked, sent, open) = all.clone();
            async move {
                let version = version.load(Ordering::SeqCst);
                let fields = fields(version);
                let (head, range) = answer(&head, total, manner, version, &fields);
                if head.starts_with("HTTP/1.1 20") {
                    asked.lock().unwrap().push(range.clone());
                }
                send(stream, &head, version, range, manner, &sent, &open).await;
            }
        })
        .await;
        Self { origin, version, asked, sent, open }
    }

    pub(crate) fn change(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// How often each slice was asked for.
    pub(crate) fn slices(&self) -> BTreeMap<u64, usize> {
        let mut slices = BTreeMap::new();
        for range in &*self.asked.lock().unwrap() {
            for slice in range.start / MIB..range.end.div_ceil(MIB) {
                *slices.entry(slice).or_default() += 1;
            }
        }
        slices
    }
}

fn answer(
    head: &str,
    total: u64,
    manner: Manner,
    version: u8,
    fields: &str,
) -> (String, Range<u64>) {
    let head = head.to_ascii_lowercase();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    if field("if-none-match: ").is_some_and(|tags| tags.contains(&format!("\"v{version}\""))) {
        return (format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n"), 0..0);
    }
    let range = field("range: bytes=").and_then(|range| range.split_once('-'));
    let same = field("if-range: ").is_none_or(|tag| fields.to_ascii_lowercase().contains(tag));
    let range = range.filter(|_| same && manner != Manner::Ignores);
    let Some((first, last)) = range else {
        let length = format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n{fields}\r\n");
        return (length, 0..total);
    };
    let (mut first, mut end) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) => (first, (last + 1).min(total)),
        (Ok(first), _) => (first, total),
        (_, last) => (total.saturating_sub(last.unwrap()), total),
    };
    if first >= total {
        let length = "Content-Length: 0\r\n";
        let head = format!("HTTP/1.1 416 No\r\nContent-Range: bytes */{total}\r\n{length}\r\n");
        return (head, 0..0);
    }
    let mut told = total.to_string();
    match manner {
        Manner::NoTotal => told = "*".into(),
        Manner::Nonsense => first += (end - first) / 2,
        Manner::AtMost(most) => end = end.min(first + most),
        _ => {}
    }
    let (length, last) = (end - first, end - 1);
    let range = format!("Content-Range: bytes {first}-{last}/{told}\r\nContent-Length: {length}");
    (format!("HTTP/1.1 206 Partial Content\r\n{range}\r\n{fields}\r\n"), first..end)
}

async fn send(
    mut stream: Connection,
    head: &str,
    version: u8,
    range: Range<u64>,
    manner: Manner,
    sent: &AtomicU64,
    open: &AtomicBool,
) {
    // Without this a next request may be on its way when the connection is closed.
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    let _ = stream.write_all(head.as_bytes()).await;
    let mut at = range.start;
    while at < range.end {
        while !open.load(Ordering::SeqCst) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let end = range.end.min(at + 64 * 1024);
        if stream.write_all(&octets(version, at..end)).await.is_err() {
            return;
        }
        sent.fetch_add(end - at, Ordering::SeqCst);
        at = end;
        if matches!(manner, Manner::Breaks(most) if at - range.start >= most) {
            return;
        }
    }
    let _ = stream.shutdown().await;
}

/// A busy machine is no reason to ask again, which would count.
pub(crate) fn patient(config: &mut coralline_config::Config) {
    config.origin.response_timeout = PATIENCE;
    config.origin.stall_timeout = PATIENCE;
}

async fn node_at(dir: &Path) -> Node {
    Node::start("127.0.0.1", None, |config| {
        config.state_dir = dir.into();
        config.cache.memory.0 = 32 << 20;
        config.cache.disk.0 = GIB;
        patient(config);
    })
    .await
}

pub(crate) async fn range(node: &Node, large: &Large, range: &str) -> Response {
    node.get(&large.origin.host(), "/", &[&format!("Range: bytes={range}")]).await
}

/// A 206 with these octets of the version.
pub(crate) fn check(response: &Response, version: u8, range: Range<u64>, total: u64) {
    assert_eq!(response.status, 206, "{response:?}");
    let told = format!("bytes {}-{}/{total}", range.start, range.end - 1);
    assert_eq!(response.field("content-range").unwrap(), told);
    assert!(response.whole && response.body == octets(version, range), "{response:?}");
}

/// Waits until all that was asked for has come.
pub(crate) async fn settled(node: &Node) {
    until("all slices have come", || node.counted("coralline_slices_arriving") == 0.0).await;
}

fn status_of(response: &Response) -> String {
    let member = response.field("cache-status").unwrap();
    member.split_once("; ").unwrap().1.to_owned()
}

#[tokio::test]
async fn a_cold_range_moves_only_the_slices_that_it_touches() {
    let dir = tempfile::tempdir().unwrap();
    let total = 10 * GIB;
    let (large, node) = (Large::start(total, Manner::Ranges).await, node_at(dir.path()).await);
    let from = 5 * GIB + 12_345;
    let wanted = from..from + 3 * MIB;
    let text = format!("{}-{}", wanted.start, wanted.end - 1);
    let first = range(&node, &large, &text).await;
    check(&first, 1, wanted.clone(), total);
    assert!(status_of(&first).starts_with("fwd=uri-miss; fwd-status=206; ttl=3600; stored"));
    assert!(large.slices().len() <= 5 && large.sent.load(Ordering::SeqCst) <= 5 * MIB);
    settled(&node).await;
    let again = range(&node, &large, &text).await;
    check(&again, 1, wanted, total);
    assert!(status_of(&again).starts_with("hit; "), "{again:?}");
    let inside = range(&node, &large, &format!("{}-{}", from + MIB, from + MIB)).await;
    check(&inside, 1, from + MIB..from + MIB + 1, total);
    assert_eq!(large.origin.count(), 1);
    // Two ranges, of which one is held.
    let two = range(&node, &large, &format!("7-9,{}-{}", from, from + 1)).await;
    assert_eq!(two.status, 206);
    assert!(status_of(&two).starts_with("fwd=partial; fwd-status=206"), "{two:?}");
    assert!(two.body.windows(3).any(|part| part == octets(1, 7..10)));
    assert!(two.body.windows(2).any(|part| part == octets(1, from..from + 2)));
    assert_eq!(large.slices().values().max(), Some(&1));
    // The end, without knowing where it is: of another node, which knows nothing.
    let last = range(&node, &large, "-500").await;
    check(&last, 1, total - 500..total, total);
    let beyond = range(&node, &large, &format!("{total}-")).await;
    assert_eq!(beyond.status, 416);
    assert_eq!(beyond.field("content-range").unwrap(), format!("bytes */{total}"));
    let head = node.ask("HEAD", &large.origin.host(), "/", &[]).await;
    assert_eq!(head.field("content-length").unwrap(), total.to_string());
    assert!(status_of(&head).starts_with("hit; "), "{head:?}");
    let lines = ["Range: bytes=99999999-100000000", "Cache-Control: only-if-cached"];
    assert_eq!(node.get(&large.origin.host(), "/", &lines).await.status, 504);
    let used = node.counted("coralline_disk_bytes");
    assert!(used < 40.0 * MIB as f64, "{used}");
    settled(&node).await;
}

#[tokio::test]
async fn of_what_is_too_large_to_keep_slices_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (large, node) = (Large::start(10 * GIB, Manner::Ranges).await, node_at(dir.path()).await);
    let mut client = tokio::net::TcpStream::connect(node.http).await.unwrap();
    let host = large.origin.host();
    let request = format!("GET / HTTP/1.1\r\nHost: {host}.cdn.localhost:1\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    client.read_exact(&mut [0; 12]).await.unwrap();
    drop(client);
    for status in ["fwd=uri-miss; fwd-status=206", "hit; "] {
        let part = range(&node, &large, "2000000-2000009").await;
        check(&part, 1, 2_000_000..2_000_010, 10 * GIB);
        assert!(status_of(&part).starts_with(status), "{part:?}");
        settled(&node).await;
    }
}

#[tokio::test]
async fn the_last_octets_of_the_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let (total, node) = (10 * GIB + 77, node_at(dir.path()).await);
    let large = Large::start(total, Manner::Ranges).await;
    check(&range(&node, &large, "-500").await, 1, total - 500..total, total);
    assert!(large.sent.load(Ordering::SeqCst) <= 2 * MIB);
    check(&range(&node, &large, "-78").await, 1, total - 78..total, total);
    assert_eq!(large.origin.count(), 1);
    // What lies beyond the end is the origin's to say.
    let other = Large::start(9 * MIB, Manner::Ranges).await;
    let beyond = range(&node, &other, "99999999-").await;
    assert_eq!((beyond.status, other.origin.count()), (416, 1));
    assert_eq!(beyond.field("content-range").unwrap(), format!("bytes */{}", 9 * MIB));
    check(&range(&node, &other, "9-10").await, 1, 9..11, 9 * MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_at_overlapping_ranges_share_each_slice() {
    let dir = tempfile::tempdir().unwrap();
    let total = 3 * GIB;
    let (large, node) = (Large::start(total, Manner::Ranges).await, node_at(dir.path()).await);
    large.open.store(false, Ordering::SeqCst);
    let wanted = |n: u64| n * 300_000..n * 300_000 + 4 * MIB;
    let readers = (0..50).map(|n| {
        let (node, large) = (&node, &large);
        async move {
            let Range { start, end } = wanted(n);
            let response = range(node, large, &format!("{start}-{}", end - 1)).await;
            check(&response, 1, start..end, total);
        }
    });
    let open = async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        large.open.store(true, Ordering::SeqCst);
    };
    tokio::join!(futures_util::future::join_all(readers), open);
    let slices = large.slices();
    assert_eq!(slices.len() as u64, wanted(49).end.div_ceil(MIB), "{slices:?}");
    assert_eq!(slices.values().max(), Some(&1), "{slices:?}");
}

#[tokio::test]
async fn the_whole_of_what_is_held_in_part_is_what_lacks_and_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let total = 40 * MIB + 5;
    let (large, node) = (Large::start(total, Manner::Ranges).await, node_at(dir.path()).await);
    check(&range(&node, &large, "20000000-25000000").await, 1, 20_000_000..25_000_001, total);
    settled(&node).await;
    node.proxy.close().await;
    node.shutdown().await;
    let node = node_at(dir.path()).await;
    let held = range(&node, &large, "20000000-25000000").await;
    check(&held, 1, 20_000_000..25_000_001, total);
    assert!(status_of(&held).starts_with("hit; "));
    let whole = node.get(&large.origin.host(), "/", &[]).await;
    assert!(whole.status == 200 && whole.body == octets(1, 0..total), "{whole:?}");
    assert!(status_of(&whole).starts_with("fwd=partial"), "{whole:?}");
    let slices = large.slices();
    assert_eq!((slices.len(), slices.values().max()), (41, Some(&1)), "{slices:?}");
    let again = node.get(&large.origin.host(), "/", &[]).await;
    assert!(again.body == whole.body && status_of(&again).starts_with("hit; "), "{again:?}");
    // Purging takes all slices.
    let name = format!("http://{}.cdn.localhost/", large.origin.host());
    node.proxy.purge(&Purge { urls: vec![name], hard: true, ..Purge::default() }).await.unwrap();
    check(&range(&node, &large, "20000000-20000001").await, 1, 20_000_000..20_000_002, total);
    assert_eq!(large.slices()[&19], 2);
}

#[tokio::test]
async fn a_change_cuts_who_has_had_a_part_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let total = 100 * MIB;
    let (large, node) = (Large::start(total, Manner::Ranges).await, node_at(dir.path()).await);
    check(&range(&node, &large, "3000000-3000009").await, 1, 3_000_000..3_000_010, total);
    settled(&node).await;
    large.change();
    // It begins with what is held, and goes on with what is not any more.
    let cut = range(&node, &large, "3000000-9000000").await;
    assert!(!cut.whole && cut.status == 206, "{cut:?}");
    assert!(octets(1, 3_000_000..9_000_001).starts_with(&cut.body));
    // The old version is gone with it.
    check(&range(&node, &large, "3000000-9000000").await, 2, 3_000_000..9_000_001, total);
    large.change();
    // Nothing has gone out: it begins again, and is whole.
    let anew = range(&node, &large, "50000000-50000009").await;
    check(&anew, 3, 50_000_000..50_000_010, total);
    check(&range(&node, &large, "3000000-9000000").await, 3, 3_000_000..9_000_001, total);
    settled(&node).await;
}

#[tokio::test]
async fn a_stale_part_is_validated_and_a_changed_one_does_not_cost_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let fields = |version| format!("Cache-Control: no-cache\r\nETag: \"v{version}\"\r\n");
    let total = 10 * GIB;
    let (large, node) =
        (Large::with(total, Manner::Ranges, fields).await, node_at(dir.path()).await);
    check(&range(&node, &large, "5-9").await, 1, 5..10, total);
    let same = range(&node, &large, "5-9").await;
    check(&same, 1, 5..10, total);
    assert!(status_of(&same).starts_with("fwd=stale; fwd-status=304"), "{same:?}");
    large.change();
    let new = range(&node, &large, "5-9").await;
    check(&new, 2, 5..10, total);
    assert!(status_of(&new).starts_with("fwd=stale; fwd-status=206"), "{new:?}");
    assert!(large.sent.load(Ordering::SeqCst) <= 2 * MIB);
}

#[tokio::test]
async fn an_origin_that_knows_no_ranges_or_no_validators_is_asked_for_the_whole() {
    let weak = |version| format!("Cache-Control: max-age=60\r\nETag: W/\"v{version}\"\r\n");
    let none = |_| "Cache-Control: max-age=60\r\n".to_owned();
    let young = |_| {
        "Cache-Control: max-age=60\r\nLast-Modified: Sun, 09 Sep 2001 01:46:40 GMT\r\n\
         Date: Sun, 09 Sep 2001 01:46:40 GMT\r\n"
            .to_owned()
    };
    let total = 9 * MIB;
    let cases: [(Manner, Fields, usize); 6] = [
        (Manner::Ignores, tag, 1),
        (Manner::Ranges, weak, 2),
        (Manner::Ranges, none, 2),
        (Manner::Ranges, young, 2),
        (Manner::NoTotal, tag, 2),
        (Manner::Nonsense, tag, 2),
    ];
    for (case, (manner, fields, requests)) in cases.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let node = node_at(dir.path()).await;
        let large = Large::with(total, manner, fields).await;
        check(&range(&node, &large, "2000000-5000000").await, 1, 2_000_000..5_000_001, total);
        assert_eq!(large.origin.count(), requests, "{case}");
        let whole = node.get(&large.origin.host(), "/", &[]).await;
        assert!(whole.body == octets(1, 0..total), "{case}: {whole:?}");
        assert_eq!(large.origin.count(), requests + usize::from(case == 3), "{case}");
    }
}

#[tokio::test]
async fn what_is_small_is_kept_whole() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_at(dir.path()).await;
    // One slice: the part is all there is.
    let small = Large::start(90_000, Manner::Ranges).await;
    check(&range(&node, &small, "5-9").await, 1, 5..10, 90_000);
    let whole = node.get(&small.origin.host(), "/", &[]).await;
    assert!(whole.body == octets(1, 0..90_000) && whole.source() == "local", "{whole:?}");
    assert_eq!(small.origin.count(), 1);
    // Some: the rest follows by itself.
    let some = Large::start(3 * MIB + 1, Manner::Ranges).await;
    check(&range(&node, &some, "2000000-2000009").await, 1, 2_000_000..2_000_010, 3 * MIB + 1);
    until("all of it has come", || some.slices().len() == 4).await;
    settled(&node).await;
    let whole = node.get(&some.origin.host(), "/", &[]).await;
    assert!(whole.body == octets(1, 0..3 * MIB + 1) && whole.source() == "local", "{whole:?}");
    // What players ask for at the start is all of it.
    let film = Large::start(20 * MIB, Manner::Ranges).await;
    check(&range(&node, &film, "0-").await, 1, 0..20 * MIB, 20 * MIB);
    assert!(!film.origin.last().contains("range:"));
}

#[tokio::test]
async fn parts_that_come_short_or_break_off_are_joined() {
    let total = 50 * MIB;
    for manner in [Manner::AtMost(MIB + 1000), Manner::Breaks(1200 * 1024)] {
        let dir = tempfile::tempdir().unwrap();
        let (large, node) = (Large::start(total, manner).await, node_at(dir.path()).await);
        // More breaks than one transfer may have in a row without bringing much.
        let wanted = 10_000_000..10_000_000 + 12 * MIB;
        let text = format!("{}-{}", wanted.start, wanted.end - 1);
        check(&range(&node, &large, &text).await, 1, wanted.clone(), total);
        settled(&node).await;
        let again = range(&node, &large, &text).await;
        check(&again, 1, wanted, total);
        assert!(status_of(&again).starts_with("hit; "));
    }
}

#[tokio::test]
async fn without_a_disk_the_whole_is_fetched() {
    let node = Node::start("127.0.0.1", None, |config| config.cache.disk.0 = 0).await;
    let large = Large::start(5 * MIB, Manner::Ranges).await;
    check(&range(&node, &large, "2000000-2000009").await, 1, 2_000_000..2_000_010, 5 * MIB);
    assert!(!large.origin.last().contains("range:"));
}

#[tokio::test]
async fn a_peer_that_holds_it_gives_the_part() {
    let nodes = Node::three(|config| config.cache.memory.0 = 32 << 20).await;
    let large = Large::start(9 * MIB, Manner::Ranges).await;
    let whole = nodes[0].get(&large.origin.host(), "/", &[]).await;
    assert_eq!(whole.body.len() as u64, 9 * MIB);
    let part = range(&nodes[1], &large, "2000000-2000009").await;
    check(&part, 1, 2_000_000..2_000_010, 9 * MIB);
    assert!(part.source().starts_with("peer:"), "{part:?}");
    assert_eq!(large.origin.count(), 1);
    // One that holds a part itself is of no use to the others, who are served all the same.
    let whole = nodes[2].get(&large.origin.host(), "/", &[]).await;
    assert!(whole.body == octets(1, 0..9 * MIB), "{whole:?}");
}

#[tokio::test]
async fn a_part_brings_the_later_fields() {
    let dir = tempfile::tempdir().unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let origin = Origin::start(move |head, stream| {
        let count = count.fetch_add(1, Ordering::SeqCst);
        async move {
            let fields = format!("{}Count: {count}\r\n", tag(1));
            let (head, range) = answer(&head, 50 * MIB, Manner::Ranges, 1, &fields);
            let (sent, open) = (AtomicU64::new(0), AtomicBool::new(true));
            send(stream, &head, 1, range, Manner::Ranges, &sent, &open).await;
        }
    })
    .await;
    let (node, host) = (node_at(dir.path()).await, origin.host());
    for (count, range) in ["0-9", "9999999-10000009", "20000000-20000009"].iter().enumerate() {
        let range = format!("Range: bytes={range}");
        assert_eq!(node.get(&host, "/", &[&range]).await.status, 206);
        settled(&node).await;
        let held = node.get(&host, "/", &["Range: bytes=5-6"]).await;
        assert!(status_of(&held).starts_with("hit; "), "{held:?}");
        assert_eq!(held.field("count"), Some(count.to_string()));
    }
}

/// What is drawn next.
pub(crate) fn draw(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below
}

/// Ranges of several objects that do not fit the disk together, from clients that come at once, while the
/// objects change: what comes is always of one version, in the right place, and no older than what an
/// earlier client had.
async fn history(seed: u64, steps: usize) {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start("127.0.0.1", None, |config| {
        config.state_dir = dir.path().into();
        config.cache.memory.0 = 16 << 20;
        // The least there may be.
        config.cache.disk.0 = 16 << 20;
        patient(config);
    })
    .await;
    let totals = [30 * MIB + 7, 12 * MIB, 2 * MIB + 1, 300_000];
    let mut objects = Vec::new();
    for total in totals {
        objects.push(Large::start(total, Manner::Ranges).await);
    }
    let mut draws = seed;
    let (mut whole, mut cut) = (0, 0);
    for step in 0..steps {
        let clients = 1 + draw(&mut draws, 4);
        let asked: Vec<_> = (0..clients)
            .map(|_| {
                let object = draw(&mut draws, totals.len() as u64) as usize;
                let from = draw(&mut draws, totals[object]);
                let length = 1 + draw(&mut draws, 4 * MIB);
                let all = draw(&mut draws, 12) == 0 && object > 0;
                (object, from..(from + length).min(totals[object]), all)
            })
            .collect();
        let change = (draw(&mut draws, 4) == 0).then(|| draw(&mut draws, 4) as usize);
        let answers = asked.iter().map(async |(object, wanted, all)| {
            let large = &objects[*object];
            match all {
                true => node.get(&large.origin.host(), "/", &[]).await,
                false => {
                    let text = format!("{}-{}", wanted.start, wanted.end - 1);
                    range(&node, large, &text).await
                }
            }
        });
        let changing = async {
            let Some(object) = change else { return };
            let pause = draw(&mut draws, 10);
            tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
            objects[object].change();
        };
        let (answers, ()) = tokio::join!(futures_util::future::join_all(answers), changing);
        for ((object, wanted, all), answer) in asked.iter().zip(answers) {
            let place = format!("seed {seed}, step {step}, {object} {wanted:?} {all}: {answer:?}");
            if answer.status == 0 {
                // Cut while its head was still waiting for the rest of the first write.
                cut += 1;
                continue;
            }
            let tag = answer.field("etag").unwrap_or_else(|| panic!("{place}"));
            let version: u8 = tag.trim_matches(['"', 'v']).parse().unwrap();
            let expect = match all {
                true => octets(version, 0..totals[*object]),
                false => octets(version, wanted.clone()),
            };
            assert_eq!(answer.status, if *all { 200 } else { 206 }, "{place}");
            assert!(expect.starts_with(&answer.body), "{place}");
            assert_eq!(answer.whole, answer.body == expect, "{place}");
            (whole, cut) = if answer.whole { (whole + 1, cut) } else { (whole, cut + 1) };
        }
    }
    assert!(whole > 10 * cut, "{cut} of {} were cut", whole + cut);
    settled(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_evictions_and_changes_never_give_a_wrong_octet() {
    for seed in 1..=2 {
        history(seed, 40).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: cargo test -p coralline-proxy --test proxy -- --ignored slices"]
async fn the_same_for_long() {
    for seed in 100..120 {
        history(seed, 300).await;
    }
}
