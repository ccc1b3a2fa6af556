//! The graph of an exported program, checked: a list of calls whose values have places in a table.
//!
//! A value is made before it is used and only once, so that a graph has no cycle. The first places are those
//! of the inputs: parameters, buffers, constants, and what the user gives.

use std::collections::{BTreeMap, BTreeSet};

use super::schema::{self, InputSpec, OptionalTensor, OutputSpec, Size, Symbol};
use super::symbols::Operation;
use super::{ProgramError, permitted};
use crate::operator::Operator;

/// The strided layout in the schema; others are sparse.
const STRIDED: i64 = 7;

/// A checked graph.
#[derive(Debug)]
pub(super) struct Graph {
    /// The inputs, whose values have the first places.
    pub(super) inputs: Vec<Input>,
    pub(super) calls: Vec<Call>,
    /// The number of places.
    pub(super) places: usize,
    /// The type and shape of the values, by place, as far as the file has them.
    pub(super) layouts: BTreeMap<usize, Layout>,
    pub(super) outputs: Vec<Output>,
    /// New values of buffers: the place of the value, and the input.
    pub(super) mutations: Vec<(usize, usize)>,
}

/// An input of the graph.
#[derive(Clone, Debug)]
pub(super) struct Input {
    /// Its name: PyTorch's name of a parameter or buffer, or that of an argument of `forward`.
    pub(super) name: String,
    pub(super) role: Role,
    /// The type, by its code of the schema, and the sizes.
    pub(super) meta: Option<Layout>,
    /// Whether a call changes it other than by [`ByMode::Normalise`].
    pub(super) is_written: bool,
    /// Whether gradients were wanted of it in Python.
    pub(super) requires_grad: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Parameter,
    Buffer,
    Constant,
    /// A tensor that the user gives.
    User,
    /// A value that the graph was exported for and does not take.
    Fixed,
}

/// The type and shape of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// The code of its type.
    pub(super) dtype: i64,
    pub(super) sizes: Vec<Axis>,
}

/// The length of an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    Fixed(i64),
    /// A symbol, or an expression of symbols.
    Symbol(String),
}

impl Axis {
    /// Its length, if it is known.
    pub(super) fn length(&self) -> Option<usize> {
        match self {
            Self::Fixed(length) => usize::try_from(*length).ok(),
            Self::Symbol(_) => None,
        }
    }
}

/// An output that the user gets.
#[derive(Clone, Debug)]
pub(super) struct Output {
    /// The key of a dictionary, or the index.
    pub(super) name: String,
    /// Its place; none: it is not a tensor.
    pub(super) place: Option<usize>,
    /// Its type and sizes.
    pub(super) meta: Option<Layout>,
}

/// A call of an operator.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// The operator's name in the graph, for messages.
    pub(super) target: String,
    pub(super) function: Function,
    /// The arguments, in the order of the operator's schema.
    pub(super) arguments: Vec<Argument>,
    /// The argument that depends on whether the model learns.
    pub(super) by_mode: Option<(usize, ByMode)>,
    /// Where the results go.
    pub(super) results: Vec<Destination>,
    /// The places of values that no later call uses.
    pub(super) last: Vec<usize>,
    /// True if the results have memory that was not written.
    pub(super) is_uninitialised: bool,
    pub(super) gradients: Gradients,
}

/// What a call does for gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gradients {
    /// They go through it, if its user computes any.
    Kept,
    /// Its results are constants for them, as within torch.no_grad().
    Stopped,
}

#[derive(Clone, Debug)]
pub(super) enum Function {
    Operator(Operator),
    Symbol(Operation),
}

