//! A graph that gives the same values in less time, for a model that only answers.
//!
//! What depends on no query is computed once, and what does nothing in evaluation goes. A batch normalisation
//! becomes part of the convolution or linear layer before it. On a CPU, convolutions and linear layers are those
//! of oneDNN with weights in its own order, images with their channels last, and the addition and activation that
//! follow as part of them. The weights of small linear layers are transposed in memory.
//!
//! A call may give a view of what it is given, and another may write to it. Therefore values that may share
//! memory are one *block*, and nothing of a block that is written is computed once.

use std::collections::{BTreeMap, BTreeSet};

use tch::{Kind, TchError, Tensor};

use super::graph::{Argument, Axis, ByMode, Call, Destination, Function, Graph, Input, Output, Role};
use super::product;
use super::run::Table;
use crate::operator::{Argument as Given, Operator, Value};
use crate::trainable::Mode;

/// The rows for which oneDNN orders weights, where the graph takes any number.
const ROWS: i64 = 16;

/// The multiplications for one row from which a linear layer is oneDNN's. On a CPU of 2024 an MLP of 784-200-100-10
/// took twice as long with oneDNN's, and a vision transformer 0.6 of the time.
const LARGE: i64 = 1 << 20;

/// The most that a stride, a padding or a dilation of a convolution may be to be oneDNN's.
const MOST: i64 = 1 << 16;

/// Views that need strides that fit.
const VIEWS: [&str; 2] = ["torch.ops.aten.view.default", "torch.ops.aten._unsafe_view.default"];

/// Operators that give a view of some tensors, and a copy of those whose strides do not fit.
const VIEW_OR_COPY: [&str; 7] =
    ["view", "_unsafe_view", "reshape", "reshape_as", "flatten", "contiguous", "to"];

/// Operators that fail if strides do not fit, or whose meaning depends on them.
const BY_STRIDES: [&str; 5] = ["view_as", "view_as_real", "view_as_complex", "_reshape_alias", "ravel"];
const CONV2D: &str = "torch.ops.aten.conv2d.default";
const CONVOLUTION: &str = "torch.ops.aten.convolution.default";
const LINEAR: &str = "torch.ops.aten.linear.default";

/// A graph with the tensors of its inputs.
pub(super) struct Lowered {
    pub(super) graph: Graph,
    pub(super) tensors: Vec<Tensor>,
}

/// The graph of one output of another graph, whose inputs keep their indices. `onednn` says whether it may use
/// oneDNN's layers on a CPU.
///
/// # Errors
/// libtorch's.
pub(super) fn lower(
    graph: &Graph,
    tensors: &[Tensor],
    output: usize,
    device: tch::Device,
    onednn: bool,
) -> Result<Lowered, TchError> {
    let output = graph.outputs.get(output).and_then(|output| output.place);
    let output = output.ok_or_else(|| TchError::Kind("found an output that is no tensor".into()))?;
    let mut lowering = Lowering::new(graph, tensors, output, device);
    lowering.drop_idle();
    lowering.compute_constants()?;
    lowering.fold_norms()?;
    if onednn && device == tch::Device::Cpu && lowering.allows_channels_last() {
        lowering.use_onednn()?;
    }
    if device == tch::Device::Cpu {
        lowering.transpose_weights()?;
    }
    lowering.finish(tensors)
}

/// Whether only convolutions of oneDNN use a value.
pub(super) fn only_convolves(graph: &Graph, place: usize) -> bool {
    let reads = |call: &Call| call.arguments.iter().flat_map(Argument::places).any(|read| read == place);
    // Their argument X is what they convolve.
    let is_convolution =
        |call: &Call| call.get("X").is_some() && matches!(call.target.as_str(), CONV2D | CONVOLUTION);
    let mut readers = graph.calls.iter().filter(|call| reads(call)).peekable();
    readers.peek().is_some() && readers.all(is_convolution)
}

/// A value that depends on the query.
struct DependsOnQuery;

