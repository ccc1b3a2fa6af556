//! Runs a model on blocks of rows.

use std::sync::{Arc, OnceLock};

use bytemuck::cast_slice;
use parm::npy::RowLayout;
use parm::{Dtype, Tail};
use tch::{Kind, TchError, Tensor};

use crate::device::{Autocast, Device, DeviceError, threads, use_threads};
use crate::encoder::Encoder;
use crate::memory::pinned;
use crate::model::Model;
use crate::timings::{Phase, Timings};
use crate::trainable::Precision;

/// The size from which queries go through pinned memory. While a GPU copies from other memory, no thread of
/// the process can give it work: on an H200, ResNet-18 was half as fast with batches of 256 images.
const PINNED: usize = 1 << 20;

/// The multiplications of a batch below which a second thread of the CPU costs more than it saves: waking it takes as
/// long as a third of them.
const SMALL: usize = 1 << 22;

/// The multiplications for a row of linear layers up to which threads compute rows of their own. The weights, as many
/// numbers, are then in the cache of each core. Larger ones come from memory, which is faster if threads share each layer.
const CACHED: usize = 1 << 18;

/// What may change outputs by rounding, for speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Whether the model is optimised for answering: normalisations become part of convolutions and linear layers,
    /// constants are computed once, and CPUs use oneDNN's layers.
    pub optimize: bool,
    /// Of [`Precision::Mixed`], matrix products and convolutions compute with bf16.
    pub precision: Precision,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { optimize: true, precision: Precision::Full }
    }
}

/// A model with the shape of the rows that it answers.
#[derive(Debug)]
pub struct Session {
    model: Model,
    precision: Precision,
    /// The rows that the model computes at a time.
    most: i64,
    /// The rows up to which a batch is computed on one thread of the CPU.
    small: usize,
    /// Whether threads of the CPU compute rows of their own, rather than share each layer.
    shares_rows: bool,
    upload: Upload,
    /// The outputs, once they are known.
    output: OnceLock<RowLayout>,
}

/// Rows that a model cannot answer, or outputs that are not rows.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The shape of the rows is not that of the model's queries.
    #[error("found rows of shape {found:?}, expected {expected:?} of the model")]
    QueryShape {
        /// The shape of the stream's rows.
        found: Vec<usize>,
        /// The model's.
        expected: Vec<usize>,
    },
    /// libtorch refused to compute.
    #[error("the model refuses rows of shape {shape:?}: {message}")]
    Refused {
        /// The shape of the stream's rows.
        shape: Vec<usize>,
        /// libtorch's reason.
        message: String,
    },
    /// The memory of a GPU is exhausted.
    #[error("found too little memory on {device} for {rows} rows of shape {shape:?}: {message}")]
    Memory {
        /// The GPU.
        device: Device,
        /// The number of rows that were computed at a time.
        rows: usize,
        /// Their shape.
        shape: Vec<usize>,
        /// libtorch's message.
        message: String,
    },
    /// The number of output rows is not that of queries.
    #[error("found outputs of shape {found:?} for {rows} queries, expected one row each along axis 0")]
    OutputRows {
        /// The shape of the outputs.
        found: Vec<i64>,
        /// The number of queries.
        rows: usize,
    },
    /// The type of the outputs is not supported in streams.
    #[error("found outputs of type {0}, expected f2 f4 f8, i1 to i8, u1 or b1")]
    OutputType(String),
    /// The type or shape of outputs changes between batches.
    #[error("found outputs of {found}, expected {expected} as for the first batch")]
    OutputLayout {
        /// The outputs of this batch.
        found: RowLayout,
        /// The outputs of the first.
        expected: RowLayout,
    },
}

impl Session {
    /// Prepares to answer rows of this shape.
    ///
    /// # Errors
    /// [`SessionError::QueryShape`] if the model's queries have another shape.
    pub fn new(model: Model, device: Device, shape: &[usize]) -> Result<Self, SessionError> {
        match model.query_shape() {
            Some(expected) if expected != shape => {
                Err(SessionError::QueryShape { found: shape.into(), expected: expected.into() })
            }
            _ => {
                let upload = Upload { device, shape: shape.into(), channels_last: false, timings: None };
                let multiplications = model.multiplications();
                Ok(Self {
                    model,
                    precision: Precision::Full,
                    most: i64::MAX,
                    small: multiplications.map_or(0, |one| SMALL / one.max(1)),
                    shares_rows: !device.is_gpu() && multiplications.is_none_or(|one| one <= CACHED),
                    upload,
                    output: OnceLock::new(),
                })
            }
        }
    }

