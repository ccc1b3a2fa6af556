//! Labels, and the number of answers that are right.

use parm::dtype::Float;
use parm::score::top1;

use crate::{Datatype, InferResponse, ModelMetadata, Parameter, Tensor};

/// Labels that do not fit the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    /// The number of labels is not that of rows.
    #[error("found {found} labels for {rows} rows, expected one for each")]
    Count {
        /// The number of labels.
        found: usize,
        /// The number of rows.
        rows: usize,
    },
    /// The model has no such class.
    #[error("row {row}: found label {label}, expected one of the {classes} classes of output '{output}'")]
    Class {
        /// Its row, from 0.
        row: usize,
        /// The label.
        label: usize,
        /// The number of classes.
        classes: usize,
        /// The output with the classes.
        output: String,
    },
    /// The model has no such output.
    #[error("found no output '{name}', expected one of {expected}")]
    Output {
        /// The output.
        name: String,
        /// The outputs of the model.
        expected: String,
    },
    /// The model has several outputs, and none is chosen.
    #[error("found the outputs {0}, expected --label-output to name the one that labels are for")]
    SeveralOutputs(String),
}

/// The classes of rows, and the output that predicts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    labels: Vec<usize>,
    /// None: the only output.
    output: Option<String>,
}

/// An answer without classes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum JudgeError {
    #[error("found {found} outputs and none is '{name}'")]
    Output { found: usize, name: String },
    #[error("found {0} outputs, expected 1")]
    Outputs(usize),
    #[error("found {found} elements for {rows} rows of '{output}'")]
    Elements { found: usize, rows: usize, output: String },
    #[error("found {classes} classes in '{output}', for label {label}")]
    Classes { classes: usize, output: String, label: usize },
    #[error("found {found} in '{output}', expected numbers")]
    Datatype { found: Datatype, output: String },
}

/// The number of rows of one answer that are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Right {
    pub(super) all: usize,
    pub(super) reconstructed: usize,
}

impl Labels {
    /// Labels for this number of rows of a model; without a name they are for its only output.
    ///
    /// # Errors
    /// Labels that do not fit: see [`LabelsError`].
    pub fn new(
        labels: Vec<usize>,
        output: Option<&str>,
        metadata: &ModelMetadata,
        rows: usize,
    ) -> Result<Self, LabelsError> {
        if labels.len() != rows {
            return Err(LabelsError::Count { found: labels.len(), rows });
        }
        let names =
            || metadata.outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>().join(", ");
        let said = match (&metadata.outputs[..], output) {
            // Without metadata, the answer will show the output.
            ([], _) => None,
            ([only], None) => Some(only),
            (_, None) => return Err(LabelsError::SeveralOutputs(names())),
            (outputs, Some(name)) => match outputs.iter().find(|output| output.name == name) {
                Some(said) => Some(said),
                None => return Err(LabelsError::Output { name: name.to_owned(), expected: names() }),
            },
        };
        // Axis 0 counts rows.
        let axes = said.and_then(|said| said.shape.get(1..)).unwrap_or_default();
        let classes =
            axes.iter().try_fold(1_usize, |all, &axis| all.checked_mul(usize::try_from(axis).ok()?));
        if let (Some(said), Some(classes), false) = (said, classes, axes.is_empty())
            && let Some((row, &label)) = labels.iter().enumerate().find(|&(_, &label)| label >= classes)
        {
            return Err(LabelsError::Class { row, label, classes, output: said.name.clone() });
        }
        let output = output.map(str::to_owned).or_else(|| said.map(|said| said.name.clone()));
        Ok(Self { labels, output })
    }

    /// The number of rows of an answer that are right. `first` is the index of the request's first row.
    ///
    /// # Errors
    /// An answer without classes.
    pub(super) fn right(
        &self,
        first: u128,
        rows: usize,
        answer: &InferResponse,
    ) -> Result<Right, JudgeError> {
        let tensor = match (&self.output, &answer.outputs[..]) {
            (Some(name), outputs) => outputs.iter().find(|output| output.name == *name),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        let Some(tensor) = tensor else {
            let found = answer.outputs.len();
            return Err(match self.output.clone() {
                Some(name) => JudgeError::Output { found, name },
                None => JudgeError::Outputs(found),
            });
        };
        let values = floats(tensor)?;
        let classes = values.len() / rows.max(1);
        if classes * rows != values.len() || classes == 0 {
            return Err(JudgeError::Elements { found: values.len(), rows, output: tensor.name.clone() });
        }
        let mut right = Right { all: 0, reconstructed: 0 };
        let rebuilt: Vec<usize> = match answer.parameters.get("parm_reconstructed") {
            Some(Parameter::String(rows)) => rows.split(',').filter_map(|row| row.parse().ok()).collect(),
            _ => Vec::new(),
        };
        for (row, scores) in values.chunks_exact(classes).enumerate() {
            let of = (first + row as u128) % self.labels.len().max(1) as u128;
            let label = self.labels.get(of as usize).copied();
            if let Some(label) = label.filter(|&label| label >= classes) {
                return Err(JudgeError::Classes { classes, output: tensor.name.clone(), label });
            }
            if top1(scores) == label {
                right.all += 1;
                right.reconstructed += usize::from(rebuilt.contains(&row));
            }
        }
        Ok(right)
    }
}

fn floats(tensor: &Tensor) -> Result<Vec<f64>, JudgeError> {
    let bytes = tensor.data.contiguous();
    if tensor.datatype == Datatype::Bf16 {
        let wide = |bytes: &[u8; 2]| half::bf16::from_le_bytes(*bytes).to_f64();
        return Ok(bytes.as_chunks().0.iter().map(wide).collect());
    }
    let Some(dtype) = tensor.datatype.dtype() else {
        return Err(JudgeError::Datatype { found: tensor.datatype, output: tensor.name.clone() });
    };
    let mut values = vec![0.0; bytes.len() / dtype.size()];
    f64::decode(dtype, &bytes, &mut values);
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Chunks, Parameters, TensorMetadata};

