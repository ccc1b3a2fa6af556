//! The layers of the papers' networks. Parameters have the names of the reference implementation and of
//! torchvision.

use std::fmt;

use parm::{Activation, counted};
use serde::{Deserialize, Serialize};

use super::layer::{Convolution, Layer};

/// A kind of network, with everything that does not follow from the shapes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "architecture", rename_all = "kebab-case")]
pub enum Architecture {
    /// Linear layers with an activation between them.
    Mlp {
        /// Widths, from the elements of a query to those of a prediction.
        layers: Vec<usize>,
        /// The activation; files leave out ReLU.
        #[serde(default, skip_serializing_if = "Activation::is_relu")]
        activation: Activation,
    },
    /// LeNet-5 as for Speech Commands: two convolutions of 20 channels, each followed by max-pooling
    /// and ReLU, and linear layers over 1000 numbers.
    Lenet5(Image),
    /// VGG-11 with batch normalisation as for Speech Commands: two linear layers over 512 numbers.
    Vgg11Bn(Image),
    /// ResNet-18.
    Resnet18(Residual),
    /// ResNet-152.
    Resnet152(Residual),
    /// The encoder of *Learning a Code* (arXiv 1806.01259): an MLP kN → kN → rN, N the elements of a
    /// query.
    EncoderMlp(Coder),
    /// Its convolutional encoder: the slots are the channels, and each channel of the queries is encoded
    /// separately.
    EncoderConv(Coder),
    /// Its decoder: an MLP (k+r)C → (k+r)C → kC → kC, C the elements of a prediction.
    DecoderMlp(Coder),
}

/// The sizes of a network of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Channels of an image.
    pub channels: usize,
    /// The number of features after the convolutions.
    pub features: usize,
}

/// The differences between ResNets besides their depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residual {
    /// Channels of an image.
    pub channels: usize,
    /// 3 or 4: the reference implementation leaves out the last stage for images of 28×28.
    pub stages: usize,
    /// The first layers.
    pub stem: Stem,
}

/// The first layers of a ResNet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// A convolution of 3×3, for small images.
    Small,
    /// A convolution of 7×7 with stride 2 and max-pooling, as for ImageNet.
    Imagenet,
}

/// The size of a coding group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coder {
    /// Queries in a group.
    pub k: usize,
    /// Parities of a group.
    pub r: usize,
}

/// The channels of VGG-11's convolutions; 0 is max-pooling.
const VGG11: [usize; 13] = [64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0];

/// Channels of the stages of a ResNet.
const STAGES: [usize; 4] = [64, 128, 256, 512];

/// Blocks of its stages.
pub(crate) const BLOCKS_18: [usize; 4] = [2, 2, 2, 2];
pub(crate) const BLOCKS_152: [usize; 4] = [3, 8, 36, 3];

/// Dilations of the encoder's convolutions of 3×3.
const DILATIONS: [i64; 6] = [1, 1, 2, 4, 8, 1];

/// The channels between them, for each query of a group.
const ENCODER_CHANNELS: usize = 20;

impl Architecture {
    /// The layers from rows of known or unknown shape to `outputs` numbers.
    pub(super) fn layers(&self, query_shape: Option<&[usize]>, outputs: usize) -> Vec<Layer> {
        match self {
            Self::Mlp { layers, activation } => mlp(query_shape, layers, *activation),
            Self::Lenet5(image) => [images(query_shape, image.channels), lenet5(*image, outputs)].concat(),
            Self::Vgg11Bn(image) => [images(query_shape, image.channels), vgg11(*image, outputs)].concat(),
            Self::Resnet18(kind) => {
                [images(query_shape, kind.channels), resnet(*kind, &BLOCKS_18, basic, 1, outputs)].concat()
            }
            Self::Resnet152(kind) => {
                [images(query_shape, kind.channels), resnet(*kind, &BLOCKS_152, bottleneck, 4, outputs)]
                    .concat()
            }
            Self::EncoderMlp(_) | Self::DecoderMlp(_) => {
                let inputs = query_shape.map_or(0, |shape| shape.iter().product());
                let layers = match self {
                    Self::EncoderMlp(_) => vec![inputs, inputs, outputs],
                    _ => vec![inputs, inputs, outputs, outputs],
                };
                mlp(query_shape, &layers, Activation::Relu)
            }
            Self::EncoderConv(coder) => {
                let shape = query_shape.map(|shape| Layer::Shape(shape.into()));
                shape.into_iter().chain([Layer::Channelwise(encoder(*coder))]).collect()
            }
        }
    }
}

impl Architecture {
    /// The deviation of initial linear weights times the root of a layer's inputs, for coders, which learn
    /// little from smaller weights: see the ablation in testdata/experiments/RESULTS.md. A decoder's inputs,
    /// the logits, are larger than an encoder's.
    pub(super) fn spread(&self) -> Option<f64> {
        match self {
            Self::EncoderMlp(_) => Some(1.0),
            Self::DecoderMlp(_) => Some(0.5),
            _ => None,
        }
    }
}

