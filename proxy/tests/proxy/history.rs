//! The differential test: random histories of requests and responses, told to a node over real sockets and
//! to the reference model; client and origin must see the same of both.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::model::{Answer, Fields, Model, Outcome, Question};
use crate::world::{Node, Origin};

/// Numbers from a seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    fn one_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }
}

/// What the origin is going to say in this exchange: to a plain request, and to a conditional one.
#[derive(Debug, Clone, Default)]
struct Script {
    full: Answer,
    not_modified: Option<Answer>,
}

impl Script {
    fn answer(&self, preconditions: &str) -> Answer {
        match &self.not_modified {
            Some(answer) if !preconditions.is_empty() => answer.clone(),
            _ => self.full.clone(),
        }
    }
}

const MODIFIED: [&str; 2] = ["Sun, 09 Sep 2001 01:46:40 GMT", "Mon, 10 Sep 2001 01:46:40 GMT"];

/// Lifetimes are thousands of seconds and ages odd hundreds, so that the time that a test takes decides
/// nothing.
fn response_fields(dice: &mut Dice, id: &str) -> Fields {
    let mut fields = Fields::new();
    let mut add = |name: &str, value: &str| fields.insert(name.into(), value.into());
    add("id", id);
    let mut told = Vec::new();
    if !dice.one_in(4) {
        told.push(dice.pick(&["max-age=0", "max-age=1000", "max-age=3000", "max-age=90000"]));
    }
    if dice.one_in(6) {
        told.push(dice.pick(&["s-maxage=0", "s-maxage=2000", "s-maxage=90000"]));
    }
    if dice.one_in(6) {
        told.push(dice.pick(&["stale-if-error=0", "stale-if-error=700", "stale-if-error=90000"]));
    }
    for (word, odds) in [
        ("no-store", 12),
        ("private", 20),
        ("no-cache", 10),
        ("public", 6),
        ("must-revalidate", 8),
        ("proxy-revalidate", 12),
        ("must-understand", 12),
        ("immutability", 12),
    ] {
        if dice.one_in(odds) {
            told.push(word);
        }
    }
    if !told.is_empty() {
        add("cache-control", &told.join(", "));
    }
    if dice.one_in(3) {
        add("age", dice.pick(&["500", "2500", "80500"]));
    }
    if dice.one_in(8) {
        add("expires", dice.pick(&["0", "Sat, 09 Sep 2065 01:46:40 GMT"]));
    }
    if dice.one_in(12) {
        add("set-cookie", "a=b");
    }
    if dice.one_in(12) {
        add("pragma", "no-cache");
    }
    validators(dice, &mut fields);
    fields
}

fn validators(dice: &mut Dice, fields: &mut Fields) {
    if !dice.one_in(3) {
        let tag = dice.pick(&["\"a\"", "\"a\"", "\"b\"", "W/\"a\"", "W/\"b\""]);
        fields.insert("etag".into(), tag.into());
    }
    if dice.one_in(3) {
        fields.insert("last-modified".into(), dice.pick(&MODIFIED).into());
    }
}

fn script(dice: &mut Dice, id: &str, varies: bool) -> Script {
    let status = [200, 200, 200, 200, 200, 404, 201, 500, 503, 599][dice.roll(10)];
    let mut fields = response_fields(dice, id);
    if varies && !dice.one_in(4) {
        fields.insert("vary".into(), dice.pick(&["bar", "bar, foo", "bar", "*"]).into());
    }
    // Expires would be the heuristic's rival at a lifetime of its own; both are far away.
    let body = format!("{id}{}", "x".repeat(dice.roll(3)));
    let full = Answer { status, fields, body };
    let not_modified = dice.one_in(2).then(|| {
        let mut fields = response_fields(dice, &format!("{id}n"));
        if !dice.one_in(3) {
            // Mostly the origin is about what was asked; the dice have chosen among few tags.
            fields.remove("etag");
            fields.remove("last-modified");
        }
        Answer { status: 304, fields, body: String::new() }
    });
    Script { full, not_modified }
}

