//! The value that every protocol reads into and writes from, and the traits that join it to typed shapes.

use std::collections::BTreeMap;

/// A value whose type a model's shape gives. Members of a structure stand in the model's order, absent ones as `Null`.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Value {
    /// An absent member, or a null in a sparse list or map.
    #[default]
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer or long; for a timestamp, milliseconds since the Unix epoch.
    Int(i64),
    /// A float or double.
    Float(f64),
    /// A string or enum.
    Str(String),
    /// Bytes, not base64.
    Blob(bytes::Bytes),
    /// A list.
    List(Vec<Value>),
    /// A map, in the order it was read.
    Map(Vec<(String, Value)>),
    /// A structure's or union's members, by position.
    Struct(Vec<Value>),
    /// A free-form document.
    Doc(serde_json::Value),
}

impl Value {
    /// Whether the member is absent.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The number of an integer, or the milliseconds of a timestamp.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The members of a structure, by position; empty for anything else.
    pub fn fields(&self) -> &[Value] {
        match self {
            Value::Struct(fields) => fields,
            _ => &[],
        }
    }
}

/// An operation that handlers can serve; `wire::shapes::<service>::op` has one marker type for each.
pub trait Operation {
    /// The service's module name, such as `ecs`.
    const SERVICE: &'static str;
    /// The operation's name, such as `RunTask`.
    const NAME: &'static str;
    /// The request; `()` when the operation takes nothing.
    type Input: FromValue + IntoValue;
    /// The answer; `()` when the operation gives nothing.
    type Output: FromValue + IntoValue;
}

/// Makes a typed shape from a value that was read with the same model.
///
/// Panics when the value is not of the shape's type: readers build values by the model that the shapes were generated
/// from, and a test holds the two together, so a mismatch is a fault of this crate and never of a request.
pub trait FromValue: Sized {
    /// The typed form.
    fn from_value(value: Value) -> Self;
}

/// Makes a value from a typed shape.
pub trait IntoValue {
    /// The positional form.
    fn into_value(self) -> Value;
}

#[cold]
pub(crate) fn mismatch(wanted: &str, value: &Value) -> ! {
    panic!("a value does not match its model: {value:?} is no {wanted}")
}

macro_rules! scalar {
    ($($kind:ty, $variant:ident, $name:literal;)*) => {$(
        impl FromValue for $kind {
            fn from_value(value: Value) -> Self {
                match value {
                    Value::$variant(inner) => inner,
                    other => mismatch($name, &other),
                }
            }
        }
        impl IntoValue for $kind {
            fn into_value(self) -> Value {
                Value::$variant(self)
            }
        }
    )*};
}

scalar! {
    bool, Bool, "boolean";
    i64, Int, "integer";
    String, Str, "string";
    bytes::Bytes, Blob, "blob";
    serde_json::Value, Doc, "document";
}

impl FromValue for f64 {
    fn from_value(value: Value) -> Self {
        match value {
            Value::Float(number) => number,
            Value::Int(number) => number as f64,
            other => mismatch("number", &other),
        }
    }
}

impl IntoValue for f64 {
    fn into_value(self) -> Value {
        Value::Float(self)
    }
}

impl IntoValue for &str {
    fn into_value(self) -> Value {
        Value::Str(self.to_string())
    }
}

impl IntoValue for Value {
    fn into_value(self) -> Value {
        self
    }
}

impl FromValue for Value {
    fn from_value(value: Value) -> Self {
        value
    }
}

impl FromValue for () {
    fn from_value(_: Value) -> Self {}
}

impl IntoValue for () {
    fn into_value(self) -> Value {
        Value::Null
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value) -> Self {
        if value.is_null() { None } else { Some(T::from_value(value)) }
    }
}

impl<T: IntoValue> IntoValue for Option<T> {
    fn into_value(self) -> Value {
        self.map_or(Value::Null, T::into_value)
    }
}

impl<T: FromValue> FromValue for Box<T> {
    fn from_value(value: Value) -> Self {
        Box::new(T::from_value(value))
    }
}

impl<T: IntoValue> IntoValue for Box<T> {
    fn into_value(self) -> Value {
        T::into_value(*self)
    }
}

impl<T: FromValue> FromValue for Vec<T> {
    fn from_value(value: Value) -> Self {
        match value {
            Value::List(items) => items.into_iter().map(T::from_value).collect(),
            other => mismatch("list", &other),
        }
    }
}

impl<T: IntoValue> IntoValue for Vec<T> {
    fn into_value(self) -> Value {
        Value::List(self.into_iter().map(T::into_value).collect())
    }
}

impl<T: FromValue> FromValue for BTreeMap<String, T> {
    fn from_value(value: Value) -> Self {
        match value {
            Value::Map(entries) => {
                entries.into_iter().map(|(key, value)| (key, T::from_value(value))).collect()
            }
            other => mismatch("map", &other),
        }
    }
}

impl<T: IntoValue> IntoValue for BTreeMap<String, T> {
    fn into_value(self) -> Value {
        Value::Map(self.into_iter().map(|(key, value)| (key, value.into_value())).collect())
    }
}

/// Declares structures whose members are all optional, with their conversions by position.
macro_rules! shapes {
    ($($name:ident { $($field:ident: $kind:ty,)* })*) => {$(
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $name { $(pub $field: Option<$kind>,)* }

        impl crate::FromValue for $name {
            #[allow(unused_variables, unused_mut)]
            fn from_value(value: crate::Value) -> Self {
                let crate::Value::Struct(fields) = value else {
                    crate::value::mismatch(stringify!($name), &value)
                };
                let mut fields = fields.into_iter();
                $name { $($field: crate::FromValue::from_value(fields.next().unwrap_or_default()),)* }
            }
        }

        impl crate::IntoValue for $name {
            fn into_value(self) -> crate::Value {
                crate::Value::Struct(vec![$(crate::IntoValue::into_value(self.$field),)*])
            }
        }
    )*};
}
pub(crate) use shapes;

/// An operation's name, and its input and output through their typed forms.
#[cfg(test)]
pub(crate) type RoundTrip = (&'static str, fn(Value) -> Value, fn(Value) -> Value);

/// Declares a marker type for each operation of a service.
macro_rules! operations {
    ($service:literal; $($name:ident: $input:ty => $output:ty;)*) => {$(
        #[derive(Debug, Clone, Copy)]
        pub struct $name;

        impl crate::Operation for $name {
            const SERVICE: &'static str = $service;
            const NAME: &'static str = stringify!($name);
            type Input = $input;
            type Output = $output;
        }
    )*

    /// Each operation's input and output through its typed form and back, for tests.
    #[cfg(test)]
    pub(crate) const ROUND_TRIPS: &[crate::value::RoundTrip] = &[$((
        stringify!($name),
        |value| crate::IntoValue::into_value(<$input as crate::FromValue>::from_value(value)),
        |value| crate::IntoValue::into_value(<$output as crate::FromValue>::from_value(value)),
    ),)*];
    };
}
pub(crate) use operations;
