//! What a person sees of this node itself: its own page, and the page of a failure. No page loads anything.

use std::fmt::Write;

use coralline_config::Suffix;

use crate::limits::MAX_DETAIL;
use crate::reason::{Failure, Reason};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#16302f;--soft:#5b7270;--paper:#fbf7f2;--card:#fff;--line:#e4dcd2;\
--coral:#d9523c}\
@media(prefers-color-scheme:dark){:root{--ink:#e8efee;--soft:#9db2b0;--paper:#10191b;--card:#172326;\
--line:#27363a;--coral:#ff8168}}\
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);\
font:17px/1.55 system-ui,sans-serif}main{max-width:44rem;margin:0 auto;padding:3rem 1.25rem}\
h1{font-size:2rem;line-height:1.15;margin:0 0 .5rem}h2{font-size:1.1rem;margin:2rem 0 .4rem}\
p{margin:.5rem 0}a{color:var(--coral)}.soft{color:var(--soft)}.code{color:var(--coral);\
font-weight:700;letter-spacing:.02em}code,pre,output{font:15px/1.5 ui-monospace,monospace}\
pre,output,.card{display:block;background:var(--card);border:1px solid var(--line);\
border-radius:.6rem;padding:.8rem 1rem;overflow-wrap:anywhere;white-space:pre-wrap}\
label{display:block;margin-bottom:.3rem}input{width:100%;font:inherit;color:inherit;\
background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.7rem 1rem}\
input:focus{outline:2px solid var(--coral);outline-offset:1px}";

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"robots\" content=\"noindex\"><title>{title}</title>\
         <style>{STYLE}</style><main>{body}</main></html>\n"
    )
}

/// The page at `http://SUFFIX/`.
pub(crate) fn node(suffix: &Suffix, name: &str, contact: Option<&str>) -> String {
    let who = contact.map_or_else(
        || "Its operator has left no address.".to_owned(),
        |contact| {
            let contact = escape(contact);
            format!("It is run by, and abuse is reported to, <code>{contact}</code>.")
        },
    );
    let script = format!(
        "const s='.{suffix}',i=document.querySelector('input'),o=document.querySelector('output');\
         i.oninput=()=>{{let u;try{{u=new URL(i.value.includes('://')?i.value:'http://'+i.value)}}\
         catch{{o.textContent='…';return}}\
         if(!/^https?:$/.test(u.protocol)){{o.textContent='only http and https';return}}\
         let h=u.hostname,t=location.protocol=='https:';\
         const p=u.port;\
         if(p&&u.protocol=='https:'&&!t){{o.textContent='https on port '+p+\
         ' is reached only through https here';return}}\
         if(t||!h.includes('.'))h=h.replaceAll('-','--').replaceAll('.','-')+(p?'-'+p:'');\
         else if(p)h+='.'+p;\
         const l=location.protocol+'//'+h+s+(location.port?':'+location.port:'')\
         +u.pathname+u.search+u.hash;\
         const a=document.createElement('a');a.href=a.textContent=l;o.replaceChildren(a)}};"
    );
    let body = format!(
        "<h1>Coralline</h1>\
         <p>A network of volunteers that carries web pages together. Append \
         <code>.{suffix}</code> to the host of any public URL, and a node near you serves it: from \
         its memory, from another node, or, once for all of them, from the site itself.</p>\
         <h2><label for=\"u\">Turn a URL into one of this network</label></h2>\
         <input id=\"u\" placeholder=\"http://www.example.com/a.jpg\" autocomplete=\"off\" \
         spellcheck=\"false\" autofocus>\
         <p><output>…</output></p>\
         <h2>For readers</h2>\
         <p>This is a reading service: pages are fetched without cookies, passwords and forms. \
         Relative links stay on the network. Sites see this network, not you.</p>\
         <h2>For site owners</h2>\
         <p>What a node keeps, and for how long, is yours to say: <code>Cache-Control: \
         no-store</code> or <code>private</code> keeps a page out, <code>max-age</code> sets its \
         time. Requests carry <code>CDN-Loop: {suffix}</code> and the user agent \
         <code>coralline</code>; answer them with 403 to opt out altogether.</p>\
         <h2>Who runs this</h2>\
         <p>This is node <code>{name}</code>. {who} Every response names the nodes it came through \
         in <code>Via</code>.</p>\
         <script>{script}</script>"
    );
    page("Coralline", &body)
}

