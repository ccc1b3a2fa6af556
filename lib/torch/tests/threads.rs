//! The number of threads of one operation holds on every thread that answers, whatever its first operation is.

use std::path::Path;
use std::thread;

use parm_torch::device::{Settings, prepare};
use parm_torch::{Choices, Device, Model, Session, Tuning};

/// The threads that oneDNN uses for an operation of this thread.
fn omp_threads() -> i32 {
    // SAFETY: libtorch has loaded OpenMP, whose function takes nothing and returns an int.
    unsafe {
        let address = libc::dlsym(libc::RTLD_DEFAULT, c"omp_get_max_threads".as_ptr());
        assert!(!address.is_null());
        std::mem::transmute::<*mut libc::c_void, extern "C" fn() -> i32>(address)()
    }
}

/// Sets the number of threads: more than there are cores, so that no default is the same.
fn prepared() -> u32 {
    let threads = u32::try_from(thread::available_parallelism().unwrap().get() + 1).unwrap();
    prepare(Settings { threads: Some(threads), ..Settings::default() }).unwrap();
    threads
}

#[test]
fn a_thread_that_begins_with_a_convolution_uses_the_threads_that_were_set() {
    let threads = prepared();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/exported/cnn.pt2");
    let choices = Choices { to: Some("conv2d".into()), ..Choices::default() };
    for optimize in [false, true] {
        let model = Model::load_part(&path, Device::CPU, &choices).unwrap();
        let shape = model.query_shape().unwrap().to_vec();
        let queries = vec![0.0; shape.iter().product()];
        let session = Session::new(model, Device::CPU, &shape).unwrap();
        let session = session.tuned(Tuning { optimize, ..Tuning::default() });
        let answer = move || {
            session.run(1, &queries, &mut Vec::new()).unwrap();
            omp_threads()
        };
        assert_eq!(u32::try_from(thread::spawn(answer).join().unwrap()), Ok(threads));
    }
}

#[test]
fn small_batches_of_linear_layers_take_one_thread_and_large_ones_all() {
    let threads = prepared();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
    for file in ["exported/mlp.pt2", "v0.1.0/model.safetensors"] {
        let model = Model::load(&folder.join(file), Device::CPU).unwrap();
        let shape = model.query_shape().unwrap().to_vec();
        let session = Session::new(model, Device::CPU, &shape).unwrap();
        let numbers: usize = shape.iter().product();
        for (rows, expected) in [(1, 1), (1 << 16, threads), (1, 1)] {
            session.run(rows, &vec![0.0; rows * numbers], &mut Vec::new()).unwrap();
            assert_eq!(u32::try_from(omp_threads()), Ok(expected), "{file}: {rows} rows");
        }
    }
}
