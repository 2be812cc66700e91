//! Bugs planted into the controllers: the checker finds each, and what shows it is a few lines.

use sim::{Bug, Failure, Script, chaos, told};

/// Runs seeds until the bug shows in this way; the shrunk script.
fn found(bug: Bug, wrong: &str) -> (Script, Failure) {
    for seed in 0..300 {
        let script = chaos(seed, 60);
        if let (_, Some(failure)) = script.run(Some(bug), 1)
            && failure.wrong.iter().any(|text| text.contains(wrong))
        {
            return script.shrink(&failure, Some(bug), 1);
        }
    }
    panic!("{bug:?} was not found: {wrong}");
}

fn check(bug: Bug, lines_max: usize, wrong: &str) {
    let (script, failure) = found(bug, wrong);
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

#[test]
fn a_task_that_stands_against_its_constraints_or_strategies_is_found() {
    check(Bug::Misplace, 6, "with another of its group");
    check(Bug::Misplace, 6, "that is not one of those with");
    check(Bug::Misplace, 6, "though another was better by its strategy");
}

#[test]
fn a_capacity_provider_whose_turn_it_was_not_is_found() {
    check(Bug::OneProvider, 4, "it was the turn of");
}

#[test]
fn a_task_of_a_service_that_is_deleted_is_found() {
    check(Bug::StartDeleted, 6, "which is deleted");
}

#[test]
fn a_container_that_runs_again_against_its_policy_is_found() {
    check(Bug::RestartAlways, 8, "though its policy says it is over");
}
