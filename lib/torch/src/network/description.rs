//! The description of a model in its file, from which a network is built.

use std::collections::BTreeMap;

use parm::task::UnknownTask;
use parm::{Activation, Task};
use serde::{Deserialize, Serialize};

use super::architecture::{self, Architecture, Coder, Image, Residual, Stem};
use super::layer::{Layer, Needed, Needs};

/// The description of a model, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The kind of network.
    #[serde(flatten)]
    pub architecture: Architecture,
    /// What its outputs are.
    pub output: Output,
    /// The shape of one prediction.
    pub prediction_shape: Vec<usize>,
    /// The shape of one query; none if the model accepts any that fits its layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_shape: Option<Vec<usize>>,
    /// The progress of a training; only in its checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
}

/// What the outputs of a network are, by one word in its file: `logits`, `values`, `embeddings` or `boxes`;
/// `queries` for an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Output {
    /// Predictions of a task.
    Predictions(Task),
    /// Coded queries.
    Queries,
}

const QUERIES: &str = "queries";

/// What outputs are unless something else is said.
const LOGITS: Output = Output::Predictions(Task::Classify);

impl TryFrom<String> for Output {
    type Error = UnknownTask;

    fn try_from(word: String) -> Result<Self, UnknownTask> {
        if word == QUERIES {
            return Ok(Self::Queries);
        }
        Task::from_output(&word).map(Self::Predictions).map_err(|mut error| {
            error.expected.push(QUERIES);
            error
        })
    }
}

impl From<Output> for String {
    fn from(output: Output) -> Self {
        match output {
            Output::Predictions(task) => task.output().into(),
            Output::Queries => QUERIES.into(),
        }
    }
}

/// The progress of a training, and its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// The epoch of the best model so far.
    pub best_epoch: u32,
    /// The number of finished epochs.
    pub epoch: u32,
    /// The settings that must be equal to resume the training.
    pub settings: BTreeMap<String, String>,
    /// The number of Adam's steps.
    pub step: u64,
}

/// A kind of network, for queries of any suitable shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Family {
    /// Linear layers with an activation between them.
    Mlp {
        /// Widths of the layers between the first and the last.
        hidden: Vec<usize>,
        /// The activation.
        activation: Activation,
    },
    /// LeNet-5, for images of at least 16×16.
    Lenet5,
    /// VGG-11 with batch normalisation, for images of at least 32×32.
    Vgg11,
    /// ResNet-18, for images of at least 8×8.
    Resnet18,
    /// ResNet-152, for images of at least 8×8.
    Resnet152,
}

/// Queries that a network cannot be built for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found queries of shape {found:?}, expected {expected} for {network}")]
pub struct ShapeError {
    /// The shape of a query.
    pub found: Vec<usize>,
    /// The shapes that the network accepts.
    pub expected: String,
    /// The network.
    pub network: &'static str,
}

/// The size of images from which a ResNet has four stages. The reference implementation's networks for 28×28
/// have three.
const FOUR_STAGES: usize = 32;

/// The size of images from which a ResNet has ImageNet's stem.
const LARGE: usize = 64;

impl Family {
    fn name(&self) -> &'static str {
        match self {
            Self::Mlp { .. } => "mlp",
            Self::Lenet5 => "lenet5",
            Self::Vgg11 => "vgg11",
            Self::Resnet18 => "resnet18",
            Self::Resnet152 => "resnet152",
        }
    }

    /// The smallest height and width of an image.
    fn smallest(&self) -> usize {
        match self {
            Self::Mlp { .. } => 0,
            Self::Lenet5 => 16,
            Self::Vgg11 => 32,
            // Batch normalisation in training needs more than one number per channel.
            Self::Resnet18 | Self::Resnet152 => 8,
        }
    }

    fn image(&self, query_shape: &[usize]) -> Result<[usize; 3], ShapeError> {
        let smallest = self.smallest();
        let image = architecture::image(query_shape);
        image.filter(|[_, height, width]| *height.min(width) >= smallest).ok_or_else(|| ShapeError {
            found: query_shape.into(),
            expected: format!(
                "[height, width] or [channels, height, width] of at least {smallest}×{smallest}"
            ),
            network: self.name(),
        })
    }
}

