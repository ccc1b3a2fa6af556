//! Devices, and the settings of libtorch for the process.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use parm::DeviceChoice;
use serde::Serialize;
use tch::{Kind, Tensor};

/// The library with libtorch's GPU code. It is not linked, so that one binary serves machines with and
/// without a GPU; the rpath finds it beside the linked libraries.
const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// The library of the GPU driver.
const DRIVER_LIBRARY: &str = "libcuda.so.1";

/// Files of the GPU driver.
const DRIVER_FILES: [&str; 2] = ["/dev/nvidiactl", "/proc/driver/nvidia/version"];

/// A device that models can run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device(pub(crate) tch::Device);

impl Device {
    /// The CPU.
    pub const CPU: Self = Self(tch::Device::Cpu);

    /// True if it is a GPU.
    #[must_use]
    pub fn is_gpu(self) -> bool {
        self.0.is_cuda()
    }

    /// Gives this thread a stream of its own on a GPU, so that its work runs in parallel with that of other
    /// threads. Does nothing on the CPU.
    ///
    /// # Errors
    /// A GPU that gives no stream.
    pub fn own_stream(self) -> Result<(), DeviceError> {
        let (kind, index) = self.numbers();
        // SAFETY: it takes two numbers, and catches what libtorch throws. It changes the thread's own
        // setting alone.
        if unsafe { parm_own_stream(kind, index) } { Ok(()) } else { Err(DeviceError::Stream(self)) }
    }

    /// Waits until this thread's stream has finished. The next operation reports an error of the device.
    pub(crate) fn synchronize(self) {
        let (kind, index) = self.numbers();
        if self.is_gpu() {
            // SAFETY: it takes two numbers, and catches what libtorch throws.
            unsafe { parm_synchronize(kind, index) };
        }
    }

    /// The peak GPU memory of this process; none on the CPU.
    pub(crate) fn peak_memory(self) -> Option<PeakMemory> {
        let (kind, index) = self.numbers();
        let [mut allocated, mut reserved] = [0; 2];
        // SAFETY: it takes two numbers and two places to write to, which outlive the call, and catches what
        // libtorch throws.
        let counted =
            self.is_gpu() && unsafe { parm_peak_memory(kind, index, &mut allocated, &mut reserved) };
        let [allocated, reserved] = [allocated, reserved].map(|bytes| u64::try_from(bytes).unwrap_or(0));
        counted.then_some(PeakMemory { allocated, reserved })
    }

    /// libtorch's numbers of the kind of device, and of the device.
    pub(crate) fn numbers(self) -> (i8, i8) {
        match self.0 {
            tch::Device::Cuda(index) => (1, i8::try_from(index).unwrap_or(i8::MAX)),
            _ => (0, -1),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            tch::Device::Cuda(index) => write!(f, "cuda:{index}"),
            _ => f.write_str("cpu"),
        }
    }
}

/// Peak GPU memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PeakMemory {
    /// Memory of tensors.
    pub allocated: u64,
    /// Memory that was reserved from the device, used or not.
    pub reserved: u64,
}

/// While it lives, libtorch's autocast is on in this thread for operations on one device: matrix products and
/// convolutions compute with bf16, what needs more precision with f32.
pub(crate) struct Autocast {
    kind: i8,
    /// It must be dropped on the thread that made it.
    thread: PhantomData<*const ()>,
}

impl Autocast {
    pub(crate) fn new(device: tch::Device) -> Self {
        let (kind, _) = Device(device).numbers();
        // SAFETY: it takes two numbers, and changes the thread's own setting alone.
        unsafe { parm_autocast(kind, true) };
        Self { kind, thread: PhantomData }
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        // SAFETY: as above; the casts that are forgotten are held by the graphs that need them.
        unsafe { parm_autocast(self.kind, false) };
    }
}

// In `device.cpp`.
unsafe extern "C" {
    fn parm_own_stream(kind: i8, index: i8) -> bool;
    fn parm_synchronize(kind: i8, index: i8) -> bool;
    fn parm_peak_memory(kind: i8, index: i8, allocated: &mut i64, reserved: &mut i64) -> bool;
    fn parm_allow_tf32(allow: bool);
    fn parm_autocast(kind: i8, enabled: bool);
}

