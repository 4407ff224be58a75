//! Contacts of an earlier run, so that a node returns without its seeds: a text file, a line each.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use crate::contact::{Contact, Identity, Services};
use crate::limits::{MAX_SAVE_WAIT, MAX_SAVED, MIN_SAVE_WAIT};

/// The file within the state directory.
const FILE: &str = "contacts.txt";
/// Its first line; another one is another format.
const HEADER: &str = "coralline contacts 1: identity address slot peer-port services";

/// The file, and when it is to be written.
#[derive(Debug)]
pub(crate) struct Saver {
    dir: PathBuf,
    saved: Vec<Contact>,
    wait: Duration,
    due: Instant,
}

impl Saver {
    /// Reads what is in `dir`.
    pub(crate) fn load(dir: PathBuf) -> Self {
        let saved = load(&dir);
        Self { dir, saved, wait: MIN_SAVE_WAIT, due: Instant::now() + MIN_SAVE_WAIT }
    }

    /// The contacts in the file.
    pub(crate) fn contacts(&self) -> &[Contact] {
        &self.saved
    }

    /// Resolves when it is time to save: soon at first, later ever less often.
    pub(crate) async fn due(&self) {
        sleep_until(self.due).await;
    }

    /// Writes the contacts if they have changed. An empty list is none to remember: a network that has
    /// gone away may come back.
    pub(crate) async fn save(&mut self, contacts: Vec<Contact>) {
        if !contacts.is_empty() {
            self.wait = (self.wait * 2).min(MAX_SAVE_WAIT);
        }
        self.due = Instant::now() + self.wait;
        if contacts.is_empty() || contacts == self.saved {
            return;
        }
        self.saved.clone_from(&contacts);
        let dir = self.dir.clone();
        let stored = spawn_blocking(move || store(&dir, &contacts)).await;
        if let Ok(Err(error)) = stored {
            let dir = self.dir.display();
            tracing::warn!("{dir}: contacts not saved: {error}; check state_dir");
        }
    }
}

/// Reads the contacts in `dir`. A missing file is an empty one; a damaged one is logged and ignored,
/// as the seeds lead back as well.
fn load(dir: &Path) -> Vec<Contact> {
    let path = dir.join(FILE);
    let mut text = String::new();
    match File::open(&path).and_then(|file| file.take(MAX_SAVED).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!("{}: {error}; saved contacts are ignored", path.display());
            return Vec::new();
        }
    }
    decode(&text).unwrap_or_else(|line| {
        tracing::warn!("{}:{line}: not a contact; saved contacts are ignored", path.display());
        Vec::new()
    })
}

/// Writes the contacts to `dir`, whole or not at all.
fn store(dir: &Path, contacts: &[Contact]) -> io::Result<()> {
    let aside = dir.join(format!("{FILE}.new"));
    fs::write(&aside, encode(contacts))?;
    fs::rename(&aside, dir.join(FILE))
}

fn encode(contacts: &[Contact]) -> String {
    let mut text = format!("{HEADER}\n");
    for Contact { identity, addr, slot, peer_port, services } in contacts {
        for octet in identity.0 {
            let _ = write!(text, "{octet:02x}");
        }
        let _ = writeln!(text, " {addr} {slot} {peer_port} {}", services.0);
    }
    text
}

/// The contacts, or the number of the first line that is none.
fn decode(text: &str) -> Result<Vec<Contact>, usize> {
    let mut lines = text.lines().zip(1..);
    if lines.next().is_none_or(|(line, _)| line != HEADER) {
        return Err(1);
    }
    lines.map(|(line, number)| contact(line).ok_or(number)).collect()
}

fn contact(line: &str) -> Option<Contact> {
    let mut words = line.split(' ');
    let contact = Contact {
        identity: identity(words.next()?)?,
        addr: words.next()?.parse::<SocketAddr>().ok()?,
        slot: words.next()?.parse().ok()?,
        peer_port: words.next()?.parse().ok()?,
        services: Services(words.next()?.parse().ok()?),
    };
    words.next().is_none().then_some(contact)
}

fn identity(hex: &str) -> Option<Identity> {
    let mut identity = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (octet, digits) in identity.iter_mut().zip(hex.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).ok()?;
        *octet = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(Identity(identity))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some_contact() -> impl Strategy<Value = Contact> {
        any::<([u8; 32], SocketAddr, u16, u16, u8)>().prop_map(
            |(identity, mut addr, slot, peer_port, services)| {
                // These two are no part of a contact's address.
                if let SocketAddr::V6(v6) = &mut addr {
                    v6.set_flowinfo(0);
                    v6.set_scope_id(0);
                }
                let (identity, services) = (Identity(identity), Services(services));
                Contact { identity, addr, slot, peer_port, services }
            },
        )
    }

    proptest! {
        #[test]
        fn contacts_come_back_as_they_were(
            contacts in prop::collection::vec(some_contact(), 0..8),
        ) {
            prop_assert_eq!(decode(&encode(&contacts)), Ok(contacts));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String, line: String) {
            let _ = decode(&text);
            let _ = decode(&format!("{HEADER}\n{line}"));
        }
    }

    #[test]
    fn damage_is_found_and_ignored() {
        let line = format!("{} 127.0.0.1:7400 1 7400 3", "ab".repeat(32));
        let check = |text: &str, expect: Result<usize, usize>| {
            assert_eq!(decode(text).map(|contacts| contacts.len()), expect, "{text}");
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(FILE), text).unwrap();
            assert_eq!(load(dir.path()).len(), expect.unwrap_or(0));
        };
        check(&format!("{HEADER}\n{line}\n{line}\n"), Ok(2));
        check(HEADER, Ok(0));
        check("", Err(1));
        check(&line, Err(1));
        check(&format!("{HEADER}\n{line}\n{}\n", &line[1..]), Err(3));
        check(&format!("{HEADER}\n{line} more\n"), Err(2));
        check(&format!("{HEADER}\n{}\n", line.replace("7400 1", "74000 1")), Err(2));
        check(&format!("{HEADER}\n+{}\n", &line[1..].replacen("b", "é", 1)), Err(2));
    }

    #[tokio::test]
    async fn the_first_contacts_are_saved_at_once_whenever_they_come() {
        let dir = tempfile::tempdir().unwrap();
        let mut saver = Saver::load(dir.path().to_owned());
        for _ in 0..9 {
            saver.save(Vec::new()).await;
        }
        assert!(saver.due - Instant::now() <= MIN_SAVE_WAIT);
        let contact = contact(&format!("{} [::1]:7400 1 7400 3", "cd".repeat(32))).unwrap();
        saver.save(vec![contact]).await;
        assert_eq!(load(dir.path()), [contact]);
        assert!(saver.due - Instant::now() > MIN_SAVE_WAIT);
    }

    #[test]
    fn a_file_replaces_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()), []);
        let contact = contact(&format!("{} [::1]:7400 1 7400 3", "cd".repeat(32))).unwrap();
        for contacts in [&[contact, contact][..], &[contact], &[]] {
            store(dir.path(), contacts).unwrap();
            assert_eq!(load(dir.path()), contacts);
        }
        fs::write(dir.path().join(FILE), [0xff; 9]).unwrap();
        assert_eq!(load(dir.path()), [], "not even text");
    }
}
