//! No member of a request is ignored: for every operation that is served, each member of its request is named by the
//! handler's sources, or stands below with the reason why it changes nothing. (ECS has tests of the effects instead.)

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const SERVICES: [&str; 7] = ["ecr", "elbv2", "logs", "ec2", "sts", "iam", "servicediscovery"];

/// Members that change nothing: service, `Shape.member`, why.
const WITHOUT_EFFECT: &[(&str, &str, &str)] = &[
    ("ecr", "ImageTagMutabilityExclusionFilter.filter_type", "WILDCARD is the only one"),
    ("ecr", "SetRepositoryPolicyRequest.force", "no policy keeps another from being set"),
    ("ec2", "PrefixListId.prefix_list_id", "any prefix list is refused"),
    ("logs", "FilterLogEventsRequest.interleaved", "deprecated: events are always merged"),
    ("logs", "FilterLogEventsRequest.unmask", "no event is ever masked"),
    ("logs", "GetLogEventsRequest.unmask", "no event is ever masked"),
    ("logs", "PutLogEventsRequest.sequence_token", "\"The sequence token is now ignored\", API reference"),
    ("ec2", "DescribeAvailabilityZonesRequest.all_availability_zones", "no zone has to be opted in to"),
    ("ec2", "DescribeRegionsRequest.all_regions", "every region is enabled"),
    ("ec2", "DescribeInstancesRequest.include_managed_resources", "no instance is managed by a service"),
    ("ec2", "DescribeNetworkInterfacesRequest.include_managed_resources", "all are shown in any case"),
    ("iam", "ListInstanceProfilesForRoleRequest.marker", "the list is always empty"),
    ("iam", "ListInstanceProfilesForRoleRequest.max_items", "the list is always empty"),
    ("servicediscovery", "RegisterInstanceRequest.creator_request_id", "registering twice is as once"),
    ("servicediscovery", "HealthCheckCustomConfig.failure_threshold", "\"always set to 1\", API reference"),
];

/// The shapes of a service, read off the generated file: name → (field, type).
type Shapes = BTreeMap<String, Vec<(String, String)>>;

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Each operation's input shape, and all shapes.
fn model(service: &str) -> (BTreeMap<String, String>, Shapes) {
    let text = std::fs::read_to_string(crates().join(format!("wire/src/shapes/{service}.rs"))).unwrap();
    let (mut inputs, mut shapes, mut open) = (BTreeMap::new(), Shapes::new(), None);
    for line in text.lines().map(str::trim) {
        if let Some((operation, rest)) = line.strip_suffix(';').and_then(|line| line.split_once(": ")) {
            if let Some((input, _)) = rest.split_once(" => ") {
                inputs.insert(operation.to_owned(), input.to_owned());
            }
        } else if let Some(name) = line.strip_suffix(" {") {
            open = Some(name.to_owned());
            shapes.insert(name.to_owned(), Vec::new());
        } else if let (Some(name), Some(field)) = (&open, line.strip_suffix(',')) {
            let (field, kind) = field.split_once(": ").unwrap();
            let kind = kind.trim_end_matches('>').rsplit(['<', ' ']).next().unwrap();
            shapes.get_mut(name).unwrap().push((field.to_owned(), kind.to_owned()));
        }
    }
    (inputs, shapes)
}

/// The functions of a service's sources, tests aside, each from its signature to its end, without white space runs.
fn functions(service: &str) -> Vec<String> {
    let mut files = vec![crates().join(format!("aws/src/{service}"))];
    let mut functions = Vec::new();
    while let Some(path) = files.pop() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if name.ends_with(".rs") && name != "tests.rs" {
            functions.extend(functions_of(&std::fs::read_to_string(&path).unwrap()));
        }
    }
    functions
}

fn functions_of(text: &str) -> Vec<String> {
    let mut functions = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        let indent: String = line.chars().take_while(|c| *c == ' ').collect();
        let code = line.trim().split("//").next().unwrap_or_default();
        let is_start =
            ["fn ", "pub fn ", "pub(super) fn ", "pub(crate) fn "].iter().any(|s| code.starts_with(s));
        match &mut open {
            None if is_start => open = Some((format!("{indent}}}"), code.to_owned())),
            None => {}
            Some((end, so_far)) => {
                *so_far += code;
                if line == end {
                    functions.push(std::mem::take(so_far));
                    open = None;
                }
            }
        }
    }
    functions
}

