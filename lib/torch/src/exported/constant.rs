//! Inputs of a program that are the same for all queries.

use parm::npy::Array;
use tch::{Device, Kind, TchError, Tensor};

use super::ProgramError;
use super::graph::{Axis, Input, Layout};
use super::{layout, type_name, weights};
use crate::model::tensor_of;

/// The value of an input other than the query.
#[derive(Debug)]
pub(super) struct Constant {
    /// The index of the input.
    place: usize,
    tensor: Tensor,
    /// Whether it is one row, of which the graph takes as many copies as there are queries.
    is_row: bool,
}

impl Constant {
    /// The value for an input. If neither the number of queries nor that of the input's rows is fixed, an
    /// array of one row, with or without axis 0, stands for as many as there are queries.
    ///
    /// # Errors
    /// [`ProgramError::Constant`]: an array of another shape or type; libtorch's.
    pub(super) fn new(
        place: usize,
        input: &Input,
        array: &Array,
        queries: &Axis,
        device: Device,
    ) -> Result<Self, ProgramError> {
        let Layout { dtype, sizes } = layout(input)?;
        let found = tensor_of(array)?;
        let (size, kind) = (found.size(), weights::kind(*dtype));
        let misfit = |what: &str| {
            let axes: Vec<String> =
                sizes.iter().map(|axis| axis.length().map_or("any".into(), |n| n.to_string())).collect();
            let kind = kind.map_or("a type that is not supported".into(), type_name);
            ProgramError::Constant {
                name: input.name.clone(),
                found: format!("{}{size:?}", type_name(found.kind())),
                expected: format!("{kind}[{}]{what}", axes.join(", ")),
            }
        };
        let Some(kind) = kind.filter(|&kind| is_near(kind, found.kind())) else { return Err(misfit("")) };
        let fits = |size: &[i64], axes: &[Axis]| {
            let is = |(size, axis): (&i64, &Axis)| !matches!(axis, Axis::Fixed(length) if length != size);
            size.len() == axes.len() && size.iter().zip(axes).all(is)
        };
        let tensor = found.f_to_kind(kind)?.f_to_device(device)?;
        // A stream has no single numbers: one of shape [1] stands for it.
        if sizes.is_empty() && size == [1] {
            return Ok(Self { place, tensor: tensor.f_reshape([0_i64; 0])?, is_row: false });
        }
        if let ([Axis::Symbol(first), rest @ ..], Axis::Symbol(rows)) = (&sizes[..], queries) {
            let row = if fits(&size, rest) { Some(tensor.f_unsqueeze(0)?) } else { None };
            let is_one = size.first() == Some(&1) && fits(&size, sizes);
            if let Some(tensor) = row.or_else(|| is_one.then(|| tensor.shallow_clone())) {
                return Ok(Self { place, tensor, is_row: true });
            }
            if first == rows {
                return Err(misfit(", one row for all queries"));
            }
        }
        if fits(&size, sizes) { Ok(Self { place, tensor, is_row: false }) } else { Err(misfit("")) }
    }

    /// The index of the input.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// The value for this number of queries.
    pub(super) fn of(&self, rows: i64) -> Result<Tensor, TchError> {
        if !self.is_row {
            return Ok(self.tensor.shallow_clone());
        }
        let mut size = self.tensor.size();
        size[0] = rows;
        self.tensor.f_expand(&*size, false)
    }

    /// The same value.
    pub(super) fn share(&self) -> Self {
        Self { tensor: self.tensor.shallow_clone(), ..*self }
    }
}

/// Whether numbers of one type may be given for another: floats for floats, integers for integers.
fn is_near(a: Kind, b: Kind) -> bool {
    let is_float = |kind| matches!(kind, Kind::Half | Kind::Float | Kind::Double | Kind::BFloat16);
    let is_integer = |kind| matches!(kind, Kind::Uint8 | Kind::Int8 | Kind::Int16 | Kind::Int | Kind::Int64);
    a == b || is_float(a) && is_float(b) || is_integer(a) && is_integer(b)
}
