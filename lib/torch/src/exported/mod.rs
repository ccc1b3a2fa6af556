//! Exported programs: the `.pt2` files of `torch.export.save`.
//!
//! An archive has a graph of operators and its tensors (`archive`, `schema`, `weights`). The graph is checked
//! when it is loaded (`graph`): each operator must be one that only computes (`permitted`), and each value
//! must be made before it is used. [`Program`] then calls the operators one by one (`run`), by name and
//! through libtorch's dispatcher, so that gradients, devices and precisions are libtorch's. Numbers between
//! the operators, as the sizes of dynamic axes, are computed here (`symbols`).
//!
//! Refused by name are operators of other libraries, graphs within graphs (but those of `torch.no_grad()`, which are
//! computed in their place), and shapes that depend on values. A part of a program (`cut`) is a program, too. One
//! that only answers is made faster (`lower`).

mod archive;
mod constant;
mod cut;
mod error;
mod graph;
mod learning;
mod lower;
mod permitted;
mod run;
mod schema;
mod symbols;
mod weights;

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Cursor};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tch::{Kind, TchError, Tensor};

pub use cut::CutError;
pub use error::ProgramError;

use crate::model::{Choices, InputsError, NotTrainable, choose_query, whole_numbers};
use crate::numbers::Gathered;
use crate::summary::{Port, Summary};
use crate::train::hash;
use crate::trainable::{Mode, Trainable};
use archive::{Archive, Kept};
use constant::Constant;
use graph::{Axis, Graph, Input, Layout, Role};
use learning::Learning;
use lower::{Lowered, lower};

/// The major version of the schema of graphs.
const SCHEMA: u32 = 8;

/// An exported program with its tensors.
#[derive(Debug)]
pub struct Program {
    file: Arc<Content>,
    graph: Arc<Graph>,
    /// The tensors of the graph's inputs; those of the user's are empty.
    tensors: Vec<Tensor>,
    /// The index of the query among the inputs.
    query: usize,
    /// The shape of a query, if it is known.
    query_shape: Option<Vec<usize>>,
    /// The user's other inputs.
    constants: Vec<Constant>,
    /// The index of the output.
    output: usize,
    batch: Batch,
    device: tch::Device,
    /// Whether the query and other inputs are yet to be chosen.
    is_open: bool,
}

/// What all copies of a program share.
#[derive(Debug)]
struct Content {
    /// The members of the archive that stay the same when it is written with other weights.
    kept: Kept,
    /// The list of weights, as it was.
    weights: Value,
    /// The member that is this list.
    list: String,
    /// The version of PyTorch that exported the program.
    torch: String,
    /// The hash of the graph's file.
    hash: String,
}

/// The numbers of rows that a program computes at a time: multiples of `step`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// 1 or more.
    pub step: i64,
    /// The greatest number; none: there is none.
    pub most: Option<i64>,
}

impl Batch {
    /// Any number of rows.
    pub const ANY: Self = Self { step: 1, most: None };
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = |count: i64| parm::counted(count.unsigned_abs(), "row");
        match (self.step, self.most) {
            (1, None) => f.write_str("any number of rows"),
            (step, None) => write!(f, "multiples of {}", rows(step)),
            (step, Some(most)) if step == most => write!(f, "{} at a time", rows(most)),
            (1, Some(most)) => write!(f, "at most {} at a time", rows(most)),
            (step, Some(most)) => write!(f, "multiples of {}, at most {most} at a time", rows(step)),
        }
    }
}

/// The members of a program.
const WEIGHTS: &str = "data/weights/";
const CONSTANTS: &str = "data/constants/";