/// The page of a failure: what happened, whose fault it is, and what to do.
pub(crate) fn failure(failure: &Failure, suffix: &Suffix) -> String {
    let status = failure.status;
    let (title, advice) = advice(failure.reason, status.as_u16());
    let mut body = String::new();
    let reason = status.canonical_reason().unwrap_or_default();
    let detail = escape(&printable(&failure.detail));
    let word = failure.reason.word();
    // Writing to a String cannot fail.
    let _ = write!(
        body,
        "<p class=\"code\">{} {reason}</p><h1>{title}</h1><p class=\"card\">{detail}</p>\
         <p>{advice}</p><p class=\"soft\"><code>{word}</code> · \
         <a href=\"//{suffix}\" id=\"home\">about this network</a></p>\
         <script>home.href='//{suffix}'+(location.port?':'+location.port:'')+'/'</script>",
        status.as_u16()
    );
    page(&format!("{} {title}", status.as_u16()), &body)
}

/// What it means for a reader, and what they can do.
const fn advice(reason: Reason, status: u16) -> (&'static str, &'static str) {
    match (reason, status) {
        (_, 405) => (
            "This network is for reading",
            "Forms, logins and other changes go to the site itself: remove the suffix from the host.",
        ),
        (_, 421) => ("Not a name of this network", "Check the host in the address bar."),
        (Reason::HttpRequestError, _) => {
            ("The request cannot be read", "Check the URL; the site was not asked.")
        }
        (Reason::HttpRequestDenied, _) => {
            ("This is not carried here", "Go to the site itself: remove the suffix from the host.")
        }
        (Reason::ProxyLoopDetected, _) => {
            ("Round in a circle", "The URL leads back to this network. Use the suffix once.")
        }
        (Reason::DnsError | Reason::DnsTimeout, _) => {
            ("The site's name leads nowhere", "Check the host for a typing error, or try later.")
        }
        (Reason::DestinationIpProhibited, _) => (
            "A private address",
            "The site's name leads into a private network, which nodes do not enter.",
        ),
        (Reason::ConnectionLimitReached, _) => ("Too busy", "Try again in a few seconds."),
        (Reason::TlsCertificateError | Reason::TlsProtocolError, _) => {
            ("The site cannot be trusted", "Its certificate or its encryption is wrong.")
        }
        (Reason::ProxyInternalResponse, _) => ("Not held here", "Ask without only-if-cached."),
        (Reason::ProxyInternalError, _) => ("A fault of this node", "Try again; it was logged."),
        _ => ("The site does not answer", "No copy is held. Try again in a minute."),
    }
}

/// Bounded, and without control characters or anything that is not ASCII.
pub(crate) fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_ascii() && !c.is_ascii_control() { c } else { '?' };
    text.chars().take(MAX_DETAIL).map(plain).collect()
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_sent_is_shown_and_never_run() {
        let suffix: Suffix = "cdn.localhost".parse().unwrap();
        let hostile = "<script>alert('x')</script>\r\nSet-Cookie: \u{202e}".repeat(100);
        let page = failure(&Failure::new(Reason::DnsError, hostile), &suffix);
        assert!(!page.contains("<script>alert"));
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)"));
        assert!(page.len() < 8000);
        assert!(printable("a\r\nb\u{7f}é").bytes().all(|b| (32..127).contains(&b)));
    }

    #[test]
    fn the_node_says_who_runs_it() {
        let suffix: Suffix = "cdn.localhost".parse().unwrap();
        let page = node(&suffix, "coralline-1a2b", Some("mailto:a&b@example.net"));
        assert!(page.contains("<code>mailto:a&amp;b@example.net</code>"));
        assert!(node(&suffix, "coralline-1a2b", None).contains("has left no address"));
    }

    #[test]
    fn every_reason_has_a_page() {
        let suffix: Suffix = "cdn.localhost".parse().unwrap();
        for reason in Reason::ALL {
            let page = failure(&Failure::new(reason, "detail"), &suffix);
            assert!(page.contains(reason.word()) && page.contains("<h1>"));
        }
    }
}
