//! The numbers of a model: flat tensors of what is learned and of what is not, with a view for each tensor of
//! the model.
//!
//! An optimiser and a checkpoint then need few operations, however many tensors a model has.

use std::sync::Arc;

use tch::{Device, Kind, TchError, Tensor};

/// The most names of parameters that a message lists.
const LISTED: usize = 8;

/// The flat tensor that an entry belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// f32 parameters that are learned; their views have gradients.
    Learned,
    /// f32 parameters that are held, and f32 buffers such as running statistics.
    Fixed,
    /// i64 buffers, such as the number of batches that batch normalisation has seen.
    Integers,
}

/// A tensor of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its names as PyTorch has them; tied tensors have several.
    pub(crate) names: Vec<String>,
    pub(crate) shape: Vec<usize>,
    pub(crate) part: Part,
}

/// The numbers of a model by part, each in one tensor `[elements]`, in the order of the model's entries.
#[derive(Debug)]
pub(crate) struct Flat {
    pub(crate) learned: Tensor,
    pub(crate) fixed: Tensor,
    pub(crate) integers: Tensor,
}

/// The numbers of a model, on one device. Changing the flat tensors changes the views, and the other way
/// round.
#[derive(Debug)]
pub(crate) struct Numbers {
    entries: Arc<[Entry]>,
    flat: Flat,
    /// By entry.
    views: Vec<Tensor>,
}

/// Patterns of parameters to hold that do not fit the model.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// No parameter has a name of this pattern.
    #[error("found no parameter '{pattern}', expected one of {names}")]
    Unmatched {
        /// The pattern.
        pattern: String,
        /// Some names of parameters.
        names: String,
    },
    /// Nothing is left to learn.
    #[error("found patterns that match every parameter, expected some to be trained")]
    Everything,
    /// libtorch's, if memory is short.
    #[error("libtorch: {}", crate::one_line(&.0.to_string()))]
    Torch(TchError),
}

impl Entry {
    pub(crate) fn new(name: impl Into<String>, shape: &[usize], part: Part) -> Self {
        Self { names: vec![name.into()], shape: shape.into(), part }
    }

    /// Its shape as libtorch has it.
    fn size(&self) -> Vec<i64> {
        self.shape.iter().map(|&axis| axis as i64).collect()
    }

    /// The number of elements; none if it cannot be counted.
    fn elements(&self) -> Option<i64> {
        self.shape.iter().try_fold(1_i64, |product, &axis| product.checked_mul(i64::try_from(axis).ok()?))
    }
}

impl Flat {
    /// A copy on this device.
    pub(crate) fn copy(&self, device: Device) -> Result<Self, TchError> {
        self.map(|tensor| tensor.f_to_device(device)?.f_detach_copy())
    }

