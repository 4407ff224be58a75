//! The command line: help, usage, `config`.

use std::fs;
use std::process::Output;

use crate::harness::coralline;

fn run(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = coralline().args(args).output().unwrap();
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn help_names_every_command_and_the_exit_codes() {
    let (code, out, err) = run(&["--help"]);
    assert_eq!((code, err.as_str()), (0, ""));
    for word in ["run", "demo", "config", "Exit codes", "78"] {
        assert!(out.contains(word), "{word} is missing in:\n{out}");
    }
    let (code, out, _) = run(&["demo", "--help"]);
    assert_eq!(code, 0);
    assert!(out.contains("--http-port") && out.contains("[default: 8080]"), "{out}");
    assert_eq!(run(&["--version"]).0, 0);
}

#[test]
fn wrong_usage_is_64() {
    for args in
        [&[][..], &["walk"], &["run", "--confg", "x"], &["config"], &["demo", "--http-port", "x"]]
    {
        let (code, out, err) = run(args);
        assert_eq!((code, out.as_str()), (64, ""), "{args:?}");
        assert!(err.contains("Usage") || err.contains("--help"), "{args:?}: {err}");
    }
}

#[test]
fn a_wrong_configuration_is_78_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wrong.toml");
    fs::write(&file, "suffix = \"cdn.localhost\"\n[cache]\nmemory = \"lots\"\nmemry = 1\n")
        .unwrap();
    let path = file.to_str().unwrap();
    for command in [&["config", "check"][..], &["config", "show"], &["run"]] {
        let (code, out, err) = run(&[command, &["--config", path]].concat());
        assert_eq!((code, out.as_str()), (78, ""), "{command:?}: {err}");
        for part in ["wrong.toml:3", "cache.memory", "256MiB", "wrong.toml:4", "memry"] {
            assert!(err.contains(part), "{command:?}: {part} is missing in:\n{err}");
        }
    }
    let (code, _, err) = run(&["config", "check", "--config", "/nonexistent/c.toml"]);
    assert_eq!(code, 78);
    assert!(err.contains("/nonexistent/c.toml"), "{err}");
    let (code, _, err) = run(&["config", "check", "--set", "http.listn=1"]);
    assert_eq!(code, 78);
    assert!(err.contains("http.listen"), "the key that was meant is named: {err}");
}

#[test]
fn the_reference_and_what_is_shown_are_configurations() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("printed.toml");
    let (_, defaults, _) = run(&["config", "show"]);
    for command in [&["config", "reference"][..], &["config", "show"]] {
        let (code, printed, _) = run(command);
        assert_eq!(code, 0);
        fs::write(&file, printed).unwrap();
        let path = file.to_str().unwrap();
        let (code, out, err) = run(&["config", "check", "--config", path]);
        assert_eq!(code, 0, "{command:?}: {err}");
        assert!(out.ends_with("the configuration is right\n"), "{out}");
        assert_eq!(run(&["config", "show", "--config", path]).1, defaults, "{command:?}");
    }
}

#[test]
fn flags_beat_the_environment_which_beats_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    fs::write(&file, "suffix = \"file.example\"\nlog = \"warn\"\n").unwrap();
    let mut command = coralline();
    command.args(["config", "show", "--config"]).arg(&file);
    command.env("CORALLINE_SUFFIX", "env.example").env("CORALLINE_HTTP_LISTEN", "127.0.0.1:81");
    command.args(["--set", "http.listen=127.0.0.1:82"]);
    let shown = String::from_utf8(command.output().unwrap().stdout).unwrap();
    for part in ["env.example", "127.0.0.1:82", "warn"] {
        assert!(shown.contains(part), "{part} is missing in:\n{shown}");
    }
}

#[test]
fn a_log_filter_that_makes_no_sense_is_78() {
    let (code, _, err) = run(&["run", "--set", "log=info,=,=x"]);
    assert_eq!(code, 78, "{err}");
    assert!(err.contains("log"), "{err}");
}