/// An argument of a call.
#[derive(Clone, Debug)]
pub(super) enum Argument {
    Default,
    None,
    /// The value at a place.
    Place(usize),
    /// The tensors at places; some may be absent.
    Places(Vec<Option<usize>>),
    Int(i64),
    Ints(Vec<i64>),
    /// Numbers, some of them at places.
    Sizes(Vec<Term>),
    Float(f64),
    Floats(Vec<f64>),
    Bool(bool),
    Bools(Vec<u8>),
    String(String),
    /// The device of the model.
    Device,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Term {
    Known(i64),
    Place(usize),
}

/// Where a result goes.
#[derive(Clone, Debug)]
pub(super) enum Destination {
    /// Nobody uses it.
    Nowhere,
    One(usize),
    /// A list of this many tensors.
    Many(Vec<usize>),
}

/// An argument that depends on whether the model learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByMode {
    /// `train` of dropout and recurrent layers: true while it learns.
    Dropout,
    /// `training` of batch normalisation, `use_input_stats` of instance normalisation with running statistics: true
    /// while it learns, unless the statistics are held.
    Normalise,
    /// A probability of dropout: 0 unless it learns.
    Probability,
}

impl Graph {
    /// Checks a program's graph.
    ///
    /// # Errors
    /// What cannot be computed, by name.
    pub(super) fn new(program: &schema::Program) -> Result<Self, ProgramError> {
        let schema::GraphModule { graph, signature, .. } = &program.graph_module;
        let mut places = Places::default();
        let mut inputs = Vec::new();
        for spec in &signature.input_specs {
            inputs.push(input(spec, &mut places, graph)?);
        }
        let mut calls = Vec::with_capacity(graph.nodes.len());
        add_calls(graph, Gradients::Kept, &mut places, &mut calls)?;
        let by_name: BTreeMap<&str, usize> = (inputs.iter().enumerate())
            .filter(|(_, input)| input.role == Role::Buffer)
            .map(|(at, input)| (input.name.as_str(), at))
            .collect();
        let mut names = output_names(&program.graph_module).into_iter();
        let (mut outputs, mut mutations) = (Vec::new(), Vec::new());
        for spec in &signature.output_specs {
            match spec {
                OutputSpec::UserOutput(value) => {
                    let (place, meta) = match &value.arg {
                        schema::Argument::AsTensor(tensor) => {
                            (Some(places.find(&tensor.name, OUTPUTS)?), layout(graph, &tensor.name))
                        }
                        _ => (None, None),
                    };
                    let name = names.next().unwrap_or_else(|| outputs.len().to_string());
                    outputs.push(Output { name, place, meta });
                }
                OutputSpec::BufferMutation { arg, buffer_name } => {
                    let buffer = by_name
                        .get(buffer_name.as_str())
                        .ok_or_else(|| ProgramError::NoTensor { name: buffer_name.clone() })?;
                    mutations.push((places.find(&arg.name, OUTPUTS)?, *buffer));
                }
                OutputSpec::Other(keys) => {
                    let found = keys.keys().next().cloned().unwrap_or_default();
                    return Err(ProgramError::Signature { found: format!("the output {found}") });
                }
            }
        }
        let layouts = places.by_name.iter().filter_map(|(name, place)| Some((*place, layout(graph, name)?)));
        let layouts = layouts.collect();
        let graph = Self { inputs, calls, places: places.count, layouts, outputs, mutations };
        Ok(graph.complete())
    }
}

impl Graph {
    /// Says of each call which values nobody uses after it, and of each input whether a call writes to it.
    pub(super) fn complete(mut self) -> Self {
        let outputs = self.outputs.iter().filter_map(|output| output.place);
        let kept: BTreeSet<usize> = outputs.chain(self.mutations.iter().map(|(at, _)| *at)).collect();
        free(&mut self.calls, self.inputs.len(), &kept);
        for call in &self.calls {
            call.mark_written(&mut self.inputs);
        }
        self
    }

    /// The outputs that are tensors.
    pub(super) fn tensors(&self) -> impl Iterator<Item = &Output> {
        self.outputs.iter().filter(|output| output.place.is_some())
    }

    /// Whether random numbers are drawn while the model learns.
    pub(super) fn draws(&self) -> bool {
        let draws = |by_mode| matches!(by_mode, ByMode::Dropout | ByMode::Probability);
        self.calls.iter().any(|call| call.by_mode.is_some_and(|(_, by_mode)| draws(by_mode)))
    }
}

