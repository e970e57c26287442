//! A protobuf codec that refuses messages with fields it does not know.
//!
//! prost drops unknown fields, so a filter that an older server does not know would silently let
//! everything through. Before decoding, each message is walked once against the descriptors
//! compiled into this crate; the walk looks at tags only and copies nothing.

use std::{collections::BTreeMap, marker::PhantomData, sync::LazyLock};

use prost::{
    Message, Name,
    bytes::{Buf, Bytes},
    encoding::{WireType, decode_key, decode_varint},
};
use prost_types::{FileDescriptorSet, field_descriptor_proto::Type};
use tonic::{
    Status,
    codec::{DecodeBuf, Decoder},
};

use crate::fitted::Encoder;

/// Messages nested deeper than this are refused; the API's deepest has 5 levels.
const DEPTH_MAX: u32 = 16;

/// Encodes as prost does and decodes as this module says.
#[derive(Debug, Clone)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Encoder<T>;
    type Decoder = StrictDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        Encoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        StrictDecoder(PhantomData)
    }
}

/// Decodes a message that has only known fields; anything else is INVALID_ARGUMENT.
#[derive(Debug, Clone)]
pub struct StrictDecoder<U>(PhantomData<U>);

impl<U: Message + Name + Default> Decoder for StrictDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        decode(bytes)
            .map(Some)
            .map_err(|error| Status::invalid_argument(error.to_string()))
    }
}

/// Why bytes are not a message of this API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "unknown field {number} in {message}: this program does not know it, so it would be ignored; \
         use a client of the same version or leave the field out"
    )]
    UnknownField { message: String, number: u32 },
    #[error("message is nested more than {DEPTH_MAX} deep")]
    Depth,
    #[error("malformed message: {0}")]
    Malformed(String),
}

impl From<prost::DecodeError> for Error {
    fn from(error: prost::DecodeError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Decodes `bytes`, refusing unknown fields at any depth.
pub fn decode<U: Message + Name + Default>(bytes: Bytes) -> Result<U, Error> {
    check(&U::full_name(), bytes.clone(), 0)?;
    Ok(U::decode(bytes)?)
}

fn check(message: &str, mut bytes: Bytes, depth: u32) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(Error::Depth);
    }
    // Messages of Google's (timestamps) are checked too: their files are in the descriptor set.
    let Some(fields) = FIELDS.get(message) else {
        return Ok(());
    };
    while bytes.has_remaining() {
        let (number, wire) = decode_key(&mut bytes)?;
        let Some(nested) = fields.get(&number) else {
            return Err(Error::UnknownField {
                message: message.to_owned(),
                number,
            });
        };
        let skipped = match wire {
            WireType::Varint => {
                decode_varint(&mut bytes)?;
                continue;
            }
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => decode_varint(&mut bytes)?,
            WireType::StartGroup | WireType::EndGroup => {
                return Err(Error::Malformed(format!("field {number} is a group")));
            }
        };
        let skipped = usize::try_from(skipped)
            .ok()
            .filter(|n| *n <= bytes.remaining())
            .ok_or_else(|| Error::Malformed(format!("field {number} is cut short")))?;
        let value = bytes.split_to(skipped);
        if let (Some(nested), WireType::LengthDelimited) = (nested, wire) {
            check(nested, value, depth + 1)?;
        }
    }
    Ok(())
}

/// For each message its fields' numbers, and for fields that hold a message, which one.
type Fields = BTreeMap<String, BTreeMap<u32, Option<String>>>;

static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    let set = FileDescriptorSet::decode(crate::DESCRIPTORS)
        .expect("the descriptors were written by this crate's build script");
    let mut fields = Fields::new();
    for file in &set.file {
        for message in &file.message_type {
            collect(file.package(), message, &mut fields);
        }
    }
    fields
});

fn collect(parent: &str, message: &prost_types::DescriptorProto, fields: &mut Fields) {
    let name = format!("{parent}.{}", message.name());
    for nested in &message.nested_type {
        collect(&name, nested, fields);
    }
    let of_message = message.field.iter().map(|field| {
        let number = u32::try_from(field.number()).expect("field numbers are positive");
        let nested = (field.r#type() == Type::Message)
            .then(|| field.type_name().trim_start_matches('.').to_owned());
        (number, nested)
    });
    fields.insert(name, of_message.collect());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Filter, ListRequest, RecallRequest};

    fn check<U: Message + Name + Default + PartialEq>(bytes: Vec<u8>) -> Result<U, String> {
        decode(Bytes::from(bytes)).map_err(|e| e.to_string())
    }

    #[test]
    fn a_known_message_passes_whole() {
        let request = RecallRequest {
            query: "why".into(),
            vector: vec![0.5; 3],
            filter: Some(Filter {
                metadata: [("a".to_owned(), "b".to_owned())].into(),
                since: Some(prost_types::Timestamp {
                    seconds: 5,
                    nanos: 1,
                }),
                ..Filter::default()
            }),
            ..RecallRequest::default()
        };
        assert_eq!(check::<RecallRequest>(request.encode_to_vec()), Ok(request));
    }

    #[test]
    fn an_unknown_field_is_refused_at_any_depth() {
        let unknown = [0xa8, 0x46, 1]; // field 1125, varint 1
        let error = check::<ListRequest>(unknown.to_vec()).unwrap_err();
        assert!(
            error.starts_with("unknown field 1125 in memorygate.v1.ListRequest"),
            "{error}"
        );
        let mut nested = vec![0x1a, 3]; // field 3: filter
        nested.extend(unknown);
        let error = check::<ListRequest>(nested).unwrap_err();
        assert!(
            error.starts_with("unknown field 1125 in memorygate.v1.Filter"),
            "{error}"
        );
    }

    #[test]
    fn what_is_not_protobuf_is_refused() {
        assert!(check::<ListRequest>(vec![0xff; 20]).is_err());
        assert!(
            check::<ListRequest>(vec![0x0a, 100])
                .unwrap_err()
                .contains("cut short")
        );
        // Invalid UTF-8 in a string field.
        assert!(
            check::<ListRequest>(vec![0x0a, 1, 0xff])
                .unwrap_err()
                .contains("UTF-8")
        );
    }
}
