use parm::Dtype;

use super::*;

fn input(name: &str, datatype: Datatype, shape: &[i64]) -> TensorMetadata {
    TensorMetadata { name: name.to_owned(), datatype, shape: shape.to_vec() }
}

fn model(inputs: &[TensorMetadata]) -> ModelMetadata {
    ModelMetadata { name: "m".to_owned(), inputs: inputs.to_vec(), ..ModelMetadata::default() }
}

fn shape(input: Option<&str>, shape: &[u64]) -> RowShape {
    RowShape { input: input.map(str::to_owned), shape: shape.to_vec() }
}

fn rows(dtype: Dtype, shape: &[usize], bytes: &[u8]) -> Rows {
    Rows { layout: RowLayout::new(dtype, shape), data: Bytes::copy_from_slice(bytes) }
}

fn refused(inputs: &[TensorMetadata], rows: usize, shapes: &[RowShape], source: Source) -> String {
    Queries::new("", &model(inputs), rows, shapes, source).unwrap_err().to_string()
}

#[test]
fn random_rows_have_the_type_and_shape_of_each_input_and_repeat_with_the_seed() {
    let all: Vec<Datatype> =
        Datatype::ALL.into_iter().filter(|&datatype| datatype != Datatype::Bytes).collect();
    let inputs: Vec<_> = all.iter().map(|&datatype| input(datatype.name(), datatype, &[-1, 2, 3])).collect();
    let queries = |seed| Queries::new("2", &model(&inputs), 4, &[], Source::Random(seed)).unwrap();
    let request = queries(1).request(5);
    assert_eq!((&*request.model, &*request.version, request.inputs.len()), ("m", "2", 13));
    for tensor in &request.inputs {
        assert_eq!(tensor.shape, [4, 2, 3]);
        assert_eq!(tensor.data.len(), 24 * tensor.datatype.size().unwrap());
    }
    let floats = request.inputs.iter().find(|tensor| tensor.name == "FP32").unwrap().data.contiguous();
    let floats: Vec<f32> = floats.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    assert!(floats.iter().all(|value| (0.0..1.0).contains(value)));
    assert!(floats.iter().any(|&value| value != floats[0]));
    assert_eq!(queries(1).request(5), request);
    assert_ne!(queries(2).request(5), request);
    assert_ne!(queries(1).request(6).inputs, request.inputs);
    assert_eq!(queries(1).request(5 + 256).inputs, request.inputs);
}

