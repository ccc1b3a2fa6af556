//! What can keep a training from beginning, going on or ending.

use std::io;
use std::path::PathBuf;

use parm::codes::CodeError;
use tch::TchError;

use crate::network::CheckpointError;
use crate::network::ShapeError;

/// A training that cannot begin, go on or end.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Rows of other numbers than there are queries.
    #[error("found {found} {what}, expected {expected}: one for each row of data")]
    Count {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// Rows of data.
        expected: usize,
    },
    /// Rows with infinity or what is no number.
    #[error("row {row}: found {found}, expected finite numbers")]
    NotFinite {
        /// The number.
        found: f32,
        /// Its row, from 0.
        row: usize,
    },
    /// Nothing to learn from.
    #[error(
        "found {found} rows to learn from and {validation} for validation, expected at least {expected} of each"
    )]
    TooFew {
        /// Rows that are left to learn from.
        found: usize,
        /// Rows kept for validation.
        validation: usize,
        /// Rows of one group.
        expected: usize,
    },
    /// A label beyond any class.
    #[error("found label {found} at row {row}, expected 0 to {}", classes - 1)]
    Label {
        /// The label.
        found: i64,
        /// Its row, from 0.
        row: usize,
        /// Classes of the predictions.
        classes: i64,
    },
    /// Boxes of another shape.
    #[error("found rows of shape {0:?}, expected boxes [4]: corner, width and height")]
    Boxes(Vec<usize>),
    /// Rows that make no tiles.
    #[error(transparent)]
    Tiles(#[from] super::TilesError),
    /// Rows that cannot be moved or mirrored.
    #[error(
        "found rows of shape {found:?}, expected images [height, width] or [channels, height, width] of more \
         than {shift} pixels on each side, to be moved by as many"
    )]
    Augment {
        /// The shape found.
        found: Vec<usize>,
        /// The most pixels that images are to be moved by.
        shift: usize,
    },
    /// No network that learns.
    #[error("found nothing to train, expected an encoder, a decoder or a parity model")]
    Nothing,
    /// A loss that needs what is not known.
    #[error("found no labels, expected them for the cross-entropy")]
    Unlabelled,
    /// A training that was asked to stop; its checkpoint is written.
    #[error("stopped in epoch {}; --resume goes on from there", epoch + 1)]
    Stopped {
        /// Epochs that are done.
        epoch: u32,
    },
    /// A deployed model whose queries are others.
    #[error("found rows of shape {found:?}, expected {expected:?} as the deployed model asks for")]
    QueryShape {
        /// The shape of a row of data.
        found: Vec<usize>,
        /// The deployed model's.
        expected: Vec<usize>,
    },
    /// Predictions without a row for each query, or of changing shape.
    #[error("found predictions of shape {found:?} for {rows} rows, expected one row each along axis 0")]
    Predictions {
        /// The shape found.
        found: Vec<i64>,
        /// Rows asked.
        rows: i64,
    },
    /// Weights to begin with that belong to other layers.
    #[error("found layers {found} to begin with, expected {expected}")]
    Initial {
        /// Layers of the model to begin with.
        found: String,
        /// Layers of the model to train.
        expected: String,
    },
    /// Rows that the network to train has no layers for.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A checkpoint of a training of something else.
    #[error("{}: found a checkpoint with {name} = {found}, expected {expected}: it cannot be resumed", path.display())]
    Settings {
        /// The checkpoint.
        path: PathBuf,
        /// The setting that differs.
        name: String,
        /// Its value in the checkpoint.
        found: String,
        /// Its value now.
        expected: String,
    },
    /// A loss that is infinite or not a number.
    #[error(
        "the training diverged: found a loss of {loss} in epoch {epoch}, expected a finite one; a smaller --lr may help"
    )]
    Diverged {
        /// The epoch.
        epoch: u32,
        /// The loss.
        loss: f64,
    },
    /// A model file that cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The run's folder cannot be used.
    #[error("{}: {error}", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Weights that make no code.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// libtorch refused to compute.
    #[error("libtorch: {}", crate::one_line(&.0.to_string()))]
    Torch(TchError),
}

// Not its source: the rest of its words are stack traces.
impl From<TchError> for TrainError {
    fn from(error: TchError) -> Self {
        Self::Torch(error)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::network::ExportError;
    use crate::train::TilesError;

    #[test]
    fn of_what_libtorch_says_the_line_that_matters_is_passed_on_once() {
        let said = || TchError::Torch("sizes differ\nframe #0".into());
        let errors: [Box<dyn Error>; 4] = [
            Box::new(TrainError::from(said())),
            Box::new(TilesError::from(said())),
            Box::new(TrainError::from(TilesError::from(said()))),
            Box::new(ExportError::from(said())),
        ];
        for error in errors {
            assert_eq!(error.to_string(), "libtorch: sizes differ");
            assert!(error.source().is_none());
        }
    }
}
