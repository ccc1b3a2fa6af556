//! Exports networks as TorchScript, for other servers and programs.

use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread;

use tch::{CModule, Device, Kind, TchError, Tensor};

use super::Network;
use super::checkpoint::{self, CheckpointError};
use crate::script::Script;
use crate::trainable::Mode;

/// A network that cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The shape of queries is neither known nor given.
    #[error("found a model without the shape of its queries, expected --query-shape")]
    UnknownShape,
    /// A shape that differs from the network's.
    #[error("found queries of shape {found:?}, expected {expected:?} of the model")]
    QueryShape {
        /// The shape that was given.
        found: Vec<usize>,
        /// The network's.
        expected: Vec<usize>,
    },
    /// libtorch cannot compute or write the program.
    #[error("libtorch: {}", crate::one_line(&.0.to_string()))]
    Torch(TchError),
    /// The archive of an exported program cannot be written.
    #[error("an archive: {0}")]
    Archive(io::Error),
    /// A pipe cannot be opened or read.
    #[error("a pipe: {0}")]
    Pipe(#[from] io::Error),
    /// A file that cannot be written.
    #[error(transparent)]
    File(#[from] CheckpointError),
}

/// The file of a program, in memory. libtorch saves programs only to a path, and aborts the process if it
/// cannot write; a pipe to a reading thread never fails to accept data.
fn bytes_of(program: &CModule) -> Result<Vec<u8>, ExportError> {
    let (mut reader, writer) = io::pipe()?;
    thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes)
        });
        let saved = program.save(format!("/proc/self/fd/{}", writer.as_raw_fd()));
        // Dropping the writer ends the file.
        drop(writer);
        let bytes = reading.join().unwrap_or_else(|_| Err(io::Error::other("its reader panicked")));
        saved?;
        Ok(bytes?)
    })
}

impl From<TchError> for ExportError {
    fn from(error: TchError) -> Self {
        Self::Torch(error)
    }
}

impl Network {
    /// Writes the network as TorchScript, as [`program`](Self::program). Returns the shape of a query.
    ///
    /// # Errors
    /// [`ExportError`], by kind.
    pub fn export(&self, path: &Path, query_shape: Option<&[usize]>) -> Result<Vec<usize>, ExportError> {
        let (bytes, shape) = self.program(query_shape)?;
        checkpoint::write_bytes(path, &bytes)?;
        Ok(shape)
    }

    /// The network as a TorchScript file. Its method `forward` maps any number of f4 queries `[rows, …]` to
    /// `[rows, …]`, on the device that it is loaded to. The shape of a query is needed if the network does
    /// not have it; it is also returned.
    ///
    /// # Errors
    /// [`ExportError`], by kind.
    pub fn program(&self, query_shape: Option<&[usize]>) -> Result<(Vec<u8>, Vec<usize>), ExportError> {
        let shape = match (&self.description.query_shape, query_shape) {
            (None, None) => return Err(ExportError::UnknownShape),
            (Some(expected), Some(found)) if expected != found => {
                let (found, expected) = (found.into(), expected.clone());
                return Err(ExportError::QueryShape { found, expected });
            }
            (Some(shape), _) => shape.clone(),
            (None, Some(shape)) => shape.into(),
        };
        let program = tch::no_grad(|| self.trace(&shape))?;
        Ok((bytes_of(&program)?, shape))
    }

    /// The network as a program that libtorch optimises, on the same device. None: it is as fast as it is, or
    /// libtorch cannot.
    pub(crate) fn optimized(&self, query_shape: &[usize]) -> Option<Script> {
        let convolves = self.numbers.views().iter().any(|view| view.dim() == 4);
        let (bytes, _) = self.program(Some(query_shape)).ok().filter(|_| convolves)?;
        Script::parse(&bytes, self.numbers.device()).ok()?.optimized().ok()
    }

    fn trace(&self, shape: &[usize]) -> Result<CModule, TchError> {
        // The constants of a program have their own memory and no gradient.
        let constant = |view: &Tensor| view.f_to_device(Device::Cpu)?.f_detach_copy();
        let constants = self.numbers.views().iter().map(constant).collect::<Result<Vec<_>, _>>()?;
        // Two rows, since some operations would be specialised to a single row in the trace.
        let size: Vec<i64> = std::iter::once(2).chain(shape.iter().map(|&axis| axis as i64)).collect();
        let queries = Tensor::f_zeros(&*size, (Kind::Float, Device::Cpu))?;
        let answer = |queries: &Tensor| self.compute(&constants, queries, Mode::Evaluate);
        // Errors must occur before tracing, which cannot report them.
        let _ = answer(&queries)?;
        let mut failed = None;
        let program = CModule::create_by_tracing("parm", "forward", &[queries], &mut |inputs| {
            let outputs = inputs.iter().map(&answer).collect::<Result<_, _>>();
            outputs.unwrap_or_else(|error| {
                failed = Some(error);
                inputs.iter().map(Tensor::shallow_clone).collect()
            })
        })?;
        failed.map_or(Ok(program), Err)
    }
}

#[cfg(test)]
mod tests {
    use parm::{Activation, Task};

    use super::*;
    use crate::network::{Description, Family, Output};
    use crate::train::Precision;
    use crate::{Model, Session, Tuning};