impl Description {
    /// Describes a network of this family between these shapes, whose outputs are logits. ResNets
    /// for images below 32×32 have three stages, those for images of 64×64 and more ImageNet's stem.
    ///
    /// # Errors
    /// [`ShapeError`] if the family has no network for such queries.
    pub fn new(
        family: &Family,
        query_shape: &[usize],
        prediction_shape: &[usize],
    ) -> Result<Self, ShapeError> {
        let architecture = match family {
            Family::Mlp { hidden, activation } => {
                let mut described = Self::mlp(query_shape, hidden, prediction_shape);
                described.set_activation(*activation);
                return Ok(described);
            }
            Family::Lenet5 => Architecture::Lenet5(lenet5(family.image(query_shape)?)),
            Family::Vgg11 => Architecture::Vgg11Bn(vgg11(family.image(query_shape)?)),
            Family::Resnet18 => Architecture::Resnet18(resnet(family.image(query_shape)?)),
            Family::Resnet152 => Architecture::Resnet152(resnet(family.image(query_shape)?)),
        };
        Ok(Self::of(architecture, LOGITS, query_shape.into(), prediction_shape.into()))
    }

    /// Describes an MLP with ReLU between these shapes, whose outputs are logits.
    #[must_use]
    pub fn mlp(query_shape: &[usize], hidden: &[usize], prediction_shape: &[usize]) -> Self {
        let ends = [query_shape, prediction_shape].map(|shape| shape.iter().product());
        let layers = [&ends[..1], hidden, &ends[1..]].concat();
        let architecture = Architecture::Mlp { layers, activation: Activation::Relu };
        Self::of(architecture, LOGITS, query_shape.into(), prediction_shape.into())
    }

    /// Describes an MLP that encodes groups `[k, row…]` as `[r, row…]`.
    #[must_use]
    pub fn encoder_mlp(k: usize, r: usize, row: &[usize]) -> Self {
        let architecture = Architecture::EncoderMlp(Coder { k, r });
        Self::of(architecture, Output::Queries, group(k, row), group(r, row))
    }

    /// Describes a convolutional network that encodes groups `[k, row…]` as `[r, row…]`.
    ///
    /// # Errors
    /// [`ShapeError`] if rows are neither `[height, width]` nor `[channels, height, width]`.
    pub fn encoder_conv(k: usize, r: usize, row: &[usize]) -> Result<Self, ShapeError> {
        if architecture::image(row).is_none() {
            let expected = "[height, width] or [channels, height, width]".into();
            return Err(ShapeError { found: row.into(), expected, network: "encoder-conv" });
        }
        let architecture = Architecture::EncoderConv(Coder { k, r });
        Ok(Self::of(architecture, Output::Queries, group(k, row), group(r, row)))
    }

    /// Describes an MLP that decodes the outputs `[k+r, row…]` of a group, with zeros for missing ones, as
    /// predictions `[k, row…]`.
    #[must_use]
    pub fn decoder_mlp(k: usize, r: usize, row: &[usize]) -> Self {
        let architecture = Architecture::DecoderMlp(Coder { k, r });
        Self::of(architecture, LOGITS, group(k + r, row), group(k, row))
    }

    fn of(architecture: Architecture, output: Output, query: Vec<usize>, prediction: Vec<usize>) -> Self {
        Self { architecture, output, prediction_shape: prediction, query_shape: Some(query), training: None }
    }

    /// The task of its predictions; none for an encoder.
    #[must_use]
    pub fn task(&self) -> Option<Task> {
        match self.output {
            Output::Predictions(task) => Some(task),
            Output::Queries => None,
        }
    }

