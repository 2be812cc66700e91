//! `awslogs-datetime-format`: a strftime format that begins each event, as a regular expression.

use wire::Fault;

use crate::ecs::faults::client;

/// The regular expression of a format ("awslogs-datetime-format", Docker's awslogs driver).
pub fn of_datetime_format(format: &str) -> Result<String, Fault> {
    let mut pattern = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            if !c.is_ascii_alphanumeric() && !c.is_whitespace() && c.is_ascii() {
                pattern.push('\\');
            }
            pattern.push(c);
            continue;
        }
        let verb = rest.next();
        match verb.and_then(expression) {
            Some(expression) => pattern.push_str(expression),
            None => {
                let verb = verb.map(String::from).unwrap_or_default();
                return Err(client(format!(
                    "Invalid value '{format}' for log option awslogs-datetime-format: %{verb}"
                )));
            }
        }
    }
    Ok(pattern)
}

/// What one verb matches.
fn expression(verb: char) -> Option<&'static str> {
    Some(match verb {
        'A' => "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)",
        'a' => "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)",
        'B' => "(?:January|February|March|April|May|June|July|August|September|October|November|December)",
        'b' | 'h' => "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)",
        'd' => r"(?:0[1-9]|[12][0-9]|3[01])",
        'f' => r"\d{1,9}",
        'H' => r"(?:[01][0-9]|2[0-3])",
        'I' => r"(?:0[1-9]|1[0-2])",
        'j' => r"(?:00[1-9]|0[1-9][0-9]|[12][0-9][0-9]|3[0-5][0-9]|36[0-6])",
        'L' => r"\.\d{3}",
        'M' | 'S' => r"[0-5][0-9]",
        'm' => r"(?:0[1-9]|1[0-2])",
        'p' => "[AP]M",
        'w' => "[0-6]",
        'Y' => r"\d{4}",
        'y' => r"\d{2}",
        'Z' => "[A-Z]{1,4}T",
        'z' => r"[+-]\d{4}",
        '%' => "%",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::of_datetime_format;

    #[test]
    fn formats_become_expressions() {
        assert_eq!(
            of_datetime_format("[%b %d]").unwrap(),
            format!("\\[{}{}", &of_datetime_format("%b %d").unwrap(), "\\]")
        );
        assert_eq!(of_datetime_format("%Y-%m").unwrap(), r"\d{4}\-(?:0[1-9]|1[0-2])");
        for bad in ["%Q", "%"] {
            assert!(of_datetime_format(bad).unwrap_err().message.contains("awslogs-datetime-format"));
        }
    }
}
