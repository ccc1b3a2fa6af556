use super::architecture::{Residual, Stem};
use super::*;
use crate::trainable::{BatchNorm, Precision};

fn random(description: Description) -> Network {
    Network::random(description, [3; 32], Device::Cpu).unwrap()
}

fn ramp(size: &[i64]) -> Tensor {
    Tensor::arange(size.iter().product::<i64>(), (Kind::Float, Device::Cpu)).view(size).sin()
}

fn images() -> Network {
    random(Description::new(&Family::Resnet18, &[2, 8, 8], &[3]).unwrap())
}

#[test]
fn initial_weights_are_those_of_the_reference_implementation() {
    let network = images();
    for (name, tensor) in network.numbers.named() {
        let (least, most) = (tensor.min().double_value(&[]), tensor.max().double_value(&[]));
        let one = (name.contains("bn") || name.contains("downsample.1"))
            && (name.ends_with("weight") || name.ends_with("running_var"));
        match tensor.size()[..] {
            [_] => assert_eq!((least, most), if one { (1.0, 1.0) } else { (0.0, 0.0) }, "{name}"),
            [to, from, height, width] => {
                let bound = (12.0 / ((to + from) * height * width) as f64).sqrt();
                assert!(-bound <= least && most <= bound, "{name}");
                // The deviation of uniform numbers, within five of its own deviations.
                let tolerance = 5.0 / (tensor.numel() as f64).sqrt();
                let deviation = tensor.std(false).double_value(&[]) * 3_f64.sqrt() / bound;
                assert!((deviation - 1.0).abs() < tolerance, "{name}: {deviation}");
            }
            _ => assert!((0.005..0.015).contains(&tensor.std(false).double_value(&[])), "{name}"),
        }
    }
    let again = images();
    assert!(network.numbers.flat().learned == again.numbers.flat().learned);
    let other = Network::random(network.description().clone(), [4; 32], Device::Cpu).unwrap();
    assert!(network.numbers.flat().learned != other.numbers.flat().learned);
}

#[test]
fn coders_begin_with_weights_that_depend_on_the_inputs_of_a_layer() {
    for (description, spread) in
        [(Description::encoder_mlp(2, 1, &[20, 5]), 1.0), (Description::decoder_mlp(20, 20, &[5]), 0.5)]
    {
        for (name, tensor) in random(description).numbers.named() {
            if let [_, inputs] = tensor.size()[..] {
                let deviation = tensor.std(false).double_value(&[]) * (inputs as f64).sqrt() / spread;
                assert!((0.95..1.05).contains(&deviation), "{name}: {deviation}");
            }
        }
    }
}

#[test]
fn learning_moves_the_statistics_and_answering_does_not() {
    let network = images();
    let before = network.numbers.copy(Device::Cpu).unwrap();
    let rows = ramp(&[4, 2, 8, 8]);
    let _ = network.predict(&rows).unwrap();
    let _ = network.forward(&rows, Mode::Evaluate).unwrap();
    assert!(network.numbers.flat().fixed == before.flat().fixed);
    let first = network.numbers.named().into_iter().find(|(name, _)| name == "conv1.weight").unwrap().1;
    let _ = network.forward(&rows, Mode::TRAIN).unwrap();
    // A tenth of the batch's mean is in the running one, which began at 0.
    let mean =
        rows.conv2d::<Tensor>(&first, None, 1, 1, 1, 1).mean_dim([0, 2, 3].as_slice(), false, Kind::Float);
    let running = network.numbers.named().into_iter().find(|(name, _)| name == "bn1.running_mean").unwrap().1;
    assert!((running - mean * 0.1).abs().max().double_value(&[]) < 1e-6);
    assert!(network.numbers.flat().learned == before.flat().learned);
}

/// The naive algorithm: no tensor is changed in place.
fn plain(layers: &[Layer], rows: &Tensor, supply: &mut Supply<'_>, mode: Mode) -> Tensor {
    layers.iter().fold(rows.shallow_clone(), |rows, layer| match layer {
        Layer::Residual { body, shortcut } => {
            let sum = plain(body, &rows, supply, mode);
            (sum + plain(shortcut, &rows, supply, mode)).relu()
        }
        _ => apply(std::slice::from_ref(layer), &rows, supply, mode).unwrap(),
    })
}

