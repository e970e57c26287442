//! An encoder whose buffer fits the message: prost's own lets it grow from a few KiB by doubling, and
//! copies what is there each time, which members that send each other hundreds of KiB feel.

use std::marker::PhantomData;

use prost::Message;
use tonic::{
    Status,
    codec::{BufferSettings, EncodeBuf},
};
use tonic_prost::ProstDecoder;

/// What a buffer has at first: room for most answers, of which there are thousands a second.
const BUFFER_BYTES: usize = 512;

/// Small messages of a stream are sent together up to so many bytes.
const TOGETHER_BYTES: usize = 32 * 1024;

/// Encodes into a buffer that fits, and decodes as prost does.
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
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Encoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        Encoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::default())
    }
}

/// Makes room for the whole message before it writes.
#[derive(Debug, Clone)]
pub struct Encoder<T>(PhantomData<T>);

impl<T> Default for Encoder<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message> tonic::codec::Encoder for Encoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(message.encoded_len());
        message.encode_raw(buffer);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, TOGETHER_BYTES)
    }
}
