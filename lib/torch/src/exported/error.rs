//! The errors of exported programs.

use std::io;

use tch::TchError;

use super::cut::CutError;
use crate::model::InputsError;

/// An exported program that cannot be used. The path is with the caller.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The file system's.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A zip archive that cannot be read.
    #[error("found a damaged archive ({0}), expected what torch.export.save writes")]
    Damaged(String),
    /// A compressed member.
    #[error("found the compressed member {member}, expected stored ones, as torch.export.save writes them")]
    Compressed {
        /// The member.
        member: String,
    },
    /// Members that are larger than the file.
    #[error("found members of {bytes} bytes up to {member}, expected at most the file's {length}")]
    Claims {
        /// The first member beyond the file's length.
        member: String,
        /// The bytes of the members up to it.
        bytes: u64,
        /// The file's length.
        length: u64,
    },
    /// Members of several folders.
    #[error("found the member {found}, expected all members in {expected}")]
    Folders {
        /// The member.
        found: String,
        /// The folder.
        expected: String,
    },
    /// A member that is not there.
    #[error("found no member {member}, expected what torch.export.save writes")]
    Missing {
        /// The member.
        member: String,
    },
    /// JSON that is not that of an exported program.
    #[error("{member}: found JSON that is not that of an exported program ({error})")]
    Json {
        /// The member.
        member: String,
        /// The reader's reason.
        error: serde_json::Error,
    },
    /// Another format of graphs.
    #[error(
        "found a program of schema {major}.{minor}, written by PyTorch {torch}, expected schema 8; in PyTorch 2.11 \
             or newer: torch.export.save(torch.export.load('old.pt2'), 'new.pt2')"
    )]
    Version {
        /// The major version.
        major: u32,
        /// The minor version.
        minor: u32,
        /// The version of PyTorch.
        torch: String,
    },
    /// Tensors of a machine of the other byte order.
    #[error("found byte order '{0}', expected little")]
    ByteOrder(String),
    /// An operator that cannot be called.
    #[error("found the operator {target}: {reason}")]
    Operator {
        /// The operator.
        target: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A call that does not fit the schema of its operator.
    #[error("found the argument '{argument}' of {target}, expected {expected}")]
    Argument {
        /// The operator.
        target: String,
        /// The argument's name.
        argument: String,
        /// The arguments it has, or kinds of values.
        expected: String,
    },
    /// A value that is used before it is made, or never made: a cycle, or a name of nothing.
    #[error("found the value '{name}' in {user}, expected one that a node before it makes")]
    Undefined {
        /// The value.
        name: String,
        /// The operator that uses it, or 'the outputs'.
        user: String,
    },
    /// Two values of one name.
    #[error("found two values '{0}', expected names that differ")]
    Twice(String),
    /// A shape that depends on values.
    #[error(
        "found a shape that depends on values, in '{value}' of {target}; expected shapes that depend on the shape \
             of the query alone: write it with torch.where or a mask"
    )]
    DataDependent {
        /// The tensor.
        value: String,
        /// The operator that makes it.
        target: String,
    },
    /// A number of rows that is an expression.
    #[error(
        "found {found}, expected any number; in Python: torch.export.export(model, (example,), \
         dynamic_shapes=({{0: torch.export.Dim.DYNAMIC}},))"
    )]
    Rows {
        /// The number.
        found: String,
    },
    /// Batch normalisation in training mode, in a decomposed program.
    #[error(
        "found {target}, batch normalisation of a decomposed program in training mode, which uses the batch's own \
         statistics; expected model.eval(), or a program without run_decompositions()"
    )]
    TrainingMode {
        /// The operator.
        target: String,
    },
    /// A parameter, buffer or constant without numbers.
    #[error("found no tensor '{name}' in the archive, which the graph needs")]
    NoTensor {
        /// Its name.
        name: String,
    },
    /// A tensor that Python objects are part of.
    #[error(
        "found the tensor '{name}' as a pickle of Python objects, expected raw numbers: export the model with \
             plain tensors"
    )]
    Pickled {
        /// Its name.
        name: String,
    },
    /// A type that libtorch's bindings do not have.
    #[error(
        "found the tensor '{name}' of a type that is not supported, expected f2 f4 f8 bf16, i1 to i8, u1 or b1"
    )]
    TensorType {
        /// Its name.
        name: String,
    },
    /// Sizes and strides that reach beyond the file of a tensor.
    #[error("found sizes and strides of the tensor '{name}' beyond its {elements} numbers")]
    Bounds {
        /// Its name.
        name: String,
        /// The numbers in its file.
        elements: usize,
    },
    /// A part of the signature that is not supported.
    #[error("found {found}, expected tensors")]
    Signature {
        /// The part.
        found: String,
    },
    /// Choices of inputs that do not fit the graph's.
    #[error(transparent)]
    Inputs(#[from] InputsError),
    /// A part of a program that cannot be cut out.
    #[error(transparent)]
    Cut(#[from] CutError),
    /// A constant of another shape or type.
    #[error("found {found} for the input '{name}', expected {expected}")]
    Constant {
        /// The input.
        name: String,
        /// What was given.
        found: String,
        /// The graph's.
        expected: String,
    },
    /// An output of this name does not exist.
    #[error("found outputs [{}], expected '{name}' among them", outputs.join(", "))]
    NoSuchOutput {
        /// The name that was given.
        name: String,
        /// The outputs.
        outputs: Vec<String>,
    },
    /// libtorch's.
    #[error("libtorch: {}", crate::one_line(&.0.to_string()))]
    Torch(TchError),
}

// The source is left out, since it has stack traces.
impl From<TchError> for ProgramError {
    fn from(error: TchError) -> Self {
        Self::Torch(error)
    }
}