    /// The same session, tuned: outputs differ by rounding.
    #[must_use]
    pub fn tuned(self, tuning: Tuning) -> Self {
        let Tuning { optimize, precision } = tuning;
        if !optimize {
            return Self { precision, ..self };
        }
        let model = self.model.optimized(&self.upload.shape, precision);
        let upload = Upload { channels_last: model.takes_channels_last(), ..self.upload };
        Self { model, precision, upload, ..self }
    }

    /// The same session, whose model computes at most this number of rows at a time.
    #[must_use]
    pub fn in_batches(self, rows: usize) -> Self {
        Self { most: i64::try_from(rows.max(1)).unwrap_or(i64::MAX), ..self }
    }

    /// The type and shape of an output row; before the first answer, a query of zeros shows it.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn output(&self) -> Result<&RowLayout, SessionError> {
        match self.output.get() {
            Some(output) => Ok(output),
            None => self.run(1, &vec![0.0; self.upload.shape.iter().product()], &mut Vec::new()),
        }
    }

    /// Measures the times of copying, encoding and computing from now on. On a GPU each of them is then
    /// waited for.
    #[must_use]
    pub fn timed(self, timings: Arc<Timings>) -> Self {
        Self { upload: Upload { timings: Some(timings), ..self.upload }, ..self }
    }

    /// Answers the first `rows` rows of `queries`. `outputs` gets the little-endian bytes of as many output
    /// rows. Returns their type and shape.
    ///
    /// # Errors
    /// [`SessionError`], by kind.
    pub fn run(
        &self,
        rows: usize,
        queries: &[f32],
        outputs: &mut Vec<u8>,
    ) -> Result<&RowLayout, SessionError> {
        let queries = self.upload.rows(rows, queries)?;
        self.answer(rows, &queries.tensor, threads(), outputs)
    }

    /// As [`run`](Self::run), for coded queries that are made on the device: `groups` has at least `rows`
    /// groups of k queries, and row i of the outputs answers coded query `coded` of group i.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_coded(
        &self,
        encoder: &Encoder,
        coded: usize,
        rows: usize,
        groups: &[f32],
        outputs: &mut Vec<u8>,
    ) -> Result<&RowLayout, SessionError> {
        let groups = self.upload.copy(&[rows, encoder.k()], groups)?;
        let threads = threads();
        let make = || encoder.encode(coded..coded + 1, &groups, threads).map(|mut made| made.swap_remove(0));
        let queries =
            self.upload.measure(Phase::Encode, make).map_err(|error| self.upload.refused(rows, &error))?;
        self.answer(rows, &queries, threads, outputs)
    }

    /// As [`run`](Self::run), for rows on the device, on at most this number of threads of the CPU.
    fn answer(
        &self,
        rows: usize,
        queries: &Tensor,
        threads: usize,
        outputs: &mut Vec<u8>,
    ) -> Result<&RowLayout, SessionError> {
        let most = self.most.min(rows.max(1) as i64);
        let parts = queries.f_split(most, 0).map_err(|error| self.upload.refused(rows, &error))?;
        let mut end = 0;
        for queries in parts {
            let rows = queries.size().first().map_or(0, |&rows| rows as usize);
            use_threads(if rows <= self.small { 1 } else { threads });
            let result = self.predict(&queries).map_err(|error| self.upload.refused(rows, &error))?;
            let found = layout(&result, rows)?;
            let expected = self.output.get_or_init(|| found.clone());
            if *expected != found {
                return Err(SessionError::OutputLayout { found, expected: expected.clone() });
            }
            let begin = end;
            end += rows * found.bytes();
            outputs.resize(end, 0);
            let copied = result.f_copy_data_u8(&mut outputs[begin..], rows * found.elements());
            copied.map_err(|error| self.upload.refused(rows, &error))?;
        }
        self.output()
    }

    /// Contiguous outputs on the CPU, converted to a type that streams support if there is a near one.
    fn predict(&self, queries: &Tensor) -> Result<Tensor, TchError> {
        let outputs = self.upload.measure(Phase::Compute, || {
            let is_mixed = self.precision == Precision::Mixed;
            let _autocast = is_mixed.then(|| Autocast::new(self.upload.device.0));
            self.model.predict(queries)
        })?;
        let outputs = self.upload.measure(Phase::Download, || outputs.f_to_device(tch::Device::Cpu))?;
        let outputs =
            if outputs.kind() == Kind::BFloat16 { outputs.f_to_kind(Kind::Float)? } else { outputs };
        outputs.f_contiguous()
    }
}