impl Program {
    /// Loads a program.
    ///
    /// # Errors
    /// [`ProgramError`], by kind.
    pub(crate) fn load(path: &Path, device: tch::Device, choices: &Choices) -> Result<Self, ProgramError> {
        let mut archive = Archive::open(path)?;
        let order = archive.read("byteorder")?;
        if order.trim_ascii() != b"little" {
            return Err(ProgramError::ByteOrder(String::from_utf8_lossy(&order).into_owned()));
        }
        let model = {
            let mut models = archive.names().filter_map(|name| {
                name.strip_prefix("models/").and_then(|name| name.strip_suffix(".json")).map(str::to_owned)
            });
            let first =
                models.next().ok_or_else(|| ProgramError::Missing { member: "models/model.json".into() })?;
            if models.next().is_some() {
                return Err(ProgramError::Signature { found: "several models in one archive".into() });
            }
            first
        };
        let member = format!("models/{model}.json");
        let mut json = archive.read(&member)?;
        let mut program = parse(&member, &json)?;
        let part = part_of(&member, &program, &json, choices)?;
        let is_part = part.is_some();
        if let Some(part) = part {
            program = parse(&member, &part)?;
            json = part;
        }
        let graph = Graph::new(&program)?;
        let list = format!("{WEIGHTS}{model}_weights_config.json");
        let mut own = weights::read(&mut archive, &list)?;
        own.extend(weights::read(&mut archive, &format!("{CONSTANTS}{model}_constants_config.json"))?);
        let tensors = graph.inputs.iter().map(|input| match input.role {
            Role::User | Role::Fixed => Ok(Tensor::f_zeros([0], (Kind::Float, device))?),
            _ => {
                let missing = || ProgramError::NoTensor { name: input.name.clone() };
                Ok(own.get(&input.name).ok_or_else(missing)?.f_to_device(device)?)
            }
        });
        let tensors = tensors.collect::<Result<Vec<Tensor>, ProgramError>>()?;
        let weights = archive.read(&list).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut weights: Value = weights.unwrap_or_else(|| json!({ "config": {} }));
        // It is written again by its keys, which JSON's other form of a structure, a list, does not have.
        let has_keys = |list: &serde_json::Map<String, Value>| {
            list.values().all(|entry| entry["tensor_meta"].is_object())
        };
        if !weights["config"].as_object().is_some_and(has_keys) {
            return Err(ProgramError::Signature { found: "a list of weights without keys".into() });
        }
        let is_own = |name: &String| graph.inputs.iter().any(|input| input.name == *name);
        let replaced: BTreeSet<String> = (weights["config"].as_object().into_iter().flatten())
            .filter(|(name, _)| is_part || is_own(name))
            .filter_map(|(_, entry)| entry["path_name"].as_str())
            .map(|file| format!("{WEIGHTS}{file}"))
            .collect();
        // The queries that the whole was exported with are not those of a part.
        let sample = format!("data/sample_inputs/{model}.pt");
        let is_written = |name: &str| is_part && (name == member || name == sample);
        let mut kept = archive.keep(|name| name != list && !replaced.contains(name) && !is_written(name))?;
        if is_part {
            kept.add(sample, Vec::new());
            kept.add(member, json.clone());
            if let Some(config) = weights["config"].as_object_mut() {
                config.retain(|name, _| is_own(name));
            }
        }
        let query = query_of(&graph, choices)?;
        let (symbol, query_shape) = match &layout(&graph.inputs[query])?.sizes[..] {
            [] => return Err(ProgramError::Signature { found: "a query without axes".into() }),
            [first, rest @ ..] => (first.clone(), rest.iter().map(Axis::length).collect()),
        };
        let batch = match &symbol {
            Axis::Fixed(rows) => Batch { step: (*rows).max(1), most: Some((*rows).max(1)) },
            Axis::Symbol(expression) => {
                let other = || ProgramError::Rows { found: format!("a number of rows that is {expression}") };
                let (step, name) = graph::multiple(expression).ok_or_else(other)?;
                // PyTorch writes a least number of 2 and does not hold to it.
                let range = program.range_constraints.get(name).copied().unwrap_or_default();
                let most = range.max_val.map(|most| most.max(1).saturating_mul(step));
                Batch { step, most }
            }
        };
        let of = |at: usize| &graph.inputs[at];
        let given = choices.constants.iter().filter_map(|(name, array)| {
            // That the graph has them was seen when the query was chosen.
            let is_it = |input: &Input| input.role == Role::User && input.name == *name;
            Some((graph.inputs.iter().position(is_it)?, array))
        });
        let constants = given.map(|(at, array)| Constant::new(at, of(at), array, &symbol, device));
        let constants = constants.collect::<Result<Vec<_>, _>>()?;
        let output = output_of(&graph, choices.output.as_deref().filter(|_| !is_part))?;
        let (torch, hash) = (program.torch_version, hash(&[&json]));
        let file = Arc::new(Content { kept, weights, list, torch, hash });
        let users = graph.inputs.iter().filter(|input| input.role == Role::User).count();
        let is_open = users > constants.len() + 1;
        let graph = Arc::new(graph);
        Ok(Self { file, graph, tensors, query, query_shape, constants, output, batch, device, is_open })
    }

