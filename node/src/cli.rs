//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Exit codes, told once, below every help.
const EXIT_CODES: &str = "\
Exit codes: 0 ended as asked, 64 wrong usage, 69 address or port not available, 70 internal failure, \
73 state directory not usable, 78 wrong configuration.";

/// The first lines of `coralline --help`.
const ABOUT: &str = "\
A node of Coralline, the peer-to-peer web CDN.

Append the suffix to the host of a URL, as in http://www.example.com.cdn.localhost:8080/, and the network \
serves it: from this node's cache, from another node, and only then from the origin.";

/// A node of Coralline, the peer-to-peer web CDN
#[derive(Debug, Parser)]
#[command(name = "coralline", version, long_about = ABOUT, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node until SIGTERM or Ctrl-C
    ///
    /// Without a file, the node serves *.cdn.localhost on 127.0.0.1:8080 as the first of its network.
    /// On SIGTERM or Ctrl-C it stops accepting, ends what is in flight and exits with 0; a second
    /// signal ends it at once.
    Run(Source),
    /// Show three nodes and an origin at work on this machine
    ///
    /// Nodes on 127.0.0.1, 127.0.0.2 and 127.0.0.3, and an origin with a thin uplink; prints URLs to
    /// try and who served them. Nothing is left behind.
    Demo(Demo),
    /// Make the cache of the running node forget responses
    ///
    /// What is named counts as stale from now on: it is validated before it is used, and stands in
    /// if its origin fails. With --hard it is gone. Copies that were made before and arrive later are
    /// purged as well.
    Purge(Purge),
    /// Check or print configuration
    #[command(subcommand)]
    Config(Config),
}

/// `coralline purge`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("named").required(true).multiple(true))]
pub(crate) struct Purge {
    #[command(flatten)]
    pub(crate) source: Source,
    /// A URL, plain or with the suffix; all its variants
    #[arg(value_name = "URL", group = "named")]
    pub(crate) urls: Vec<String>,
    /// All URLs that begin so
    #[arg(long = "prefix", value_name = "URL", group = "named")]
    pub(crate) prefixes: Vec<String>,
    /// All URLs of a host
    #[arg(long = "host", value_name = "NAME", group = "named")]
    pub(crate) hosts: Vec<String>,
    /// All responses with this tag in Cache-Tag, Surrogate-Key, xkey or Cache-Groups
    #[arg(long = "tag", value_name = "TAG", group = "named")]
    pub(crate) tags: Vec<String>,
    /// Gone, and not only stale
    #[arg(long)]
    pub(crate) hard: bool,
}

/// Where the configuration comes from; the later wins: defaults, file, environment, flags.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// TOML file to read; without it, defaults hold
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One key, as in --set http.listen=0.0.0.0:80; may be repeated. The environment says the same
    /// with CORALLINE_HTTP_LISTEN
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
}

/// `coralline config`
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Say whether the configuration is right; exit code 78 if not
    Check(Source),
    /// Print the configuration that a node would run with
    Show(Source),
    /// Print every key with its default and its reason
    Reference,
}

/// `coralline demo`: the ports, in case that the usual ones are taken.
#[derive(Debug, Clone, Args)]
pub(crate) struct Demo {
    /// HTTP port of all three nodes
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub(crate) http_port: u16,
    /// DNS port of all three nodes
    #[arg(long, value_name = "PORT", default_value_t = 5300)]
    pub(crate) dns_port: u16,
    /// Port among the nodes, UDP and TCP
    #[arg(long, value_name = "PORT", default_value_t = 7400)]
    pub(crate) node_port: u16,
    /// Admin port of all three nodes
    #[arg(long, value_name = "PORT", default_value_t = 7480)]
    pub(crate) admin_port: u16,
    /// Port of the origin
    #[arg(long, value_name = "PORT", default_value_t = 8000,
          value_parser = clap::value_parser!(u16).range(1024..))]
    pub(crate) origin_port: u16,
    /// End by itself after so many seconds
    #[arg(long = "for", value_name = "SECONDS", hide = true)]
    pub(crate) seconds: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    fn check(line: &str, expect: bool) {
        assert_eq!(Cli::try_parse_from(line.split(' ')).is_ok(), expect, "{line}");
    }

    #[test]
    fn reads_what_the_help_promises() {
        check("coralline run", true);
        check("coralline run --config a.toml --set a.b=1 --set c=2", true);
        check("coralline demo --http-port 8081", true);
        check("coralline demo --http-port 70000", false);
        check("coralline demo --origin-port 25", false);
        check("coralline purge http://a.com/ http://b.com/ --hard", true);
        check("coralline purge --config a.toml --tag a --tag b --host c --prefix d", true);
        check("coralline purge", false);
        check("coralline purge --hard", false);
        check("coralline config check --config a.toml", true);
        check("coralline config reference", true);
        check("coralline config", false);
        check("coralline walk", false);
        check("coralline", false);
    }
}