/// The settings of libtorch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Where to compute.
    pub device: DeviceChoice,
    /// CPU threads that compute; none: libtorch's default.
    pub threads: Option<u32>,
    /// Whether GPUs may multiply f32 matrices and convolve in TF32, which has a mantissa of ten bits.
    pub tf32: bool,
}

/// The device that was found for a [`DeviceChoice`].
#[derive(Debug)]
pub struct Chosen {
    /// The device.
    pub device: Device,
    /// Why [`DeviceChoice::Auto`] chose the CPU although the machine has a GPU.
    pub note: Option<String>,
}

/// A GPU that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// libtorch's GPU code or a CUDA library is not installed.
    #[error("found no usable {CUDA_LIBRARY} ({0}), expected libtorch with its CUDA libraries")]
    Library(String),
    /// The library is installed, but there is no GPU.
    #[error("found no GPU that libtorch can use, expected one with NVIDIA's driver")]
    NoGpu,
    /// The GPU cannot compute; its memory may be exhausted.
    #[error("{device} cannot be used ({message})")]
    Unusable {
        /// The GPU.
        device: Device,
        /// libtorch's reason.
        message: String,
    },
    /// libtorch has no stream on this device.
    #[error("found no stream on {0}, expected one for each instance")]
    Stream(Device),
    /// An index beyond the GPUs of this machine.
    #[error("found {found} GPUs, expected GPU {index} to be one of them (they count from 0)")]
    Index {
        /// The GPU that was asked for.
        index: usize,
        /// The number of GPUs.
        found: usize,
    },
}

/// Finds the device, and applies the settings of the process: the threads of one operation, and denormal
/// numbers as zero. Call it before anything else here, on the thread that starts the others, which inherit
/// the second setting.
///
/// # Errors
/// A GPU that was asked for and cannot be used.
pub fn prepare(settings: Settings) -> Result<Chosen, DeviceError> {
    let Settings { device, threads, tf32 } = settings;
    flush_denormals();
    let chosen = match device {
        DeviceChoice::Cpu => Chosen { device: Device::CPU, note: None },
        DeviceChoice::Cuda(index) => Chosen { device: cuda(index, tf32)?, note: None },
        // Loading the GPU code takes a second; it is only done if there may be a GPU.
        DeviceChoice::Auto if !has_driver() => Chosen { device: Device::CPU, note: None },
        DeviceChoice::Auto => match cuda(0, tf32) {
            Ok(device) => Chosen { device, note: None },
            Err(error) => {
                Chosen { device: Device::CPU, note: Some(format!("computing on the CPU: {error}")) }
            }
        },
    };
    if let Some(threads) = threads {
        let threads = i32::try_from(threads).unwrap_or(i32::MAX);
        tch::set_num_threads(threads);
        THREADS.store(threads, Ordering::Relaxed);
        INTEROP.call_once(|| tch::set_num_interop_threads(threads));
    }
    Ok(chosen)
}

/// The threads of the CPU that compute: as many as [`Settings::threads`] says, or libtorch's default.
#[must_use]
pub fn threads() -> usize {
    let now = tch::get_num_threads();
    let set = THREADS.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    usize::try_from(set.err().unwrap_or(now)).unwrap_or(1).max(1)
}

/// Lets operations of this thread use this number of threads. libtorch applies the setting to a thread when an operator
/// first asks for the number; those of oneDNN do not ask, and would use all cores.
pub(crate) fn use_threads(number: usize) {
    // The default must be known before it is changed.
    let _ = threads();
    let wanted = i32::try_from(number).unwrap_or(i32::MAX);
    if wanted != tch::get_num_threads() {
        tch::set_num_threads(wanted);
    }
}

/// Does work on a thread that ends with it, and with it the threads that libtorch began for the operations of this one.
///
/// The library of OpenMP lets threads wait for the next operation by spinning only while all of the process are no more
/// than the cores; otherwise they sleep. With those that had helped to load a model still there, each row of a
/// MobileNet-V3-small took twice as long on two threads as on one.
///
/// # Panics
/// If the work does.
pub fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let done = thread::scope(|scope| scope.spawn(work).join());
    done.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Keeps memory that is freed in the process, for the next batch, for programs that run models over many batches on this
