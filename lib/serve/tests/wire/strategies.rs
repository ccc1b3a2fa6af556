//! Requests and responses at random.

use bytes::Bytes;
use half::{bf16, f16};
use parm_oip::{
    Chunks, Datatype, InferRequest, InferResponse, Parameter, Parameters, RequestedOutput, Tensor,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// What a form can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Text, and no FP16 and BF16.
    Json,
    Everything,
}

/// Any text, escapes and all.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z]{1,8}", "\\PC{0,4}[\"\\\\\n\u{1}/]?"]
}

fn parameter() -> impl Strategy<Value = Parameter> {
    prop_oneof![
        any::<bool>().prop_map(Parameter::Bool),
        any::<i64>().prop_map(Parameter::Int),
        // Below, it is the same as an integer with a sign.
        (1 << 63_u64..=u64::MAX).prop_map(Parameter::Uint),
        prop::num::f64::NORMAL.prop_map(Parameter::Double),
        name().prop_map(Parameter::String),
    ]
}

pub(crate) fn parameters() -> impl Strategy<Value = Parameters> {
    btree_map(name(), parameter(), 0..3)
}

/// Bytes of one element. There is one NaN of each type: text has no more.
fn element(datatype: Datatype, holds: Holds) -> BoxedStrategy<Vec<u8>> {
    let bits = any::<[u8; 8]>();
    match datatype {
        Datatype::Bool => (0..=1_u8).prop_map(|byte| vec![byte]).boxed(),
        Datatype::Bytes => {
            let strings = match holds {
                Holds::Json => name().prop_map(String::into_bytes).boxed(),
                Holds::Everything => vec(any::<u8>(), 0..5).boxed(),
            };
            let framed = |string: Vec<u8>| [&(string.len() as u32).to_le_bytes(), &string[..]].concat();
            strings.prop_map(framed).boxed()
        }
        Datatype::Fp16 => any::<u16>()
            .prop_map(f16::from_bits)
            .prop_map(|value| if value.is_nan() { f16::NAN } else { value })
            .prop_map(|value| value.to_le_bytes().to_vec())
            .boxed(),
        Datatype::Bf16 => any::<u16>()
            .prop_map(bf16::from_bits)
            .prop_map(|value| if value.is_nan() { bf16::NAN } else { value })
            .prop_map(|value| value.to_le_bytes().to_vec())
            .boxed(),
        Datatype::Fp32 => any::<u32>()
            .prop_map(f32::from_bits)
            .prop_map(|value| if value.is_nan() { f32::NAN } else { value })
            .prop_map(|value| value.to_le_bytes().to_vec())
            .boxed(),
        Datatype::Fp64 => any::<u64>()
            .prop_map(f64::from_bits)
            .prop_map(|value| if value.is_nan() { f64::NAN } else { value })
            .prop_map(|value| value.to_le_bytes().to_vec())
            .boxed(),
        _ => bits.prop_map(move |bits| bits[..datatype.size().unwrap()].to_vec()).boxed(),
    }
}

pub(crate) fn tensor(holds: Holds) -> impl Strategy<Value = Tensor> {
    let types: Vec<_> = Datatype::ALL
        .into_iter()
        .filter(|datatype| holds == Holds::Everything || !matches!(datatype, Datatype::Fp16 | Datatype::Bf16))
        .collect();
    let shapes = vec(0..4_u64, 0..4);
    (name(), select(types), shapes, parameters(), vec(any::<Index>(), 0..4)).prop_flat_map(
        move |(name, datatype, shape, parameters, cuts)| {
            let elements = shape.iter().product::<u64>() as usize;
            vec(element(datatype, holds), elements).prop_map(move |elements| Tensor {
                name: name.clone(),
                datatype,
                shape: shape.clone(),
                parameters: parameters.clone(),
                data: cut(&elements.concat().into(), &cuts),
            })
        },
    )
}

/// Data in pieces.
fn cut(data: &Bytes, cuts: &[Index]) -> Chunks {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(data.len() + 1)).collect();
    at.extend([0, data.len()]);
    at.sort_unstable();
    at.windows(2).map(|ends| data.slice(ends[0]..ends[1])).collect()
}

pub(crate) fn request(holds: Holds) -> impl Strategy<Value = InferRequest> {
    let output = (name(), parameters()).prop_map(|(name, parameters)| RequestedOutput { name, parameters });
    (name(), name(), name(), parameters(), vec(tensor(holds), 0..4), vec(output, 0..3)).prop_map(
        |(model, version, id, parameters, inputs, outputs)| InferRequest {
            model,
            version,
            id,
            parameters,
            inputs,
            outputs,
        },
    )
}

pub(crate) fn response(holds: Holds) -> impl Strategy<Value = InferResponse> {
    (name(), name(), name(), parameters(), vec(tensor(holds), 0..4)).prop_map(
        |(model, version, id, parameters, outputs)| InferResponse { model, version, id, parameters, outputs },
    )
}
