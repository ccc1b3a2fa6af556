//! Operations on numbers, which graphs of dynamic shapes do between operators. They are Python's.

use crate::operator::Value;

/// An operation on one to three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Equal,
    NotEqual,
    LessEqual,
    GreaterEqual,
    Less,
    Greater,
    Negate,
    Same,
    Truncate,
    Not,
    Multiply,
    Add,
    Subtract,
    FloorDivide,
    Modulo,
    Power,
    ToInt,
    ToFloat,
    IfElse,
    Maximum,
    Minimum,
    SquareRoot,
    Divide,
    And,
    Or,
}

impl Operation {
    /// The operation of this name, as a graph has it.
    pub(super) fn find(target: &str) -> Option<Self> {
        Some(match target {
            "_operator.eq" => Self::Equal,
            "_operator.ne" => Self::NotEqual,
            "_operator.le" => Self::LessEqual,
            "_operator.ge" => Self::GreaterEqual,
            "_operator.lt" => Self::Less,
            "_operator.gt" => Self::Greater,
            "_operator.neg" => Self::Negate,
            "_operator.pos" => Self::Same,
            "math.trunc" => Self::Truncate,
            "torch.sym_not" => Self::Not,
            "_operator.mul" => Self::Multiply,
            "_operator.add" => Self::Add,
            "_operator.sub" => Self::Subtract,
            "_operator.floordiv" => Self::FloorDivide,
            "_operator.mod" => Self::Modulo,
            "_operator.pow" => Self::Power,
            "torch.sym_int" => Self::ToInt,
            "torch.sym_float" => Self::ToFloat,
            "torch.sym_ite" => Self::IfElse,
            "torch.sym_max" => Self::Maximum,
            "torch.sym_min" => Self::Minimum,
            "torch.sym_sqrt" => Self::SquareRoot,
            "_operator.truediv" => Self::Divide,
            "_operator.and_" => Self::And,
            "_operator.or_" => Self::Or,
            _ => return None,
        })
    }

    /// The result; none if it is not a number that fits, or the operands are others than the operation has.
    pub(super) fn of(self, operands: &[Value]) -> Option<Value> {
        use Value::{Bool, Float, Int};
        let truth = |value: &Value| match value {
            Bool(is) => Some(*is),
            Int(number) => Some(*number != 0),
            _ => None,
        };
        Some(match (self, operands) {
            (Self::Same | Self::Truncate | Self::ToInt, [Int(a)]) => Int(*a),
            (Self::Negate, [Int(a)]) => Int(a.checked_neg()?),
            (Self::Same | Self::ToFloat, [Float(a)]) => Float(*a),
            (Self::Negate, [Float(a)]) => Float(-a),
            (Self::ToFloat, [Int(a)]) => Float(*a as f64),
            (Self::Truncate | Self::ToInt, [Float(a)]) => Int(whole(a.trunc())?),
            (Self::SquareRoot, [a]) => Float(float(a)?.sqrt()),
            (Self::Not, [a]) => Bool(!truth(a)?),
            (Self::And, [Bool(a), Bool(b)]) => Bool(*a && *b),
            (Self::Or, [Bool(a), Bool(b)]) => Bool(*a || *b),
            (Self::And, [Int(a), Int(b)]) => Int(a & b),
            (Self::Or, [Int(a), Int(b)]) => Int(a | b),
            (Self::IfElse, [is, a, b]) => copy(if truth(is)? { a } else { b })?,
            (Self::Equal, [Bool(a), Bool(b)]) => Bool(a == b),
            (Self::NotEqual, [Bool(a), Bool(b)]) => Bool(a != b),
            (_, [Int(a), Int(b)]) => self.compare(a, b).or_else(|| self.of_integers(*a, *b))?,
            (_, [a, b]) => {
                let (a, b) = (float(a)?, float(b)?);
                self.compare(&a, &b).or_else(|| self.of_floats(a, b))?
            }
            _ => return None,
        })
    }

    /// The result of a comparison; none: it is another operation.
    fn compare<T: PartialOrd>(self, a: &T, b: &T) -> Option<Value> {
        Some(Value::Bool(match self {
            Self::Equal => a == b,
            Self::NotEqual => a != b,
            Self::LessEqual => a <= b,
            Self::GreaterEqual => a >= b,
            Self::Less => a < b,
            Self::Greater => a > b,
            _ => return None,
        }))
    }