struct Lowering<'a> {
    graph: &'a Graph,
    calls: Vec<Call>,
    /// The values that depend on no query, by place.
    constants: BTreeMap<usize, Tensor>,
    /// The number of places.
    places: usize,
    /// The place of the output.
    output: usize,
    /// The block of each place of the graph.
    blocks: Vec<usize>,
    /// The blocks that calls write to.
    written: BTreeSet<usize>,
    device: tch::Device,
}

impl<'a> Lowering<'a> {
    fn new(graph: &'a Graph, tensors: &[Tensor], output: usize, device: tch::Device) -> Self {
        let blocks = blocks(graph);
        let written = graph.calls.iter().flat_map(written).map(|place| blocks[place]).collect();
        let mut lowering = Self {
            graph,
            calls: graph.calls.clone(),
            constants: BTreeMap::new(),
            places: graph.places,
            output,
            blocks,
            written,
            device,
        };
        for (place, (input, tensor)) in graph.inputs.iter().zip(tensors).enumerate() {
            let is_known = matches!(input.role, Role::Parameter | Role::Buffer | Role::Constant);
            if is_known && !lowering.is_written(place) {
                lowering.constants.insert(place, tensor.shallow_clone());
            }
        }
        lowering
    }

    /// Whether a call writes to the memory of a value.
    fn is_written(&self, place: usize) -> bool {
        self.blocks.get(place).is_some_and(|block| self.written.contains(block))
    }

    /// A place with this value.
    fn constant(&mut self, tensor: Tensor) -> usize {
        self.constants.insert(self.places, tensor);
        self.places += 1;
        self.places - 1
    }

    /// The value at the place that an argument is, if it depends on no query.
    fn known(&self, argument: Option<&Argument>) -> Option<&Tensor> {
        match argument? {
            Argument::Place(place) => self.constants.get(place),
            _ => None,
        }
    }

    /// As [`known`](Self::known), of an argument that may be absent.
    fn known_if_given(&self, argument: Option<&Argument>) -> Result<Option<&Tensor>, DependsOnQuery> {
        match argument {
            None | Some(Argument::None | Argument::Default) => Ok(None),
            argument => self.known(argument).map(Some).ok_or(DependsOnQuery),
        }
    }

    /// The lengths of the axes of a value; none for those that depend on the rows.
    fn lengths(&self, place: usize) -> Option<Vec<Option<i64>>> {
        let sizes = self.graph.layouts.get(&place)?.sizes.iter();
        Some(sizes.map(|axis| if let Axis::Fixed(length) = axis { Some(*length) } else { None }).collect())
    }

    /// The only call that uses a value, if there is just one.
    fn only_user(&self, place: usize) -> Option<usize> {
        let count = |call: &Call| {
            call.arguments.iter().flat_map(Argument::places).filter(|&used| used == place).count()
        };
        let mut users = self.calls.iter().map(count).enumerate().filter(|(_, count)| *count > 0);
        let only = users.next().filter(|(_, count)| *count == 1 && place != self.output);
        only.filter(|_| users.next().is_none()).map(|(at, _)| at)
    }

    /// Leaves out calls that give in evaluation what they are given.
    fn drop_idle(&mut self) {
        let mut instead: BTreeMap<usize, usize> = BTreeMap::new();
        let resolve = |place: usize, instead: &BTreeMap<usize, usize>| *instead.get(&place).unwrap_or(&place);
        self.calls.retain_mut(|call| {
            for argument in &mut call.arguments {
                argument.rename(|place| resolve(place, &instead));
            }
            let of = stem(&call.target);
            let is_dropout = of.ends_with("dropout") && matches!(call.by_mode, Some((_, ByMode::Dropout)));
            let is_idle = matches!(of, "alias" | "detach") || (is_dropout && of != "native_dropout");
            let (true, Some(Argument::Place(given)), [Destination::One(made)]) =
                (is_idle, call.arguments.first(), &call.results[..])
            else {
                return true;
            };
            instead.insert(*made, *given);
            false
        });
        self.output = resolve(self.output, &instead);
    }

