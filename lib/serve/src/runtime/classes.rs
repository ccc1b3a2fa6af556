//! Classes of queries: all queries of a class have equal parameters.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parm_oip::Parameters;

/// Parameters of a request that are passed on to instances.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PassedParameters {
    /// The parameters of the request.
    pub request: Parameters,
    /// The parameters of each input, in the order of the specification.
    pub inputs: Vec<Parameters>,
}

impl PassedParameters {
    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.inputs.iter().all(Parameters::is_empty)
    }

    /// The parameters of an input.
    pub(super) fn of_input(&self, index: usize) -> Parameters {
        self.inputs.get(index).cloned().unwrap_or_default()
    }
}

/// A class of queries.
#[derive(Debug)]
pub(super) struct Class {
    /// Its number, which is never reused.
    pub(super) number: u64,
    pub(super) parameters: PassedParameters,
}

/// The classes of the queries that a runtime holds. Queries without parameters are class 0, which is not
/// listed.
#[derive(Debug, Default)]
pub(super) struct Classes {
    last: u64,
    known: HashMap<String, Weak<Class>>,
    /// The number of classes at which unused ones are removed next.
    sweep_at: usize,
}

impl Classes {
    /// The class of queries with these parameters; none if there are no parameters.
    pub(super) fn of(&mut self, parameters: PassedParameters) -> Option<Arc<Class>> {
        if parameters.is_empty() {
            return None;
        }
        // Different parameters have different texts: strings are quoted, and numbers are exact.
        let text = format!("{parameters:?}");
        if let Some(class) = self.known.get(&text).and_then(Weak::upgrade) {
            return Some(class);
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, class| class.strong_count() > 0);
            self.sweep_at = 64.max(2 * self.known.len());
        }
        self.last += 1;
        let class = Arc::new(Class { number: self.last, parameters });
        self.known.insert(text, Arc::downgrade(&class));
        Some(class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parm_oip::Parameter;

    fn with(value: Parameter) -> PassedParameters {
        PassedParameters { request: Parameters::from([("p".to_owned(), value)]), inputs: Vec::new() }
    }

    #[test]
    fn equal_parameters_make_one_class_and_different_ones_several() {
        let mut classes = Classes::default();
        assert!(classes.of(PassedParameters::default()).is_none());
        assert!(
            classes
                .of(PassedParameters { inputs: vec![Parameters::new(); 3], ..PassedParameters::default() })
                .is_none()
        );
        let parameters = [
            Parameter::Int(1),
            Parameter::Double(1.0),
            Parameter::Bool(true),
            Parameter::String("1".to_owned()),
            Parameter::String("true".to_owned()),
            Parameter::String("\"), Int(1".to_owned()),
            Parameter::Double(0.1 + 0.2),
            Parameter::Double(0.3),
        ];
        let held: Vec<_> = parameters.iter().map(|value| classes.of(with(value.clone())).unwrap()).collect();
        let mut numbers: Vec<u64> = held.iter().map(|class| class.number).collect();
        for (class, value) in held.iter().zip(parameters) {
            assert_eq!(classes.of(with(value)).unwrap().number, class.number);
        }
        let of_input =
            PassedParameters { inputs: vec![with(Parameter::Int(1)).request], ..PassedParameters::default() };
        numbers.push(classes.of(of_input).unwrap().number);
        let all = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), all);
    }

    #[test]
    fn unused_classes_are_removed() {
        let mut classes = Classes::default();
        for value in 0..10_000 {
            classes.of(with(Parameter::Int(value)));
        }
        assert!(classes.known.len() <= 128, "{}", classes.known.len());
    }
}
