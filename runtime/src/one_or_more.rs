//! A setting that is one text, or a list of texts: written as it was meant, `"a"` or `["a", "b"]`.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OneOrMore(pub Vec<String>);

impl Serialize for OneOrMore {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [one] => serializer.serialize_str(one),
            more => more.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for OneOrMore {
    fn schema_name() -> Cow<'static, str> {
        "OneOrMore".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "array"], "items": { "type": "string" } })
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = OneOrMore;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMore, E> {
        Ok(OneOrMore(vec![text.to_owned()]))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<OneOrMore, A::Error> {
        Vec::deserialize(de::value::SeqAccessDeserializer::new(list)).map(OneOrMore)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_stays_one_and_more_stay_a_list() {
        for (written, texts) in [(json!("a"), &["a"][..]), (json!(["a", "b"]), &["a", "b"]), (json!([]), &[])] {
            let read: OneOrMore = serde_json::from_value(written.clone()).unwrap();
            assert_eq!(read.0, texts);
            assert_eq!(serde_json::to_value(read).unwrap(), written);
        }
        let error = serde_json::from_value::<OneOrMore>(json!(7)).unwrap_err().to_string();
        assert!(error.contains("a text or a list of texts"), "{error}");
    }
}
