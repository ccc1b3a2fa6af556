//! Operators of libtorch by name.

use std::ffi::{CStr, CString, c_char, c_void};
use std::marker::PhantomData;
use std::ptr;

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

use crate::thrown::check;

/// An operator of libtorch.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    handle: &'static Handle,
    arguments: Vec<Declared>,
}

/// An argument in an operator's schema.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) has_default: bool,
    /// True if the operator changes this tensor.
    pub(crate) written: bool,
    /// True if results may share the memory of this tensor.
    pub(crate) shared: bool,
}

/// An argument of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Argument<'a> {
    /// The default of the schema.
    Default,
    None,
    Tensor(&'a Tensor),
    /// Tensors of a list, some of which may be absent.
    Tensors(&'a [Option<&'a Tensor>]),
    Int(i64),
    Ints(&'a [i64]),
    Float(f64),
    Floats(&'a [f64]),
    Bool(bool),
    /// 0 and 1.
    Bools(&'a [u8]),
    String(&'a str),
    Device(tch::Device),
}

/// A result of a call.
#[derive(Debug)]
pub(crate) enum Value {
    None,
    Tensor(Tensor),
    Tensors(Vec<Tensor>),
    Int(i64),
    Float(f64),
    Bool(bool),
}

/// `Operator` of operator.cpp.
#[repr(C)]
#[derive(Debug)]
struct Handle {
    _opaque: [u8; 0],
}

// SAFETY: libtorch's operators may be called from any thread, and nothing changes the handle.
unsafe impl Sync for Handle {}

/// `Argument` of operator.cpp.
#[repr(C)]
struct Raw<'a> {
    tag: i32,
    integer: i64,
    number: f64,
    items: *const c_void,
    length: usize,
    lifetime: PhantomData<&'a ()>,
}

/// `Tag` of operator.cpp.
mod tag {
    pub(super) const DEFAULT: i32 = 0;
    pub(super) const NONE: i32 = 1;
    pub(super) const TENSOR: i32 = 2;
    pub(super) const TENSORS: i32 = 3;
    pub(super) const INT: i32 = 4;
    pub(super) const INTS: i32 = 5;
    pub(super) const FLOAT: i32 = 6;
    pub(super) const FLOATS: i32 = 7;
    pub(super) const BOOL: i32 = 8;
    pub(super) const BOOLS: i32 = 9;
    pub(super) const STRING: i32 = 10;
    pub(super) const DEVICE: i32 = 11;
}

type Emit = unsafe extern "C" fn(*mut c_void, i32, i64, f64, *mut C_tensor);

// In `operator.cpp`.
unsafe extern "C" {
    fn parm_operator(name: *const c_char, overload: *const c_char) -> *const Handle;
    fn parm_operator_argument(
        of: *const Handle,
        at: usize,
        has_default: &mut bool,
        written: &mut bool,
        shared: &mut bool,
    ) -> *const c_char;
    fn parm_operator_is_random(of: *const Handle) -> bool;
    fn parm_operator_call(
        of: *const Handle,
        arguments: *const Raw<'_>,
        count: usize,
        emit: Emit,
        context: *mut c_void,
    ) -> *mut c_char;
}

impl Operator {
    /// The operator `namespace::name` with this overload (empty: the default one); none if libtorch has none.
    pub(crate) fn find(name: &str, overload: &str) -> Option<Self> {
        let [name, overload] = [CString::new(name).ok()?, CString::new(overload).ok()?];
        // SAFETY: both are strings that end; what comes back lives as long as the process, or is null.
        let handle = unsafe { parm_operator(name.as_ptr(), overload.as_ptr()).as_ref() }?;
        let mut arguments = Vec::new();
        loop {
            let (mut has_default, mut written, mut shared) = (false, false, false);
            let at = arguments.len();
            // SAFETY: the handle is an operator's; the name lives as long as it does.
            let name =
                unsafe { parm_operator_argument(handle, at, &mut has_default, &mut written, &mut shared) };
            if name.is_null() {
                return Some(Self { handle, arguments });
            }
            // SAFETY: it is a string that ends.
            let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
            arguments.push(Declared { name, has_default, written, shared });
        }
    }

    /// The arguments of its schema.
    pub(crate) fn arguments(&self) -> &[Declared] {
        &self.arguments
    }

    /// Whether each call may give other values.
    pub(crate) fn is_random(&self) -> bool {
        // SAFETY: the handle is an operator's.
        unsafe { parm_operator_is_random(self.handle) }
    }

    /// Calls it with one argument for each of the schema. `results` gets its results after those there.
    ///
    /// # Errors
    /// libtorch's; arguments of another type or number.
    pub(crate) fn call(&self, arguments: &[Argument<'_>], results: &mut Vec<Value>) -> Result<(), TchError> {
        // The pointers of a list of tensors.
        let lists: Vec<Vec<*const C_tensor>> = arguments
            .iter()
            .map(|argument| match argument {
                Argument::Tensors(list) => {
                    list.iter().map(|tensor| tensor.map_or(ptr::null(), Tensor::as_ptr)).collect()
                }
                _ => Vec::new(),
            })
            .collect();
        // A device is its type and index as libtorch has them.
        let devices: Vec<[i64; 2]> = arguments.iter().map(device).collect();
        let raw: Vec<Raw<'_>> = arguments
            .iter()
            .zip(lists.iter().zip(&devices))
            .map(|(argument, (list, device))| raw(argument, list, device))
            .collect();
        let mut results = Results { values: results, left: 0 };
        let context: *mut c_void = ptr::from_mut(&mut results).cast();
        // SAFETY: each argument lives during the call, `emit` is given this context alone, and the error is ours.
        unsafe { check(parm_operator_call(self.handle, raw.as_ptr(), raw.len(), emit, context)) }
    }
}

fn device(argument: &Argument<'_>) -> [i64; 2] {
    match argument {
        Argument::Device(tch::Device::Cuda(index)) => [1, *index as i64],
        _ => [0, -1],
    }
}

fn raw<'a>(argument: &Argument<'a>, list: &'a [*const C_tensor], device: &'a [i64; 2]) -> Raw<'a> {
    fn items<T>(tag: i32, items: &[T]) -> Raw<'_> {
        let (items, length) = (items.as_ptr().cast(), items.len());
        Raw { tag, integer: 0, number: 0.0, items, length, lifetime: PhantomData }
    }
    let integer = |tag, integer| Raw { integer, ..items::<u8>(tag, &[]) };
    match *argument {
        Argument::Default => items::<u8>(tag::DEFAULT, &[]),
        Argument::None => items::<u8>(tag::NONE, &[]),
        Argument::Tensor(tensor) => Raw { items: tensor.as_ptr().cast(), ..items::<u8>(tag::TENSOR, &[]) },
        Argument::Tensors(_) => items(tag::TENSORS, list),
        Argument::Int(number) => integer(tag::INT, number),
        Argument::Ints(numbers) => items(tag::INTS, numbers),
        Argument::Float(number) => Raw { number, ..items::<u8>(tag::FLOAT, &[]) },
        Argument::Floats(numbers) => items(tag::FLOATS, numbers),
        Argument::Bool(is) => integer(tag::BOOL, i64::from(is)),
        Argument::Bools(bools) => items(tag::BOOLS, bools),
        Argument::String(text) => items(tag::STRING, text.as_bytes()),
        Argument::Device(_) => items(tag::DEVICE, device),
    }
}

