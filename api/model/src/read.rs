//! Reading JSON into domain types so that every wrong field is found at once.
//!
//! serde stops at the first error and knows no pointers. Here a type implements [`Parse`] over [`At`], a value with
//! its place in the document; what is wrong is noted at that place and reading goes on. A type comes out only if
//! nothing was wrong anywhere.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Map, Value};

/// One wrong field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) into the request body; empty for the body itself.
    #[schema(example = "/mtu_bytes")]
    pub pointer: String,
    /// What is wrong and what would be allowed.
    #[schema(example = "must be an integer from 576 to 9216")]
    pub detail: String,
}

/// Something that is made from JSON, or not at all.
pub trait Parse: Sized {
    /// Makes it, or notes at least one error and gives `None`.
    fn parse(at: At<'_>) -> Option<Self>;
}

/// Parses a whole document.
///
/// # Errors
/// All wrong fields, in the order of their pointers.
pub fn parse<T: Parse>(value: &Value) -> Result<T, Vec<FieldError>> {
    let errors = RefCell::new(Vec::new());
    let parsed = T::parse(At { value, pointer: String::new(), errors: &errors });
    let mut errors = errors.into_inner();
    match parsed {
        Some(parsed) if errors.is_empty() => Ok(parsed),
        _ => {
            errors.sort_by(|a, b| a.pointer.cmp(&b.pointer));
            Err(errors)
        }
    }
}

/// A value and where it stands.
#[derive(Clone)]
pub struct At<'a> {
    value: &'a Value,
    pointer: String,
    errors: &'a RefCell<Vec<FieldError>>,
}

impl<'a> At<'a> {
    /// Notes that the value is wrong.
    pub fn refuse<T>(&self, detail: impl Into<String>) -> Option<T> {
        self.errors.borrow_mut().push(FieldError { pointer: self.pointer.clone(), detail: detail.into() });
        None
    }