/// The user of values that go out.
const OUTPUTS: &str = "the outputs";

/// The places of values, by name.
#[derive(Default)]
struct Places {
    by_name: BTreeMap<String, usize>,
    count: usize,
}

impl Places {
    /// A new place for the value of this name.
    fn add(&mut self, name: &str) -> Result<usize, ProgramError> {
        self.bind(name, self.count)?;
        self.count += 1;
        Ok(self.count - 1)
    }

    /// Gives the value at a place this name.
    fn bind(&mut self, name: &str, place: usize) -> Result<(), ProgramError> {
        match self.by_name.insert(name.to_owned(), place) {
            None => Ok(()),
            Some(_) => Err(ProgramError::Twice(name.into())),
        }
    }

    fn find(&self, name: &str, user: &str) -> Result<usize, ProgramError> {
        let undefined = || ProgramError::Undefined { name: name.into(), user: user.into() };
        self.by_name.get(name).copied().ok_or_else(undefined)
    }
}

fn input(spec: &InputSpec, places: &mut Places, graph: &schema::Graph) -> Result<Input, ProgramError> {
    let (value, name, role) = match spec {
        InputSpec::UserInput(user) => match &user.arg {
            schema::Argument::AsTensor(tensor) => (&tensor.name, &tensor.name, Role::User),
            other => {
                return Err(ProgramError::Signature { found: format!("an input that is {}", kind(other)) });
            }
        },
        InputSpec::Parameter { arg, parameter_name } => (&arg.name, parameter_name, Role::Parameter),
        InputSpec::Buffer { arg, buffer_name } => (&arg.name, buffer_name, Role::Buffer),
        InputSpec::TensorConstant { arg, tensor_constant_name } => {
            (&arg.name, tensor_constant_name, Role::Constant)
        }
        InputSpec::ConstantInput { name } => (name, name, Role::Fixed),
        InputSpec::CustomObj(_) => {
            return Err(ProgramError::Signature { found: "an object of a custom class".into() });
        }
        InputSpec::Token(_) => return Err(ProgramError::Signature { found: "a token of effects".into() }),
    };
    places.add(value)?;
    let requires_grad = graph.tensor_values.get(value).is_some_and(|meta| meta.requires_grad);
    Ok(Input { name: name.clone(), role, meta: layout(graph, value), is_written: false, requires_grad })
}

/// The type and shape of a value, if the graph has them.
fn layout(graph: &schema::Graph, value: &str) -> Option<Layout> {
    let meta = graph.tensor_values.get(value)?;
    Some(Layout { dtype: meta.dtype, sizes: meta.sizes.iter().map(axis).collect() })
}

fn axis(size: &Size) -> Axis {
    match size {
        Size::AsInt(length) => Axis::Fixed(*length),
        Size::AsExpr(expression) => Axis::Symbol(symbol(&expression.expr_str).to_owned()),
    }
}

/// The name in `Symbol('s0', integer=True)`; any other expression as it is.
fn symbol(expression: &str) -> &str {
    let name = expression.strip_prefix("Symbol('").and_then(|rest| rest.split_once('\''));
    match name {
        Some((name, rest)) if !rest.contains('\'') => name,
        _ => expression,
    }
}

/// The symbol and the factor of `4*s0`, which is written `Mul(Integer(4), Symbol('s0', integer=True))`; also of a
/// symbol alone. None: it is another expression.
pub(super) fn multiple(expression: &str) -> Option<(i64, &str)> {
    let (step, name) = match expression.strip_prefix("Mul(Integer(") {
        Some(rest) => {
            let (step, rest) = rest.split_once("), ")?;
            (step.parse().ok()?, symbol(rest.strip_suffix(')')?))
        }
        None => (1, expression),
    };
    (step >= 1 && !name.contains('(')).then_some((step, name))
}

