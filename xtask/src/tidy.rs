//! `cargo xtask tidy`: the invariants of ARCHITECTURE.md that can be read off the sources.

use std::path::{Path, PathBuf};

mod promises;

/// Which of our crates a crate may depend on (tests aside).
const ARROWS: &[(&str, &[&str])] = &[
    ("cut", &[]),
    ("wire", &[]),
    ("store", &["cut"]),
    ("state", &["store"]),
    ("plan", &["state"]),
    ("aws", &["wire", "plan", "state"]),
    ("registry", &["state", "store", "cut"]),
    ("balancer", &[]),
    ("agent", &["state", "cut"]),
    // Calls go through the table of operations, whose input and output are `wire`'s values.
    ("sim", &["wire", "state", "plan", "aws", "agent", "balancer"]),
    ("roadstead", &["wire", "store", "state", "plan", "aws", "registry", "balancer", "agent", "cut"]),
];

/// Crates that decide: they name no runtime, clock, randomness, file or socket.
const PURE: &[&str] = &["plan", "state", "aws"];

/// What deciding code may not name.
const IMPURE: &[&str] = &[
    "tokio",
    "SystemTime",
    "Instant::",
    "std::time::Instant",
    "rand::",
    "getrandom",
    "std::fs",
    "std::process",
    "std::thread",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
];

/// Lines in a file, generated ones aside: a longer one holds a second idea.
const LINES_MAX: usize = 650;

/// Lines in a function, tests aside; around 70 is where one should be two.
const FUNCTION_LINES_MAX: usize = 90;

/// Fails with everything that is not tidy.
pub fn run(args: &[String]) -> Result<(), String> {
    if !args.is_empty() {
        return Err("usage: cargo xtask tidy".into());
    }
    let mut found = arrows()?;
    let root = crate::codegen::root();
    let mut read = Vec::new();
    for path in sources(&root)? {
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let name = path.strip_prefix(&root).unwrap_or(&path).to_string_lossy().into_owned();
        found.extend(file(&name, &text).into_iter().map(|what| format!("{name}: {what}")));
        read.push((name, text));
    }
    found.extend(promises::uncut(cut::POINTS, &read));
    found.extend(promises::kept(&root)?);
    if found.is_empty() { Ok(()) } else { Err(format!("not tidy:\n{}", found.join("\n"))) }
}

/// Dependencies between crates that are not in [`ARROWS`].
fn arrows() -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let crates = crate::codegen::root().join("crates");
    for entry in std::fs::read_dir(&crates).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        let manifest = path.join("Cargo.toml");
        let text =
            std::fs::read_to_string(&manifest).map_err(|error| format!("{}: {error}", manifest.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        found.extend(arrows_of(&name, &text)?);
    }
    Ok(found)
}

fn arrows_of(name: &str, manifest: &str) -> Result<Vec<String>, String> {
    let parsed: toml::Table = manifest.parse().map_err(|error| format!("{name}: {error}"))?;
    let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
        return Ok(vec![format!("crates/{name}: say in xtask/src/tidy.rs what it may depend on")]);
    };
    let of =
        |key: &str| parsed.get(key).and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys);
    let ours = |name: &&String| ARROWS.iter().any(|(known, _)| known == name);
    let wrong = of("dependencies").chain(of("build-dependencies")).filter(ours);
    let wrong = wrong.filter(|dependency| !allowed.contains(&dependency.as_str()));
    Ok(wrong.map(|dependency| format!("crates/{name} may not depend on {dependency}")).collect())
}

