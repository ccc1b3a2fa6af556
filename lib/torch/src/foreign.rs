//! Tells the format of a file: the kind of model, or another format with how to convert it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use zip::ZipArchive;

/// The number of bytes at the beginning of a file that identify its format.
const HEAD: usize = 512;

/// The keys of the model's state dict in checkpoints.
const KEYS: [&str; 6] = ["state_dict", "model_state_dict", "model_state", "model", "net", "module"];

/// The most bytes of a pickle that are searched.
const MAX_PICKLE: u64 = 1 << 20;

/// The format of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Safetensors, or what nothing here knows: the reader of native models says what is wrong.
    Native,
    /// An exported program.
    Exported,
    Script,
    Foreign(Foreign),
}

impl Format {
    /// What it is, if it has the activations of the network.
    pub(crate) fn has_activations(&self) -> Option<&'static str> {
        match self {
            Self::Exported => Some("an exported program"),
            Self::Script => Some("TorchScript"),
            Self::Native | Self::Foreign(_) => None,
        }
    }
}

/// A format that is no model here, and how to convert it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub(crate) found: &'static str,
    pub(crate) hint: String,
}

/// The format of a file.
///
/// # Errors
/// The file system's.
pub(crate) fn tell(path: &Path) -> io::Result<Format> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() && !metadata.is_dir() {
        let hint = "copy it to a file, since a model is not read in order".into();
        return Ok(Format::Foreign(Foreign { found: "a pipe or a device", hint }));
    }
    let mut head = Vec::new();
    file.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    let name = path.display().to_string();
    let stem = path.with_extension("");
    let [program, tensors] =
        ["pt2", "safetensors"].map(|kind| stem.with_extension(kind).display().to_string());
    let of = |found, hint: String| Format::Foreign(Foreign { found, hint });
    let pickle = |bytes: &[u8]| {
        let save =
            |what: &str| format!("from safetensors.torch import save_file; save_file({what}, '{tensors}')");
        let load = format!("torch.load('{name}', map_location='cpu')");
        let load_all = format!("torch.load('{name}', map_location='cpu', weights_only=False)");
        let export = format!(
            "model = {load_all}.eval(); torch.export.save(torch.export.export(model, (example,), \
             dynamic_shapes=({{0: torch.export.Dim.DYNAMIC}},)), '{program}')"
        );
        let (found, python) = match Pickle::of(bytes) {
            Pickle::StateDict => ("a state dict of torch.save", save(&load)),
            Pickle::Checkpoint(key) => (
                "a checkpoint of torch.save, a state dict with more around it",
                save(&format!("{load_all}['{key}']")),
            ),
            Pickle::Module => ("a module that torch.save pickled", export),
            Pickle::Tensor => {
                let array = stem.with_extension("npy").display().to_string();
                (
                    "a tensor of torch.save, a stream and no model",
                    format!("numpy.save('{array}', {load}.numpy())"),
                )
            }
            Pickle::Other => ("a pickle of torch.save", format!("print({load_all}) shows what it holds")),
        };
        of(found, format!("in Python: {python}"))
    };
    // The header of safetensors begins after eight bytes with its length.
    if head.get(8) == Some(&b'{') {
        return Ok(Format::Native);
    }
    Ok(match &head[..] {
        [b'P', b'K', 3 | 5, ..] => match members(&mut file) {
            Some(Members { pickle: Some(bytes), .. }) => pickle(&bytes),
            Some(Members { kind: Some(Kind::Exported), .. }) => Format::Exported,
            Some(Members { kind: Some(Kind::Compiled), .. }) => of(
                "a package that AOTInductor compiled (.pt2)",
                format!(
                    "in Python: torch.export.save(torch.export.export(model, (example,), \
                     dynamic_shapes=({{0: torch.export.Dim.DYNAMIC}},)), '{program}') of the model itself"
                ),
            ),
            Some(Members { kind: Some(Kind::Old), .. }) => of(
                "an exported program of PyTorch 2.7 or older",
                format!(
                    "in PyTorch 2.11 or newer: torch.export.save(torch.export.export(model, (example,), \
                     dynamic_shapes=({{0: torch.export.Dim.DYNAMIC}},)), '{program}') of the model itself"
                ),
            ),
            Some(Members { kind: Some(Kind::Arrays), .. }) => of(
                "arrays of NumPy (.npz)",
                format!(
                    "in Python, if they are a state dict: from safetensors.numpy import save_file; \
                     save_file(dict(numpy.load('{name}')), '{tensors}')"
                ),
            ),
            Some(_) => Format::Script,
            None => of("a zip archive that is incomplete or damaged", "copy or write the model again".into()),
        },
        [0x80, 2..=5, ..] => {
            file.seek(SeekFrom::Start(0))?;
            let mut bytes = Vec::new();
            file.take(MAX_PICKLE).read_to_end(&mut bytes)?;
            pickle(&bytes)
        }
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => {
            of("an array of NumPy (.npy), which is a stream and no model", "give it as the queries".into())
        }
        // ONNX begins with ir_version, then the producer or an opset.
        [0x08, 1..=20, 0x12 | 0x1a | 0x22 | 0x2a | 0x3a | 0x42, ..] => of(
            "an ONNX model",
            "serve it with Triton or ONNX Runtime and name the server with --url (parm-infer) or remote \
             (parm-serve), or export TorchScript from PyTorch"
                .into(),
        ),
        [0x89, b'H', b'D', b'F', ..] => of(
            "an HDF5 file, as Keras writes it",
            "serve the model and name the server with --url (parm-infer) or remote (parm-serve)".into(),
        ),
        [b'P', b'K', ..] => Format::Script,
        _ => Format::Native,
    })
}