/// Refuses tensors whose shape depends on values: their symbols are `u0`, `u1`, …
fn refuse_data_dependence(graph: &schema::Graph) -> Result<(), ProgramError> {
    let is_unbacked = |word: &str| {
        word.strip_prefix('u')
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit()))
    };
    let depends = |size: &Size| match size {
        Size::AsExpr(expression) => {
            expression.expr_str.split(|c: char| !c.is_alphanumeric()).any(is_unbacked)
        }
        Size::AsInt(_) => false,
    };
    let of_values: BTreeSet<&str> = (graph.tensor_values.iter())
        .filter(|(_, meta)| meta.sizes.iter().any(depends))
        .map(|(name, _)| name.as_str())
        .collect();
    for node in &graph.nodes {
        for result in &node.outputs {
            if let schema::Argument::AsTensor(tensor) = result
                && of_values.contains(tensor.name.as_str())
            {
                let (value, target) = (tensor.name.clone(), node.target.clone());
                return Err(ProgramError::DataDependent { value, target });
            }
        }
    }
    Ok(())
}

/// Adds the calls of a graph. Those of a part under another setting of gradients, which PyTorch keeps as a graph
/// within the graph, come in its place.
fn add_calls(
    graph: &schema::Graph,
    gradients: Gradients,
    places: &mut Places,
    calls: &mut Vec<Call>,
) -> Result<(), ProgramError> {
    refuse_data_dependence(graph)?;
    for node in &graph.nodes {
        if node.target == permitted::SET_GRADIENTS {
            add_part(node, places, calls)?;
        } else {
            calls.push(call(node, gradients, places)?);
        }
    }
    Ok(())
}

/// Adds the calls of a part under another setting of gradients. The arguments of the node are the setting, the
/// graph, and the values of the graph's inputs; its results are those of the graph.
fn add_part(node: &schema::Node, places: &mut Places, calls: &mut Vec<Call>) -> Result<(), ProgramError> {
    use schema::Argument as Written;
    let target = &node.target;
    let wrong = |found: String, expected: &str| ProgramError::Argument {
        target: target.clone(),
        argument: found,
        expected: expected.into(),
    };
    let mut arguments = node.inputs.iter().map(|named| &named.arg);
    let (Some(Written::AsBool(are_kept)), Some(Written::AsGraph(inner))) =
        (arguments.next(), arguments.next())
    else {
        return Err(wrong("none".into(), "true or false, and a graph"));
    };
    let values = arguments.map(|given| match argument(given, "a value", target, places)? {
        Argument::Place(place) => Ok(place),
        other => Err(wrong(format!("{other:?}"), "values of the graph")),
    });
    let values = values.collect::<Result<Vec<usize>, ProgramError>>()?;
    let names = |of: &[Written]| {
        let names =
            of.iter().map(|value| name(value).ok_or_else(|| wrong(kind(value), "tensors and numbers")));
        names.map(|name| name.map(str::to_owned)).collect::<Result<Vec<_>, ProgramError>>()
    };
    let graph = &*inner.graph;
    let (inputs, outputs, results) = (names(&graph.inputs)?, names(&graph.outputs)?, names(&node.outputs)?);
    for (found, expected) in [(values.len(), inputs.len()), (results.len(), outputs.len())] {
        if found != expected {
            return Err(wrong(parm::counted(found as u64, "value"), &expected.to_string()));
        }
    }
    // The names in the part are its own.
    let outside = std::mem::take(&mut places.by_name);
    for (name, place) in inputs.iter().zip(values) {
        places.bind(name, place)?;
    }
    let gradients = if *are_kept { Gradients::Kept } else { Gradients::Stopped };
    add_calls(graph, gradients, places, calls)?;
    let made = outputs.iter().map(|name| places.find(name, target)).collect::<Result<Vec<_>, _>>()?;
    places.by_name = outside;
    for (name, place) in results.iter().zip(made) {
        places.bind(name, place)?;
    }
    Ok(())
}

/// The name of a value that is a tensor or a number.
fn name(value: &schema::Argument) -> Option<&str> {
    use schema::Argument as Written;
    match value {
        Written::AsTensor(tensor) => Some(&tensor.name),
        Written::AsSymInt(Symbol::AsName(name))
        | Written::AsSymFloat(Symbol::AsName(name))
        | Written::AsSymBool(Symbol::AsName(name)) => Some(name),
        _ => None,
    }
}

