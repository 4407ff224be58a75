//! Who this node is: an Ed25519 key in the state directory, and the X25519 key that follows from it.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::contact::Identity;

/// The file within the state directory: 32 octets, the Ed25519 seed (RFC 8032, section 5.1.5).
const FILE: &str = "identity.key";

/// What an Ed25519 signature of a node is made over, before the nonce; no other use shares it.
const I_AM_CONTEXT: &[u8] = b"coralline overlay v1: I am\0";

/// What it is made over before a message to the whole network.
const BROADCAST_CONTEXT: &[u8] = b"coralline overlay v1: broadcast\0";

/// The secret of a node.
#[derive(Clone)]
pub(crate) struct Keys {
    signing: SigningKey,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file exists, but is no key.
    #[error(
        "{path}: expected 32 octets, found {found}; \
         restore it from a copy, or remove it to start as a new node"
    )]
    Size {
        /// The file.
        path: PathBuf,
        /// Its length, or one more than was read of it.
        found: u64,
    },
    /// The file or its directory cannot be read or written.
    #[error("{path}: {source}; let this user read and write it, or set another state_dir")]
    State {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Keys {
    /// The key of an Ed25519 seed.
    pub(crate) fn from_seed(seed: &[u8; 32]) -> Self {
        Self { signing: SigningKey::from_bytes(seed) }
    }

    /// Reads the key in `dir`, which is made with a key from `fresh` if there is none.
    ///
    /// # Errors
    /// [`KeyError`]; a file that is no key is never replaced, as it may be a damaged identity.
    pub(crate) fn load_or_create(dir: &Path, fresh: &[u8; 32]) -> Result<Self, KeyError> {
        let state = |path: &Path| {
            let path = path.to_owned();
            move |source| KeyError::State { path, source }
        };
        fs::create_dir_all(dir).map_err(state(dir))?;
        let path = dir.join(FILE);
        match read(&path) {
            Ok(result) => return result,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(state(&path)(error)),
        }
        create(dir, &path, fresh).map_err(state(dir))?;
        // Another process may have been first; what is in the file counts.
        read(&path).map_err(state(&path))?
    }

    /// The public key: who this node is to others.
    pub(crate) fn identity(&self) -> Identity {
        Identity(self.signing.verifying_key().to_bytes())
    }

    /// The X25519 secret: the first half of SHA-512 of the seed, as Ed25519 itself uses it. Noise
    /// clamps it (RFC 7748, section 5).
    pub(crate) fn x25519_secret(&self) -> [u8; 32] {
        self.signing.to_scalar_bytes()
    }

    /// Proves to who chose the nonce that this node has its identity.
    pub(crate) fn sign_i_am(&self, nonce: &[u8; 16]) -> [u8; 64] {
        self.sign(&[I_AM_CONTEXT, nonce].concat())
    }

    /// Signs a message to the whole network.
    pub(crate) fn sign_broadcast(&self, message: &[u8]) -> [u8; 64] {
        self.sign(&[BROADCAST_CONTEXT, message].concat())
    }

    /// Signs with the identity. Each use begins its messages with a context that no other use has.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({:?})", self.identity())
    }
}

/// The X25519 public key of an identity, by the birational map (RFC 7748, section 4.1); nothing if
/// it is no point, not its canonical encoding, or of small order.
pub(crate) fn x25519_public(identity: &Identity) -> Option<[u8; 32]> {
    let key = VerifyingKey::from_bytes(&identity.0).ok()?;
    let canonical = key.to_edwards().compress().to_bytes() == identity.0;
    (canonical && !key.is_weak()).then(|| key.to_montgomery().to_bytes())
}

/// Whether `identity` has signed `nonce` as [`Keys::sign_i_am`] does.
pub(crate) fn verify_i_am(identity: &Identity, nonce: &[u8; 16], signature: &[u8; 64]) -> bool {
    verify(identity, &[I_AM_CONTEXT, nonce].concat(), signature)
}

/// Whether `identity` has signed `message` as [`Keys::sign_broadcast`] does.
pub(crate) fn verify_broadcast(identity: &Identity, message: &[u8], signature: &[u8; 64]) -> bool {
    verify(identity, &[BROADCAST_CONTEXT, message].concat(), signature)
}

