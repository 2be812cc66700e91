//! The errors of ECS that several operations share, in its own words.

use wire::Fault;

/// A `ClientException`.
pub fn client(message: impl Into<String>) -> Fault {
    Fault::new("ClientException", message)
}

/// An `InvalidParameterException`.
pub fn invalid(message: impl Into<String>) -> Fault {
    Fault::new("InvalidParameterException", message)
}

/// A member or value that Roadstead does not have: refused by its name, never ignored.
pub fn unsupported(what: &str) -> Fault {
    client(format!("{what} is not supported."))
}

/// Refuses a member that was given.
pub fn refuse<T>(what: &str, given: &Option<T>) -> Result<(), Fault> {
    if given.is_some() { Err(unsupported(what)) } else { Ok(()) }
}

/// Refuses a list that was given and is not empty; an empty one says nothing.
pub fn refuse_list<T>(what: &str, given: &Option<Vec<T>>) -> Result<(), Fault> {
    if given.as_ref().is_some_and(|list| !list.is_empty()) { Err(unsupported(what)) } else { Ok(()) }
}

/// Refuses a switch that was turned on; off is how things are.
pub fn refuse_true(what: &str, given: Option<bool>) -> Result<(), Fault> {
    if given == Some(true) { Err(unsupported(what)) } else { Ok(()) }
}

/// There is no cluster of that name.
pub fn cluster_not_found() -> Fault {
    Fault::new("ClusterNotFoundException", "Cluster not found.")
}

/// There is no service of that name.
pub fn service_not_found() -> Fault {
    Fault::new("ServiceNotFoundException", "Service not found.")
}