    /// Computes what depends on no query.
    fn compute_constants(&mut self) -> Result<(), TchError> {
        let mut kept = Vec::new();
        for call in std::mem::take(&mut self.calls) {
            let is_random = match &call.function {
                Function::Operator(operator) => operator.is_random(),
                // Numbers are quickly computed.
                Function::Symbol(_) => true,
            };
            let given: Option<Vec<_>> = call
                .arguments
                .iter()
                .flat_map(Argument::places)
                .map(|place| Some((place, self.constants.get(&place)?)))
                .collect();
            let (false, Some(place), Some(given)) = (is_random, made(&call), given) else {
                kept.push(call);
                continue;
            };
            let mut results = Vec::new();
            if !self.is_written(place) {
                call.run(&Table::new(given), Mode::Evaluate, self.device, &mut results)?;
            }
            match results.pop() {
                Some(Value::Tensor(tensor)) => {
                    self.constants.insert(place, tensor);
                }
                _ => kept.push(call),
            }
        }
        self.calls = kept;
        Ok(())
    }

    /// Makes batch normalisations part of the convolutions and linear layers before them.
    fn fold_norms(&mut self) -> Result<(), TchError> {
        let mut at = 0;
        while at < self.calls.len() {
            if let Some(norm) = self.norm_after(at)
                && let Some(tensors) = self.with_norm(&self.calls[at], &self.calls[norm])?
            {
                let [weight, bias] = tensors.map(|tensor| Argument::Place(self.constant(tensor)));
                let mut norm = self.calls.remove(norm);
                let call = &mut self.calls[at];
                call.set("weight", weight);
                call.set("bias", bias);
                norm.results.truncate(1);
                call.results = norm.results;
            }
            at += 1;
        }
        Ok(())
    }

    /// The batch normalisation that alone uses what a convolution or linear layer gives.
    fn norm_after(&self, at: usize) -> Option<usize> {
        let call = &self.calls[at];
        let is_layer = match name(&call.target) {
            "conv1d" | "conv2d" | "conv3d" | "convolution" => {
                matches!(call.get("transposed"), None | Some(Argument::Bool(false)))
            }
            "linear" => true,
            _ => false,
        };
        if !is_layer {
            return None;
        }
        let made = made(call)?;
        // With other axes, the one that is normalised is not that of the weight.
        let axes = self.graph.layouts.get(&made)?.sizes.len();
        let fits = axes == self.known(call.get("weight"))?.dim();
        self.only_user(made).filter(|&user| fits && is_norm(&self.calls[user]))
    }

    /// The weight and bias of a layer together with the normalisation that follows: W·γ/√(σ²+ε) and
    /// (b−μ)·γ/√(σ²+ε)+β. None: some of them depend on the query.
    fn with_norm(&self, layer: &Call, norm: &Call) -> Result<Option<[Tensor; 2]>, TchError> {
        let found = || {
            let [mean, variance] = ["running_mean", "running_var"].map(|name| self.known(norm.get(name)));
            let [scale, shift] = ["weight", "bias"].map(|name| self.known_if_given(norm.get(name)).ok());
            let weight = self.known(layer.get("weight"))?;
            let bias = self.known_if_given(layer.get("bias")).ok()?;
            let Some(Argument::Float(epsilon)) = norm.get("eps") else { return None };
            let (mean, variance, scale, shift) = (mean?, variance?, scale?, shift?);
            let all = [Some(mean), Some(variance), scale, shift, bias];
            // One number would be that of all channels here, and is an error where it is not folded.
            let fits = all.into_iter().flatten().all(|tensor| tensor.size() == weight.size()[..1]);
            fits.then_some((weight, bias, mean, variance, scale, shift, *epsilon))
        };
        let Some((weight, bias, mean, variance, scale, shift, epsilon)) = found() else { return Ok(None) };
        let double = |tensor: &Tensor| tensor.f_to_kind(Kind::Double);
        let mut factor = double(variance)?.f_add_scalar(epsilon)?.f_rsqrt()?;
        if let Some(scale) = scale {
            factor = factor.f_mul(&double(scale)?)?;
        }
        let centred = match bias {
            Some(bias) => double(bias)?.f_sub(&double(mean)?)?,
            None => double(mean)?.f_neg()?,
        };
        let mut offset = centred.f_mul(&factor)?;
        if let Some(shift) = shift {
            offset = offset.f_add(&double(shift)?)?;
        }
        let mut shape = vec![1; weight.dim()];
        shape[0] = -1;
        let scaled = double(weight)?.f_mul(&factor.f_view(&*shape)?)?;
        Ok(Some([scaled.f_to_kind(weight.kind())?, offset.f_to_kind(weight.kind())?]))
    }

