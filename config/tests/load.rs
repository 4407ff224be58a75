//! The configuration as an operator meets it: a file, an environment, flags, and clear errors.

#![expect(clippy::unwrap_used, reason = "this file is nothing but tests")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coralline_config::{ByteSize, Config, Errors};
use proptest::prelude::*;

/// Loads with `HOME=/h`, a file named `coralline.toml` of this text, and the rest.
fn load(text: &str, env: &[(&str, &str)], sets: &[&str]) -> Result<Config, Errors> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("coralline.toml");
    std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
    load_path(Some(&path), env, sets)
}

fn load_path(path: Option<&Path>, env: &[(&str, &str)], sets: &[&str]) -> Result<Config, Errors> {
    let env = [("HOME", "/h")].iter().chain(env).map(|(n, v)| ((*n).into(), (*v).into()));
    let sets: Vec<String> = sets.iter().map(|set| (*set).into()).collect();
    Config::load(path, env, &sets)
}

/// The lines of the error, each cut to begin with the name of the file.
fn errors(text: &str, env: &[(&str, &str)], sets: &[&str]) -> Vec<String> {
    let lines = load(text, env, sets).expect_err("mistakes must be found").to_string();
    let cut = |line: &str| {
        let at = line.find("coralline.toml").unwrap_or(0);
        line[at..].to_owned()
    };
    lines.lines().map(cut).collect()
}

#[test]
fn with_nothing_given_all_defaults_hold() {
    let loaded = load_path(None, &[], &[]).unwrap();
    let state_dir = PathBuf::from("/h/.local/state/coralline");
    assert_eq!(loaded, Config { state_dir, ..Config::default() });
}

#[test]
fn what_comes_later_wins() {
    let text = "suffix = \"file.example\"\n[cache]\nmemory = \"9MiB\"\n[dns]\nttl = \"9s\"\n";
    let env = [("CORALLINE_SUFFIX", "env.example"), ("CORALLINE_CACHE_MEMORY", "10MiB")];
    let config = load(text, &env, &["suffix=flag.example", "suffix=last.example"]).unwrap();
    assert_eq!(config.suffix.as_str(), "last.example");
    assert_eq!(config.cache.memory, ByteSize(10 << 20));
    assert_eq!(config.dns.ttl, Duration::from_secs(9));
}

#[test]
fn lists_are_written_with_commas_outside_the_file() {
    let env = [("CORALLINE_HTTP_LISTEN", "127.0.0.1:8080, [::1]:8080"), ("PATH", "/bin")];
    let config = load("", &env, &["dns.listen=", "overlay.levels=5ms,9ms"]).unwrap();
    assert_eq!(config.http.listen.len(), 2);
    assert_eq!(config.dns.listen, []);
    assert_eq!(config.overlay.levels, [5, 9].map(Duration::from_millis));
}

#[test]
fn mistakes_name_file_line_key_and_what_was_expected() {
    let check = |text: &str, expect: &[&str]| assert_eq!(errors(text, &[], &[]), expect, "{text}");
    check(
        "\n[cache]\nmemory = \"lots\"\n",
        &["coralline.toml:3: cache.memory: expected a size such as \"256MiB\", found \"lots\""],
    );
    check(
        "[cache]\nmemory = 5\n",
        &["coralline.toml:2: cache.memory: expected a size such as \"256MiB\", found 5"],
    );
    check(
        "[cache]\nmemory = \"1MiB\"\n",
        &["coralline.toml:2: cache.memory: expected a size of at least \"8MiB\", found \"1MiB\""],
    );
    check(
        "[http]\nmax_connections = \"12\"\n",
        &["coralline.toml:2: http.max_connections: expected a whole number without quotes, \
             found \"12\""],
    );
    check(
        "[http]\nmax_connections = 0\n",
        &["coralline.toml:2: http.max_connections: expected a whole number from 1 to 65536, \
             found 0"],
    );
    check(
        "log = true\n",
        &["coralline.toml:1: log: expected a log filter such as \"info\" or \
             \"info,coralline_overlay=debug\", found true"],
    );
    check(
        "contact = \"a (b)\"\n",
        &["coralline.toml:1: contact: expected a mail address or URL such as \
             \"abuse@example.net\", found \"a (b)\""],
    );
    check("state_dir = 7", &["coralline.toml:1: state_dir: expected a text in quotes, found 7"]);
    check(
        "suffix = 1.5",
        &["coralline.toml:1: suffix: expected a DNS name such as \"cdn.example.net\", found 1.5"],
    );
    check(
        "[http]\nlisten = \"127.0.0.1:80\"\n",
        &["coralline.toml:2: http.listen: expected a list such as [\"...\", \"...\"], found \
             \"127.0.0.1:80\""],
    );
    // The line of the very element, not that of the list.
    check(
        "[origin]\nallow_private = [\n  \"10.0.0.0/8\",\n  \"ten\",\n]\n",
        &["coralline.toml:4: origin.allow_private: expected a network such as \"10.0.0.0/8\" \
             or \"fd00::/8\", found \"ten\""],
    );
    check(
        "dns.answers = 9",
        &["coralline.toml:1: dns.answers: expected a whole number from 1 to 8, found 9"],
    );
    check(
        "dns.ttl = \"2h\"",
        &["coralline.toml:1: dns.ttl: expected a time from \"1s\" to \"1h\", found \"2h\""],
    );
    for (key, range, found) in [
        ("values_per_key", "a whole number from 1 to 8", "9"),
        ("beta", "a whole number from 1 to 120", "0"),
        ("passes", "a whole number from 1 to 120", "121"),
        ("hop_bits", "a whole number from 1 to 8", "0"),
        ("copies", "a whole number from 1 to 6", "7"),
        ("max_values", "a whole number from 1024 to 1048576", "1023"),
        ("max_ttl", "a time from \"1m\" to \"1d\"", "\"59s\""),
        ("accept_percent", "a whole number from 1 to 100", "101"),
        ("abandon_percent", "a whole number from 1 to 100", "-1"),
        ("review_every", "a time from \"30s\" to \"1d\"", "\"29s\""),
    ] {
        let expect = format!("coralline.toml:2: overlay.{key}: expected {range}, found {found}");
        check(&format!("[overlay]\n{key} = {found}\n"), &[&expect]);
    }
    check("dns = 5", &["coralline.toml:1: dns: expected a section [dns], found 5"]);
    check("site = 5", &["coralline.toml:1: site: expected [[site]] sections, found 5"]);
}

