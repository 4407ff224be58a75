//! What became of a query: the words of the RFCs, which are the metric's labels as well.

use hickory_proto::op::ResponseCode;

/// How a query came, which bounds its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram.
    Udp,
    /// On a connection.
    Tcp,
}

/// What became of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// There is a response to send.
    Answered(Rcode),
    /// There is nothing to send.
    Dropped(Dropped),
}

/// The response codes that we give (RFC 1035 section 4.1.1, RFC 6891 section 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rcode {
    /// The answer follows, or there are no data of the type.
    NoError,
    /// The query breaks the format.
    FormErr,
    /// We could not put the answer into octets.
    ServFail,
    /// No such name: only under `ns.SUFFIX`, where nodes have their names.
    NxDomain,
    /// An operation other than a query.
    NotImp,
    /// Not our zone or class, or a transfer.
    Refused,
    /// An EDNS version other than 0.
    BadVers,
}

/// Why a query has no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dropped {
    /// Less than a header.
    Short,
    /// A TCP message longer than any query.
    Long,
    /// It is a response itself; to answer it could go on for ever.
    Response,
    /// The socket had no room for the response.
    Send,
    /// The socket failed to receive.
    Receive,
    /// More TCP connections than we hold.
    Connections,
}

impl Rcode {
    /// All, in the order of the metric.
    pub const ALL: [Self; 7] = [
        Self::NoError,
        Self::FormErr,
        Self::ServFail,
        Self::NxDomain,
        Self::NotImp,
        Self::Refused,
        Self::BadVers,
    ];

    /// As dig and the metric write it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoError => "NOERROR",
            Self::FormErr => "FORMERR",
            Self::ServFail => "SERVFAIL",
            Self::NxDomain => "NXDOMAIN",
            Self::NotImp => "NOTIMP",
            Self::Refused => "REFUSED",
            Self::BadVers => "BADVERS",
        }
    }

    pub(crate) const fn code(self) -> ResponseCode {
        match self {
            Self::NoError => ResponseCode::NoError,
            Self::FormErr => ResponseCode::FormErr,
            Self::ServFail => ResponseCode::ServFail,
            Self::NxDomain => ResponseCode::NXDomain,
            Self::NotImp => ResponseCode::NotImp,
            Self::Refused => ResponseCode::Refused,
            Self::BadVers => ResponseCode::BADVERS,
        }
    }
}

impl Dropped {
    /// All, in the order of the metric.
    pub const ALL: [Self; 6] =
        [Self::Short, Self::Long, Self::Response, Self::Send, Self::Receive, Self::Connections];

    /// As the metric writes it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Long => "long",
            Self::Response => "response",
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Connections => "connections",
        }
    }
}

impl Transport {
    /// Both, in the order of the metric.
    pub const ALL: [Self; 2] = [Self::Udp, Self::Tcp];

    /// As the metric writes it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}