    /// The same program with the same tensors.
    fn share(&self) -> Self {
        let Self { file, graph, tensors, query, query_shape, constants, output, batch, device, is_open } =
            self;
        Self {
            file: Arc::clone(file),
            graph: Arc::clone(graph),
            tensors: tensors.iter().map(Tensor::shallow_clone).collect(),
            query: *query,
            query_shape: query_shape.clone(),
            constants: constants.iter().map(Constant::share).collect(),
            output: *output,
            batch: *batch,
            device: *device,
            is_open: *is_open,
        }
    }

    /// The same program, faster, to answer alone: of its outputs it has the chosen one, and it cannot be written or
    /// trained. On a CPU it may use oneDNN's layers, which compute with f4.
    ///
    /// # Errors
    /// libtorch's.
    pub(crate) fn lowered(&self, onednn: bool) -> Result<Self, TchError> {
        let lower = || lower(&self.graph, &self.tensors, self.output, self.device, onednn);
        let Lowered { graph, tensors } = tch::no_grad(lower)?;
        Ok(Self { graph: Arc::new(graph), tensors, output: 0, ..self.share() })
    }

    /// Whether a query is an image of at most four channels that only convolutions of oneDNN use.
    pub(crate) fn takes_channels_last(&self) -> bool {
        let is_image = matches!(self.query_shape(), Some(shape @ [1..=4, _, _]) if !shape.contains(&0));
        is_image && self.query_kind() == Some(Kind::Float) && lower::only_convolves(&self.graph, self.query)
    }

    /// The multiplications for one query, if all that is computed has at most two axes: the numbers of the weights.
    pub(crate) fn multiplications(&self) -> Option<usize> {
        let inputs = self.graph.inputs.len();
        let is_vector = |layout: &Layout| layout.sizes.len() <= 2;
        let are_vectors = self.graph.layouts.range(inputs..).all(|(_, layout)| is_vector(layout));
        let numbers = |(_, tensor): (&str, &Tensor)| if tensor.dim() == 2 { tensor.numel() } else { 0 };
        are_vectors.then(|| self.parameters().map(numbers).sum())
    }

    /// The shape of a query, if it is known.
    pub(crate) fn query_shape(&self) -> Option<&[usize]> {
        self.query_shape.as_deref()
    }

    /// Outputs for queries `[rows, …]` of any type, without a gradient. What the graph cannot compute at a time is
    /// computed in parts, the last one with copies of the last row.
    ///
    /// # Errors
    /// libtorch's; numbers that are no integers, if the graph takes integers.
    pub(crate) fn predict(&self, queries: &Tensor) -> Result<Tensor, TchError> {
        tch::no_grad(|| {
            let rows = queries.size().first().copied().unwrap_or(0);
            let Batch { step, most } = self.batch;
            // No rows are answered by a graph of any number, too.
            if rows % step == 0 && most.is_none_or(|most| rows <= most) {
                return self.forward(queries, Mode::Evaluate);
            }
            let part = most.map_or(rows, |most| most - most % step);
            let mut outputs = Vec::new();
            for part in queries.f_split(part, 0)? {
                let found = part.size()[0];
                let missing = (step - found % step) % step;
                if missing == 0 {
                    outputs.push(self.forward(&part, Mode::Evaluate)?);
                    continue;
                }
                let last = part.f_narrow(0, found - 1, 1)?;
                let mut size = last.size();
                size[0] = missing;
                let padded = Tensor::f_cat(&[part, last.f_expand(&*size, false)?], 0)?;
                outputs.push(self.forward(&padded, Mode::Evaluate)?.f_narrow(0, 0, found)?);
            }
            Tensor::f_cat(&outputs, 0)
        })
    }