fn call(node: &schema::Node, gradients: Gradients, places: &mut Places) -> Result<Call, ProgramError> {
    let target = node.target.clone();
    let mut given: Vec<(&str, Argument)> = Vec::with_capacity(node.inputs.len());
    let operation = Operation::find(&target);
    // Which operator it is decides first: what cannot be called is the reason for what it is given.
    let function = match operation {
        Some(operation) => Function::Symbol(operation),
        None => Function::Operator(permitted::operator(&target)?),
    };
    for schema::Named { name, arg } in &node.inputs {
        given.push((name, argument(arg, name, &target, places)?));
    }
    let mut by_mode = None;
    let arguments = match &function {
        Function::Symbol(_) => given.into_iter().map(|(_, argument)| argument).collect(),
        Function::Operator(operator) => {
            let names = || operator.arguments().iter().map(|declared| declared.name.as_str());
            for (name, value) in &given {
                let unsafe_ = *name == "unsafe" && matches!(value, Argument::Bool(true));
                if unsafe_ || !names().any(|declared| declared == *name) {
                    let expected = names().filter(|name| *name != "unsafe").collect::<Vec<_>>().join(", ");
                    return Err(ProgramError::Argument { target, argument: (*name).into(), expected });
                }
            }
            let mut arguments = Vec::with_capacity(operator.arguments().len());
            for declared in operator.arguments() {
                match given.iter().position(|(name, _)| *name == declared.name) {
                    Some(at) => arguments.push(given.swap_remove(at).1),
                    None if declared.has_default => arguments.push(Argument::Default),
                    None => {
                        let (argument, expected) =
                            ("none".into(), format!("its argument '{}'", declared.name));
                        return Err(ProgramError::Argument { target, argument, expected });
                    }
                }
            }
            if is_norm_in_training(operator, &target, &arguments) {
                return Err(ProgramError::TrainingMode { target });
            }
            by_mode = mode_argument(operator, &target, &arguments);
            arguments
        }
    };
    let results = node.outputs.iter().map(|output| result(output, &target, places));
    let results = results.collect::<Result<_, _>>()?;
    let is_uninitialised = permitted::is_uninitialised(&target);
    Ok(Call { target, function, arguments, by_mode, results, last: Vec::new(), is_uninitialised, gradients })
}

/// Whether this is batch normalisation of a decomposed program that uses the batch's own statistics: it has no
/// counterpart in evaluation.
fn is_norm_in_training(operator: &Operator, target: &str, arguments: &[Argument]) -> bool {
    let name = target.strip_prefix("torch.ops.aten.").unwrap_or(target);
    let is_norm = ["_native_batch_norm_legit", "native_batch_norm", "_batch_norm_with_update"]
        .iter()
        .any(|norm| name.starts_with(norm));
    let training = operator.arguments().iter().position(|declared| declared.name == "training");
    let is_off = training.is_some_and(|at| matches!(arguments.get(at), Some(Argument::Bool(false))));
    is_norm && !name.contains("no_training") && !is_off
}

/// The argument that depends on whether the model learns.
fn mode_argument(operator: &Operator, target: &str, arguments: &[Argument]) -> Option<(usize, ByMode)> {
    let name = target.strip_prefix("torch.ops.aten.")?.split('.').next()?;
    let at = |wanted: &str| operator.arguments().iter().position(|declared| declared.name == wanted);
    match name {
        "batch_norm" => {
            // Without running statistics those of the batch are the only ones.
            let has_statistics = matches!(arguments.get(at("running_mean")?)?, Argument::Place(_));
            Some((at("training")?, ByMode::Normalise)).filter(|_| has_statistics)
        }
        "instance_norm" => {
            let has_statistics = matches!(arguments.get(at("running_mean")?)?, Argument::Place(_));
            Some((at("use_input_stats")?, ByMode::Normalise)).filter(|_| has_statistics)
        }
        "scaled_dot_product_attention" => Some((at("dropout_p")?, ByMode::Probability)),
        "rrelu" | "rrelu_" => Some((at("training")?, ByMode::Dropout)),
        "lstm" | "gru" | "rnn_tanh" | "rnn_relu" | "native_dropout" => Some((at("train")?, ByMode::Dropout)),
        name if name.trim_end_matches('_').ends_with("dropout") => Some((at("train")?, ByMode::Dropout)),
        _ => None,
    }
}

