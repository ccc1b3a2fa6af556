//! Computes the values of a graph.

use tch::{TchError, Tensor};

use super::graph::{Argument as Given, ByMode, Call, Destination, Function, Gradients, Graph, Role, Term};
use super::symbols::copy;
use crate::operator::{Argument, Value};
use crate::trainable::Mode;

impl Graph {
    /// The values of the outputs for these inputs, one for each input of the graph; none for outputs that
    /// are not tensors. In training, buffers that the graph changes get their new values.
    ///
    /// # Errors
    /// libtorch's, with the operator's name.
    pub(super) fn run(
        &self,
        inputs: &[&Tensor],
        mode: Mode,
        device: tch::Device,
    ) -> Result<Vec<Option<Tensor>>, TchError> {
        let learns = mode != Mode::Evaluate;
        // A model that only answers keeps its numbers, whatever the graph writes.
        let copies: Vec<Option<Tensor>> = (self.inputs.iter().zip(inputs))
            .map(|(input, tensor)| {
                let is_copied = input.is_written && (!learns || input.role != Role::Buffer);
                is_copied.then(|| tensor.f_detach_copy()).transpose()
            })
            .collect::<Result<_, _>>()?;
        let inputs: Vec<&Tensor> =
            copies.iter().zip(inputs).map(|(copy, tensor)| copy.as_ref().unwrap_or(*tensor)).collect();
        let mut values: Vec<Value> = Vec::new();
        values.resize_with(self.places - inputs.len(), || Value::None);
        let mut table = Table { inputs, values };
        let mut results = Vec::new();
        for call in &self.calls {
            call.run(&table, mode, device, &mut results).map_err(|error| named(&call.target, &error))?;
            table.put(call, &mut results)?;
            for &place in &call.last {
                table.clear(place);
            }
        }
        if learns {
            tch::no_grad(|| {
                for &(value, buffer) in &self.mutations {
                    let new = table.tensor(value)?;
                    table.inputs[buffer].shallow_clone().f_copy_(&new.f_detach()?)?;
                }
                Ok::<_, TchError>(())
            })?;
        }
        let output = |place: Option<usize>| {
            place.map(|place| table.tensor(place).map(Tensor::shallow_clone)).transpose()
        };
        self.outputs.iter().map(|found| output(found.place)).collect()
    }
}

/// The values so far: those of the inputs, then the others.
pub(super) struct Table<'a> {
    inputs: Vec<&'a Tensor>,
    values: Vec<Value>,
}

impl Table<'_> {
    /// A table of these tensors, by place.
    pub(super) fn new(tensors: Vec<(usize, &Tensor)>) -> Self {
        let mut values = Vec::new();
        for (place, tensor) in tensors {
            if values.len() <= place {
                values.resize_with(place + 1, || Value::None);
            }
            values[place] = Value::Tensor(tensor.shallow_clone());
        }
        Self { inputs: Vec::new(), values }
    }

    fn tensor(&self, place: usize) -> Result<&Tensor, TchError> {
        match self.inputs.get(place) {
            Some(tensor) => Ok(tensor),
            None => match self.values.get(place - self.inputs.len()) {
                Some(Value::Tensor(tensor)) => Ok(tensor),
                other => Err(TchError::Kind(format!("found {other:?}, expected a tensor"))),
            },
        }
    }

    /// The argument that a value is.
    fn argument(&self, place: usize) -> Result<Argument<'_>, TchError> {
        if place < self.inputs.len() {
            return self.tensor(place).map(Argument::Tensor);
        }
        Ok(match self.values.get(place - self.inputs.len()) {
            Some(Value::Int(number)) => Argument::Int(*number),
            Some(Value::Float(number)) => Argument::Float(*number),
            Some(Value::Bool(is)) => Argument::Bool(*is),
            _ => Argument::Tensor(self.tensor(place)?),
        })
    }

    fn integer(&self, place: usize) -> Result<i64, TchError> {
        match place.checked_sub(self.inputs.len()).and_then(|at| self.values.get(at)) {
            Some(Value::Int(number)) => Ok(*number),
            other => Err(TchError::Kind(format!("found {other:?}, expected an integer"))),
        }
    }

    /// Puts the results of a call into their places.
    fn put(&mut self, call: &Call, results: &mut Vec<Value>) -> Result<(), TchError> {
        // An operator may have more results than the graph uses.
        if results.len() < call.results.len() {
            let (found, expected) = (results.len(), call.results.len());
            return Err(TchError::Kind(format!(
                "{}: found {found} results, expected {expected}",
                call.target
            )));
        }
        for (goes, value) in call.results.iter().zip(results.drain(..)) {
            match (goes, value) {
                (Destination::Nowhere, _) => {}
                (Destination::One(place), value) => self.set(*place, value),
                (Destination::Many(places), Value::Tensors(tensors)) if tensors.len() == places.len() => {
                    for (&place, tensor) in places.iter().zip(tensors) {
                        self.set(place, Value::Tensor(tensor));
                    }
                }
                (Destination::Many(places), _) => {
                    let expected = places.len();
                    return Err(TchError::Kind(format!(
                        "{}: expected a list of {expected} tensors",
                        call.target
                    )));
                }
            }
        }
        Ok(())
    }

    fn set(&mut self, place: usize, value: Value) {
        let at = place - self.inputs.len();
        self.values[at] = value;
    }

    fn clear(&mut self, place: usize) {
        self.set(place, Value::None);
    }
}