#[test]
fn unknown_keys_are_mistakes_with_a_suggestion() {
    let check = |text: &str, expect: &[&str]| assert_eq!(errors(text, &[], &[]), expect, "{text}");
    check(
        "[http]\nlisten = []\nlistne = []\n",
        &["coralline.toml:3: http.listne: no such key; did you mean http.listen?"],
    );
    check(
        "[chache]\nmemory = \"1GiB\"\n",
        &["coralline.toml:2: chache.memory: no such key; did you mean cache.memory?"],
    );
    check(
        "[extra]\n",
        &["coralline.toml:1: extra: no such key; `coralline config reference` lists them all"],
    );
    check(
        "[[site]]\nhost = \"a.example\"\norign = \"http://b.example\"\n",
        &[
            "coralline.toml:1: site.origin: missing from this [[site]]",
            "coralline.toml:3: site.orign: no such key; did you mean site.origin?",
        ],
    );
}

#[test]
fn all_mistakes_are_told_by_line_then_environment_then_flags() {
    let text = "nonsense = 1\n[http]\nmax_connections = -1\n[cache]\ndisk = \"x\"\n";
    let env = [("CORALLINE_SUFFIX", "a..b"), ("CORALLINE_HTP_LISTEN", "")];
    let found = errors(text, &env, &["cache.memory=lots", "log", "dns.answer=3"]);
    assert_eq!(
        found,
        [
            "coralline.toml:1: nonsense: no such key; `coralline config reference` lists them all",
            "coralline.toml:3: http.max_connections: expected a whole number from 1 to 65536, \
             found -1",
            "coralline.toml:5: cache.disk: expected a size such as \"256MiB\", found \"x\"",
            "CORALLINE_HTP_LISTEN: no such variable; did you mean CORALLINE_HTTP_LISTEN?",
            "CORALLINE_SUFFIX: expected a DNS name such as \"cdn.example.net\", found \"a..b\"",
            "--set cache.memory: expected a size such as \"256MiB\", found \"lots\"",
            "--set log: expected KEY=VALUE such as http.listen=127.0.0.1:8080",
            "--set dns.answer: no such key; did you mean dns.answers?",
        ]
    );
}

#[test]
fn files_that_are_no_toml() {
    let found = errors("suffix = \"a.example\"\nlog = \n[http\n", &[], &[]);
    assert!(found.len() >= 2, "{found:?}");
    assert!(found[0].starts_with("coralline.toml:2: "), "{found:?}");
    assert!(found.iter().any(|line| line.starts_with("coralline.toml:3: ")), "{found:?}");
    let found = errors("log = \"info\"\nlog = \"debug\"\n", &[], &[]);
    assert!(found[0].starts_with("coralline.toml:2: duplicate key"), "{found:?}");

    let missing = load_path(Some("/nowhere/c.toml".as_ref()), &[], &[]).unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere/c.toml: cannot be read: "), "{missing}");
    let directory = load_path(Some("/".as_ref()), &[], &[]).unwrap_err().to_string();
    assert!(directory.starts_with("/: cannot be read: "), "{directory}");
    let large = errors(&"# long\n".repeat(200_000), &[], &[]);
    assert_eq!(large.len(), 1, "{large:?}");
    assert!(large[0].contains("is larger than"), "{large:?}");
}

