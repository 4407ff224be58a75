//! `coralline run` and `coralline config`.

use std::io::{IsTerminal, Write};

use coralline_config::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::cli;
use crate::exit::{Code, Failure};
use crate::node::Node;

/// Reads the configuration from file, environment and flags.
///
/// # Errors
/// Every mistake at once, a line each.
pub(crate) fn load(source: &cli::Source) -> Result<Config, Failure> {
    Config::load(source.config.as_deref(), coralline_config::environment(), &source.sets)
        .map_err(|errors| Failure::new(Code::Config, errors.to_string()))
}

/// Runs a node until a signal comes.
///
/// # Errors
/// When it cannot start, when a part of it ends by itself, or on a second signal.
pub(crate) async fn run(config: Config) -> Result<(), Failure> {
    init_log(&config.log)?;
    raise_file_limit();
    let mut signals = Signals::new()?;
    let mut node = Node::start(config).await?;
    tracing::info!("{}", node.welcome());
    tokio::select! {
        name = signals.next() => tracing::info!("{name}: ending what is in flight; again to end at once"),
        part = node.ended() => {
            let message = format!("{part} ended by itself; see the log above and start again");
            return Err(Failure::new(Code::Software, message));
        }
    }
    tokio::select! {
        () = node.shutdown() => Ok(()),
        name = signals.next() => {
            Err(Failure::new(Code::Interrupted, format!("{name} again: ended at once")))
        }
    }
}

/// Each connection is a file, and the usual soft limit of 1,024 is less than a node may hold.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays at {:?}", limit.current);
    }
}

/// `coralline config …`
///
/// # Errors
/// When the configuration is wrong, or standard output cannot be written.
pub(crate) fn config(command: &cli::Config) -> Result<(), Failure> {
    let text = match command {
        cli::Config::Reference => Config::reference(),
        cli::Config::Show(source) => load(source)?.to_toml(),
        cli::Config::Check(source) => {
            load(source)?;
            "the configuration is right
"
            .into()
        }
    };
    print(&text)
}

/// To standard output.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever closes the pipe early, as `head` does, has read enough.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Code::Software, format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Sends the log to standard error, for people: no colours when that is not a terminal.
///
/// # Errors
/// When `filter` cannot be read.
pub(crate) fn init_log(filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        let remedy = "write it as in \"info,coralline_overlay=debug\"";
        Failure::new(Code::Config, format!("log: {error}; {remedy}"))
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    Ok(())
}

/// The signals that end the program.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Starts to listen; from now on neither signal kills the process by itself.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(Code::Software, format!("cannot listen for signals: {error}"))
            })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one and gives its name.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
