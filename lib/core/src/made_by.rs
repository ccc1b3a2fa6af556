//! What made a file: the program and its version, the command line, all options, and the inputs.
//!
//! Every report of a run has it under the key `made_by`. It has no time of day, so that equal runs write equal files.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The program that made a file, and what it was called with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MadeBy {
    /// The version of the program.
    pub version: String,
    /// The commit that it was built from, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The command line, quoted for a shell.
    pub command: String,
    /// The value of each option, whether it was given or is a default; null if there is none. Files of version 0.1.0
    /// do not have them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, Value>,
    /// The files and pipes that were read, in that order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<MadeFrom>,
}

/// An input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MadeFrom {
    /// The path as it was given, or `-` for standard input.
    pub name: String,
    /// SHA-256 of its bytes, in hexadecimal; none for a pipe that was not read to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// True if it is not a regular file that can be read again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pipe: bool,
}