    /// Whether calls keep their meaning if images have their channels last in memory: none asks for strides, and
    /// what would be a view, and may be a copy then, is not written to.
    fn allows_channels_last(&self) -> bool {
        let is_written_after = |at: usize, place: usize| {
            let block = self.blocks.get(place);
            self.calls[at..].iter().flat_map(written).any(|written| self.blocks.get(written) == block)
        };
        self.calls.iter().enumerate().all(|(at, call)| {
            let of = name(&call.target);
            let asks =
                of.contains("stride") || BY_STRIDES.contains(&of) || call.target.contains("view.dtype");
            let mut places = call.arguments.iter().flat_map(Argument::places);
            let is_written_copy =
                VIEW_OR_COPY.contains(&of) && places.any(|place| is_written_after(at, place));
            !asks && !is_written_copy
        })
    }

    /// Uses oneDNN's convolutions and linear layers, which compute what follows them, too.
    fn use_onednn(&mut self) -> Result<(), TchError> {
        // A libtorch may be built without oneDNN.
        let Some(operators) = OneDnn::find() else { return Ok(()) };
        let mut at = 0;
        while at < self.calls.len() {
            let convolution = self.convolution(at, &operators)?;
            let weight = if convolution.is_none() { self.linear(at, &operators)? } else { None };
            at = match (convolution, weight) {
                (Some(convolution), _) => self.put_convolution(at, convolution, &operators),
                (_, Some(weight)) => self.put_linear(at, weight, &operators),
                _ => at + 1,
            };
        }
        for call in self.calls.iter_mut().filter(|call| VIEWS.contains(&call.target.as_str())) {
            call.function = Function::Operator(operators.reshape.clone());
        }
        Ok(())
    }

    /// The convolution of images that a call is, with its weight in oneDNN's order.
    fn convolution(&self, at: usize, operators: &OneDnn) -> Result<Option<Convolution>, TchError> {
        let call = &self.calls[at];
        let found = || {
            let is_one = matches!(call.target.as_str(), CONV2D | CONVOLUTION)
                && matches!(call.get("transposed"), None | Some(Argument::Bool(false)));
            let weight = self.known(call.get("weight")).filter(|weight| weight.dim() == 4)?;
            let bias = self.known_if_given(call.get("bias")).ok()?;
            let Some(Argument::Place(input)) = call.get("input") else { return None };
            let lengths = self.lengths(*input).filter(|lengths| lengths.len() == 4)?;
            let pair = |name, default| call.get(name).map_or(Some([default; 2]), |given| given.pair(default));
            let groups = match call.get("groups") {
                None | Some(Argument::Default) => 1,
                Some(Argument::Int(groups)) => *groups,
                _ => return None,
            };
            let numbers = [pair("padding", 0)?, pair("stride", 1)?, pair("dilation", 1)?];
            let least = [0, 1, 1];
            let are_possible = numbers
                .iter()
                .zip(least)
                .all(|(pair, least)| pair.iter().all(|number| (least..=MOST).contains(number)));
            // What does not fit together is an error of the plain convolution.
            let channels = weight.size()[1].checked_mul(groups)?;
            let fits = groups >= 1
                && weight.numel() > 0
                && weight.size()[0] % groups == 0
                && lengths[1] == Some(channels)
                && bias.is_none_or(|bias| bias.size() == weight.size()[..1]);
            let is_float = weight.kind() == Kind::Float;
            (is_one && is_float && are_possible && fits).then_some((weight, lengths, numbers, groups))
        };
        let Some((weight, lengths, numbers, groups)) = found() else { return Ok(None) };
        let [padding, stride, dilation] = numbers;
        // The rows of a batch come first.
        let sizes =
            lengths.iter().zip([Some(ROWS), None, None, None]).map(|(length, other)| length.or(other));
        let sizes: Option<Vec<i64>> = sizes.collect();
        let given = [
            Given::Tensor(&weight.f_contiguous()?),
            Given::Ints(&padding),
            Given::Ints(&stride),
            Given::Ints(&dilation),
            Given::Int(groups),
            sizes.as_deref().map_or(Given::None, Given::Ints),
        ];
        let weight = tensor_of(&operators.order_convolution, &given)?;
        Ok(Some(Convolution { weight, numbers, groups }))
    }

