//! JSON read and written the slow way, by way of a tree, is the same.

use bytes::Bytes;
use half::{bf16, f16};
use parm_oip::http::{Form, decode_response, encode_request};
use parm_oip::{Datatype, InferRequest, Tensor};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::strategies::{Holds, tensor};

/// The elements of any nested list.
fn flat(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values.iter().flat_map(flat).collect(),
        other => vec![other.clone()],
    }
}

/// Bytes of an element; none if it is not of this type.
fn naive_bytes(value: &Value, datatype: Datatype) -> Option<Vec<u8>> {
    let float = |least: f64| value.as_f64().filter(|value| value.abs() < least);
    let integer = || value.as_i64().map(i128::from).or(value.as_u64().map(i128::from));
    Some(match datatype {
        Datatype::Bool => vec![u8::from(value.as_bool()?)],
        Datatype::Int8 => i8::try_from(integer()?).ok()?.to_le_bytes().to_vec(),
        Datatype::Int16 => i16::try_from(integer()?).ok()?.to_le_bytes().to_vec(),
        Datatype::Int32 => i32::try_from(integer()?).ok()?.to_le_bytes().to_vec(),
        Datatype::Int64 => i64::try_from(integer()?).ok()?.to_le_bytes().to_vec(),
        Datatype::Uint8 => u8::try_from(integer()?).ok()?.to_le_bytes().to_vec(),
        Datatype::Uint16 => u16::try_from(integer()?).ok()?.to_le_bytes().to_vec(),
        Datatype::Uint32 => u32::try_from(integer()?).ok()?.to_le_bytes().to_vec(),
        Datatype::Uint64 => u64::try_from(integer()?).ok()?.to_le_bytes().to_vec(),
        Datatype::Fp16 => f16::from_f64(float(65520.0)?).to_le_bytes().to_vec(),
        Datatype::Bf16 => bf16::from_f64(float(3.39e38)?).to_le_bytes().to_vec(),
        Datatype::Fp32 => (float(3.402_823_5e38)? as f32).to_le_bytes().to_vec(),
        Datatype::Fp64 => value.as_f64()?.to_le_bytes().to_vec(),
        Datatype::Bytes => {
            let text = value.as_str()?;
            [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
        }
    })
}

/// Nested lists of elements that are often of the same type.
fn data() -> impl Strategy<Value = Value> {
    let element = prop_oneof![
        4 => (-200..300_i64).prop_map(|value| json!(value)),
        2 => (-3.0..3.0_f64).prop_map(|value| json!(value)),
        1 => any::<i64>().prop_map(|value| json!(value)),
        1 => any::<u64>().prop_map(|value| json!(value)),
        1 => prop::num::f64::NORMAL.prop_map(|value| json!(value)),
        1 => any::<bool>().prop_map(|value| json!(value)),
        1 => "\\PC{0,3}[\"\\\\\n\\]]?".prop_map(|value| json!(value)),
    ];
    // All of one kind in most lists: else few would be read at all.
    let numbers = prop_oneof![
        prop::collection::vec((0..128_i64).prop_map(|value| json!(value)), 0..6),
        prop::collection::vec((-3.0..3.0_f64).prop_map(|value| json!(value)), 0..6),
        prop::collection::vec("\\PC{0,3}[\"\\\\\n,\\]]?".prop_map(|value| json!(value)), 0..6),
        prop::collection::vec(any::<bool>().prop_map(|value| json!(value)), 0..6),
        prop::collection::vec(element, 0..3),
    ];
    let leaf = numbers.prop_map(Value::Array);
    leaf.prop_recursive(3, 12, 3, |inner| prop::collection::vec(inner, 0..3).prop_map(Value::Array))
}

proptest! {
    #[test]
    fn lists_are_read_as_by_a_tree(
        data in data(),
        datatype in prop::sample::select(Datatype::ALL.to_vec()),
        wrong in prop_oneof![9 => Just(0), 1 => Just(1_u64)],
        pretty in any::<bool>(),
    ) {
        let elements = flat(&data);
        let shape = [elements.len() as u64 + wrong];
        let body = json!({"outputs": [{"name": "y", "shape": shape, "datatype": datatype, "data": data}]});
        let body = if pretty { serde_json::to_vec_pretty(&body) } else { serde_json::to_vec(&body) }.unwrap();
        let read = decode_response(None, &Bytes::from(body)).ok().map(|response| response.outputs[0].data.contiguous());
        let bytes: Option<Vec<_>> = elements.iter().map(|value| naive_bytes(value, datatype)).collect();
        let expected = bytes.filter(|_| wrong == 0).map(|bytes| Bytes::from(bytes.concat()));
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn lists_are_written_as_by_a_tree(mut tensor in tensor(Holds::Json)) {
        // A tree has no NaN.
        let floats = matches!(tensor.datatype, Datatype::Fp32 | Datatype::Fp64);
        if floats {
            let data: Vec<u8> = tensor.data.contiguous().iter().map(|byte| byte & 0x3f).collect();
            tensor.data = Bytes::from(data).into();
        }
        let request = InferRequest { inputs: vec![tensor.clone()], ..Default::default() };
        let body = encode_request(&request, Form::Json).unwrap().body.to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let Tensor { name, datatype, shape, data, .. } = &tensor;
        let input = &body["inputs"][0];
        prop_assert_eq!(&input["name"], name);
        prop_assert_eq!(&input["datatype"], datatype.name());
        prop_assert_eq!(&input["shape"], &json!(shape));
        let written: Vec<_> = input["data"].as_array().unwrap().iter().map(|value| naive_bytes(value, *datatype).unwrap()).collect();
        prop_assert_eq!(Bytes::from(written.concat()), data.contiguous());
    }
}