/// The results of a call so far.
struct Results<'a> {
    values: &'a mut Vec<Value>,
    /// The tensors that are still missing in the list at the end.
    left: usize,
}

/// Takes a result.
///
/// # Safety
/// `context` is [`Results`]; `tensor` is null or nobody else's.
unsafe extern "C" fn emit(context: *mut c_void, tag: i32, integer: i64, number: f64, tensor: *mut C_tensor) {
    // SAFETY: the caller's promise.
    let results = unsafe { &mut *context.cast::<Results<'_>>() };
    let value = match tag {
        // SAFETY: the caller's promise.
        tag::TENSOR => Value::Tensor(unsafe { Tensor::from_ptr(tensor) }),
        tag::TENSORS => {
            results.left = integer as usize;
            results.values.push(Value::Tensors(Vec::new()));
            return;
        }
        tag::INT => Value::Int(integer),
        tag::FLOAT => Value::Float(number),
        tag::BOOL => Value::Bool(integer != 0),
        _ => Value::None,
    };
    match (results.values.last_mut(), value) {
        // The items of a list follow it.
        (Some(Value::Tensors(list)), Value::Tensor(tensor)) if results.left > 0 => {
            list.push(tensor);
            results.left -= 1;
        }
        (_, value) => results.values.push(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, overload: &str, arguments: &[Argument<'_>]) -> Result<Vec<Value>, TchError> {
        let mut results = Vec::new();
        Operator::find(name, overload).unwrap().call(arguments, &mut results)?;
        Ok(results)
    }

    #[test]
    fn results_are_those_of_tch() {
        let [a, b] = [[1.0_f32, -2.0, 3.0], [4.0, 5.0, 6.0]].map(|values| Tensor::from_slice(&values));
        let sum =
            call("aten::add", "Tensor", &[Argument::Tensor(&a), Argument::Tensor(&b), Argument::Int(2)]);
        let Value::Tensor(sum) = &sum.unwrap()[0] else { panic!() };
        assert_eq!(*sum, &a + &b * 2);
        let both = [Some(&a), Some(&b)];
        let joined = call("aten::stack", "", &[Argument::Tensors(&both), Argument::Int(1)]).unwrap();
        let Value::Tensor(joined) = &joined[0] else { panic!() };
        assert_eq!(*joined, Tensor::stack(&[&a, &b], 1));
        let parts =
            call("aten::split", "Tensor", &[Argument::Tensor(&a), Argument::Int(2), Argument::Default]);
        let Value::Tensors(parts) = &parts.unwrap()[0] else { panic!() };
        assert_eq!(parts.iter().map(Tensor::size).collect::<Vec<_>>(), [[2], [1]]);
        let sorted =
            call("aten::sort", "", &[Argument::Tensor(&a), Argument::Int(-1), Argument::Bool(true)]).unwrap();
        assert_eq!(sorted.len(), 2);
    }

    #[test]
    fn a_list_may_have_absent_tensors() {
        let a = Tensor::arange(6, (tch::Kind::Float, tch::Device::Cpu)).view([2, 3]);
        let index = Tensor::from_slice(&[2_i64, 0]);
        let indices = [None, Some(&index)];
        let found =
            call("aten::index", "Tensor", &[Argument::Tensor(&a), Argument::Tensors(&indices)]).unwrap();
        let Value::Tensor(found) = &found[0] else { panic!() };
        assert_eq!(*found, a.index_select(1, &index));
    }

    #[test]
    fn arguments_are_checked() {
        let a = Tensor::from_slice(&[1.0_f32]);
        let error =
            |arguments: &[Argument<'_>]| call("aten::add", "Tensor", arguments).unwrap_err().to_string();
        let text = error(&[Argument::Tensor(&a)]);
        assert!(text.contains("found 1 arguments, expected 3"), "{text}");
        let text = error(&[Argument::Tensor(&a), Argument::String("a"), Argument::Default]);
        assert!(text.contains("the argument 'other' has another type than Tensor"), "{text}");
        let text = error(&[Argument::Tensor(&a), Argument::Default, Argument::Default]);
        assert!(text.contains("the argument 'other' is missing"), "{text}");
        assert!(Operator::find("aten::nothing", "").is_none());
        assert!(Operator::find("aten::a\0", "").is_none());
    }

    #[test]
    fn what_an_operator_writes_is_known() {
        let written: Vec<bool> = Operator::find("aten::add_", "Tensor")
            .unwrap()
            .arguments()
            .iter()
            .map(|argument| argument.written)
            .collect();
        assert_eq!(written, [true, false, false]);
        let names: Vec<String> = Operator::find("aten::batch_norm", "")
            .unwrap()
            .arguments()
            .iter()
            .map(|argument| argument.name.clone())
            .collect();
        assert_eq!(names[5..], ["training", "momentum", "eps", "cudnn_enabled"]);
    }
}
