//! The parts that the messages share: a bounded reader, and contacts, notes and addresses as
//! octets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::contact::{Contact, Identity, Services};
use crate::id::{Id, Key};
use crate::pointer::State;
use crate::wire::Note;

/// The octets are no message of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WireError;

const WHOLE: u8 = 1;
const LENGTH: u8 = 2;
const ROOT: u8 = 4;

pub(crate) fn put_contact(out: &mut Vec<u8>, contact: &Contact) {
    out.extend(contact.identity.0);
    put_sender(out, contact);
}

pub(crate) fn put_sender(out: &mut Vec<u8>, contact: &Contact) {
    match contact.addr.ip() {
        IpAddr::V4(v4) => {
            out.push(4);
            out.extend(v4.octets());
        }
        IpAddr::V6(v6) => {
            out.push(6);
            out.extend(v6.octets());
        }
    }
    out.extend(contact.addr.port().to_be_bytes());
    out.extend(contact.slot.to_be_bytes());
    out.extend(contact.peer_port.to_be_bytes());
    out.push(contact.services.0);
}

pub(crate) fn put_note(out: &mut Vec<u8>, note: &Note) {
    let mut flags = 0;
    if note.state == State::Whole {
        flags |= WHOLE;
    }
    if note.length.is_some() {
        flags |= LENGTH;
    }
    if note.root.is_some() {
        flags |= ROOT;
    }
    out.push(flags);
    if let Some(length) = note.length {
        out.extend(length.to_be_bytes());
    }
    if let Some(root) = note.root {
        out.extend(root);
    }
}

/// Takes octets off the front; every step may find too few.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    /// Nothing may follow.
    pub(crate) const fn end(&self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(WireError)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A length, at most `max`, and so many octets.
    pub(crate) fn octets(&mut self, max: usize) -> Result<&'a [u8], WireError> {
        let length = usize::from(self.u16()?);
        if length > max {
            return Err(WireError);
        }
        let (octets, rest) = self.rest.split_at_checked(length).ok_or(WireError)?;
        self.rest = rest;
        Ok(octets)
    }

    /// Zero or one; anything else would be a second spelling.
    pub(crate) fn flag(&mut self) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError),
        }
    }

    /// The length of a list, at most `max`, checked before anything is allocated.
    pub(crate) fn count(&mut self, max: usize) -> Result<usize, WireError> {
        let count = usize::from(self.u8()?);
        if count <= max { Ok(count) } else { Err(WireError) }
    }

    pub(crate) fn key(&mut self) -> Result<Key, WireError> {
        Ok(Id(self.array()?))
    }

    pub(crate) fn contact(&mut self) -> Result<Contact, WireError> {
        let identity = Identity(self.array()?);
        self.sender(identity)
    }

    /// A contact whose identity is already known.
    pub(crate) fn sender(&mut self, identity: Identity) -> Result<Contact, WireError> {
        let ip = match self.u8()? {
            4 => IpAddr::V4(Ipv4Addr::from(self.array()?)),
            6 => IpAddr::V6(Ipv6Addr::from(self.array()?)),
            _ => return Err(WireError),
        };
        let addr = SocketAddr::new(ip, self.u16()?);
        let (slot, peer_port) = (self.u16()?, self.u16()?);
        Ok(Contact { identity, addr, slot, peer_port, services: Services(self.u8()?) })
    }

    pub(crate) fn note(&mut self) -> Result<Note, WireError> {
        let flags = self.u8()?;
        if flags > WHOLE | LENGTH | ROOT {
            return Err(WireError);
        }
        let state = if flags & WHOLE != 0 { State::Whole } else { State::Receiving };
        let length = if flags & LENGTH != 0 { Some(self.u64()?) } else { None };
        let root = if flags & ROOT != 0 { Some(self.array()?) } else { None };
        Ok(Note { state, length, root })
    }
}
