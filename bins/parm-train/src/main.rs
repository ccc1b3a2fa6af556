//! `parm-train`: data to models and codes. All of its work needs libtorch, so that it becomes `parm-libtorch`.

use std::convert::Infallible;
use std::process::ExitCode;

use parm_cli::libtorch;
use parm_cli::tools::train::Train;

/// Has glibc ask the system for huge pages, which it can only do from the start of a process. Where the system gives them
/// only to who asks, rows of a large data set are gathered in half the time, and an epoch of a ResNet-18 takes .93 of its
/// time.
const HUGE_PAGES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");

fn main() -> ExitCode {
    parm_cli::run_prepared(
        |_: &Train| Err(libtorch::exec::<Train>(&[HUGE_PAGES])),
        |_, never: Infallible, _| match never {},
    )
}
