//! What ECR answers when something is wrong, and the look-up of a repository that all operations share.

use std::sync::Arc;

use state::ecr::Repository;
use state::{Scope, Tags};
use wire::Fault;

use crate::Call;

/// `Invalid parameter at 'x' failed to satisfy constraint: 'y'`.
pub(super) fn invalid(parameter: &str, constraint: &str) -> Fault {
    let message = format!("Invalid parameter at '{parameter}' failed to satisfy constraint: '{constraint}'");
    Fault::new("InvalidParameterException", message)
}

/// ` the repository with name 'x' in the registry with id 'y'`, the end of most of ECR's messages.
pub(super) fn place(scope: &Scope, repository: &str) -> String {
    format!("the repository with name '{repository}' in the registry with id '{}'", scope.account)
}

/// No such repository.
pub(super) fn no_repository(scope: &Scope, name: &str) -> Fault {
    let message = format!(
        "The repository with name '{name}' does not exist in the registry with id '{}'",
        scope.account
    );
    Fault::new("RepositoryNotFoundException", message)
}

/// No such image; an absent half of the identifier is shown as `'null'`.
pub(super) fn no_image(scope: &Scope, repository: &str, digest: Option<&str>, tag: Option<&str>) -> Fault {
    let (digest, tag) = (digest.unwrap_or("null"), tag.unwrap_or("null"));
    let message = format!(
        "The image with imageId {{imageDigest:'{digest}', imageTag:'{tag}'}} does not exist within {}",
        place(scope, repository)
    );
    Fault::new("ImageNotFoundException", message)
}

/// The caller's own registry is the only one that answers: repository policies are not evaluated, and without one AWS
/// refuses another account.
pub(super) fn own_registry(call: &Call<'_>, registry_id: Option<&str>, operation: &str) -> Result<(), Fault> {
    let Some(other) = registry_id.filter(|id| *id != call.scope().account) else { return Ok(()) };
    let message = format!(
        "User: {} is not authorized to perform: ecr:{operation} on resource: arn:aws:ecr:{}:{other}:repository/* \
         because no resource-based policy allows the ecr:{operation} action",
        call.caller.arn,
        call.scope().region,
    );
    Err(Fault::new("AccessDeniedException", message))
}

/// The repository that an operation is about.
pub(super) fn repository(
    call: &Call<'_>,
    registry_id: Option<&str>,
    name: &str,
    operation: &str,
) -> Result<Arc<Repository>, Fault> {
    own_registry(call, registry_id, operation)?;
    call.tx.get::<Repository>(&call.scope().key(name)).ok_or_else(|| no_repository(call.scope(), name))
}

/// Refuses tags that no resource may have ("Tagging an Amazon ECR repository": 50 tags, no `aws:`).
pub(super) fn check_tags(tags: &Tags) -> Result<(), Fault> {
    if tags.len() > 50 {
        return Err(Fault::new("TooManyTagsException", "The number of tags exceeds the limit of 50."));
    }
    for tag in tags {
        let problem = match tag.key.chars().count() {
            0 => "a tag's key must not be empty",
            129.. => "a tag's key has at most 128 characters",
            _ if tag.value.chars().count() > 256 => "a tag's value has at most 256 characters",
            _ if tag.key.to_ascii_lowercase().starts_with("aws:") => {
                "tags that begin with 'aws:' are reserved"
            }
            _ => continue,
        };
        let message = format!("Invalid tag '{}': {problem}", tag.key);
        return Err(Fault::new("InvalidTagParameterException", message));
    }
    Ok(())
}