    fn of_integers(self, a: i64, b: i64) -> Option<Value> {
        use Value::{Float, Int};
        Some(match self {
            Self::Multiply => Int(a.checked_mul(b)?),
            Self::Add => Int(a.checked_add(b)?),
            Self::Subtract => Int(a.checked_sub(b)?),
            Self::FloorDivide => {
                let quotient = a.checked_div(b)?;
                let is_exact = a.checked_rem(b)? == 0;
                Int(if !is_exact && (a < 0) != (b < 0) { quotient - 1 } else { quotient })
            }
            Self::Modulo => {
                let rest = a.checked_rem(b)?;
                Int(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
            }
            Self::Power if b < 0 => Float((a as f64).powf(b as f64)),
            Self::Power => Int(a.checked_pow(u32::try_from(b).ok()?)?),
            Self::Maximum => Int(a.max(b)),
            Self::Minimum => Int(a.min(b)),
            Self::Divide if b != 0 => Float(a as f64 / b as f64),
            _ => return None,
        })
    }

    fn of_floats(self, a: f64, b: f64) -> Option<Value> {
        use Value::Float;
        Some(match self {
            Self::Multiply => Float(a * b),
            Self::Add => Float(a + b),
            Self::Subtract => Float(a - b),
            Self::FloorDivide if b != 0.0 => Float((a / b).floor()),
            Self::Modulo if b != 0.0 => Float(a - b * (a / b).floor()),
            Self::Power => Float(a.powf(b)),
            Self::Maximum => Float(a.max(b)),
            Self::Minimum => Float(a.min(b)),
            Self::Divide if b != 0.0 => Float(a / b),
            _ => return None,
        })
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

/// A whole number that fits.
fn whole(number: f64) -> Option<i64> {
    // 2^63 is the first number that does not fit, and f64 has it.
    let limit = 9_223_372_036_854_775_808.0;
    (-limit..limit).contains(&number).then_some(number as i64)
}

/// A copy of a number.
pub(super) fn copy(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Int(number) => Value::Int(*number),
        Value::Float(number) => Value::Float(*number),
        Value::Bool(is) => Value::Bool(*is),
        Value::None => Value::None,
        Value::Tensor(_) | Value::Tensors(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(target: &str, operands: &[Value]) -> String {
        let result = Operation::find(target).unwrap().of(operands);
        result.map_or("none".into(), |value| format!("{value:?}"))
    }

    #[test]
    fn results_are_those_of_python() {
        use Value::{Bool, Float, Int};
        let of = |target: &str, a: i64, b: i64| of(target, &[Int(a), Int(b)]);
        assert_eq!(of("_operator.floordiv", -7, 2), "Int(-4)");
        assert_eq!(of("_operator.floordiv", -8, 2), "Int(-4)");
        assert_eq!(of("_operator.floordiv", 7, -2), "Int(-4)");
        assert_eq!(of("_operator.mod", -7, 3), "Int(2)");
        assert_eq!(of("_operator.mod", 7, -3), "Int(-2)");
        assert_eq!(of("_operator.pow", 2, 10), "Int(1024)");
        assert_eq!(of("_operator.truediv", 1, 2), "Float(0.5)");
        assert_eq!(of("torch.sym_max", 1, 2), "Int(2)");
        assert_eq!(of("_operator.ge", 2, 2), "Bool(true)");
        let of = |target: &str, operands: &[Value]| super::tests::of(target, operands);
        assert_eq!(of("math.trunc", &[Float(-2.5)]), "Int(-2)");
        assert_eq!(of("torch.sym_ite", &[Bool(false), Int(1), Int(2)]), "Int(2)");
        assert_eq!(of("_operator.mul", &[Int(2), Float(0.5)]), "Float(1.0)");
        assert_eq!(of("_operator.lt", &[Int(2), Float(2.5)]), "Bool(true)");
        assert_eq!(of("_operator.ne", &[Int(2), Int(2)]), "Bool(false)");
        assert_eq!(of("torch.sym_not", &[Bool(false)]), "Bool(true)");
    }

    #[test]
    fn results_that_are_no_numbers_are_none() {
        use Value::{Float, Int};
        for (target, a, b) in [
            ("_operator.floordiv", 1, 0),
            ("_operator.mod", 1, 0),
            ("_operator.truediv", 1, 0),
            ("_operator.mul", i64::MAX, 2),
            ("_operator.add", i64::MAX, 1),
            ("_operator.floordiv", i64::MIN, -1),
            ("_operator.pow", 10, 40),
        ] {
            assert_eq!(of(target, &[Int(a), Int(b)]), "none", "{target}");
        }
        assert_eq!(of("torch.sym_int", &[Float(1e300)]), "none");
        assert_eq!(of("torch.sym_int", &[Float(f64::NAN)]), "none");
        assert_eq!(of("_operator.add", &[Int(1)]), "none");
        assert!(Operation::find("_operator.matmul").is_none());
    }
}