fn argument(
    argument: &schema::Argument,
    name: &str,
    target: &str,
    places: &Places,
) -> Result<Argument, ProgramError> {
    use schema::Argument as Written;
    let place = |name: &str| places.find(name, target);
    let unsupported = || ProgramError::Argument {
        target: target.into(),
        argument: name.into(),
        expected: format!("numbers, text and tensors, not {}", kind(argument)),
    };
    Ok(match argument {
        Written::AsNone(_) | Written::AsOptionalTensor(OptionalTensor::AsNone(_)) => Argument::None,
        Written::AsTensor(tensor) | Written::AsOptionalTensor(OptionalTensor::AsTensor(tensor)) => {
            Argument::Place(place(&tensor.name)?)
        }
        Written::AsTensors(tensors) => Argument::Places(
            tensors.iter().map(|tensor| place(&tensor.name).map(Some)).collect::<Result<_, _>>()?,
        ),
        Written::AsOptionalTensors(tensors) => {
            let tensors = tensors.iter().map(|tensor| match tensor {
                OptionalTensor::AsTensor(tensor) => place(&tensor.name).map(Some),
                OptionalTensor::AsNone(_) => Ok(None),
            });
            Argument::Places(tensors.collect::<Result<_, _>>()?)
        }
        Written::AsInt(number) => Argument::Int(*number),
        Written::AsInts(numbers) => Argument::Ints(numbers.clone()),
        Written::AsFloat(number) => Argument::Float(number.0),
        Written::AsFloats(numbers) => Argument::Floats(numbers.iter().map(|number| number.0).collect()),
        Written::AsBool(is) => Argument::Bool(*is),
        Written::AsBools(bools) => Argument::Bools(bools.iter().map(|is| u8::from(*is)).collect()),
        Written::AsString(text) => Argument::String(text.clone()),
        Written::AsSymInt(symbol) | Written::AsSymFloat(symbol) | Written::AsSymBool(symbol) => {
            match symbol {
                Symbol::AsName(name) => Argument::Place(place(name)?),
                Symbol::AsInt(number) => Argument::Int(*number),
                Symbol::AsFloat(number) => Argument::Float(number.0),
                Symbol::AsBool(is) => Argument::Bool(*is),
            }
        }
        Written::AsSymInts(symbols) => {
            let terms = symbols.iter().map(|symbol| match symbol {
                Symbol::AsName(name) => place(name).map(Term::Place),
                Symbol::AsInt(number) => Ok(Term::Known(*number)),
                Symbol::AsFloat(_) | Symbol::AsBool(_) => Err(unsupported()),
            });
            Argument::Sizes(terms.collect::<Result<_, _>>()?)
        }
        // libtorch's own codes differ from those of the schema.
        Written::AsScalarType(code) => Argument::Int(match code {
            1..=12 => code - 1,
            13 => 15,
            _ => return Err(unsupported()),
        }),
        Written::AsMemoryFormat(code) => Argument::Int(match code {
            1 => 0,
            2 => 2,
            3 => 3,
            4 => 1,
            _ => return Err(unsupported()),
        }),
        Written::AsLayout(STRIDED) => Argument::Int(0),
        Written::AsDevice(_) => Argument::Device,
        Written::AsLayout(_) | Written::AsGraph(_) | Written::Other(_) => return Err(unsupported()),
    })
}

