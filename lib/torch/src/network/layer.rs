//! Layers: which tensors they need, and how they apply them.

use parm::Activation;
use tch::{TchError, Tensor};

use crate::memory::{channels_last, prefers_channels_last};
use crate::numbers::{Entry, Part};
use crate::trainable::Mode;

/// The share of a batch in the running statistics of batch normalisation, and the number that keeps
/// its denominator from 0: PyTorch's defaults.
const MOMENTUM: f64 = 0.1;
const EPSILON: f64 = 1e-5;

/// The initial numbers of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Initial {
    /// The same number everywhere.
    Constant(f32),
    /// N(0, σ²) with the network's σ, for linear weights.
    Normal,
    /// Uniform within ±√(12 / (inputs + outputs)): Xavier's for ReLU.
    Xavier(usize),
}

/// A tensor that a layer needs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Needed {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) initial: Initial,
}

/// The tensors of a network: parameters, and buffers with running statistics.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Needs {
    pub(crate) parameters: Vec<Needed>,
    pub(crate) buffers: Vec<Needed>,
}

impl Needs {
    pub(crate) fn of(layers: &[Layer]) -> Self {
        let mut needs = Self::default();
        needs.add(layers);
        needs
    }

    /// Both kinds, the parameters first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Needed> {
        self.parameters.iter().chain(&self.buffers)
    }

    /// The tensors as entries, the parameters first.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let of = |needed: &[Needed], part| {
            let entry = |needed: &Needed| Entry::new(&needed.name, &needed.shape, part);
            needed.iter().map(entry).collect::<Vec<_>>()
        };
        [of(&self.parameters, Part::Learned), of(&self.buffers, Part::Fixed)].concat()
    }

    fn add(&mut self, layers: &[Layer]) {
        let needed = |name: &str, what: &str, shape: &[usize], initial| Needed {
            name: format!("{name}.{what}"),
            shape: shape.into(),
            initial,
        };
        let (zero, one) = (Initial::Constant(0.0), Initial::Constant(1.0));
        for layer in layers {
            match layer {
                Layer::Linear { name, from, to } => self.parameters.extend([
                    needed(name, "weight", &[*to, *from], Initial::Normal),
                    needed(name, "bias", &[*to], zero),
                ]),
                Layer::Convolution(convolution) => {
                    let Convolution { name, from, to, kernel, bias, .. } = convolution;
                    let meets = from.saturating_add(*to).saturating_mul(kernel * kernel);
                    let shape = [*to, *from, *kernel, *kernel];
                    self.parameters.push(needed(name, "weight", &shape, Initial::Xavier(meets)));
                    self.parameters.extend(bias.then(|| needed(name, "bias", &[*to], zero)));
                }
                Layer::BatchNorm { name, channels } => {
                    let needed = |what, initial| needed(name, what, &[*channels], initial);
                    self.parameters.extend([needed("weight", one), needed("bias", zero)]);
                    self.buffers.extend([needed("running_mean", zero), needed("running_var", one)]);
                }
                Layer::Residual { body, shortcut } => {
                    self.add(body);
                    self.add(shortcut);
                }
                Layer::Channelwise(inner) => self.add(inner),
                Layer::Shape(_)
                | Layer::Images(_)
                | Layer::Flatten
                | Layer::Activation(_)
                | Layer::MaxPool { .. }
                | Layer::AveragePool => {}
            }
        }
    }
}

/// A function from one tensor `[rows, …]` to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// Reshapes rows.
    Shape(Vec<usize>),
    /// Refuses rows that are not images `[channels, height, width]` with this number of channels.
    Images(usize),
    /// Flattens all axes but the first.
    Flatten,
    Activation(Activation),
    Linear {
        name: String,
        from: usize,
        to: usize,
    },
    Convolution(Convolution),
    BatchNorm {
        name: String,
        channels: usize,
    },
    MaxPool {
        size: i64,
        stride: i64,
        padding: i64,
    },
    /// The mean of each channel: `[rows, channels, 1, 1]`.
    AveragePool,
    /// relu(body(x) + shortcut(x)); an empty shortcut is x itself.
    Residual {
        body: Vec<Layer>,
        shortcut: Vec<Layer>,
    },
    /// Passes each channel of `[rows, slots, channels, height, width]` to the layers as a row of its own,
    /// whose channels are the slots. Rows without channels are `[rows, slots, height, width]`.
    Channelwise(Vec<Layer>),
}

/// A convolution with a square kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Convolution {
    pub(crate) name: String,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: i64,
    pub(crate) padding: i64,
    pub(crate) dilation: i64,
    pub(crate) bias: bool,
}

/// The tensors of all layers in the order of [`Needs`]; each layer takes its own.
pub(crate) struct Supply<'a> {
    parameters: std::slice::Iter<'a, Tensor>,
    buffers: std::slice::Iter<'a, Tensor>,
}

impl<'a> Supply<'a> {
    pub(crate) fn new(parameters: &'a [Tensor], buffers: &'a [Tensor]) -> Self {
        Self { parameters: parameters.iter(), buffers: buffers.iter() }
    }

    fn parameter(&mut self) -> Result<&'a Tensor, TchError> {
        self.parameters.next().ok_or_else(|| TchError::Shape("a layer without its parameters".into()))
    }

    /// A parameter in the precision of these rows.
    fn like(&mut self, rows: &Tensor) -> Result<Tensor, TchError> {
        let parameter = self.parameter()?;
        match rows.kind() {
            kind if kind == parameter.kind() => Ok(parameter.shallow_clone()),
            kind => parameter.f_to_kind(kind),
        }
    }

    fn buffer(&mut self) -> Result<&'a Tensor, TchError> {
        self.buffers.next().ok_or_else(|| TchError::Shape("a layer without its buffers".into()))
    }
}