    /// The family of the network; none for coders.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        match &self.architecture {
            Architecture::Mlp { layers, activation } => {
                let hidden = layers.get(1..layers.len().saturating_sub(1)).unwrap_or_default();
                Some(Family::Mlp { hidden: hidden.into(), activation: *activation })
            }
            Architecture::Lenet5(_) => Some(Family::Lenet5),
            Architecture::Vgg11Bn(_) => Some(Family::Vgg11),
            Architecture::Resnet18(_) => Some(Family::Resnet18),
            Architecture::Resnet152(_) => Some(Family::Resnet152),
            Architecture::EncoderMlp(_) | Architecture::EncoderConv(_) | Architecture::DecoderMlp(_) => None,
        }
    }

    /// Changes the activation of an MLP; other networks stay the same.
    pub(crate) fn set_activation(&mut self, new: Activation) {
        if let Architecture::Mlp { activation, .. } = &mut self.architecture {
            *activation = new;
        }
    }

    /// Whether its layers with weights are linear ones alone.
    pub(crate) fn is_linear(&self) -> bool {
        matches!(
            self.architecture,
            Architecture::Mlp { .. } | Architecture::EncoderMlp(_) | Architecture::DecoderMlp(_)
        )
    }

    /// Whether it has batch normalisation.
    pub(crate) fn has_norm(&self) -> bool {
        !Needs::of(&self.layers()).buffers.is_empty()
    }

    /// The number of parameters.
    pub(crate) fn parameters(&self) -> usize {
        let elements = |needed: &Needed| size(&needed.shape).unwrap_or(usize::MAX);
        let needs = Needs::of(&self.layers());
        needs.parameters.iter().map(elements).fold(0, usize::saturating_add)
    }

    /// The layers. The description must be [checked](Self::check).
    pub(crate) fn layers(&self) -> Vec<Layer> {
        self.architecture.layers(self.query_shape.as_deref(), self.prediction_shape.iter().product())
    }

    /// Whether the architecture fits the shapes.
    pub(crate) fn check(&self) -> Result<(), Misfit> {
        let (query, prediction) = (self.query_shape.as_deref(), self.prediction_shape.as_slice());
        let sizes = [query.map_or(Some(1), size), size(prediction)];
        let fits = sizes.iter().all(Option::is_some)
            && match &self.architecture {
                Architecture::Mlp { layers, .. } => {
                    let [first, .., last] = layers[..] else {
                        let found = format!("layers {layers:?}");
                        return Err(Misfit { found, expected: "at least two widths".into() });
                    };
                    let ends = [query.map_or(Some(first), size), size(prediction)];
                    ends == [Some(first), Some(last)] && !layers.contains(&0)
                }
                Architecture::Lenet5(image) => fits_image(query, *image, lenet5),
                Architecture::Vgg11Bn(image) => fits_image(query, *image, vgg11),
                Architecture::Resnet18(kind) | Architecture::Resnet152(kind) => {
                    let image = query.map_or(Some([kind.channels, 1, 1]), architecture::image);
                    [3, 4].contains(&kind.stages)
                        && image.is_some_and(|[channels, ..]| channels == kind.channels)
                }
                Architecture::EncoderMlp(Coder { k, r }) => fits_groups(query, prediction, Some(*k), *r),
                Architecture::EncoderConv(Coder { k, r }) => {
                    let row = prediction.get(1..).and_then(architecture::image);
                    row.is_some() && fits_groups(query, prediction, Some(*k), *r)
                }
                Architecture::DecoderMlp(Coder { k, r }) => {
                    fits_groups(query, prediction, k.checked_add(*r), *k)
                }
            };
        if fits {
            return Ok(());
        }
        let what = match &self.architecture {
            mlp @ Architecture::Mlp { .. } => format!("layers {mlp}"),
            other => other.to_string(),
        };
        let query = query.map_or_else(|| "any".into(), |shape| format!("{shape:?}"));
        Err(Misfit {
            found: format!("{what} for queries {query} and predictions {prediction:?}"),
            expected: "sizes above 0 that fit each other".into(),
        })
    }
}

/// What describes no network.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found}, expected {expected}")]
pub(crate) struct Misfit {
    pub(crate) found: String,
    pub(crate) expected: String,
}

/// The shape of a group of rows.
fn group(rows: usize, row: &[usize]) -> Vec<usize> {
    [&[rows], row].concat()
}

/// The number of elements of a shape, unless it is 0 or overflows.
fn size(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |product, &axis| product.checked_mul(axis)).filter(|&size| size > 0)
}

fn fits_image(query: Option<&[usize]>, image: Image, of: fn([usize; 3]) -> Image) -> bool {
    let expected = query.map_or(Some(image), |shape| architecture::image(shape).map(of));
    expected == Some(image) && image.channels > 0 && image.features > 0
}

fn fits_groups(query: Option<&[usize]>, prediction: &[usize], from: Option<usize>, to: usize) -> bool {
    match (query, prediction) {
        (Some([inputs, query @ ..]), [outputs, prediction @ ..]) => {
            Some(*inputs) == from && *outputs == to && query == prediction
        }
        _ => false,
    }
}

fn lenet5([channels, height, width]: [usize; 3]) -> Image {
    let [height, width] = [height, width].map(architecture::lenet5_side);
    let features = architecture::LENET5_CHANNELS.saturating_mul(height).saturating_mul(width);
    Image { channels, features }
}

fn vgg11([channels, height, width]: [usize; 3]) -> Image {
    let [height, width] = [height, width].map(architecture::vgg11_side);
    let features = architecture::VGG11_CHANNELS.saturating_mul(height).saturating_mul(width);
    Image { channels, features }
}

fn resnet([channels, height, width]: [usize; 3]) -> Residual {
    let side = height.min(width);
    Residual {
        channels,
        stages: if side < FOUR_STAGES { 3 } else { 4 },
        stem: if side < LARGE { Stem::Small } else { Stem::Imagenet },
    }
}