    /// The raw value.
    #[must_use]
    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// A string.
    #[must_use]
    pub fn string(&self) -> Option<&'a str> {
        match self.value {
            Value::String(text) => Some(text),
            other => self.refuse(format!("must be a string, not {}", kind_of(other))),
        }
    }

    /// A string that a type's `FromStr` understands.
    #[must_use]
    pub fn text<T: FromStr<Err: Display>>(&self) -> Option<T> {
        match self.string()?.parse::<T>() {
            Ok(value) => Some(value),
            Err(error) => self.refuse(error.to_string()),
        }
    }

    /// A string that is not empty, of at most `max_chars` characters, none of them a control character.
    #[must_use]
    pub fn line(&self, max_chars: usize) -> Option<String> {
        let text = self.string()?;
        if text.is_empty() || text.chars().count() > max_chars || text.chars().any(char::is_control) {
            return self.refuse(format!("must be 1 to {max_chars} characters without control characters"));
        }
        Some(text.to_owned())
    }

    /// An integer in a range. `3505.0` is an integer, as in JSON Schema.
    #[must_use]
    pub fn integer<T: TryFrom<u64> + Copy + Into<u64>>(&self, range: RangeInclusive<T>) -> Option<T> {
        let (low, high): (u64, u64) = ((*range.start()).into(), (*range.end()).into());
        self.whole_number()
            .filter(|number| (low..=high).contains(number))
            .and_then(|number| T::try_from(number).ok())
            .or_else(|| self.refuse(format!("must be an integer from {low} to {high}")))
    }

    fn whole_number(&self) -> Option<u64> {
        const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;
        let number = self.value.as_number()?;
        number.as_u64().or_else(|| {
            let float = number.as_f64()?;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole, not negative and below 2^53"
            )]
            (float.fract() == 0.0 && (0.0..EXACT_BELOW).contains(&float)).then_some(float as u64)
        })
    }

    /// A list of at most `max` values. Every wrong element is noted.
    #[must_use]
    pub fn list<T: Parse>(&self, max: usize) -> Option<Vec<T>> {
        let Value::Array(values) = self.value else {
            return self.refuse(format!("must be a list, not {}", kind_of(self.value)));
        };
        if values.len() > max {
            return self.refuse(format!("must have at most {max} elements, not {}", values.len()));
        }
        let parsed: Vec<Option<T>> =
            values.iter().enumerate().map(|(index, value)| T::parse(self.child(index, value))).collect();
        parsed.into_iter().collect()
    }

    /// A list without duplicates.
    #[must_use]
    pub fn distinct<T: Parse + PartialEq>(&self, max: usize) -> Option<Vec<T>> {
        let list: Vec<T> = self.list(max)?;
        for (index, value) in list.iter().enumerate() {
            if list[..index].contains(value) {
                return self.inside(index).refuse("stands twice in the list");
            }
        }
        Some(list)
    }

    /// A list without duplicates that is not empty.
    #[must_use]
    pub fn some_distinct<T: Parse + PartialEq>(&self, max: usize) -> Option<Vec<T>> {
        let list = self.distinct(max)?;
        if list.is_empty() { self.refuse("must have at least one element") } else { Some(list) }
    }

    /// A list that is not empty and whose elements stand in ascending order of their `sequence`. It is asked for,
    /// not sorted silently, because what is read back must be what was written.
    #[must_use]
    pub fn sequenced<T: Parse>(&self, max: usize, sequence: impl Fn(&T) -> u32) -> Option<Vec<T>> {
        let list: Vec<T> = self.list(max)?;
        if list.is_empty() {
            return self.refuse("must have at least one element");
        }
        for (index, pair) in list.windows(2).enumerate() {
            if sequence(&pair[0]) >= sequence(&pair[1]) {
                return self
                    .inside(index + 1)
                    .inside("sequence")
                    .refuse("must be larger than the one before it");
            }
        }
        Some(list)
    }

    /// An object, whose fields are taken one by one.
    #[must_use]
    pub fn object(self) -> Option<Object<'a>> {
        match self.value {
            Value::Object(map) => Some(Object { map, at: self, known: BTreeSet::new() }),
            other => self.refuse(format!("must be an object, not {}", kind_of(other))),
        }
    }

    /// The same place one step deeper, for noting an error there; its value is still this one's.
    #[must_use]
    pub fn inside(&self, token: impl Display) -> Self {
        self.child(token, self.value)
    }

    fn child(&self, token: impl Display, value: &'a Value) -> Self {
        let token = token.to_string().replace('~', "~0").replace('/', "~1");
        At { value, pointer: format!("{}/{token}", self.pointer), errors: self.errors }
    }
}

/// An object whose fields are being taken; fields that no one took are errors at [`Object::end`].
pub struct Object<'a> {
    map: &'a Map<String, Value>,
    at: At<'a>,
    known: BTreeSet<&'static str>,
}

impl<'a> Object<'a> {
    /// A field that must be there.
    pub fn required<T: Parse>(&mut self, field: &'static str) -> Option<T> {
        self.required_with(field, T::parse)
    }

    /// A field that must be there, read by `read`.
    pub fn required_with<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(At<'a>) -> Option<T>,
    ) -> Option<T> {
        self.known.insert(field);
        match self.map.get(field) {
            None => self.at.inside(field).refuse("is required"),
            Some(value) => read(self.at.child(field, value)),
        }
    }

    /// A field that may be absent or null.
    pub fn optional<T: Parse>(&mut self, field: &'static str) -> Option<T> {
        self.optional_with(field, T::parse)
    }

    /// A field that may be absent or null, read by `read`.
    pub fn optional_with<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(At<'a>) -> Option<T>,
    ) -> Option<T> {
        self.known.insert(field);
        match self.map.get(field) {
            None | Some(Value::Null) => None,
            Some(value) => read(self.at.child(field, value)),
        }
    }