fn question(dice: &mut Dice) -> Question {
    let method = ["GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "POST"][dice.roll(8)];
    let mut fields = Fields::new();
    for name in ["foo", "bar"] {
        if dice.one_in(2) {
            fields.insert(name.into(), dice.pick(&["1", "2"]).into());
        }
    }
    if dice.one_in(10) {
        fields.insert("authorization".into(), "Basic x".into());
    }
    if dice.one_in(12) {
        fields.insert("pragma".into(), "no-cache".into());
    }
    if dice.one_in(3) {
        let mut told = vec![dice.pick(&[
            "max-age=0",
            "max-age=1500",
            "max-stale",
            "max-stale=800",
            "min-fresh=300",
            "min-fresh=5000",
            "no-cache",
            "no-store",
            "only-if-cached",
            "unknown",
        ])];
        if dice.one_in(4) {
            told.push("max-stale=50000");
        }
        fields.insert("cache-control".into(), told.join(", "));
    }
    Question { method, fields }
}

/// A node, a client's connection to it, and an origin that says what the script says.
struct Stage {
    node: Node,
    client: BufReader<TcpStream>,
    script: Arc<Mutex<Script>>,
    /// Preconditions of the requests that came to the origin.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Stage {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Only its address is wanted: the listener behind is this one.
        let mut shape = Origin::fixed("").await;
        shape.stop().await;
        shape.addr = listener.local_addr().unwrap();
        let node = Node::of_site(&shape).await;
        let (script, asked) = (Arc::new(Mutex::new(Script::default())), Arc::default());
        tokio::spawn(serve(listener, script.clone(), Arc::clone(&asked)));
        let client = BufReader::new(TcpStream::connect(node.http).await.unwrap());
        Self { node, client, script, asked }
    }

    async fn exchange(&mut self, path: &str, question: &Question) -> Outcome {
        let mut text = format!("{} {path} HTTP/1.1\r\nHost: www.site.test\r\n", question.method);
        for (name, value) in &question.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        self.client.get_mut().write_all(text.as_bytes()).await.unwrap();
        let (line, fields) = read_head(&mut self.client).await.expect("a response");
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let length = fields.get("content-length").map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; if question.method == "HEAD" { 0 } else { length }];
        self.client.read_exact(&mut body).await.unwrap();
        // The page of a failure is the node's own affair.
        let own = fields.contains_key("proxy-status");
        let body = if own { String::new() } else { String::from_utf8(body).unwrap() };
        if fields.get("connection").is_some_and(|value| value == "close") {
            let stream = TcpStream::connect(self.node.http).await.unwrap();
            self.client = BufReader::new(stream);
        }
        let id = fields.get("id").cloned().unwrap_or_default();
        // A client has all octets a moment before they are stored.
        while self.node.counted("coralline_flights") > 0.0 {
            tokio::task::yield_now().await;
        }
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        Outcome { status, body, id, asked }
    }
}

async fn read_head<S>(stream: &mut BufReader<S>) -> Option<(String, Fields)>
where
    S: tokio::io::AsyncRead + Unpin,
{
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    let mut fields = Fields::new();
    loop {
        let mut field = String::new();
        stream.read_line(&mut field).await.ok()?;
        let Some((name, value)) = field.trim_end().split_once(": ") else { break };
        fields.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    Some((line, fields))
}

async fn serve(listener: TcpListener, script: Arc<Mutex<Script>>, asked: Arc<Mutex<Vec<String>>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (script, asked) = (script.clone(), asked.clone());
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            while let Some((line, fields)) = read_head(&mut stream).await {
                let preconditions: String = ["if-none-match", "if-modified-since"]
                    .iter()
                    .filter_map(|name| Some(format!("{name}: {};", fields.get(*name)?)))
                    .collect();
                let answer = script.lock().unwrap().answer(&preconditions);
                asked.lock().unwrap().push(preconditions);
                let mut text = format!("HTTP/1.1 {} x\r\n", answer.status);
                for (name, value) in &answer.fields {
                    text.push_str(&format!("{name}: {value}\r\n"));
                }
                if answer.status != 304 {
                    text.push_str(&format!("content-length: {}\r\n", answer.body.len()));
                }
                text.push_str("\r\n");
                if !line.starts_with("HEAD") {
                    text.push_str(&answer.body);
                }
                if stream.get_mut().write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// `exchanges` of them, in histories of one resource each.
async fn differ(seed: u64, exchanges: usize) {
    const HISTORY: usize = 40;
    let mut dice = Dice(seed);
    let mut stage = Stage::new().await;
    for history in 0..exchanges / HISTORY {
        let path = format!("/{seed}/{history}");
        let (mut model, mut told) = (Model::default(), Vec::new());
        let varies = dice.one_in(3);
        for n in 0..HISTORY {
            let question = question(&mut dice);
            let script = script(&mut dice, &format!("{history}-{n}"), varies);
            *stage.script.lock().unwrap() = script.clone();
            let expect = model.exchange(&question, &|preconditions| script.answer(preconditions));
            let found = stage.exchange(&path, &question).await;
            told.push(format!("{question:?}\n  {script:?}\n  {found:?}"));
            assert_eq!(
                found,
                expect,
                "seed {seed}, history {history}, exchange {n}; model: {model:#?}\n{}",
                told.join("\n")
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_histories_are_as_the_model_says() {
    differ(0x9111, 8_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute or two: cargo test -p coralline-proxy --test proxy -- --ignored history"]
async fn a_hundred_thousand_exchanges_are_as_the_model_says() {
    differ(20_261_121, 100_000).await;
}
