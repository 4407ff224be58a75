//! The secret that shows at the admin listener that somebody may change something: a file that only
//! this node's user can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file within the state directory.
const FILE: &str = "admin.token";
/// Octets of randomness; twice as many hexadecimal digits.
const SIZE: usize = 32;

/// A token. It is never printed.
pub(crate) struct Token(String);

impl Token {
    /// Where the token of a node with this state directory is.
    pub(crate) fn path(state_dir: &Path) -> PathBuf {
        state_dir.join(FILE)
    }

    /// The token of an earlier run, or a new one. The directory exists.
    ///
    /// # Errors
    /// A file that cannot be read or made, or that holds no token.
    pub(crate) fn load_or_create(state_dir: &Path) -> io::Result<Self> {
        match Self::load(state_dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            loaded => return loaded,
        }
        let mut secret = [0; SIZE];
        getrandom::fill(&mut secret).map_err(io::Error::other)?;
        let digits: String = secret.iter().map(|octet| format!("{octet:02x}")).collect();
        // Aside first: whoever reads meanwhile finds no file, or a whole one.
        let aside = state_dir.join(format!("{FILE}.new"));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&aside)?.write_all(format!("{digits}\n").as_bytes())?;
        fs::rename(&aside, Self::path(state_dir))?;
        Ok(Self(digits))
    }

    /// The token of the node that has this state directory.
    ///
    /// # Errors
    /// As above; there is none before the node has run.
    pub(crate) fn load(state_dir: &Path) -> io::Result<Self> {
        let mut text = String::new();
        File::open(Self::path(state_dir))?.take(1024).read_to_string(&mut text)?;
        let digits = text.trim_end();
        let is_token = digits.len() == 2 * SIZE && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "no token is in it; remove it");
        is_token.then(|| Self(digits.to_owned())).ok_or_else(wrong)
    }

    /// As it is shown.
    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_stays_the_same_and_is_nobody_elses_to_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Token::load(dir.path()).is_err());
        let token = Token::load_or_create(dir.path()).unwrap();
        let again = Token::load_or_create(dir.path()).unwrap();
        assert_eq!(token.0, again.0);
        let mode = fs::metadata(Token::path(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(Token::path(dir.path()), "short").unwrap();
        assert!(Token::load_or_create(dir.path()).is_err(), "it is not replaced unasked");
    }
}