    /// Outputs for as many queries `[rows, …]` as the graph takes, with gradient.
    ///
    /// # Errors
    /// libtorch's; numbers that are no integers, if the graph takes integers.
    pub(crate) fn forward(&self, queries: &Tensor, mode: Mode) -> Result<Tensor, TchError> {
        let graph = &self.graph;
        let queries = match self.query_kind() {
            Some(kind) => whole_numbers(queries, kind)?.f_to_kind(kind)?,
            None => queries.shallow_clone(),
        };
        let rows = queries.size().first().copied().unwrap_or(0);
        let others = self.constants.iter().map(|constant| constant.of(rows));
        let others = others.collect::<Result<Vec<_>, TchError>>()?;
        let mut inputs: Vec<&Tensor> = self.tensors.iter().collect();
        inputs[self.query] = &queries;
        for (constant, tensor) in self.constants.iter().zip(&others) {
            inputs[constant.place()] = tensor;
        }
        let mut outputs = graph.run(&inputs, mode, self.device)?;
        outputs
            .swap_remove(self.output)
            .ok_or_else(|| TchError::Kind("found an output that is no tensor".into()))
    }

    /// The bytes of an archive with this program's graph and its tensors as they are now, which
    /// `torch.export.load` reads. A tensor of two names is in one file.
    ///
    /// # Errors
    /// libtorch's, as an error of the file system.
    pub(crate) fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let Content { kept, weights, list, .. } = &*self.file;
        let mut list_of_weights = weights.clone();
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        let mut written: Vec<(*mut std::ffi::c_void, Vec<i64>, String)> = Vec::new();
        for (input, tensor) in self.graph.inputs.iter().zip(&self.tensors) {
            let Some(entry) = list_of_weights["config"].get_mut(&input.name) else { continue };
            let size = tensor.size();
            let same = written.iter().find(|(at, other, _)| *at == tensor.data_ptr() && *other == size);
            let file = if let Some((.., file)) = same {
                file.clone()
            } else {
                let file = free_name(kept, files.len());
                files.push((format!("{WEIGHTS}{file}"), bytes_of(tensor).map_err(io::Error::other)?));
                written.push((tensor.data_ptr(), size.clone(), file.clone()));
                file
            };
            let strides = (1..=size.len()).map(|axis| json!({ "as_int": product(&size[axis..]) }));
            entry["path_name"] = file.into();
            entry["tensor_meta"]["strides"] = strides.collect();
            entry["tensor_meta"]["storage_offset"] = json!({ "as_int": 0 });
        }
        let list_of_weights = serde_json::to_vec(&list_of_weights)?;
        let files = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        let mut archive = Cursor::new(Vec::new());
        kept.write(files.chain([(list.as_str(), list_of_weights.as_slice())]), &mut archive)?;
        Ok(archive.into_inner())
    }

    /// The numbers of rows that it computes at a time.
    pub(crate) fn batch(&self) -> Batch {
        self.batch
    }

    /// The number of batch normalisations that do not learn, since the program was decomposed.
    pub(crate) fn fixed_norms(&self) -> usize {
        let is_fixed = |target: &str| target.contains("_native_batch_norm_legit_no_training");
        self.graph.calls.iter().filter(|call| is_fixed(&call.target)).count()
    }

    /// Sees that a copy of this program can be trained.
    ///
    /// # Errors
    /// What keeps it from that.
    pub(crate) fn check_trainable(&self) -> Result<(), NotTrainable> {
        let obstacle = |found: &str, mend| Err(NotTrainable { found: found.into(), mend });
        if self.batch != Batch::ANY {
            let found = match self.batch.most {
                Some(_) => "a graph of a constant or bounded number of rows".into(),
                None => format!("a graph of {}", self.batch),
            };
            return obstacle(
                &found,
                "torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))",
            );
        }
        match self.query_kind() {
            Some(Kind::Float) | None => {}
            Some(kind @ (Kind::Half | Kind::BFloat16 | Kind::Double)) => {
                return obstacle(&format!("queries of type {}", type_name(kind)), "export model.float()");
            }
            Some(kind) => {
                return obstacle(
                    &format!("queries of type {}", type_name(kind)),
                    "a code makes sums of queries, which have no meaning for token ids; parm-train export --from \
                     NODE writes the part behind the embedding",
                );
            }
        }
        match self.parameters().find(|(_, tensor)| tensor.kind() != Kind::Float) {
            Some((name, _)) => {
                obstacle(&format!("the parameter '{name}' of another type than f4"), "export model.float()")
            }
            None if self.parameters().next().is_none() => {
                obstacle("a model without parameters", "there is nothing to learn")
            }
            None => Ok(()),
        }
    }

    /// A copy that can be trained.
    ///
    /// # Errors
    /// What keeps it from that.
    pub(crate) fn trainable(&self) -> Result<Box<dyn Trainable>, NotTrainable> {
        self.check_trainable()?;
        Ok(Box::new(Learning::new(self)?))
    }

    /// The tensors that a copy has as its own.
    pub(crate) fn gathered(&self) -> Gathered {
        learning::gather(self).0
    }

    /// What it computes, without its numbers.
    pub(crate) fn record(&self) -> String {
        format!("exported program {}", self.file.hash)
    }

    fn parameters(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let all = self.graph.inputs.iter().zip(&self.tensors);
        let own = all.filter(|(input, _)| input.role == Role::Parameter);
        own.map(|(input, tensor)| (input.name.as_str(), tensor))
    }

    /// What it is and takes, for people.
    pub(crate) fn summary(&self) -> Summary {
        let graph = &self.graph;
        let rows = self.graph.inputs[self.query].meta.as_ref().and_then(|meta| meta.sizes.first());
        let port = |name: &str, meta: Option<&Layout>| Port {
            name: name.into(),
            layout: meta.map_or("unknown".into(), |meta| describe(meta, rows)),
        };
        let users = graph.inputs.iter().filter(|input| input.role == Role::User);
        Summary {
            kind: format!("exported program of PyTorch {}", self.file.torch),
            inputs: users.map(|input| port(&input.name, input.meta.as_ref())).collect(),
            query: (!self.is_open).then(|| graph.inputs[self.query].name.clone()),
            batch: self.batch,
            outputs: graph.tensors().map(|output| port(&output.name, output.meta.as_ref())).collect(),
            parameters: self.parameters().map(|(_, tensor)| tensor.numel() as u64).sum(),
            tensors: self.parameters().count(),
            obstacle: self.check_trainable().err().map(|obstacle| obstacle.to_string()),
        }
    }

    /// The type of queries.
    pub(crate) fn query_kind(&self) -> Option<Kind> {
        let meta = self.graph.inputs[self.query].meta.as_ref()?;
        weights::kind(meta.dtype)
    }
}