impl Architecture {
    /// The text for it in checkpoints, which stays the same as in earlier versions.
    pub(crate) fn record(&self) -> String {
        match self {
            Self::Mlp { layers, activation: Activation::Relu } => format!("{layers:?}"),
            Self::Mlp { layers, activation } => format!("{layers:?} {activation}"),
            Self::Lenet5(image) => format!("lenet5 {image:?}"),
            Self::Vgg11Bn(image) => format!("vgg11-bn {image:?}"),
            Self::Resnet18(kind) => format!("resnet18 {kind:?}"),
            Self::Resnet152(kind) => format!("resnet152 {kind:?}"),
            Self::EncoderMlp(coder) => format!("encoder-mlp {coder:?}"),
            Self::EncoderConv(coder) => format!("encoder-conv {coder:?}"),
            Self::DecoderMlp(coder) => format!("decoder-mlp {coder:?}"),
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mlp { layers, activation: Activation::Relu } => write!(f, "{layers:?}"),
            Self::Mlp { layers, activation } => write!(f, "{layers:?} {activation}"),
            Self::Lenet5(image) => write!(f, "lenet5 ({image})"),
            Self::Vgg11Bn(image) => write!(f, "vgg11-bn ({image})"),
            Self::Resnet18(kind) => write!(f, "resnet18 ({kind})"),
            Self::Resnet152(kind) => write!(f, "resnet152 ({kind})"),
            Self::EncoderMlp(coder) => write!(f, "encoder-mlp ({coder})"),
            Self::EncoderConv(coder) => write!(f, "encoder-conv ({coder})"),
            Self::DecoderMlp(coder) => write!(f, "decoder-mlp ({coder})"),
        }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {}", counted(self.channels, "channel"), counted(self.features, "feature"))
    }
}

impl fmt::Display for Residual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stem = match self.stem {
            Stem::Small => "first layers for small images",
            Stem::Imagenet => "first layers for ImageNet",
        };
        write!(f, "{}, {}, {stem}", counted(self.channels, "channel"), counted(self.stages, "stage"))
    }
}

impl fmt::Display for Coder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "k = {}, r = {}", self.k, self.r)
    }
}

/// Height or width after convolutions without padding and max-pooling: LeNet-5's.
pub(super) fn lenet5_side(side: usize) -> usize {
    [(); 2].iter().fold(side, |side, ()| side.saturating_sub(4) / 2)
}

/// Height or width after five max-poolings: VGG-11's.
pub(super) fn vgg11_side(side: usize) -> usize {
    side >> VGG11.iter().filter(|&&channels| channels == 0).count()
}

pub(super) const LENET5_CHANNELS: usize = 20;
pub(super) const VGG11_CHANNELS: usize = 512;

/// An image's channels, height and width; planes have one channel.
pub(crate) fn image(shape: &[usize]) -> Option<[usize; 3]> {
    match *shape {
        [height, width] => Some([1, height, width]),
        [channels, height, width] => Some([channels, height, width]),
        _ => None,
    }
}

fn images(query_shape: Option<&[usize]>, channels: usize) -> Vec<Layer> {
    let shape = query_shape.and_then(image).map(|shape| Layer::Shape(shape.into()));
    vec![shape.unwrap_or(Layer::Images(channels))]
}

fn linear(name: &str, from: usize, to: usize) -> Layer {
    Layer::Linear { name: name.into(), from, to }
}

/// A convolution without bias that keeps the size of images, but for the stride.
fn convolution(name: &str, from: usize, to: usize, kernel: usize, stride: i64) -> Convolution {
    let padding = (kernel / 2) as i64;
    Convolution { name: name.into(), from, to, kernel, stride, padding, dilation: 1, bias: false }
}

fn batch_norm(name: &str, channels: usize) -> Layer {
    Layer::BatchNorm { name: name.into(), channels }
}

/// `nn.0`, `nn.2`, …: an `nn.Sequential` whose odd places are the activations.
fn mlp(query_shape: Option<&[usize]>, widths: &[usize], activation: Activation) -> Vec<Layer> {
    // A query without axes cannot be flattened.
    let flat = matches!(query_shape, Some([]));
    let mut layers = vec![if flat { Layer::Shape(vec![1]) } else { Layer::Flatten }];
    for (i, ends) in widths.windows(2).enumerate() {
        layers.extend((i > 0).then_some(Layer::Activation(activation)));
        layers.push(linear(&format!("nn.{}", 2 * i), ends[0], ends[1]));
    }
    layers
}