fn result(
    argument: &schema::Argument,
    target: &str,
    places: &mut Places,
) -> Result<Destination, ProgramError> {
    use schema::Argument as Written;
    Ok(match argument {
        Written::AsTensor(tensor) | Written::AsOptionalTensor(OptionalTensor::AsTensor(tensor)) => {
            Destination::One(places.add(&tensor.name)?)
        }
        Written::AsTensors(tensors) => Destination::Many(
            tensors.iter().map(|tensor| places.add(&tensor.name)).collect::<Result<_, _>>()?,
        ),
        Written::AsSymInt(Symbol::AsName(name))
        | Written::AsSymFloat(Symbol::AsName(name))
        | Written::AsSymBool(Symbol::AsName(name)) => Destination::One(places.add(name)?),
        Written::AsNone(_) | Written::AsOptionalTensor(OptionalTensor::AsNone(_)) => Destination::Nowhere,
        other => {
            let (argument, expected) =
                (format!("result that is {}", kind(other)), "tensors and numbers".into());
            return Err(ProgramError::Argument { target: target.into(), argument, expected });
        }
    })
}

/// What a value is, for messages.
fn kind(argument: &schema::Argument) -> String {
    match argument {
        schema::Argument::AsGraph(_) => "a graph".into(),
        schema::Argument::AsLayout(_) => "a sparse layout".into(),
        schema::Argument::Other(keys) => {
            let key = keys.keys().next().map_or("nothing", String::as_str);
            key.strip_prefix("as_").unwrap_or(key).replace('_', " ")
        }
        other => {
            let text = format!("{other:?}");
            let name = text.split(['(', ' ']).next().unwrap_or_default();
            name.strip_prefix("As").unwrap_or(name).to_lowercase()
        }
    }
}

impl Argument {
    /// Gives the values new places.
    pub(super) fn rename(&mut self, new: impl Fn(usize) -> usize) {
        match self {
            Self::Place(place) => *place = new(*place),
            Self::Places(places) => places.iter_mut().flatten().for_each(|place| *place = new(*place)),
            Self::Sizes(terms) => {
                for term in terms {
                    if let Term::Place(place) = term {
                        *place = new(*place);
                    }
                }
            }
            _ => {}
        }
    }

    /// Two numbers, one for each axis of an image; one number is that of both.
    pub(super) fn pair(&self, default: i64) -> Option<[i64; 2]> {
        match self {
            Self::Default => Some([default; 2]),
            Self::Int(both) => Some([*both; 2]),
            Self::Ints(numbers) => match numbers[..] {
                [both] => Some([both; 2]),
                [first, second] => Some([first, second]),
                _ => None,
            },
            _ => None,
        }
    }

    /// The places that it reads.
    pub(super) fn places(&self) -> Vec<usize> {
        match self {
            Self::Place(place) => vec![*place],
            Self::Places(places) => places.iter().flatten().copied().collect(),
            Self::Sizes(terms) => terms
                .iter()
                .filter_map(|term| if let Term::Place(place) = term { Some(*place) } else { None })
                .collect(),
            _ => Vec::new(),
        }
    }
}

impl Destination {
    /// The places that it is.
    pub(super) fn places(&self) -> Vec<usize> {
        match self {
            Self::Nowhere => Vec::new(),
            Self::One(place) => vec![*place],
            Self::Many(places) => places.clone(),
        }
    }

    /// Gives the values new places.
    pub(super) fn rename(&mut self, new: impl Fn(usize) -> usize) {
        match self {
            Self::Nowhere => {}
            Self::One(place) => *place = new(*place),
            Self::Many(places) => places.iter_mut().for_each(|place| *place = new(*place)),
        }
    }
}

impl Call {
    /// The argument of this name in the operator's schema.
    pub(super) fn get(&self, name: &str) -> Option<&Argument> {
        self.arguments.get(self.position(name)?)
    }

    /// Sets the argument of this name, if the operator has it.
    pub(super) fn set(&mut self, name: &str, argument: Argument) {
        if let Some(at) = self.position(name) {
            self.arguments[at] = argument;
        }
    }

