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

#[test]
fn a_thread_that_begins_with_a_convolution_uses_the_threads_that_were_set() {
    // More than there are cores, so that no default is the same.
    let threads = u32::try_from(thread::available_parallelism().unwrap().get() + 1).unwrap();
    prepare(Settings { threads: Some(threads), ..Settings::default() }).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/exported/cnn.pt2");
    let choices = Choices { to: Some("conv2d".into()), ..Choices::default() };
    for optimize in [false, true] {
        let model = Model::load_part(&path, Device::CPU, &choices).unwrap();
        let shape = model.query_shape().unwrap().to_vec();
        let queries = vec![0.0; shape.iter().product()];
        let session = Session::new(model, Device::CPU, &shape).unwrap();
        let mut session = session.tuned(Tuning { optimize, ..Tuning::default() });
        let answer = move || {
            session.run(1, &queries, &mut Vec::new()).unwrap();
            omp_threads()
        };
        assert_eq!(u32::try_from(thread::spawn(answer).join().unwrap()), Ok(threads));
    }
}