fn lenet5(image: Image, outputs: usize) -> Vec<Layer> {
    let mut layers = Vec::new();
    for (name, from) in [("conv1", image.channels), ("conv2", LENET5_CHANNELS)] {
        let convolution = convolution(name, from, LENET5_CHANNELS, 5, 1);
        layers.push(Layer::Convolution(Convolution { padding: 0, bias: true, ..convolution }));
        layers.extend([Layer::MaxPool { size: 2, stride: 2, padding: 0 }, Layer::RELU]);
    }
    let fc1 = linear("fc1", image.features, 1000);
    layers.extend([Layer::Flatten, fc1, Layer::RELU, linear("fc2", 1000, outputs)]);
    layers
}

fn vgg11(image: Image, outputs: usize) -> Vec<Layer> {
    let (mut layers, mut from, mut place) = (Vec::new(), image.channels, 0);
    for to in VGG11 {
        let name = |place| format!("features.{place}");
        if to == 0 {
            layers.push(Layer::MaxPool { size: 2, stride: 2, padding: 0 });
            place += 1;
        } else {
            let convolution = convolution(&name(place), from, to, 3, 1);
            layers.push(Layer::Convolution(Convolution { bias: true, ..convolution }));
            layers.extend([batch_norm(&name(place + 1), to), Layer::RELU]);
            (from, place) = (to, place + 3);
        }
    }
    // As in the reference implementation, there is no activation between them.
    layers.extend([Layer::Flatten, linear("fc1", image.features, 512), linear("fc2", 512, outputs)]);
    layers
}

/// The layers of a block, from its name, input channels, channels and stride.
type Body = fn(&str, usize, usize, i64) -> Vec<Layer>;

fn resnet(kind: Residual, blocks: &[usize], body: Body, expansion: usize, outputs: usize) -> Vec<Layer> {
    let (kernel, stride) = match kind.stem {
        Stem::Small => (3, 1),
        Stem::Imagenet => (7, 2),
    };
    let mut layers = vec![
        Layer::Convolution(convolution("conv1", kind.channels, STAGES[0], kernel, stride)),
        batch_norm("bn1", STAGES[0]),
        Layer::RELU,
    ];
    if kind.stem == Stem::Imagenet {
        layers.push(Layer::MaxPool { size: 3, stride: 2, padding: 1 });
    }
    let mut from = STAGES[0];
    for (stage, (&channels, &blocks)) in STAGES.iter().zip(blocks).enumerate().take(kind.stages) {
        for block in 0..blocks {
            let name = format!("layer{}.{block}", stage + 1);
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let to = channels * expansion;
            let mut shortcut = Vec::new();
            if stride != 1 || from != to {
                let convolution = convolution(&format!("{name}.downsample.0"), from, to, 1, stride);
                shortcut.push(Layer::Convolution(convolution));
                shortcut.push(batch_norm(&format!("{name}.downsample.1"), to));
            }
            layers.push(Layer::Residual { body: body(&name, from, channels, stride), shortcut });
            from = to;
        }
    }
    layers.extend([Layer::AveragePool, Layer::Flatten, linear("fc", from, outputs)]);
    layers
}

/// Two convolutions of 3×3.
fn basic(name: &str, from: usize, channels: usize, stride: i64) -> Vec<Layer> {
    vec![
        Layer::Convolution(convolution(&format!("{name}.conv1"), from, channels, 3, stride)),
        batch_norm(&format!("{name}.bn1"), channels),
        Layer::RELU,
        Layer::Convolution(convolution(&format!("{name}.conv2"), channels, channels, 3, 1)),
        batch_norm(&format!("{name}.bn2"), channels),
    ]
}

/// Convolutions of 1×1, 3×3 and 1×1, the last to four times the channels.
fn bottleneck(name: &str, from: usize, channels: usize, stride: i64) -> Vec<Layer> {
    let mut layers = Vec::new();
    let sizes = [(from, channels, 1, 1), (channels, channels, 3, stride), (channels, 4 * channels, 1, 1)];
    for (i, (from, to, kernel, stride)) in (1..).zip(sizes) {
        layers.extend((i > 1).then_some(Layer::RELU));
        layers.push(Layer::Convolution(convolution(&format!("{name}.conv{i}"), from, to, kernel, stride)));
        layers.push(batch_norm(&format!("{name}.bn{i}"), to));
    }
    layers
}

fn encoder(coder: Coder) -> Vec<Layer> {
    let channels = coder.k.saturating_mul(ENCODER_CHANNELS);
    let mut layers = Vec::new();
    for (i, dilation) in DILATIONS.into_iter().enumerate() {
        let from = if i == 0 { coder.k } else { channels };
        let convolution = convolution(&format!("nn.{}", 2 * i), from, channels, 3, 1);
        let convolution = Convolution { padding: dilation, dilation, bias: true, ..convolution };
        layers.extend([Layer::Convolution(convolution), Layer::RELU]);
    }
    let last = convolution(&format!("nn.{}", 2 * DILATIONS.len()), channels, coder.r, 1, 1);
    layers.push(Layer::Convolution(Convolution { bias: true, ..last }));
    layers
}
