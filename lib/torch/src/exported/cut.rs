//! Cuts a part out of a program: what is between the value of one node and that of another.
//!
//! The part is a program of its own: its JSON is that of the whole, without the nodes, inputs and outputs that
//! it does not need.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::permitted;
use super::schema::{Argument, Graph, InputSpec, Node, OptionalTensor, OutputSpec, Program, Size, Symbol};
use crate::operator::Operator;

/// The most names that a message lists.
const LISTED: usize = 8;

/// A cut that does not make a program.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// No node has a tensor of this name.
    #[error("found no node '{name}' that makes a tensor, expected one as {}", near.join(", "))]
    NoNode {
        /// The name that was given.
        name: String,
        /// Names like it.
        near: Vec<String>,
    },
    /// The program does not lead from one to the other.
    #[error("found nothing that leads from '{from}' to '{to}'")]
    Apart {
        /// The beginning.
        from: String,
        /// The end.
        to: String,
    },
    /// The part needs a value from before it, besides that at which it begins.
    #[error(
        "found '{input}' in '{user}', which is behind '{from}' and does not come from it alone; expected a node \
         that all behind it comes from"
    )]
    Beside {
        /// The input of the program.
        input: String,
        /// A value that needs it.
        user: String,
        /// The beginning.
        from: String,
    },
    /// A node that is left out changes memory of the part.
    #[error("found '{node}', which is not in the part and changes values of it in place")]
    InPlace {
        /// The node.
        node: String,
    },
    /// The JSON has another structure than the graph that was read from it.
    #[error("found JSON of another structure, expected that of an exported program")]
    Structure,
}

/// Makes the JSON of a program that of a part of it, which begins with the value `from` (none: the program's inputs)
/// and ends with the value `to`, its only output.
///
/// # Errors
/// [`CutError`], by kind.
pub(super) fn cut(program: &Program, json: &mut Value, from: Option<&str>, to: &str) -> Result<(), CutError> {
    let whole = Whole::new(program);
    for name in from.into_iter().chain([to]) {
        whole.check(name)?;
    }
    let part = whole.part(from, to);
    if let Some(from) = from {
        whole.check_beginning(&part, from, to)?;
    }
    whole.check_writers(&part, from)?;
    whole.write(&part, json, from, to).ok_or(CutError::Structure)
}

/// A program with what makes each of its values.
struct Whole<'a> {
    program: &'a Program,
    graph: &'a Graph,
    /// The node that makes a value.
    makers: BTreeMap<&'a str, usize>,
}

/// What is needed for a value.
#[derive(Default)]
struct Part<'a> {
    nodes: BTreeSet<usize>,
    /// Values that are not made by its nodes, with one that needs them.
    inputs: BTreeMap<&'a str, &'a str>,
    /// Numbers that are the length of an axis of the value at which the part begins.
    lengths: BTreeMap<&'a str, usize>,
    /// Whether that value is needed.
    begins: bool,
}

