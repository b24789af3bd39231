//! The rules of the house that a compiler does not check: who may depend on whom, how long files and
//! functions may be, and that nothing is left out of its list.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;

/// What is longer than the house allows, with how long it is. Entries may shrink and go, never grow or come.
const EXCEPTIONS: &[(&str, usize)] = &[];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file, those of examples too. Folders of tests are left out, as test modules are: a test that tells
/// one story from beginning to end may be as long as the story. So are those of benches.
fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if path.is_dir() {
            if !["target", "tests", "benches"].contains(&&*name) && !name.starts_with('.') {
                rust_files(&path, found);
            }
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

fn is_code(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with("//")
}

/// The lines of a file without its test module, which by convention comes last.
fn without_tests(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|two| two[0].trim() == "#[cfg(test)]" && two[1].ends_with('{'));
    lines[..tests.unwrap_or(lines.len())].to_vec()
}

/// Name and length of each function. The code is formatted, so a function ends at the first closing brace
/// that stands as far in as its `fn`.
fn functions(lines: &[&str]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let Some(name) = function_name(line.trim_start()) else { continue };
        let end = format!("{}}}", " ".repeat(indent));
        let Some(length) = lines[start..].iter().position(|line| line.trim_end() == end) else { continue };
        let code = lines[start..=start + length].iter().filter(|line| is_code(line)).count();
        found.push((name, code));
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let mut rest = line;
    for prefix in ["pub(crate) ", "pub(super) ", "pub ", "const ", "async ", "extern \"C\" "] {
        rest = rest.strip_prefix(prefix).unwrap_or(rest);
    }
    let name: String =
        rest.strip_prefix("fn ")?.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect();
    // A declaration without a body, or one that ends on its own line.
    (!line.trim_end().ends_with(';') && !line.trim_end().ends_with('}')).then_some(name)
}

#[test]
fn files_and_functions_are_short() {
    let mut files = Vec::new();
    rust_files(&root(), &mut files);
    assert!(files.len() > 20, "the walk over the sources found next to nothing");
    let mut long = BTreeMap::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        let lines = without_tests(&text);
        let code = lines.iter().filter(|line| is_code(line)).count();
        if code > FILE_LINES {
            long.insert(name.clone(), code);
        }
        for (function, length) in functions(&lines) {
            if length > FUNCTION_LINES {
                long.insert(format!("{name} fn {function}"), length);
            }
        }
    }
    let allowed: BTreeMap<String, usize> =
        EXCEPTIONS.iter().map(|(name, length)| ((*name).to_owned(), *length)).collect();
    assert_eq!(long, allowed, "left: what is too long; right: the exceptions, which only shrink");
}

#[test]
fn function_lengths_are_measured() {
    let text = "impl A {\n    pub async fn b() {\n        c();\n        // no code\n    }\n}\nfn d() {}\n\
                fn e()\nwhere\n{\n}\n";
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(functions(&lines), [("b".to_owned(), 3), ("e".to_owned(), 4)]);
}

/// The dependencies on our own crates that each crate declares for its users: whether they are optional,
/// and the features they turn on.
fn declared() -> BTreeMap<String, BTreeMap<String, (bool, BTreeSet<String>)>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let ours = dependencies
                .filter(|found| text(&found["name"]).starts_with("rkube") && found["kind"].is_null())
                .map(|found| {
                    let features = found["features"].as_array().unwrap().iter().map(text).collect();
                    (text(&found["name"]), (found["optional"] == true, features))
                });
            (text(&package["name"]), ours.collect())
        })
        .collect()
}

#[test]
fn crates_depend_on_each_other_as_the_design_says() {
    let declared = declared();
    let names: BTreeSet<_> = declared.keys().map(String::as_str).collect();
    let parts = ["rkube-controllers", "rkube-net", "rkube-node", "rkube-sched"];
    let all: BTreeSet<_> = parts.iter().copied().chain(["rkube", "rkube-api", "rkube-store"]).collect();
    assert_eq!(names, all);
    assert!(declared["rkube-store"].is_empty(), "the store knows no Kubernetes");
    let api: Vec<_> = declared["rkube-api"].iter().collect();
    assert!(
        api.iter().all(|(name, (optional, _))| *name == "rkube-store" && *optional),
        "rkube-api depends on the store alone, and only under a feature: {api:?}"
    );
    for part in parts {
        for (name, (_, features)) in &declared[part] {
            assert_eq!(name, "rkube-api", "{part} depends on {name}");
            for server in ["server", "http", "crd"] {
                assert!(!features.contains(server), "{part} turns on {server} of rkube-api");
            }
        }
    }
}

