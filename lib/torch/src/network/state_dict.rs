//! State dicts of PyTorch: recognises the network by the names and shapes of its tensors.
//!
//! `num_batches_tracked` is ignored. Prefixes of wrappers that all names share (`module.` and the like) are
//! stripped. `linear` and `shortcut`, the names in ResNets for CIFAR, become `fc` and `downsample`. A state
//! dict with `layer1.0.conv1` is a ResNet, of 152 layers if it has `layer1.0.conv3`; `conv1` and `fc1` mean
//! LeNet-5, `features.0` and `fc1` VGG-11; mostly weights of two axes and biases mean an MLP. Then every
//! tensor must belong to the network, and none may be missing.
//!
//! The layers of an MLP whose names differ only in their numbers are in the order of these numbers. Otherwise
//! the widths must determine the order: the inputs of each layer are the outputs of the one before it. If
//! more than one order is possible, the MLP is refused.

use std::collections::{BTreeMap, BTreeSet};

use parm::{Activation, Task};

use super::architecture::{Architecture, Image, Residual, Stem};
use super::description::{Description, Misfit, Output};
use super::layer::Needs;

/// The prefixes of wrappers.
const WRAPPERS: [&str; 6] = ["module.", "_orig_mod.", "model.", "net.", "network.", "base_model."];

/// Names in files and the names of this project.
const RENAMED: [(&str, &str); 2] = [("linear.", "fc."), (".shortcut.", ".downsample.")];

/// A counter of PyTorch that is not needed.
const COUNTER: &str = "num_batches_tracked";

/// The most differences that an error lists.
const LISTED: usize = 4;

/// The most layers that the search for an order tries.
const MAX_TRIES: usize = 100_000;

/// The recognised network of a state dict.
#[derive(Debug)]
pub(crate) struct StateDict {
    pub(crate) description: Description,
    /// Names of the network's tensors, and their names in the file.
    pub(crate) names: Vec<(String, String)>,
}

/// A tensor of the file: its name there and its shape.
type Found<'a> = (&'a str, &'a [usize]);

impl StateDict {
    /// Finds the network of tensors with these names and shapes. `shared` lists tensors that share the data
    /// of another one: their name, and that of the other.
    pub(crate) fn recognise(
        shapes: &BTreeMap<String, Vec<usize>>,
        shared: &BTreeMap<String, String>,
    ) -> Result<Self, Misfit> {
        let mut tensors = own_names(shapes);
        let description = match of_images(&tensors) {
            Some(description) => description,
            None => of_mlp(&mut tensors, shared)?.ok_or_else(|| Misfit {
                found: match shapes.len() {
                    0 => "safetensors without tensors".into(),
                    _ => format!("tensors {}", list(shapes.keys().cloned())),
                },
                expected: "the parameters of an MLP, LeNet-5, VGG-11 with batch normalisation, \
                           ResNet-18 or ResNet-152"
                    .into(),
            })?,
        };
        let needs = Needs::of(&description.layers());
        let (mut differences, mut names) = (Vec::new(), Vec::new());
        for needed in needs.all() {
            let (name, expected) = (&needed.name, &needed.shape);
            match tensors.remove(name) {
                Some((theirs, shape)) if shape == expected => names.push((name.clone(), theirs.into())),
                Some((theirs, shape)) => {
                    differences.push(format!("{theirs} of {shape:?} in place of {expected:?}"));
                }
                None => differences.push(format!("no {name} of {expected:?}")),
            }
        }
        // Surplus tensors come first, since they describe the file best.
        let surplus = tensors
            .values()
            .map(|(theirs, shape)| format!("{theirs} of {shape:?}, which does not belong to it"));
        differences = surplus.chain(differences).collect();
        if differences.is_empty() {
            return Ok(Self { description, names });
        }
        let expected = match &description.architecture {
            mlp @ Architecture::Mlp { .. } => format!("the parameters of an MLP of widths {mlp}"),
            other => format!("those of {other}"),
        };
        Err(Misfit { found: list(differences.into_iter()), expected })
    }
}

/// The tensors under this project's names.
fn own_names(shapes: &BTreeMap<String, Vec<usize>>) -> BTreeMap<String, Found<'_>> {
    let mut names: Vec<(&str, Found<'_>)> = shapes
        .iter()
        .filter(|(name, _)| !name.ends_with(COUNTER))
        .map(|(name, shape)| (name.as_str(), (name.as_str(), shape.as_slice())))
        .collect();
    while let Some(wrapper) =
        WRAPPERS.iter().find(|wrapper| names.iter().all(|(name, _)| name.starts_with(**wrapper)))
    {
        if names.is_empty() {
            break;
        }
        for (name, _) in &mut names {
            *name = &name[wrapper.len()..];
        }
    }
    let taken: BTreeSet<&str> = names.iter().map(|(name, _)| *name).collect();
    let renamed = |name: &str| {
        let new = RENAMED.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to));
        // If two names map to one, the second keeps its own, and does not belong to the network.
        if taken.contains(new.as_str()) { name.to_owned() } else { new }
    };
    names.iter().map(|&(name, found)| (renamed(name), found)).collect()
}

