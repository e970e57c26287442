//! Reads JSON into a type, and names the field that is wrong.

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::error::Category;

use crate::{BODY_BYTES_MAX, Error};

pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    if body.len() > BODY_BYTES_MAX {
        return Err(Error::TooLarge { actual: body.len() });
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        match inner.classify() {
            Category::Data if path == "." => Error::field("message", inner.to_string()),
            Category::Data => Error::field(path, inner.to_string()),
            Category::Syntax | Category::Eof | Category::Io => Error::NotJson {
                reason: inner.to_string(),
            },
        }
    })?;
    reader.end().map_err(|error| Error::NotJson {
        reason: error.to_string(),
    })?;
    Ok(value)
}

/// `null` where a value has a default: some senders write it for what is empty.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A number or a text, as the text: ids are one with some systems and the other with others.
pub(crate) fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a number or a text")]
    enum Id {
        Number(u64),
        Text(String),
    }
    Ok(match Id::deserialize(deserializer)? {
        Id::Number(number) => number.to_string(),
        Id::Text(text) => text,
    })
}
