//! Directories of codes with learned parts.

use std::fs;
use std::path::Path;

use serde_json::json;

/// Makes the directory of a code of k queries and r parities that run on the deployed model, with the encoder
/// and decoder of testdata/models and the weights of `sum`.
///
/// # Panics
/// If it cannot be written.
pub fn learned(folder: &Path, (k, r): (usize, usize), encoder: Option<&str>, decoder: Option<&str>) {
    fs::create_dir_all(folder).expect("a folder can be made");
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models");
    for name in [encoder, decoder].into_iter().flatten() {
        fs::copy(models.join(name), folder.join(name)).expect("a model can be copied");
    }
    let weights = |parity: usize| (0..k).map(|slot| ((slot + 1) as f64).powi(parity as i32)).collect();
    let file = json!({
        "format": 1,
        "code": if encoder.is_some() { "learned" } else { "sum" },
        "k": k,
        "r": r,
        "weights": (0..r).map(weights).collect::<Vec<Vec<f64>>>(),
        "query_shape": [2, 3],
        "prediction_shape": [2],
        "output": "logits",
        "runs_on": "deployed",
        "parity": [],
        "encoder": encoder,
        "decoder": decoder,
        "deployed": {"sha256": "00", "name": "base.pt"},
        "scores": {"A_a": null, "A_d": null, "agreement": null, "n": 0},
        "made_by": {"version": "0", "command": "tests"},
    });
    fs::write(folder.join("code.json"), file.to_string()).expect("a code file can be written");
}