impl Call {
    /// Calls the operator. `results` gets its results.
    pub(super) fn run(
        &self,
        table: &Table<'_>,
        mode: Mode,
        device: tch::Device,
        results: &mut Vec<Value>,
    ) -> Result<(), TchError> {
        let operator = match &self.function {
            Function::Operator(operator) => operator,
            Function::Symbol(operation) => {
                let operands = self.arguments.iter().map(|given| number(given, table));
                let operands: Vec<Value> = operands.collect::<Result<_, _>>()?;
                let failed = || TchError::Kind(format!("no result for {operands:?}"));
                results.push(operation.of(&operands).ok_or_else(failed)?);
                return Ok(());
            }
        };
        // Lists are made first, so that the arguments can refer to them.
        let mut sizes: Vec<Vec<i64>> = Vec::new();
        let mut lists: Vec<Vec<Option<&Tensor>>> = Vec::new();
        for given in &self.arguments {
            match given {
                Given::Sizes(terms) => {
                    let terms = terms.iter().map(|term| match term {
                        Term::Known(number) => Ok(*number),
                        Term::Place(place) => table.integer(*place),
                    });
                    sizes.push(terms.collect::<Result<_, _>>()?);
                }
                Given::Places(places) => {
                    let tensors =
                        places.iter().map(|place| place.map(|place| table.tensor(place)).transpose());
                    lists.push(tensors.collect::<Result<_, _>>()?);
                }
                _ => {}
            }
        }
        let (mut sizes, mut lists) = (sizes.iter(), lists.iter());
        let mut arguments = Vec::with_capacity(self.arguments.len());
        for (at, given) in self.arguments.iter().enumerate() {
            let argument = match given {
                Given::Default => Argument::Default,
                Given::None => Argument::None,
                Given::Place(place) => table.argument(*place)?,
                Given::Places(_) => Argument::Tensors(lists.next().map_or(&[], Vec::as_slice)),
                Given::Int(number) => Argument::Int(*number),
                Given::Ints(numbers) => Argument::Ints(numbers),
                Given::Sizes(_) => Argument::Ints(sizes.next().map_or(&[], Vec::as_slice)),
                Given::Float(number) => Argument::Float(*number),
                Given::Floats(numbers) => Argument::Floats(numbers),
                Given::Bool(is) => Argument::Bool(*is),
                Given::Bools(bools) => Argument::Bools(bools),
                Given::String(text) => Argument::String(text),
                Given::Device => Argument::Device(device),
            };
            arguments.push(match self.by_mode {
                Some((place, by_mode)) if place == at => by_mode.choose(argument, mode),
                _ => argument,
            });
        }
        match self.gradients {
            Gradients::Kept => operator.call(&arguments, results)?,
            Gradients::Stopped => tch::no_grad(|| operator.call(&arguments, results))?,
        }
        if self.is_uninitialised {
            for value in results.iter_mut() {
                if let Value::Tensor(tensor) = value {
                    let _ = tensor.f_zero_()?;
                }
            }
        }
        Ok(())
    }
}

impl ByMode {
    fn choose(self, given: Argument<'_>, mode: Mode) -> Argument<'_> {
        let learns = mode != Mode::Evaluate;
        match self {
            Self::Dropout => Argument::Bool(learns),
            Self::Normalise => Argument::Bool(mode.trains_norm()),
            Self::Probability if learns => given,
            Self::Probability => Argument::Float(0.0),
        }
    }
}

/// A number that is given or at a place.
fn number(given: &Given, table: &Table<'_>) -> Result<Value, TchError> {
    let found = match given {
        Given::Place(place) => {
            place.checked_sub(table.inputs.len()).and_then(|at| copy(table.values.get(at)?))
        }
        Given::Int(number) => Some(Value::Int(*number)),
        Given::Float(number) => Some(Value::Float(*number)),
        Given::Bool(is) => Some(Value::Bool(*is)),
        _ => None,
    };
    found.ok_or_else(|| TchError::Kind(format!("found {given:?}, expected a number")))
}

/// An error with the operator that it is of. A message of short memory stays recognisable.
fn named(target: &str, error: &TchError) -> TchError {
    let name = target.strip_prefix("torch.ops.").unwrap_or(target);
    TchError::Torch(format!("{name}: {}", crate::one_line(&error.to_string())))
}