/// The members that identify the kind of a zip archive.
struct Members {
    kind: Option<Kind>,
    /// The pickle of torch.save.
    pickle: Option<Vec<u8>>,
}

#[derive(Clone, Copy)]
enum Kind {
    Compiled,
    /// An exported program.
    Exported,
    /// An exported program in the format that PyTorch had up to version 2.7.
    Old,
    Arrays,
}

/// The members of a zip archive; none if it cannot be read.
fn members(file: &mut File) -> Option<Members> {
    let mut archive = ZipArchive::new(file).ok()?;
    let names: BTreeSet<String> = archive.file_names().map(str::to_owned).collect();
    let ends = |end: &str| names.iter().find(|name| name.ends_with(end));
    if ends("/constants.pkl").is_some() {
        return Some(Members { kind: None, pickle: None });
    }
    let kind = if names.iter().any(|name| name.contains("/aotinductor/")) {
        Some(Kind::Compiled)
    } else if ends("serialized_exported_program.json").is_some() {
        Some(Kind::Old)
    } else if ends("/archive_format").is_some() {
        Some(Kind::Exported)
    } else if !names.is_empty() && names.iter().all(|name| has_extension(name, "npy")) {
        Some(Kind::Arrays)
    } else {
        None
    };
    let mut pickle = None;
    if let (None, Some(name)) = (&kind, ends("/data.pkl")) {
        let mut bytes = Vec::new();
        let member = archive.by_name(name).ok()?;
        member.take(MAX_PICKLE).read_to_end(&mut bytes).ok()?;
        pickle = Some(bytes);
    }
    Some(Members { kind, pickle })
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

/// The object that torch.save pickled.
#[derive(Debug, PartialEq, Eq)]
enum Pickle {
    StateDict,
    /// A dictionary with a state dict under this key.
    Checkpoint(&'static str),
    Module,
    Tensor,
    Other,
}

impl Pickle {
    /// Recognises it by the first object and the names in it.
    fn of(bytes: &[u8]) -> Self {
        // The old format has a magic number, a version and the sizes of types before the object.
        let object = match (find(bytes, b"type_sizes"), bytes) {
            (Some(at), _) => find(&bytes[at..], b"uu.\x80").and_then(|end| bytes.get(at + end + 5..)),
            (None, bytes) => bytes.get(2..),
        };
        let object = object.unwrap_or_default();
        let has = |text: &[u8]| find(object, text).is_some();
        let key = |name: &&&str| {
            let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
            has(&[&[b'X', length, 0, 0, 0], name.as_bytes()].concat())
        };
        if object.starts_with(b"ctorch._utils\n") {
            Self::Tensor
        } else if object.starts_with(b"ccollections\nOrderedDict\n") {
            Self::StateDict
        } else if object.starts_with(b"c") || object.starts_with(b"(X\x06\0\0\0module") {
            Self::Module
        } else if !object.starts_with(b"}") {
            Self::Other
        } else if let Some(key) = KEYS.iter().find(key) {
            if has(b"ctorch.nn.modules") { Self::Module } else { Self::Checkpoint(key) }
        } else if has(b"ctorch._utils\n_rebuild_tensor") {
            Self::StateDict
        } else {
            Self::Other
        }
    }
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}