impl<'a> Whole<'a> {
    fn new(program: &'a Program) -> Self {
        let graph = &program.graph_module.graph;
        let made = |(at, node): (usize, &'a Node)| results(node).into_iter().map(move |name| (name, at));
        Self { program, graph, makers: graph.nodes.iter().enumerate().flat_map(made).collect() }
    }

    fn node(&self, value: &str) -> Option<(usize, &'a Node)> {
        let at = *self.makers.get(value)?;
        Some((at, self.graph.nodes.get(at)?))
    }

    /// Sees that a node makes a tensor of this name.
    fn check(&self, name: &str) -> Result<(), CutError> {
        let is_tensor = |name: &&str| self.graph.tensor_values.contains_key(*name);
        if self.makers.contains_key(name) && is_tensor(&name) {
            return Ok(());
        }
        let all = || self.graph.nodes.iter().flat_map(results).filter(is_tensor);
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
        let mut near: Vec<&str> =
            all().filter(|other| !stem.is_empty() && other.contains(stem)).take(LISTED + 1).collect();
        if near.is_empty() {
            near = all().take(LISTED + 1).collect();
        }
        if near.len() > LISTED {
            near[LISTED] = "…";
        }
        Err(CutError::NoNode { name: name.into(), near: near.into_iter().map(str::to_owned).collect() })
    }

    /// What the value `to` needs, up to the value `from`.
    fn part(&self, from: Option<&str>, to: &'a str) -> Part<'a> {
        let mut part = Part::default();
        let mut open = vec![(to, to)];
        let mut seen = BTreeSet::new();
        while let Some((value, user)) = open.pop() {
            if from == Some(value) {
                part.begins = true;
                continue;
            }
            if !seen.insert(value) {
                continue;
            }
            if let Some(axis) = from.and_then(|from| self.axis(from, value)) {
                part.lengths.insert(value, axis);
            } else if let Some((at, node)) = self.node(value) {
                part.nodes.insert(at);
                open.extend(operands(node).into_iter().map(|operand| (operand, value)));
            } else {
                part.inputs.insert(value, user);
            }
        }
        part
    }

    /// The axis of a tensor whose length is this number.
    fn axis(&self, tensor: &str, number: &str) -> Option<usize> {
        let Size::AsExpr(length) = self.graph.sym_int_values.get(number)? else { return None };
        let is_it = |size: &Size| matches!(size, Size::AsExpr(other) if other.expr_str == length.expr_str);
        self.graph.tensor_values.get(tensor)?.sizes.iter().position(is_it)
    }

    /// Sees that a part comes from the value at which it begins: what that value is made of is not there.
    fn check_beginning(&self, part: &Part<'_>, from: &'a str, to: &str) -> Result<(), CutError> {
        if !part.begins || from == to {
            return Err(CutError::Apart { from: from.into(), to: to.into() });
        }
        let before = self.part(None, from).inputs;
        for (input, user) in &part.inputs {
            if self.is_user(input) && before.contains_key(input) {
                let [input, user, from] = [*input, *user, from].map(str::to_owned);
                return Err(CutError::Beside { input, user, from });
            }
        }
        Ok(())
    }

    /// Whether a value is an input that the user gives.
    fn is_user(&self, value: &str) -> bool {
        self.program.graph_module.signature.input_specs.iter().any(|spec| match spec {
            InputSpec::UserInput(user) => names(&user.arg) == [value],
            _ => false,
        })
    }

    /// Sees that no node that is left out changes memory that the part reads. Values may share memory where the schema
    /// of an operator says so.
    fn check_writers(&self, part: &Part<'_>, from: Option<&str>) -> Result<(), CutError> {
        let mut shared = Shared::default();
        let mut writers: Vec<(usize, &str)> = Vec::new();
        for (at, node) in self.graph.nodes.iter().enumerate() {
            for (value, how) in uses(node) {
                if how != Use::Read {
                    for result in results(node) {
                        shared.join(value, result);
                    }
                }
                if how == Use::Written && !part.nodes.contains(&at) {
                    writers.push((at, value));
                }
            }
        }
        let begin = from.and_then(|from| self.makers.get(from));
        for (at, value) in writers {
            let memory = shared.of(value);
            // What was changed before the part begins is in the value at which it begins.
            let reads = if begin.is_some_and(|begin| at <= *begin) {
                part.inputs.keys().any(|input| shared.of(input) == memory)
            } else {
                let later = part.nodes.range(at..).filter_map(|&later| self.graph.nodes.get(later));
                later.flat_map(operands).any(|operand| shared.of(operand) == memory)
            };
            if reads {
                let made = self.graph.nodes.get(at).and_then(|node| results(node).first().copied());
                return Err(CutError::InPlace { node: made.unwrap_or(value).into() });
            }
        }
        Ok(())
    }

    /// Writes the part in the place of the whole; none: the JSON has another structure.
    fn write(&self, part: &Part<'_>, json: &mut Value, from: Option<&str>, to: &str) -> Option<()> {
        let tensor = |name: &str| json!({ "as_tensor": { "name": name } });
        let user = |key: &str, name: &str| json!({ key: { "arg": tensor(name) } });
        let signature = &self.program.graph_module.signature;
        let made: BTreeSet<&str> = (part.nodes.iter())
            .filter_map(|&at| self.graph.nodes.get(at))
            .flat_map(results)
            .chain(part.lengths.keys().copied())
            .collect();
        let is_used =
            |name: &str| made.contains(name) || part.inputs.contains_key(name) || from == Some(name);
        let begin = json.get_mut("graph_module")?;

        let mut inputs = Vec::new();
        let (mut specs, mut values) = (Vec::new(), Vec::new());
        let all =
            begin["graph"]["inputs"].as_array()?.iter().zip(begin["signature"]["input_specs"].as_array()?);
        for ((value, spec), read) in all.zip(&signature.input_specs) {
            let name = input(read).filter(|name| part.inputs.contains_key(name));
            if let Some(name) = name {
                inputs.extend(matches!(read, InputSpec::UserInput(_)).then(|| name.to_owned()));
                specs.push(spec.clone());
                values.push(value.clone());
            }
        }
        if let Some(from) = from {
            // The user's inputs come last.
            let first = specs.len().checked_sub(inputs.len())?;
            specs.insert(first, user("user_input", from));
            values.insert(first, tensor(from));
            inputs.insert(0, from.to_owned());
        }
        let kept = |spec: &&OutputSpec| match spec {
            OutputSpec::BufferMutation { arg, .. } => made.contains(arg.name.as_str()),
            _ => false,
        };
        let mutations = signature.output_specs.iter().filter(kept);
        let (mut outputs, mut results) = (Vec::new(), Vec::new());
        for spec in mutations {
            if let OutputSpec::BufferMutation { arg, buffer_name } = spec {
                let mutation = json!({ "arg": { "name": arg.name }, "buffer_name": buffer_name });
                outputs.push(json!({ "buffer_mutation": mutation }));
                results.push(tensor(&arg.name));
            }
        }
        outputs.push(user("user_output", to));
        results.push(tensor(to));

        let graph = begin["graph"].as_object_mut()?;
        let nodes = graph.get_mut("nodes")?.as_array_mut()?;
        let mut index = 0..;
        nodes.retain(|_| index.next().is_some_and(|at| part.nodes.contains(&at)));
        for (number, axis) in &part.lengths {
            nodes.insert(0, length(from?, *axis, number));
        }
        for (key, entry) in graph.iter_mut().filter(|(key, _)| key.ends_with("_values")) {
            let values = entry.as_object_mut()?;
            if key != "custom_obj_values" {
                values.retain(|name, _| is_used(name));
            }
        }
        graph.insert("inputs".into(), values.into());
        graph.insert("outputs".into(), results.into());
        begin["signature"]["input_specs"] = specs.into();
        begin["signature"]["output_specs"] = outputs.into();
        let calls = begin["module_call_graph"].as_array_mut()?;
        calls.retain(|call| call["fqn"] == "" || call["signature"].is_null());
        let signature = &mut calls.iter_mut().find(|call| call["fqn"] == "")?["signature"];
        let leaf = json!({ "type": null, "context": null, "children_spec": [] });
        let container = |kind: &str, context: &str, children: Vec<Value>| json!({ "type": kind, "context": context, "children_spec": children });
        let positional = container("builtins.tuple", "null", vec![leaf.clone(); inputs.len()]);
        let named = container("builtins.dict", "[]", Vec::new());
        let tree = container("builtins.tuple", "null", vec![positional, named]);
        signature["in_spec"] = json!([1, tree]).to_string().into();
        signature["out_spec"] = json!([1, leaf]).to_string().into();
        signature["forward_arg_names"] = inputs.into();
        // They are of the whole's inputs.
        json["guards_code"] = json!([]);
        Some(())
    }
}

/// A node that makes the length of an axis.
fn length(of: &str, axis: usize, number: &str) -> Value {
    let argument = |name: &str, value: Value| json!({ "name": name, "arg": value, "kind": 1 });
    json!({
        "target": "torch.ops.aten.sym_size.int",
        "inputs": [
            argument("self", json!({ "as_tensor": { "name": of } })),
            argument("dim", json!({ "as_int": axis })),
        ],
        "outputs": [{ "as_sym_int": { "as_name": number } }],
        "metadata": {},
        "is_hop_single_tensor_return": null,
        "name": number,
    })
}

/// What a node does with the memory of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Read,
    /// Its results may share it.
    Shared,
    /// It changes it, and its results may share it.
    Written,
}

/// The values that a node takes.
fn uses(node: &Node) -> Vec<(&str, Use)> {
    if node.target == permitted::SET_GRADIENTS {
        let mut inner = node.inputs.iter().filter_map(|named| match &named.arg {
            Argument::AsGraph(inner) => Some(&inner.graph.nodes),
            _ => None,
        });
        let writes = inner.any(|nodes| nodes.iter().flat_map(uses).any(|(_, how)| how == Use::Written));
        let how = if writes { Use::Written } else { Use::Shared };
        return operands(node).into_iter().map(|value| (value, how)).collect();
    }
    let operator = permitted::operator(&node.target).ok();
    let how = |name: &str| {
        let declared = operator.iter().flat_map(Operator::arguments).find(|declared| declared.name == name);
        match declared {
            Some(declared) if declared.written => Use::Written,
            Some(declared) if declared.shared => Use::Shared,
            _ => Use::Read,
        }
    };
    let all = node.inputs.iter().map(|named| (names(&named.arg), how(&named.name)));
    all.flat_map(|(names, how)| names.into_iter().map(move |name| (name, how))).collect()
}

/// Values in classes: those that may share memory.
#[derive(Default)]
struct Shared<'a> {
    indices: BTreeMap<&'a str, usize>,
    /// Of each value one that it shares memory with, or itself.
    parents: Vec<usize>,
}

