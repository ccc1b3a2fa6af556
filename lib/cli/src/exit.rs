//! Exit codes.

use std::process::ExitCode;

/// The result of a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Done,
    /// The tool failed, with a message.
    Failed,
    /// The command line is wrong, with a message.
    Usage,
    /// The tool finished, but some predictions could not be reconstructed.
    Unsolved,
    /// The tool measured, and the results are not what was expected.
    Unmet,
    /// The tool saved its work, and ended because of this signal.
    Signal(u8),
}

impl Exit {
    /// The exit code; for a signal 128 plus its number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unsolved => 3,
            Self::Unmet => 4,
            Self::Signal(signal) => 128_u8.saturating_add(signal),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A wrong combination of options: an error that ends a tool with [`Exit::Usage`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

impl Usage {
    /// A usage error as the error type of a tool.
    pub fn error(message: impl Into<String>) -> anyhow::Error {
        Self(message.into()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn codes_are_those_of_the_manual() {
        let codes = [Exit::Done, Exit::Failed, Exit::Usage, Exit::Unsolved, Exit::Unmet, Exit::Signal(2)];
        assert_eq!(codes.map(Exit::code), [0, 1, 2, 3, 4, 130]);
    }
}
