//! Model files, made by hand: independent of the reader and writer that they test.

/// A file with this metadata (JSON, without braces) and these f4 tensors.
#[must_use]
pub fn file(metadata: &str, tensors: &[(&str, &[usize], &[f32])]) -> Vec<u8> {
    let (mut entries, mut data) = (format!("\"__metadata__\":{{{metadata}}}"), Vec::new());
    for (name, shape, values) in tensors {
        let begin = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let end = data.len();
        let entry =
            format!(",\"{name}\":{{\"dtype\":\"F32\",\"shape\":{shape:?},\"data_offsets\":[{begin},{end}]}}");
        entries += &entry;
    }
    let mut header = format!("{{{entries}}}").into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(data);
    bytes
}

/// The metadata of an MLP, as the entry of a file.
#[must_use]
pub fn mlp(layers: &[usize], query_shape: &[usize], prediction_shape: &[usize]) -> String {
    format!(
        "\"parm\":\"{{\\\"architecture\\\":\\\"mlp\\\",\\\"layers\\\":{layers:?},\\\"output\\\":\\\"logits\\\",\
         \\\"prediction_shape\\\":{prediction_shape:?},\\\"query_shape\\\":{query_shape:?}}}\""
    )
}

/// A model of one linear layer, of weights `[to, from]` and no bias.
#[must_use]
pub fn linear(query_shape: &[usize], to: usize, weights: &[f32]) -> Vec<u8> {
    let from = query_shape.iter().product();
    let bias = vec![0.0; to];
    file(
        &mlp(&[from, to], query_shape, &[to]),
        &[("nn.0.weight", &[to, from], weights), ("nn.0.bias", &[to], &bias)],
    )
}