#[test]
fn given_rows_are_taken_in_turn_and_start_over() {
    let given = rows(Dtype::U8, &[2], &[0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
    let queries =
        Queries::new("", &model(&[input("x", Datatype::Uint8, &[-1, -1])]), 3, &[], Source::Given(given))
            .unwrap();
    let firsts = |number| {
        let tensor = queries.request(number).inputs.remove(0);
        assert_eq!(tensor.shape, [3, 2]);
        tensor.data.contiguous().iter().copied().step_by(2).collect::<Vec<u8>>()
    };
    assert_eq!(firsts(0), [0, 1, 2]);
    assert_eq!(firsts(1), [3, 4, 0]);
    assert_eq!(firsts(5), [0, 1, 2]);
    assert_eq!(firsts(u64::MAX), firsts(u64::MAX % 5));
    // A request has more rows than are given.
    let given = rows(Dtype::U8, &[1], &[7, 8]);
    let queries =
        Queries::new("", &model(&[input("x", Datatype::Uint8, &[-1, 1])]), 5, &[], Source::Given(given))
            .unwrap();
    assert_eq!(queries.request(1).inputs[0].data.contiguous(), &[8, 7, 8, 7, 8][..]);
}

#[test]
fn shapes_that_the_server_leaves_open_are_given() {
    let of = |said: &[i64], shapes: &[RowShape]| {
        let queries =
            Queries::new("", &model(&[input("x", Datatype::Fp32, said)]), 1, shapes, Source::Random(0))
                .unwrap();
        queries.request(0).inputs[0].shape.clone()
    };
    assert_eq!(of(&[-1, -1, 8], &[shape(None, &[3, 8])]), [1, 3, 8]);
    assert_eq!(of(&[-1, -1], &[shape(None, &[9]), shape(Some("x"), &[3])]), [1, 3]);
    assert_eq!(of(&[], &[shape(Some("x"), &[3])]), [1, 3]);
    // A model without a dimension of rows gets its own shape.
    assert_eq!(of(&[3, 8], &[]), [3, 8]);
    assert_eq!(of(&[-1, 0], &[]), [1, 0]);
    assert_eq!(of(&[-1], &[]), [1]);
}

#[test]
fn a_model_without_metadata_gets_the_given_rows_as_its_input() {
    let given = rows(Dtype::I16, &[2], &[1, 0, 2, 0, 3, 0, 4, 0]);
    let request = Queries::new("", &model(&[]), 2, &[], Source::Given(given)).unwrap().request(0);
    let [tensor] = &request.inputs[..] else { panic!("{request:?}") };
    assert_eq!(
        (&*tensor.name, tensor.datatype, &tensor.shape[..]),
        ("input-0", Datatype::Int16, &[2, 2][..])
    );
    assert_eq!(*tensor.data.contiguous(), [1, 0, 2, 0, 3, 0, 4, 0]);
}

#[test]
fn a_first_dimension_of_1_is_that_of_rows_if_given_rows_lack_it() {
    let x = [input("x", Datatype::Uint8, &[1, 2])];
    for shape in [&[2][..], &[1, 2]] {
        let given = || Source::Given(rows(Dtype::U8, shape, &[1, 2, 3, 4]));
        let queries = Queries::new("", &model(&x), 1, &[], given()).unwrap();
        let tensors = [0, 1].map(|number| queries.request(number).inputs.remove(0));
        assert_eq!(tensors.clone().map(|tensor| tensor.shape), [[1, 2], [1, 2]], "{shape:?}");
        assert_eq!(tensors.map(|tensor| tensor.data.contiguous().to_vec()), [[1, 2], [3, 4]], "{shape:?}");
        assert!(refused(&x, 2, &[], given()).contains("expected 1: input 'x' has no dimension for more"));
    }
}

#[test]
fn rows_and_shapes_that_do_not_fit_are_refused() {
    let x = |shape: &[i64]| [input("x", Datatype::Fp32, shape)];
    assert!(
        refused(&[], 1, &[], Source::Random(0)).contains("names no inputs, expected rows that are given")
    );
    let error = refused(&x(&[-1, 3]), 1, &[shape(Some("z"), &[3])], Source::Random(0));
    assert_eq!(error, "found a shape for input 'z', expected one for x");
    let error = refused(&x(&[-1, -1]), 1, &[], Source::Random(0));
    assert_eq!(error, "found input 'x' of shape [-1, -1], expected a shape for its rows");
    assert!(refused(&x(&[]), 1, &[], Source::Random(0)).contains("shape []"));
    for wrong in [&[4][..], &[3, 1], &[]] {
        let error = refused(&x(&[-1, 3]), 1, &[shape(None, wrong)], Source::Random(0));
        assert_eq!(error, format!("found rows of shape {wrong:?} for input 'x', expected [3]"));
    }
    let error = refused(&x(&[2, 3]), 2, &[], Source::Random(0));
    assert_eq!(error, "found 2 rows in a request, expected 1: input 'x' has no dimension for more");
    let error = refused(&[input("x", Datatype::Bytes, &[-1, 1])], 1, &[], Source::Random(0));
    assert_eq!(error, "found input 'x' of BYTES, expected elements of a fixed size");
    for large in [&[-1, 1 << 40][..], &[-1, i64::MAX, i64::MAX], &[-1, (64 << 20) + 1]] {
        assert!(
            refused(&x(large), 1, &[], Source::Random(0)).contains("expected at most 268435456 bytes"),
            "{large:?}"
        );
    }
    assert!(refused(&x(&[-1, 64 << 20]), 2, &[], Source::Random(0)).contains("2 in a request"));
}

#[test]
fn requests_of_another_model_are_refused() {
    let of = |inputs: &[TensorMetadata]| {
        Queries::new("", &model(inputs), 1, &[shape(None, &[3])], Source::Random(0)).unwrap()
    };
    let first = of(&[input("x", Datatype::Fp32, &[-1, 3])]);
    // A size that only one server leaves open is no difference.
    first.check_same(&of(&[input("x", Datatype::Fp32, &[-1, -1])])).unwrap();
    let error = of(&[input("x", Datatype::Fp64, &[-1, 3])]).check_same(&first).unwrap_err().to_string();
    assert_eq!(
        error,
        "found a model of 'x' FP64 [1, 3], expected that of the first target, of 'x' FP32 [1, 3]"
    );
}

#[test]
fn given_rows_must_fit_the_only_input() {
    let x = [input("x", Datatype::Fp32, &[-1, 2])];
    let error = refused(&x, 1, &[], Source::Given(rows(Dtype::F32, &[3], &[0; 12])));
    assert_eq!(error, "found rows of shape [3] for input 'x', expected [2]");
    let error = refused(&x, 1, &[shape(None, &[3])], Source::Given(rows(Dtype::F32, &[2], &[0; 8])));
    assert_eq!(error, "found rows of shape [3] for input 'x', expected [2]");
    let error = refused(&x, 1, &[], Source::Given(rows(Dtype::F64, &[2], &[0; 16])));
    assert_eq!(error, "found rows of FP64 for input 'x', expected FP32");
    assert!(
        refused(&x, 1, &[], Source::Given(rows(Dtype::F32, &[2], &[])))
            .contains("found a stream without rows")
    );
    let two = [input("x", Datatype::Fp32, &[-1, 2]), input("y", Datatype::Fp32, &[-1, 2])];
    let error = refused(&two, 1, &[], Source::Given(rows(Dtype::F32, &[2], &[0; 8])));
    assert_eq!(error, "found 2 inputs, expected 1 for rows that are given");
}
