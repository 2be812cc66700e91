//! `cargo xtask codegen`: prunes botocore's service models to what the project needs (`models/<service>.json`)
//! and writes the typed shapes of each service (`crates/wire/src/shapes/<service>.rs`).

mod prune;
mod shapes;

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One service of `models/operations.txt`.
pub struct Service {
    /// botocore's folder name, which is also our module name.
    pub name: String,
    /// The API version, botocore's second folder name.
    pub version: String,
    /// The operations kept in full.
    pub operations: BTreeSet<String>,
}

/// Regenerates everything. `--botocore DIR` names the folder of an installed botocore package; without it the one that
/// `python3` imports is used. `--shapes` regenerates the shapes and quirks alone, from the committed models.
pub fn run(args: &[String]) -> Result<(), String> {
    let root = root();
    let services = operations(&read(&root.join("models/operations.txt"))?)?;
    let quirks = quirks(&root)?;
    let shapes_only = args.iter().any(|arg| arg == "--shapes");
    let botocore = if shapes_only { None } else { Some(botocore(&root, args)?) };
    let mut models = BTreeMap::new();
    for service in &services {
        let path = root.join(format!("models/{}.json", service.name));
        let mut model = match &botocore {
            Some(dir) => prune::prune(&full_model(dir, service)?, service)?,
            None => parse(&read(&path)?)?,
        };
        set_quirks(&mut model, &quirks, &service.name);
        write(&path, &prune::to_text(&model))?;
        let shapes = root.join(format!("crates/wire/src/shapes/{}.rs", service.name));
        write(&shapes, &shapes::generate(service, &model)?)?;
        models.insert(service.name.clone(), model);
    }
    let module = root.join("crates/wire/src/shapes/mod.rs");
    write(&module, &shapes::module(&models))
}

/// The workspace's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the workspace").to_path_buf()
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(()); // An untouched file is not rebuilt.
    }
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|e| e.to_string())
}

/// Reads `models/operations.txt`: an unindented line is a service and its version, an indented one its operations.
pub fn operations(text: &str) -> Result<Vec<Service>, String> {
    let mut services: Vec<Service> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with(' ') {
            let service = services.last_mut().ok_or("operations.txt: an operation before any service")?;
            service.operations.extend(words.map(str::to_string));
        } else {
            let (Some(name), Some(version)) = (words.next(), words.next()) else {
                return Err(format!("operations.txt: {line:?} is no service and version"));
            };
            services.push(Service {
                name: name.to_string(),
                version: version.to_string(),
                operations: BTreeSet::new(),
            });
        }
    }
    Ok(services)
}

fn quirks(root: &Path) -> Result<Map<String, Value>, String> {
    let text = read(&root.join("models/quirks.toml"))?;
    toml::from_str(&text).map_err(|e| format!("quirks.toml: {e}"))
}

fn set_quirks(model: &mut Value, quirks: &Map<String, Value>, service: &str) {
    let own = quirks.get(service).cloned().unwrap_or_else(|| Value::Object(Map::new()));
    model["quirks"] = own;
}

/// The botocore package's folder, checked against the version that models/README.md pins.
fn botocore(root: &Path, args: &[String]) -> Result<PathBuf, String> {
    let given = args.iter().position(|arg| arg == "--botocore").map(|at| args.get(at + 1));
    let dir = match given {
        Some(Some(dir)) => PathBuf::from(dir),
        Some(None) => return Err("--botocore needs a folder".to_string()),
        None => installed_botocore()?,
    };
    let readme = read(&root.join("models/README.md"))?;
    let pinned = readme.lines().find_map(|line| line.trim().strip_prefix("botocore "));
    let pinned = pinned.ok_or("models/README.md pins no botocore version")?;
    let init = read(&dir.join("__init__.py"))?;
    let found = init.lines().find_map(|line| line.strip_prefix("__version__ = "));
    let found = found.unwrap_or_default().trim_matches(['\'', '"']);
    if found != pinned {
        return Err(format!("botocore is {found}, models/README.md pins {pinned}"));
    }
    Ok(dir)
}

fn installed_botocore() -> Result<PathBuf, String> {
    let script = "import botocore, os; print(os.path.dirname(botocore.__file__))";
    let out = Command::new("python3").args(["-c", script]).output().map_err(|e| format!("python3: {e}"))?;
    if !out.status.success() {
        return Err("python3 finds no botocore: install it or give --botocore DIR".to_string());
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&out.stdout).trim()))
}

fn full_model(botocore: &Path, service: &Service) -> Result<Value, String> {
    let path = botocore.join(format!("data/{}/{}/service-2.json.gz", service.name, service.version));
    let file = std::fs::File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).map_err(|e| e.to_string())?;
    parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The committed shapes and quirks are what the committed models and lists give.
    #[test]
    fn generated_files_are_up_to_date() {
        let root = root();
        let services = operations(&read(&root.join("models/operations.txt")).unwrap()).unwrap();
        let quirks = quirks(&root).unwrap();
        let mut models = BTreeMap::new();
        for service in &services {
            let text = read(&root.join(format!("models/{}.json", service.name))).unwrap();
            let mut model = parse(&text).unwrap();
            set_quirks(&mut model, &quirks, &service.name);
            let again = prune::prune(&model, service).unwrap();
            assert!(prune::to_text(&again) == text, "models/{}.json: run cargo xtask codegen", service.name);
            let shapes = read(&root.join(format!("crates/wire/src/shapes/{}.rs", service.name))).unwrap();
            let wanted = shapes::generate(service, &model).unwrap();
            assert!(wanted == shapes, "shapes/{}.rs: run cargo xtask codegen", service.name);
            models.insert(service.name.clone(), model);
        }
        let module = read(&root.join("crates/wire/src/shapes/mod.rs")).unwrap();
        assert_eq!(shapes::module(&models), module);
    }

    /// Where the pinned botocore is installed, the committed models are its.
    #[test]
    fn models_are_the_pinned_botocores() {
        let root = root();
        let Ok(dir) = botocore(&root, &[]) else {
            eprintln!("skipped: the pinned botocore is not installed");
            return;
        };
        let services = operations(&read(&root.join("models/operations.txt")).unwrap()).unwrap();
        let quirks = quirks(&root).unwrap();
        for service in &services {
            let mut model = prune::prune(&full_model(&dir, service).unwrap(), service).unwrap();
            set_quirks(&mut model, &quirks, &service.name);
            let text = read(&root.join(format!("models/{}.json", service.name))).unwrap();
            assert!(prune::to_text(&model) == text, "models/{}.json is stale", service.name);
        }
    }
}