    /// The tensors with the names that they have in checkpoints.
    pub(crate) fn named(&self) -> [(&'static str, &Tensor); 3] {
        [("parameters", &self.learned), ("buffers", &self.fixed), ("integers", &self.integers)]
    }

    /// The results of a function of each tensor.
    fn map<E>(&self, mut of: impl FnMut(&Tensor) -> Result<Tensor, E>) -> Result<Self, E> {
        self.try_map(|_, tensor| of(tensor))
    }

    /// The results of a function of each tensor and its name.
    pub(crate) fn try_map<E>(
        &self,
        mut of: impl FnMut(&'static str, &Tensor) -> Result<Tensor, E>,
    ) -> Result<Self, E> {
        let [learned, fixed, integers] = self.named().map(|(name, tensor)| of(name, tensor));
        Ok(Self { learned: learned?, fixed: fixed?, integers: integers? })
    }
}

impl Numbers {
    /// The numbers of these flat tensors, which are copied to the device.
    ///
    /// # Errors
    /// libtorch's, if there are fewer numbers than the entries need.
    pub(crate) fn new(entries: Arc<[Entry]>, flat: &Flat, device: Device) -> Result<Self, TchError> {
        Self::over(entries, flat.copy(device)?)
    }

    /// The numbers of these flat tensors, which nobody else has.
    fn over(entries: Arc<[Entry]>, flat: Flat) -> Result<Self, TchError> {
        let mut begin = [0; 3];
        let mut views = Vec::with_capacity(entries.len());
        for entry in entries.iter() {
            let length = entry.elements().ok_or_else(uncounted)?;
            let (tensor, at) = match entry.part {
                Part::Learned => (&flat.learned, 0),
                Part::Fixed => (&flat.fixed, 1),
                Part::Integers => (&flat.integers, 2),
            };
            let view = tensor.f_narrow(0, begin[at], length)?.f_view(&*entry.size())?.f_detach()?;
            views.push(view.f_set_requires_grad(entry.part == Part::Learned)?);
            begin[at] += length;
        }
        Ok(Self { entries, flat, views })
    }

    /// The numbers of these tensors, one for each entry, which are copied to the device.
    ///
    /// # Errors
    /// libtorch's; tensors that do not fit the entries.
    pub(crate) fn of(entries: Vec<Entry>, tensors: &[Tensor], device: Device) -> Result<Self, TchError> {
        if entries.len() != tensors.len() {
            return Err(TchError::Shape(format!(
                "found {} tensors, expected {}",
                tensors.len(),
                entries.len()
            )));
        }
        let join = |part, kind| {
            let mut parts = vec![Tensor::f_zeros([0], (kind, device))?];
            for (entry, tensor) in entries.iter().zip(tensors).filter(|(entry, _)| entry.part == part) {
                let found = tensor.size();
                if found != entry.size() {
                    let name = entry.names.first().map_or("a tensor", String::as_str);
                    let expected = &entry.shape;
                    return Err(TchError::Shape(format!("{name}: found {found:?}, expected {expected:?}")));
                }
                parts.push(tensor.f_detach()?.f_to_device(device)?.f_to_kind(kind)?.f_flatten(0, -1)?);
            }
            Tensor::f_cat(&parts, 0)
        };
        let flat = Flat {
            learned: join(Part::Learned, Kind::Float)?,
            fixed: join(Part::Fixed, Kind::Float)?,
            integers: join(Part::Integers, Kind::Int64)?,
        };
        Self::over(entries.into(), flat)
    }

    /// Numbers of the same entries: these flat tensors, which are copied to the device.
    ///
    /// # Errors
    /// libtorch's.
    pub(crate) fn with(&self, flat: &Flat, device: Device) -> Result<Self, TchError> {
        Self::new(Arc::clone(&self.entries), flat, device)
    }

    /// A copy on this device.
    ///
    /// # Errors
    /// libtorch's.
    pub(crate) fn copy(&self, device: Device) -> Result<Self, TchError> {
        self.with(&self.flat, device)
    }

    /// A copy on the same device in which the parameters of these names are not learned. A pattern is a name
    /// in which `*` stands for any text.
    ///
    /// # Errors
    /// A pattern that matches no parameter, or all of them together; libtorch's.
    pub(crate) fn hold(&self, patterns: &[String]) -> Result<Self, HoldError> {
        let mut entries = self.entries.to_vec();
        let mut learned: Vec<&mut Entry> =
            entries.iter_mut().filter(|entry| entry.part == Part::Learned).collect();
        for pattern in patterns {
            let mut is_used = false;
            for entry in &mut learned {
                if entry.names.iter().any(|name| matches(pattern, name)) {
                    entry.part = Part::Fixed;
                    is_used = true;
                }
            }
            if !is_used {
                let names: Vec<&str> =
                    learned.iter().flat_map(|entry| &entry.names).map(String::as_str).collect();
                let more = if names.len() > LISTED { ", …" } else { "" };
                let names = names[..names.len().min(LISTED)].join(", ") + more;
                return Err(HoldError::Unmatched { pattern: pattern.clone(), names });
            }
        }
        if learned.iter().all(|entry| entry.part == Part::Fixed) {
            return Err(HoldError::Everything);
        }
        Self::of(entries, &self.views, self.device()).map_err(HoldError::Torch)
    }

    pub(crate) fn device(&self) -> Device {
        self.flat.learned.device()
    }

    pub(crate) fn flat(&self) -> &Flat {
        &self.flat
    }

    /// The tensors as views, by entry; those that are learned have gradients.
    pub(crate) fn views(&self) -> &[Tensor] {
        &self.views
    }

    /// The views that are learned. Their numbers are those of [`Flat::learned`], in this order.
    pub(crate) fn learned(&self) -> impl Iterator<Item = &Tensor> {
        self.entries
            .iter()
            .zip(&self.views)
            .filter(|(entry, _)| entry.part == Part::Learned)
            .map(|(_, view)| view)
    }

    /// The tensors by their first names.
    pub(crate) fn named(&self) -> Vec<(String, Tensor)> {
        let name = |entry: &Entry| entry.names.first().cloned().unwrap_or_default();
        self.entries.iter().map(name).zip(self.views.iter().map(Tensor::shallow_clone)).collect()
    }
}

/// The tensors of a model by entry, before a copy of the model has them as its [`Numbers`].
#[derive(Debug)]
pub(crate) struct Gathered {
    entries: Vec<Entry>,
    /// By entry.
    tensors: Vec<Tensor>,
    /// The entry of each tensor that was given.
    pub(crate) places: Vec<usize>,
}

impl Gathered {
    /// These tensors; those that share their memory are one entry of several names.
    pub(crate) fn new(tensors: impl IntoIterator<Item = (String, Part, Tensor)>) -> Self {
        let mut all = Self { entries: Vec::new(), tensors: Vec::new(), places: Vec::new() };
        for (name, part, tensor) in tensors {
            let size = tensor.size();
            let is_same = |other: &Tensor| other.data_ptr() == tensor.data_ptr() && other.size() == size;
            // Empty tensors have no memory to share.
            let tied = all.tensors.iter().position(is_same).filter(|_| tensor.numel() > 0);
            all.places.push(tied.unwrap_or(all.entries.len()));
            if let Some(entry) = tied.and_then(|at| all.entries.get_mut(at)) {
                entry.names.push(name);
            } else {
                let shape: Vec<usize> = size.iter().map(|&axis| axis as usize).collect();
                all.entries.push(Entry::new(name, &shape, part));
                all.tensors.push(tensor);
            }
        }
        all
    }

    /// The tensors of numbers.
    pub(crate) fn of(numbers: &Numbers) -> Self {
        let tensors: Vec<Tensor> = numbers.views().iter().map(Tensor::shallow_clone).collect();
        Self { entries: numbers.entries.to_vec(), places: (0..tensors.len()).collect(), tensors }
    }

    /// The tensors as numbers, which are copied to the device, and the entry of each tensor that was given.
    ///
    /// # Errors
    /// libtorch's.
    pub(crate) fn numbers(self, device: Device) -> Result<(Numbers, Vec<usize>), TchError> {
        Ok((Numbers::of(self.entries, &self.tensors, device)?, self.places))
    }

    /// The tensors of a part, in the order of the flat tensor.
    pub(crate) fn of_part(&self, part: Part) -> impl Iterator<Item = &Tensor> {
        let all = self.entries.iter().zip(&self.tensors);
        all.filter(move |(entry, _)| entry.part == part).map(|(_, tensor)| tensor)
    }

    /// Whether there is batch normalisation with running statistics, as far as names tell.
    pub(crate) fn has_norm(&self) -> bool {
        let mut names = self.entries.iter().flat_map(|entry| &entry.names);
        names.any(|name| name.ends_with("running_mean"))
    }

    /// Whether what is learned are weights and biases of linear layers alone, as far as shapes and names tell:
    /// convolutions have weights of more axes, and normalisations weights of one.
    pub(crate) fn is_linear(&self) -> bool {
        let is_bias = |entry: &Entry| entry.names.iter().any(|name| name.ends_with("bias"));
        let is_linear = |entry: &Entry| entry.shape.len() == 2 || is_bias(entry);
        self.entries.iter().filter(|entry| entry.part == Part::Learned).all(is_linear)
    }
}

fn uncounted() -> TchError {
    TchError::Shape("more numbers than can be counted".into())
}

/// Whether a name is of a pattern, in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(head) else { return false };
    (0..=name.len()).any(|at| name.is_char_boundary(at) && matches(rest, &name[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        vec![
            Entry::new("a.weight", &[2, 2], Part::Learned),
            Entry::new("a.running_mean", &[2], Part::Fixed),
            Entry {
                names: vec!["b.weight".into(), "tied.weight".into()],
                shape: vec![3],
                part: Part::Learned,
            },
            Entry::new("a.num_batches_tracked", &[], Part::Integers),
        ]
    }

    fn tensors() -> Vec<Tensor> {
        vec![
            Tensor::from_slice(&[1_f32, 2., 3., 4.]).view([2, 2]),
            Tensor::from_slice(&[5_f32, 6.]),
            Tensor::from_slice(&[7_f32, 8., 9.]),
            Tensor::from(1_i64 << 40),
        ]
    }

    fn numbers() -> Numbers {
        Numbers::of(entries(), &tensors(), Device::Cpu).unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<f64> {
        Vec::try_from(tensor.to_kind(Kind::Double)).unwrap()
    }

    #[test]
    fn each_part_is_one_tensor_and_each_entry_a_view_of_it() {
        let numbers = numbers();
        assert_eq!(values(&numbers.flat().learned), [1., 2., 3., 4., 7., 8., 9.]);
        assert_eq!(values(&numbers.flat().fixed), [5., 6.]);
        assert_eq!(i64::try_from(&numbers.views()[3]).unwrap(), 1 << 40);
        for (view, given) in numbers.views().iter().zip(tensors()) {
            assert_eq!(*view, given);
        }
        let with_gradient: Vec<bool> = numbers.views().iter().map(Tensor::requires_grad).collect();
        assert_eq!(with_gradient, [true, false, true, false]);
        assert_eq!(numbers.learned().count(), 2);
        let _ = numbers.flat().learned.shallow_clone().fill_(0.5);
        assert_eq!(numbers.views()[2].double_value(&[1]), 0.5);
        // A copy has numbers of its own.
        let copy = numbers.copy(Device::Cpu).unwrap();
        let _ = numbers.flat().learned.shallow_clone().fill_(0.0);
        assert_eq!(copy.views()[2].double_value(&[1]), 0.5);
    }

    #[test]
    fn tensors_that_do_not_fit_are_refused() {
        let mut short = tensors();
        short[1] = Tensor::from_slice(&[5_f32]);
        let error = Numbers::of(entries(), &short, Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("a.running_mean: found [1], expected [2]"), "{error}");
        let error = Numbers::of(entries(), &tensors()[..3], Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("found 3 tensors, expected 4"), "{error}");
        let huge = vec![Entry::new("huge", &[usize::MAX, 3], Part::Learned)];
        assert!(Numbers::new(huge.into(), numbers().flat(), Device::Cpu).is_err());
    }

    #[test]
    fn held_parameters_stay_in_place_without_gradients() {
        let held = |patterns: &[&str]| {
            numbers().hold(&patterns.iter().map(|&pattern| pattern.into()).collect::<Vec<_>>())
        };
        let one = held(&["a.*"]).unwrap();
        assert_eq!(values(&one.flat().learned), [7., 8., 9.]);
        assert_eq!(values(&one.flat().fixed), [1., 2., 3., 4., 5., 6.]);
        for (view, given) in one.views().iter().zip(tensors()) {
            assert_eq!(*view, given);
        }
        // A tied tensor is held by any of its names.
        assert_eq!(values(&held(&["tied.weight"]).unwrap().flat().learned), [1., 2., 3., 4.]);
        assert!(matches!(held(&["a.weight", "*.weight"]), Err(HoldError::Everything)));
        let error = held(&["a.*", "c.*"]).unwrap_err().to_string();
        assert_eq!(error, "found no parameter 'c.*', expected one of a.weight, b.weight, tied.weight");
        // Buffers are not learned anyway.
        assert!(held(&["a.running_mean"]).is_err());
    }

    #[test]
    fn networks_of_linear_layers_are_told_from_others() {
        let is_linear = |name: &str, shape: &[usize]| {
            let entries = vec![
                Entry::new("fc.weight", &[1, 2], Part::Learned),
                Entry::new("fc.bias", &[1], Part::Learned),
                Entry::new(name, shape, Part::Learned),
                Entry::new("running_mean", &[3], Part::Fixed),
            ];
            let tensors: Vec<Tensor> =
                entries.iter().map(|entry| Tensor::zeros(entry.size(), (Kind::Float, Device::Cpu))).collect();
            Gathered::of(&Numbers::of(entries, &tensors, Device::Cpu).unwrap()).is_linear()
        };
        assert!(is_linear("out.weight", &[3, 1]) && is_linear("attention.in_proj_bias", &[3]));
        assert!(!is_linear("conv.weight", &[3, 1, 2, 2]) && !is_linear("norm.weight", &[3]));
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.bc", false),
            ("*", "", true),
            ("a.*", "a.b.c", true),
            ("a.*", "ab", false),
            ("*.bias", "a.bias", true),
            ("*.bias", "a.bias.x", false),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("é*", "éa", true),
            ("**a", "éa", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
