//! Filters of lists: a name, a condition and values.

use wire::Fault;

use super::invalid;

/// One filter: name, values, condition (`EQ` if absent).
pub(super) type Filter = (Option<String>, Option<Vec<String>>, Option<String>);

/// Whether an item matches all filters. `value` gives the item's value of a name; `None` = there is no such filter.
pub(super) fn matches(
    filters: &[Filter],
    value: impl Fn(&str) -> Option<Option<String>>,
) -> Result<bool, Fault> {
    for (name, values, condition) in filters {
        let name = name.as_deref().unwrap_or_default();
        let values = values.as_deref().unwrap_or_default();
        let own = value(name).ok_or_else(|| invalid(format!("Filter {name} is not supported")))?;
        let Some(own) = own else { return Ok(false) };
        let holds = match (condition.as_deref().unwrap_or("EQ"), values) {
            ("EQ", [one]) => own == *one,
            ("EQ", _) => return Err(invalid("The condition EQ takes exactly one value")),
            ("IN", any) => any.contains(&own),
            ("BEGINS_WITH", [one]) => own.starts_with(one),
            ("BETWEEN", [low, high]) => {
                let number = |text: &String| text.parse::<f64>().unwrap_or(f64::NAN);
                (number(low)..=number(high)).contains(&number(&own))
            }
            (other, _) => return Err(invalid(format!("The condition {other} does not take these values"))),
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}