/// number of threads. glibc gives large blocks back to the system, whose pages then cost a fault each in every batch: a
/// tenth of the time of a convolutional network.
///
/// All share one pool, unless several threads compute: with one pool, those of a small MLP waited for each other half of
/// the time. Then each thread has its own, also those that read, copy and write. It must be called before there is a
/// second thread, which settles the number of pools.
pub fn keep_memory(threads: usize) {
    let pools = if threads == 1 { 1 } else { threads.saturating_add(3) };
    let pools = libc::c_int::try_from(pools).unwrap_or(libc::c_int::MAX);
    #[cfg(target_env = "gnu")]
    // SAFETY: the call changes numbers of the allocator, under its lock.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, pools);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
}

/// The names of the GPUs that libtorch can use, as the driver has them.
#[must_use]
pub fn gpus() -> Vec<String> {
    if !has_driver() || cuda(0, false).is_err() {
        return Vec::new();
    }
    let count = i32::try_from(tch::Cuda::device_count()).unwrap_or(0);
    (0..count).map(|index| driver_name(index).unwrap_or_else(|_| format!("cuda:{index}"))).collect()
}

/// The driver's name of a GPU. libtorch has started the driver.
fn driver_name(index: i32) -> Result<String, libloading::Error> {
    type Get = unsafe extern "C" fn(*mut i32, i32) -> i32;
    type Name = unsafe extern "C" fn(*mut u8, i32, i32) -> i32;
    let (mut device, mut name) = (0, [0; 256]);
    // SAFETY: the library is the driver's, which libtorch has loaded; the functions have these types in cuda.h. The last
    // byte of the name is not given away, so that it ends.
    unsafe {
        let driver = Library::open(Some(DRIVER_LIBRARY), RTLD_NOW)?;
        if driver.get::<Get>(b"cuDeviceGet")?(&raw mut device, index) == 0 {
            driver.get::<Name>(b"cuDeviceGetName")?(name.as_mut_ptr(), name.len() as i32 - 1, device);
        }
    }
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(0);
    Ok(match end {
        0 => format!("cuda:{index}"),
        _ => String::from_utf8_lossy(&name[..end]).into_owned(),
    })
}

fn has_driver() -> bool {
    DRIVER_FILES.iter().any(|file| Path::new(file).exists())
}

/// The threads that compute; 0: not known yet.
static THREADS: AtomicI32 = AtomicI32::new(0);

/// The size of libtorch's second thread pool can be set only once, before the pool starts.
static INTEROP: Once = Once::new();

fn cuda(index: usize, tf32: bool) -> Result<Device, DeviceError> {
    load_cuda(tf32)?;
    let found = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
    match found {
        0 => return Err(DeviceError::NoGpu),
        _ if index >= found => return Err(DeviceError::Index { index, found }),
        _ => {}
    }
    let device = Device(tch::Device::Cuda(index));
    // The first tensor initialises the GPU, which fails if its memory is exhausted.
    match Tensor::f_zeros([1], (Kind::Float, device.0)) {
        Ok(_) => Ok(device),
        Err(error) => Err(DeviceError::Unusable { device, message: crate::one_line(&error.to_string()) }),
    }
}

fn load_cuda(tf32: bool) -> Result<(), DeviceError> {
    if !tf32 {
        // NVIDIA's libraries read this variable when they start. It overrides traced programs, which contain
        // that convolutions may use TF32.
        // SAFETY: called from `prepare`, before the threads of libtorch exist; the others of a tool do not
        // read the environment.
        unsafe { std::env::set_var("NVIDIA_TF32_OVERRIDE", "0") };
    }
    // SAFETY: it sets two numbers of libtorch's, which nothing reads yet.
    unsafe { parm_allow_tf32(tf32) };
    // SAFETY: the library is the part of the linked libtorch that belongs to the same build; its
    // initialisers register GPU kernels and nothing else. libtorch asks for it to be global.
    let library = unsafe { Library::open(Some(CUDA_LIBRARY), RTLD_NOW | RTLD_GLOBAL) };
    let library = library.map_err(|error| {
        // The source of libloading's error has the loader's message.
        let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        DeviceError::Library(crate::one_line(&reason))
    })?;
    // The library registered itself with libtorch, and must stay loaded.
    std::mem::forget(library);
    Ok(())
}

