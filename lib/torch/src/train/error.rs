//! The errors of training.

use std::io;
use std::path::PathBuf;

use parm::codes::CodeError;
use tch::TchError;

use crate::model::{ModelError, NotTrainable};
use crate::network::{CheckpointError, ShapeError};
use crate::numbers::HoldError;

/// An error of a training.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The number of labels, values, boxes or predictions is not that of queries.
    #[error("found {found} {what}, expected {expected}: one for each row of data")]
    Count {
        /// What is counted.
        what: &'static str,
        /// Their number.
        found: usize,
        /// The number of rows of data.
        expected: usize,
    },
    /// A row with infinity or NaN.
    #[error("row {row}: found {found}, expected finite numbers")]
    NotFinite {
        /// The number.
        found: f32,
        /// Its row, from 0.
        row: usize,
    },
    /// Too few rows.
    #[error(
        "found {found} rows to learn from and {validation} for validation, expected at least {expected} of each"
    )]
    TooFew {
        /// The number of training rows.
        found: usize,
        /// The number of validation rows.
        validation: usize,
        /// The number of rows of one group.
        expected: usize,
    },
    /// A label that is not a class.
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
    /// Values of another shape.
    #[error("found rows of {found} values, expected {expected} as the predictions have")]
    Values {
        /// The values of a row.
        found: usize,
        /// The values of a prediction.
        expected: usize,
    },
    /// Rows that cannot be tiled.
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
        /// The most pixels by which images are moved.
        shift: usize,
    },
    /// The loss does not depend on the parameters.
    #[error(
        "found outputs that do not depend on the parameters by way of gradients (argmax, integers, detach, \
         torch.no_grad), expected a model that can be trained"
    )]
    NoGradient,
    /// Outputs that are no real numbers.
    #[error(
        "found complex outputs, expected real numbers: export a model that returns their real part or magnitude"
    )]
    Complex,
    /// No network is to be trained.
    #[error("found nothing to train, expected an encoder, a decoder, a parity model or a deployed model")]
    Nothing,
    /// The loss needs labels, and there are none.
    #[error("found no labels, expected them for the cross-entropy")]
    Unlabelled,
    /// The training was stopped; its checkpoint is written.
    #[error("stopped in epoch {}; --resume continues there", epoch + 1)]
    Stopped {
        /// The number of finished epochs.
        epoch: u32,
    },
    /// The shape of rows differs from that of the deployed model's queries.
    #[error("found rows of shape {found:?}, expected {expected:?} of the deployed model")]
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
        /// The number of queries.
        rows: i64,
    },
    /// The initial weights belong to other layers.
    #[error("found initial weights of {found}, expected {expected}")]
    Initial {
        /// The layers of the initial model.
        found: String,
        /// The layers of the model to train.
        expected: String,
    },
    /// A model that cannot be trained.
    #[error(transparent)]
    NotTrainable(#[from] NotTrainable),
    /// Parameters that cannot be held.
    #[error(transparent)]
    Hold(HoldError),
    /// The outputs of a model to train are not as large as the predictions.
    #[error("found outputs of shape {found:?} for one row, expected {expected:?} as of the predictions")]
    Outputs {
        /// The shape found.
        found: Vec<usize>,
        /// The shape of a prediction.
        expected: Vec<usize>,
    },
    /// Rows that do not fit the network to train.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The checkpoint of another training.
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
    /// A model that cannot be written.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The run's folder cannot be used.
    #[error("{}: {error}", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// Weights that are not a code.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// libtorch refused to compute.
    #[error("libtorch: {}", crate::one_line(&.0.to_string()))]
    Torch(TchError),
}

// The source is left out, since it has stack traces.
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