/// Applies layers to rows.
pub(crate) fn apply(
    layers: &[Layer],
    rows: &Tensor,
    supply: &mut Supply<'_>,
    mode: Mode,
) -> Result<Tensor, TchError> {
    let mut rows = rows.shallow_clone();
    let mut in_place = false;
    for layer in layers {
        rows = match layer {
            Layer::Activation(Activation::Relu) if in_place => rows.f_relu_()?,
            _ => layer.apply(rows, supply, mode)?,
        };
        // Nothing else uses what these have made, not even their own gradients. A trace is optimised without it.
        in_place = mode != Mode::Evaluate
            && matches!(layer, Layer::Linear { .. } | Layer::Convolution(_) | Layer::BatchNorm { .. });
    }
    Ok(rows)
}

impl Layer {
    pub(crate) const RELU: Self = Self::Activation(Activation::Relu);

    /// The multiplications for one query; none for layers that are not between vectors.
    pub(crate) fn multiplications(&self) -> Option<usize> {
        match self {
            Self::Linear { from, to, .. } => from.checked_mul(*to),
            Self::Shape(_) | Self::Flatten | Self::Activation(_) => Some(0),
            _ => None,
        }
    }

    fn apply(&self, rows: Tensor, supply: &mut Supply<'_>, mode: Mode) -> Result<Tensor, TchError> {
        match self {
            Self::Shape(shape) => reshape(rows, shape),
            Self::Images(channels) => match rows.size()[..] {
                [_, found, _, _] if found == *channels as i64 => Ok(rows),
                _ => Err(TchError::Shape(format!("expected images [{channels}, height, width]"))),
            },
            Self::Flatten => rows.f_flatten(1, -1),
            Self::Activation(activation) => apply_activation(*activation, &rows),
            Self::Linear { .. } => {
                let [weight, bias] = [supply.like(&rows)?, supply.like(&rows)?];
                rows.f_linear(&weight, Some(bias))
            }
            Self::Convolution(Convolution { stride, padding, dilation, bias, .. }) => {
                let weight = supply.like(&rows)?;
                // Weights, too: libtorch would reorder them twice, for the convolution and for its gradient.
                let [rows, weight] = if prefers_channels_last(&rows) {
                    [channels_last(&rows)?, channels_last(&weight)?]
                } else {
                    [rows, weight]
                };
                let bias = if *bias { Some(supply.like(&rows)?) } else { None };
                rows.f_conv2d(&weight, bias, [*stride; 2], [*padding; 2], [*dilation; 2], 1)
            }
            Self::BatchNorm { .. } => {
                let [weight, bias] = [supply.parameter()?, supply.parameter()?].map(Some);
                let [mean, variance] = [supply.buffer()?, supply.buffer()?].map(Some);
                let train = mode.trains_norm();
                rows.f_batch_norm(weight, bias, mean, variance, train, MOMENTUM, EPSILON, true)
            }
            Self::MaxPool { size, stride, padding } => {
                rows.f_max_pool2d([*size; 2], [*stride; 2], [*padding; 2], [1, 1], false)
            }
            Self::AveragePool => rows.f_adaptive_avg_pool2d([1, 1]),
            Self::Residual { body, shortcut } => {
                let mut sum = apply(body, &rows, supply, mode)?;
                let shortcut = apply(shortcut, &rows, supply, mode)?;
                // Bodies end with batch normalisation, whose gradient does not need what it made.
                match mode {
                    Mode::Evaluate => sum.f_add(&shortcut)?.f_relu(),
                    Mode::Train { .. } => sum.f_add_(&shortcut)?.f_relu_(),
                }
            }
            Self::Channelwise(inner) => match rows.size()[..] {
                [_, _, _, _] => apply(inner, &rows, supply, mode),
                [_, _, channels, height, width] => {
                    let split = rows.f_transpose(1, 2)?.f_flatten(0, 1)?;
                    let coded = apply(inner, &split, supply, mode)?;
                    let slots = coded.size().get(1).copied().unwrap_or(0);
                    coded.f_reshape([-1, channels, slots, height, width])?.f_transpose(1, 2)
                }
                _ => Err(TchError::Shape("expected slots of images or of planes".into())),
            },
        }
    }
}

fn apply_activation(activation: Activation, rows: &Tensor) -> Result<Tensor, TchError> {
    match activation {
        Activation::Relu => rows.f_relu(),
        Activation::Gelu => rows.f_gelu("none"),
        Activation::Tanh => rows.f_tanh(),
        Activation::Sigmoid => rows.f_sigmoid(),
        Activation::Silu => rows.f_silu(),
        Activation::LeakyRelu => rows.f_leaky_relu(),
    }
}

/// Reshapes rows. The number of rows is left open, so that a trace accepts any.
pub(crate) fn reshape(rows: Tensor, shape: &[usize]) -> Result<Tensor, TchError> {
    let size = rows.size();
    let shape: Vec<i64> = std::iter::once(-1).chain(shape.iter().map(|&axis| axis as i64)).collect();
    if size.len() == shape.len() && size[1..] == shape[1..] { Ok(rows) } else { rows.f_reshape(&*shape) }
}