    /// Puts a convolution of oneDNN in the place of a call, with the addition and activation that follow. Returns
    /// where the calls that may be next begin.
    fn put_convolution(&mut self, at: usize, convolution: Convolution, operators: &OneDnn) -> usize {
        let Convolution { weight, numbers, groups } = convolution;
        let weight = self.constant(weight);
        let call = &self.calls[at];
        let [input, bias] = ["input", "bias"].map(|name| given_or_none(call, name));
        let made = made(call);
        let rest = numbers.map(|pair| Argument::Ints(pair.into()));
        let rest = [Argument::Place(weight), bias].into_iter().chain(rest).chain([Argument::Int(groups)]);
        let follower = made.and_then(|made| self.only_user(made));
        let addition = follower.and_then(|user| Some((user, self.added(at, user)?)));
        if let Some((addition, other)) = addition {
            let sum = self::made(&self.calls[addition]);
            let relu = sum.and_then(|sum| self.only_user(sum));
            let relu = relu.filter(|&user| stem(&self.calls[user].target) == "relu");
            let unary = relu.map_or(Argument::None, |_| Argument::String("relu".into()));
            let end =
                [Argument::String("add".into()), Argument::Float(1.0), unary, NO_NUMBERS, Argument::None];
            let arguments = [input, Argument::Place(other)].into_iter().chain(rest).chain(end).collect();
            let last = relu.unwrap_or(addition);
            self.calls[addition] = self.calls[at].instead(&operators.added, arguments, &self.calls[last]);
            if let Some(relu) = relu {
                self.calls.remove(relu);
            }
            self.calls.remove(at);
            return at;
        }
        let arguments = [input].into_iter().chain(rest);
        self.put_with_activation(at, arguments, &operators.convolution)
    }

    /// Puts a layer of oneDNN in the place of a call, with the activation that follows.
    fn put_with_activation(
        &mut self,
        at: usize,
        arguments: impl Iterator<Item = Argument>,
        operator: &Operator,
    ) -> usize {
        let follower = made(&self.calls[at]).and_then(|made| self.only_user(made));
        let found = follower.and_then(|user| Some((user, activation(&self.calls[user])?)));
        let (last, [attribute, numbers, algorithm]) = match found {
            Some((user, activation)) => (user, activation),
            None => (at, [Argument::String("none".into()), NO_NUMBERS, Argument::None]),
        };
        let arguments = arguments.chain([attribute, numbers, algorithm]).collect();
        self.calls[at] = self.calls[at].instead(operator, arguments, &self.calls[last]);
        if last != at {
            self.calls.remove(last);
        }
        at + 1
    }