/// Treats denormal numbers as zero on this thread and those that it starts. They would double the time of
/// late training epochs.
#[cfg(target_arch = "x86_64")]
fn flush_denormals() {
    const DENORMALS_ARE_ZERO: u32 = 1 << 6;
    const FLUSH_TO_ZERO: u32 = 1 << 15;
    let mut status: u32 = 0;
    // SAFETY: both instructions move one u32 between the register and memory that is ours; the bits
    // that change mask no exception and are defined on every x86-64 processor.
    unsafe {
        std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut status, options(nostack));
        status |= DENORMALS_ARE_ZERO | FLUSH_TO_ZERO;
        std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const status, options(nostack));
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn flush_denormals() {}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(device: DeviceChoice) -> Settings {
        Settings { device, threads: Some(1), tf32: false }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn denormals_are_zero_here_and_in_threads_started_later() {
        prepare(on(DeviceChoice::Cpu)).unwrap();
        let halved = || std::hint::black_box(f32::MIN_POSITIVE) * std::hint::black_box(0.5);
        assert_eq!(halved(), 0.0);
        assert_eq!(std::thread::spawn(halved).join().unwrap(), 0.0);
    }

    #[test]
    fn a_missing_gpu_is_an_error_that_says_what_was_expected() {
        if has_driver() {
            return;
        }
        let error = prepare(on(DeviceChoice::Cuda(0))).unwrap_err().to_string();
        assert!(error.contains("expected") && !error.contains('\n'), "{error}");
        assert_eq!(prepare(on(DeviceChoice::Auto)).unwrap().device, Device::CPU);
    }

    #[test]
    fn without_a_driver_there_are_no_gpus() {
        assert_eq!(gpus().is_empty(), !has_driver());
    }

    #[test]
    fn a_thread_has_its_stream_on_the_cpu_and_none_on_a_gpu_that_is_not_there() {
        assert!(Device::CPU.own_stream().is_ok());
        if has_driver() {
            return;
        }
        let error = Device(tch::Device::Cuda(0)).own_stream().unwrap_err().to_string();
        assert_eq!(error, "found no stream on cuda:0, expected one for each instance");
    }

    #[test]
    fn the_cpu_has_no_memory_to_report_and_nothing_to_wait_for() {
        Device::CPU.synchronize();
        assert_eq!(Device::CPU.peak_memory(), None);
        // Without GPU code there is no peak either.
        assert_eq!(Device(tch::Device::Cuda(0)).peak_memory().filter(|_| !has_driver()), None);
    }

    #[test]
    fn autocast_computes_products_with_bf16_and_ends_with_its_guard() {
        let ones = || Tensor::ones([2, 2], (Kind::Float, tch::Device::Cpu));
        {
            let _autocast = Autocast::new(tch::Device::Cpu);
            assert_eq!(ones().matmul(&ones()).kind(), Kind::BFloat16);
            assert_eq!(ones().softmax(0, None::<Kind>).kind(), Kind::Float);
        }
        assert_eq!(ones().matmul(&ones()).kind(), Kind::Float);
    }

    #[test]
    fn a_gpu_that_cannot_be_used_is_named_with_the_reason() {
        let device = Device(tch::Device::Cuda(1));
        let error = DeviceError::Unusable { device, message: "CUDA error: out of memory".into() };
        assert_eq!(error.to_string(), "cuda:1 cannot be used (CUDA error: out of memory)");
    }

    #[test]
    fn an_index_beyond_the_gpus_is_named() {
        let error = DeviceError::Index { index: 3, found: 2 }.to_string();
        assert!(error.contains("found 2 GPUs") && error.contains("GPU 3"), "{error}");
        assert!(DeviceError::NoGpu.to_string().contains("driver"));
    }
}
