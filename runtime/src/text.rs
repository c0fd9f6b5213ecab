//! Durations and sizes as people write them in settings: `"5s"`, `"1h 30m"`, `"64MiB"`.
//!
//! A bare number is refused, because its unit would be a guess.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const SIZE_UNITS: [(&str, u64); 5] =
    [("PiB", 1 << 50), ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// A duration, as text a number and a unit: `"500ms"`, `"5s"`, `"1h 30m"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// A number of bytes, as text a number and a unit: `"512B"`, `"64MiB"`, `"1.5GiB"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// The text is not a duration.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("`{text}` is not a duration: write a number and a unit, such as \"500ms\", \"5s\" or \"1h 30m\"")]
pub struct ParseSpanError {
    text: String,
    source: humantime::DurationError,
}

/// The text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a size: write a number and a unit, such as \"512B\", \"64KiB\" or \"1GiB\"")]
pub struct ParseSizeError {
    text: String,
}

impl Span {
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }
}

impl Size {
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }
}

impl FromStr for Span {
    type Err = ParseSpanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match humantime::parse_duration(text) {
            Ok(span) => Ok(Self(span)),
            Err(source) => Err(ParseSpanError { text: text.to_owned(), source }),
        }
    }
}

impl FromStr for Size {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseSizeError { text: text.to_owned() };
        if text.trim_end().ends_with(|c: char| c.is_ascii_digit()) {
            return Err(error());
        }
        text.parse::<bytesize::ByteSize>().map(|size| Self(size.as_u64())).map_err(|_| error())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl fmt::Display for Size {
    /// In the largest unit that divides it, so that the text says exactly what the value is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = SIZE_UNITS.iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        match unit {
            Some((name, bytes)) => write!(f, "{}{name}", self.0 / bytes),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_str(Text::<Self> { expected: "a duration as text, such as \"5s\"", of: Default::default() })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_str(Text::<Self> { expected: "a size as text, such as \"64MiB\"", of: Default::default() })
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "duration", "examples": ["5s"] })
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "size", "examples": ["64MiB"] })
    }
}

struct Text<T> {
    expected: &'static str,
    of: std::marker::PhantomData<T>,
}

impl<T: FromStr<Err: fmt::Display>> de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_survive_a_round_trip_as_text() {
        for text in ["0s", "500ms", "5s", "1m 30s", "7days"] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string(), text);
            assert_eq!(serde_json::from_value::<Span>(serde_json::to_value(span).unwrap()).unwrap(), span);
        }
    }

    #[test]
    fn sizes_survive_a_round_trip_as_text() {
        for (text, bytes) in
            [("0B", 0), ("512B", 512), ("1KiB", 1 << 10), ("64MiB", 64 << 20), ("3GiB", 3 << 30), ("1025B", 1025)]
        {
            let size: Size = text.parse().unwrap();
            assert_eq!(size.0, bytes);
            assert_eq!(size.to_string(), text);
            assert_eq!(serde_json::from_value::<Size>(serde_json::to_value(size).unwrap()).unwrap(), size);
        }
        assert_eq!("1.5GiB".parse::<Size>().unwrap(), Size::mib(1536));
        assert_eq!("64 MB".parse::<Size>().unwrap(), Size(64_000_000));
    }

    #[test]
    fn a_number_without_a_unit_is_refused_with_an_example() {
        assert!("5".parse::<Span>().unwrap_err().to_string().contains("such as \"500ms\""));
        assert!("64".parse::<Size>().unwrap_err().to_string().contains("such as \"512B\""));
        assert!(serde_json::from_str::<Span>("5").unwrap_err().to_string().contains("a duration as text"));
        assert!(serde_json::from_str::<Size>("5").unwrap_err().to_string().contains("a size as text"));
    }

    #[test]
    fn nonsense_is_refused_and_named() {
        for text in ["", "fast", "5 parsecs", "-5s"] {
            assert!(text.parse::<Span>().unwrap_err().to_string().contains(&format!("`{text}`")), "{text}");
        }
        for text in ["", "big", "5 parsecs", "-5MiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