impl<'a> Shared<'a> {
    /// The class of a value.
    fn of(&mut self, value: &'a str) -> usize {
        let next = self.parents.len();
        let mut at = *self.indices.entry(value).or_insert(next);
        if at == next {
            self.parents.push(next);
        }
        while let Some(&parent) = self.parents.get(at).filter(|parent| **parent != at) {
            // Half of the way is cut off for the next search.
            self.parents[at] = self.parents[parent];
            at = parent;
        }
        at
    }

    fn join(&mut self, a: &'a str, b: &'a str) {
        let (a, b) = (self.of(a), self.of(b));
        self.parents[a] = b;
    }
}

/// The values that a node takes.
fn operands(node: &Node) -> Vec<&str> {
    node.inputs.iter().flat_map(|named| names(&named.arg)).collect()
}

/// The values that a node makes.
fn results(node: &Node) -> Vec<&str> {
    node.outputs.iter().flat_map(names).collect()
}

/// The name of an input's value in the graph.
fn input(spec: &InputSpec) -> Option<&str> {
    match spec {
        InputSpec::UserInput(user) => names(&user.arg).first().copied(),
        InputSpec::Parameter { arg, .. }
        | InputSpec::Buffer { arg, .. }
        | InputSpec::TensorConstant { arg, .. } => Some(&arg.name),
        InputSpec::ConstantInput { .. } | InputSpec::CustomObj(_) | InputSpec::Token(_) => None,
    }
}

/// The names of values in an argument.
fn names(argument: &Argument) -> Vec<&str> {
    fn optional(tensor: &OptionalTensor) -> Option<&str> {
        match tensor {
            OptionalTensor::AsTensor(tensor) => Some(&tensor.name),
            OptionalTensor::AsNone(_) => None,
        }
    }
    fn number(symbol: &Symbol) -> Option<&str> {
        match symbol {
            Symbol::AsName(name) => Some(name),
            Symbol::AsInt(_) | Symbol::AsFloat(_) | Symbol::AsBool(_) => None,
        }
    }
    match argument {
        Argument::AsTensor(tensor) => vec![&tensor.name],
        Argument::AsTensors(tensors) => tensors.iter().map(|tensor| tensor.name.as_str()).collect(),
        Argument::AsOptionalTensor(tensor) => optional(tensor).into_iter().collect(),
        Argument::AsOptionalTensors(tensors) => tensors.iter().filter_map(optional).collect(),
        Argument::AsSymInt(symbol) | Argument::AsSymFloat(symbol) | Argument::AsSymBool(symbol) => {
            number(symbol).into_iter().collect()
        }
        Argument::AsSymInts(symbols) => symbols.iter().filter_map(number).collect(),
        _ => Vec::new(),
    }
}