fn verify(identity: &Identity, octets: &[u8], signature: &[u8; 64]) -> bool {
    x25519_public(identity).is_some()
        && VerifyingKey::from_bytes(&identity.0)
            .is_ok_and(|key| key.verify_strict(octets, &Signature::from_bytes(signature)).is_ok())
}

fn read(path: &Path) -> io::Result<Result<Keys, KeyError>> {
    let mut bytes = Vec::with_capacity(33);
    File::open(path)?.take(33).read_to_end(&mut bytes)?;
    Ok(match <[u8; 32]>::try_from(bytes.as_slice()) {
        Ok(seed) => Ok(Keys::from_seed(&seed)),
        Err(_) => Err(KeyError::Size { path: path.to_owned(), found: bytes.len() as u64 }),
    })
}

/// Writes the key aside and links it into place, so that no crash leaves half a key and no second
/// process replaces the key that a first one has taken.
fn create(dir: &Path, path: &Path, seed: &[u8; 32]) -> io::Result<()> {
    let aside = dir.join(format!("{FILE}.{}.new", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    for_owner_alone(&mut options);
    let mut file = options.open(&aside)?;
    file.write_all(seed)?;
    file.sync_all()?;
    let linked = match fs::hard_link(&aside, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Some file systems know no links; a rename is atomic as well.
        Err(_) => return fs::rename(&aside, path),
        Ok(()) => Ok(()),
    };
    fs::remove_file(&aside)?;
    linked
}

#[cfg(unix)]
fn for_owner_alone(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600);
}

#[cfg(not(unix))]
fn for_owner_alone(_: &mut OpenOptions) {}

#[cfg(test)]
mod tests {
    use curve25519_dalek::montgomery::MontgomeryPoint;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn secret_and_public_keys_agree(seed: [u8; 32], nonce: [u8; 16]) {
            let keys = Keys::from_seed(&seed);
            let public = MontgomeryPoint::mul_base_clamped(keys.x25519_secret()).to_bytes();
            prop_assert_eq!(x25519_public(&keys.identity()), Some(public));
            let mut signature = keys.sign_i_am(&nonce);
            prop_assert!(verify_i_am(&keys.identity(), &nonce, &signature));
            signature[usize::from(nonce[0] % 64)] ^= 1;
            prop_assert!(!verify_i_am(&keys.identity(), &nonce, &signature));
        }

        #[test]
        fn any_octets_are_an_identity_or_refused(bytes: [u8; 32]) {
            let _ = x25519_public(&Identity(bytes));
        }
    }

    #[test]
    fn weak_and_non_canonical_identities_are_refused() {
        let mut one = [0; 32];
        one[0] = 1;
        assert_eq!(x25519_public(&Identity(one)), None, "the neutral element");
        assert_eq!(x25519_public(&Identity([0; 32])), None, "a point of order 4");
        assert_eq!(x25519_public(&Identity([0xff; 32])), None, "y over the field's prime");
    }

    #[test]
    fn a_key_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/b");
        let first = Keys::load_or_create(&state, &[1; 32]).unwrap().identity();
        let second = Keys::load_or_create(&state, &[2; 32]).unwrap().identity();
        assert_eq!(first, second);
        let names: Vec<_> = fs::read_dir(&state).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, [FILE], "nothing is left beside it");
    }

    #[cfg(unix)]
    #[test]
    fn a_key_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        Keys::load_or_create(dir.path(), &[1; 32]).unwrap();
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_of_a_wrong_size_is_an_error_and_stays() {
        for size in [0, 5, 31, 33, 4_096] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(FILE);
            fs::write(&path, vec![7; size]).unwrap();
            let error = Keys::load_or_create(dir.path(), &[1; 32]).unwrap_err().to_string();
            assert!(error.contains("expected 32 octets"), "{error}");
            assert!(!error.contains('\n') && error.contains("identity.key"), "{error}");
            assert_eq!(fs::read(&path).unwrap().len(), size);
        }
    }

    #[test]
    fn a_state_directory_that_is_a_file_is_an_error_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state");
        fs::write(&file, b"").unwrap();
        let error = Keys::load_or_create(&file, &[1; 32]).unwrap_err().to_string();
        assert!(error.contains("state_dir") && error.contains("state:"), "{error}");
    }
}
