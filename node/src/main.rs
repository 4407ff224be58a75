//! The program `coralline`: wires configuration, overlay, DNS and proxy into a node.
//!
//! # Map
//! | file | what it holds |
//! |---|---|
//! | `cli` | the command line, as clap reads it |
//! | `run` | `coralline run`: configuration, log, one [`node::Node`], signals |
//! | `node` | one node: binds every socket, starts the parts, ends them in order |
//! | `health` | whether the node is ready, and why not |
//! | `admin`, `status`, `metrics` | what an operator sees: pages, JSON, Prometheus |
//! | `purge`, `token` | `coralline purge`, and who may |
//! | `demo` | `coralline demo`: three nodes and an origin in this process |
//! | `origin`, `uplink`, `range`, `picture` | that origin |
//! | `exit`, `limits` | exit codes; every bound with its reason |
//!
//! # Invariants
//! - Nothing is global: a node owns its registry, its sockets and its tasks, so that many live in one
//!   process. Only `main` sets the log.
//! - Every socket is bound before anything is started, so that a port in use changes nothing.
//! - A task that ends by itself ends the program with code 70: a service manager restarts it, and
//!   nobody meets half a node.

mod admin;
mod cli;
mod demo;
mod exit;
mod health;
mod limits;
mod metrics;
mod node;
mod origin;
mod picture;
mod purge;
mod range;
mod run;
mod status;
mod token;
mod uplink;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::exit::{Code, Failure};

fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            // Help and version arrive here as well; clap knows the stream each belongs to.
            let _ = error.print();
            return if error.use_stderr() { Code::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    match execute(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "{failure}");
            failure.code.into()
        }
    }
}

fn execute(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(source) => {
            let loaded = run::load(&source)?;
            runtime()?.block_on(run::run(loaded))
        }
        Command::Demo(options) => runtime()?.block_on(demo::demo(&options)),
        Command::Purge(what) => runtime()?.block_on(purge::purge(what)),
        Command::Config(command) => run::config(&command),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        Failure::new(Code::Software, format!("cannot start the threads of the runtime: {error}"))
    })
}