    fn position(&self, name: &str) -> Option<usize> {
        let Function::Operator(operator) = &self.function else { return None };
        operator.arguments().iter().position(|declared| declared.name == name)
    }

    /// A call of another operator in the place of this one, with the results of `last`.
    pub(super) fn instead(&self, operator: &Operator, arguments: Vec<Argument>, last: &Self) -> Self {
        Self {
            function: Function::Operator(operator.clone()),
            arguments,
            by_mode: None,
            results: last.results.clone(),
            ..self.clone()
        }
    }

    /// Marks the inputs that it changes, but for running statistics.
    fn mark_written(&self, inputs: &mut [Input]) {
        let Function::Operator(operator) = &self.function else { return };
        for (declared, argument) in operator.arguments().iter().zip(&self.arguments) {
            for place in argument.places() {
                if let (true, Some(input)) = (declared.written, inputs.get_mut(place)) {
                    input.is_written = true;
                }
            }
        }
    }
}

/// Says of each call which values nobody uses after it.
fn free(calls: &mut [Call], inputs: usize, kept: &BTreeSet<usize>) {
    let mut seen: BTreeSet<usize> = kept.clone();
    for call in calls.iter_mut().rev() {
        let made = call.results.iter().flat_map(Destination::places);
        let used = call.arguments.iter().flat_map(Argument::places);
        let all: Vec<usize> = used.chain(made).collect();
        call.last = all.into_iter().filter(|place| *place >= inputs && seen.insert(*place)).collect();
    }
}

/// The name of the value that is this output of the user's.
pub(super) fn output_value(program: &schema::Program, output: usize) -> Option<&str> {
    let specs = program.graph_module.signature.output_specs.iter();
    let mut values = specs.filter_map(|spec| match spec {
        OutputSpec::UserOutput(value) => Some(name(&value.arg)),
        _ => None,
    });
    values.nth(output)?
}

/// The names of the outputs: the keys of a dictionary or of a class, or indices.
fn output_names(module: &schema::GraphModule) -> Vec<String> {
    let whole = module.module_call_graph.iter().find(|call| call.fqn.is_empty());
    let spec = whole.and_then(|call| call.signature.as_ref()).map_or("", |signature| &signature.out_spec);
    // The version of the format, and the tree.
    let tree: Option<(u32, schema::Tree)> = serde_json::from_str(spec).ok();
    let mut names = Vec::new();
    if let Some((_, tree)) = tree {
        add_names(&tree, "", &mut names);
    }
    names
}

fn add_names(tree: &schema::Tree, name: &str, names: &mut Vec<String>) {
    if tree.kind.is_none() {
        names.push(if name.is_empty() { "0".into() } else { name.into() });
        return;
    }
    let keys = keys(tree);
    for (at, child) in tree.children_spec.iter().enumerate() {
        let key = keys.get(at).cloned().unwrap_or_else(|| at.to_string());
        let name = if name.is_empty() { key } else { format!("{name}.{key}") };
        add_names(child, &name, names);
    }
}

/// The keys of a container's children, as far as it has them: a list of text somewhere in its context.
fn keys(tree: &schema::Tree) -> Vec<String> {
    fn list(value: &serde_json::Value, count: usize) -> Option<Vec<String>> {
        match value {
            serde_json::Value::Array(items) => {
                let text = |item: &serde_json::Value| match item {
                    serde_json::Value::String(text) => Some(text.clone()),
                    serde_json::Value::Number(number) => Some(number.to_string()),
                    _ => None,
                };
                let texts: Option<Vec<String>> = items.iter().map(text).collect();
                texts
                    .filter(|texts| texts.len() == count)
                    .or_else(|| items.iter().find_map(|item| list(item, count)))
            }
            // A context is JSON within a string.
            serde_json::Value::String(text) => {
                let value: serde_json::Value = serde_json::from_str(text).ok()?;
                if value.is_string() { None } else { list(&value, count) }
            }
            _ => None,
        }
    }
    let context = tree.context.as_ref();
    context.and_then(|context| list(context, tree.children_spec.len())).unwrap_or_default()
}