/// Images `[rows, channels, height, width]` on the CPU with their channels last in memory. They are copied anyway;
/// libtorch's reordering of the copy took 7 % of the time of a MobileNet-V3-small.
fn interleaved(images: &[f32], rows: i64, shape: &[i64]) -> Result<Tensor, TchError> {
    let [channels, height, width] = *shape else {
        return Err(TchError::Shape(format!("expected images [channels, height, width], found {shape:?}")));
    };
    let made = Tensor::f_empty([rows, height, width, channels], (Kind::Float, tch::Device::Cpu))?;
    if made.numel() != images.len() || images.is_empty() {
        return Err(TchError::Shape(format!("expected {} numbers, found {}", made.numel(), images.len())));
    }
    // SAFETY: the tensor is new, contiguous, of f32 and not empty, and has as many numbers as the images.
    let all = unsafe { std::slice::from_raw_parts_mut(made.data_ptr().cast::<f32>(), images.len()) };
    let (channels, pixels) = (channels as usize, (height * width) as usize);
    for (image, made) in images.chunks_exact(channels * pixels).zip(all.chunks_exact_mut(channels * pixels)) {
        match channels {
            3 => {
                let (first, rest) = image.split_at(pixels);
                let (second, third) = rest.split_at(pixels);
                let colours = first.iter().zip(second).zip(third);
                for (pixel, ((a, b), c)) in made.as_chunks_mut::<3>().0.iter_mut().zip(colours) {
                    *pixel = [*a, *b, *c];
                }
            }
            _ => {
                for (channel, plane) in image.chunks_exact(pixels).enumerate() {
                    for (pixel, &value) in made.chunks_exact_mut(channels).zip(plane) {
                        pixel[channel] = value;
                    }
                }
            }
        }
    }
    made.f_permute([0, 3, 1, 2])
}

/// The type and shape of the rows of outputs for this number of queries.
fn layout(outputs: &Tensor, rows: usize) -> Result<RowLayout, SessionError> {
    let dtype = dtype(outputs.kind());
    let dtype = dtype.ok_or_else(|| SessionError::OutputType(format!("{:?}", outputs.kind())))?;
    let size = outputs.size();
    match size.split_first() {
        Some((&first, shape)) if first == rows as i64 && !shape.contains(&0) => {
            Ok(RowLayout::new(dtype, shape.iter().map(|&axis| axis as usize).collect::<Vec<_>>()))
        }
        _ => Err(SessionError::OutputRows { found: size, rows }),
    }
}

/// Copies queries to a device, while a [`Pass`] on another thread answers those before.
#[derive(Clone, Debug)]
pub struct Upload {
    device: Device,
    /// The shape of one query.
    shape: Vec<usize>,
    /// Whether queries, which are images of few channels, get their channels last in memory.
    channels_last: bool,
    timings: Option<Arc<Timings>>,
}

/// Queries on a device.
#[derive(Debug)]
pub struct Queries {
    rows: usize,
    /// `[rows, …]`
    tensor: Tensor,
}

impl Upload {
    /// Lets this thread copy while other threads compute, and have the cores.
    ///
    /// # Errors
    /// A GPU that gives no stream.
    pub fn begin(&self) -> Result<(), DeviceError> {
        use_threads(1);
        self.device.own_stream()
    }

    /// Copies the first `rows` rows of `queries`, and waits until they are on the device.
    ///
    /// # Errors
    /// Too few numbers, or too little memory.
    pub fn rows(&self, rows: usize, queries: &[f32]) -> Result<Queries, SessionError> {
        Ok(Queries { rows, tensor: self.copy(&[rows], queries)? })
    }

