//! Bugs planted into the controllers: the checker finds each, and what shows it is a few lines.

use sim::{Bug, Failure, Script, chaos, told};

/// Runs seeds until the bug shows; the shrunk script.
fn found(bug: Bug) -> (Script, Failure) {
    for seed in 0..50 {
        let script = chaos(seed, 60);
        if let (_, Some(failure)) = script.run(Some(bug), 1) {
            return script.shrink(&failure, Some(bug), 1);
        }
    }
    panic!("{bug:?} was not found");
}

fn check(bug: Bug, lines_max: usize, wrong: &str) {
    let (script, failure) = found(bug);
    let text = told(&script, &failure);
    println!("{bug:?}:\n{text}");
    assert!(failure.wrong.iter().any(|text| text.contains(wrong)), "{text}");
    assert!(script.ops.len() <= lines_max, "{text}");
    // The script alone shows it, and without the bug nothing is wrong.
    let again: Script = script.to_string().parse().unwrap();
    assert_eq!(again.run(Some(bug), 1).1, Some(failure), "{text}");
    assert_eq!(again.run(None, 1).1, None, "{text}");
}

#[test]
fn a_task_that_is_stopped_before_it_is_drained_is_found() {
    check(Bug::SkipDrain, 6, "while requests are sent to it");
}

#[test]
fn a_node_that_is_given_too_much_is_found() {
    check(Bug::OverPlace, 6, "more than its");
}

#[test]
fn a_task_that_is_started_twice_is_found() {
    check(Bug::RepeatTask, 4, "its maximum is");
}