#[test]
fn the_store_is_a_matter_of_the_server_feature() {
    let manifest = fs::read_to_string(root().join("rkube-api/Cargo.toml")).unwrap();
    let features = manifest.split("[features]").nth(1).unwrap().split("\n[").next().unwrap();
    for line in features.lines().filter(|line| line.contains("rkube-store")) {
        assert!(line.starts_with("server = "), "the store comes in by another feature: {line}");
    }
}

/// Folders of which every module must stand in a list: folder, file of the list, modules that are no entries.
const LISTS: &[(&str, &str, &[&str])] = &[
    ("rkube-api/src/admission", "rkube-api/src/admission/mod.rs", &["undo"]),
    ("rkube-api/src/alloc", "rkube-api/src/alloc/mod.rs", &["range", "ports", "record"]),
    // Status and scale are kinds of subresources, not handlers.
    ("rkube-api/src/subresources", "rkube-api/src/subresources/mod.rs", &["scale", "status"]),
    ("rkube-sched/src/plugins", "rkube-sched/src/plugins/mod.rs", &[]),
    ("rkube-controllers/src/identity", "rkube-controllers/src/all.rs", &[]),
    ("rkube-controllers/src/lifecycle", "rkube-controllers/src/all.rs", &[]),
    ("rkube-controllers/src/network", "rkube-controllers/src/all.rs", &[]),
    ("rkube-controllers/src/nodes", "rkube-controllers/src/all.rs", &[]),
    ("rkube-controllers/src/workloads", "rkube-controllers/src/all.rs", &["claim"]),
];

/// The lists, those of kinds too: every folder of kinds is a group.
fn lists() -> Vec<(String, &'static str, &'static [&'static str])> {
    let groups = fs::read_dir(root().join("rkube-api/src/kinds")).unwrap().map(|entry| entry.unwrap());
    let groups = groups
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        // What kinds share, and what tests all of them.
        .filter(|group| !["shared", "tests"].contains(&&**group))
        .map(|group| (format!("rkube-api/src/kinds/{group}"), "rkube-api/src/kinds/mod.rs", &[][..]));
    let named = LISTS.iter().map(|(folder, list, others)| ((*folder).to_owned(), *list, *others));
    groups.chain(named).collect()
}

#[test]
fn nothing_is_left_out_of_its_list() {
    for (folder, list, others) in lists() {
        let text = fs::read_to_string(root().join(list)).unwrap();
        let entries: String = without_tests(&text)
            .into_iter()
            .skip_while(|line| !line.contains("fn all()") && !line.contains("const ALL"))
            .take_while(|line| *line != "}" && *line != "];")
            .collect();
        let mut modules = BTreeSet::new();
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            modules.insert(name.strip_suffix(".rs").unwrap_or(&name).to_owned());
        }
        modules.remove("mod");
        assert!(!modules.is_empty(), "{folder} is empty");
        for module in modules.iter().filter(|module| !others.contains(&module.as_str())) {
            let camel: String = module.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
            assert!(
                entries.contains(&format!("{module}::")) || entries.contains(&camel),
                "{folder}/{module} is not in the list of {list}"
            );
        }
    }
}

/// One mapping of errors to what clients see.
#[test]
fn the_status_of_a_failure_is_made_in_one_place() {
    let mut files = Vec::new();
    rust_files(&root(), &mut files);
    let makes = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        without_tests(&text).iter().any(|line| is_code(line) && line.contains("status: Some(\"Failure\""))
    };
    let found: BTreeSet<_> = files.into_iter().filter(makes).collect();
    // The second one reads the answers of servers and proxies that send none.
    let known = ["rkube-api/src/error.rs", "rkube-api/src/remote/answer.rs"];
    assert_eq!(found, known.map(|path| root().join(path)).into());
}