    /// Queries on the device: `[axes…, shape…]`.
    fn copy(&self, axes: &[usize], queries: &[f32]) -> Result<Tensor, SessionError> {
        let copied = self.measure(Phase::Upload, || {
            let size: Vec<usize> = axes.iter().chain(&self.shape).copied().collect();
            let queries = queries
                .get(..size.iter().product())
                .ok_or_else(|| TchError::Shape(format!("{} numbers for {size:?}", queries.len())))?;
            let size: Vec<i64> = size.iter().map(|&axis| axis as i64).collect();
            // Groups are views of rows in their order.
            if let (true, [rows, shape @ ..], 1) =
                (self.channels_last && !queries.is_empty(), &size[..], axes.len())
            {
                return interleaved(queries, *rows, shape);
            }
            let bytes: &[u8] = cast_slice(queries);
            if !self.device.is_gpu() {
                return Tensor::f_from_data_size(bytes, &size, Kind::Float);
            }
            // Copying into new memory of the host first would take as long as the copy to the device.
            let strides: Vec<i64> =
                (1..=size.len()).map(|axis| size[axis..].iter().product::<i64>()).collect();
            // SAFETY: the tensor reads `queries`, whose length is the product of its sizes, and is gone when
            // this returns: copying to a GPU returns when it has been done.
            let host = unsafe {
                Tensor::f_from_blob(bytes.as_ptr(), &size, &strides, Kind::Float, tch::Device::Cpu)?
            };
            if bytes.len() < PINNED {
                return host.f_to_device(self.device.0);
            }
            let copied = pinned(&host)?.f_to_device_(self.device.0, Kind::Float, true, false)?;
            self.device.synchronize();
            Ok(copied)
        });
        copied.map_err(|error| self.refused(axes[0], &error))
    }

    fn measure<T>(&self, phase: Phase, work: impl FnOnce() -> T) -> T {
        match &self.timings {
            Some(timings) => timings.measure_on(self.device, phase, work),
            None => work(),
        }
    }

    /// The error of libtorch for this number of queries.
    fn refused(&self, rows: usize, error: &TchError) -> SessionError {
        let (shape, message) = (self.shape.clone(), crate::one_line(&error.to_string()));
        if crate::is_out_of_memory(error) {
            SessionError::Memory { device: self.device, rows, shape, message }
        } else {
            SessionError::Refused { shape, message }
        }
    }
}

/// One pass over queries: they are copied to the device once, the deployed model answers them, and the parity
/// queries are encoded there and answered by the parity models or the deployed model.
#[derive(Debug)]
pub struct Pass {
    deployed: Session,
    /// The number of parity queries of a group.
    r: usize,
    encoder: Encoder,
    /// The parity models; empty if the deployed model answers parity queries.
    parities: Vec<Session>,
    tail: Tail,
}

// SAFETY: methods of `&Pass` read the tensors of models and encoders, none changes one or gives it away. libtorch
// computes with the same tensors and modules on several threads.
unsafe impl Sync for Pass {}

impl Pass {
    /// A pass without parity queries.
    #[must_use]
    pub fn plain(deployed: Session) -> Self {
        let encoder = Encoder::weights(1, &nalgebra::DMatrix::zeros(0, 1));
        Self { deployed, r: 0, encoder, parities: Vec::new(), tail: Tail::Error }
    }

    /// A pass with r parity queries for each group, and their models by parity. Without parity models the
    /// deployed model answers the parity queries.
    ///
    /// # Panics
    /// If there are parity models, but not r.
    #[must_use]
    pub fn coded(deployed: Session, r: usize, encoder: Encoder, parities: Vec<Session>, tail: Tail) -> Self {
        assert!(parities.is_empty() || parities.len() == r, "one parity model for each parity");
        // Groups are views of rows in their order.
        let upload = Upload { channels_last: false, ..deployed.upload };
        let deployed = Session { upload, ..deployed };
        Self { deployed, r, encoder, parities, tail }
    }

    /// Whether threads of the CPU best [`run`](Self::run) at the same time, each on whole groups of its own. They wait
    /// for each other less often than threads that share each layer.
    #[must_use]
    pub fn shares_rows(&self) -> bool {
        self.deployed.shares_rows
    }

    /// The part that copies queries to the device.
    #[must_use]
    pub fn upload(&self) -> Upload {
        self.deployed.upload.clone()
    }

    /// The type and shape of output rows: the deployed model's, then those for each parity.
    ///
    /// # Errors
    /// As [`Session::output`].
    pub fn layouts(&self) -> Result<Vec<RowLayout>, SessionError> {
        let of_parities = (0..self.r).map(|parity| self.parities.get(parity).unwrap_or(&self.deployed));
        [&self.deployed].into_iter().chain(of_parities).map(|session| session.output().cloned()).collect()
    }