#[test]
fn what_is_changed_in_place_has_the_outputs_and_gradients_of_plain_layers() {
    for norm in [BatchNorm::Train, BatchNorm::Frozen] {
        let mode = Mode::Train { precision: Precision::Full, norm };
        // With few rows and with enough for channels last.
        for rows in [4, 16] {
            let rows = ramp(&[rows, 2, 8, 8]);
            let learn = |forward: &dyn Fn(&Network) -> Tensor| {
                let network = images();
                let outputs = forward(&network);
                let loss = outputs.square().sum(Kind::Float);
                let learned: Vec<&Tensor> = network.numbers.learned().collect();
                let mut found = Tensor::run_backward(&[loss], &learned, false, false);
                found.push(outputs);
                found
            };
            let found = learn(&|network| network.forward(&rows, mode).unwrap());
            let expected = learn(&|network| {
                let (parameters, buffers) = network.numbers.views().split_at(network.needs.parameters.len());
                plain(&network.layers, &rows, &mut Supply::new(parameters, buffers), mode)
            });
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert!(found.allclose(expected, 1e-5, 1e-6, false), "{norm:?} {:?}", rows.size());
            }
        }
    }
}

#[test]
fn gradients_flow_through_a_network_that_answers_but_not_out_of_predictions() {
    let network = images();
    let rows = ramp(&[4, 2, 8, 8]).set_requires_grad(true);
    assert!(!network.predict(&rows).unwrap().requires_grad());
    let outputs = network.forward(&rows, Mode::Evaluate).unwrap();
    let of = [&rows, &network.numbers.views()[0]];
    for gradient in Tensor::f_run_backward(&[&outputs.sum(Kind::Float)], &of, false, false).unwrap() {
        assert!(gradient.abs().max().double_value(&[]) > 0.0);
    }
}

#[test]
fn flat_rows_are_given_their_shape() {
    for description in [
        images().description().clone(),
        Description::new(&Family::Lenet5, &[16, 17], &[2, 2]).unwrap(),
        Description::encoder_conv(2, 1, &[3, 5, 4]).unwrap(),
        Description::decoder_mlp(2, 1, &[2, 2]),
    ] {
        let network = random(description.clone());
        let shape: Vec<i64> = description.query_shape.unwrap().iter().map(|&axis| axis as i64).collect();
        let rows = ramp(&[&[3], &*shape].concat());
        let answer = network.predict(&rows).unwrap();
        assert!(answer == network.predict(&rows.view([3, -1])).unwrap());
        let expected: Vec<i64> = description.prediction_shape.iter().map(|&axis| axis as i64).collect();
        assert_eq!(answer.size(), [&[3], &*expected].concat());
    }
}

#[test]
fn a_convolutional_encoder_encodes_each_channel_by_itself() {
    let colour = random(Description::encoder_conv(2, 2, &[3, 6, 5]).unwrap());
    let plain = Description::encoder_conv(2, 2, &[6, 5]).unwrap();
    let plain = colour.like(plain, Device::Cpu).unwrap();
    let groups = ramp(&[4, 2, 3, 6, 5]);
    let encoded = colour.predict(&groups).unwrap();
    for channel in 0..3 {
        let alone = plain.predict(&groups.select(2, channel)).unwrap();
        assert!((encoded.select(2, channel) - alone).abs().max().double_value(&[]) < 1e-6);
    }
}

