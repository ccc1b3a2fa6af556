//! Errors of the protocol.

use std::time::Duration;

/// The kind of an error, with its status codes over HTTP and gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// The request is invalid: 400, `INVALID_ARGUMENT`.
    InvalidArgument,
    /// No valid credentials: 401, `UNAUTHENTICATED`.
    Unauthenticated,
    /// The operation is disabled: 403, `PERMISSION_DENIED`.
    Forbidden,
    /// There is no such model or route: 404, `NOT_FOUND`.
    NotFound,
    /// The request is larger than a limit: 413, `RESOURCE_EXHAUSTED`.
    TooLarge,
    /// The server failed: 500, `INTERNAL`.
    Internal,
    /// The operation is not supported: 501, `UNIMPLEMENTED`.
    Unimplemented,
    /// Not ready, or overloaded: 503, `UNAVAILABLE`.
    Unavailable,
    /// The deadline passed: 504, `DEADLINE_EXCEEDED`.
    DeadlineExceeded,
}

impl Status {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::InvalidArgument,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::TooLarge,
        Self::Internal,
        Self::Unimplemented,
        Self::Unavailable,
        Self::DeadlineExceeded,
    ];

    /// The status code over HTTP.
    #[must_use]
    pub fn http(self) -> u16 {
        match self {
            Self::InvalidArgument => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::TooLarge => 413,
            Self::Internal => 500,
            Self::Unimplemented => 501,
            Self::Unavailable => 503,
            Self::DeadlineExceeded => 504,
        }
    }

    /// The kind of an HTTP status code other than success. Unknown codes from 400 to 499 are
    /// `InvalidArgument`, all others `Internal`.
    #[must_use]
    pub fn from_http(code: u16) -> Self {
        match code {
            401 => Self::Unauthenticated,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            408 | 504 => Self::DeadlineExceeded,
            413 => Self::TooLarge,
            429 | 502 | 503 => Self::Unavailable,
            501 => Self::Unimplemented,
            400..=499 => Self::InvalidArgument,
            _ => Self::Internal,
        }
    }

    /// The kind of a gRPC status code other than OK.
    #[must_use]
    pub(crate) fn from_grpc(code: i32) -> Self {
        match code {
            // INVALID_ARGUMENT, ALREADY_EXISTS, FAILED_PRECONDITION, OUT_OF_RANGE
            3 | 6 | 9 | 11 => Self::InvalidArgument,
            4 => Self::DeadlineExceeded,
            5 => Self::NotFound,
            7 => Self::Forbidden,
            16 => Self::Unauthenticated,
            8 => Self::TooLarge,
            12 => Self::Unimplemented,
            // CANCELLED, ABORTED, UNAVAILABLE
            1 | 10 | 14 => Self::Unavailable,
            _ => Self::Internal,
        }
    }

    /// The number of the status code over gRPC.
    #[must_use]
    pub fn grpc(self) -> i32 {
        match self {
            Self::InvalidArgument => 3,
            Self::DeadlineExceeded => 4,
            Self::NotFound => 5,
            Self::Forbidden => 7,
            Self::TooLarge => 8,
            Self::Unimplemented => 12,
            Self::Internal => 13,
            Self::Unavailable => 14,
            Self::Unauthenticated => 16,
        }
    }
}

/// The most bytes of a message. Longer ones quote the client's data, and are cut.
const LONGEST: usize = 1000;

/// An error for a client: what was found, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Its kind.
    pub status: Status,
    /// The text.
    pub message: String,
    /// The HTTP status code that a server sent, if it differs from that of `status`.
    pub code: Option<u16>,
    /// The gRPC status code that a server sent, if it did.
    pub grpc_code: Option<i32>,
    /// When the client may try again, if that is known.
    pub retry_after: Option<Duration>,
}

/// The names of gRPC's status codes, from 0.
const GRPC: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl Error {
    /// An error of this kind. A message of more than 1000 bytes is cut.
    #[must_use]
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > LONGEST {
            message.truncate(message.floor_char_boundary(LONGEST));
            message.push('…');
            message.shrink_to_fit();
        }
        Self { status, message, code: None, grpc_code: None, retry_after: None }
    }

    /// The server is overloaded or not ready; the client may try again after this time.
    #[must_use]
    pub fn unavailable(message: impl Into<String>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(Status::Unavailable, message) }
    }

    /// The error of an HTTP response with this status code.
    #[must_use]
    pub fn from_http(code: u16, message: impl Into<String>) -> Self {
        let error = Self::new(Status::from_http(code), message);
        Self { code: Some(code).filter(|&code| code != error.status.http()), ..error }
    }

    /// The name of the gRPC status code that a server sent, or its number if gRPC does not know it; none if the server
    /// does not speak gRPC.
    #[must_use]
    pub fn grpc_name(&self) -> Option<String> {
        let code = self.grpc_code?;
        let name = usize::try_from(code).ok().and_then(|code| GRPC.get(code));
        Some(name.map_or_else(|| code.to_string(), |&name| name.to_owned()))
    }

    /// The HTTP status code: the one that was received, or else that of `status`.
    #[must_use]
    pub fn http(&self) -> u16 {
        self.code.unwrap_or_else(|| self.status.http())
    }

    /// The request is invalid.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Status::InvalidArgument, message)
    }
}

impl From<parm_config::UnknownDatatype> for Error {
    fn from(unknown: parm_config::UnknownDatatype) -> Self {
        Self::invalid(unknown.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_convert_both_ways() {
        for status in Status::ALL {
            assert_eq!(Status::from_http(status.http()), status);
            assert_eq!(Status::from_grpc(status.grpc()), status);
        }
        // Codes that only other servers use.
        for (code, status) in [
            (422, Status::InvalidArgument),
            (403, Status::Forbidden),
            (408, Status::DeadlineExceeded),
            (429, Status::Unavailable),
            (502, Status::Unavailable),
            (500, Status::Internal),
            (302, Status::Internal),
        ] {
            assert_eq!(Status::from_http(code), status, "{code}");
        }
        for (code, status) in [(1, Status::Unavailable), (2, Status::Internal), (9, Status::InvalidArgument)]
        {
            assert_eq!(Status::from_grpc(code), status, "{code}");
        }
    }

    #[test]
    fn grpc_codes_have_names() {
        let name = |grpc_code| Error { grpc_code, ..Error::invalid("no") }.grpc_name();
        let names = [None, Some(0), Some(8), Some(16), Some(17), Some(-1)].map(name);
        let expected =
            [None, Some("OK"), Some("RESOURCE_EXHAUSTED"), Some("UNAUTHENTICATED"), Some("17"), Some("-1")];
        assert_eq!(names.each_ref().map(Option::as_deref), expected);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let error = Error::invalid("é".repeat(100_000));
        assert_eq!(error.message, format!("{}…", "é".repeat(500)));
        assert!(error.message.capacity() < 2000);
        assert_eq!(Error::invalid("a".repeat(1000)).message.len(), 1000);
    }
}
