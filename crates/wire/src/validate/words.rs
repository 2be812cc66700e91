//! How AWS words what is wrong with an input.

use super::{Bound, Constraint, Violation};
use crate::model::{Model, Protocol, ValidationStyle};
use crate::{Fault, Value};

/// The fault for a request that has violations.
pub(super) fn fault(model: &Model, first: &Violation, all: &[Violation]) -> Fault {
    let default = match model.protocols[0] {
        Protocol::Query => "ValidationError",
        _ => "ValidationException",
    };
    let code = model.quirks.validation_code.as_deref().unwrap_or(default);
    match model.quirks.validation_style {
        ValidationStyle::Coral => Fault::new(code, coral(all)),
        ValidationStyle::Ecr => {
            let one = |v: &Violation| {
                let must = match &v.constraint {
                    Constraint::Pattern(text) => format!("must satisfy regular expression '{text}'"),
                    other => constraint(other).replacen("Member must", "must", 1),
                };
                format!("Invalid parameter at '{}' failed to satisfy constraint: '{must}'", v.path)
            };
            Fault::new(code, all.iter().map(one).collect::<Vec<_>>().join("; "))
        }
        ValidationStyle::Ec2 => ec2(first),
    }
}

fn coral(all: &[Violation]) -> String {
    let one = |v: &Violation| {
        let value = match (&v.constraint, &v.value) {
            (Constraint::NotNull, _) => " null".to_string(),
            (_, Some(value)) => format!(" '{value}'"),
            (_, None) => String::new(),
        };
        format!("Value{value} at '{}' failed to satisfy constraint: {}", v.path, constraint(&v.constraint))
    };
    let errors = if all.len() == 1 { "error" } else { "errors" };
    let list = all.iter().map(one).collect::<Vec<_>>().join("; ");
    format!("{} validation {errors} detected: {list}", all.len())
}

fn ec2(v: &Violation) -> Fault {
    let value = v.value.as_deref().unwrap_or_default();
    match &v.constraint {
        Constraint::NotNull => {
            Fault::new("MissingParameter", format!("The request must contain the parameter {}", v.path))
        }
        Constraint::Range(bound) => {
            let (word, limit) = match bound {
                Bound::AtLeast(limit) => ("greater", limit),
                Bound::AtMost(limit) => ("less", limit),
            };
            let message = format!(
                "Value ( {value} ) for parameter {} is invalid. Expecting a value {word} than or equal to {limit}.",
                v.path
            );
            Fault::new("InvalidParameterValue", message)
        }
        _ => Fault::new(
            "InvalidParameterValue",
            format!("Value ({value}) for parameter {} is invalid.", v.path),
        ),
    }
}

fn constraint(constraint: &Constraint) -> String {
    match constraint {
        Constraint::NotNull => "Member must not be null".to_string(),
        Constraint::Length(bound) => format!("Member must have length {}", limit(bound)),
        Constraint::Range(bound) => format!("Member must have value {}", limit(bound)),
        Constraint::Pattern(text) => format!("Member must satisfy regular expression pattern: {text}"),
        Constraint::Enum(values) => format!("Member must satisfy enum value set: [{}]", values.join(", ")),
        Constraint::Entries(all) => format!("Member must satisfy constraint: [{}]", list(all)),
        Constraint::Keys(all) => format!("Map keys must satisfy constraint: [{}]", list(all)),
        Constraint::Values(all) => format!("Map value must satisfy constraint: [{}]", list(all)),
    }
}

fn list(all: &[Constraint]) -> String {
    all.iter().map(constraint).collect::<Vec<_>>().join(", ")
}

fn limit(bound: &Bound) -> String {
    match bound {
        Bound::AtLeast(limit) => format!("greater than or equal to {limit}"),
        Bound::AtMost(limit) => format!("less than or equal to {limit}"),
    }
}

/// A value as AWS prints it: Java's lists and maps; nothing for what holds structures.
pub(super) fn print(value: &Value) -> Option<String> {
    Some(match value {
        Value::Str(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::List(items) => {
            let items: Option<Vec<String>> = items.iter().map(print).collect();
            format!("[{}]", items?.join(", "))
        }
        Value::Map(entries) => {
            let one = |(key, item): &(String, Value)| Some(format!("{key}={}", print(item)?));
            let entries: Option<Vec<String>> = entries.iter().map(one).collect();
            format!("{{{}}}", entries?.join(", "))
        }
        _ => return None,
    })
}
