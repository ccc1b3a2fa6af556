//! `.npy` items, made by hand: independent of the reader and writer that they test.

/// An item of version 1.0 with the given type descriptor, shape and data.
#[must_use]
pub fn item(descr: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let axes: Vec<String> = shape.iter().map(usize::to_string).collect();
    // A tuple of one needs its comma.
    let axes = axes.join(", ") + if shape.len() == 1 { "," } else { "" };
    let dictionary = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({axes}), }}");
    let padded = (10 + dictionary.len() + 1).next_multiple_of(64) - 10;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((padded as u16).to_le_bytes());
    bytes.extend(format!("{dictionary:<width$}\n", width = padded - 1).bytes());
    bytes.extend(data);
    bytes
}

/// An f4 item.
///
/// # Panics
/// If the number of values does not fit the shape.
#[must_use]
pub fn f4(shape: &[usize], values: &[f32]) -> Vec<u8> {
    assert_eq!(shape.iter().product::<usize>(), values.len(), "the values fit the shape");
    item("<f4", shape, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
}

/// An f8 item.
#[must_use]
pub fn f8(shape: &[usize], values: &[f64]) -> Vec<u8> {
    item("<f8", shape, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
}

/// A u1 item.
#[must_use]
pub fn u1(shape: &[usize], values: &[u8]) -> Vec<u8> {
    item("|u1", shape, values)
}

/// A mask.
#[must_use]
pub fn mask(entries: &[bool]) -> Vec<u8> {
    item("|b1", &[entries.len()], &entries.iter().map(|&entry| u8::from(entry)).collect::<Vec<_>>())
}

/// The values of a stream of f4 items, after its headers of version 1.0.
#[must_use]
pub fn f4_values(mut stream: &[u8]) -> Vec<f32> {
    let mut values = Vec::new();
    while !stream.is_empty() {
        let (header, data) = split(stream);
        let elements: usize = shape(header).iter().product();
        let (data, rest) = data.split_at(elements * 4);
        values.extend(data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        stream = rest;
    }
    values
}

/// The values of a stream of f4 items of which the end may be missing.
#[must_use]
pub fn f4_values_so_far(mut stream: &[u8]) -> Vec<f32> {
    let mut values = Vec::new();
    while stream.len() >= 10 {
        let header = 10 + usize::from(u16::from_le_bytes([stream[8], stream[9]]));
        if stream.len() < header {
            break;
        }
        let (header, data) = split(stream);
        let size = shape(header).iter().product::<usize>() * 4;
        let (data, rest) = data.split_at(size.min(data.len()));
        values.extend(data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        stream = rest;
    }
    values
}

/// The data of a single item, after its header.
#[must_use]
pub fn data(item: &[u8]) -> &[u8] {
    split(item).1
}

/// The type descriptor in an item's header.
#[must_use]
pub fn descr(item: &[u8]) -> String {
    let header = String::from_utf8_lossy(&item[..item.len().min(256)]).into_owned();
    let quoted = header.split("'descr': '").nth(1).and_then(|rest| rest.split('\'').next());
    quoted.unwrap_or_default().to_owned()
}

/// The shape in an item's header.
#[must_use]
pub fn shape(item: &[u8]) -> Vec<usize> {
    let header = String::from_utf8_lossy(&item[..item.len().min(256)]).into_owned();
    let tuple = header.split("'shape': (").nth(1).and_then(|rest| rest.split(')').next()).unwrap_or_default();
    tuple.split(',').filter_map(|axis| axis.trim().parse().ok()).collect()
}

fn split(item: &[u8]) -> (&[u8], &[u8]) {
    assert!(item.starts_with(b"\x93NUMPY\x01\x00"), "an item of version 1.0");
    item.split_at(10 + usize::from(u16::from_le_bytes([item[8], item[9]])))
}
