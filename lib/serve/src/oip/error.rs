//! Errors as clients see them.

/// What kind of error, with its code over HTTP and over gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// The request is wrong: 400, `INVALID_ARGUMENT`.
    InvalidArgument,
    /// No valid credentials: 401, `UNAUTHENTICATED`.
    Unauthenticated,
    /// There is no such model or route: 404, `NOT_FOUND`.
    NotFound,
    /// The request is larger than a limit: 413, `RESOURCE_EXHAUSTED`.
    TooLarge,
    /// The server failed: 500, `INTERNAL`.
    Internal,
    /// What is asked for is not supported: 501, `UNIMPLEMENTED`.
    Unimplemented,
    /// Not ready, or overloaded: 503, `UNAVAILABLE`.
    Unavailable,
    /// The deadline passed: 504, `DEADLINE_EXCEEDED`.
    DeadlineExceeded,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::InvalidArgument,
        Self::Unauthenticated,
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
            Self::NotFound => 404,
            Self::TooLarge => 413,
            Self::Internal => 500,
            Self::Unimplemented => 501,
            Self::Unavailable => 503,
            Self::DeadlineExceeded => 504,
        }
    }

    /// The number of the status code over gRPC.
    #[must_use]
    pub fn grpc(self) -> i32 {
        match self {
            Self::InvalidArgument => 3,
            Self::DeadlineExceeded => 4,
            Self::NotFound => 5,
            Self::TooLarge => 8,
            Self::Unimplemented => 12,
            Self::Internal => 13,
            Self::Unavailable => 14,
            Self::Unauthenticated => 16,
        }
    }
}

/// An error that a client is told: what was found, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What kind.
    pub status: Status,
    /// The text.
    pub message: String,
}

impl Error {
    /// An error of this kind.
    #[must_use]
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// The request is wrong.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Status::InvalidArgument, message)
    }
}
