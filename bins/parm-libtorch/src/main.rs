//! The program: the tool whose name it is called by. `parm-libtorch --gpus`, for `--version --verbose` of the tools,
//! prints the names of the GPUs.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use parm_cli::Exit;
use parm_cli::tools::infer::Infer;
use parm_cli::tools::serve::Serve;
use parm_cli::tools::train::Train;
use parm_libtorch::{infer, serve, train};
use parm_torch::device;

fn main() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    match Path::new(&called).file_name().and_then(|name| name.to_str()) {
        Some(Infer::NAME) => parm_cli::run(infer::run),
        Some(Train::NAME) => parm_cli::run(train::run),
        Some(Serve::NAME) => parm_cli::run(serve::run),
        _ if std::env::args_os().nth(1).is_some_and(|word| word == "--gpus") => {
            let written = io::stdout().write_all(device::gpus().join("\n").as_bytes());
            written.map_or(Exit::Failed, |()| Exit::Done).into()
        }
        _ => {
            eprintln!("parm-libtorch: is called by parm-infer, parm-train and parm-serve");
            Exit::Usage.into()
        }
    }
}
