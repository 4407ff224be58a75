//! Purging: `POST /purge` at the admin listener, and `coralline purge`, which asks for it.

use bytes::Bytes;
use coralline_config::Config;
use coralline_proxy::Purge;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cli;
use crate::exit::{Code, Failure};
use crate::limits::{MAX_ADMIN_ANSWER, PURGE_DEADLINE};
use crate::run;
use crate::token::Token;

/// The body of `POST /purge`; the names of its fields are part of the interface.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Body {
    urls: Vec<String>,
    prefixes: Vec<String>,
    hosts: Vec<String>,
    tags: Vec<String>,
    hard: bool,
}

impl Body {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// What is wrong with it, in a line.
    pub(crate) fn parse(text: &[u8]) -> Result<Purge, String> {
        let expected = "expected is JSON, as in {\"urls\": [\"http://www.example.com/a.jpg\"]}; there \
                        are also prefixes, hosts, tags and hard";
        let body: Self =
            serde_json::from_slice(text).map_err(|error| format!("{error}; {expected}"))?;
        let Self { urls, prefixes, hosts, tags, hard } = body;
        let purge = Purge { urls, prefixes, hosts, tags, hard };
        let nothing = Purge { hard, ..Purge::default() };
        if purge == nothing { Err(format!("nothing is named; {expected}")) } else { Ok(purge) }
    }
}

/// `coralline purge`: asks the node that runs with the same configuration.
///
/// # Errors
/// When no node answers, or it refuses.
pub(crate) async fn purge(what: cli::Purge) -> Result<(), Failure> {
    let config = run::load(&what.source)?;
    let cli::Purge { urls, prefixes, hosts, tags, hard, .. } = what;
    let body = Body { urls, prefixes, hosts, tags, hard };
    let text = serde_json::to_vec(&body).expect("strings and a flag can be written");
    let admin = config.admin.listen;
    let answer = timeout(PURGE_DEADLINE, ask(&config, text)).await.unwrap_or_else(|_| {
        let text = format!("the node at {admin} does not answer; see its log");
        Err(Failure::new(Code::Unavailable, text))
    });
    let (status, text) = answer?;
    if status != StatusCode::OK {
        return Err(Failure::new(Code::Usage, text.trim_end()));
    }
    run::print(&text)
}

/// One request to the admin listener; status and text of the answer.
async fn ask(config: &Config, text: Vec<u8>) -> Result<(StatusCode, String), Failure> {
    let addr = config.admin.listen;
    let path = Token::path(&config.state_dir);
    let token = Token::load(&config.state_dir).map_err(|error| {
        let remedy = "start the node once, or name its configuration by --config";
        Failure::new(Code::Unavailable, format!("{}: {error}; {remedy}", path.display()))
    })?;
    let failed = |error: String| {
        let remedy = "is it running, and with this configuration?";
        Failure::new(Code::Unavailable, format!("the node at {addr}: {error}; {remedy}"))
    };
    let stream = TcpStream::connect(addr).await.map_err(|error| failed(error.to_string()))?;
    let (mut sender, connection) = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| failed(error.to_string()))?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::POST)
        .uri("/purge")
        .header(HOST, addr.to_string())
        .header(AUTHORIZATION, format!("Bearer {}", token.into_text()))
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(text.into()))
        .expect("an address and a token are valid fields");
    let answer = sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MAX_ADMIN_ANSWER).collect().await;
    let octets = body.map_err(|error| failed(error.to_string()))?.to_bytes();
    Ok((head.status, String::from_utf8_lossy(&octets).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_says_what_is_purged_or_what_is_wrong() {
        let check = |text: &str, expect: Result<Purge, &str>| match (
            Body::parse(text.as_bytes()),
            expect,
        ) {
            (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
            (found, expect) => assert_eq!(found, expect.map_err(str::to_owned), "{text}"),
        };
        let urls = vec!["http://a.com/".to_owned()];
        check(r#"{"urls": ["http://a.com/"]}"#, Ok(Purge { urls, ..Purge::default() }));
        let tags = vec!["news".to_owned()];
        check(
            r#"{"tags": ["news"], "hard": true}"#,
            Ok(Purge { tags, hard: true, ..Purge::default() }),
        );
        check("{}", Err("nothing is named"));
        check(r#"{"hard": true}"#, Err("nothing is named"));
        check(r#"{"url": "http://a.com/"}"#, Err("unknown field `url`"));
        check("", Err("EOF"));
        check("\u{0}", Err("expected"));
    }
}