    /// What a call adds to the images of the convolution at `at`, if it can be part of that convolution.
    fn added(&self, at: usize, addition: usize) -> Option<usize> {
        let call = &self.calls[addition];
        let is_in_place = match call.target.as_str() {
            "torch.ops.aten.add.Tensor" => false,
            "torch.ops.aten.add_.Tensor" => true,
            _ => return None,
        };
        let is_plain = match call.get("alpha")? {
            Argument::Default | Argument::Int(1) => true,
            Argument::Float(factor) => *factor == 1.0,
            _ => false,
        };
        let (Argument::Place(first), Argument::Place(second)) = (call.get("self")?, call.get("other")?)
        else {
            return None;
        };
        let made = made(&self.calls[at])?;
        let other = if *first == made { *second } else { *first };
        let is_same = self.graph.layouts.get(&made)? == self.graph.layouts.get(&other)?;
        let Some(Argument::Place(input)) = self.calls[at].get("input") else { return None };
        // The convolution is computed later, where its input must still be the same.
        let mut between = self.calls[at..addition].iter().flat_map(written);
        let is_kept = !between.any(|place| self.blocks.get(place) == self.blocks.get(*input));
        (is_plain && is_same && is_kept && (!is_in_place || *first == made)).then_some(other)
    }

    /// The weight of the linear layer that a call is, in oneDNN's order. None: it is another call, or so small that
    /// oneDNN, which prepares each call anew, takes longer.
    fn linear(&self, at: usize, operators: &OneDnn) -> Result<Option<Tensor>, TchError> {
        let call = &self.calls[at];
        let found = || {
            let weight = self.known(call.get("weight")).filter(|weight| weight.dim() == 2)?;
            let bias = self.known_if_given(call.get("bias")).ok()?;
            let Some(Argument::Place(input)) = call.get("input") else { return None };
            let lengths = self.lengths(*input)?;
            // Each row has a vector, or one for each token or pixel.
            let vectors = lengths.get(1..lengths.len().checked_sub(1)?)?.iter().flatten();
            let numbers: Vec<i64> = vectors.copied().chain([weight.numel() as i64]).collect();
            let is_large = product(&numbers) >= LARGE;
            let fits = lengths.last() == Some(&Some(weight.size()[1]))
                && bias.is_none_or(|bias| bias.size() == weight.size()[..1]);
            let is_linear = call.target == LINEAR && weight.kind() == Kind::Float;
            (is_linear && is_large && fits).then_some(weight)
        };
        let Some(weight) = found() else { return Ok(None) };
        tensor_of(&operators.order_linear, &[Given::Tensor(&weight.f_contiguous()?), Given::Int(ROWS)])
            .map(Some)
    }

    /// Puts a linear layer of oneDNN in the place of a call, with the activation that follows. Returns where the
    /// calls that may be next begin.
    fn put_linear(&mut self, at: usize, weight: Tensor, operators: &OneDnn) -> usize {
        let weight = self.constant(weight);
        let call = &self.calls[at];
        let [input, bias] = ["input", "bias"].map(|name| given_or_none(call, name));
        let arguments = [input, Argument::Place(weight), bias];
        self.put_with_activation(at, arguments.into_iter(), &operators.linear)
    }

    /// Lets the memory of the weights of the other linear layers be that of `[inputs, outputs]`. With it, a layer takes
    /// three quarters of the time for 16 rows, and the same for many.
    fn transpose_weights(&mut self) -> Result<(), TchError> {
        for at in 0..self.calls.len() {
            let call = &self.calls[at];
            let weight = self.known(call.get("weight"));
            let weight = weight.filter(|weight| call.target == LINEAR && weight.dim() == 2);
            if let Some(weight) = weight {
                let transposed = weight.f_tr()?.f_contiguous()?.f_tr()?;
                let place = self.constant(transposed);
                self.calls[at].set("weight", Argument::Place(place));
            }
        }
        Ok(())
    }

