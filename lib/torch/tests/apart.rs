//! Threads that libtorch begins for an operation end with the thread that they help, if the work is done apart.

use std::fs;

use parm_torch::device::{Settings, apart, prepare};
use tch::{Device, Kind, Tensor};

/// Multiplies on two threads or more; returns the threads of the process then.
fn multiply() -> usize {
    let numbers = Tensor::ones([256, 256], (Kind::Float, Device::Cpu));
    let _ = numbers.matmul(&numbers);
    fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn the_threads_of_work_that_was_done_apart_end_with_it() {
    prepare(Settings { threads: Some(3), ..Settings::default() }).unwrap();
    let before = fs::read_dir("/proc/self/task").unwrap().count();
    let during = apart(multiply);
    assert!(during >= before + 3, "{before} threads before, {during} during the work");
    // The last of them may still be ending.
    while fs::read_dir("/proc/self/task").unwrap().count() > before {
        std::thread::yield_now();
    }
}
