//! A node at a place.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Stdio};

use tempfile::TempDir;

use super::place::Place;
use crate::harness::{ADMIN, HTTP, OVERLAY, Reply, coralline, get};

/// A running node; ends when dropped.
pub(crate) struct Member {
    pub(crate) place: Place,
    dir: TempDir,
    child: Child,
}

impl Member {
    /// Starts one that knows `seeds` and asks `names` for the addresses of origins. It audits nothing: what the
    /// origin is asked is counted.
    pub(crate) fn start(place: Place, seeds: &[IpAddr], names: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (ip, state) = (place.ip, dir.path().join("state"));
        let seeds: Vec<_> = seeds.iter().map(|seed| format!("\"{seed}:{OVERLAY}\"")).collect();
        let config = format!(
            "state_dir = {state:?}\npublic_addr = \"{ip}\"\n\
             [http]\nlisten = [\"{ip}:{HTTP}\"]\n\
             [dns]\nlisten = []\n\
             [overlay]\nlisten = \"{ip}:{OVERLAY}\"\nseeds = [{}]\n\
             [peer]\nlisten = \"{ip}:{OVERLAY}\"\naudit_one_in = 0\n\
             [admin]\nlisten = \"{ip}:{ADMIN}\"\n\
             [cache]\nmemory = \"32MiB\"\ndisk = \"256MiB\"\n\
             [origin]\nallow_private = [\"127.0.0.0/8\"]\nnameservers = [\"{names}\"]\n",
            seeds.join(", ")
        );
        let file = dir.path().join("coralline.toml");
        fs::write(&file, config).unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let child = place.run(move || {
            let mut command = coralline();
            command.arg("run").arg("--config").arg(file).stdout(Stdio::null()).stderr(log);
            command.spawn().unwrap()
        });
        Self { place, dir, child }
    }

    /// Whether it has joined.
    pub(crate) fn is_ready(&self) -> bool {
        self.admin("/readyz").is_some_and(|reply| reply.status == 200)
    }

    /// The value of one series of `/metrics`, named as there, labels included; 0 when it is missing.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        self.admin("/metrics").expect("the admin listener answers").metric(series)
    }

    /// The upper bounds of a histogram's buckets, but for the last, with what each counts; for the series whose
    /// one label has this value.
    pub(crate) fn buckets(&self, name: &str, label: &str) -> Vec<(f64, f64)> {
        let reply = self.admin("/metrics").expect("the admin listener answers").text();
        let prefix = format!("{name}_bucket{{");
        let of_label = reply.lines().filter_map(|line| line.strip_prefix(&prefix));
        let bucket = |line: &str| {
            let (labels, count) = line.split_once("} ")?;
            let (_, bound) = labels.split_once("le=\"")?;
            let bound = bound.split('"').next()?.parse::<f64>().ok().filter(|b| b.is_finite())?;
            Some((bound, count.parse().ok()?))
        };
        let label = format!("\"{label}\"");
        of_label.filter(|line| line.contains(&label)).filter_map(bucket).collect()
    }

    fn admin(&self, path: &'static str) -> Option<Reply> {
        let addr = SocketAddr::new(self.place.ip, ADMIN);
        self.place.run(move || get(addr, path))
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// All that it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}
