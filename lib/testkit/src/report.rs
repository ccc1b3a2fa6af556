//! What reports say of the run that they are about.

use std::path::Path;

use parm::MadeBy;
use parm::hash::sha256;
use serde_json::Value;

/// The `made_by` of a report that a tool wrote in this folder, and the names of its inputs. Each file must have the hash
/// of its bytes.
///
/// # Panics
/// If the report has none, or one of another version, or other hashes.
#[must_use]
pub fn made_by(report: &Value, folder: &Path) -> (MadeBy, Vec<String>) {
    let made_by: MadeBy = serde_json::from_value(report["made_by"].clone()).expect("made_by");
    assert_eq!(made_by.version, env!("CARGO_PKG_VERSION"));
    for input in made_by.inputs.iter().filter(|input| !input.pipe) {
        assert_eq!(input.sha256, sha256(&folder.join(&input.name)).ok(), "{}", input.name);
    }
    let names = made_by.inputs.iter().map(|input| input.name.clone()).collect();
    (made_by, names)
}
