//! Bodies of unary calls: a byte for compression, four for the length, and the message.

use bytes::{BufMut, Bytes};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::super::body::{Body, Writer};
use super::super::{Error, InferRequest, Status, Tensor};
use super::write_head;
use crate::proto::check_fields;

/// The bytes before a message.
const PREFIX: usize = 5;

/// The field `raw_input_contents`, the last of a request.
const RAW_INPUT_CONTENTS: u32 = 7;

/// The body with a message.
///
/// # Errors
/// [`Status::TooLarge`] if its length does not fit in 32 bits.
pub fn encode(message: &impl Message) -> Result<Body, Error> {
    writer(message, 0).map(Writer::finish)
}

/// The body with a request, whose tensors are not copied. The bytes are those of
/// [`write_request`](super::write_request).
///
/// # Errors
/// [`Status::TooLarge`] if its length does not fit in 32 bits.
pub fn encode_request(request: &InferRequest) -> Result<Body, Error> {
    let length = |tensor: &Tensor| tensor.data.len();
    let field = |length: usize| 1 + encoded_len_varint(length as u64) + length;
    let raw: usize = request.inputs.iter().map(|tensor| field(length(tensor))).sum();
    let mut body = writer(&write_head(request), raw)?;
    for tensor in &request.inputs {
        encode_key(RAW_INPUT_CONTENTS, WireType::LengthDelimited, body.text());
        encode_varint(length(tensor) as u64, body.text());
        tensor.data.iter().for_each(|piece| body.push(piece));
    }
    Ok(body.finish())
}

/// Begins a body with a message, of which `more` bytes follow.
fn writer(message: &impl Message, more: usize) -> Result<Writer, Error> {
    let length = message.encoded_len() + more;
    let said = u32::try_from(length).map_err(|_| {
        Error::new(
            Status::TooLarge,
            format!("found a message of {length} bytes, expected at most {}", u32::MAX),
        )
    })?;
    let mut text = Vec::with_capacity(PREFIX + message.encoded_len());
    text.put_u8(0);
    text.put_u32(said);
    message.encode_raw(&mut text);
    Ok(Writer::new(text))
}

/// Reads the message of a body; its bytes are slices of the body.
///
/// # Errors
/// [`Status::InvalidArgument`] unless the body is exactly one uncompressed message.
pub fn decode<M: Message + Default>(mut body: Bytes) -> Result<M, Error> {
    let Some((&[compressed, a, b, c, d], rest)) = body.split_first_chunk::<PREFIX>() else {
        return Err(Error::invalid(format!("found {} bytes, expected a message", body.len())));
    };
    let said = u32::from_be_bytes([a, b, c, d]);
    if compressed != 0 {
        return Err(Error::invalid("found a compressed message, expected one without compression"));
    }
    if rest.len() != said as usize {
        return Err(Error::invalid(format!("found {} bytes of a message, expected {said}", rest.len())));
    }
    let message = body.split_off(PREFIX);
    check_fields(&message).map_err(|status| Error::invalid(status.message()))?;
    M::decode(message).map_err(|error| Error::invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{ModelReadyRequest, ModelReadyResponse};
    use crate::{Chunks, Datatype};

    #[test]
    fn a_message_is_written_and_read() {
        let message = ModelReadyRequest { name: "m".into(), version: "1".into() };
        let body = encode(&message).unwrap().to_bytes();
        assert_eq!(body, &b"\0\0\0\0\x06\x0a\x01m\x12\x011"[..]);
        assert_eq!(decode(body), Ok(message));
    }

    #[test]
    fn a_body_that_is_not_one_message_is_refused() {
        for (body, expected) in [
            (&b""[..], "found 0 bytes, expected a message"),
            (b"\0\0\0\0", "found 4 bytes, expected a message"),
            (b"\x01\0\0\0\0", "found a compressed message"),
            (b"\0\0\0\0\x02\x08", "found 1 bytes of a message, expected 2"),
            (b"\0\0\0\0\0\0", "found 1 bytes of a message, expected 0"),
            (b"\0\xff\xff\xff\xff", "found 0 bytes of a message, expected 4294967295"),
            (b"\0\0\0\0\x01\x08", "invalid varint"),
        ] {
            let error = decode::<ModelReadyResponse>(Bytes::copy_from_slice(body)).unwrap_err();
            assert!(error.message.contains(expected), "{body:?}: {error}");
        }
        let many = [&b"\0\0\0\x80\x02"[..], &b"\x2a\0".repeat(16_385)].concat();
        let error = decode::<ModelReadyResponse>(many.into()).unwrap_err();
        assert!(error.message.contains("more than 16384 fields"), "{error}");
    }

    #[test]
    fn tensors_are_not_copied_and_limited_to_32_bits() {
        let piece = Bytes::from(vec![7; 1 << 20]);
        let request = |pieces: usize| InferRequest {
            inputs: vec![Tensor {
                name: "x".into(),
                datatype: Datatype::Uint8,
                shape: vec![(pieces * piece.len()) as u64],
                parameters: [].into(),
                data: std::iter::repeat_n(piece.clone(), pieces).collect::<Chunks>(),
            }],
            ..InferRequest::default()
        };
        assert_eq!(encode_request(&request(4095)).unwrap().len() >> 20, 4095);
        let error = encode_request(&request(4096)).unwrap_err();
        assert_eq!(error.status, Status::TooLarge);
        assert!(error.message.ends_with("expected at most 4294967295"), "{error}");
    }
}