#[test]
fn keys_that_do_not_go_together() {
    let check = |text: &str, expect: &[&str]| assert_eq!(errors(text, &[], &[]), expect, "{text}");
    check(
        "[https]\ncertificate = \"/c.pem\"\nlisten = [\"127.0.0.1:8443\"]\n",
        &["coralline.toml:3: https.listen: needs https.key, a PEM file with the private key"],
    );
    check(
        "overlay.levels = [\"20ms\", \"20ms\"]",
        &["coralline.toml:1: overlay.levels: expected each to be longer than the one before, \
             found 20ms, 20ms"],
    );
    check(
        "overlay.levels = [\"1ms\", \"2ms\", \"3ms\", \"4ms\", \"5ms\"]",
        &["coralline.toml:1: overlay.levels: expected at most 4 levels, found 5"],
    );
    check(
        "[overlay]\nabandon_percent = 80\n",
        &["coralline.toml:2: overlay.abandon_percent: expected less than accept_percent, which \
             is 80, found 80"],
    );
    check(
        "overlay.listen = \"0.0.0.0:7400\"",
        &["coralline.toml:1: overlay.listen: 0.0.0.0:7400 tells others no address; set \
             public_addr as well"],
    );
    check(
        "\nadmin.listen = \"127.0.0.1:8080\"",
        &["coralline.toml:2: admin.listen: 127.0.0.1:8080 is already taken by http.listen"],
    );
    // A key that was not understood is told once, not again by what depends on it.
    check(
        "[https]\nlisten = [\"127.0.0.1:8443\"]\ncertificate = \"/c\"\nkey = 5\n",
        &["coralline.toml:4: https.key: expected a text in quotes, found 5"],
    );
    let site = |host: &str| format!("[[site]]\nhost = \"{host}\"\norigin = \"http://o.example\"\n");
    check(
        &format!("{}{}{}", site("a.example"), site("A.example."), site("b.cdn.localhost")),
        &[
            "coralline.toml:4: site.host: a.example has a [[site]] already",
            "coralline.toml:7: site.host: b.cdn.localhost is under the suffix cdn.localhost",
        ],
    );
}

#[test]
fn home_stands_for_the_tilde() {
    let config = load("", &[], &["state_dir=~", "origin.ca_file=~/ca.pem"]).unwrap();
    assert_eq!(config.state_dir, PathBuf::from("/h"));
    assert_eq!(config.origin.ca_file, Some("/h/ca.pem".into()));
    let config = load("", &[], &["overlay.as_database=~/asn.mmdb"]).unwrap();
    assert_eq!(config.overlay.as_database, Some("/h/asn.mmdb".into()));
    let config = load("[overlay]\nas_database = \"\"\n", &[], &[]).unwrap();
    assert_eq!(config.overlay.as_database, None, "as the reference has it");
    let config = load("", &[], &["state_dir=/a/~/b"]).unwrap();
    assert_eq!(config.state_dir, PathBuf::from("/a/~/b"));
    let homeless = Config::load(None, [], &[]).unwrap_err().to_string();
    assert_eq!(
        homeless,
        "state_dir: expected a full path since HOME is not set, found \"~/.local/state/coralline\""
    );
    assert!(Config::load(None, [], &["state_dir=/s".into()]).is_ok());
}

#[test]
fn variables_of_kubernetes_do_no_harm() {
    let env = [
        ("CORALLINE_SERVICE_HOST", "10.0.0.1"),
        ("CORALLINE_SERVICE_PORT_HTTP", "80"),
        ("CORALLINE_PORT", "tcp://10.0.0.1:80"),
        ("CORALLINE_PORT_80_TCP_ADDR", "10.0.0.1"),
    ];
    assert!(load("", &env, &[]).is_ok());
}

#[test]
fn what_is_shown_loads_to_the_same() {
    let shown = load("", &[], &["state_dir=~/x", "public_addr=::1"]).unwrap();
    assert_eq!(load(&shown.to_toml(), &[], &[]).unwrap(), shown);
}

proptest! {
    #[test]
    fn garbage_never_panics(
        text in "(\\[\\[?[a-z.]{0,6}\\]?\\]?\n|[a-z.]{1,8} ?= ?[\\PC]{0,12}\n|\\PC{0,20}\n){0,6}",
        set in "\\PC{0,30}|[a-z.]{1,8}=\\PC{0,12}",
    ) {
        let _ = load(&text, &[], &[&set]).map_err(|e| e.to_string());
    }

    #[test]
    fn any_word_for_any_key_never_panics(
        index in 0usize..64,
        word in "\\PC{0,20}|[0-9a-z:.,]{0,12}",
    ) {
        let reference = Config::reference();
        let keys: Vec<&str> = reference
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(" = ").map(|(key, _)| key))
            .collect();
        let key = keys[index % keys.len()];
        for section in ["", "http.", "https.", "dns.", "overlay.", "origin.", "cache."] {
            let _ = load("", &[], &[&format!("{section}{key}={word}")]).map_err(|e| e.to_string());
        }
    }
}