/// A network of images, with shapes from those of its tensors.
fn of_images(tensors: &BTreeMap<String, Found<'_>>) -> Option<Description> {
    let has = |name: &str| tensors.contains_key(name);
    // Missing tensors are found when all are compared.
    let axis = |name: &str, axis: usize| {
        tensors.get(name).and_then(|(_, shape)| shape.get(axis)).copied().unwrap_or(1)
    };
    let image = |first: &str| Image { channels: axis(first, 1), features: axis("fc1.weight", 1) };
    let (architecture, last) = if has("layer1.0.conv1.weight") {
        let kind = Residual {
            channels: axis("conv1.weight", 1),
            stages: if has("layer4.0.conv1.weight") { 4 } else { 3 },
            stem: if axis("conv1.weight", 2) == 7 { Stem::Imagenet } else { Stem::Small },
        };
        let deep = has("layer1.0.conv3.weight");
        let architecture = if deep { Architecture::Resnet152(kind) } else { Architecture::Resnet18(kind) };
        (architecture, "fc.weight")
    } else if has("conv1.weight") && has("fc1.weight") {
        (Architecture::Lenet5(image("conv1.weight")), "fc2.weight")
    } else if has("features.0.weight") && has("fc1.weight") {
        (Architecture::Vgg11Bn(image("features.0.weight")), "fc2.weight")
    } else {
        return None;
    };
    Some(describe(architecture, axis(last, 0)))
}

/// An MLP, whose tensors are renamed to this project's names. None if most tensors are not an MLP's.
fn of_mlp(
    tensors: &mut BTreeMap<String, Found<'_>>,
    shared: &BTreeMap<String, String>,
) -> Result<Option<Description>, Misfit> {
    let mut layers: BTreeMap<&str, Linear<'_>> = BTreeMap::new();
    let mut odd = 0;
    for (name, (theirs, shape)) in tensors.iter() {
        let (layer, what) = name.rsplit_once('.').unwrap_or(("", name));
        if !matches!((what, shape.len()), ("weight", 2) | ("bias", 1)) {
            odd += 1;
            continue;
        }
        let layer = layers.entry(layer).or_insert_with(|| Linear::new(layer));
        if let &[to, from] = *shape {
            layer.ends = Some([from, to]);
            layer.weight = shared.get(*theirs).map_or(theirs, String::as_str);
        }
    }
    let layers: Vec<Linear<'_>> = layers.into_values().collect();
    if layers.iter().all(|layer| layer.ends.is_none()) || odd > tensors.len() / 2 {
        return Ok(None);
    }
    let order = Order::of(&layers)?;
    let (mut widths, mut named) = (Vec::new(), Vec::new());
    for (i, &at) in order.iter().enumerate() {
        let Linear { name, ends, .. } = &layers[at];
        for what in ["weight", "bias"] {
            let theirs = if name.is_empty() { what.into() } else { format!("{name}.{what}") };
            named.extend(tensors.get(&theirs).map(|&found| (theirs, format!("nn.{}.{what}", 2 * i), found)));
        }
        if let Some([from, to]) = *ends {
            widths.extend(widths.is_empty().then_some(from));
            widths.push(to);
        }
    }
    // The other tensors keep their names, and do not belong to the network.
    for (theirs, ..) in &named {
        tensors.remove(theirs);
    }
    tensors.extend(named.into_iter().map(|(_, ours, found)| (ours, found)));
    let Some(&last) = widths.last() else { return Ok(None) };
    Ok(Some(describe(Architecture::Mlp { layers: widths, activation: Activation::default() }, last)))
}

/// A linear layer of a file.
struct Linear<'a> {
    name: &'a str,
    /// Its name, split into texts and numbers.
    natural: Vec<(String, u64)>,
    /// The numbers of inputs and outputs, if it has a weight.
    ends: Option<[usize; 2]>,
    /// The tensor of its weight; layers that share it are one.
    weight: &'a str,
}

impl<'a> Linear<'a> {
    fn new(name: &'a str) -> Self {
        Self { name, natural: natural(name), ends: None, weight: "" }
    }