    fn model(outputs: &[(&str, &[i64])]) -> ModelMetadata {
        let output = |&(name, shape): &(&str, &[i64])| TensorMetadata {
            name: name.to_owned(),
            datatype: Datatype::Fp32,
            shape: shape.to_vec(),
        };
        ModelMetadata { outputs: outputs.iter().map(output).collect(), ..ModelMetadata::default() }
    }

    fn tensor(name: &str, datatype: Datatype, data: Vec<u8>) -> Tensor {
        Tensor {
            name: name.to_owned(),
            datatype,
            shape: vec![],
            parameters: Parameters::default(),
            data: std::iter::once(bytes::Bytes::from(data)).collect::<Chunks>(),
        }
    }

    fn answer(outputs: Vec<Tensor>) -> InferResponse {
        InferResponse { outputs, ..InferResponse::default() }
    }

    #[test]
    fn right_rows_are_counted_and_reconstructions_apart() {
        let labels = Labels::new(vec![0, 2, 1], None, &model(&[("y", &[-1, 3])]), 3).unwrap();
        // Rows 1, 2 and 0: the last one is wrong.
        let scores = [0_u8, 1, 2, 0, 9, 3, 4, 5, 5];
        let mut said = answer(vec![tensor("y", Datatype::Uint8, scores.into())]);
        let right = |said: &InferResponse| labels.right(4, 3, said).unwrap();
        assert_eq!(right(&said), Right { all: 2, reconstructed: 0 });
        said.parameters.insert("parm_reconstructed".to_owned(), Parameter::String("0,2".to_owned()));
        assert_eq!(right(&said), Right { all: 2, reconstructed: 1 });
        let brief = scores.iter().flat_map(|&score| half::bf16::from_f64(f64::from(score)).to_le_bytes());
        said.outputs =
            vec![tensor("x", Datatype::Bool, vec![1]), tensor("y", Datatype::Bf16, brief.collect())];
        assert_eq!(right(&said), Right { all: 2, reconstructed: 1 });
    }

    #[test]
    fn labels_that_do_not_fit_are_refused() {
        let refused = |labels: &[usize], output: Option<&str>, outputs: &[(&str, &[i64])]| {
            Labels::new(labels.to_vec(), output, &model(outputs), 2).unwrap_err().to_string()
        };
        let y: (&str, &[i64]) = ("y", &[-1, 3]);
        assert_eq!(refused(&[0], None, &[y]), "found 1 labels for 2 rows, expected one for each");
        assert_eq!(
            refused(&[0, 3], None, &[y]),
            "row 1: found label 3, expected one of the 3 classes of output 'y'"
        );
        assert_eq!(refused(&[0, 0], Some("z"), &[y]), "found no output 'z', expected one of y");
        let several = "found the outputs y, y, expected --label-output to name the one that labels are for";
        assert_eq!(refused(&[0, 0], None, &[y, y]), several);
        // The answers show what the metadata leave open.
        let shapes: [&[i64]; 2] = [&[-1, -1], &[]];
        for shape in shapes {
            Labels::new(vec![9, 9], None, &model(&[("y", shape)]), 2).unwrap();
        }
        Labels::new(vec![9, 9], None, &model(&[]), 2).unwrap();
    }

    #[test]
    fn answers_without_classes_are_refused() {
        let labels = |output| Labels::new(vec![0, 2], output, &model(&[]), 2).unwrap();
        let bytes = |name: &str, count| tensor(name, Datatype::Uint8, vec![0; count]);
        for (output, outputs, expected) in [
            (Some("y"), vec![bytes("x", 6)], "found 1 outputs and none is 'y'"),
            (None, vec![bytes("x", 6), bytes("y", 6)], "found 2 outputs, expected 1"),
            (None, vec![bytes("x", 5)], "found 5 elements for 2 rows of 'x'"),
            (None, vec![bytes("x", 0)], "found 0 elements for 2 rows of 'x'"),
            (None, vec![bytes("x", 4)], "found 2 classes in 'x', for label 2"),
            (None, vec![tensor("x", Datatype::Bytes, vec![])], "found BYTES in 'x', expected numbers"),
        ] {
            let error = labels(output).right(0, 2, &answer(outputs)).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