    /// The graph of the calls that the output needs.
    fn finish(mut self, tensors: &[Tensor]) -> Result<Lowered, TchError> {
        let block = |place: usize| self.blocks.get(place).copied();
        let mut needed = BTreeSet::from([self.output]);
        let mut blocks: BTreeSet<usize> = block(self.output).into_iter().collect();
        let mut calls = Vec::new();
        for call in std::mem::take(&mut self.calls).into_iter().rev() {
            let is_needed = call.results.is_empty()
                || call.results.iter().flat_map(Destination::places).any(|place| needed.contains(&place))
                || written(&call).any(|place| block(place).is_some_and(|block| blocks.contains(&block)));
            if is_needed {
                for place in call.arguments.iter().flat_map(Argument::places) {
                    needed.insert(place);
                    blocks.extend(block(place));
                }
                calls.push(call);
            }
        }
        calls.reverse();
        // Inputs have the first places, then come the other constants, then what the calls make.
        let given = self.graph.inputs.len();
        let mut places: BTreeMap<usize, usize> = (0..given).map(|place| (place, place)).collect();
        let mut inputs: Vec<Input> = self.graph.inputs.clone();
        let mut all = Vec::with_capacity(tensors.len());
        for (place, tensor) in tensors.iter().enumerate() {
            let is_kept = needed.contains(&place) || inputs[place].role == Role::User;
            all.push(if is_kept {
                tensor.shallow_clone()
            } else {
                Tensor::f_zeros([0], (Kind::Float, self.device))?
            });
        }
        for (place, tensor) in self.constants.range(given..).filter(|(place, _)| needed.contains(place)) {
            places.insert(*place, inputs.len());
            let name = String::new();
            inputs.push(Input {
                name,
                role: Role::Constant,
                meta: None,
                is_written: false,
                requires_grad: false,
            });
            all.push(tensor.shallow_clone());
        }
        for place in calls.iter().flat_map(|call| &call.results).flat_map(Destination::places) {
            let next = places.len();
            places.insert(place, next);
        }
        let new = |place: usize| places[&place];
        for call in &mut calls {
            call.arguments.iter_mut().for_each(|argument| argument.rename(new));
            call.results.iter_mut().for_each(|result| result.rename(new));
        }
        let output = Output { name: "0".into(), place: Some(new(self.output)), meta: None };
        let layouts = BTreeMap::new();
        let graph = Graph {
            inputs,
            calls,
            places: places.len(),
            layouts,
            outputs: vec![output],
            mutations: Vec::new(),
        };
        Ok(Lowered { graph: graph.complete(), tensors: all })
    }
}

/// A convolution of oneDNN.
struct Convolution {
    /// In oneDNN's order.
    weight: Tensor,
    /// Padding, stride and dilation, along both axes.
    numbers: [[i64; 2]; 3],
    groups: i64,
}

/// Operators of oneDNN.
struct OneDnn {
    convolution: Operator,
    /// A convolution to whose images others are added.
    added: Operator,
    order_convolution: Operator,
    linear: Operator,
    order_linear: Operator,
    /// The operator in the place of a view.
    reshape: Operator,
}

impl OneDnn {
    fn find() -> Option<Self> {
        Some(Self {
            convolution: Operator::find("mkldnn::_convolution_pointwise", "")?,
            added: Operator::find("mkldnn::_convolution_pointwise", "binary")?,
            order_convolution: Operator::find("mkldnn::_reorder_convolution_weight", "")?,
            linear: Operator::find("mkldnn::_linear_pointwise", "")?,
            order_linear: Operator::find("mkldnn::_reorder_linear_weight", "")?,
            reshape: Operator::find("aten::reshape", "")?,
        })
    }
}

const NO_NUMBERS: Argument = Argument::Floats(Vec::new());

