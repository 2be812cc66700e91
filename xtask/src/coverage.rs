//! `cargo xtask coverage [--check]`: writes COVERAGE.md from the models, the tables of operations and the notes in
//! `coverage_notes.md`.

use std::fmt::Write as _;
use std::path::PathBuf;

/// What people write: an introduction, then a section of known limits for each service.
const NOTES: &str = include_str!("coverage_notes.md");

/// A section of the notes: the service, the text.
type Section = (&'static str, &'static str);

/// Writes COVERAGE.md, or with `--check` fails if it is not up to date.
pub fn run(args: &[String]) -> Result<(), String> {
    let path = path();
    let text = text()?;
    match args {
        [] => std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display())),
        [flag] if flag == "--check" => check(&text),
        _ => Err("usage: cargo xtask coverage [--check]".into()),
    }
}

fn path() -> PathBuf {
    crate::codegen::root().join("COVERAGE.md")
}

fn check(text: &str) -> Result<(), String> {
    let written = std::fs::read_to_string(path()).unwrap_or_default();
    if written == text {
        Ok(())
    } else {
        Err("COVERAGE.md is not up to date: run `cargo xtask coverage`".into())
    }
}

/// The page.
fn text() -> Result<String, String> {
    let (introduction, limits) = notes()?;
    let mut page = format!("{}\n\n", introduction.trim());
    page += "| service | operations that work | of all that AWS has |\n|---|--:|--:|\n";
    let mut sections = String::new();
    for service in aws::SERVICES {
        let model = wire::model(service.name).ok_or_else(|| format!("{} has no model", service.name))?;
        let mut names: Vec<&str> = model.operations.keys().map(String::as_str).collect();
        names.sort_unstable();
        let works = |name: &str| aws::find(service.name, name).is_some();
        let served = names.iter().filter(|name| works(name)).count();
        if served != service.operations.len() {
            return Err(format!("{} serves an operation that its model does not have", service.name));
        }
        let limits = limits.iter().find(|(name, _)| *name == service.name);
        let (_, limits) =
            limits.ok_or_else(|| format!("coverage_notes.md has no section {}", service.name))?;
        writeln!(page, "| [{0}](#{0}) | {served} | {1} |", service.name, names.len()).expect("a string");
        writeln!(sections, "\n## {}\n\n{}\n\n| operation | |\n|---|---|", service.name, limits.trim())
            .expect("a string");
        for name in names {
            let word = if works(name) { "works" } else { "refused" };
            writeln!(sections, "| {name} | {word} |").expect("a string");
        }
    }
    Ok(page + &sections)
}

/// The introduction, and the text of each section by its service.
fn notes() -> Result<(&'static str, Vec<Section>), String> {
    let mut parts = NOTES.split("\n## ");
    let introduction = parts.next().unwrap_or_default();
    let sections: Vec<_> = parts.map(|part| part.split_once('\n').unwrap_or((part, ""))).collect();
    match sections.iter().find(|(name, _)| !aws::SERVICES.iter().any(|service| service.name == *name)) {
        Some((name, _)) => Err(format!("coverage_notes.md has a section {name}, which is no service")),
        None => Ok((introduction, sections)),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn coverage_is_up_to_date() {
        super::check(&super::text().unwrap()).unwrap();
    }
}