/// All sources of the project.
fn sources(root: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let mut folders =
        ["crates", "xtask", "bench", "fuzz", "examples", "tests"].map(|name| root.join(name)).to_vec();
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        for entry in entries {
            let path = entry.map_err(|error| error.to_string())?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// What is not tidy in one file, by its path from the root.
fn file(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if !text.starts_with("//!") {
        found.push("does not begin with a //! comment that says what it is for".into());
    }
    let generated = path.starts_with("crates/wire/src/shapes/");
    let lines = text.lines().count();
    if lines > LINES_MAX && !generated {
        found.push(format!("has {lines} lines, more than {LINES_MAX}"));
    }
    if !is_test(path) {
        found.extend(long_functions(text));
    }
    for (at, line) in text.lines().enumerate() {
        for word in UNFINISHED {
            if line.contains(word) {
                found.push(format!("line {}: {word}", at + 1));
            }
        }
    }
    if decides(path) {
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (at, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default();
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                found.push(format!("line {}: deciding code names {word}", at + 1));
            }
        }
    }
    found
}

/// Functions that are too long. Sources are formatted: a function ends at a brace that stands as far in as its start.
fn long_functions(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    // Column and line of each function that has begun, and its name.
    let mut open: Vec<(usize, usize, String)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let words = code.split('(').next().unwrap_or_default();
        if words.split_whitespace().any(|word| word == "fn")
            && !code.starts_with("//")
            && !code.ends_with([';', '}'])
        {
            // Declarations without a body never end.
            open.retain(|(outer, ..)| *outer < indent);
            open.push((indent, at, words.to_owned()));
        } else if code == "}"
            && let Some((_, start, name)) = open.pop_if(|(start, ..)| *start == indent)
            && at - start >= FUNCTION_LINES_MAX
        {
            found.push(format!("`{name}` has {} lines, more than {FUNCTION_LINES_MAX}", at - start + 1));
        }
    }
    found
}

/// Marks of unfinished work, written so that this file has none.
const UNFINISHED: [&str; 4] =
    [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("TO", "DO"), concat!("FIX", "ME")];

/// Whether a file holds tests, examples or benchmarks.
fn is_test(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "testing.rs" | "benches" | "examples"))
}

/// Whether a file decides: all of the pure crates, and every `decide` elsewhere. Tests may do as they like.
fn decides(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let pure = parts.first() == Some(&"crates") && parts.get(1).is_some_and(|name| PURE.contains(name));
    !is_test(path) && (pure || parts.iter().any(|part| matches!(*part, "decide" | "decide.rs")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_project_is_tidy() {
        run(&[]).unwrap();
    }

    #[test]
    fn what_is_not_tidy_is_found() {
        let good = "//! A file.\n";
        assert_eq!(file("crates/plan/src/a.rs", good), Vec::<String>::new());
        let cases = [
            ("crates/plan/src/a.rs", "fn main() {}\n".to_owned(), "does not begin"),
            ("crates/agent/src/act.rs", format!("{good}{}", "\n".repeat(LINES_MAX)), "lines, more than"),
            ("crates/agent/src/act.rs", format!("{good}fn a() {{ {}) }}\n", UNFINISHED[0]), "line 2"),
            ("crates/plan/src/a.rs", format!("{good}use std::fs;\n"), "names std::fs"),
            (
                "crates/agent/src/act.rs",
                format!("{good}fn long() {{\n{}}}\n", "    a();\n".repeat(90)),
                "has 92 lines",
            ),
            ("crates/agent/src/decide.rs", format!("{good}use tokio::sync::Notify;\n"), "names tokio"),
            (
                "crates/agent/src/decide/order.rs",
                format!("{good}let now = Instant::now();\n"),
                "names Instant::",
            ),
        ];
        for (path, text, expected) in cases {
            let found = file(path, &text);
            assert!(found.len() == 1 && found[0].contains(expected), "{path}: {found:?}");
        }
        let short = format!("{good}fn a() {{\n    fn b() {{\n    }}\n{}}}\n", "    a();\n".repeat(80));
        assert_eq!(file("crates/agent/src/act.rs", &short), Vec::<String>::new());
        for path in ["crates/agent/src/act.rs", "crates/plan/tests/a.rs", "crates/aws/src/ecs/tests/world.rs"]
        {
            assert_eq!(file(path, &format!("{good}use std::fs;\n")), Vec::<String>::new(), "{path}");
        }
    }

    #[test]
    fn arrows_are_kept_to() {
        let manifest =
            |dependency: &str| format!("[dependencies]\n{dependency}.workspace = true\nserde = \"1\"\n");
        assert!(arrows_of("plan", &manifest("state")).unwrap().is_empty());
        assert_eq!(arrows_of("plan", &manifest("wire")).unwrap(), ["crates/plan may not depend on wire"]);
        assert!(arrows_of("plan", "[dev-dependencies]\nwire.workspace = true\n").unwrap().is_empty());
        assert_eq!(arrows_of("other", "").unwrap().len(), 1);
    }
}
