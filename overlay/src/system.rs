//! The autonomous system of this node's address, from a database in MaxMind's format (MMDB, version 2).

use std::net::IpAddr;
use std::path::Path;

use maxminddb::{MaxMindDbError, PathElement, Reader};

/// The field of a record, as in GeoLite2 ASN and DB-IP's.
const FIELD: &str = "autonomous_system_number";

/// The number of the autonomous system that `ip` is in; none if the database does not know.
///
/// # Errors
/// [`MaxMindDbError`] if the file cannot be read, or is no such database.
pub(crate) fn as_number(database: &Path, ip: IpAddr) -> Result<Option<u32>, MaxMindDbError> {
    let reader = Reader::open_readfile(database)?;
    if ip.is_ipv6() && reader.metadata().ip_version == 4 {
        return Ok(None);
    }
    reader.lookup(ip)?.decode_path(&[PathElement::Key(FIELD)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Vec<u8> {
        let length = u8::try_from(text.len()).expect("below 29, which is as short as it can be");
        [&[0x40 | length], text.as_bytes()].concat()
    }

    /// A database of IPv4 that gives all addresses the same record of one field.
    fn database(field: &str, number: u32) -> Vec<u8> {
        let field = [&[0xe1][..], &text(field), &[0xc4], &number.to_be_bytes()].concat();
        // One node, both of whose records lead to the field.
        let tree = [0, 0, 17, 0, 0, 17];
        let uint16 = |value| vec![0xa2, 0, value];
        let metadata = [
            ("binary_format_major_version", uint16(2)),
            ("binary_format_minor_version", uint16(0)),
            ("build_epoch", vec![8, 2, 0, 0, 0, 0, 0, 0, 0, 1]),
            ("database_type", text("test")),
            ("description", vec![0xe0]),
            ("ip_version", uint16(4)),
            ("languages", vec![0, 4]),
            ("node_count", vec![0xc4, 0, 0, 0, 1]),
            ("record_size", uint16(24)),
        ];
        let pairs = metadata.map(|(key, value)| [text(key), value].concat()).concat();
        let marker = b"\xab\xcd\xefMaxMind.com";
        [&tree[..], &[0; 16], &field, marker, &[0xe9], &pairs].concat()
    }

    #[test]
    fn a_database_gives_the_number_or_says_why_not() {
        let check = |octets: &[u8], ip: &str, expect: Option<Option<u32>>| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), octets).unwrap();
            let number = as_number(file.path(), ip.parse().unwrap());
            assert_eq!(number.as_ref().ok(), expect.as_ref(), "{ip} {number:?}");
        };
        let good = database(FIELD, 64_496);
        check(&good, "192.0.2.1", Some(Some(64_496)));
        check(&good, "2001:db8::1", Some(None));
        check(&database("city", 1), "192.0.2.1", Some(None));
        check(b"", "192.0.2.1", None);
        check(b"no database", "192.0.2.1", None);
        check(&good[..good.len() / 2], "192.0.2.1", None);
        assert!(as_number(Path::new("/no/such/file"), "192.0.2.1".parse().unwrap()).is_err());
    }
}
