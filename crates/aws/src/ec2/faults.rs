//! EC2's errors, and the dry run, which is one of them ("Error codes for the Amazon EC2 API").

use wire::Fault;

/// A value that will not do.
pub(super) fn invalid(message: impl Into<String>) -> Fault {
    Fault::new("InvalidParameterValue", message)
}

/// A parameter that is missing.
pub(super) fn missing(name: &str) -> Fault {
    Fault::new("MissingParameter", format!("The request must contain the parameter {name}"))
}

/// Parameters that exclude each other.
pub(super) fn combination(message: impl Into<String>) -> Fault {
    Fault::new("InvalidParameterCombination", message)
}

/// What depends on a resource keeps it from being deleted.
pub(super) fn dependency(message: impl Into<String>) -> Fault {
    Fault::new("DependencyViolation", message)
}

/// Refuses a parameter that was given although it is not supported.
pub(super) fn refuse<T>(given: &Option<T>, name: &str) -> Result<(), Fault> {
    match given {
        None => Ok(()),
        Some(_) => Err(unsupported(name)),
    }
}

/// Refuses a switch that was turned on although it is not supported.
pub(super) fn refuse_on(given: Option<bool>, name: &str) -> Result<(), Fault> {
    if given == Some(true) { Err(unsupported(name)) } else { Ok(()) }
}

/// A parameter that is not supported.
pub(super) fn unsupported(name: &str) -> Fault {
    Fault::new("UnsupportedOperation", format!("The parameter {name} is not supported."))
}

/// Ends a handler: a dry run that got this far would have succeeded. What a refused call wrote is dropped.
pub(super) fn unless_dry<T>(dry_run: Option<bool>, answer: T) -> Result<T, Fault> {
    if dry_run == Some(true) {
        let message = "Request would have succeeded, but DryRun flag is set.";
        return Err(Fault::new("DryRunOperation", message).status(412));
    }
    Ok(answer)
}