fn parse(member: &str, json: &[u8]) -> Result<schema::Program, ProgramError> {
    let wrong = |error| ProgramError::Json { member: member.into(), error };
    let schema::Head { schema_version: schema::Version { major, minor }, torch_version } =
        serde_json::from_slice(json).map_err(wrong)?;
    if major != SCHEMA {
        return Err(ProgramError::Version { major, minor, torch: torch_version });
    }
    serde_json::from_slice(json).map_err(wrong)
}

/// The JSON of the part that the choices cut out of a program; none: they leave it whole.
fn part_of(
    member: &str,
    program: &schema::Program,
    json: &[u8],
    choices: &Choices,
) -> Result<Option<Vec<u8>>, ProgramError> {
    let Choices { from, to, output, .. } = choices;
    if from.is_none() && to.is_none() {
        return Ok(None);
    }
    let wrong = |error| ProgramError::Json { member: member.into(), error };
    let to = match to {
        Some(to) => to,
        None => graph::output_value(program, output_of(&Graph::new(program)?, output.as_deref())?)
            .ok_or(CutError::Structure)?,
    };
    let mut json: Value = serde_json::from_slice(json).map_err(wrong)?;
    cut::cut(program, &mut json, from.as_deref(), to)?;
    serde_json::to_vec(&json).map(Some).map_err(wrong)
}