    /// Answers rows, which begin with a group, on at most this number of threads of the CPU: the bytes of the deployed model's outputs,
    /// then those for each parity, one row for each group. An incomplete last group is padded, or has no parity query,
    /// according to the tail. The queries are no longer in use when this returns.
    ///
    /// # Errors
    /// [`SessionError`], by kind.
    pub fn run(&self, queries: &Queries, threads: usize) -> Result<Vec<Vec<u8>>, SessionError> {
        let Queries { rows, tensor: queries } = queries;
        let mut outputs = vec![Vec::new(); 1 + self.r];
        self.deployed.answer(*rows, queries, threads, &mut outputs[0])?;
        if self.r == 0 {
            return Ok(outputs);
        }
        let encode = || self.encode(*rows, queries, threads);
        let coded = self.deployed.upload.measure(Phase::Encode, encode);
        let coded = coded.map_err(|error| self.deployed.upload.refused(*rows, &error))?;
        for (parity, coded) in coded.iter().enumerate() {
            let groups = coded.size().first().map_or(0, |&groups| groups as usize);
            if groups > 0 {
                let session = self.parities.get(parity).unwrap_or(&self.deployed);
                session.answer(groups, coded, threads, &mut outputs[1 + parity])?;
            }
        }
        Ok(outputs)
    }

    /// The parity queries of rows `[rows, …]` on the device: r times `[groups, …]`.
    fn encode(&self, rows: usize, queries: &Tensor, threads: usize) -> Result<Vec<Tensor>, TchError> {
        let k = self.encoder.k();
        let whole = rows / k * k;
        let grouped = |rows: &Tensor| {
            let mut shape = rows.size();
            shape.splice(..1, [shape[0] / k as i64, k as i64]);
            rows.f_view(&*shape)
        };
        let mut groups = grouped(&queries.f_narrow(0, 0, whole as i64)?)?;
        if whole < rows && self.tail == Tail::Pad {
            let last: Vec<i64> = (whole..whole + k).map(|row| row.min(rows - 1) as i64).collect();
            let last = Tensor::f_from_slice(&last)?.f_to_device(queries.device())?;
            let last = grouped(&queries.f_index_select(0, &last)?)?;
            groups = Tensor::f_cat(&[groups, last], 0)?;
        }
        self.encoder.encode(0..self.r, &groups, threads)
    }
}

/// The type of streams that is this type of tensors.
pub(crate) fn dtype(kind: Kind) -> Option<Dtype> {
    Some(match kind {
        Kind::Bool => Dtype::Bool,
        Kind::Uint8 => Dtype::U8,
        Kind::Int8 => Dtype::I8,
        Kind::Int16 => Dtype::I16,
        Kind::Int => Dtype::I32,
        Kind::Int64 => Dtype::I64,
        Kind::Half => Dtype::F16,
        Kind::Float => Dtype::F32,
        Kind::Double => Dtype::F64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaved_images_are_the_same_images_with_their_channels_last() {
        for channels in 1..=4 {
            let images: Vec<f32> = (0..2 * channels * 3 * 5).map(|i| i as f32).collect();
            let expected = Tensor::from_slice(&images).view([2, channels, 3, 5]);
            let found = interleaved(&images, 2, &[channels, 3, 5]).unwrap();
            assert_eq!((&found, found.stride()), (&expected, vec![15 * channels, 1, 5 * channels, channels]));
        }
        for (images, shape) in [(&[0.0][..], &[1][..]), (&[0.0], &[1, 1, 2]), (&[], &[3, 2, 2])] {
            assert!(interleaved(images, 1, shape).is_err());
        }
    }

    #[test]
    fn coded_queries_of_an_optimised_model_are_answered_as_those_that_were_coded_before() {
        let path = crate::fixtures::folder().join("cnn.pt2");
        let model = || Model::load(&path, Device::CPU).unwrap();
        let shape = model().query_shape().unwrap().to_vec();
        let elements: usize = shape.iter().product();
        let groups: Vec<f32> = (0..3 * 2 * elements).map(|i| ((i * 7919) % 1009) as f32 / 1009.0).collect();
        let sums: Vec<f32> = groups
            .chunks_exact(2 * elements)
            .flat_map(|group| (0..elements).map(|i| group[i] + group[elements + i]))
            .collect();
        let session = || Session::new(model(), Device::CPU, &shape).unwrap().tuned(Tuning::default());
        assert!(session().upload.channels_last);
        let encoder = Encoder::weights(2, &nalgebra::DMatrix::from_element(1, 2, 1.0));
        let (mut coded, mut expected) = (Vec::new(), Vec::new());
        session().run_coded(&encoder, 0, 3, &groups, &mut coded).unwrap();
        session().in_batches(2).run(3, &sums, &mut expected).unwrap();
        let numbers = |bytes: &[u8]| -> Vec<f32> { bytemuck::pod_collect_to_vec(bytes) };
        let (coded, expected) = (numbers(&coded), numbers(&expected));
        assert!(
            coded.len() == expected.len() && coded.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1e-4)
        );
        assert_eq!(session().run(0, &[], &mut Vec::new()).unwrap().shape, [5]);
    }
}