    /// True if the names differ only in their numbers, and this one comes before the other; also if both
    /// layers are one.
    fn is_before(&self, other: &Self) -> bool {
        let texts = |of: &Self| of.natural.iter().map(|(text, _)| text.clone()).collect::<Vec<_>>();
        let one = !self.weight.is_empty() && self.weight == other.weight;
        (one || texts(self) == texts(other)) && self.natural < other.natural
    }
}

/// The search for the orders in which the inputs of each layer are the outputs of the one before it.
struct Order<'a> {
    layers: &'a [Linear<'a>],
    path: Vec<usize>,
    /// The orders that were found; the search ends at two.
    found: Vec<Vec<usize>>,
    tries: usize,
}

impl<'a> Order<'a> {
    /// The only order of these layers. If there is none, the natural order of their names, whose widths do
    /// not fit.
    fn of(layers: &'a [Linear<'a>]) -> Result<Vec<usize>, Misfit> {
        let mut natural: Vec<usize> = (0..layers.len()).collect();
        natural.sort_by(|&a, &b| layers[a].natural.cmp(&layers[b].natural));
        // Names that differ only in their numbers determine the order.
        if natural.windows(2).all(|pair| layers[pair[0]].is_before(&layers[pair[1]])) {
            return Ok(natural);
        }
        let mut search = Self { layers, path: Vec::new(), found: Vec::new(), tries: 0 };
        search.go_on();
        match &search.found[..] {
            [] if search.tries < MAX_TRIES => Ok(natural),
            [one] if search.tries < MAX_TRIES => Ok(one.clone()),
            _ => Err(Misfit {
                found: format!(
                    "layers {}, whose order neither their names nor their widths determine",
                    list(layers.iter().map(|layer| layer.name.to_owned()))
                ),
                expected: "the parameters of an MLP whose names count up (fc1, fc2, …)".into(),
            }),
        }
    }

    fn go_on(&mut self) {
        if self.path.len() == self.layers.len() {
            self.found.push(self.path.clone());
        }
        for next in 0..self.layers.len() {
            self.tries += 1;
            if self.tries >= MAX_TRIES || self.found.len() > 1 {
                return;
            }
            let layer = &self.layers[next];
            let last = self.path.last().and_then(|&last| self.layers[last].ends);
            let fits = match (last, layer.ends) {
                (Some([_, gives]), Some([takes, _])) => gives == takes,
                (None, Some(_)) => self.path.is_empty(),
                (_, None) => false,
            };
            let earlier = |at: usize| self.layers[at].is_before(layer) && !self.path.contains(&at);
            if fits && !self.path.contains(&next) && !(0..self.layers.len()).any(earlier) {
                self.path.push(next);
                self.go_on();
                self.path.pop();
            }
        }
    }
}

fn describe(architecture: Architecture, outputs: usize) -> Description {
    Description {
        architecture,
        output: Output::Predictions(Task::Classify),
        prediction_shape: vec![outputs],
        query_shape: None,
        training: None,
    }
}

/// A sort key that compares numbers in names as numbers.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let (text, tail) = rest.split_at(rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len()));
        let (number, next) = tail.split_at(tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len()));
        parts.push((text.to_owned(), number.parse().unwrap_or_default()));
        rest = next;
    }
    parts
}