fn layout(input: &Input) -> Result<&Layout, ProgramError> {
    let missing = || ProgramError::Signature { found: format!("no shape of the input '{}'", input.name) };
    input.meta.as_ref().ok_or_else(missing)
}

/// The index of the input that is the query.
fn query_of(graph: &Graph, choices: &Choices) -> Result<usize, ProgramError> {
    let users = || graph.inputs.iter().filter(|input| input.role == Role::User);
    let names: Vec<&str> = users().map(|input| input.name.as_str()).collect();
    let query = choose_query(&names, &names, choices)?;
    let found = graph.inputs.iter().position(|input| input.role == Role::User && input.name == query);
    found.ok_or(ProgramError::Inputs(InputsError::NoInput))
}

/// The product of lengths. Where one is 0, the others may be any.
fn product(lengths: &[i64]) -> i64 {
    lengths.iter().fold(1, |product: i64, &length| product.saturating_mul(length))
}

/// The name of a file of weights that no member has.
fn free_name(kept: &Kept, from: usize) -> String {
    let names = (from..).map(|number| format!("weight_{number}"));
    // There are more numbers than members.
    names.into_iter().find(|name| !kept.has(&format!("{WEIGHTS}{name}"))).unwrap_or_default()
}

/// The little-endian bytes of a tensor, in C order.
fn bytes_of(tensor: &Tensor) -> Result<Vec<u8>, TchError> {
    let host = tensor.f_to_device(tch::Device::Cpu)?.f_contiguous()?;
    let mut bytes = vec![0; host.numel() * host.kind().elt_size_in_bytes()];
    host.f_copy_data_u8(&mut bytes, host.numel())?;
    Ok(bytes)
}

/// The name of a type, as `f4`.
fn type_name(kind: Kind) -> String {
    match kind {
        Kind::BFloat16 => "bf16".into(),
        Kind::ComplexFloat => "c8".into(),
        Kind::ComplexDouble => "c16".into(),
        kind => crate::session::dtype(kind).map_or_else(|| format!("{kind:?}"), |dtype| dtype.to_string()),
    }
}

/// A type and shape, as `f4[rows, 3, 224, 224]`.
fn describe(meta: &Layout, rows: Option<&Axis>) -> String {
    let dtype = weights::kind(meta.dtype).map_or("unknown".into(), type_name);
    let axes: Vec<String> = (meta.sizes.iter())
        .map(|axis| match axis {
            Axis::Fixed(length) => length.to_string(),
            symbol if Some(symbol) == rows => "rows".into(),
            Axis::Symbol(name) if name.contains('(') => "?".into(),
            Axis::Symbol(name) => name.clone(),
        })
        .collect();
    format!("{dtype}[{}]", axes.join(", "))
}

/// The index of the named output; none is named: the first.
fn output_of(graph: &Graph, name: Option<&str>) -> Result<usize, ProgramError> {
    let outputs = || graph.outputs.iter();
    let found = match name {
        None => outputs().position(|output| output.place.is_some()),
        // An index serves also where outputs have keys.
        Some(name) => outputs()
            .position(|output| output.name == name)
            .or_else(|| name.parse().ok().filter(|&at| at < graph.outputs.len())),
    };
    let tensor = found.filter(|at| graph.outputs[*at].place.is_some());
    tensor.ok_or_else(|| ProgramError::NoSuchOutput {
        name: name.unwrap_or("a tensor").into(),
        outputs: graph.tensors().map(|output| output.name.clone()).collect(),
    })
}

#[cfg(test)]
mod tests;