/// Whether a word stands in a text after one of some beginnings, other than as `word: _`.
fn names(text: &str, before: &[&str], word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    before.iter().any(|before| {
        let sought = format!("{before}{word}");
        text.match_indices(&sought).any(|(at, _)| {
            let (left, right) = (&text[..at], &text[at + sought.len()..]);
            let begins_earlier = before.is_empty() && left.ends_with(part_of_name);
            let goes_on = right.starts_with(part_of_name) || right.starts_with(": _");
            !begins_earlier && !goes_on
        })
    })
}

/// The pattern by which a function takes a shape apart: `let shape::Request { … } = input`.
fn taken_apart<'a>(text: &'a str, shape: &str) -> &'a str {
    let pattern = text.split_once(&format!("::{shape} {{")).and_then(|(_, rest)| rest.split_once('}'));
    pattern.filter(|(_, rest)| rest.starts_with(" =")).map_or("", |(pattern, _)| pattern)
}

/// Whether a member is refused as a whole.
fn is_refused(functions: &[String], field: &str) -> bool {
    let refused = |text: &String| {
        text.match_indices(&format!(".{field}")).any(|(at, _)| {
            let subject = text[..at].trim_end_matches(|c: char| c.is_alphanumeric() || c == '_');
            subject.ends_with("refuse(&")
        })
    };
    functions.iter().any(refused)
}

/// The members of the service's served requests that no handler names.
fn unread(service: &str) -> BTreeSet<String> {
    let (inputs, shapes) = model(service);
    let functions = functions(service);
    let mut unread = BTreeSet::new();
    let mut nested: Vec<String> = Vec::new();
    let table = aws::SERVICES.iter().find(|s| s.name == service).unwrap();
    for (operation, _) in table.operations {
        let input = &inputs[*operation];
        let of_input = |text: &&String| names(text, &["::"], input);
        let handlers: Vec<&String> = functions.iter().filter(of_input).collect();
        assert!(!handlers.is_empty() || input == "()", "{service}: no function takes {input}");
        for (field, kind) in &shapes[input] {
            let is_read =
                |text: &&String| names(text, &["."], field) || names(taken_apart(text, input), &[""], field);
            if !handlers.iter().any(is_read) {
                unread.insert(format!("{input}.{field}"));
            } else if !is_refused(&functions, field) {
                nested.push(kind.clone());
            }
        }
    }
    let mut seen = BTreeSet::new();
    while let Some(shape) = nested.pop().filter(|shape| shapes.contains_key(shape)).or_else(|| nested.pop()) {
        let Some(fields) = shapes.get(&shape).filter(|_| seen.insert(shape.clone())) else { continue };
        for (field, kind) in fields {
            if !functions.iter().any(|text| names(text, &["."], field)) {
                unread.insert(format!("{shape}.{field}"));
            } else if !is_refused(&functions, field) {
                nested.push(kind.clone());
            }
        }
    }
    unread
}

#[test]
fn every_member_of_a_request_is_read_or_refused() {
    let mut wrong = Vec::new();
    for service in SERVICES {
        let allowed = WITHOUT_EFFECT.iter().filter(|(of, ..)| *of == service);
        let allowed: BTreeSet<String> = allowed.map(|(_, member, _)| (*member).to_owned()).collect();
        let unread = unread(service);
        wrong.extend(unread.difference(&allowed).map(|member| format!("{service} ignores {member}")));
        wrong.extend(
            allowed.difference(&unread).map(|member| format!("{service} reads {member}, listed above")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_ignored_member_is_found() {
    let source = "fn a(input: shape::Request) -> Out {\n    let shape::Request { one, two: _ } = input; // three\n    \
                  input.four.five;\n    Out { six: None }\n}\n";
    let text = &functions_of(source)[0];
    let read = |field: &str| names(text, &["."], field) || names(taken_apart(text, "Request"), &[""], field);
    for (field, expected) in
        [("one", true), ("two", false), ("three", false), ("four", true), ("fou", false), ("six", false)]
    {
        assert_eq!(read(field), expected, "{field}");
    }
    assert!(is_refused(&["refuse(&input.seven, \"Seven\")".into()], "seven"));
    assert!(!is_refused(&["read(&input.seven)".into()], "seven"));
}
