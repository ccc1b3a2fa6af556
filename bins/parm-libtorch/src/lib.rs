//! What the programs do with libtorch: `parm-infer` and `parm-train` all of their work, `parm-serve` if models run
//! inside it. They call this program, which alone links libtorch, by [`parm_cli::libtorch`].

pub mod infer;
pub mod serve;
pub mod train;