#[test]
fn sizes_of_the_coders_are_those_of_the_papers() {
    let shapes = |description: Description| -> Vec<Vec<usize>> {
        let needs = Needs::of(&description.layers());
        needs.parameters.into_iter().map(|needed| needed.shape).filter(|shape| shape.len() > 1).collect()
    };
    assert_eq!(shapes(Description::encoder_mlp(3, 2, &[2, 5])), [[30, 30], [20, 30]]);
    assert_eq!(shapes(Description::decoder_mlp(3, 2, &[10])), [[50, 50], [30, 50], [30, 30]]);
    let convolutions = shapes(Description::encoder_conv(2, 1, &[8, 8]).unwrap());
    assert_eq!(convolutions.len(), 7);
    assert_eq!(
        [&convolutions[0], &convolutions[5], &convolutions[6]],
        [&[40, 2, 3, 3], &[40, 40, 3, 3], &[1, 40, 1, 1]]
    );
    let dilations: Vec<i64> = Description::encoder_conv(2, 1, &[8, 8])
        .unwrap()
        .layers()
        .into_iter()
        .filter_map(|layer| if let Layer::Channelwise(inner) = layer { Some(inner) } else { None })
        .flatten()
        .filter_map(|layer| if let Layer::Convolution(c) = layer { Some(c.dilation) } else { None })
        .collect();
    assert_eq!(dilations, [1, 1, 2, 4, 8, 1, 1]);
}

#[test]
fn resnets_grow_with_their_images() {
    let kind = |query: &[usize]| match Description::new(&Family::Resnet18, query, &[2]).unwrap().architecture
    {
        Architecture::Resnet18(kind) => kind,
        other => panic!("{other}"),
    };
    assert_eq!(kind(&[28, 28]), Residual { channels: 1, stages: 3, stem: Stem::Small });
    assert_eq!(kind(&[3, 32, 32]), Residual { channels: 3, stages: 4, stem: Stem::Small });
    assert_eq!(kind(&[3, 224, 224]), Residual { channels: 3, stages: 4, stem: Stem::Imagenet });
}

#[test]
fn queries_that_no_network_can_take_are_refused() {
    for (family, query, expected) in [
        (Family::Lenet5, &[15, 40][..], "at least 16×16 for lenet5"),
        (Family::Vgg11, &[3, 40, 31], "at least 32×32 for vgg11"),
        (Family::Resnet18, &[784], "expected [height, width]"),
        (Family::Resnet152, &[2, 3, 32, 32], "for resnet152"),
    ] {
        let error = Description::new(&family, query, &[2]).unwrap_err().to_string();
        assert!(error.contains(&format!("{query:?}")) && error.contains(expected), "{error}");
    }
    let error = Description::encoder_conv(2, 1, &[784]).unwrap_err().to_string();
    assert!(error.contains("[784]") && error.contains("for encoder-conv"), "{error}");
}

#[test]
fn descriptions_that_do_not_fit_themselves_are_refused() {
    let good = [
        Description::mlp(&[2, 3], &[4], &[5]),
        Description::new(&Family::Lenet5, &[16, 16], &[5]).unwrap(),
        Description::new(&Family::Vgg11, &[3, 32, 32], &[5]).unwrap(),
        Description::new(&Family::Resnet152, &[3, 8, 8], &[5]).unwrap(),
        Description::encoder_mlp(2, 1, &[4]),
        Description::encoder_conv(2, 1, &[4, 4]).unwrap(),
        Description::decoder_mlp(2, 1, &[4]),
    ];
    for description in good {
        description.check().unwrap();
        let json = serde_json::to_string(&description).unwrap();
        assert_eq!(serde_json::from_str::<Description>(&json).unwrap(), description);
        let wrong = |change: &dyn Fn(&mut Description)| {
            let mut description = description.clone();
            change(&mut description);
            let description::Misfit { found, expected } = description.check().unwrap_err();
            assert!(!found.is_empty() && !expected.is_empty(), "{json}");
        };
        wrong(&|description| description.query_shape = Some(vec![9, 9, 9, 9]));
        wrong(&|description| description.query_shape = Some(vec![]));
        wrong(&|description| description.prediction_shape = vec![0]);
        wrong(&|description| description.prediction_shape = vec![usize::MAX, 2]);
        wrong(&|description| match &mut description.architecture {
            Architecture::Mlp { layers, .. } => layers[1] = 0,
            Architecture::Lenet5(image) | Architecture::Vgg11Bn(image) => image.features += 1,
            Architecture::Resnet18(kind) | Architecture::Resnet152(kind) => kind.stages = 5,
            Architecture::EncoderMlp(coder)
            | Architecture::EncoderConv(coder)
            | Architecture::DecoderMlp(coder) => coder.k = usize::MAX,
        });
    }
}
