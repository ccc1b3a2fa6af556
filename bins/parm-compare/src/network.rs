//! Learned encoders and decoders, which `parm-infer` runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parm::Dtype;
use parm::codes::{Network, NetworkError};
use parm::npy::RowLayout;
use parm_cli::options::{Compute, ModelOptions};
use parm_cli::sibling;
use parm_cli::tools::compare::Compare;

struct Sibling {
    file: PathBuf,
    compute: Compute,
    /// The shape of a group.
    group: Vec<usize>,
}

/// What loads a network. Its file is only read when it is run.
pub(crate) fn loader(
    options: &Compare,
) -> impl Fn(&Path, &[usize]) -> Result<Arc<dyn Network>, NetworkError> {
    let compute = options.compute;
    move |file, group| Ok(Arc::new(Sibling { file: file.to_owned(), compute, group: group.to_vec() }))
}

impl Network for Sibling {
    fn run(&self, groups: usize, values: &[f32]) -> Result<Vec<f32>, NetworkError> {
        let layout = RowLayout::new(Dtype::F32, self.group.clone());
        let feed = |out: &mut parm::npy::RowWriter<_>| Ok(out.write(values)?);
        let about = ModelOptions::default();
        let outputs = sibling::infer(&self.file, &about, self.compute, layout, groups as u64, feed);
        outputs.map(|outputs| outputs.values).map_err(|error| NetworkError(format!("{error:#}")))
    }
}