/// The activation that a call is: oneDNN's name, its numbers, and the algorithm.
fn activation(call: &Call) -> Option<[Argument; 3]> {
    let number = |name: &str, default: f64| match call.get(name)? {
        Argument::Default => Some(default),
        Argument::Int(number) => Some(*number as f64),
        Argument::Float(number) => Some(*number),
        _ => None,
    };
    let (attribute, numbers, algorithm) = match stem(&call.target) {
        of @ ("relu" | "sigmoid" | "tanh" | "hardswish" | "hardsigmoid") => (of, Vec::new(), None),
        "silu" => ("swish", Vec::new(), None),
        "leaky_relu" => ("leaky_relu", vec![number("negative_slope", 0.01)?], None),
        "hardtanh" => ("hardtanh", vec![number("min_val", -1.0)?, number("max_val", 1.0)?], None),
        "gelu" => {
            let approximate = match call.get("approximate")? {
                Argument::Default => "none",
                Argument::String(approximate) => approximate,
                _ => return None,
            };
            ("gelu", Vec::new(), Some(approximate))
        }
        _ => return None,
    };
    let algorithm = algorithm.map_or(Argument::None, |algorithm| Argument::String(algorithm.into()));
    Some([Argument::String(attribute.into()), Argument::Floats(numbers), algorithm])
}

/// The result of an operator that gives one tensor.
fn tensor_of(operator: &Operator, given: &[Given<'_>]) -> Result<Tensor, TchError> {
    let mut results = Vec::new();
    operator.call(given, &mut results)?;
    match results.pop() {
        Some(Value::Tensor(tensor)) => Ok(tensor),
        other => Err(TchError::Kind(format!("found {other:?}, expected a tensor"))),
    }
}

/// The operator's name in `torch.ops.aten.conv2d.default`; another target as it is.
fn name(target: &str) -> &str {
    let name = target.strip_prefix("torch.ops.aten.").unwrap_or(target);
    name.split('.').next().unwrap_or(name)
}

/// The operator's name without the mark of one that writes to its argument.
fn stem(target: &str) -> &str {
    name(target).trim_end_matches('_')
}

/// An argument of a call; one that is left out is none.
fn given_or_none(call: &Call, name: &str) -> Argument {
    match call.get(name) {
        None | Some(Argument::Default) => Argument::None,
        Some(argument) => argument.clone(),
    }
}

/// The place of the only result of a call that has one.
fn made(call: &Call) -> Option<usize> {
    match call.results[..] {
        [Destination::One(place)] => Some(place),
        _ => None,
    }
}

/// Whether a call is a batch normalisation by running statistics, of whose results one is used.
fn is_norm(call: &Call) -> bool {
    let of = name(&call.target);
    let others_go = call.results.iter().skip(1).all(|result| matches!(result, Destination::Nowhere));
    matches!(of, "batch_norm" | "_native_batch_norm_legit_no_training") && others_go
}

/// The places that a call writes to.
fn written(call: &Call) -> impl Iterator<Item = usize> {
    let declared = match &call.function {
        Function::Operator(operator) => operator.arguments(),
        Function::Symbol(_) => &[],
    };
    let pairs = declared.iter().zip(&call.arguments).filter(|(declared, _)| declared.written);
    pairs.flat_map(|(_, argument)| argument.places())
}

/// The block of each place: values that may share memory have the same.
fn blocks(graph: &Graph) -> Vec<usize> {
    let mut blocks: Vec<usize> = (0..graph.places).collect();
    for call in &graph.calls {
        let Function::Operator(operator) = &call.function else { continue };
        let shared = operator.arguments().iter().zip(&call.arguments).filter(|(declared, _)| declared.shared);
        let shared = shared.flat_map(|(_, argument)| argument.places());
        // Dropout gives in evaluation what it is given, which its schema does not say.
        let same = matches!(call.by_mode, Some((_, ByMode::Dropout)));
        let first = call.arguments.first().filter(|_| same).map(Argument::places).unwrap_or_default();
        let of: Vec<usize> = shared.chain(first).map(|place| blocks[place]).collect();
        if of.is_empty() {
            continue;
        }
        let made: Vec<usize> = call.results.iter().flat_map(Destination::places).collect();
        let joined = of[0];
        for block in &mut blocks {
            if of.contains(block) {
                *block = joined;
            }
        }
        for place in made {
            blocks[place] = joined;
        }
    }
    blocks
}
