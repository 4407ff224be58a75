//! Digests of header fields, in the one form that all nodes agree on.

use blake3::Hasher;

/// What a digest of fields is of, so that none stands for another (BLAKE3 paper, section 2.3).
const CONTEXT: &str = "coralline receipt v1: fields";

/// The digest of header fields, for [`crate::Subject`].
///
/// The canonical form: names in lower case and in ascending order of their octets; fields of one name in
/// the order in which they stand in the header section; of each the length of its name and of its value as
/// 32 bits, little-endian, each followed by its octets. It is hashed by BLAKE3 in the mode for deriving keys.
#[must_use]
pub fn fields_digest<'a>(fields: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> [u8; 32] {
    let fields = fields.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
    let mut fields: Vec<_> = fields.collect();
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut hasher = Hasher::new_derive_key(CONTEXT);
    for (name, value) in &fields {
        for octets in [name.as_bytes(), value] {
            let length = u32::try_from(octets.len()).unwrap_or(u32::MAX);
            hasher.update(&length.to_le_bytes()).update(octets);
        }
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&str, &str)]) -> [u8; 32] {
        fields_digest(fields.iter().map(|(name, value)| (*name, value.as_bytes())))
    }

    #[test]
    fn only_what_means_something_changes_it() {
        let one = of(&[("etag", "\"x\""), ("vary", "a"), ("vary", "b")]);
        assert_eq!(one, of(&[("Vary", "a"), ("ETag", "\"x\""), ("vary", "b")]));
        for other in [
            &[("etag", "\"x\""), ("vary", "b"), ("vary", "a")][..],
            &[("etag", "\"x\""), ("vary", "a")],
            &[("etag", "\"x\""), ("vary", "a"), ("vary", "b"), ("vary", "")],
            &[("etag", "\"x\"vary"), ("", "a"), ("vary", "b")],
            &[("etag", "\"X\""), ("vary", "a"), ("vary", "b")],
        ] {
            assert_ne!(one, of(other), "{other:?}");
        }
    }
}