    /// Outputs of a model for queries of this shape.
    fn answers(model: Model, shape: &[usize], rows: usize) -> Vec<f32> {
        tuned(model, shape, rows, Tuning { optimize: false, precision: Precision::Full })
    }

    fn tuned(model: Model, shape: &[usize], rows: usize, tuning: Tuning) -> Vec<f32> {
        let elements = rows * shape.iter().product::<usize>();
        let queries: Vec<f32> = (0..elements).map(|i| ((i * 7919) % 1009) as f32 / 1009.0 - 0.5).collect();
        let session = Session::new(model, crate::Device::CPU, shape).unwrap().tuned(tuning);
        let mut outputs = Vec::new();
        let layout = session.run(rows, &queries, &mut outputs).unwrap().clone();
        assert_eq!(outputs.len(), rows * layout.bytes());
        outputs.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    fn random(description: Description) -> Network {
        Network::random(description, [7; 32], Device::Cpu).unwrap()
    }

    #[test]
    fn every_network_answers_as_its_export_for_any_number_of_rows() {
        let folder = tempfile::tempdir().unwrap();
        let of = |family: &Family, shape: &[usize]| Description::new(family, shape, &[5]).unwrap();
        let mlp = Family::Mlp { hidden: vec![6, 4], activation: Activation::Relu };
        let activated =
            Activation::ALL.map(|activation| of(&Family::Mlp { hidden: vec![6], activation }, &[4]));
        let mut scalar = Description::mlp(&[], &[3], &[]);
        scalar.output = Output::Predictions(Task::Regress);
        let others = [
            of(&mlp, &[2, 3, 4]),
            Description::mlp(&[7], &[], &[2, 3]),
            scalar,
            of(&Family::Lenet5, &[20, 18]),
            of(&Family::Vgg11, &[1, 33, 40]),
            of(&Family::Resnet18, &[1, 12, 12]),
            of(&Family::Resnet18, &[3, 64, 64]),
            of(&Family::Resnet152, &[3, 8, 9]),
            Description::encoder_mlp(3, 2, &[2, 4, 5]),
            Description::encoder_conv(2, 1, &[3, 6, 7]).unwrap(),
            Description::encoder_conv(3, 2, &[6, 7]).unwrap(),
            Description::decoder_mlp(3, 2, &[4]),
        ];
        for description in activated.into_iter().chain(others) {
            let name = description.architecture.to_string();
            let network = random(description);
            let shape = network.description().query_shape.clone().unwrap();
            let [script, native] = ["model.pt", "model.safetensors"].map(|name| folder.path().join(name));
            assert_eq!(network.export(&script, None).unwrap(), shape);
            network.save(&native).unwrap();
            for rows in [1, 2, 7] {
                let [own, exported] =
                    [&native, &script].map(|path| Model::load(path, crate::Device::CPU).unwrap());
                let (own, exported) = (answers(own, &shape, rows), answers(exported, &shape, rows));
                // libtorch computes the last elements of a vector with other instructions, so that results
                // differ in the last digit by the position of a row in memory.
                let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * a.abs().max(1.0);
                assert!(
                    own.len() == exported.len() && own.iter().zip(&exported).all(near),
                    "{name}, {rows} rows"
                );
                assert!(own.iter().any(|&x| x != 0.0), "{name}, {rows} rows");
                if rows < 7 {
                    continue;
                }
                let largest = own.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                for path in [&native, &script] {
                    for (precision, share) in [(Precision::Full, 1e-4), (Precision::Mixed, 0.1)] {
                        let model = Model::load(path, crate::Device::CPU).unwrap();
                        let fast = tuned(model, &shape, rows, Tuning { optimize: true, precision });
                        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= share * largest;
                        assert!(
                            own.len() == fast.len() && own.iter().zip(&fast).all(near),
                            "{name}, {rows} rows, {precision:?}, {}",
                            path.display()
                        );
                    }
                }
            }
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
    }

    #[test]
    fn a_network_of_unknown_queries_is_exported_for_those_that_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.pt");
        let known = Description::new(&Family::Resnet18, &[1, 12, 12], &[5]).unwrap();
        let network = random(Description { query_shape: None, ..known.clone() });
        let error = network.export(&path, None).unwrap_err();
        assert!(matches!(error, ExportError::UnknownShape), "{error}");
        let error = network.export(&path, Some(&[3, 12, 12])).unwrap_err().to_string();
        assert!(error.contains("expected images [1, height, width]"), "{error}");
        assert_eq!(network.export(&path, Some(&[1, 12, 12])).unwrap(), [1, 12, 12]);
        let expected = answers(Model::Native(Box::new(random(known))), &[1, 12, 12], 3);
        assert_eq!(answers(Model::load(&path, crate::Device::CPU).unwrap(), &[1, 12, 12], 3), expected);
    }

    #[test]
    fn other_queries_and_folders_that_are_none_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let network = random(Description::mlp(&[4], &[], &[2]));
        let error = network.export(&folder.path().join("m.pt"), Some(&[2, 2])).unwrap_err().to_string();
        assert!(error.contains("[2, 2]") && error.contains("expected [4]"), "{error}");
        let error = network.export(&folder.path().join("none/m.pt"), None).unwrap_err();
        assert!(matches!(error, ExportError::File(_)) && error.to_string().contains("none/m.pt"), "{error}");
    }
}
