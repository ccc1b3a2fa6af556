//! TorchScript modules.

use std::ffi::{CStr, CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::{Arc, OnceLock};

use tch::{Kind, TchError, Tensor};
use torch_sys::C_tensor;

use crate::device::Device;
use crate::exported::Batch;
use crate::model::{
    Choices, InputsError, Model, ModelError, NotTrainable, choose_query, tensor_of, whole_numbers,
};
use crate::network::{CheckpointError, checkpoint};
use crate::numbers::{Gathered, Numbers, Part};
use crate::summary::{Port, Summary};
use crate::thrown::check;
use crate::train::hash;
use crate::trainable::{Mode, Trainable};

/// A module that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScriptError {
    /// libtorch's.
    #[error(transparent)]
    Torch(#[from] TchError),
    /// Choices of inputs that do not fit the module's.
    #[error(transparent)]
    Inputs(#[from] InputsError),
}

/// A loaded TorchScript module.
#[derive(Debug)]
pub struct Script {
    handle: Handle,
    /// The arguments of `forward`.
    inputs: Vec<String>,
    /// The one that is the query.
    query: CString,
    /// Whether the query and other inputs are yet to be chosen.
    is_open: bool,
    /// Parameters and buffers, by name; the flag says which are parameters.
    tensors: Vec<(String, bool, Tensor)>,
    /// Its other arguments, the same for all queries.
    constants: Vec<(CString, Tensor)>,
    /// The chosen output of several.
    output: Option<String>,
    /// The type of queries that the module accepts, known after its first answer.
    kind: OnceLock<Kind>,
}

/// The types of queries that are tried in turn, since a module does not name its type; most accept f4.
const KINDS: [Kind; 5] = [Kind::Float, Kind::Half, Kind::BFloat16, Kind::Double, Kind::Int64];

/// `Script` of script.cpp.
#[repr(C)]
struct Raw {
    _opaque: [u8; 0],
}

/// A module that is freed when this is dropped.
#[derive(Debug)]
struct Handle(*mut Raw);

// SAFETY: libtorch's modules may be used from any thread, one at a time.
unsafe impl Send for Handle {}
// SAFETY: `forward` of a module is called from several threads by libtorch's own users; what changes a module
// here needs it alone.
unsafe impl Sync for Handle {}

impl Handle {
    /// A copy with tensors of its own.
    fn copy(&self) -> Result<Self, TchError> {
        let mut raw = ptr::null_mut();
        // SAFETY: the module lives, and `raw` is set if there is no error.
        unsafe { check(parm_script_copy(self.0, &mut raw)) }?;
        Ok(Self(raw))
    }

    /// Its parameters and buffers, by name; the flag says which are parameters.
    fn tensors(&self) -> Result<Vec<(String, bool, Tensor)>, TchError> {
        let mut tensors: Vec<Named> = Vec::new();
        // SAFETY: the module lives, and the context is what `emit` expects.
        unsafe { check(parm_script_tensors(self.0, emit, ptr::from_mut(&mut tensors).cast())) }?;
        Ok(tensors.into_iter().filter_map(|(name, flag, tensor)| Some((name, flag, tensor?))).collect())
    }

    fn set_mode(&self, mode: Mode) -> Result<(), TchError> {
        // SAFETY: the module lives, and its user is the only one.
        unsafe { check(parm_script_train(self.0, mode != Mode::Evaluate, mode.trains_norm())) }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: nobody else has it.
        unsafe { parm_script_free(self.0) };
    }
}

/// A tensor, or what is none, with its name and a flag.
type Named = (String, bool, Option<Tensor>);
type Emit = unsafe extern "C" fn(*mut c_void, *const c_char, bool, *mut C_tensor);

// In `script.cpp`. Those that return text return null or an error, which is the caller's to free.
unsafe extern "C" {
    fn parm_script_load(path: *const c_char, kind: i8, index: i8, loaded: &mut *mut Raw) -> *mut c_char;
    fn parm_script_parse(
        bytes: *const u8,
        length: usize,
        kind: i8,
        index: i8,
        loaded: &mut *mut Raw,
    ) -> *mut c_char;
    fn parm_script_free(script: *mut Raw);
    fn parm_script_copy(script: *const Raw, copy: &mut *mut Raw) -> *mut c_char;
    fn parm_script_optimize(script: *const Raw, optimized: &mut *mut Raw) -> *mut c_char;
    fn parm_script_train(script: *mut Raw, learns: bool, trains_norm: bool) -> *mut c_char;
    fn parm_script_set(script: *mut Raw, name: *const c_char, tensor: *const C_tensor) -> *mut c_char;
    fn parm_script_fixed_norms(script: *const Raw, count: &mut usize) -> *mut c_char;
    fn parm_script_tensors(script: *const Raw, emit: Emit, context: *mut c_void) -> *mut c_char;
    fn parm_script_arguments(script: *const Raw, emit: Emit, context: *mut c_void) -> *mut c_char;
    fn parm_script_save(
        script: *const Raw,
        take: unsafe extern "C" fn(*mut c_void, *const u8, usize),
        context: *mut c_void,
    ) -> *mut c_char;
    fn parm_script_forward(
        script: *const Raw,
        names: *const *const c_char,
        tensors: *const *const C_tensor,
        count: usize,
        emit: Emit,
        context: *mut c_void,
    ) -> *mut c_char;
}

/// Takes a name with its flag and tensor.
///
/// # Safety
/// `context` is a vector of [`Named`], `name` a string that ends; `tensor` is null or nobody else's.
unsafe extern "C" fn emit(context: *mut c_void, name: *const c_char, flag: bool, tensor: *mut C_tensor) {
    // SAFETY: the caller's promise.
    let all = unsafe { &mut *context.cast::<Vec<Named>>() };
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
    // SAFETY: the caller's promise.
    let tensor = (!tensor.is_null()).then(|| unsafe { Tensor::from_ptr(tensor) });
    all.push((name, flag, tensor));
}

/// Takes the bytes of a file.
///
/// # Safety
/// `context` is a vector of bytes, and there are `length` bytes.
unsafe extern "C" fn take(context: *mut c_void, bytes: *const u8, length: usize) {
    // SAFETY: the caller's promise.
    let (all, bytes) =
        unsafe { (&mut *context.cast::<Vec<u8>>(), std::slice::from_raw_parts(bytes, length)) };
    all.extend_from_slice(bytes);
}

fn text(text: &str) -> Result<CString, TchError> {
    CString::new(text)
        .map_err(|_| TchError::Kind(format!("found '{text}', expected text without a zero byte")))
}

impl Script {
    /// Loads a module. It computes as in evaluation.
    ///
    /// # Errors
    /// libtorch's; choices of inputs that the module does not have.
    pub(crate) fn load(path: &Path, device: tch::Device, choices: &Choices) -> Result<Self, ScriptError> {
        // Paths have no zero byte.
        let file = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
        let (kind, index) = Device(device).numbers();
        let mut raw = ptr::null_mut();
        // SAFETY: the path ends, and `raw` is set if there is no error.
        unsafe { check(parm_script_load(file.as_ptr(), kind, index, &mut raw)) }?;
        Self::of(Handle(raw), device, choices)
    }

    /// As [`load`](Self::load), of the bytes of a file.
    ///
    /// # Errors
    /// As those of [`load`](Self::load).
    pub(crate) fn parse(bytes: &[u8], device: tch::Device) -> Result<Self, ScriptError> {
        let (kind, index) = Device(device).numbers();
        let mut raw = ptr::null_mut();
        // SAFETY: the bytes live, and `raw` is set if there is no error.
        unsafe { check(parm_script_parse(bytes.as_ptr(), bytes.len(), kind, index, &mut raw)) }?;
        Self::of(Handle(raw), device, &Choices::default())
    }

    fn of(handle: Handle, device: tch::Device, choices: &Choices) -> Result<Self, ScriptError> {
        // A module that was saved in training mode would apply dropout.
        handle.set_mode(Mode::Evaluate)?;
        let mut arguments: Vec<Named> = Vec::new();
        // SAFETY: the module lives, and the context is what `emit` expects.
        unsafe { check(parm_script_arguments(handle.0, emit, ptr::from_mut(&mut arguments).cast())) }?;
        let names: Vec<&str> = arguments.iter().map(|(name, ..)| name.as_str()).collect();
        let needed = arguments.iter().filter(|(_, has_default, _)| !has_default);
        let needed: Vec<&str> = needed.map(|(name, ..)| name.as_str()).collect();
        let query = choose_query(&names, &needed, choices)?;
        let constants = choices
            .constants
            .iter()
            .map(|(name, array)| Ok((text(name)?, tensor_of(array)?.f_to_device(device)?)));
        let constants = constants.collect::<Result<_, TchError>>()?;
        let tensors = handle.tensors()?;
        Ok(Self {
            query: text(&query)?,
            is_open: needed.len() > choices.constants.len() + 1,
            inputs: names.into_iter().map(str::to_owned).collect(),
            tensors,
            handle,
            constants,
            output: choices.output.clone(),
            kind: OnceLock::new(),
        })
    }

    /// The bytes of its file.
    ///
    /// # Errors
    /// libtorch's.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, TchError> {
        let mut bytes: Vec<u8> = Vec::new();
        // SAFETY: the module lives, and the context is what `take` expects.
        unsafe { check(parm_script_save(self.handle.0, take, ptr::from_mut(&mut bytes).cast())) }?;
        Ok(bytes)
    }

    /// What it is and takes, as far as a module says it.
    pub(crate) fn summary(&self) -> Summary {
        let port = |name: &str| Port { name: name.into(), layout: "of unknown shape".into() };
        let parameters = || self.tensors.iter().filter(|(_, is_parameter, _)| *is_parameter);
        Summary {
            kind: "TorchScript".into(),
            inputs: self.inputs.iter().map(|name| port(name)).collect(),
            query: (!self.is_open).then(|| self.query.to_string_lossy().into_owned()),
            batch: Batch::ANY,
            outputs: vec![port("")],
            parameters: parameters().map(|(.., tensor)| tensor.numel() as u64).sum(),
            tensors: parameters().count(),
            obstacle: self.check_trainable().err().map(|obstacle| obstacle.to_string()),
        }
    }

    /// Sees that a copy of this module can be trained.
    ///
    /// # Errors
    /// What keeps it from that.
    pub(crate) fn check_trainable(&self) -> Result<(), NotTrainable> {
        let parameters = || self.tensors.iter().filter(|(_, is_parameter, _)| *is_parameter);
        match parameters().find(|(.., tensor)| tensor.kind() != Kind::Float) {
            Some((name, ..)) => Err(NotTrainable {
                found: format!("the parameter '{name}' of another type than f4"),
                mend: "export model.float()",
            }),
            None if parameters().next().is_none() => Err(NotTrainable {
                found: "TorchScript without parameters".into(),
                mend: "there is nothing to learn; torch.jit.freeze makes constants of them",
            }),
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

    /// The number of batch normalisations that stay as they are while the module learns, since it was traced.
    ///
    /// # Errors
    /// libtorch's.
    pub(crate) fn fixed_norms(&self) -> Result<usize, TchError> {
        let mut count = 0;
        // SAFETY: the module lives.
        unsafe { check(parm_script_fixed_norms(self.handle.0, &mut count)) }?;
        Ok(count)
    }

    /// The tensors that a copy has as its own.
    pub(crate) fn gathered(&self) -> Gathered {
        let own = self.own();
        Gathered::new(own.map(|(name, part, tensor)| (name.to_owned(), part, tensor.shallow_clone())))
    }

    fn own(&self) -> impl Iterator<Item = (&str, Part, &Tensor)> {
        // A module that was frozen as a whole, to answer, learns as a whole.
        let is_frozen =
            !self.tensors.iter().any(|(_, is_parameter, tensor)| *is_parameter && tensor.requires_grad());
        let part = move |is_parameter, tensor: &Tensor| match (is_parameter, tensor.kind()) {
            (true, _) if tensor.requires_grad() || is_frozen => Some(Part::Learned),
            (true, _) | (false, Kind::Float) => Some(Part::Fixed),
            (false, Kind::Int64) => Some(Part::Integers),
            _ => None,
        };
        let all = self.tensors.iter();
        all.filter_map(move |(name, is_parameter, tensor)| {
            Some((&**name, part(*is_parameter, tensor)?, tensor))
        })
    }

    /// What it computes, with its numbers: the hash of its file.
    ///
    /// # Errors
    /// libtorch's.
    pub(crate) fn record(&self) -> Result<String, TchError> {
        Ok(format!("TorchScript {}", hash(&[&self.to_bytes()?])))
    }

    /// The same module, frozen and optimised by libtorch, to answer alone.
    ///
    /// # Errors
    /// libtorch's.
    pub(crate) fn optimized(&self) -> Result<Self, TchError> {
        let mut raw = ptr::null_mut();
        // SAFETY: the module lives, and `raw` is set if there is no error.
        unsafe { check(parm_script_optimize(self.handle.0, &mut raw)) }?;
        self.with(Handle(raw))
    }

    /// The same module, with other parts of its own.
    fn copy(&self) -> Result<Self, TchError> {
        self.with(self.handle.copy()?)
    }

    fn with(&self, handle: Handle) -> Result<Self, TchError> {
        Ok(Self {
            tensors: handle.tensors()?,
            handle,
            inputs: self.inputs.clone(),
            query: self.query.clone(),
            is_open: self.is_open,
            constants: self
                .constants
                .iter()
                .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
                .collect(),
            output: self.output.clone(),
            kind: self.kind.clone(),
        })
    }

    /// Outputs for f4 queries, which are converted to the first type that the module answers.
    pub(crate) fn forward(&self, queries: &Tensor) -> Result<Tensor, TchError> {
        if let Some(kind) = self.kind.get() {
            return self.answer(queries, *kind);
        }
        let mut first = None;
        for kind in KINDS {
            match self.answer(queries, kind) {
                Ok(outputs) => {
                    let _ = self.kind.set(kind);
                    return Ok(outputs);
                }
                Err(error) if crate::is_out_of_memory(&error) => return Err(error),
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        Err(first.unwrap_or_else(|| TchError::Kind("found no type that the model takes".into())))
    }

    fn answer(&self, queries: &Tensor, kind: Kind) -> Result<Tensor, TchError> {
        let queries = whole_numbers(queries, kind)?.f_to_kind(kind)?;
        let own = [(&self.query, &queries)];
        let all = own.into_iter().chain(self.constants.iter().map(|(name, tensor)| (name, tensor)));
        let (names, tensors): (Vec<_>, Vec<_>) =
            all.map(|(name, tensor)| (name.as_ptr(), tensor.as_ptr())).unzip();
        let mut outputs: Vec<Named> = Vec::new();
        let context = ptr::from_mut(&mut outputs).cast();
        let handle = self.handle.0;
        // SAFETY: names and tensors live during the call, the context is what `emit` expects, and the error is ours.
        unsafe {
            check(parm_script_forward(handle, names.as_ptr(), tensors.as_ptr(), names.len(), emit, context))?;
        }
        self.choose(outputs)
    }

    /// The chosen output among those that a module returned.
    fn choose(&self, mut outputs: Vec<Named>) -> Result<Tensor, TchError> {
        let at = match &self.output {
            // The first tensor; if there is none, what is first says so.
            None => outputs.iter().position(|(.., tensor)| tensor.is_some()).or(Some(0)),
            Some(wanted) => outputs.iter().position(|(name, ..)| name == wanted),
        };
        match at.filter(|&at| at < outputs.len()).map(|at| outputs.swap_remove(at).2) {
            Some(Some(tensor)) => Ok(tensor),
            Some(None) => Err(TchError::Shape("found an output that is not a tensor, expected one".into())),
            None => {
                let names: Vec<String> = outputs.into_iter().map(|(name, ..)| name).collect();
                let wanted = self.output.as_deref().unwrap_or_default();
                Err(TchError::Shape(format!(
                    "found outputs [{}], expected '{wanted}' among them",
                    names.join(", ")
                )))
            }
        }
    }
}

/// A module whose parameters and buffers are views of flat tensors.
#[derive(Debug)]
struct Learning {
    script: Script,
    numbers: Numbers,
    /// The names of each entry in the module.
    names: Arc<[Vec<CString>]>,
}

impl Learning {
    /// A copy of a module, whose parameters are f32. Tied tensors stay tied.
    fn new(script: &Script) -> Result<Self, TchError> {
        let device = script.tensors.first().map_or(tch::Device::Cpu, |(.., tensor)| tensor.device());
        let own = script.own();
        let (numbers, entries) = script.gathered().numbers(device)?;
        let mut names = vec![Vec::new(); numbers.views().len()];
        for ((name, ..), entry) in own.zip(entries) {
            names[entry].push(text(name)?);
        }
        Self::of(script, numbers, names.into())
    }

    /// A copy of the module with these numbers.
    fn of(script: &Script, numbers: Numbers, names: Arc<[Vec<CString>]>) -> Result<Self, TchError> {
        let script = script.copy()?;
        for (names, view) in names.iter().zip(numbers.views()) {
            for name in names {
                // SAFETY: the module is this one's alone; name and tensor live.
                unsafe { check(parm_script_set(script.handle.0, name.as_ptr(), view.as_ptr())) }?;
            }
        }
        Ok(Self { script, numbers, names })
    }
}

impl Trainable for Learning {
    fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    fn with(&self, numbers: Numbers) -> Result<Box<dyn Trainable>, TchError> {
        Ok(Box::new(Self::of(&self.script, numbers, Arc::clone(&self.names))?))
    }

    fn forward(&self, queries: &Tensor, mode: Mode) -> Result<Tensor, TchError> {
        self.script.handle.set_mode(mode)?;
        let outputs = self.script.forward(queries);
        self.script.handle.set_mode(Mode::Evaluate)?;
        outputs
    }

    fn save(&self, path: &Path) -> Result<(), ModelError> {
        let io = |error| CheckpointError::Io { path: path.into(), error };
        let bytes = self.script.to_bytes().map_err(|error| io(std::io::Error::other(error)))?;
        Ok(checkpoint::write_bytes(path, &bytes)?)
    }

    fn extension(&self) -> &'static str {
        "pt"
    }

    /// Whether a module has dropout is not known.
    fn is_random(&self) -> bool {
        true
    }

    fn into_model(self: Box<Self>) -> Model {
        Model::Script(self.script)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::fixtures::{difference, folder, generator, train, values};
    use crate::trainable::{BatchNorm, Precision};

    fn load(name: &str) -> Script {
        Script::load(&folder().join(name), Device::Cpu, &Choices::default()).unwrap()
    }

    #[test]
    fn the_training_of_a_scripted_module_is_that_of_pytorch() {
        let values = values("cnn");
        let learning = Learning::new(&load("cnn.pt")).unwrap();
        train(&learning, &values["queries"]);
        let named = learning.numbers().named();
        assert_eq!(named.len(), values.keys().filter(|name| name.starts_with("after.")).count());
        for (name, view) in named {
            let found = difference(&view.detach(), &values[&format!("after.{name}")]);
            assert!(found <= 1e-6, "{name}: {found:e}");
        }
    }

    #[test]
    fn a_traced_module_keeps_its_batch_normalisation() {
        let (script, values) = (load("cnn-traced.pt"), values("cnn"));
        assert_eq!((script.fixed_norms().unwrap(), load("cnn.pt").fixed_norms().unwrap()), (2, 0));
        let learning = Learning::new(&script).unwrap();
        let before = learning.numbers().flat().fixed.copy();
        let learned = learning.numbers().flat().learned.copy();
        train(&learning, &values["queries"]);
        assert_eq!(learning.numbers().flat().fixed, before);
        assert!(learning.numbers().flat().learned != learned);
    }

    #[test]
    fn frozen_statistics_stay_while_dropout_draws() {
        let _generator = generator();
        let learning = Learning::new(&load("cnn.pt")).unwrap();
        let queries = &values("cnn")["queries"];
        let run = |norm, seed| {
            tch::manual_seed(seed);
            let mode = Mode::Train { precision: Precision::Full, norm };
            learning.forward(queries, mode).unwrap().detach()
        };
        let before = learning.numbers().flat().fixed.copy();
        assert_eq!(run(BatchNorm::Frozen, 1), run(BatchNorm::Frozen, 1));
        assert!(run(BatchNorm::Frozen, 1) != run(BatchNorm::Frozen, 2));
        assert_eq!(learning.numbers().flat().fixed, before);
        let _ = run(BatchNorm::Train, 1);
        assert!(learning.numbers().flat().fixed != before);
    }

    #[test]
    fn what_a_module_learned_is_saved_and_the_module_it_began_as_stays() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("learned.pt");
        let (script, queries) = (load("cnn.pt"), &values("cnn")["queries"]);
        let answer = |script: &Script| tch::no_grad(|| script.forward(queries).unwrap());
        let before = answer(&script);
        let learning = Learning::new(&script).unwrap();
        train(&learning, queries);
        learning.save(&path).unwrap();
        let again = Script::load(&path, Device::Cpu, &Choices::default()).unwrap();
        assert_eq!(answer(&again), answer(&learning.script));
        assert_eq!(answer(&script), before);
        assert!(answer(&again) != before);
    }

    #[test]
    fn inputs_are_chosen_by_name() {
        let path = folder().join("two.pt");
        let error = Script::load(&path, Device::Cpu, &Choices::default()).unwrap_err().to_string();
        assert!(error.contains("found the inputs x, table, expected --input"), "{error}");
        let values = values("two");
        let table = parm::npy::Array {
            dtype: parm::Dtype::F32,
            shape: vec![3, 6],
            bytes: Vec::<f32>::try_from(values["table"].flatten(0, -1))
                .unwrap()
                .iter()
                .flat_map(|x| x.to_le_bytes())
                .collect(),
        };
        for (output, expected) in [(None, "outputs.logits"), (Some("features"), "outputs.features")] {
            let choices = Choices {
                output: output.map(str::to_owned),
                constants: vec![("table".to_owned(), table.clone())],
                ..Choices::default()
            };
            let script = Script::load(&path, Device::Cpu, &choices).unwrap();
            let found = difference(&script.forward(&values["queries"]).unwrap().detach(), &values[expected]);
            assert!(found <= 1e-5, "{expected}: {found:e}");
        }
    }
}
