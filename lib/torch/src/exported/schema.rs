//! The JSON of an exported program, as `torch.export.save` writes it (schema 8). Fields that nothing here
//! needs are left out; kinds of arguments that nothing here can pass on are read as [`Argument::Other`].

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

/// `models/model.json`
#[derive(Debug, Deserialize)]
pub(super) struct Program {
    pub(super) graph_module: GraphModule,
    #[serde(default)]
    pub(super) range_constraints: BTreeMap<String, Range>,
    /// The version of PyTorch that wrote it.
    #[serde(default)]
    pub(super) torch_version: String,
}

/// What is read first: another version of the schema has other fields.
#[derive(Debug, Deserialize)]
pub(super) struct Head {
    pub(super) schema_version: Version,
    #[serde(default)]
    pub(super) torch_version: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Version {
    pub(super) major: u32,
    pub(super) minor: u32,
}

/// The upper bound of a symbol; none: it has none.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Range {
    pub(super) max_val: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct GraphModule {
    pub(super) graph: Graph,
    pub(super) signature: Signature,
    #[serde(default)]
    pub(super) module_call_graph: Vec<Call>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Graph {
    /// The inputs and outputs of a graph within a graph; those of the whole are also in the signature.
    #[serde(default)]
    pub(super) inputs: Vec<Argument>,
    #[serde(default)]
    pub(super) outputs: Vec<Argument>,
    pub(super) nodes: Vec<Node>,
    #[serde(default)]
    pub(super) tensor_values: BTreeMap<String, Meta>,
    #[serde(default)]
    pub(super) sym_int_values: BTreeMap<String, Size>,
}

/// A call of an operator.
#[derive(Debug, Deserialize)]
pub(super) struct Node {
    /// The operator, as `torch.ops.aten.conv2d.default`.
    pub(super) target: String,
    pub(super) inputs: Vec<Named>,
    pub(super) outputs: Vec<Argument>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) arg: Argument,
}

/// An argument or a result: one key, its kind, with a value.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::enum_variant_names)] // the schema's names
pub(super) enum Argument {
    AsNone(IgnoredAny),
    AsTensor(Name),
    AsTensors(Vec<Name>),
    AsOptionalTensor(OptionalTensor),
    AsOptionalTensors(Vec<OptionalTensor>),
    AsInt(i64),
    AsInts(Vec<i64>),
    AsFloat(Float),
    AsFloats(Vec<Float>),
    AsBool(bool),
    AsBools(Vec<bool>),
    AsString(String),
    AsSymInt(Symbol),
    AsSymInts(Vec<Symbol>),
    AsSymFloat(Symbol),
    AsSymBool(Symbol),
    AsScalarType(i64),
    AsMemoryFormat(i64),
    AsLayout(i64),
    AsDevice(IgnoredAny),
    /// A graph within the graph, which a higher-order operator takes.
    AsGraph(Inner),
    #[serde(untagged)]
    Other(serde_json::Map<String, serde_json::Value>),
}

/// A graph within the graph.
#[derive(Debug, Deserialize)]
pub(super) struct Inner {
    pub(super) graph: Box<Graph>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Name {
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::enum_variant_names)] // the schema's names
pub(super) enum OptionalTensor {
    AsTensor(Name),
    AsNone(IgnoredAny),
}

/// A number, or the name of a value that is one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::enum_variant_names)] // the schema's names
pub(super) enum Symbol {
    AsName(String),
    AsInt(i64),
    AsFloat(Float),
    AsBool(bool),
}

/// A number; JSON has those that are not finite as words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Float(pub(super) f64);

impl<'de> Deserialize<'de> for Float {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(f64),
            Word(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(number) => Ok(Self(number)),
            // Rust reads Infinity, -Infinity and NaN as Python writes them.
            Written::Word(word) => word.parse().map(Self).map_err(serde::de::Error::custom),
        }
    }
}

/// The type and shape of a value.
#[derive(Debug, Deserialize)]
pub(super) struct Meta {
    pub(super) dtype: i64,
    pub(super) sizes: Vec<Size>,
    #[serde(default)]
    pub(super) strides: Vec<Size>,
    pub(super) storage_offset: Option<Size>,
    #[serde(default)]
    pub(super) requires_grad: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::enum_variant_names)] // the schema's names
pub(super) enum Size {
    AsInt(i64),
    AsExpr(Expression),
}

#[derive(Debug, Deserialize)]
pub(super) struct Expression {
    pub(super) expr_str: String,
}

/// What the inputs and outputs of the graph are.
#[derive(Debug, Deserialize)]
pub(super) struct Signature {
    pub(super) input_specs: Vec<InputSpec>,
    pub(super) output_specs: Vec<OutputSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum InputSpec {
    UserInput(UserValue),
    Parameter { arg: Name, parameter_name: String },
    Buffer { arg: Name, buffer_name: String },
    TensorConstant { arg: Name, tensor_constant_name: String },
    ConstantInput { name: String },
    CustomObj(IgnoredAny),
    Token(IgnoredAny),
}

#[derive(Debug, Deserialize)]
pub(super) struct UserValue {
    pub(super) arg: Argument,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OutputSpec {
    UserOutput(UserValue),
    /// The new value of a buffer.
    BufferMutation {
        arg: Name,
        buffer_name: String,
    },
    #[serde(untagged)]
    Other(serde_json::Map<String, serde_json::Value>),
}

/// A module of the program: the first is the whole.
#[derive(Debug, Deserialize)]
pub(super) struct Call {
    pub(super) fqn: String,
    pub(super) signature: Option<CallSignature>,
}

#[derive(Debug, Deserialize)]
pub(super) struct CallSignature {
    /// The tree of outputs, as JSON.
    #[serde(default)]
    pub(super) out_spec: String,
}

/// A node of the tree of outputs.
#[derive(Debug, Deserialize)]
pub(super) struct Tree {
    /// The container's type; none: an output.
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    /// The keys of a dictionary or of a class, as JSON, perhaps with more.
    pub(super) context: Option<serde_json::Value>,
    #[serde(default)]
    pub(super) children_spec: Vec<Tree>,
}

/// `model_weights_config.json` and `model_constants_config.json`: the file of each tensor.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Payloads {
    pub(super) config: BTreeMap<String, Payload>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Payload {
    pub(super) path_name: String,
    #[serde(default)]
    pub(super) use_pickle: bool,
    pub(super) tensor_meta: Option<Meta>,
}
