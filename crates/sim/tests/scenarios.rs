//! The scripts of `scenarios/`, each with all that it shows. After a change that is meant: `UPDATE=1 cargo test -p sim`.

use sim::Script;

#[test]
fn every_scenario_shows_what_is_written_down() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    names.sort();
    assert!(!names.is_empty());
    let mut other = Vec::new();
    for path in names {
        let script: Script = std::fs::read_to_string(&path).unwrap().parse().unwrap();
        let shown = script.transcript();
        let written = path.with_extension("out");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&written, &shown).unwrap();
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if shown.contains("WRONG") {
            other.push(format!("{name} breaks a promise:\n{shown}"));
        } else if std::fs::read_to_string(&written).ok().as_deref() != Some(&*shown) {
            other.push(format!("{name} shows something else now:\n{shown}"));
        }
    }
    assert!(other.is_empty(), "{}", other.join("\n"));
}