fn list(items: impl ExactSizeIterator<Item = String>) -> String {
    let more = items.len().saturating_sub(LISTED);
    let listed = items.take(LISTED).collect::<Vec<_>>().join(", ");
    if more == 0 { listed } else { format!("{listed} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Family, Network};

    fn recognise(shapes: &BTreeMap<String, Vec<usize>>) -> Result<StateDict, Misfit> {
        StateDict::recognise(shapes, &BTreeMap::new())
    }

    fn shapes(tensors: &[(&str, &[usize])]) -> BTreeMap<String, Vec<usize>> {
        tensors.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect()
    }

    fn widths(layers: &[usize]) -> Architecture {
        Architecture::Mlp { layers: layers.into(), activation: Activation::Relu }
    }

    /// The tensors of linear layers of these names and widths, in this order.
    fn linear(names: &[&str], widths: &[usize]) -> BTreeMap<String, Vec<usize>> {
        let layers = names.iter().zip(widths.windows(2));
        let tensors = |(name, ends): (&&str, &[usize])| {
            [(format!("{name}.weight"), vec![ends[1], ends[0]]), (format!("{name}.bias"), vec![ends[1]])]
        };
        layers.flat_map(tensors).collect()
    }

    /// The tensors of one of this project's own networks.
    fn own(family: &Family, query_shape: &[usize]) -> BTreeMap<String, Vec<usize>> {
        let description = Description::new(family, query_shape, &[7]).unwrap();
        let needs = Needs::of(&description.layers());
        needs.all().map(|needed| (needed.name.clone(), needed.shape.clone())).collect()
    }

    #[test]
    fn networks_are_known_by_their_own_names() {
        let mlp = Family::Mlp { hidden: vec![5; 11], activation: Activation::Relu };
        for (family, query) in [
            (mlp, &[2, 3][..]),
            (Family::Lenet5, &[1, 161, 101]),
            (Family::Vgg11, &[3, 64, 32]),
            (Family::Resnet18, &[1, 28, 28]),
            (Family::Resnet18, &[3, 32, 32]),
            (Family::Resnet152, &[3, 224, 224]),
        ] {
            let described = Description::new(&family, query, &[7]).unwrap();
            let state = recognise(&own(&family, query)).unwrap();
            assert_eq!(state.description.architecture, described.architecture);
            assert_eq!((state.description.query_shape, state.description.prediction_shape), (None, vec![7]));
            assert!(state.names.iter().all(|(ours, theirs)| ours == theirs));
        }
    }

    #[test]
    fn wrappers_counters_and_other_names_are_seen_through() {
        let mut tensors = BTreeMap::new();
        for (name, shape) in own(&Family::Resnet18, &[3, 32, 32]) {
            let name = name.replace("fc.", "linear.").replace("downsample", "shortcut");
            tensors.insert(format!("module._orig_mod.{name}"), shape);
        }
        tensors.insert("module._orig_mod.bn1.num_batches_tracked".into(), vec![]);
        let state = recognise(&tensors).unwrap();
        let theirs =
            |ours: &str| state.names.iter().find(|(name, _)| name == ours).map(|(_, theirs)| &**theirs);
        assert_eq!(theirs("fc.bias"), Some("module._orig_mod.linear.bias"));
        assert_eq!(
            theirs("layer2.0.downsample.0.weight"),
            Some("module._orig_mod.layer2.0.shortcut.0.weight")
        );
        assert_eq!(state.names.len(), tensors.len() - 1);
    }

    #[test]
    fn layers_of_an_mlp_stand_in_the_natural_order_of_their_names() {
        for names in
            [["0", "2", "10"], ["fc1", "fc2", "fc10"], ["classifier.1", "classifier.4", "classifier.6"]]
        {
            let mut tensors = BTreeMap::new();
            for (name, ends) in names.iter().zip([[4, 3], [3, 6], [6, 2]]) {
                tensors.insert(format!("{name}.weight"), vec![ends[1], ends[0]]);
                tensors.insert(format!("{name}.bias"), vec![ends[1]]);
            }
            let state = recognise(&tensors).unwrap();
            assert_eq!(state.description.architecture, widths(&[4, 3, 6, 2]));
            assert_eq!(state.names[4], ("nn.4.weight".into(), format!("{}.weight", names[2])));
        }
        let single = recognise(&shapes(&[("weight", &[2, 3]), ("bias", &[2])])).unwrap();
        assert_eq!(single.description.architecture, widths(&[3, 2]));
    }

    #[test]
    fn widths_settle_the_order_of_layers_whose_names_do_not() {
        for (names, ends) in [
            (&["hidden", "classifier"][..], &[20, 16, 4][..]),
            (&["input", "hidden", "output"], &[20, 16, 12, 4]),
            (&["layer_in", "layer_hidden", "layer_out"], &[20, 16, 12, 4]),
            (&["features.0", "features.2", "classifier"], &[20, 16, 16, 4]),
            (&["z.0", "z.2", "a.0", "a.2"], &[8, 4, 2, 5, 6]),
            // A cycle begins where its first layer by number is.
            (&["fc1", "fc2", "fc3"], &[4, 4, 4, 4]),
        ] {
            let state = recognise(&linear(names, ends)).unwrap();
            assert_eq!(state.description.architecture, widths(ends), "{names:?}");
            for (i, name) in names.iter().enumerate() {
                let pair = (format!("nn.{}.weight", 2 * i), format!("{name}.weight"));
                assert!(state.names.contains(&pair), "{names:?}: {:?}", state.names);
            }
        }
        for (names, ends) in [
            (&["first", "second"][..], &[4, 4, 4][..]),
            (&["out", "in", "hidden"], &[4, 8, 4, 8]),
            (&["actor.0", "actor.2", "critic.0", "critic.2"], &[4, 4, 4, 4, 4]),
            // The decoder before the encoder fits as well.
            (&["z.0", "z.2", "a.0", "a.2"], &[8, 4, 2, 4, 8]),
        ] {
            let misfit = recognise(&linear(names, ends)).unwrap_err();
            assert!(
                misfit.found.contains("order neither their names nor their widths determine"),
                "{misfit:?}"
            );
            assert!(misfit.expected.contains("fc1, fc2"), "{misfit:?}");
        }
        // More layers of one width than the search can try.
        let names: Vec<String> = ('a'..='z').map(|name| name.to_string()).collect();
        let mut many = linear(&names.iter().map(String::as_str).collect::<Vec<_>>(), &[4; 27]);
        many.extend(linear(&["end"], &[5, 6]));
        assert!(recognise(&many).unwrap_err().found.contains("neither"));
    }

    #[test]
    fn layers_that_share_their_tensors_are_followed_in_any_of_their_equal_orders() {
        let tensors = linear(&["a", "b", "c"], &[8, 8, 8, 3]);
        assert!(recognise(&tensors).unwrap_err().found.contains("neither"));
        let shared = [("b.weight", "a.weight"), ("b.bias", "a.bias")];
        let shared = shared.map(|(name, one)| (name.to_owned(), one.to_owned())).into();
        let state = StateDict::recognise(&tensors, &shared).unwrap();
        assert_eq!(state.description.architecture, widths(&[8, 8, 8, 3]));
    }

    #[test]
    fn what_does_not_fit_is_listed() {
        let lenet = own(&Family::Lenet5, &[1, 161, 101]);
        let without = |name: &str| {
            let mut tensors = lenet.clone();
            tensors.remove(name);
            tensors
        };
        let mut many = lenet.clone();
        many.extend((0..9).map(|i| (format!("extra{i}"), vec![1])));
        let cases = [
            (shapes(&[]), "safetensors without tensors", "an MLP, LeNet-5"),
            (shapes(&[("a.weight", &[2, 3, 4])]), "tensors a.weight", "ResNet-152"),
            (shapes(&[("bias", &[4])]), "tensors bias", "an MLP"),
            (shapes(&[("0.weight", &[3, 2])]), "no nn.0.bias of [3]", "an MLP of widths [2, 3]"),
            (
                shapes(&[("0.weight", &[3, 2]), ("0.bias", &[3]), ("1.weight", &[4, 5]), ("1.bias", &[4])]),
                "1.weight of [4, 5] in place of [4, 3]",
                "widths [2, 3, 4]",
            ),
            (without("conv2.bias"), "no conv2.bias of [20]", "lenet5"),
            (without("fc2.weight"), "fc2.bias of [7] in place of [1]", "lenet5"),
            (
                linear(&["0", "2"], &[4, 3, 2])
                    .into_iter()
                    .chain(shapes(&[("1.running_mean", &[3])]))
                    .collect(),
                "1.running_mean of [3], which does not belong to it",
                "an MLP of widths [4, 3, 2]",
            ),
            (many, "extra3 of [1], which does not belong to it and 5 more", "lenet5"),
        ];
        for (tensors, found, expected) in cases {
            let misfit = recognise(&tensors).unwrap_err();
            assert!(misfit.found.contains(found) && misfit.expected.contains(expected), "{misfit:?}");
        }
        let mut both = own(&Family::Resnet18, &[3, 32, 32]);
        both.insert("linear.bias".into(), vec![7]);
        let misfit = recognise(&both).unwrap_err();
        assert_eq!(misfit.found, "linear.bias of [7], which does not belong to it");
        // ResNet-34 has more blocks than ResNet-18.
        let mut deeper = own(&Family::Resnet18, &[3, 224, 224]);
        deeper.insert("layer1.2.conv1.weight".into(), vec![64, 64, 3, 3]);
        let misfit = recognise(&deeper).unwrap_err();
        assert_eq!(misfit.found, "layer1.2.conv1.weight of [64, 64, 3, 3], which does not belong to it");
    }

    #[test]
    fn a_network_of_unknown_size_refuses_rows_that_are_no_images_of_its_channels() {
        let state = recognise(&own(&Family::Resnet18, &[3, 32, 32])).unwrap();
        let network = Network::random(state.description, [0; 32], tch::Device::Cpu).unwrap();
        let answer =
            |size: &[i64]| network.predict(&tch::Tensor::zeros(size, (tch::Kind::Float, tch::Device::Cpu)));
        assert_eq!(answer(&[2, 3, 16, 24]).unwrap().size(), [2, 7]);
        for size in [&[2, 1, 16, 16][..], &[2, 3, 16], &[2, 768]] {
            assert!(answer(size).unwrap_err().to_string().contains("[3, height, width]"), "{size:?}");
        }
    }
}
