//! A real nginx as the origin, with a log that says how often each file was asked for.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::program;

/// An nginx on 127.0.0.1; ends when dropped.
pub(crate) struct Nginx {
    pub(crate) addr: SocketAddr,
    dir: TempDir,
    child: Child,
}

impl Nginx {
    /// Serves `root` at `/`, and a directory of its own, [`Nginx::made`], at `/made/`; `more` goes into its
    /// server block. Nothing, after saying so, where nginx is not installed.
    pub(crate) fn start(root: &Path, more: &str) -> Option<Self> {
        let nginx = program("nginx")?;
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display();
        // A port that was free a moment ago; nginx cannot be given a listener.
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        fs::create_dir_all(dir.path().join("made")).unwrap();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
            .concat();
        let root = root.display();
        let config = format!(
            "daemon off;\nmaster_process off;\npid {at}/pid;\nerror_log {at}/error.log;\n\
             events {{}}\n\
             http {{\n{temporary}\
             types {{ text/html html; image/png png; text/css css; }}\n\
             log_format counted '$request_method $request_uri $status $http_user_agent';\n\
             access_log {at}/access.log counted;\nsendfile on;\n\
             server {{\nlisten {addr};\nserver_name localhost;\nabsolute_redirect on;\n\
             location / {{ root {root}; }}\n\
             location /made/ {{ alias {at}/made/; }}\n{more}}}\n}}\n"
        );
        let file = dir.path().join("nginx.conf");
        fs::write(&file, config).unwrap();
        let child = Command::new(nginx)
            .arg("-c")
            .arg(&file)
            .arg("-p")
            .arg(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Self { addr, dir, child };
        let listening = (0..500).any(|_| {
            sleep(Duration::from_millis(20));
            TcpStream::connect(addr).is_ok()
        });
        let error = fs::read_to_string(started.dir.path().join("error.log")).unwrap_or_default();
        assert!(listening, "nginx does not listen: {error}");
        Some(started)
    }

    /// The directory behind `/made/`.
    pub(crate) fn made(&self) -> std::path::PathBuf {
        self.dir.path().join("made")
    }

    /// The host under which nodes are asked for it.
    pub(crate) fn host(&self) -> String {
        format!("localhost.{}.cdn.localhost", self.addr.port())
    }

    /// The lines of the access log: method, path, status, user agent.
    pub(crate) fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dir.path().join("access.log")).unwrap();
        log.lines().map(str::to_owned).collect()
    }

    /// How often each path was fetched by GET.
    pub(crate) fn fetched(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for line in self.log() {
            if let Some(rest) = line.strip_prefix("GET ") {
                let path = rest.split(' ').next().unwrap().to_owned();
                *counts.entry(path).or_default() += 1;
            }
        }
        counts
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
