//! Messages to bytes and back.

use std::marker::PhantomData;

use prost::Message;
use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};
use tokio::runtime::{Handle, RuntimeFlavor};
use tonic::Status;
use tonic::codec::{self, BufferSettings, DecodeBuf, Decoder};
use tonic_prost::ProstCodec;

/// Fields of a message that are counted. Two bytes on the wire can become a tensor of 300 bytes in
/// memory, so that a message of the largest size would take a hundred times as much. With this limit
/// the excess is a few MiB; what is left are numbers, which take up to 8 bytes for one.
const MOST_FIELDS: usize = 16_384;

/// prost's codec, with a limit on the number of fields of the messages that are read: of tensors, raw
/// data, and strings in lists. (Numbers in lists are one field if they are packed, as they should be.)
#[derive(Clone, Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as codec::Codec>::Encoder;
    type Decoder = Limited<<ProstCodec<T, U> as codec::Codec>::Decoder>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        Limited(ProstCodec::<T, U>::raw_decoder(BufferSettings::default()))
    }
}

/// A decoder of messages that do not have too many fields.
#[derive(Debug)]
pub struct Limited<D>(D);

impl<D: Decoder<Error = Status>> Decoder for Limited<D> {
    type Item = D::Item;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<D::Item>, Status> {
        let bytes = message.remaining();
        aside(bytes > LONG, || {
            check_fields(message.chunk())?;
            // The library reports INTERNAL for messages that the sender made wrong.
            self.0.decode(message).map_err(|status| Status::invalid_argument(status.message()))
        })
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

/// The size in bytes from which messages may take long to read.
const LONG: usize = 1 << 20;

/// Reads a message; if that may take long, other threads take over the other tasks of this thread.
pub fn aside<T>(is_long: bool, read: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    if is_long && matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
        tokio::task::block_in_place(read)
    } else {
        read()
    }
}

/// Checks the number of fields of a message before memory is allocated for them.
///
/// # Errors
/// `INVALID_ARGUMENT` with the limit.
pub fn check_fields(message: &[u8]) -> Result<(), Status> {
    if count_fields(message, 0) > MOST_FIELDS {
        return Err(Status::invalid_argument(format!(
            "found a message of more than {MOST_FIELDS} fields, expected fewer: send tensors as raw contents"
        )));
    }
    Ok(())
}

/// Counts the fields of a message, of its tensors and of their contents. Stops if there are too many, or at
/// malformed data, which the message's own decoder then reports.
fn count_fields(mut message: &[u8], depth: u32) -> usize {
    let mut fields = 0;
    while fields <= MOST_FIELDS
        && let Ok((tag, wire_type)) = decode_key(&mut message)
    {
        fields += 1;
        let length = match wire_type {
            WireType::Varint => decode_varint(&mut message).map(|_| 0),
            WireType::SixtyFourBit => Ok(8),
            WireType::ThirtyTwoBit => Ok(4),
            WireType::LengthDelimited => decode_varint(&mut message),
            WireType::StartGroup | WireType::EndGroup => Ok(0),
        };
        let length = length.ok().and_then(|length| usize::try_from(length).ok());
        let Some((field, rest)) = length.and_then(|length| message.split_at_checked(length)) else {
            break;
        };
        // In requests and responses, tensors are field 5, and so are the contents of a tensor.
        if tag == 5 && depth < 2 {
            fields += count_fields(field, depth + 1);
        }
        message = rest;
    }
    fields
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::proto::model_infer_request::InferInputTensor;
    use crate::proto::{InferTensorContents, ModelInferRequest};

    fn checked(message: &ModelInferRequest) -> Result<(), Status> {
        check_fields(&message.encode_to_vec())
    }

    fn with_strings(strings: usize) -> ModelInferRequest {
        let bytes_contents = vec![Bytes::from_static(b"\x2a"); strings];
        let contents = Some(InferTensorContents { bytes_contents, ..Default::default() });
        let input = InferInputTensor { contents, ..Default::default() };
        ModelInferRequest { inputs: vec![input], ..Default::default() }
    }

    #[test]
    fn messages_have_a_limited_number_of_tensors_raw_data_and_strings() {
        // The message and its tensor have one more field each.
        assert!(checked(&with_strings(MOST_FIELDS - 2)).is_ok());
        let inputs = vec![InferInputTensor::default(); MOST_FIELDS + 1];
        let raw_input_contents = vec![Bytes::new(); MOST_FIELDS + 1];
        for message in [
            with_strings(MOST_FIELDS - 1),
            ModelInferRequest { inputs, ..Default::default() },
            ModelInferRequest { raw_input_contents, ..Default::default() },
        ] {
            let error = checked(&message).unwrap_err();
            assert_eq!(error.code(), tonic::Code::InvalidArgument);
            assert!(error.message().contains("more than 16384 fields"), "{error}");
        }
    }

    #[test]
    fn packed_numbers_are_one_field() {
        let contents = InferTensorContents { int_contents: vec![1; 1_000_000], ..Default::default() };
        let input =
            InferInputTensor { contents: Some(contents), shape: vec![1; 1_000_000], ..Default::default() };
        assert!(checked(&ModelInferRequest { inputs: vec![input], ..Default::default() }).is_ok());
    }

    #[test]
    fn malformed_messages_are_left_to_the_decoder() {
        let message = with_strings(3).encode_to_vec();
        for end in 0..message.len() {
            assert!(check_fields(&message[..end]).is_ok());
        }
        for garbage in
            [&b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..], b"\x2a\xff\xff\xff\xff\x0f", b"\x0b\x0b\x0c"]
        {
            assert!(check_fields(garbage).is_ok());
        }
    }
}
