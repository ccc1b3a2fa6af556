//! Which operators a graph may call: those that compute. A file from anywhere must not read or write files,
//! print, or reach memory other than its tensors'.

use crate::operator::Operator;

use super::ProgramError;

/// The namespaces of libtorch's operators that only compute. Those of other libraries are not linked.
const NAMESPACES: [&str; 1] = ["aten"];

/// A part of the graph under another setting of gradients: its calls are made in its place.
pub(super) const SET_GRADIENTS: &str = "torch.ops.higher_order.wrap_with_set_grad_enabled";

/// Operators of these names are refused, with the reason.
const REFUSED: [(&str, &str); 16] = [
    ("from_file", "it maps a file"),
    ("_print", "it writes to stdout"),
    ("set", "it takes another tensor's storage"),
    ("set_", "it takes another tensor's storage"),
    ("set_data", "it takes another tensor's storage"),
    ("resize", "it gives out memory that was not written"),
    ("resize_", "it gives out memory that was not written"),
    ("resize_as", "it gives out memory that was not written"),
    ("resize_as_", "it gives out memory that was not written"),
    ("_resize_output", "it gives out memory that was not written"),
    ("_resize_output_", "it gives out memory that was not written"),
    ("_copy_from_and_resize", "it gives out memory that was not written"),
    ("record_stream", "it takes a stream of the device"),
    ("pin_memory", "it allocates memory of the device's driver"),
    ("_pin_memory", "it allocates memory of the device's driver"),
    ("get_gradients", "it reads the state of another computation"),
];

/// Operators whose names have one of these words are refused, with the reason.
const WORDS: [(&str, &str); 6] = [
    ("fbgemm_", "its tensors hold pointers"),
    ("_cslt", "its tensors hold pointers"),
    ("sparse", "it makes or takes sparse tensors, whose indices are not checked"),
    ("nested", "it makes or takes nested tensors, whose offsets are not checked"),
    ("backward", "it does not check the indices that it is given"),
    ("_test_", "it belongs to libtorch's tests"),
];

/// The operator of a target as `torch.ops.aten.conv2d.default`.
///
/// # Errors
/// [`ProgramError::Operator`] with what to do, if a graph may not call it or libtorch does not have it.
pub(super) fn operator(target: &str) -> Result<Operator, ProgramError> {
    let refused = |reason: &str| ProgramError::Operator { target: target.into(), reason: reason.into() };
    let Some(path) = target.strip_prefix("torch.ops.") else {
        return Err(refused("expected an operator of torch.ops"));
    };
    let mut parts = path.splitn(3, '.');
    let (namespace, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let overload = parts.next().unwrap_or_default();
    if namespace == "higher_order" {
        return Err(refused(higher_order(name)));
    }
    if !NAMESPACES.contains(&namespace) {
        return Err(refused(
            "it is no operator of PyTorch's own (aten); write this part of the model with PyTorch's operators, or \
             serve the model with PyTorch and name the server (--url)",
        ));
    }
    let named = REFUSED.iter().find(|(refused, _)| *refused == name);
    let found = named.or_else(|| WORDS.iter().find(|(word, _)| name.contains(word)));
    if let Some((_, reason)) = found {
        return Err(refused(&format!("{reason}, which a model file may not do")));
    }
    let overload = if overload == "default" { "" } else { overload };
    Operator::find(&format!("{namespace}::{name}"), overload)
        .ok_or_else(|| refused("this libtorch does not have it; export the model with PyTorch 2.11"))
}

/// True if the operator gives out memory as it was: the caller has to write zeros there.
pub(super) fn is_uninitialised(target: &str) -> bool {
    let name = target.strip_prefix("torch.ops.aten.").unwrap_or(target);
    let name = name.split('.').next().unwrap_or_default();
    name.starts_with("empty") || name.starts_with("new_empty") || name.starts_with("_empty")
}

/// What to do instead of a higher-order operator.
fn higher_order(name: &str) -> &'static str {
    match name {
        "wrap_with_autocast" => "a part of the model sets autocast; export the model without it",
        "cond" | "while_loop" | "scan" | "associative_scan" | "map_impl" | "map" => {
            "it depends on values which part of the model runs; write it with torch.where, or unroll the loop"
        }
        _ => "it calls a graph within the graph; export the model without it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_that_compute_are_found() {
        for target in
            ["torch.ops.aten.conv2d.default", "torch.ops.aten.add.Tensor", "torch.ops.aten.sym_size.int"]
        {
            assert!(operator(target).is_ok(), "{target}");
        }
    }

    #[test]
    fn each_refused_operator_exists_and_is_refused_with_its_reason() {
        let overloads = ["", "msg", "source_Tensor", "out", "source_Storage"];
        for (name, reason) in REFUSED {
            let exists = |overload: &&str| Operator::find(&format!("aten::{name}"), overload).is_some();
            // Those of distributed training are in another library.
            assert!(overloads.iter().any(exists) || name == "get_gradients", "{name}");
            let error = operator(&format!("torch.ops.aten.{name}.default")).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn what_else_cannot_be_called_is_refused_by_name() {
        for (target, reason) in [
            ("torch.ops.aten.fbgemm_linear_fp16_weight.default", "hold pointers"),
            ("torch.ops.aten._sparse_coo_tensor_unsafe.default", "sparse"),
            ("torch.ops.aten.max_pool2d_with_indices_backward.default", "does not check"),
            ("torch.ops.mylib.double.default", "no operator of PyTorch's own"),
            ("torch.ops.higher_order.cond", "torch.where"),
            ("torch.ops.higher_order.wrap_with_autocast", "autocast"),
            ("torch.ops.aten.conv9d.default", "does not have it"),
            ("os.system", "expected an operator of torch.ops"),
        ] {
            let error = operator(target).unwrap_err().to_string();
            assert!(error.contains(target) && error.contains(reason), "{error}");
        }
    }
}
