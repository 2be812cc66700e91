//! SPECIFICATION.md names the test that keeps each promise, and the list of cut points what can be cut: both are true.

use std::path::Path;

/// A test as SPECIFICATION.md names it: file and function, between backticks.
fn named_tests(specification: &str) -> Vec<(String, String)> {
    let spans = specification.split('`').skip(1).step_by(2);
    let named = spans.filter_map(|span| span.split_once("::"));
    let named = named.filter(|(file, _)| file.ends_with(".py") || file.ends_with(".rs"));
    named.map(|(file, test)| (file.to_owned(), test.to_owned())).collect()
}

/// Whether a source defines a test of this name.
fn defines(source: &str, file: &str, test: &str) -> bool {
    let keyword = if file.ends_with(".py") { "def" } else { "fn" };
    source.lines().any(|line| {
        let line = line.trim_start().trim_start_matches("async ");
        line.strip_prefix(keyword)
            .and_then(|rest| rest.trim_start().strip_prefix(test))
            .is_some_and(|rest| rest.starts_with('('))
    })
}

/// Promises of SPECIFICATION.md whose test is not there, and rows that name none.
///
/// # Errors
/// When it cannot be read.
pub fn kept(root: &Path) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(root.join("SPECIFICATION.md"))
        .map_err(|error| format!("SPECIFICATION.md: {error}"))?;
    let mut found = Vec::new();
    for (file, test) in named_tests(&text) {
        let source = std::fs::read_to_string(root.join(&file)).unwrap_or_default();
        if !defines(&source, &file, &test) {
            found.push(format!("SPECIFICATION.md: there is no test {test} in {file}"));
        }
    }
    // A row is | promise | fault | test |; those of headings and rulers are none.
    let rows =
        text.lines().enumerate().filter(|(_, line)| line.starts_with("| ") && !line.starts_with("| Promise"));
    let without = rows.filter(|(_, line)| named_tests(line).is_empty());
    found.extend(without.map(|(at, _)| format!("SPECIFICATION.md line {}: no test keeps this", at + 1)));
    Ok(found)
}

/// Cut points that stand in the list and not, or more than once, in the sources.
pub fn uncut(points: &[(&str, &str)], sources: &[(String, String)]) -> Vec<String> {
    let marks = |name: &str| {
        let mark = format!("cut!(\"{name}\")");
        let outside = sources.iter().filter(|(path, _)| !path.starts_with("crates/cut/"));
        outside.map(|(_, text)| text.matches(&mark).count()).sum::<usize>()
    };
    let wrong = points.iter().map(|(name, _)| (name, marks(name))).filter(|(_, count)| *count != 1);
    wrong.map(|(name, count)| format!("the cut point {name} is marked {count} times")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_by_file_and_name() {
        let text = "| a | b | `tests/x.py::test_a`, `crates/y/tests/z.rs::keeps` |\n`agent::Agent` is none\n";
        let named = named_tests(text);
        assert_eq!(
            named,
            [
                ("tests/x.py".to_owned(), "test_a".to_owned()),
                ("crates/y/tests/z.rs".to_owned(), "keeps".to_owned())
            ]
        );
        assert!(defines("def test_a(server):\n", "x.py", "test_a"));
        assert!(!defines("def test_ab(server):\n# test_a(\n", "x.py", "test_a"));
        assert!(defines("    async fn keeps() {\n", "z.rs", "keeps"));
    }

    #[test]
    fn each_point_is_marked_once() {
        let sources = [
            ("crates/cut/src/lib.rs".to_owned(), "cut!(\"a\")".to_owned()),
            ("crates/store/src/lib.rs".to_owned(), "cut!(\"b\"); cut::cut!(\"b\"); cut!(\"c\")".to_owned()),
        ];
        let found = uncut(&[("a", ""), ("b", ""), ("c", "")], &sources);
        assert_eq!(found, ["the cut point a is marked 0 times", "the cut point b is marked 2 times"]);
    }
}
