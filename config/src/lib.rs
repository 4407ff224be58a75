//! What an operator may say: typed values, their defaults and the reasons for them.
//!
//! | file | holds |
//! |---|---|
//! | `section` | [`Config`] and its sections, with all defaults |
//! | `rules` | [`Rules`], the constants of the index |
//! | `value` | the types that TOML has no word for: sizes, times, names |
//! | `key` | the one table of keys: name, help, how it is read and printed |
//! | `parse` | from words to fields, with the range of each |
//! | `load` | file, then `CORALLINE_*`, then `--set`; the last one wins |
//! | `file`, `draft`, `suggest` | TOML with lines; what was said where; the key that was meant |
//! | `check` | what no key can judge alone |
//! | `print` | the reference and `config show` |
//!
//! A default is written once, in `Default`; the reference is printed from it, and a test reads it
//! back. All mistakes are told at once, one line each, with file, line and key. An unknown variable
//! `CORALLINE_*` is a mistake as an unknown key is, except those that Kubernetes sets by itself for
//! a service called `coralline`.

mod check;
mod draft;
mod error;
mod file;
mod key;
mod limits;
mod load;
mod parse;
mod print;
mod rules;
mod section;
mod suggest;
mod value;

pub use error::{Errors, Mistake, Place};
pub use limits::{COPIES, VALUES_PER_KEY};
pub use load::environment;
pub use rules::Rules;
pub use section::{Admin, Cache, Config, Dns, Http, Https, Origin, Overlay, Peer, Site};
pub use value::{ByteSize, HostPort, InvalidValue, Suffix};
