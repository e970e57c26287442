//! JSON schemas as models read them: without references, and without saying of every field that may be
//! left out that it may be null as well.

use std::sync::Arc;

use rmcp::model::JsonObject;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

/// Of what a tool takes.
pub(crate) fn input<T: JsonSchema>() -> Arc<JsonObject> {
    schema::<T>(settings())
}

/// Of what a tool answers.
pub(crate) fn output<T: JsonSchema>() -> Arc<JsonObject> {
    schema::<T>(settings().for_serialize())
}

fn settings() -> SchemaSettings {
    SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    })
}

fn schema<T: JsonSchema>(settings: SchemaSettings) -> Arc<JsonObject> {
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut schema = schema.to_value();
    plain(&mut schema);
    let Value::Object(mut object) = schema else {
        unreachable!("the schema of a struct is an object");
    };
    // The tool has a name and a description of its own.
    object.remove("title");
    object.remove("description");
    Arc::new(object)
}

/// A field that may be left out is one that is not required; that it may be null says nothing more.
fn plain(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get("type")
                && let [one, Value::String(null)] = types.as_slice()
                && null == "null"
            {
                let one = one.clone();
                object.insert("type".to_owned(), one);
            }
            if let Some(Value::Array(any)) = object.get("anyOf")
                && let [Value::Object(one), null] = any.as_slice()
                && null["type"] == "null"
            {
                let one = one.clone();
                object.remove("anyOf");
                for (key, value) in one {
                    object.entry(key).or_insert(value);
                }
            }
            // What the type says in Rust's words means nothing to a model.
            object.remove("format");
            if object.get("default") == Some(&Value::Null) {
                object.remove("default");
            }
            for value in object.values_mut() {
                plain(value);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(plain),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