    /// Where a field stands, for errors that concern several fields.
    #[must_use]
    pub fn place(&self, field: &str) -> At<'a> {
        self.at.inside(field)
    }

    /// Where the object itself stands.
    #[must_use]
    pub fn at(&self) -> &At<'a> {
        &self.at
    }

    /// Notes every field that is not known.
    pub fn end(self) {
        for field in self.map.keys().filter(|field| !self.known.contains(field.as_str())) {
            let known: Vec<&str> = self.known.iter().copied().collect();
            let _: Option<()> = self
                .at
                .inside(field)
                .refuse(format!("is not a known field; the known ones are {}", known.join(", ")));
        }
    }
}

impl Parse for bool {
    fn parse(at: At<'_>) -> Option<Self> {
        at.value().as_bool().or_else(|| at.refuse("must be true or false"))
    }
}

/// Gives a type `FromStr` based [`Parse`], `Display` based `Serialize`, and `Deserialize` by its `FromStr`.
macro_rules! as_string {
    ($type:ty) => {
        impl $crate::read::Parse for $type {
            fn parse(at: $crate::read::At<'_>) -> Option<Self> {
                at.text()
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        $crate::read::deserialize_by_parse!($type);
    };
}

/// Gives a type `Deserialize` by its [`Parse`], so that both ways in are the same.
macro_rules! deserialize_by_parse {
    ($type:ty) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = serde_json::Value::deserialize(deserializer)?;
                $crate::read::parse(&value)
                    .map_err(|errors| serde::de::Error::custom($crate::read::describe(&errors)))
            }
        }
    };
}

/// Gives a type that is written as a string its schema: description, example and pattern.
macro_rules! string_schema {
    ($type:ident, $description:literal, $example:literal, $pattern:expr) => {
        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                let pattern: Option<&str> = $pattern;
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .description(Some($description))
                    .examples([serde_json::Value::from($example)])
                    .pattern(pattern)
                    .into()
            }
        }

        impl utoipa::ToSchema for $type {}
    };
}

pub(crate) use {as_string, deserialize_by_parse, string_schema};

/// All errors on one line, for a log or a `serde` error.
#[must_use]
pub fn describe(errors: &[FieldError]) -> String {
    let lines: Vec<String> =
        errors.iter().map(|error| format!("{} {}", error.pointer, error.detail)).collect();
    lines.join("; ")
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Sample(u16);

    impl Parse for Sample {
        fn parse(at: At<'_>) -> Option<Self> {
            let mut object = at.object()?;
            let port = object.required_with("port", |at| at.integer(1..=65_535u16));
            let _flags: Option<Vec<bool>> = object.optional_with("flags", |at| at.list(3));
            object.end();
            Some(Self(port?))
        }
    }

    #[test]
    fn all_wrong_fields_are_reported_at_once() {
        let errors = parse::<Sample>(&json!({"port": 0, "flags": [true, 1, "x"], "a/b": 1})).err().unwrap();
        let pointers: Vec<&str> = errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/a~1b", "/flags/1", "/flags/2", "/port"]);
        assert!(errors[0].detail.contains("flags, port"), "{}", errors[0].detail);
        assert_eq!(errors[3].detail, "must be an integer from 1 to 65535");
    }

    #[test]
    fn a_whole_float_is_an_integer_and_null_is_absent() {
        assert_eq!(parse::<Sample>(&json!({"port": 3505.0, "flags": null})).unwrap().0, 3505);
        assert!(parse::<Sample>(&json!({"port": 3505.5})).is_err());
        assert!(parse::<Sample>(&json!({"port": -1})).is_err());
        assert!(parse::<Sample>(&json!({"port": null})).is_err());
    }

    #[test]
    fn a_body_that_is_no_object_is_refused_at_the_root() {
        let errors = parse::<Sample>(&json!([1])).err().unwrap();
        assert_eq!(errors[0].pointer, "");
        assert_eq!(errors[0].detail, "must be an object, not a list");
    }
}
