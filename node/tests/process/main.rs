//! Tests of real `coralline` processes, each on loopback addresses of its own.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod admin;
mod browser;
mod command;
mod crowd;
mod demo;
mod harness;
mod keep;
mod kill;
mod large;
mod liars;
mod life;
mod million;
mod names;
mod network;
mod nginx;
mod observe;
mod ranges;
mod refuse;
mod scripted;
mod site;
mod sources;
mod trouble;
